package metainfo

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// Version is the kind of a torrent.
type Version int

const (
	Hybrid Version = iota // both in one
	V1                    // SHA-1 pieces (BEP 3)
	V2                    // SHA-256 trees (BEP 52)
)

func (v Version) hasV1() bool { return v != V2 }
func (v Version) hasV2() bool { return v != V1 }

// hashLength is what a piece costs in the torrent, in bytes.
func (v Version) hashLength() int64 {
	n := int64(0)
	if v.hasV1() {
		n += sha1.Size
	}
	if v.hasV2() {
		n += sha256.Size
	}
	return n
}

// PieceLength returns the usual piece length for a file of size bytes: a power of two from 16 KiB to 4 MiB. It makes some
// 700 to 1400 pieces where it can, and keeps their hashes below 0.2 % of the file unless one hash alone is more.
func PieceLength(size int64, v Version) int64 {
	const (
		most   = 4 << 20
		pieces = 1400
		share  = 500 // bytes of file for each byte of hashes
	)
	length := int64(BlockSize)
	for length < most {
		n := pieceCount(size, length)
		if n <= 1 || n <= pieces && n*v.hashLength()*share < size {
			break
		}
		length *= 2
	}
	return length
}

// HashOptions says what Hash is to do. The zero value is for a hybrid torrent, with all processors.
type HashOptions struct {
	Version     Version
	PieceLength int64 // bytes, as Parse accepts it; 0: PieceLength of the size
	Workers     int   // how many read and hash at the same time; <= 0: GOMAXPROCS
	WholeSHA256 bool  // the SHA-256 of the whole file is wanted too
	// OnBytes is told how many more bytes were hashed, by several goroutines at the same time. nil: nobody is told.
	OnBytes func(n int)
}

// Hashes are what a torrent has to say of a file's content.
type Hashes struct {
	Size, PieceLength int64 // bytes
	Version           Version
	Pieces            []byte   // the SHA-1 of each piece; nil: V2
	Layer             []byte   // the SHA-256 tree of each piece (BEP 52); nil: V1, or not more than one piece
	Root              [32]byte // of all such trees; zero: V1, or the file is empty
	SHA256            []byte   // of the whole file; nil: not asked for
}

// Hash hashes the size bytes of r, reading each of them once. A large file is hashed by several goroutines; each takes
// 128 KiB of memory, or 1 MiB with WholeSHA256. The error is context.Cause(ctx), io.ErrUnexpectedEOF if r ends early, another one of r's, or that
// the options do not make a torrent that Parse would accept. r may change meanwhile: that is the caller's to notice.
func Hash(ctx context.Context, r io.ReaderAt, size int64, o HashOptions) (*Hashes, error) {
	if size < 0 {
		return nil, errors.New("negative size")
	}
	if o.PieceLength == 0 {
		o.PieceLength = PieceLength(size, o.Version)
	}
	if err := checkPieceLength(o.PieceLength, o.Version.hasV2()); err != nil {
		return nil, fmt.Errorf("%w: %d bytes", err, o.PieceLength)
	}
	n := pieceCount(size, o.PieceLength)
	if n > MaxSize/o.Version.hashLength() {
		return nil, fmt.Errorf("%d pieces of %d bytes are too many for a torrent", n, o.PieceLength)
	}
	h := &Hashes{Size: size, PieceLength: o.PieceLength, Version: o.Version}
	if o.Version.hasV1() {
		h.Pieces = make([]byte, n*sha1.Size)
	}
	if o.Version.hasV2() && n > 1 {
		h.Layer = make([]byte, n*sha256.Size)
	}
	j := &hashJob{r: r, onBytes: o.OnBytes, hashes: h, workers: o.Workers}
	if j.workers <= 0 {
		j.workers = runtime.GOMAXPROCS(0)
	}
	work := j.byPiece
	if o.WholeSHA256 {
		work = j.inOrder
	}
	if err := work(ctx); err != nil {
		return nil, err
	}
	if h.Layer != nil {
		h.Root = layerRoot(h.Layer, h.PieceLength)
	}
	return h, nil
}

// hashJob is one call of Hash.
type hashJob struct {
	r       io.ReaderAt
	onBytes func(int)
	hashes  *Hashes
	workers int
}

// byPiece has each of the workers take the next few pieces until none is left.
func (j *hashJob) byPiece(ctx context.Context) error {
	span := max(1, smallChunk/j.hashes.PieceLength) * j.hashes.PieceLength
	var next atomic.Int64
	return j.run(ctx, pieceCount(j.hashes.Size, span), func(ctx context.Context, _, _ int) error {
		p, c := newPieceHasher(j.hashes), newChunk(smallChunk, j.hashes.Size)
		for {
			p.offset = (next.Add(1) - 1) * span
			if p.offset >= j.hashes.Size {
				return nil
			}
			for end := min(p.offset+span, j.hashes.Size); p.offset < end; {
				if err := j.read(ctx, c, p.offset, end); err != nil {
					return err
				}
				p.write(c)
				j.tell(c)
			}
		}
	})
}

