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
	"math"
	"math/bits"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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
	maxNesting     = 32      // dicts and lists within each other
	maxElements    = 1 << 20 // keys and values in all
	maxName        = 255     // bytes of one path element
	maxURL         = 2048    // bytes
	maxURLs        = 256     // web seeds, and trackers, of one torrent
	maxURLsRead    = 1024    // of each, usable or not
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
// is wrong is an error that wraps ErrTorrent. No input costs more than a few times its own size in memory. The
// Manifest does not refer to data.
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
	if err := checkName([]byte(m.Name)); err != nil {
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
	data = bytes.TrimSuffix(data, []byte("\n"))
	if err := checkBencode(data); err != nil {
		return nil, err
	}
	var info, announce, announceList, urlList, sources, httpseeds, layers bvalue
	bvalue(data).getAll(map[string]*bvalue{
		"info": &info, "announce": &announce, "announce-list": &announceList, "url-list": &urlList, "sources": &sources,
		"httpseeds": &httpseeds, "piece layers": &layers,
	})
	if !info.isDict() {
		return nil, errors.New("no info dictionary")
	}
	p, err := newTorrentParser(info, name)
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
		Name: string(p.last()), Size: p.size, PieceLength: p.pieceLength, v2: p.hasV2,
		identity: sha256.Sum256(info),
	}
	if p.hasV1 {
		m.InfoHash = fmt.Sprintf("%x", sha1.Sum(info))
	} else {
		m.InfoHash = hex.EncodeToString(m.identity[:])
	}
	if p.hasV2 {
		err = m.takeLayer(layers, p.root)
	} else {
		err = m.takePieces(p)
	}
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	m.WebSeeds = webSeeds(p, []bvalue{urlList, sources}, httpseeds)
	m.Trackers = trackers(announce, announceList)
	return m, nil
}

// takeLayer takes the hashes of a v2 file from its layer.
func (m *Manifest) takeLayer(layers bvalue, root []byte) error {
	copy(m.root[:], root)
	if m.Size <= m.PieceLength {
		m.hashes = bytes.Clone(root)
		return nil
	}
	if !layers.isDict() {
		return errors.New("no piece layers")
	}
	layer, ok := layers.get(string(root)).str()
	if !ok {
		return errors.New("no piece layer for the file")
	}
	if int64(len(layer)) != pieceCount(m.Size, m.PieceLength)*sha256.Size {
		return errors.New("piece layer has the wrong length")
	}
	m.hashes = bytes.Clone(layer)
	return nil
}

// takePieces takes the hashes of a v1 file from those of all pieces, which were counted before.
func (m *Manifest) takePieces(p *torrentParser) error {
	if p.size == 0 {
		return nil
	}
	if p.offset%p.pieceLength != 0 {
		return errors.New("the file does not begin at a piece boundary")
	}
	n := pieceCount(p.size, p.pieceLength)
	end := p.offset + n*p.pieceLength
	if p.behind >= 0 && p.behind < end {
		return errors.New("the file shares its last piece with another file")
	}
	m.padding = min(end, p.total) - p.offset - p.size
	first := p.offset / p.pieceLength
	m.hashes = bytes.Clone(p.pieces[first*sha1.Size : (first+n)*sha1.Size])
	return nil
}

// torrentParser goes through the files of an info dictionary and keeps the one that is wanted.
type torrentParser struct {
	name         string // the wanted file; "": the only one
	torrentName  []byte
	pieceLength  int64
	hasV1, hasV2 bool
	single       bool   // v1: has a length instead of files
	tree         bvalue // v2
	pieces       []byte // v1
	files        v1Files
	total        int64 // v1: bytes in all, padding included

	found  bool
	path   [][]byte // nil in a single-file torrent
	size   int64
	root   []byte // v2
	offset int64  // v1
	behind int64  // v1: where the next file that is not padding begins; -1: there is none
}

