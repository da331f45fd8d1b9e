//go:build !linux

package fetcher

import "os"

// copyRange copies n bytes at off, and returns how many it did.
func copyRange(dst, src *os.File, off, n int64) (int64, error) {
	return copyBytes(dst, src, off, min(n, 4<<20))
}