// inOrder has the workers take turns at the chunks. Each hashes the blocks of its own; then, one worker at a time, the
// pieces go on, and then the whole. Since the whole goes no faster than one processor, it does not matter that neither
// do the pieces.
func (j *hashJob) inOrder(ctx context.Context) error {
	p, whole := newPieceHasher(j.hashes), sha256.New()
	inPieces, inWhole := newTurns(j.workers), newTurns(j.workers)
	err := j.run(ctx, pieceCount(j.hashes.Size, largeChunk), func(ctx context.Context, i, n int) error {
		c := newChunk(largeChunk, j.hashes.Size)
		for offset := int64(i) * largeChunk; offset < j.hashes.Size; offset += int64(n) * largeChunk {
			if err := j.read(ctx, c, offset, j.hashes.Size); err != nil {
				return err
			}
			if err := inPieces.wait(ctx, i); err != nil {
				return err
			}
			p.write(c)
			inPieces.pass(i, n)
			if err := inWhole.wait(ctx, i); err != nil {
				return err
			}
			whole.Write(c.data)
			inWhole.pass(i, n)
			j.tell(c)
		}
		return nil
	})
	j.hashes.SHA256 = whole.Sum(nil)
	return err
}

// run calls work, for worker i of n, as often as there are workers and tasks for them. The first error ends all.
func (j *hashJob) run(ctx context.Context, tasks int64, work func(ctx context.Context, i, n int) error) error {
	n := int(min(int64(j.workers), tasks))
	if n == 1 {
		return work(ctx, 0, 1)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := work(ctx, i, n); err != nil {
				fail(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// read fills c from offset, to end at most, and hashes its blocks.
func (j *hashJob) read(ctx context.Context, c *chunk, offset, end int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.data = c.buf[:min(int64(len(c.buf)), end-offset)]
	if err := readAtFull(j.r, c.data, offset); err != nil {
		return err
	}
	if j.hashes.Version.hasV2() {
		for i := range c.blocks[:pieceCount(int64(len(c.data)), BlockSize)] {
			block := c.data[i*BlockSize:]
			c.blocks[i] = sha256.Sum256(block[:min(len(block), BlockSize)])
		}
	}
	return nil
}

func (j *hashJob) tell(c *chunk) {
	if j.onBytes != nil {
		j.onBytes(len(c.data))
	}
}

// A chunk is what one read brings.
type chunk struct {
	buf    []byte
	data   []byte // what was read
	blocks [largeChunk / BlockSize][sha256.Size]byte
}

const (
	smallChunk = 8 * BlockSize  // stays in the processor's cache until all hashes have seen it
	largeChunk = 64 * BlockSize // takes so long that waking the next worker costs little beside it
)

func newChunk(size, most int64) *chunk {
	return &chunk{buf: make([]byte, min(size, most))}
}

// pieceHasher hashes chunks that follow each other, from the beginning of a piece, and stores the sums.
type pieceHasher struct {
	hashes *Hashes
	offset int64 // of the next byte
	flat   hash.Hash
	tree   merkleTree
}

func newPieceHasher(h *Hashes) *pieceHasher {
	return &pieceHasher{hashes: h, flat: sha1.New()}
}

func (p *pieceHasher) write(c *chunk) {
	h := p.hashes
	for pos := int64(0); pos < int64(len(c.data)); {
		n := min(int64(len(c.data))-pos, h.PieceLength-p.offset%h.PieceLength)
		if h.Version.hasV1() {
			p.flat.Write(c.data[pos : pos+n])
		}
		if h.Version.hasV2() {
			for i := pos / BlockSize; i < pieceCount(pos+n, BlockSize); i++ {
				p.tree.add(c.blocks[i])
			}
		}
		pos += n
		p.offset += n
		if p.offset%h.PieceLength == 0 || p.offset == h.Size {
			p.finish((p.offset - 1) / h.PieceLength)
		}
	}
}

// finish stores the sums of piece i.
func (p *pieceHasher) finish(i int64) {
	h := p.hashes
	if h.Version.hasV1() {
		p.flat.Sum(h.Pieces[i*sha1.Size : i*sha1.Size : (i+1)*sha1.Size])
		p.flat.Reset()
	}
	if !h.Version.hasV2() {
		return
	}
	if h.Layer == nil {
		h.Root = p.tree.root(powerOfTwo(p.tree.count), [32]byte{})
	} else {
		root := p.tree.root(uint64(h.PieceLength/BlockSize), [32]byte{})
		copy(h.Layer[i*sha256.Size:], root[:])
	}
	p.tree.count = 0
}

// turns lets workers do something one after the other, again and again.
type turns []chan struct{}

func newTurns(workers int) turns {
	t := make(turns, workers)
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	t[0] <- struct{}{}
	return t
}

// wait waits for the turn of worker i.
func (t turns) wait(ctx context.Context, i int) error {
	select {
	case <-t[i]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pass gives the turn from worker i to the next of n.
func (t turns) pass(i, n int) { t[(i+1)%n] <- struct{}{} }
