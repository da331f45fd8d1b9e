package metainfo

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Describe reads metainfo of any quality (BEP 3, 5, 12, 17, 19, 27, 47, 52) and tells all that it says, and in Warnings
// what is wrong with it. Metainfo that is cut short is described as far as it goes. Only what has no info dictionary, or
// more than MaxSize bytes, is an error; it wraps ErrUnusable. It costs at most some 64 MiB. The Description refers to data.
func Describe(data []byte) (*Description, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrUnusable, MaxSize)
	}
	d := &describer{room: maxPathsShown, urlRoom: maxURLBytes, v1Length: -1}
	d.data, d.limit, d.odd = bytes.TrimSuffix(data, []byte("\n")), showNesting, func(f *flaw) { d.warnf("%v", f) }
	err := d.root()
	if err == nil && len(d.data) < len(data) {
		d.warnf("a newline follows the end (byte %d)", len(d.data))
	}
	if err == nil && !d.hasInfo {
		err = errors.New("info: missing")
	}
	if !d.hasInfo {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if err != nil {
		d.warnf("%v; nothing behind it is shown", err)
	}
	d.conclude(data)
	return &d.Description, nil
}

// describer fills a Description as its scanner goes on.
type describer struct {
	scanner
	Description
	hasInfo, hasV1, hasV2 bool
	metaVersion           int64
	v1Length              int64           // of info.length; -1: there is none
	tree                  []DescribedFile // of v2
	v1Files, treeFiles    int             // padding left out, those not shown too
	v1Total, v1Pads       int64           // bytes in all, and of padding
	treeTotal             int64
	room                  int // bytes that paths may still take
	urlRoom               int // bytes that URLs may still take
	hidden, hiddenURLs    int // files and URLs not shown
	others                int // keys that are not shown
	moreWarnings          bool
}

// mayWarn tells whether there is room for a warning. Whoever makes many asks before it takes the trouble.
func (d *describer) mayWarn() bool {
	d.moreWarnings = d.moreWarnings || len(d.Warnings) == maxWarnings
	return !d.moreWarnings
}

func (d *describer) warnf(format string, args ...any) {
	if d.mayWarn() {
		d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
	}
}

// levels is how many lead to the value of a token that was just read.
func (d *describer) levels(t token) int {
	if t.opens() {
		return d.depth - 1
	}
	return d.depth
}

// finish goes to the end of what is open beyond depth.
func (d *describer) finish(depth int) error {
	for d.depth > depth {
		if _, err := d.next(); err != nil {
			return err
		}
	}
	return nil
}

// is warns if a token is of another kind than it should be.
func (d *describer) is(t token, kind byte) bool {
	if t.kind != kind && d.mayWarn() {
		d.warnf("%v", d.wrongKind(t, kind))
	}
	return t.kind == kind
}

// dict calls do for each key with the token at which its value begins.
func (d *describer) dict(t token, do func(key []byte, t token) error) error {
	if !d.is(t, 'd') {
		return nil
	}
	for depth := d.depth; ; {
		k, err := d.next()
		if err != nil || k.kind == 'e' {
			return err
		}
		v, err := d.next()
		if err == nil {
			err = do(k.text, v)
		}
		if err == nil {
			err = d.finish(depth)
		}
		if err != nil {
			return err
		}
	}
}

// list calls do with the token at which each value begins.
func (d *describer) list(t token, do func(t token) error) error {
	if !d.is(t, 'l') {
		return nil
	}
	for depth := d.depth; ; {
		v, err := d.next()
		if err != nil || v.kind == 'e' {
			return err
		}
		if err = do(v); err == nil {
			err = d.finish(depth)
		}
		if err != nil {
			return err
		}
	}
}

func (d *describer) text(t token, to *string) error {
	if d.is(t, 's') {
		*to = shownText(t.text)
	}
	return nil
}

func (d *describer) integer(t token, to *int64) error {
	if !d.is(t, 'i') {
		return nil
	}
	n, err := strconv.ParseInt(string(t.text[:min(len(t.text), 32)]), 10, 64)
	if err != nil {
		if d.mayWarn() {
			d.warnf("%v", d.fail(d.depth, t.at, "integer does not fit 64 bits"))
		}
		return nil
	}
	*to = n
	return nil
}