func newTorrentParser(info bvalue, name string) (*torrentParser, error) {
	p := &torrentParser{name: name, behind: -1}
	var version, torrentName, pieceLength, pieces, length, files bvalue
	info.getAll(map[string]*bvalue{
		"meta version": &version, "name": &torrentName, "piece length": &pieceLength, "pieces": &pieces, "length": &length,
		"files": &files, "file tree": &p.tree,
	})
	v, ok := version.int()
	if version != nil && (!ok || v != 1 && v != 2) {
		return nil, errors.New("unknown meta version")
	}
	if p.torrentName, ok = torrentName.str(); !ok {
		return nil, errors.New("no name")
	}
	if err := checkName(p.torrentName); err != nil {
		return nil, err
	}
	p.hasV2 = v == 2
	p.hasV1 = !p.hasV2 || pieces != nil || length != nil || files != nil
	if p.pieceLength, ok = pieceLength.int(); !ok {
		return nil, errors.New("no piece length")
	}
	if err := checkPieceLength(p.pieceLength, p.hasV2); err != nil {
		return nil, err
	}
	if !p.hasV1 {
		return p, nil
	}
	if p.pieces, ok = pieces.str(); !ok {
		return nil, errors.New("no pieces")
	}
	if (length == nil) == (files == nil) {
		return nil, errors.New("neither a length nor files, or both")
	}
	if p.single = length != nil; p.single {
		if p.total, ok = length.int(); !ok || p.total < 0 {
			return nil, errors.New("malformed length")
		}
	} else {
		if p.files.rest, ok = files.items(); !ok {
			return nil, errors.New("malformed list of files")
		}
		c := p.files
		n := 0
		for {
			_, more, err := c.next()
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			n++
		}
		if n == 0 {
			return nil, errors.New("no files")
		}
		p.total = c.offset
	}
	if n := pieceCount(p.total, p.pieceLength); int64(len(p.pieces)) != n*sha1.Size {
		return nil, fmt.Errorf("%d bytes of piece hashes for %d pieces", len(p.pieces), n)
	}
	return p, nil
}

// take keeps a file if it is the one that is wanted. path is nil for the file of a single-file torrent.
func (p *torrentParser) take(path [][]byte, size int64) (taken bool, err error) {
	if path == nil {
		if p.name != "" && p.name != string(p.torrentName) {
			return false, nil
		}
	} else if p.name == "" {
		return false, errors.New("it is a multi-file torrent")
	} else if p.name != string(path[len(path)-1]) {
		return false, nil
	}
	if p.found {
		return false, fmt.Errorf("more than one file called %.64q in it", p.name)
	}
	p.found, p.size = true, size
	for _, elem := range path {
		p.path = append(p.path, bytes.Clone(elem))
	}
	return true, nil
}

// last returns the name of the file that was taken.
func (p *torrentParser) last() []byte {
	if p.path == nil {
		return p.torrentName
	}
	return p.path[len(p.path)-1]
}

// readFiles goes through the files of a v1 info dictionary.
func (p *torrentParser) readFiles() error {
	if p.single {
		_, err := p.take(nil, p.total)
		return err
	}
	var path [][]byte
	for c := p.files; ; {
		f, more, err := c.next()
		if err != nil || !more {
			return err
		}
		if f.pad {
			continue
		}
		if p.found && p.behind < 0 && f.length > 0 {
			p.behind = f.offset
		}
		if f.link {
			continue
		}
		path = path[:0]
		for rest := f.path; rest != nil; {
			var elem bvalue
			elem, rest = rest.next()
			s, _ := elem.str()
			path = append(path, s)
		}
		taken, err := p.take(path, f.length)
		if err != nil {
			return err
		}
		if taken {
			p.offset = f.offset
		}
	}
}

