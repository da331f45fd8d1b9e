package metainfo

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxSize is the largest metainfo file that Parse accepts, in bytes.
const MaxSize = 16 << 20

// BlockSize is the unit in which bytes are accounted for, and the leaf of a v2 hash tree (BEP 52). Every piece length
// is a multiple of it.
const BlockSize = 16 << 10

// ErrUnusable is wrapped by every error of Parse and Describe.
var ErrUnusable = errors.New("not a usable torrent")

const (
	maxPieceLength = 64 << 20 // bytes
	maxNesting     = 32       // dicts and lists within each other
	// What the library decodes costs up to 0.6 KiB for each value and thrice the bytes of a string that it has no field
	// for. With these limits that is 64 MiB at most, and a repository of 6000 files fits.
	maxElements     = 3 << 14   // keys and values in all
	maxBesideHashes = 3 << 20   // bytes
	maxInfo         = 256 << 10 // bytes beside the piece hashes of an info dictionary that is kept
	maxName         = 255       // bytes of one path element
	maxURL          = 2048      // bytes
	maxURLs         = 256       // web seeds, and trackers, of one torrent
	maxURLsRead     = 1024      // of each, usable or not
	maxURLBytes     = 256 << 10 // of the keys with URLs; to check one takes up to twenty times its length
)

// Manifest is what a torrent says of one file. It is made by Parse, FromPieces or UnmarshalJSON and does not change
// afterwards, so it may be used by several goroutines.
type Manifest struct {
	// Name is the file's name as the torrent says, without directories. It is never used to write.
	Name string
	// Size is the file's length in bytes.
	Size int64
	// PieceLength is the length in bytes of all pieces but the last.
	PieceLength int64
	// InfoHash is in lower-case hex: the SHA-1 of a v1 or hybrid, the SHA-256 of a v2-only info dictionary. "": there is
	// none, since the pieces are not a torrent's.
	InfoHash string
	// WebSeeds are http and https URLs of this file, in the torrent's order: url-list (BEP 19), MirrorCache's sources,
	// and those of httpseeds (BEP 17) that are the file itself. At most 256, no two alike, none with userinfo.
	WebSeeds []string
	// Trackers are the announce URLs in their tiers (BEP 12): http, https and udp, at most 256.
	Trackers [][]string
	// Private says that peers may be had from the trackers alone (BEP 27).
	Private bool

	info     []byte   // nil: Metainfo has none
	identity [32]byte // SHA-256 of the info dictionary as it stands in the metainfo; see identify if there is none
	v2       bool     // hashes are SHA-256 subtrees of BEP 52, 32 bytes each
	flat256  bool     // hashes are SHA-256 of the pieces themselves; neither: SHA-1, 20 bytes each
	hashes   []byte   // one for each piece
	root     [32]byte // v2: the file's pieces root; zero if the file is empty
	files    []File   // of a torrent of several files, see ParseAll; nil: of one
	padding  int64    // v1: zero bytes behind the file that the last piece's hash covers (BEP 47)
}