// strings reads a list of strings, or one string.
func (d *describer) strings(t token, to *[]string) error {
	*to = nil
	add := func(t token) error {
		if d.urlRoom -= len(t.text); d.urlRoom < 0 || len(*to) == maxURLsRead {
			d.hiddenURLs++
		} else if d.is(t, 's') && len(t.text) > 0 {
			*to = append(*to, shownText(t.text))
		}
		return nil
	}
	if t.kind == 's' {
		return add(t)
	}
	return d.list(t, add)
}

// other keeps a key that has no field.
func (d *describer) other(t token) error {
	if len(d.OtherKeys) == maxOtherKeys {
		d.others++
		return nil
	}
	levels := d.levels(t)
	path := d.path(levels)
	if err := d.finish(levels); err != nil {
		return err
	}
	d.OtherKeys = append(d.OtherKeys, OtherKey{Path: path, Value: preview(d.data[t.at:d.pos], maxOtherValue)})
	return nil
}

func (d *describer) root() error {
	t, err := d.next()
	if err != nil {
		return err
	}
	if t.kind != 'd' {
		return d.wrongKind(t, 'd')
	}
	err = d.dict(t, func(key []byte, t token) error {
		switch string(key) {
		case "info":
			return d.info(t)
		case "announce":
			return d.text(t, &d.Announce)
		case "announce-list":
			return d.tiers(t)
		case "url-list":
			return d.strings(t, &d.URLList)
		case "httpseeds":
			return d.strings(t, &d.HTTPSeeds)
		case "sources":
			return d.strings(t, &d.Sources)
		case "nodes":
			return d.nodes(t)
		case "piece layers":
			return d.layers(t)
		case "comment":
			return d.text(t, &d.Comment)
		case "created by":
			return d.text(t, &d.CreatedBy)
		case "creation date":
			return d.date(t)
		case "encoding":
			return d.text(t, &d.Encoding)
		case "publisher":
			return d.text(t, &d.Publisher)
		case "publisher-url":
			return d.text(t, &d.PublisherURL)
		}
		return d.other(t)
	})
	if err == nil {
		_, err = d.next() // what is behind the end
	}
	return err
}

func (d *describer) tiers(t token) error {
	d.Tiers = nil
	n := 0
	return d.list(t, func(t token) error {
		if n++; n > maxURLsRead || d.urlRoom < 0 {
			d.hiddenURLs++ // at least
			return nil
		}
		var tier []string
		err := d.strings(t, &tier)
		if n += len(tier); tier != nil {
			d.Tiers = append(d.Tiers, tier)
		}
		return err
	})
}

func (d *describer) nodes(t token) error {
	d.Nodes = nil
	return d.list(t, func(t token) error {
		if len(d.Nodes) == maxURLsRead {
			return nil
		}
		var host string
		var port int64
		i := 0
		err := d.list(t, func(t token) error {
			i++
			if i == 1 {
				return d.text(t, &host)
			}
			return d.integer(t, &port)
		})
		if i == 2 {
			d.Nodes = append(d.Nodes, net.JoinHostPort(host, strconv.FormatInt(port, 10)))
		}
		return err
	})
}

func (d *describer) date(t token) error {
	seconds := int64(math.MinInt64)
	d.integer(t, &seconds)
	switch {
	case seconds >= 0 && seconds < 253402300800: // the year 10000
		d.CreationDate = time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	case seconds != math.MinInt64:
		d.warnf("creation date: %d is no date", seconds)
	}
	return nil
}

func (d *describer) layers(t token) error {
	d.PieceLayers = nil
	return d.dict(t, func(key []byte, t token) error {
		if !d.is(t, 's') {
			return nil
		}
		if len(key) != sha256.Size {
			d.warnf("%s: no pieces root", d.path(d.depth))
		} else if len(d.PieceLayers) < maxLayersShown {
			d.PieceLayers = append(d.PieceLayers, PieceLayer{Root: key, Hashes: t.text})
		}
		return nil
	})
}

