package fetcher

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"io"
)

// digest reports whether the whole file can be verified.
func (e Expect) digest() bool { return e.SHA256 != nil || e.SHA512 != nil }

func (e Expect) valid() bool {
	return (e.SHA256 == nil || len(e.SHA256) == sha256.Size) && (e.SHA512 == nil || len(e.SHA512) == sha512.Size)
}

// agrees reports whether nothing in both contradicts.
func (e Expect) agrees(o Expect) bool {
	return (e.Size <= 0 || o.Size <= 0 || e.Size == o.Size) &&
		(e.SHA256 == nil || o.SHA256 == nil || bytes.Equal(e.SHA256, o.SHA256)) &&
		(e.SHA512 == nil || o.SHA512 == nil || bytes.Equal(e.SHA512, o.SHA512))
}

// merge fills what e does not know from o.
func (e Expect) merge(o Expect) Expect {
	if e.Size <= 0 {
		e.Size = o.Size
	}
	if e.SHA256 == nil {
		e.SHA256 = o.SHA256
	}
	if e.SHA512 == nil {
		e.SHA512 = o.SHA512
	}
	return e
}

func (e Expect) kind() string {
	if e.SHA512 != nil {
		return "sha512"
	}
	return "sha256"
}

// check hashes the size bytes of r and reports whether they are what e expects. Of two digests the longer decides.
func (e Expect) check(ctx context.Context, r io.ReaderAt, size int64) (bool, error) {
	if e.Size > 0 && e.Size != size {
		return false, nil
	}
	var h hash.Hash
	want := e.SHA512
	if want != nil {
		h = sha512.New()
	} else {
		h, want = sha256.New(), e.SHA256
	}
	buf := make([]byte, 256<<10)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if n == 0 && err != nil {
			return false, err
		}
		h.Write(buf[:n])
		off += int64(n)
	}
	return bytes.Equal(h.Sum(nil), want), nil
}