// readTree goes through the files of a v2 info dictionary, and beside them through the v1 files of a hybrid.
func (p *torrentParser) readTree() error {
	tree, ok := p.tree.entries()
	if !ok {
		return errors.New("no file tree")
	}
	// BEP 52 does not say which torrents are single-file; as in libtorrent, one file at the top that bears the name is.
	single := false
	if key, val, rest := tree.nextEntry(); key != nil && rest == nil {
		single = bytes.Equal(key, p.torrentName) && val.get("") != nil
	}
	if p.hasV1 && p.single != single {
		return errMismatch
	}
	w := treeWalk{p: p, single: single}
	if _, err := w.walk(p.tree); err != nil {
		return err
	}
	if w.files == 0 {
		return errors.New("no files")
	}
	if p.hasV1 && !p.single {
		if f, err := p.files.nextData(); err != nil {
			return err
		} else if f != nil {
			return errMismatch
		}
	}
	return nil
}

var errMismatch = errors.New("v1 and v2 metadata disagree")

type treeWalk struct {
	p      *torrentParser
	single bool
	files  int
	total  int64
	path   [][]byte
}

// walk goes through a directory whose dict v stands at the beginning of, in one pass, and returns what is behind it.
func (w *treeWalk) walk(v bvalue) (rest bvalue, err error) {
	for v = v[1:]; v[0] != 'e'; {
		key, next, _ := bencodedString(v, 0)
		if err := checkName(key); err != nil {
			return nil, err
		}
		if v = v[next:]; v[0] != 'd' {
			return nil, errors.New("malformed file tree")
		}
		w.path = append(w.path, key)
		if bytes.HasPrefix(v, []byte("d0:")) {
			var props bvalue
			props, v = v[len("d0:"):].next()
			if v[0] != 'e' {
				return nil, errors.New("a file with files below it")
			}
			v, err = v[1:], w.file(props)
		} else {
			v, err = w.walk(v)
		}
		if err != nil {
			return nil, err
		}
		w.path = w.path[:len(w.path)-1]
	}
	return v[1:], nil
}