func (d *describer) info(t token) error {
	if d.hasInfo || !d.is(t, 'd') {
		return nil
	}
	d.hasInfo = true
	err := d.dict(t, func(key []byte, t token) error {
		switch string(key) {
		case "name":
			if t.kind == 's' {
				d.name(t, t.text)
			}
			return d.text(t, &d.Name)
		case "name.utf-8":
			return d.text(t, &d.NameUTF8)
		case "piece length":
			return d.integer(t, &d.PieceLength)
		case "pieces":
			if d.is(t, 's') {
				d.PieceHashes, d.hasV1 = t.text, true
			}
			return nil
		case "length":
			d.hasV1 = true
			return d.integer(t, &d.v1Length)
		case "files":
			d.hasV1 = true
			return d.files(t)
		case "meta version":
			return d.integer(t, &d.metaVersion)
		case "file tree":
			d.hasV2 = true
			return d.directory(t, nil)
		case "private":
			var n int64
			d.integer(t, &n)
			d.Private = n != 0
			return nil
		case "source":
			return d.text(t, &d.Source)
		case "publisher":
			return d.text(t, &d.Publisher)
		case "publisher-url":
			return d.text(t, &d.PublisherURL)
		}
		return d.other(t)
	})
	if err != nil {
		return err
	}
	info := d.data[t.at:d.pos]
	if d.metaVersion == 2 || d.hasV2 {
		d.InfoHashV2 = fmt.Sprintf("%x", sha256.Sum256(info))
	}
	if d.InfoHashV2 == "" || d.hasV1 {
		d.InfoHashV1 = fmt.Sprintf("%x", sha1.Sum(info))
	}
	return nil
}

// name warns of a name that no file may have; it stands in the value that begins with t, or is the key of that.
func (d *describer) name(t token, name []byte) {
	if !d.mayWarn() {
		return
	}
	if err := checkName(string(name[:min(len(name), maxName+1)])); err != nil {
		d.warnf("%s: %v", d.path(d.levels(t)), err)
	}
}

// hasRoom tells whether a file can be added to a list.
func (d *describer) hasRoom(list []DescribedFile) bool {
	return d.room > 0 && len(list) < maxFilesShown
}

// keep adds a file to a list, if there is room.
func (d *describer) keep(list *[]DescribedFile, f DescribedFile, path []byte) {
	if !d.hasRoom(*list) {
		d.hidden++
		return
	}
	d.room -= len(path)
	f.Path = string(path)
	*list = append(*list, f)
}

func (d *describer) files(t token) error {
	d.Files, d.v1Files, d.v1Total, d.v1Pads = nil, 0, 0, 0
	var path []byte
	return d.list(t, func(t token) error {
		f := DescribedFile{}
		path = path[:0]
		err := d.dict(t, func(key []byte, t token) error {
			switch string(key) {
			case "length":
				return d.integer(t, &f.Length)
			case "path":
				return d.list(t, func(t token) error {
					if d.is(t, 's') {
						d.name(t, t.text)
						if d.hasRoom(d.Files) {
							path = appendElement(path, t.text)
						}
					}
					return nil
				})
			case "attr":
				return d.text(t, &f.Attr)
			}
			return d.other(t)
		})
		if f.Length < 0 || f.Length > math.MaxInt64-d.v1Total {
			f.Length = 0 // Parse says so
		}
		f.Pad = strings.Contains(f.Attr, "p")
		d.v1Total += f.Length
		if f.Pad {
			d.v1Pads += f.Length
		} else {
			d.v1Files++
		}
		d.keep(&d.Files, f, path)
		return err
	})
}

// directory goes through a directory of the file tree.
func (d *describer) directory(t token, path []byte) error {
	if path == nil {
		d.tree, d.treeFiles, d.treeTotal = nil, 0, 0
	}
	return d.dict(t, func(key []byte, t token) error {
		if len(key) == 0 {
			return d.leaf(t, path)
		}
		d.name(t, key)
		return d.directory(t, appendElement(path, key))
	})
}

// leaf reads the properties of a file of the file tree.
func (d *describer) leaf(t token, path []byte) error {
	var f DescribedFile
	err := d.dict(t, func(key []byte, t token) error {
		switch string(key) {
		case "length":
			return d.integer(t, &f.Length)
		case "pieces root":
			if d.is(t, 's') && d.hasRoom(d.tree) {
				f.PiecesRoot = hex.EncodeToString(t.text[:min(len(t.text), sha256.Size)])
			}
			return nil
		case "attr":
			return d.text(t, &f.Attr)
		}
		return d.other(t)
	})
	if f.Length < 0 || f.Length > math.MaxInt64-d.treeTotal {
		f.Length = 0
	}
	d.treeFiles++
	d.treeTotal += f.Length
	d.keep(&d.tree, f, path)
	return err
}

