package fetcher

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyRange copies n bytes at off, and returns how many it did; the kernel does it where it can.
func copyRange(dst, src *os.File, off, n int64) (int64, error) {
	n = min(n, 4<<20)
	in, out := off, off
	k, err := unix.CopyFileRange(int(src.Fd()), &in, int(dst.Fd()), &out, int(n), 0)
	if err == nil && k > 0 {
		return int64(k), nil
	}
	return copyBytes(dst, src, off, n)
}
