package fetcher

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"
)

// MaxTorrentSize is the largest metainfo file that ParseTorrent accepts, in bytes.
const MaxTorrentSize = 16 << 20

// BlockSize is the unit in which bytes are accounted for, and the leaf of a v2 hash tree (BEP 52). Every piece length
// is a multiple of it.
const BlockSize = 16 << 10

// ErrTorrent is wrapped by every error of ParseTorrent.
var ErrTorrent = errors.New("not a usable torrent")

const (
	maxPieceLength = 64 << 20
	maxNesting     = 32 // dicts and lists within each other
	// What the library decodes costs up to 0.6 KiB for each value and thrice the bytes of a string that it has no field
	// for. With these limits that is 64 MiB at most, and a repository of 6000 files fits.
	maxElements     = 3 << 14   // keys and values in all
	maxBesideHashes = 3 << 20   // bytes
	maxName         = 255       // bytes of one path element
	maxURL          = 2048      // bytes
	maxURLs         = 256       // web seeds, and trackers, of one torrent
	maxURLsRead     = 1024      // of each, usable or not
	maxURLBytes     = 256 << 10 // of the keys with URLs; to check one takes up to twenty times its length
)

// Manifest is what a torrent says of one file. It is made by ParseTorrent or by UnmarshalJSON and does not change
// afterwards, so it may be used by several goroutines.
type Manifest struct {
	// Name is the file's name as the torrent says, without directories. It is never used to write.
	Name string
	// Size is the file's length in bytes.
	Size int64
	// PieceLength is the length in bytes of all pieces but the last.
	PieceLength int64
	// InfoHash is in lower-case hex: the SHA-1 of a v1 or hybrid, the SHA-256 of a v2-only info dictionary.
	InfoHash string
	// WebSeeds are http and https URLs of this file, in the torrent's order: url-list (BEP 19), MirrorCache's sources,
	// and those of httpseeds (BEP 17) that are the file itself. At most 256, no two alike, none with userinfo.
	WebSeeds []string
	// Trackers are the announce URLs in their tiers (BEP 12): http, https and udp, at most 256.
	Trackers [][]string

	identity [32]byte // SHA-256 of the info dictionary as it stands in the metainfo
	v2       bool     // hashes are SHA-256 subtrees of BEP 52, 32 bytes each; otherwise SHA-1, 20 bytes each
	hashes   []byte   // one for each piece
	root     [32]byte // v2: the file's pieces root; zero if the file is empty
	padding  int64    // v1: zero bytes behind the file that the last piece's hash covers (BEP 47)
}