// appendElement adds an element to a path, as append does.
func appendElement(path, elem []byte) []byte {
	if len(path) > 0 {
		path = append(path, '/')
	}
	if len(path) > maxTextShown {
		return path
	}
	return appendShown(path, elem)
}

// shownText makes a text of bytes.
func shownText(b []byte) string { return string(appendShown(nil, b)) }

func appendShown(to, b []byte) []byte {
	shown := b
	if len(b) > maxTextShown {
		shown = b[:maxTextShown]
		for i := 0; i < utf8.UTFMax && !utf8.RuneStart(b[len(shown)]); i++ {
			shown = shown[:len(shown)-1]
		}
	}
	for rest := shown; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 || isBinaryRune(r) {
			to = hex.AppendEncode(append(to, `\x`...), rest[:n])
		} else {
			to = append(to, rest[:n]...)
		}
		rest = rest[n:]
	}
	if len(shown) < len(b) {
		to = fmt.Appendf(to, "… (%d bytes)", len(b))
	}
	return to
}

// conclude says what follows from all that was read, which is data.
func (d *describer) conclude(data []byte) {
	d.hasV2 = d.hasV2 || d.metaVersion == 2
	switch {
	case d.hasV1 && d.hasV2:
		d.Version, d.InfoHash = "hybrid", d.InfoHashV1
	case d.hasV2:
		d.Version, d.InfoHash = "v2", d.InfoHashV2
	default:
		d.Version, d.InfoHash = "v1", d.InfoHashV1
	}
	if d.InfoHash == "" {
		d.warnf("info: cut short, so that there is no info hash")
	}
	if d.v1Length >= 0 && d.Files == nil {
		d.v1Files, d.v1Total = 1, d.v1Length
		d.Files = []DescribedFile{{Path: d.Name, Length: d.v1Length}}
	}
	d.Size, d.FileCount = d.v1Total-d.v1Pads, d.v1Files
	d.PieceCount = int64(len(d.PieceHashes)) / sha1.Size
	if d.Files == nil {
		d.Files, d.Size, d.FileCount = d.tree, d.treeTotal, d.treeFiles
		for _, f := range d.Files {
			d.PieceCount += pieceCount(f.Length, max(d.PieceLength, 1))
		}
	}
	d.checkPieces()
	d.checkTree()
	d.checkURLs()
	m := MagnetParts{InfoHashV1: d.InfoHashV1, InfoHashV2: d.InfoHashV2, Name: d.Name, Size: d.Size, WebSeeds: d.URLList}
	if d.NameUTF8 != "" {
		m.Name = d.NameUTF8
	}
	for _, tier := range d.Trackers() {
		m.Trackers = append(m.Trackers, tier...)
	}
	d.Magnet = m.String()

	if n := d.hidden; n > 0 {
		d.warnf("info: %d files are not listed here", n)
	}
	if n := d.hiddenURLs; n > 0 {
		d.warnf("announce-list, url-list, sources, httpseeds: %d URLs are not listed here", n)
	}
	if d.others > 0 {
		d.warnf("%d more keys that are not known are not listed here", d.others)
	}
	d.addVerdict(data)
}

const refused = "refused by the strict check: "

// addVerdict puts first what Parse says of data, and takes the same words away behind it.
func (d *describer) addVerdict(data []byte) {
	all := []string{}
	verdict := ""
	if _, err := parse(data, "", true); err != nil {
		verdict = err.Error()
		all = append(all, refused+verdict)
	}
	for _, w := range d.Warnings {
		if verdict != "" && strings.HasPrefix(w, verdict) { // it may say more
			all[0], verdict = refused+w, w
			continue
		}
		all = append(all, w)
	}
	if d.moreWarnings || d.untold() > 0 {
		all = append(all, "and more")
	}
	d.Warnings = all
}

func (d *describer) checkPieces() {
	if err := checkPieceLength(d.PieceLength, d.hasV2); err != nil {
		d.warnf("info.piece length: %v", err)
	}
	if n := d.PieceLength; n > 0 {
		if n&(n-1) != 0 {
			d.warnf("info.piece length: %d is not a power of two", n)
		}
		if want := pieceCount(d.v1Total, n); d.hasV1 && int64(len(d.PieceHashes)) != want*sha1.Size {
			d.warnf("info.pieces: %d bytes of hashes for %d pieces", len(d.PieceHashes), want)
		}
	}
	if n := d.sharing(); n > 0 && !d.hasV2 {
		d.warnf("info.files: %d of %d files share pieces with others, and cannot be verified without them", n, d.v1Files)
	}
}

