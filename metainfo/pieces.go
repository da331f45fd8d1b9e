package metainfo

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"strings"
)

// FromPieces makes a Manifest of hashes that come from elsewhere than a torrent, a metalink for instance: the SHA-1 or
// SHA-256 of each piece's bytes, one after the other. It has no name, info hash, web seeds or trackers. A piece length
// that no torrent may have, or hashes that do not fit the size, are an error that wraps ErrUnusable. The Manifest does
// not refer to hashes.
func FromPieces(size, pieceLength int64, kind crypto.Hash, hashes []byte) (*Manifest, error) {
	m := &Manifest{Size: size, PieceLength: pieceLength, flat256: kind == crypto.SHA256, hashes: bytes.Clone(hashes)}
	if kind != crypto.SHA1 && kind != crypto.SHA256 {
		return nil, fmt.Errorf("%w: pieces are not hashed with %v", ErrUnusable, kind)
	}
	m.identity = m.identify()
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return m, nil
}

// identify is the identity of a Manifest without an info dictionary.
func (m *Manifest) identify() [32]byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %v ", m.Size, m.PieceLength, m.flat256)
	b.Write(m.hashes)
	return sha256.Sum256([]byte(b.String()))
}
