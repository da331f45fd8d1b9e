package mirrortest

import (
	"io"
	"sync"
)

// Held is content of which a mirror sends what lies before a place at once and the rest once it is released: whatever is to
// happen in between then happens however busy the machine is. It has to be released before the mirror is closed.
type Held struct {
	data io.ReaderAt
	at   int64
	free chan struct{}
	once sync.Once
}

// Hold keeps data back from byte at on.
func Hold(data io.ReaderAt, at int64) *Held {
	return &Held{data: data, at: at, free: make(chan struct{})}
}

// ReadAt implements io.ReaderAt.
func (h *Held) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > h.at {
		if off < h.at { // what may be sent is sent
			return h.data.ReadAt(p[:h.at-off], off)
		}
		<-h.free
	}
	return h.data.ReadAt(p, off)
}

// Release lets go of the rest. It may be called twice.
func (h *Held) Release() { h.once.Do(func() { close(h.free) }) }
