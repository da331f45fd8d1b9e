package metainfo

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// File is a file of a torrent of several files. Offset is where it begins in what they make together, one after the other with
// the padding between them (BEP 47; of a v2 torrent, up to the next piece).
type File struct {
	Path   []string // below the torrent's name; no element is empty, ".", ".." or has a slash or control character in it
	Offset int64
	Size   int64

	root string // v2
}

// ParseAll is like Parse, but a torrent of several files is taken as one: the Manifest is of all that they make together, as
// Files tells, and its WebSeeds are URLs of directories, below which the files' paths are. Paths are told once each, and none is
// below another.
func ParseAll(data []byte) (*Manifest, error) {
	m, err := parseAll(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return m, nil
}

// Files are those of a torrent of several files, without padding and links, in the torrent's order; nil if the Manifest is of one.
func (m *Manifest) Files() []File { return m.files }

func parseAll(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	f, err := decodeTorrent(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil {
		return nil, err
	}
	p, err := newTorrentParser(&f.info, "")
	if err != nil {
		return nil, err
	}
	p.all = true
	if p.hasV2 {
		err = p.readTree()
	} else {
		err = p.readFiles()
	}
	switch {
	case err != nil:
		return nil, err
	case p.found:
		return parse(data, "", false)
	case len(p.files) == 0:
		return nil, errors.New("info: no files in it")
	}
	if err := checkPaths(p.files); err != nil {
		return nil, err
	}
	m := &Manifest{Name: p.info.Name, PieceLength: p.info.PieceLength, Size: p.total, files: p.files, info: bytes.Clone(f.infoBytes),
		identity: sha256.Sum256(f.infoBytes), Private: f.info.Private != nil && *f.info.Private}
	m.InfoHash = hex.EncodeToString(m.identity[:])
	if p.hasV1 {
		m.InfoHash = fmt.Sprintf("%x", sha1.Sum(f.infoBytes))
		m.hashes = p.info.Pieces
	}
	if p.hasV2 {
		if err := m.takeLayers(f.layers, p); err != nil {
			return nil, err
		}
	}
	if m.Size == 0 {
		return nil, errors.New("info: nothing but empty files in it")
	}
	p.path = []string{}
	m.WebSeeds = webSeeds(p, []any{f.urlList, f.sources}, nil)
	m.Trackers = trackers(f.announce, f.announceList)
	return m, nil
}

// takeLayers takes the hashes of all files from their layers; of a hybrid without layers they remain those of v1.
func (m *Manifest) takeLayers(layers map[string][]byte, p *torrentParser) error {
	var hashes []byte
	end := int64(0)
	for _, f := range m.files {
		if f.Size == 0 {
			continue
		}
		end = f.Offset + f.Size
		one := Manifest{Size: f.Size, PieceLength: m.PieceLength, v2: true}
		if layers == nil && p.hasV1 && f.Size > m.PieceLength {
			return nil
		}
		if err := one.takeLayer(layers, f.root); err != nil {
			return err
		}
		if f.Size > m.PieceLength && layerRoot(one.hashes, m.PieceLength) != one.root {
			return errors.New("piece layers: the hashes do not belong to the pieces root")
		}
		hashes = append(hashes, one.hashes...)
	}
	if pieces := pieceCount(end, m.PieceLength) * sha256.Size; int64(len(hashes)) != pieces || p.hasV1 && pieceCount(p.total, m.PieceLength)*sha256.Size != pieces {
		return errMismatch // of a hybrid, or with links of some length
	}
	m.Size, m.hashes, m.v2 = end, hashes, true
	for i := range m.files { // nothing pads up to empty files behind all content
		m.files[i].Offset = min(m.files[i].Offset, end)
	}
	return nil
}

// checkPaths refuses paths that are told twice, and files below files.
func checkPaths(files []File) error {
	all := make([]string, len(files))
	for i, f := range files {
		all[i] = strings.Join(f.Path, "\x00") + "\x00" // sorts a directory before all that is below it
	}
	sort.Strings(all)
	for i := 1; i < len(all); i++ {
		if strings.HasPrefix(all[i], all[i-1]) {
			return fmt.Errorf("info: two files at %q", strings.ReplaceAll(strings.Trim(all[i-1], "\x00"), "\x00", "/"))
		}
	}
	return nil
}

// content returns what of piece i is content of a file of a v2 torrent, and how long that file is.
func (m *Manifest) content(i int) (n, whole int64) {
	if m.files == nil {
		return m.PieceSize(i), m.Size
	}
	off := int64(i) * m.PieceLength
	k := sort.Search(len(m.files), func(k int) bool { return m.files[k].Offset+m.files[k].Size > off })
	if k == len(m.files) {
		return 0, 0
	}
	f := m.files[k]
	return min(m.PieceLength, f.Offset+f.Size-off), f.Size
}

// appendLayers appends the layers of all files, in the order of their roots.
func (m *Manifest) appendLayers(data []byte) []byte {
	files := slices.Clone(m.files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.root, b.root) })
	last := ""
	for _, f := range files {
		if f.Size > m.PieceLength && f.root != last {
			layer := m.hashes[f.Offset/m.PieceLength*sha256.Size:][:pieceCount(f.Size, m.PieceLength)*sha256.Size]
			data = fmt.Appendf(data, "%d:%s%d:%s", len(f.root), f.root, len(layer), layer)
			last = f.root
		}
	}
	return data
}