// ParseTorrent reads metainfo (BEP 3, 47, 52) strictly and returns what it says of the file called name. If name is
// "" the torrent has to be a single-file torrent. Otherwise a single-file torrent has to bear that name, or exactly one
// file of a multi-file torrent has to have it as its last path element.
//
// A hybrid is verified by its SHA-256 side; both sides have to agree. A file of a v1 multi-file torrent is usable only
// if it shares no piece with another file. Web seeds and trackers that make no sense are left out; everything else that
// is wrong is an error that wraps ErrTorrent. So is a torrent of more than 49,152 keys and values (some 6000 files), of
// more than 3 MiB beside the piece hashes, or of more than 256 KiB of URLs. No input costs more than 64 MiB of memory.
// The Manifest does not refer to data.
func ParseTorrent(data []byte, name string) (*Manifest, error) {
	m, err := parseTorrent(data, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTorrent, err)
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
	for left := m.PieceSize(i); left > 0; {
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
	if m.Size <= m.PieceLength {
		leaves = powerOfTwo(tree.count)
	}
	return tree.root(leaves, [32]byte{}), nil
}

// sumFlat returns the SHA-1 of piece i and of the padding behind it.
func (m *Manifest) sumFlat(r io.ReaderAt, i int, buf []byte) (sum [32]byte, err error) {
	h := sha1.New()
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

// equal reports whether both speak of the same file of the same info dictionary.
func (m *Manifest) equal(o *Manifest) bool {
	return m.identity == o.identity && m.Name == o.Name && m.Size == o.Size
}

func (m *Manifest) hashLength() int {
	if m.v2 {
		return sha256.Size
	}
	return sha1.Size
}

// check verifies everything that the fields of a Manifest have to say about each other.
func (m *Manifest) check() error {
	if err := checkName(m.Name); err != nil {
		return err
	}
	if err := checkPieceLength(m.PieceLength, m.v2); err != nil {
		return err
	}
	if m.Size < 0 {
		return errors.New("negative length")
	}
	n := pieceCount(m.Size, m.PieceLength)
	if int64(len(m.hashes)) != n*int64(m.hashLength()) {
		return fmt.Errorf("%d bytes of piece hashes for %d pieces", len(m.hashes), n)
	}
	if !m.v2 {
		last := int64(0)
		if n > 0 {
			last = m.PieceSize(int(n - 1))
		}
		if m.padding < 0 || m.padding > 0 && (n == 0 || m.padding > m.PieceLength-last) {
			return errors.New("more padding than fits the last piece")
		}
		return nil
	}
	switch {
	case m.padding != 0:
		return errors.New("padding in v2 metainfo")
	case n == 0 && m.root != [32]byte{}:
		return errors.New("pieces root of an empty file")
	case n > 0 && m.root == [32]byte{}:
		return errors.New("pieces root is zero")
	case n == 1 && [32]byte(m.hashes) != m.root:
		return errors.New("piece hash differs from pieces root")
	case n > 1 && layerRoot(m.hashes, m.PieceLength) != m.root:
		return errors.New("piece layer does not belong to pieces root")
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
	Kind        string     `json:"kind"` // "sha1" or "sha256"
	Hashes      []byte     `json:"hashes"`
	Root        []byte     `json:"root,omitempty"`
	Padding     int64      `json:"padding,omitempty"`
	WebSeeds    []string   `json:"web_seeds,omitempty"`
	Trackers    [][]string `json:"trackers,omitempty"`
}

// MarshalJSON writes everything that is needed to verify the file later.
func (m *Manifest) MarshalJSON() ([]byte, error) {
	j := manifestJSON{
		Name: m.Name, Size: m.Size, PieceLength: m.PieceLength, InfoHash: m.InfoHash,
		Identity: hex.EncodeToString(m.identity[:]), Kind: "sha1", Hashes: m.hashes, Padding: m.padding,
		WebSeeds: m.WebSeeds, Trackers: m.Trackers,
	}
	if m.v2 {
		j.Kind, j.Root = "sha256", m.root[:]
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses what ParseTorrent could not have returned. On an error m is
// unchanged and the error wraps ErrTorrent.
func (m *Manifest) UnmarshalJSON(data []byte) error {
	read, err := readManifestJSON(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTorrent, err)
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
	m := &Manifest{
		Name: j.Name, Size: j.Size, PieceLength: j.PieceLength, InfoHash: j.InfoHash,
		WebSeeds: j.WebSeeds, Trackers: j.Trackers,
		v2: j.Kind == "sha256", hashes: j.Hashes, padding: j.Padding,
	}
	if !m.v2 && j.Kind != "sha1" {
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
	if len(raw) != sha1.Size && !(m.v2 && bytes.Equal(raw, m.identity[:])) {
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

func parseTorrent(data []byte, name string) (*Manifest, error) {
	if len(data) > MaxTorrentSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxTorrentSize)
	}
	f, err := decodeTorrent(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil {
		return nil, err
	}
	p, err := newTorrentParser(&f.info, name)
	if err != nil {
		return nil, err
	}
	if p.hasV2 {
		err = p.readTree()
	} else {
		err = p.readFiles()
	}
	if err != nil {
		return nil, err
	}
	if !p.found {
		return nil, fmt.Errorf("no file called %.64q in it", p.name)
	}
	m := &Manifest{
		Name: p.last(), Size: p.size, PieceLength: p.info.PieceLength, v2: p.hasV2,
		identity: sha256.Sum256(f.infoBytes),
	}
	if p.hasV1 {
		m.InfoHash = fmt.Sprintf("%x", sha1.Sum(f.infoBytes))
	} else {
		m.InfoHash = hex.EncodeToString(m.identity[:])
	}
	if p.hasV2 {
		err = m.takeLayer(f.layers, p.root)
	} else {
		err = m.takePieces(p)
	}
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	m.WebSeeds = webSeeds(p, []any{f.urlList, f.sources}, f.httpseeds)
	m.Trackers = trackers(f.announce, f.announceList)
	return m, nil
}

// torrentFile is metainfo decoded. metainfo.MetaInfo would refuse a torrent for one odd URL, does not know sources and
// httpseeds, and copies the info dictionary several times.
type torrentFile struct {
	infoBytes []byte
	info      torrentInfo
	layers    map[string][]byte // nil: there are none

	announce, announceList, urlList, sources, httpseeds any // nil, or whatever stands there
}

// torrentInfo is metainfo.Info with fields in the place of those that do not tell a missing key from a zero (here nil),
// and of a file tree that does not tell attr and takes memory for each byte as often as it is nested.
type torrentInfo struct {
	metainfo.Info
	Length      *int64         `bencode:"length"`
	Files       []torrentEntry `bencode:"files"`
	MetaVersion *int64         `bencode:"meta version"`
	FileTree    map[string]any `bencode:"file tree"`
}

// torrentEntry is a file of a v1 multi-file torrent.
type torrentEntry struct {
	metainfo.FileInfo
	Length *int64 `bencode:"length"`
}

func decodeTorrent(data []byte) (*torrentFile, error) {
	var f torrentFile
	var layers, announce, announceList, urlList, sources, httpseeds []byte
	err := checkBencode(data, map[string]*[]byte{
		"info": &f.infoBytes, "piece layers": &layers, "announce": &announce, "announce-list": &announceList,
		"url-list": &urlList, "sources": &sources, "httpseeds": &httpseeds,
	})
	if err != nil {
		return nil, err
	}
	if f.infoBytes == nil {
		return nil, errors.New("no info dictionary")
	}
	if len(announce)+len(announceList)+len(urlList)+len(sources)+len(httpseeds) > maxURLBytes {
		return nil, errors.New("too many URLs")
	}
	for _, part := range []struct {
		name string
		data []byte
		into any
	}{
		{"info dictionary", f.infoBytes, &f.info}, {"piece layers", layers, &f.layers},
		{"announce", announce, &f.announce}, {"announce-list", announceList, &f.announceList}, {"url-list", urlList, &f.urlList},
		{"sources", sources, &f.sources}, {"httpseeds", httpseeds, &f.httpseeds},
	} {
		// The library's own words quote keys of any length.
		if part.data != nil && bencode.Unmarshal(part.data, part.into) != nil {
			return nil, fmt.Errorf("malformed %s", part.name)
		}
	}
	return &f, nil
}

// takeLayer takes the hashes of a v2 file from its layer.
func (m *Manifest) takeLayer(layers map[string][]byte, root string) error {
	copy(m.root[:], root)
	if m.Size <= m.PieceLength {
		m.hashes = []byte(root)
		return nil
	}
	layer, ok := layers[root]
	if !ok {
		return errors.New("no piece layer for the file")
	}
	if int64(len(layer)) != pieceCount(m.Size, m.PieceLength)*sha256.Size {
		return errors.New("piece layer has the wrong length")
	}
	m.hashes = layer
	return nil
}

// takePieces takes the hashes of a v1 file from those of all pieces, which were counted before.
func (m *Manifest) takePieces(p *torrentParser) error {
	if p.size == 0 {
		return nil
	}
	if p.offset%m.PieceLength != 0 {
		return errors.New("the file does not begin at a piece boundary")
	}
	n := pieceCount(p.size, m.PieceLength)
	end := p.offset + n*m.PieceLength
	if p.behind >= 0 && p.behind < end {
		return errors.New("the file shares its last piece with another file")
	}
	m.padding = min(end, p.total) - p.offset - p.size
	first := p.offset / m.PieceLength
	m.hashes = p.info.Pieces[first*sha1.Size : (first+n)*sha1.Size]
	if len(m.hashes) < len(p.info.Pieces) {
		m.hashes = bytes.Clone(m.hashes) // do not hold on to the rest
	}
	return nil
}

// torrentParser goes through the files of an info dictionary and keeps the one that is wanted.
type torrentParser struct {
	name         string // the wanted file; "": the only one
	info         *torrentInfo
	hasV1, hasV2 bool
	single       bool  // v1: has a length instead of files
	total        int64 // v1: bytes in all, padding included

	found  bool
	path   []string // nil in a single-file torrent
	size   int64
	root   string // v2
	offset int64  // v1
	behind int64  // v1: where the next file that is not padding begins; -1: there is none
}

func newTorrentParser(info *torrentInfo, name string) (*torrentParser, error) {
	p := &torrentParser{name: name, info: info, behind: -1}
	if v := info.MetaVersion; v != nil {
		if *v != 1 && *v != 2 {
			return nil, errors.New("unknown meta version")
		}
		p.hasV2 = *v == 2
	}
	p.hasV1 = !p.hasV2 || info.Pieces != nil || info.Length != nil || info.Files != nil
	if err := checkName(info.Name); err != nil {
		return nil, err
	}
	if err := checkPieceLength(info.PieceLength, p.hasV2); err != nil {
		return nil, err
	}
	if !p.hasV1 {
		return p, nil
	}
	if info.Pieces == nil {
		return nil, errors.New("no pieces")
	}
	if (info.Length == nil) == (info.Files == nil) {
		return nil, errors.New("neither a length nor files, or both")
	}
	if p.single = info.Length != nil; p.single {
		p.total = *info.Length
		if p.total < 0 {
			return nil, errors.New("malformed length")
		}
	} else if err := p.layOut(); err != nil {
		return nil, err
	}
	if n := pieceCount(p.total, info.PieceLength); int64(len(info.Pieces)) != n*sha1.Size {
		return nil, fmt.Errorf("%d bytes of piece hashes for %d pieces", len(info.Pieces), n)
	}
	return p, nil
}

// layOut checks the files of a v1 info dictionary and says where each begins.
func (p *torrentParser) layOut() error {
	if len(p.info.Files) == 0 {
		return errors.New("no files")
	}
	for i := range p.info.Files {
		f := &p.info.Files[i]
		if f.Length == nil || *f.Length < 0 || *f.Length > math.MaxInt64-p.total {
			return errors.New("malformed length")
		}
		if len(f.Path) == 0 {
			return errors.New("malformed path")
		}
		for _, elem := range f.Path {
			if err := checkName(elem); err != nil {
				return err
			}
		}
		f.TorrentOffset = p.total
		p.total += *f.Length
	}
	return nil
}

// take keeps a file if it is the one that is wanted. path is nil for the file of a single-file torrent.
func (p *torrentParser) take(path []string, size int64) (taken bool, err error) {
	if path == nil {
		if p.name != "" && p.name != p.info.Name {
			return false, nil
		}
	} else if p.name == "" {
		return false, errors.New("it is a multi-file torrent")
	} else if p.name != path[len(path)-1] {
		return false, nil
	}
	if p.found {
		return false, fmt.Errorf("more than one file called %.64q in it", p.name)
	}
	p.found, p.size, p.path = true, size, slices.Clone(path)
	return true, nil
}

// last returns the name of the file that was taken.
func (p *torrentParser) last() string {
	if p.path == nil {
		return p.info.Name
	}
	return p.path[len(p.path)-1]
}

// readFiles goes through the files of a v1 info dictionary.
func (p *torrentParser) readFiles() error {
	if p.single {
		_, err := p.take(nil, p.total)
		return err
	}
	for _, f := range p.info.Files {
		if f.isPad() {
			continue
		}
		if p.found && p.behind < 0 && *f.Length > 0 {
			p.behind = f.TorrentOffset
		}
		if f.isLink() {
			continue
		}
		taken, err := p.take(f.Path, *f.Length)
		if err != nil {
			return err
		}
		if taken {
			p.offset = f.TorrentOffset
		}
	}
	return nil
}

// BEP 47.
func (f *torrentEntry) isPad() bool  { return strings.Contains(f.Attr, "p") }
func (f *torrentEntry) isLink() bool { return strings.Contains(f.Attr, "l") }

// readTree goes through the files of a v2 info dictionary, and beside them through the v1 files of a hybrid.
func (p *torrentParser) readTree() error {
	// BEP 52 does not say which torrents are single-file; as in libtorrent, one file at the top that bears the name is.
	single := false
	if top, ok := p.info.FileTree[p.info.Name].(map[string]any); ok && len(p.info.FileTree) == 1 {
		_, single = top[metainfo.FileTreePropertiesKey]
	}
	if p.hasV1 && p.single != single {
		return errMismatch
	}
	w := treeWalk{p: p, single: single, v1: p.info.Files}
	if err := w.walk(p.info.FileTree); err != nil {
		return err
	}
	if w.files == 0 {
		return errors.New("no files")
	}
	if w.nextV1() != nil {
		return errMismatch
	}
	return nil
}

var errMismatch = errors.New("v1 and v2 metadata disagree")

type treeWalk struct {
	p      *torrentParser
	single bool
	files  int
	total  int64
	path   []string
	v1     []torrentEntry // those of a hybrid that were not met yet
}

// walk goes through a directory in the order of its bencode.
func (w *treeWalk) walk(dir map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(dir)) {
		if err := checkName(name); err != nil {
			return err
		}
		node, ok := dir[name].(map[string]any)
		if !ok {
			return errors.New("malformed file tree")
		}
		w.path = append(w.path, name)
		var err error
		if props, ok := node[metainfo.FileTreePropertiesKey]; !ok {
			err = w.walk(node)
		} else if len(node) > 1 {
			err = errors.New("a file with files below it")
		} else {
			err = w.file(props)
		}
		if err != nil {
			return err
		}
		w.path = w.path[:len(w.path)-1]
	}
	return nil
}

func (w *treeWalk) file(properties any) error {
	p := w.p
	w.files++
	props, ok := properties.(map[string]any)
	if !ok {
		return errors.New("malformed file tree")
	}
	length, ok := props["length"].(int64)
	if !ok || length < 0 || length > math.MaxInt64-w.total {
		return errors.New("malformed length")
	}
	w.total += length
	attr, _ := props["attr"].(string)
	if strings.Contains(attr, "p") {
		return errors.New("a pad file in the file tree")
	}
	root, ok := props["pieces root"].(string)
	if length > 0 && (!ok || len(root) != sha256.Size) || length == 0 && ok {
		return errors.New("malformed pieces root")
	}
	if p.hasV1 {
		if err := w.compareV1(length); err != nil {
			return err
		}
	}
	if strings.Contains(attr, "l") {
		return nil
	}
	path := w.path
	if w.single {
		path = nil
	}
	taken, err := p.take(path, length)
	if taken {
		p.root = root
	}
	return err
}

// compareV1 compares a file of the tree with its fellow in the v1 half of a hybrid.
func (w *treeWalk) compareV1(length int64) error {
	if w.single {
		if w.p.total != length {
			return errMismatch
		}
		return nil
	}
	f := w.nextV1()
	if f == nil || *f.Length != length || length > 0 && f.TorrentOffset%w.p.info.PieceLength != 0 || !slices.Equal(f.Path, w.path) {
		return errMismatch
	}
	return nil
}

// nextV1 returns the next v1 file that is not padding; nil: there is none.
func (w *treeWalk) nextV1() *torrentEntry {
	for len(w.v1) > 0 {
		f := &w.v1[0]
		w.v1 = w.v1[1:]
		if !f.isPad() {
			return f
		}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case len(name) == 0:
		return errors.New("empty name")
	case len(name) > maxName:
		return errors.New("name is too long")
	case name == "." || name == "..":
		return errors.New("name of a directory")
	case !utf8.ValidString(name):
		return errors.New("name is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsControl(r) }):
		return errors.New("slash or control character in a name")
	}
	return nil
}

func checkPieceLength(n int64, v2 bool) error {
	if n < BlockSize || n > maxPieceLength || n%BlockSize != 0 || v2 && n&(n-1) != 0 {
		return errors.New("unusable piece length")
	}
	return nil
}

func pieceCount(size, pieceLength int64) int64 {
	n := size / pieceLength
	if size%pieceLength != 0 {
		n++
	}
	return n
}

// urlSet refuses what it has already, and everything once it is full.
type urlSet map[string]bool

func (s *urlSet) add(u string) bool {
	if (*s)[u] || len(*s) >= maxURLs {
		return false
	}
	if *s == nil {
		*s = urlSet{}
	}
	(*s)[u] = true
	return true
}

// webSeeds collects the URLs of the file. In url-list and sources one that ends in "/" stands for a directory; so does
// each of a multi-file torrent (BEP 19).
func webSeeds(p *torrentParser, lists []any, httpseeds any) []string {
	suffix := url.PathEscape(p.info.Name)
	for _, elem := range p.path {
		suffix += "/" + url.PathEscape(elem)
	}
	var seeds []string
	var seen urlSet
	add := func(s string, ok bool) {
		if ok && len(s) <= maxURL && seen.add(s) {
			seeds = append(seeds, s)
		}
	}
	for _, list := range lists {
		for _, s := range listedStrings(list, maxURLsRead) {
			base, ok := cleanURL(s, "http", "https")
			if !ok {
				continue
			}
			if p.path != nil && !strings.HasSuffix(base, "/") {
				base += "/"
			}
			if strings.HasSuffix(base, "/") {
				base += suffix
			}
			add(cleanURL(base, "http", "https"))
		}
	}
	for _, s := range listedStrings(httpseeds, maxURLsRead) {
		s, ok := cleanURL(s, "http", "https")
		if !ok {
			continue
		}
		u, err := url.Parse(s)
		ok = err == nil && u.RawQuery == "" && u.Path[strings.LastIndexByte(u.Path, '/')+1:] == p.last()
		add(s, ok)
	}
	return seeds
}

// trackers returns announce-list, or announce if there is none (BEP 12).
func trackers(announce, announceList any) [][]string {
	var tiers [][]string
	left := maxURLsRead
	var seen urlSet
	add := func(list any) {
		var tier []string
		for _, s := range listedStrings(list, left) {
			left--
			if s, ok := cleanURL(s, "http", "https", "udp"); ok && seen.add(s) {
				tier = append(tier, s)
			}
		}
		if tier != nil {
			tiers = append(tiers, tier)
		}
	}
	list, _ := announceList.([]any)
	for _, tier := range list {
		add(tier)
	}
	if tiers == nil {
		add(announce)
	}
	return tiers
}

// listedStrings returns the one string that v is, or the strings among the first n values of the list that it is.
func listedStrings(v any, n int) []string {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var all []string
	for _, item := range list[:min(n, len(list))] {
		if s, ok := item.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// cleanURL returns an absolute URL of one of the schemes in the form in which it is kept: without a fragment, and with a
// path. It refuses userinfo, control characters, and what is not a URL.
func cleanURL(s string, schemes ...string) (string, bool) {
	if len(s) > maxURL || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", false
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Opaque != "" || !wellFormedHost(u) {
		return "", false
	}
	known := false
	for _, scheme := range schemes {
		known = known || u.Scheme == scheme
	}
	if !known {
		return "", false
	}
	u.Fragment, u.RawFragment = "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	clean := u.String()
	again, err := url.Parse(clean)
	return clean, err == nil && again.String() == clean && len(clean) <= maxURL
}

func wellFormedHost(u *url.URL) bool {
	host := u.Hostname()
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == '%' }) {
		return false
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		return err == nil && n > 0
	}
	return !strings.HasSuffix(u.Host, ":")
}

// merkleTree computes the root of a binary tree of SHA-256 hashes from its leaves.
type merkleTree struct {
	count uint64
	nodes [32][32]byte // nodes[l] is a finished subtree of 1<<l leaves where count has that bit
}

func (t *merkleTree) add(h [32]byte) {
	level := 0
	for n := t.count; n&1 == 1; n >>= 1 {
		var pair [64]byte
		copy(pair[:32], t.nodes[level][:])
		copy(pair[32:], h[:])
		h = sha256.Sum256(pair[:])
		level++
	}
	t.nodes[level] = h
	t.count++
}

// root fills the tree up with pad to leaves, a power of two that is at least one.
func (t *merkleTree) root(leaves uint64, pad [32]byte) [32]byte {
	for t.count < leaves {
		t.add(pad)
	}
	return t.nodes[bits.TrailingZeros64(leaves)]
}

// layerRoot returns the root of the tree above a layer of piece hashes (BEP 52).
func layerRoot(layer []byte, pieceLength int64) [32]byte {
	var blank, tree merkleTree
	pad := blank.root(uint64(pieceLength/BlockSize), [32]byte{})
	for ; len(layer) > 0; layer = layer[32:] {
		tree.add([32]byte(layer))
	}
	return tree.root(powerOfTwo(tree.count), pad)
}

// powerOfTwo returns the least power of two that is not less than n, which is positive.
func powerOfTwo(n uint64) uint64 {
	return 1 << bits.Len64(n-1)
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

// place is where a value stands in a torrent, as far as it has to be of one kind: the library takes a list of one value
// for the value.
type place int

const (
	anywhere place = iota
	inInteger
	inString
	inHashes // of pieces
	inRoot
	inInfo
	inLayers
	inTree
	inFiles
	inFile
	inPath
)

// kind is the first byte of a value: i, l, d, or 0 for a string.
func kind(first byte) byte {
	if first >= '0' && first <= '9' {
		return 0
	}
	return first
}

func (p place) kind() byte {
	switch p {
	case inInteger:
		return 'i'
	case inString, inHashes:
		return 0
	case inFiles, inPath:
		return 'l'
	}
	return 'd'
}

// below returns the place of a value in a dict (key is nil in a list).
func (p place) below(key []byte) place {
	switch p {
	case inRoot:
		switch string(key) {
		case "info":
			return inInfo
		case "piece layers":
			return inLayers
		}
	case inInfo:
		switch string(key) {
		case "name":
			return inString
		case "pieces":
			return inHashes
		case "length", "meta version", "piece length":
			return inInteger
		case "files":
			return inFiles
		case "file tree":
			return inTree
		}
	case inLayers:
		return inHashes
	case inFiles:
		return inFile
	case inFile:
		switch string(key) {
		case "attr":
			return inString
		case "length":
			return inInteger
		case "path":
			return inPath
		}
	case inPath:
		return inString
	}
	return anywhere
}

// checkBencode verifies that data is one bencoded dict (BEP 3) within the limits: integers canonical and in 64 bits,
// keys sorted and unique, and what a torrent has of the kind it has to be. Nothing else is ever given to the library to
// decode. It sets the values of the keys of the dict that are in want, and allocates nothing but its error.
func checkBencode(data []byte, want map[string]*[]byte) error {
	type frame struct {
		place       place
		dict, value bool   // value: a key was read, its value comes next
		last        []byte // the key before
	}
	var stack [maxNesting]frame
	depth, elements, pos := 0, 0, 0
	hashes := 0 // bytes of them
	begin := 0  // of the value in the outermost dict
	for {
		if pos >= len(data) {
			return errors.New("bencode: cut short")
		}
		c := data[pos]
		if depth == 0 && c != 'd' {
			return errors.New("bencode: not a dictionary")
		}
		if depth > 0 && c == 'e' {
			if stack[depth-1].value {
				return errors.New("bencode: key without value")
			}
			depth--
			pos++
			if depth == 0 {
				break
			}
		} else {
			if elements++; elements > maxElements {
				return errors.New("bencode: too many elements")
			}
			at := inRoot
			if depth > 0 {
				top := &stack[depth-1]
				if top.dict && !top.value {
					key, next, ok := bencodedString(data, pos)
					if !ok {
						return errors.New("bencode: malformed key")
					}
					if top.last != nil && bytes.Compare(top.last, key) >= 0 {
						return errors.New("bencode: keys out of order")
					}
					top.last, top.value, pos = key, true, next
					continue
				}
				top.value = false
				at = top.place.below(top.last)
			}
			if depth == 1 {
				begin = pos
			}
			if at != anywhere && kind(c) != at.kind() {
				return errors.New("a value of the wrong kind")
			}
			ok := true
			switch c {
			case 'd', 'l':
				if depth == maxNesting {
					return errors.New("bencode: nested too deeply")
				}
				stack[depth] = frame{place: at, dict: c == 'd'}
				depth++
				pos++
			case 'i':
				pos, ok = bencodedInt(data, pos)
			default:
				var s []byte
				if s, pos, ok = bencodedString(data, pos); at == inHashes {
					hashes += len(s)
				}
			}
			if !ok {
				return errors.New("bencode: malformed value")
			}
		}
		if depth == 1 && !stack[0].value && stack[0].last != nil {
			if part := want[string(stack[0].last)]; part != nil {
				*part = data[begin:pos:pos]
			}
		}
	}
	if pos != len(data) {
		return errors.New("bencode: something follows the dictionary")
	}
	if pos-hashes > maxBesideHashes {
		return fmt.Errorf("more than %d bytes beside the piece hashes", maxBesideHashes)
	}
	return nil
}

// bencodedInt goes over the integer at pos, where data has an "i".
func bencodedInt(data []byte, pos int) (next int, ok bool) {
	pos++
	negative := pos < len(data) && data[pos] == '-'
	if negative {
		pos++
	}
	start := pos
	var u uint64
	for ; pos < len(data) && data[pos] != 'e'; pos++ {
		c := data[pos]
		// 19 digits fit 64 bits; a leading zero is canonical in "0" alone.
		if c < '0' || c > '9' || pos-start >= 19 || pos > start && u == 0 {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if pos >= len(data) || pos == start || negative && u == 0 {
		return 0, false
	}
	return pos + 1, u < 1<<63 || negative && u == 1<<63
}

// bencodedString reads the string at pos. It is never nil if ok.
func bencodedString(data []byte, pos int) (s []byte, next int, ok bool) {
	n := 0
	start := pos
	for ; pos < len(data) && data[pos] != ':'; pos++ {
		c := data[pos]
		if c < '0' || c > '9' || pos-start >= 9 || pos > start && n == 0 {
			return nil, 0, false
		}
		n = n*10 + int(c-'0')
	}
	if pos == start || pos >= len(data) || n > len(data)-pos-1 {
		return nil, 0, false
	}
	pos++
	return data[pos : pos+n : pos+n], pos + n, true
}
