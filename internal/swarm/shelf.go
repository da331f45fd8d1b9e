package swarm

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"
	"golang.org/x/sys/unix"

	"torrent-xfer/internal/peers"
)

const (
	mostOpen     = 128 // files
	openPatience = 30 * time.Second
)

var errContentChanged = errors.New("the file has changed")

// shelf keeps the files that peers want at present open, the last used ones. They are opened by the other process.
type shelf struct {
	ask *peers.Files

	mu      sync.Mutex
	open    map[spot]*book
	recent  list.List // of *book, the last used first; those that are coming are not in it
	coming  map[uint32]*book
	counter uint32
}

type spot struct {
	c    *content
	file int
}

// book is a file that is open, or coming.
type book struct {
	at     spot
	size   int64 // as the torrent says
	came   chan struct{}
	file   *os.File
	err    error
	as     unix.Stat_t // when it came
	in     *list.Element
	users  int
	closed bool // once nobody uses it
}

func newShelf(ask *peers.Files) *shelf {
	s := &shelf{ask: ask, open: map[spot]*book{}, coming: map[uint32]*book{}}
	go s.receive()
	return s
}

// receive takes descriptors.
func (s *shelf) receive() {
	for {
		number, file, refused, err := s.ask.Next()
		s.mu.Lock()
		if err != nil {
			for n, b := range s.coming {
				s.arrive(n, b, nil, err)
			}
			s.ask = nil
			s.mu.Unlock()
			return
		}
		if b := s.coming[number]; b != nil {
			s.arrive(number, b, file, refused)
		} else if file != nil {
			file.Close()
		}
		s.mu.Unlock()
	}
}

// arrive puts a book on the shelf. mu is held.
func (s *shelf) arrive(number uint32, b *book, file *os.File, err error) {
	delete(s.coming, number)
	b.file, b.err = file, err
	if err == nil {
		if err = unix.Fstat(int(file.Fd()), &b.as); err == nil && (b.as.Mode&unix.S_IFMT != unix.S_IFREG || b.as.Size != b.size) {
			err = errContentChanged
		}
		b.err = err
	}
	if b.err != nil {
		b.closed = true
		if s.open[b.at] == b {
			delete(s.open, b.at)
		}
		if file != nil {
			file.Close()
			b.file = nil
		}
	} else if !b.closed {
		b.in = s.recent.PushFront(b)
	}
	close(b.came)
	for e := s.recent.Back(); e != nil && s.recent.Len() > mostOpen; e = s.recent.Back() {
		s.away(e.Value.(*book))
	}
}

// away closes a book as soon as nobody reads it. mu is held.
func (s *shelf) away(b *book) {
	if b.in != nil {
		s.recent.Remove(b.in)
		b.in = nil
	}
	if s.open[b.at] == b {
		delete(s.open, b.at)
	}
	b.closed = true
	if b.users == 0 && b.file != nil {
		b.file.Close()
		b.file = nil
	}
}

// read fills p from a file that has to be of that size, and to be what it was when it was opened.
func (s *shelf) read(at spot, size int64, p []byte, off int64) error {
	b, err := s.take(at, size)
	if err != nil {
		return err
	}
	defer s.putBack(b)
	if n, err := b.file.ReadAt(p, off); n < len(p) {
		if errors.Is(err, io.EOF) {
			return errContentChanged
		}
		return err
	}
	var now unix.Stat_t
	if err := unix.Fstat(int(b.file.Fd()), &now); err != nil {
		return err
	}
	if now.Size != b.as.Size || now.Mtim != b.as.Mtim {
		return errContentChanged
	}
	return nil
}

func (s *shelf) take(at spot, size int64) (*book, error) {
	s.mu.Lock()
	b := s.open[at]
	if b == nil {
		if s.ask == nil {
			s.mu.Unlock()
			return nil, io.ErrClosedPipe
		}
		b = &book{at: at, size: size, came: make(chan struct{})}
		s.counter++
		s.open[at], s.coming[s.counter] = b, b
		if err := s.ask.Ask(s.counter, at.c.id, at.file); err != nil {
			s.arrive(s.counter, b, nil, err)
		}
	}
	b.users++
	if b.in != nil {
		s.recent.MoveToFront(b.in)
	}
	s.mu.Unlock()
	select {
	case <-b.came:
	case <-time.After(openPatience):
		s.putBack(b)
		return nil, fmt.Errorf("it was not opened within %v", openPatience)
	}
	s.mu.Lock()
	err := b.err
	s.mu.Unlock()
	if err != nil {
		s.putBack(b)
		return nil, err
	}
	return b, nil
}

func (s *shelf) putBack(b *book) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.users--
	if b.closed {
		s.away(b)
	}
}

// forget closes what is open of c.
func (s *shelf) forget(c *content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, b := range s.open {
		if at.c == c {
			s.away(b)
		}
	}
}

// seedStorage is the client's view of a content that is complete.
type seedStorage struct {
	s     *seeder
	c     *content
	parts []part
}

// part is a file of a torrent, or padding (file -1).
type part struct {
	from, size int64
	file       int
}

func (d *seedStorage) OpenTorrent(_ context.Context, info *metainfo.Info, _ metainfo.Hash) (storage.TorrentImpl, error) {
	n := 0
	for _, f := range info.UpvertedFiles() {
		p := part{from: f.TorrentOffset, size: f.Length, file: -1}
		if p.size == 0 {
			n++
			continue
		}
		if !isPadding(f) {
			p.file = n
			n++
		}
		d.parts = append(d.parts, p)
	}
	return storage.TorrentImpl{Piece: func(p metainfo.Piece) storage.PieceImpl { return seedPiece{d, p.Offset()} }}, nil
}

// isPadding reports whether a file is there to have the next one begin with a piece (BEP 47).
func isPadding(f metainfo.FileInfo) bool {
	for _, a := range f.Attr {
		if a == 'p' {
			return true
		}
	}
	return false
}

// read fills p with what stands at off in the torrent; padding and what lies between files is zeros.
func (d *seedStorage) read(p []byte, off int64) error {
	clear(p)
	end := off + int64(len(p))
	for _, f := range d.parts {
		from, to := max(off, f.from), min(end, f.from+f.size)
		if f.file < 0 || from >= to {
			continue
		}
		if err := d.s.files.read(spot{d.c, f.file}, f.size, p[from-off:to-off], from-f.from); err != nil {
			return err
		}
	}
	return nil
}

// seedPiece is one piece of it.
type seedPiece struct {
	d    *seedStorage
	from int64
}

func (p seedPiece) ReadAt(b []byte, off int64) (int, error) {
	if err := p.d.read(b, p.from+off); err != nil {
		if errors.Is(err, errContentChanged) { // any other error may pass, or is known to who opens files
			go p.d.s.drop(p.d.c, err) // not here: the client may hold its lock
		}
		return 0, err
	}
	return len(b), nil
}

func (p seedPiece) WriteAt([]byte, int64) (int, error) { return 0, errNotWanted }
func (p seedPiece) MarkComplete() error                { return nil }
func (p seedPiece) MarkNotComplete() error             { return nil }
func (p seedPiece) Completion() storage.Completion {
	return storage.Completion{Ok: true, Complete: true}
}

// nowhere is the storage of torrents that have none of their own: there are no such.
type nowhere struct{}

func (nowhere) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{}, errNotWanted
}
