package aptmethod

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// kinds are apt's names of digests, the strongest first. The last two do not make a file trusted.
var kinds = []struct {
	name string
	make func() hash.Hash
}{
	{"SHA512", sha512.New},
	{"SHA256", sha256.New},
	{"SHA1", sha1.New},
	{"MD5Sum", md5.New},
}

// hashes are digests by apt's names, in lower-case hex, and a size in bytes; size < 0: unknown.
type hashes struct {
	sums map[string]string
	size int64
}

// expected reads what a 600 says of the content.
func expected(m *message) hashes {
	h := hashes{sums: map[string]string{}, size: -1}
	for _, k := range kinds {
		if v := m.get("Expected-" + k.name); v != "" {
			h.sums[k.name] = strings.ToLower(v)
		}
	}
	if m.get("Expected-Checksum-FileSize") != "" {
		h.size = m.number("Expected-Checksum-FileSize")
	}
	return h
}

// usable reports whether a digest is among them that apt trusts.
func (h hashes) usable() bool { return h.sums["SHA512"] != "" || h.sums["SHA256"] != "" }

// matches reports whether nothing that is expected differs from what was found, and a digest was expected at all.
func (h hashes) matches(found hashes) bool {
	for name, sum := range h.sums {
		if found.sums[name] != sum {
			return false
		}
	}
	return (h.size < 0 || h.size == found.size) && h.usable()
}

// binary returns a digest as bytes; nil: it is not known.
func (h hashes) binary(name string) []byte {
	b, err := hex.DecodeString(h.sums[name])
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

const (
	hashChunk     = 256 << 10
	hashTogether  = 1 << 20 // bytes; a larger file is hashed by several goroutines
	hashMostAhead = 4       // chunks
)

// sum computes the digests of a file that want knows, all if it knows none, from what lies on disk.
func sum(ctx context.Context, path string, want hashes) (hashes, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return hashes{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hashes{}, err
	}
	workers := map[string]hash.Hash{}
	var writers []io.Writer
	for _, k := range kinds {
		if want.usable() && want.sums[k.name] == "" {
			continue
		}
		w := k.make()
		workers[k.name] = w
		writers = append(writers, w)
	}
	var n int64
	if info.Size() < hashTogether {
		n, err = io.CopyBuffer(io.MultiWriter(writers...), stoppable{ctx, f}, make([]byte, 32<<10))
	} else {
		n, err = fan(stoppable{ctx, f}, writers)
	}
	if err != nil {
		return hashes{}, err
	}
	found := hashes{sums: map[string]string{}, size: n}
	for name, w := range workers {
		found.sums[name] = hex.EncodeToString(w.Sum(nil))
	}
	return found, nil
}

// fan lets each writer have everything in r, all at the same time.
func fan(r io.Reader, writers []io.Writer) (n int64, err error) {
	type chunk struct {
		data []byte
		left *sync.WaitGroup
	}
	var all sync.WaitGroup
	lines := make([]chan chunk, len(writers))
	for i, w := range writers {
		lines[i] = make(chan chunk, hashMostAhead)
		all.Go(func() {
			for c := range lines[i] {
				w.Write(c.data)
				c.left.Done()
			}
		})
	}
	var buffers [hashMostAhead]chunk
	for i := range buffers {
		buffers[i] = chunk{make([]byte, hashChunk), new(sync.WaitGroup)}
	}
	for i := 0; err == nil; i++ {
		c := buffers[i%len(buffers)]
		c.left.Wait()
		var k int
		if k, err = r.Read(c.data); k > 0 {
			n += int64(k)
			c.data = c.data[:k]
			c.left.Add(len(lines))
			for _, line := range lines {
				line <- c
			}
		}
	}
	for _, line := range lines {
		close(line)
	}
	all.Wait()
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// stoppable is a reader that ends with its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
