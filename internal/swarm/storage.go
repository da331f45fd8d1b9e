package swarm

import (
	"context"
	"io"

	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"

	ours "torrent-xfer/metainfo"
)

// storageOf has the client keep its bytes in the download's file: blocks are handed over, which alone writes and verifies
// them, and pieces are read from the file.
type storageOf struct{ e *engine }

func (s storageOf) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{Piece: func(p metainfo.Piece) storage.PieceImpl { return pieceStorage{s.e, p} }}, nil
}

// pieceStorage is one piece. It verifies itself (storage.SelfHashing); a v2 piece, of which the client wants to see the
// bytes, once they have been verified (io.WriterTo).
type pieceStorage struct {
	e *engine
	p metainfo.Piece
}

var (
	_ storage.SelfHashing = pieceStorage{}
	_ io.WriterTo         = pieceStorage{}
)

func (s pieceStorage) ReadAt(p []byte, off int64) (int, error) {
	return s.e.file.ReadAt(p, s.p.Offset()+off)
}

func (s pieceStorage) WriteAt(p []byte, off int64) (int, error) {
	s.e.mu.Lock()
	want := s.e.pieces[s.p.Index()].want
	s.e.mu.Unlock()
	if !want {
		return 0, errNotWanted
	}
	block := p
	if end := s.p.Offset() + off + int64(len(p)); len(p) < ours.BlockSize && end < s.e.size {
		block = make([]byte, min(ours.BlockSize, int64(len(p))+s.e.size-end)) // the end of one of several v2 files, and padding
		copy(block, p)
	}
	if err := s.e.link.Data(int((s.p.Offset()+off)/ours.BlockSize), block); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s pieceStorage) Completion() storage.Completion {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return storage.Completion{Ok: true, Complete: s.e.pieces[s.p.Index()].have}
}

func (s pieceStorage) MarkComplete() error    { return nil }
func (s pieceStorage) MarkNotComplete() error { return nil }

// SelfHash returns the hash that is expected if the piece is right. An error blames nobody.
func (s pieceStorage) SelfHash() (metainfo.Hash, error) {
	switch s.e.ask(s.p.Index()) {
	case right:
		return s.p.V1Hash().Unwrap(), nil
	case wrong:
		return metainfo.Hash{}, nil
	}
	return metainfo.Hash{}, errNotWhole
}

func (s pieceStorage) WriteTo(w io.Writer) (int64, error) {
	n := s.p.Length()
	switch s.e.ask(s.p.Index()) {
	case right:
		return io.Copy(w, io.NewSectionReader(s.e.file, s.p.Offset(), n))
	case wrong:
		return io.CopyN(w, zeros{}, n)
	}
	return 0, errNotWhole
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
