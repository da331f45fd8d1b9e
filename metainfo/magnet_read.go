package metainfo

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/anacrolix/torrent/bencode"
)

const (
	maxMagnet   = 256 << 10 // bytes
	maxPeers    = 256       // of one magnet link
	maxSelected = 1 << 16   // ranges of files
)

// Magnet is what a magnet link says: the torrent, and where to begin.
type Magnet struct {
	MagnetParts
	Sources []string // xs: http and https URLs where the torrent itself may be
	Peers   []string // x.pe: "host:port"
	Select  []Span   // so: the files that are wanted (BEP 53); nil: all
}

// Span is a range of numbers, both ends included. Those of files count from 0, padding left out.
type Span struct{ First, Last int }

// ParseMagnet reads a magnet link (BEP 9, 52, 53). It has to have an info hash; what else makes no sense is left out.
func ParseMagnet(text string) (m Magnet, err error) {
	query, ok := strings.CutPrefix(text, "magnet:?")
	if !ok || len(text) > maxMagnet {
		return m, errors.New("not a magnet link")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return m, errors.New("a malformed magnet link")
	}
	for _, xt := range numbered(values, "xt") {
		if err := m.topic(xt); err != nil {
			return m, err
		}
	}
	if m.InfoHashV1 == "" && m.InfoHashV2 == "" {
		return m, errors.New("a magnet link of no torrent")
	}
	m.Name = values.Get("dn")
	if n, err := strconv.ParseInt(values.Get("xl"), 10, 64); err == nil && n > 0 {
		m.Size = n
	}
	urls := func(key string, schemes ...string) (list []string) {
		var seen urlSet
		for _, s := range numbered(values, key) {
			if s, ok := cleanURL(s, schemes...); ok && seen.add(s) {
				list = append(list, s)
			}
		}
		return list
	}
	m.Trackers = urls("tr", "http", "https", "udp")
	m.WebSeeds = urls("ws", "http", "https")
	m.Sources = urls("xs", "http", "https")
	for _, p := range numbered(values, "x.pe") {
		if host, port, err := net.SplitHostPort(p); err == nil && host != "" && len(host) <= maxName && len(m.Peers) < maxPeers && checkName(host) == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
				m.Peers = append(m.Peers, p)
			}
		}
	}
	if so := values.Get("so"); so != "" {
		if m.Select, err = ParseSpans(so); err != nil {
			return m, fmt.Errorf("so: %w", err)
		}
	}
	return m, nil
}

// numbered are the values of key and of key.1, key.2, ...
func numbered(values url.Values, key string) []string {
	var keys []string
	for k := range values {
		rest, ok := strings.CutPrefix(k, key)
		if ok && (rest == "" || rest[0] == '.' && strings.Trim(rest[1:], "0123456789") == "") {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	var list []string
	for _, k := range keys {
		list = append(list, values[k]...)
	}
	return list
}

// topic reads one xt. Other networks' are passed over.
func (m *Magnet) topic(xt string) error {
	var raw []byte
	var err error
	to := &m.InfoHashV1
	if text, ok := strings.CutPrefix(xt, "urn:btih:"); ok {
		if len(text) == 32 {
			raw, err = base32.StdEncoding.DecodeString(strings.ToUpper(text))
		} else {
			raw, err = hex.DecodeString(text)
		}
		if err != nil || len(raw) != sha1.Size {
			return errors.New("a malformed info hash")
		}
	} else if text, ok := strings.CutPrefix(xt, "urn:btmh:"); ok {
		to = &m.InfoHashV2
		raw, err = hex.DecodeString(text)
		if err != nil || len(raw) != 2+sha256.Size || raw[0] != 0x12 || raw[1] != sha256.Size {
			return errors.New("a malformed info hash of v2")
		}
		raw = raw[2:]
	} else {
		return nil
	}
	if text := hex.EncodeToString(raw); *to != "" && *to != text {
		return errors.New("a magnet link of two torrents")
	} else {
		*to = text
	}
	return nil
}

// ParseSpans reads "0,2,4-6".
func ParseSpans(text string) (list []Span, err error) {
	for _, part := range strings.Split(text, ",") {
		first, last, pair := strings.Cut(part, "-")
		if !pair {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 31)
		b, err2 := strconv.ParseUint(last, 10, 31)
		if err1 != nil || err2 != nil || b < a || len(list) == maxSelected {
			return nil, fmt.Errorf("%.64q is no list of numbers", text)
		}
		list = append(list, Span{int(a), int(b)})
	}
	return list, nil
}

// Complete makes the torrent that the link is of, with the link's trackers and web seeds beside its own. data is metainfo that
// may come from anybody: it has to have the link's info hash.
func (m Magnet) Complete(data []byte) ([]byte, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrUnusable, MaxSize)
	}
	var info, layers, announce, announceList, urlList []byte
	err := checkBencode(data, map[string]*[]byte{"info": &info, "piece layers": &layers, "announce": &announce,
		"announce-list": &announceList, "url-list": &urlList})
	if err == nil && info == nil {
		err = errors.New("info: missing")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	v1, v2 := sha1.Sum(info), sha256.Sum256(info)
	if m.InfoHashV1 != "" && m.InfoHashV1 != hex.EncodeToString(v1[:]) || m.InfoHashV2 != "" && m.InfoHashV2 != hex.EncodeToString(v2[:]) {
		return nil, fmt.Errorf("%w: it is of another torrent than the magnet link", ErrUnusable)
	}
	whole := map[string]any{"info": bencode.Bytes(info)}
	if layers != nil {
		whole["piece layers"] = bencode.Bytes(layers)
	}
	var one, several, seeds any
	for _, part := range []struct {
		data []byte
		into any
	}{{announce, &one}, {announceList, &several}, {urlList, &seeds}} {
		if part.data != nil && (len(part.data) > maxURLBytes || bencode.Unmarshal(part.data, part.into) != nil) {
			return nil, fmt.Errorf("%w: malformed URLs", ErrUnusable)
		}
	}
	var tiers [][]string
	for _, t := range m.Trackers { // BEP 9: each is a tier of its own
		tiers = append(tiers, []string{t})
	}
	if tiers = append(tiers, trackers(one, several)...); tiers != nil {
		whole["announce-list"] = tiers
	}
	if list := append(slices.Clone(m.WebSeeds), listedStrings(seeds, maxURLsRead)...); list != nil {
		whole["url-list"] = list
	}
	made, err := bencode.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return made, nil
}
