package metainfo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

func TestPieceLength(t *testing.T) {
	sizes := []int64{0, 1, 1<<62 - 1}
	for shift := range 45 {
		for _, near := range []int64{-1, 0, 1} {
			sizes = append(sizes, 1<<shift+near)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		sizes = append(sizes, random.Int64N(1<<(1+random.IntN(44))))
	}
	for _, size := range sizes {
		for _, v := range versions {
			length := PieceLength(size, v)
			n := pieceCount(size, length)
			if checkPieceLength(length, true) != nil || length > 4<<20 {
				t.Errorf("size %d, version %d: pieces of %d bytes", size, v, length)
			}
			if share := n * v.hashLength() * 500; n > 1 && share >= size {
				t.Errorf("size %d, version %d: %d pieces of %d bytes", size, v, n, length)
			}
			if n > 1400 && length < 4<<20 {
				t.Errorf("size %d, version %d: %d pieces", size, v, n)
			}
			if size > 64<<20 && n < 700 {
				t.Errorf("size %d, version %d: only %d pieces", size, v, n)
			}
		}
	}
	for _, test := range []struct {
		size int64
		v    Version
		want int64
	}{
		{10, Hybrid, 16 << 10}, {16 << 10, Hybrid, 16 << 10}, {1 << 20, Hybrid, 32 << 10}, {1 << 20, V1, 16 << 10},
		{1 << 20, V2, 16 << 10}, {2 << 30, Hybrid, 2 << 20}, {100 << 30, Hybrid, 4 << 20},
	} {
		if got := PieceLength(test.size, test.v); got != test.want {
			t.Errorf("size %d, version %d: %d instead of %d", test.size, test.v, got, test.want)
		}
	}
}

// onceReader counts how often each block is read.
type onceReader struct {
	io.ReaderAt
	mu   sync.Mutex
	seen map[int64]int // by offset of the block
}

func (r *onceReader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	for at := off; at < off+int64(len(p)); at += BlockSize {
		r.seen[at]++
	}
	r.mu.Unlock()
	return r.ReaderAt.ReadAt(p, off)
}

// What Hash says of a file has to be what SumPiece says of it, however the work is divided.
func TestHash(t *testing.T) {
	content := torrentContent(1, 2*largeChunk+1)
	for _, size := range []int64{0, 1, BlockSize, BlockSize + 1, 100_001, smallChunk, smallChunk + 1, largeChunk, 2*largeChunk + 1} {
		for _, length := range []int64{0, 16 << 10, 48 << 10, 256 << 10, 1 << 20, 4 << 20} {
			for kind, version := range versions {
				for _, workers := range []int{1, 2, 5} {
					for _, whole := range []bool{false, true} {
						if length == 48<<10 && version != V1 {
							continue
						}
						name := fmt.Sprintf("%s, %d bytes, pieces of %d, %d workers, whole %v", kind, size, length, workers, whole)
						r := &onceReader{ReaderAt: bytes.NewReader(content), seen: map[int64]int{}}
						var told atomic.Int64
						h, err := Hash(context.Background(), r, size, HashOptions{Version: version, PieceLength: length, Workers: workers,
							WholeSHA256: whole, OnBytes: func(n int) { told.Add(int64(n)) }})
						if err != nil {
							t.Fatal(name, err)
						}
						checkHashes(t, name, h, content[:size])
						if want := sha256.Sum256(content[:size]); whole && !bytes.Equal(h.SHA256, want[:]) || !whole && h.SHA256 != nil {
							t.Errorf("%s: SHA-256 %x", name, h.SHA256)
						}
						if told.Load() != size || int64(len(r.seen)) != pieceCount(size, BlockSize) {
							t.Errorf("%s: told of %d bytes, read %d blocks", name, told.Load(), len(r.seen))
						}
						for at, n := range r.seen {
							if n != 1 {
								t.Errorf("%s: block at %d was read %d times", name, at, n)
							}
						}
					}
				}
			}
		}
	}
}

func checkHashes(t *testing.T, name string, h *Hashes, content []byte) {
	t.Helper()
	n := pieceCount(h.Size, h.PieceLength)
	flat := &Manifest{Name: "f", Size: h.Size, PieceLength: h.PieceLength, hashes: h.Pieces}
	tree := &Manifest{Name: "f", Size: h.Size, PieceLength: h.PieceLength, v2: true, root: h.Root, hashes: h.Layer}
	if n == 1 {
		tree.hashes = h.Root[:]
	}
	if h.Version.hasV1() != (h.Pieces != nil) || (h.Version.hasV2() && n > 1) != (h.Layer != nil) {
		t.Errorf("%s: %d bytes of pieces, %d of layer", name, len(h.Pieces), len(h.Layer))
	}
	for _, m := range []*Manifest{flat, tree} {
		if m.v2 && !h.Version.hasV2() || !m.v2 && !h.Version.hasV1() {
			continue
		}
		if err := m.check(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range m.Pieces() {
			if _, ok, err := m.SumPiece(bytes.NewReader(content), i, make([]byte, 64<<10)); !ok || err != nil {
				t.Errorf("%s: v2 %v, piece %d: %v, %v", name, m.v2, i, ok, err)
			}
		}
	}
}

func TestHashRefuses(t *testing.T) {
	for _, test := range []struct {
		size int64
		o    HashOptions
	}{
		{-1, HashOptions{}},
		{1, HashOptions{PieceLength: -1}},
		{1, HashOptions{PieceLength: 1000}},
		{1, HashOptions{PieceLength: 48 << 10}},
		{1, HashOptions{PieceLength: 128 << 20}},
		{1 << 62, HashOptions{}},
		{1 << 40, HashOptions{PieceLength: BlockSize}},
	} {
		if h, err := Hash(context.Background(), brokenReader{}, test.size, test.o); err == nil || errors.Is(err, os.ErrClosed) {
			t.Errorf("%+v: %v, %v", test, h, err)
		}
	}
}

// flakyReader fails at one offset and calls back at each read.
type flakyReader struct {
	io.ReaderAt
	at     int64
	onRead func()
}

func (r *flakyReader) ReadAt(p []byte, off int64) (int, error) {
	if r.onRead != nil {
		r.onRead()
	}
	if r.at >= off && r.at < off+int64(len(p)) {
		return 0, os.ErrClosed
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestHashEndsAtTheFirstError(t *testing.T) {
	const size = 8 << 20
	content := make([]byte, size)
	why := errors.New("because")
	for _, whole := range []bool{false, true} {
		for _, workers := range []int{1, 2, 5} {
			o := HashOptions{Workers: workers, WholeSHA256: whole}
			for _, short := range []int{0, 1, size/2 + 3, size - 1} {
				if h, err := Hash(context.Background(), bytes.NewReader(content[:short]), size, o); h != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%+v: file ends at %d: %v", o, short, err)
				}
			}
			for _, at := range []int64{0, size / 2, size - 1} {
				r := &flakyReader{ReaderAt: bytes.NewReader(content), at: at}
				if h, err := Hash(context.Background(), r, size, o); h != nil || !errors.Is(err, os.ErrClosed) {
					t.Errorf("%+v: unreadable at %d: %v", o, at, err)
				}
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			var reads atomic.Int64
			r := &flakyReader{ReaderAt: bytes.NewReader(content), at: -1, onRead: func() {
				if reads.Add(1) == 3 {
					cancel(why)
				}
			}}
			if h, err := Hash(ctx, r, size, o); h != nil || !errors.Is(err, why) {
				t.Errorf("%+v: cancelled: %v", o, err)
			}
			if n := reads.Load(); n > int64(3+workers) {
				t.Errorf("%+v: %d reads though the third cancelled", o, n)
			}
		}
	}
}

func BenchmarkHash(b *testing.B) {
	content := make([]byte, 64<<20)
	for kind, version := range versions {
		for _, whole := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s,whole=%v", kind, whole), func(b *testing.B) {
				b.SetBytes(int64(len(content)))
				for b.Loop() {
					Hash(context.Background(), bytes.NewReader(content), int64(len(content)), HashOptions{Version: version, WholeSHA256: whole})
				}
			})
		}
	}
}
