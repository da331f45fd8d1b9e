package metainfo

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/anacrolix/torrent/bencode"
	anacrolix "github.com/anacrolix/torrent/metainfo"
)

// parse does the work of Parse. With a survey and without a name it checks what all files of a multi-file torrent have in
// common, and returns nil for one that has nothing wrong.
func parse(data []byte, name string, survey bool) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	f, err := decodeTorrent(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil {
		return nil, err
	}
	p, err := newTorrentParser(&f.info, name)
	if err != nil {
		return nil, err
	}
	p.survey = survey
	if p.hasV2 {
		err = p.readTree()
	} else {
		err = p.readFiles()
	}
	if err != nil {
		return nil, err
	}
	if !p.found && survey {
		return nil, nil
	}
	if !p.found {
		return nil, fmt.Errorf("info: no file called %.64q in it", p.name)
	}
	byTree := p.hasV2 && !(p.hasV1 && f.layers == nil && p.size > p.info.PieceLength)
	m := &Manifest{
		Name: p.last(), Size: p.size, PieceLength: p.info.PieceLength, v2: byTree,
		identity: sha256.Sum256(f.infoBytes), Private: f.info.Private != nil && *f.info.Private,
	}
	if p.path == nil && len(f.infoBytes)-len(p.info.Pieces) <= maxInfo {
		m.info = bytes.Clone(f.infoBytes)
	}
	if p.hasV1 {
		m.InfoHash = fmt.Sprintf("%x", sha1.Sum(f.infoBytes))
	} else {
		m.InfoHash = hex.EncodeToString(m.identity[:])
	}
	if byTree {
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

// torrentFile is metainfo decoded. anacrolix.MetaInfo would refuse a torrent for one odd URL, does not know sources and
// httpseeds, and copies the info dictionary several times.
type torrentFile struct {
	infoBytes []byte
	info      torrentInfo
	layers    map[string][]byte // nil: there are none

	announce, announceList, urlList, sources, httpseeds any // nil, or whatever stands there
}

// torrentInfo is anacrolix.Info with fields in the place of those that do not tell a missing key from a zero (here nil),
// and of a file tree that does not tell attr and takes memory for each byte as often as it is nested.
type torrentInfo struct {
	anacrolix.Info
	Length      *int64         `bencode:"length"`
	Files       []torrentEntry `bencode:"files"`
	MetaVersion *int64         `bencode:"meta version"`
	FileTree    map[string]any `bencode:"file tree"`
}

// torrentEntry is a file of a v1 multi-file torrent.
type torrentEntry struct {
	anacrolix.FileInfo
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
		return nil, errors.New("info: missing")
	}
	if len(announce)+len(announceList)+len(urlList)+len(sources)+len(httpseeds) > maxURLBytes {
		return nil, fmt.Errorf("announce-list, url-list, sources, httpseeds: too many URLs, over %d bytes", maxURLBytes)
	}
	for _, part := range []struct {
		name string
		data []byte
		into any
	}{
		{"info", f.infoBytes, &f.info}, {"piece layers", layers, &f.layers},
		{"announce", announce, &f.announce}, {"announce-list", announceList, &f.announceList}, {"url-list", urlList, &f.urlList},
		{"sources", sources, &f.sources}, {"httpseeds", httpseeds, &f.httpseeds},
	} {
		// The library's own words quote keys of any length.
		if part.data != nil && bencode.Unmarshal(part.data, part.into) != nil {
			return nil, fmt.Errorf("%s: malformed", part.name)
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
		return errors.New("piece layers: none for the file")
	}
	if int64(len(layer)) != pieceCount(m.Size, m.PieceLength)*sha256.Size {
		return fmt.Errorf("piece layers: %d bytes for %d pieces", len(layer), pieceCount(m.Size, m.PieceLength))
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
		return errors.New("info.files: the file does not begin at a piece boundary")
	}
	n := pieceCount(p.size, m.PieceLength)
	end := p.offset + n*m.PieceLength
	if p.behind >= 0 && p.behind < end {
		return errors.New("info.files: the file shares its last piece with another file")
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
	all          bool   // all of several files are wanted
	files        []File // those
	survey       bool   // none of several files is wanted
	single       bool   // v1: has a length instead of files
	total        int64  // v1: bytes in all, padding included

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
			return nil, fmt.Errorf("info.meta version: %d is unknown", *v)
		}
		p.hasV2 = *v == 2
	}
	p.hasV1 = !p.hasV2 || info.Pieces != nil || info.Length != nil || info.Files != nil
	if err := checkName(info.Name); err != nil {
		return nil, fmt.Errorf("info.name: %w", err)
	}
	if err := checkPieceLength(info.PieceLength, p.hasV2); err != nil {
		return nil, fmt.Errorf("info.piece length: %w", err)
	}
	if !p.hasV1 {
		return p, nil
	}
	if info.Pieces == nil {
		return nil, errors.New("info.pieces: missing")
	}
	if (info.Length == nil) == (info.Files == nil) {
		return nil, errors.New("info.length, info.files: neither or both")
	}
	if p.single = info.Length != nil; p.single {
		p.total = *info.Length
		if p.total < 0 {
			return nil, errors.New("info.length: negative")
		}
	} else if err := p.layOut(); err != nil {
		return nil, err
	}
	if n := pieceCount(p.total, info.PieceLength); int64(len(info.Pieces)) != n*sha1.Size {
		return nil, fmt.Errorf("info.pieces: %d bytes of hashes for %d pieces", len(info.Pieces), n)
	}
	return p, nil
}

// layOut checks the files of a v1 info dictionary and says where each begins.
func (p *torrentParser) layOut() error {
	if len(p.info.Files) == 0 {
		return errors.New("info.files: there are none")
	}
	for i := range p.info.Files {
		f := &p.info.Files[i]
		if f.Length == nil || *f.Length < 0 || *f.Length > math.MaxInt64-p.total {
			return fmt.Errorf("info.files[%d].length: missing, negative or too large", i)
		}
		if len(f.Path) == 0 {
			return fmt.Errorf("info.files[%d].path: missing or empty", i)
		}
		for n, elem := range f.Path {
			if err := checkName(elem); err != nil {
				return fmt.Errorf("info.files[%d].path[%d]: %w", i, n, err)
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
	} else if p.all {
		p.files = append(p.files, File{Path: slices.Clone(path), Size: size})
		return false, nil
	} else if p.survey {
		return false, nil
	} else if p.name == "" {
		return false, errors.New("info: it is a multi-file torrent")
	} else if p.name != path[len(path)-1] {
		return false, nil
	}
	if p.found {
		return false, fmt.Errorf("info: more than one file called %.64q in it", p.name)
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
		} else if p.all {
			p.files[len(p.files)-1].Offset = f.TorrentOffset
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
		_, single = top[anacrolix.FileTreePropertiesKey]
	}
	if p.hasV1 && p.single != single {
		return errMismatch
	}
	w := treeWalk{p: p, single: single, v1: p.info.Files}
	if err := w.walk(p.info.FileTree); err != nil {
		return err
	}
	if w.files == 0 {
		return errors.New("info.file tree: no files in it")
	}
	if w.nextV1() != nil {
		return errMismatch
	}
	return nil
}

var errMismatch = errors.New("info.files, info.file tree: v1 and v2 metadata disagree")

type treeWalk struct {
	p      *torrentParser
	single bool
	files  int
	total  int64
	next   int64 // where the next file begins, if there are several
	path   []string
	v1     []torrentEntry // those of a hybrid that were not met yet
}

// walk goes through a directory in the order of its bencode.
func (w *treeWalk) walk(dir map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(dir)) {
		w.path = append(w.path, name)
		err := checkName(name)
		node, ok := dir[name].(map[string]any)
		if err != nil {
			err = w.at("", err)
		} else if !ok {
			err = w.at("", errors.New("not a dictionary"))
		} else if props, ok := node[anacrolix.FileTreePropertiesKey]; !ok {
			err = w.walk(node)
		} else if len(node) > 1 {
			err = w.at("", errors.New("a file with files below it"))
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

// at says of which node of the tree an error is; key is one of the node's properties, if it is not "".
func (w *treeWalk) at(key string, err error) error {
	p := []byte("info.file tree")
	for _, elem := range w.path {
		p = appendPathKey(p, []byte(elem))
	}
	if key != "" {
		p = appendPathKey(appendPathKey(p, nil), []byte(key))
	}
	return fmt.Errorf("%s: %w", shortPath(p), err)
}

func (w *treeWalk) file(properties any) error {
	p := w.p
	w.files++
	props, ok := properties.(map[string]any)
	if !ok {
		return w.at("", errors.New("the properties are not a dictionary"))
	}
	length, ok := props["length"].(int64)
	if !ok || length < 0 || length > math.MaxInt64-w.total {
		return w.at("length", errors.New("missing, negative or too large"))
	}
	w.total += length
	attr, _ := props["attr"].(string)
	if strings.Contains(attr, "p") {
		return w.at("attr", errors.New("a pad file in the file tree"))
	}
	root, ok := props["pieces root"].(string)
	if length > 0 && (!ok || len(root) != sha256.Size) || length == 0 && ok {
		return w.at("pieces root", errors.New("missing, of the wrong length, or of an empty file"))
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
	} else if err == nil && p.all {
		f := &p.files[len(p.files)-1]
		f.Offset, f.root = w.next, root
	}
	w.next += pieceCount(length, p.info.PieceLength) * p.info.PieceLength
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
	if f == nil || *f.Length != length || length > 0 && (f.TorrentOffset%w.p.info.PieceLength != 0 || w.p.all && f.TorrentOffset != w.next) || !slices.Equal(f.Path, w.path) {
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
		return fmt.Errorf("%d is not usable", n)
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
