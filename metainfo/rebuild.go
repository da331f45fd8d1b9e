package metainfo

import (
	"bytes"
	"errors"
	"fmt"
)

// HashesOf returns what a single-file torrent that Parse accepts says of the content, so that Build can make another one
// of it. The error wraps ErrUnusable. The Hashes do not refer to data.
func HashesOf(data []byte) (*Hashes, error) {
	m, err := Parse(data, "")
	if err != nil {
		return nil, err
	}
	f, err := decodeTorrent(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	h := &Hashes{Size: m.Size, PieceLength: m.PieceLength, Version: V1}
	if m.v2 {
		h.Version, h.Root = V2, m.root
		if m.Pieces() > 1 {
			h.Layer = bytes.Clone(m.hashes)
		}
	}
	if f.info.Pieces != nil {
		if f.info.Length == nil {
			return nil, fmt.Errorf("%w: %w", ErrUnusable, errors.New("info.length: missing"))
		}
		h.Pieces = bytes.Clone(f.info.Pieces)
		if m.v2 {
			h.Version = Hybrid
		}
	}
	return h, nil
}