func (w *treeWalk) file(props bvalue) error {
	p := w.p
	w.files++
	if !props.isDict() {
		return errors.New("malformed file tree")
	}
	length, ok := props.get("length").int()
	if !ok || length < 0 || length > math.MaxInt64-w.total {
		return errors.New("malformed length")
	}
	w.total += length
	attr, _ := props.get("attr").str()
	if bytes.IndexByte(attr, 'p') >= 0 {
		return errors.New("a pad file in the file tree")
	}
	root, ok := props.get("pieces root").str()
	if length > 0 && (!ok || len(root) != sha256.Size) || length == 0 && ok {
		return errors.New("malformed pieces root")
	}
	if p.hasV1 {
		if err := w.compareV1(length); err != nil {
			return err
		}
	}
	if bytes.IndexByte(attr, 'l') >= 0 {
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
	p := w.p
	if p.single {
		if p.total != length {
			return errMismatch
		}
		return nil
	}
	f, err := p.files.nextData()
	if err != nil {
		return err
	}
	if f == nil || f.length != length || length > 0 && f.offset%p.pieceLength != 0 {
		return errMismatch
	}
	rest := f.path
	for _, want := range w.path {
		var elem bvalue
		elem, rest = rest.next()
		if s, _ := elem.str(); !bytes.Equal(s, want) {
			return errMismatch
		}
	}
	if rest != nil {
		return errMismatch
	}
	return nil
}

// v1Files is a cursor over the files of a v1 info dictionary.
type v1Files struct {
	rest   bvalue
	offset int64
}

type v1File struct {
	path      bvalue // the elements of a list of strings that were checked; never nil
	length    int64
	offset    int64
	pad, link bool // BEP 47
}

func (c *v1Files) next() (f v1File, ok bool, err error) {
	if c.rest == nil {
		return f, false, nil
	}
	var item bvalue
	item, c.rest = c.rest.next()
	if !item.isDict() {
		return f, false, errors.New("malformed list of files")
	}
	if f.length, ok = item.get("length").int(); !ok || f.length < 0 || f.length > math.MaxInt64-c.offset {
		return f, false, errors.New("malformed length")
	}
	if f.path, ok = item.get("path").items(); !ok || f.path == nil {
		return f, false, errors.New("malformed path")
	}
	for rest := f.path; rest != nil; {
		var elem bvalue
		elem, rest = rest.next()
		s, ok := elem.str()
		if !ok {
			return f, false, errors.New("malformed path")
		}
		if err := checkName(s); err != nil {
			return f, false, err
		}
	}
	attr, _ := item.get("attr").str()
	f.pad = bytes.IndexByte(attr, 'p') >= 0
	f.link = bytes.IndexByte(attr, 'l') >= 0
	f.offset = c.offset
	c.offset += f.length
	return f, true, nil
}

// nextData returns the next file that is not padding; nil: there is none.
func (c *v1Files) nextData() (*v1File, error) {
	for {
		f, ok, err := c.next()
		if err != nil || !ok {
			return nil, err
		}
		if !f.pad {
			return &f, nil
		}
	}
}

func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return errors.New("empty name")
	case len(name) > maxName:
		return errors.New("name is too long")
	case string(name) == "." || string(name) == "..":
		return errors.New("name of a directory")
	case !utf8.Valid(name):
		return errors.New("name is not UTF-8")
	case bytes.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsControl(r) }):
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
func webSeeds(p *torrentParser, lists []bvalue, httpseeds bvalue) []string {
	suffix := url.PathEscape(string(p.torrentName))
	for _, elem := range p.path {
		suffix += "/" + url.PathEscape(string(elem))
	}
	var seeds []string
	var seen urlSet
	add := func(s string, ok bool) {
		if ok && len(s) <= maxURL && seen.add(s) {
			seeds = append(seeds, s)
		}
	}
	for _, list := range lists {
		for s := range list.strings(maxURLsRead) {
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
	for s := range httpseeds.strings(maxURLsRead) {
		s, ok := cleanURL(s, "http", "https")
		if !ok {
			continue
		}
		u, err := url.Parse(s)
		ok = err == nil && u.RawQuery == "" && u.Path[strings.LastIndexByte(u.Path, '/')+1:] == string(p.last())
		add(s, ok)
	}
	return seeds
}

// trackers returns announce-list, or announce if there is none (BEP 12).
func trackers(announce, announceList bvalue) [][]string {
	var tiers [][]string
	left := maxURLsRead
	var seen urlSet
	add := func(list bvalue) {
		var tier []string
		for s := range list.strings(left) {
			left--
			if s, ok := cleanURL(s, "http", "https", "udp"); ok && seen.add(s) {
				tier = append(tier, s)
			}
		}
		if tier != nil {
			tiers = append(tiers, tier)
		}
	}
	rest, _ := announceList.items()
	for rest != nil {
		var tier bvalue
		tier, rest = rest.next()
		add(tier)
	}
	if tiers == nil {
		add(announce)
	}
	return tiers
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

// checkBencode verifies that data is one bencoded dict (BEP 3) within the limits: integers canonical and in 64 bits,
// keys sorted and unique. It allocates nothing but its error.
func checkBencode(data []byte) error {
	type frame struct {
		dict, value bool   // value: a key was read, its value comes next
		last        []byte // the key before
	}
	var stack [maxNesting]frame
	depth, elements, pos := 0, 0, 0
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
			if depth > 0 {
				continue
			}
			if pos != len(data) {
				return errors.New("bencode: something follows the dictionary")
			}
			return nil
		}
		if elements++; elements > maxElements {
			return errors.New("bencode: too many elements")
		}
		if depth > 0 && stack[depth-1].dict {
			top := &stack[depth-1]
			if !top.value {
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
		}
		ok := true
		switch c {
		case 'd', 'l':
			if depth == maxNesting {
				return errors.New("bencode: nested too deeply")
			}
			stack[depth] = frame{dict: c == 'd'}
			depth++
			pos++
		case 'i':
			_, pos, ok = bencodedInt(data, pos)
		default:
			_, pos, ok = bencodedString(data, pos)
		}
		if !ok {
			return errors.New("bencode: malformed value")
		}
	}
}

// bencodedInt reads the integer at pos, where data has an "i".
func bencodedInt(data []byte, pos int) (n int64, next int, ok bool) {
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
			return 0, 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if pos >= len(data) || pos == start || negative && u == 0 {
		return 0, 0, false
	}
	if negative {
		return -int64(u), pos + 1, u <= 1<<63
	}
	return int64(u), pos + 1, u < 1<<63
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

// bvalue is bencode that passed checkBencode: one value, or the values that are left of a list or dict (nil: none).
// The methods of a value accept nil, which stands for one that is missing.
type bvalue []byte

func (v bvalue) isDict() bool { return len(v) > 0 && v[0] == 'd' }

func (v bvalue) str() ([]byte, bool) {
	if len(v) == 0 {
		return nil, false
	}
	s, _, ok := bencodedString(v, 0)
	return s, ok
}

func (v bvalue) int() (int64, bool) {
	if len(v) == 0 || v[0] != 'i' {
		return 0, false
	}
	n, _, ok := bencodedInt(v, 0)
	return n, ok
}

// items returns what is in a list.
func (v bvalue) items() (bvalue, bool) {
	if len(v) == 0 || v[0] != 'l' {
		return nil, false
	}
	return v.inside(), true
}

// entries returns what is in a dict.
func (v bvalue) entries() (bvalue, bool) {
	if !v.isDict() {
		return nil, false
	}
	return v.inside(), true
}

func (v bvalue) inside() bvalue {
	if len(v) == 2 {
		return nil
	}
	return v[1 : len(v)-1]
}

// next splits the first value off. Of nil it returns nil twice.
func (v bvalue) next() (first, rest bvalue) {
	pos, depth := 0, 0
	for pos < len(v) {
		switch v[pos] {
		case 'd', 'l':
			depth++
			pos++
		case 'e':
			depth--
			pos++
		case 'i':
			_, pos, _ = bencodedInt(v, pos)
		default:
			_, pos, _ = bencodedString(v, pos)
		}
		if depth == 0 {
			break
		}
	}
	if pos == len(v) {
		return v, nil
	}
	return v[:pos:pos], v[pos:]
}

// nextEntry splits the first key and value off. Of nil it returns nil three times.
func (v bvalue) nextEntry() (key []byte, val, rest bvalue) {
	if v == nil {
		return nil, nil, nil
	}
	k, rest := v.next()
	key, _ = k.str()
	val, rest = rest.next()
	return key, val, rest
}

// get returns the value of a key; nil if v is not a dict or has no such key. It goes no further than the sorted keys
// make it.
func (v bvalue) get(name string) bvalue {
	rest, _ := v.entries()
	for rest != nil {
		var key, val bvalue
		key, rest = rest.next()
		k, _ := key.str()
		if string(k) == name {
			val, _ = rest.next()
			return val
		}
		if string(k) > name {
			return nil
		}
		_, rest = rest.next()
	}
	return nil
}

// getAll sets the values of the keys of a dict in one pass; what it does not find stays as it is.
func (v bvalue) getAll(want map[string]*bvalue) {
	rest, _ := v.entries()
	for rest != nil {
		var key []byte
		var val bvalue
		key, val, rest = rest.nextEntry()
		if p := want[string(key)]; p != nil {
			*p = val
		}
	}
}

// strings yields the one string that v is, or at most n strings of the list that v is.
func (v bvalue) strings(n int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if s, ok := v.str(); ok && n > 0 {
			yield(string(s))
			return
		}
		rest, _ := v.items()
		for ; rest != nil && n > 0; n-- {
			var item bvalue
			item, rest = rest.next()
			if s, ok := item.str(); ok && !yield(string(s)) {
				return
			}
		}
	}
}
