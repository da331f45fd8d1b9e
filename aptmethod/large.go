package aptmethod

import "context"

func (m *Method) fetchLarge(ctx context.Context, it *item) error {
	it.large = false
	return nil
}
