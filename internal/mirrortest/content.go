package mirrortest

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"path"
	"strings"
	"syscall"
	"time"
)

// nonblock keeps an open from waiting for the other end of a FIFO.
const nonblock = syscall.O_NONBLOCK

// masked is other content of the same length: every byte xor mask.
type masked struct {
	io.ReaderAt
	mask byte
}

func (m masked) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.ReaderAt.ReadAt(p, off)
	for i := range p[:n] {
		p[i] ^= m.mask
	}
	return n, err
}

// flipped has one bit wrong, at byte pos.
type flipped struct {
	io.ReaderAt
	pos int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if i := f.pos - off; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	return n, err
}

// hasContent says whether a content fault has anything to replace at p.
func (s *Server) hasContent(f *faultState, p string, exists bool) bool {
	if f.Data.Data != nil && f.Kind != OwnTorrent {
		return true
	}
	switch f.Kind {
	case OldTorrent, OwnTorrent:
		data, torrent := strings.CutSuffix(p, ".torrent")
		if !torrent {
			return exists
		}
		file, ok := s.lookup(data)
		s.release(data, file)
		return ok
	}
	return exists
}

// release closes a file that lookup opened.
func (s *Server) release(p string, f File) {
	if c, ok := f.Data.(io.Closer); ok && !s.inConfig(p) {
		c.Close()
	}
}

// replace returns the content that f puts in the place of file.
func (s *Server) replace(f *faultState, p string, file File) (File, error) {
	switch f.Kind {
	case OldTorrent:
		if f.Data.Data != nil {
			return f.Data, nil
		}
		return s.torrentOf(f, strings.TrimSuffix(p, ".torrent"))
	case OwnTorrent:
		if data, ok := strings.CutSuffix(p, ".torrent"); ok {
			return s.torrentOf(f, data)
		}
	}
	return version(f, file), nil
}

// version returns the wrong, older or newer version of file that f speaks of.
func version(f *faultState, file File) File {
	other := file
	switch f.Kind {
	case WrongBytes, OwnTorrent:
		if f.Data.Data == nil {
			other.Data = masked{file.Data, 0xff}
			return other
		}
		if f.Kind == WrongBytes {
			// A lie: the validators are those of the true file.
			other.Data, other.Size, other.ETag = f.Data.Data, f.Data.Size, file.etag()
			if other.ModTime.IsZero() {
				other.ModTime = f.Data.ModTime
			}
			return other
		}
	case Older, OldTorrent:
		other.Data, other.Size = masked{file.Data, 0x5a}, file.Size*3/4
		other.ModTime = shifted(file, -30*24*time.Hour)
	case OlderSame:
		other.Data = masked{file.Data, 0x5a}
		other.ModTime = shifted(file, -30*24*time.Hour)
	case Changed:
		other.Data = masked{file.Data, 0xa5}
		other.ModTime = shifted(file, time.Hour)
	}
	if f.Data.Data != nil && f.Kind != OldTorrent {
		return f.Data
	}
	if file.ETag != "" {
		other.ETag = strings.TrimSuffix(file.ETag, `"`) + "-" + f.Kind.String() + `"`
	}
	return other
}

// shifted is the time of another version. A file without a time stays without.
func shifted(f File, d time.Duration) time.Time {
	if f.ModTime.IsZero() {
		return f.ModTime
	}
	return f.ModTime.Add(d)
}

// torrentOf makes the torrent of the version that f makes of the file at data, once.
func (s *Server) torrentOf(f *faultState, data string) (File, error) {
	key := f.Kind.String() + " " + data
	s.mu.Lock()
	t, ok := s.torrents[key]
	s.mu.Unlock()
	if ok {
		return t, nil
	}
	file, ok := s.lookup(data)
	if !ok {
		return File{}, fmt.Errorf("no file %s", data)
	}
	defer s.release(data, file)
	other := version(f, file)
	b, err := metainfo(path.Base(data), other)
	if err != nil {
		return File{}, err
	}
	t = Bytes(b)
	t.ModTime = other.ModTime
	s.mu.Lock()
	s.torrents[key] = t
	s.mu.Unlock()
	return t, nil
}

// metainfo makes the least v1 torrent of f (BEP 3).
func metainfo(name string, f File) ([]byte, error) {
	const pieceLength = 256 << 10
	var pieces []byte
	for off := int64(0); off < f.Size; off += pieceLength {
		h := sha1.New()
		if _, err := io.Copy(h, io.NewSectionReader(f.Data, off, min(pieceLength, f.Size-off))); err != nil {
			return nil, err
		}
		pieces = h.Sum(pieces)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "d4:infod6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:", f.Size, len(name), name, pieceLength,
		len(pieces))
	b.Write(pieces)
	b.WriteString("ee")
	return b.Bytes(), nil
}