// sharing counts the v1 files that have a piece together with another one, as far as they are listed.
func (d *describer) sharing() (count int) {
	var begin, end int64 // end: of the file before that is neither padding nor empty
	counted := true      // that file
	for _, f := range d.Files {
		if f.Length > 0 && !f.Pad && d.PieceLength > 0 {
			shares := end > begin/d.PieceLength*d.PieceLength
			if shares && !counted {
				count++
			}
			if counted = shares; shares {
				count++
			}
			end = begin + f.Length
		}
		begin += f.Length
	}
	return count
}

// checkTree looks at what v2 says, compares it with v1, and gives the files of a hybrid their roots.
func (d *describer) checkTree() {
	if !d.hasV2 {
		return
	}
	usable := checkPieceLength(d.PieceLength, true) == nil
	lengths := make(map[[sha256.Size]byte]int, len(d.PieceLayers))
	for _, l := range d.PieceLayers {
		n := len(l.Hashes)
		lengths[[sha256.Size]byte(l.Root)] = n
		if n == 0 || n%sha256.Size != 0 {
			d.warnf("piece layers.<%x>: %d bytes", l.Root, n)
		} else if usable && layerRoot(l.Hashes, d.PieceLength) != [sha256.Size]byte(l.Root) {
			d.warnf("piece layers.<%x>: the hashes do not belong to this root", l.Root)
		}
	}
	for _, f := range d.tree {
		if !usable || f.Length <= d.PieceLength || len(d.PieceLayers) == maxLayersShown {
			continue
		}
		var root [sha256.Size]byte
		hex.Decode(root[:], []byte(f.PiecesRoot))
		n, ok := lengths[root]
		if want := pieceCount(f.Length, d.PieceLength); !ok {
			d.warnf("piece layers: none for %s", f.Path)
		} else if int64(n) != want*sha256.Size {
			d.warnf("piece layers: %d bytes for %d pieces of %s", n, want, f.Path)
		}
	}
	if d.hasV1 && d.hidden == 0 {
		d.compare()
	}
}

// compare goes through the files of both halves of a hybrid.
func (d *describer) compare() {
	rest := d.tree
	for i := range d.Files {
		f := &d.Files[i]
		switch {
		case f.Pad:
			continue
		case len(rest) == 0:
			d.warnf("%v: %s is only in v1", errMismatch, f.Path)
			return
		case rest[0].Path != f.Path || rest[0].Length != f.Length:
			d.warnf("%v: %s of %d bytes, %s of %d bytes", errMismatch, f.Path, f.Length, rest[0].Path, rest[0].Length)
			return
		}
		f.PiecesRoot = rest[0].PiecesRoot
		rest = rest[1:]
	}
	if len(rest) > 0 {
		d.warnf("%v: %s is only in v2", errMismatch, rest[0].Path)
	}
}

func (d *describer) checkURLs() {
	for _, list := range []struct {
		key  string
		urls []string
	}{{"url-list", d.URLList}, {"httpseeds", d.HTTPSeeds}, {"sources", d.Sources}} {
		for i, u := range list.urls {
			d.checkURL(fmt.Sprintf("%s[%d]", list.key, i), u, "http", "https")
		}
	}
	if d.Announce != "" {
		d.checkURL("announce", d.Announce, "http", "https", "udp")
	}
	for i, tier := range d.Tiers {
		for j, u := range tier {
			d.checkURL(fmt.Sprintf("announce-list[%d][%d]", i, j), u, "http", "https", "udp")
		}
	}
	if d.Private && d.Trackers() == nil {
		d.warnf("info.private: 1, but there is no tracker")
	}
	if d.Private && d.Nodes != nil {
		d.warnf("nodes: DHT nodes of a private torrent")
	}
}

// checkURL warns of what is not used, and of what only a machine near the publisher's can reach.
func (d *describer) checkURL(path, text string, schemes ...string) {
	clean, ok := cleanURL(text, schemes...)
	if !ok {
		d.warnf("%s: not a usable %s URL: %.80q", path, strings.Join(schemes, ", "), text)
		return
	}
	u, err := url.Parse(clean)
	if err != nil {
		return
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	addr, err := netip.ParseAddr(host)
	private := addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
	if private || err != nil && !strings.Contains(host, ".") {
		d.warnf("%s: at a private address: %s", path, host)
	}
}