// Parse reads metainfo (BEP 3, 47, 52) strictly and returns what it says of the file called name. If name is
// "" the torrent has to be a single-file torrent. Otherwise a single-file torrent has to bear that name, or exactly one
// file of a multi-file torrent has to have it as its last path element.
//
// A hybrid is verified by its SHA-256 side, or by SHA-1 if it lacks its piece layers, as a torrent that peers gave may; both
// sides have to agree. A file of a v1 multi-file torrent is usable only if it shares no piece with another file. Web seeds and trackers that make no sense are left out; everything else that
// is wrong is an error that wraps ErrUnusable. So is a torrent of more than 49,152 keys and values (some 6000 files), of
// more than 3 MiB beside the piece hashes, or of more than 256 KiB of URLs. No input costs more than 64 MiB of memory.
// The Manifest does not refer to data.
func Parse(data []byte, name string) (*Manifest, error) {
	m, err := parse(data, name, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return m, nil
}

// Pieces returns the number of pieces. An empty file has none.
func (m *Manifest) Pieces() int {
	return len(m.hashes) / m.hashLength()
}

// PieceSize returns the length in bytes of piece i, which has to be in [0, Pieces()).
func (m *Manifest) PieceSize(i int) int64 {
	return min(m.PieceLength, m.Size-int64(i)*m.PieceLength)
}

// SumPiece hashes piece i as it stands in r, which holds the file from its beginning, and reports whether it is right.
// sum is the hash of what was found; sums of the same piece in two copies may be compared. buf is scratch of at least
// 64 KiB. err is a read error; io.ErrUnexpectedEOF says that r ends before the piece does. i has to be in [0, Pieces()).
func (m *Manifest) SumPiece(r io.ReaderAt, i int, buf []byte) (sum [32]byte, ok bool, err error) {
	want := m.hashes[i*m.hashLength():][:m.hashLength()]
	buf = buf[:len(buf)/BlockSize*BlockSize]
	if len(buf) == 0 {
		return sum, false, fmt.Errorf("scratch buffer is shorter than %d bytes", BlockSize)
	}
	if m.v2 {
		sum, err = m.sumTree(r, i, buf)
	} else {
		sum, err = m.sumFlat(r, i, buf)
	}
	return sum, err == nil && bytes.Equal(sum[:len(want)], want), err
}

// sumTree returns the root of piece i's SHA-256 tree (BEP 52).
func (m *Manifest) sumTree(r io.ReaderAt, i int, buf []byte) (sum [32]byte, err error) {
	var tree merkleTree
	off := int64(i) * m.PieceLength
	left, whole := m.content(i)
	for left > 0 {
		chunk := buf[:min(int64(len(buf)), left)]
		if err := readAtFull(r, chunk, off); err != nil {
			return sum, err
		}
		off += int64(len(chunk))
		left -= int64(len(chunk))
		for len(chunk) > 0 {
			n := min(len(chunk), BlockSize)
			tree.add(sha256.Sum256(chunk[:n]))
			chunk = chunk[n:]
		}
	}
	leaves := uint64(m.PieceLength / BlockSize)
	if whole <= m.PieceLength {
		leaves = powerOfTwo(tree.count)
	}
	return tree.root(leaves, [32]byte{}), nil
}

// sumFlat returns the SHA-1 or SHA-256 of piece i and of the padding behind it.
func (m *Manifest) sumFlat(r io.ReaderAt, i int, buf []byte) (sum [32]byte, err error) {
	h := sha1.New()
	if m.flat256 {
		h = sha256.New()
	}
	off := int64(i) * m.PieceLength
	for left := m.PieceSize(i); left > 0; {
		chunk := buf[:min(int64(len(buf)), left)]
		if err := readAtFull(r, chunk, off); err != nil {
			return sum, err
		}
		off += int64(len(chunk))
		left -= int64(len(chunk))
		h.Write(chunk)
	}
	if i == m.Pieces()-1 && m.padding > 0 {
		clear(buf)
		for left := m.padding; left > 0; {
			chunk := buf[:min(int64(len(buf)), left)]
			left -= int64(len(chunk))
			h.Write(chunk)
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// Equal reports whether both speak of the same file of the same info dictionary.
func (m *Manifest) Equal(o *Manifest) bool {
	return m.identity == o.identity && m.Name == o.Name && m.Size == o.Size
}

// Metainfo returns the least metainfo that a BitTorrent client needs to verify the file: the info dictionary and, if it is a
// v2 torrent, the files' piece layers. It is nil if m is one of several files, if it says more than
// 256 KiB beside the hashes, or if m was read from JSON.
func (m *Manifest) Metainfo() []byte {
	if m.info == nil {
		return nil
	}
	data := append([]byte("d4:info"), m.info...)
	if m.v2 {
		data = append(data, "12:piece layersd"...)
		if m.files != nil {
			data = m.appendLayers(data)
		} else if m.Size > m.PieceLength {
			data = fmt.Appendf(data, "%d:%s%d:%s", len(m.root), m.root[:], len(m.hashes), m.hashes)
		}
		data = append(data, 'e')
	}
	return append(data, 'e')
}

func (m *Manifest) hashLength() int {
	if m.v2 || m.flat256 {
		return sha256.Size
	}
	return sha1.Size
}

// check verifies everything that the fields of a Manifest have to say about each other.
func (m *Manifest) check() error {
	if m.Name == "" && m.InfoHash == "" { // see FromPieces
		if m.v2 || m.padding != 0 || m.WebSeeds != nil || m.Trackers != nil || m.identity != m.identify() {
			return errors.New("pieces of no torrent, with something that only torrents have")
		}
	} else if err := checkName(m.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	} else if m.flat256 {
		return errors.New("piece hashes: of a kind that torrents do not have")
	}
	if err := checkPieceLength(m.PieceLength, m.v2); err != nil {
		return fmt.Errorf("piece length: %w", err)
	}
	if m.Size < 0 {
		return errors.New("length: negative")
	}
	n := pieceCount(m.Size, m.PieceLength)
	if int64(len(m.hashes)) != n*int64(m.hashLength()) {
		return fmt.Errorf("piece hashes: %d bytes for %d pieces", len(m.hashes), n)
	}
	if !m.v2 {
		last := int64(0)
		if n > 0 {
			last = m.PieceSize(int(n - 1))
		}
		if m.padding < 0 || m.padding > 0 && (n == 0 || m.padding > m.PieceLength-last) {
			return errors.New("padding: more than fits the last piece")
		}
		return nil
	}
	switch {
	case m.padding != 0:
		return errors.New("padding: there is none in v2 metainfo")
	case n == 0 && m.root != [32]byte{}:
		return errors.New("pieces root: of an empty file")
	case n > 0 && m.root == [32]byte{}:
		return errors.New("pieces root: zero")
	case n == 1 && [32]byte(m.hashes) != m.root:
		return errors.New("pieces root: differs from the piece hash")
	case n > 1 && layerRoot(m.hashes, m.PieceLength) != m.root:
		return errors.New("piece layers: the hashes do not belong to the pieces root")
	}
	return nil
}

// manifestJSON is a Manifest in the resume journal.
type manifestJSON struct {
	Name        string     `json:"name"`
	Size        int64      `json:"size"`
	PieceLength int64      `json:"piece_length"`
	InfoHash    string     `json:"info_hash"`
	Identity    string     `json:"identity"`
	Kind        string     `json:"kind"` // "sha1", "sha256" (BEP 52) or "sha256-flat"
	Hashes      []byte     `json:"hashes"`
	Root        []byte     `json:"root,omitempty"`
	Padding     int64      `json:"padding,omitempty"`
	WebSeeds    []string   `json:"web_seeds,omitempty"`
	Trackers    [][]string `json:"trackers,omitempty"`
	All         []byte     `json:"all,omitempty"` // metainfo of several files, and nothing else
}

// MarshalJSON writes everything that is needed to verify the file later.
func (m *Manifest) MarshalJSON() ([]byte, error) {
	if m.files != nil {
		return json.Marshal(manifestJSON{All: m.Metainfo()})
	}
	j := manifestJSON{
		Name: m.Name, Size: m.Size, PieceLength: m.PieceLength, InfoHash: m.InfoHash,
		Identity: hex.EncodeToString(m.identity[:]), Kind: "sha1", Hashes: m.hashes, Padding: m.padding,
		WebSeeds: m.WebSeeds, Trackers: m.Trackers,
	}
	switch {
	case m.v2:
		j.Kind, j.Root = "sha256", m.root[:]
	case m.flat256:
		j.Kind = "sha256-flat"
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses what Parse could not have returned. On an error m is
// unchanged and the error wraps ErrUnusable.
func (m *Manifest) UnmarshalJSON(data []byte) error {
	read, err := readManifestJSON(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	*m = *read
	return nil
}

func readManifestJSON(data []byte) (*Manifest, error) {
	var j manifestJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return nil, err
	}
	if j.All != nil {
		m, err := parseAll(j.All)
		if err == nil && m.files == nil {
			err = errors.New("of one file")
		}
		return m, err
	}
	m := &Manifest{
		Name: j.Name, Size: j.Size, PieceLength: j.PieceLength, InfoHash: j.InfoHash,
		WebSeeds: j.WebSeeds, Trackers: j.Trackers,
		v2: j.Kind == "sha256", flat256: j.Kind == "sha256-flat", hashes: j.Hashes, padding: j.Padding,
	}
	if !m.v2 && !m.flat256 && j.Kind != "sha1" {
		return nil, errors.New("unknown kind of hash")
	}
	if n, err := hex.Decode(m.identity[:], []byte(j.Identity[:min(len(j.Identity), 64)])); err != nil || n != 32 || len(j.Identity) != 64 {
		return nil, errors.New("malformed identity")
	}
	if m.v2 != (len(j.Root) == 32) || !m.v2 && len(j.Root) != 0 {
		return nil, errors.New("malformed pieces root")
	}
	copy(m.root[:], j.Root)
	raw, err := hex.DecodeString(m.InfoHash)
	if err != nil || strings.ToLower(m.InfoHash) != m.InfoHash {
		return nil, errors.New("malformed info hash")
	}
	if len(raw) != sha1.Size && m.InfoHash+m.Name != "" && !(m.v2 && bytes.Equal(raw, m.identity[:])) {
		return nil, errors.New("info hash does not fit")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	var seeds urlSet
	for _, s := range m.WebSeeds {
		if clean, ok := cleanURL(s, "http", "https"); !ok || clean != s || !seeds.add(s) {
			return nil, errors.New("malformed web seed")
		}
	}
	var trackers urlSet
	for _, tier := range m.Trackers {
		if len(tier) == 0 {
			return nil, errors.New("empty tier of trackers")
		}
		for _, s := range tier {
			if clean, ok := cleanURL(s, "http", "https", "udp"); !ok || clean != s || !trackers.add(s) {
				return nil, errors.New("malformed tracker")
			}
		}
	}
	return m, nil
}

func readAtFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
