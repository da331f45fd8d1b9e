package seeder

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
)

// A download goes on without whoever asked for it, and whoever asks again attaches to it or gets what is there.
func TestDownloadsGoOn(t *testing.T) {
	calls, goOn := make(chan Order, 10), make(chan error)
	download := func(ctx context.Context, o Order, dest string, tell func([]byte)) error {
		calls <- o
		tell([]byte(`{"done":1}`))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-goOn:
			if err == nil {
				err = os.WriteFile(dest, []byte("content"), 0o600)
			}
			return err
		}
	}
	r := startChanged(t, t.TempDir(), Config{}, func(d *Daemon) { d.Download = download })
	o := Order{URL: "http://host/a", Size: 7}
	first, cancel := context.WithCancel(t.Context())
	if _, err := r.client.Download(first, o, func([]byte) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 2 { // under way, and done
		f, err := dial(t, r.socket).Download(t.Context(), o, func([]byte) {
			select {
			case goOn <- nil:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != "content" {
			t.Errorf("%q %v", data, err)
		}
		f.Close()
	}
	if len(calls) != 1 {
		t.Errorf("downloaded %d times", len(calls))
	}
	other := Order{URL: "http://host/b"}
	if _, err := dial(t, r.socket).Download(t.Context(), other, func([]byte) {
		select {
		case goOn <- errors.New("nobody has it"):
		default:
		}
	}); err == nil || err.Error() != "nobody has it" {
		t.Error(err)
	}
}
