package metainfo

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"testing"
)

func TestFromPieces(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 3000)
	const length = 2 * BlockSize
	for _, kind := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		var hashes []byte
		for off := 0; off < len(data); off += length {
			h := kind.New()
			h.Write(data[off:min(off+length, len(data))])
			hashes = h.Sum(hashes)
		}
		m, err := FromPieces(int64(len(data)), length, kind, hashes)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var again Manifest
		if err := json.Unmarshal(text, &again); err != nil || !again.Equal(m) {
			t.Fatalf("%v: from the journal: %v, %+v", kind, err, again)
		}
		buf := make([]byte, 64<<10)
		for i := range again.Pieces() {
			if sum, ok, err := again.SumPiece(bytes.NewReader(data), i, buf); !ok || err != nil {
				t.Errorf("%v, piece %d: %x, %v", kind, i, sum, err)
			}
		}
		wrong := bytes.Clone(data)
		wrong[length+1] ^= 1
		if _, ok, _ := again.SumPiece(bytes.NewReader(wrong), 1, buf); ok {
			t.Errorf("%v: a wrong piece is right", kind)
		}
		other, err := FromPieces(int64(len(data))-1, length, kind, hashes)
		if err != nil || other.Equal(m) {
			t.Errorf("%v: of another size: %v", kind, err)
		}
	}
}

func TestFromPiecesRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		size, length int64
		kind         crypto.Hash
		hashes       int
	}{
		"MD5":             {100, BlockSize, crypto.MD5, 16},
		"no piece length": {100, 0, crypto.SHA1, sha1.Size},
		"odd":             {100, 100000, crypto.SHA1, sha1.Size},
		"huge":            {100, 1 << 40, crypto.SHA256, sha256.Size},
		"negative":        {-1, BlockSize, crypto.SHA1, 0},
		"too few":         {BlockSize + 1, BlockSize, crypto.SHA1, sha1.Size},
		"other kind":      {100, BlockSize, crypto.SHA256, sha1.Size},
	} {
		if _, err := FromPieces(c.size, c.length, c.kind, make([]byte, c.hashes)); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := FromPieces(100, BlockSize, crypto.SHA256, make([]byte, sha256.Size))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]any{"kind": "sha256", "name": "x", "padding": 1, "size": 101, "web_seeds": []string{"http://h/"},
		"info_hash": "0000000000000000000000000000000000000000"} {
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		fields[key] = value
		changed, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(changed, new(Manifest)); !errors.Is(err, ErrUnusable) {
			t.Errorf("another %s: %v", key, err)
		}
	}
}
