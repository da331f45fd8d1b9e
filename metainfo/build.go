package metainfo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/anacrolix/torrent/bencode"
)

// MaxWebSeeds is how many web seeds Build writes at most.
const MaxWebSeeds = 16

// BuildOptions are what a torrent may say beside its hashes. Zero fields leave no trace in it.
type BuildOptions struct {
	WebSeeds     []string   // http and https URLs of the file, best first (BEP 19); those after MaxWebSeeds are left out
	Trackers     [][]string // announce URLs in tiers: http, https, udp (BEP 12)
	Nodes        []string   // of the DHT, each host:port (BEP 5)
	Private      bool       // peers are to come from the trackers only (BEP 27)
	Comment      string
	CreatedBy    string
	CreationDate time.Time // whole seconds
	Source       string    // names the tracker in the info dictionary, so that the info hash is another one
}

// Build returns the metainfo of a single-file torrent. The same arguments make the same bytes. Parse accepts them, with all
// web seeds and trackers; what it would refuse or leave out is an error, but duplicates are dropped. So are an empty file, which
// other programs refuse, and DHT nodes of a private torrent. A URL is written as Parse gives it back: with a path,
// without a fragment, spaces escaped.
func Build(name string, h *Hashes, o BuildOptions) ([]byte, error) {
	if h.Size == 0 {
		return nil, errors.New("an empty file has no torrent")
	}
	info := map[string]any{"name": name, "piece length": h.PieceLength}
	meta := map[string]any{"info": info}
	if h.Version.hasV1() {
		info["length"], info["pieces"] = h.Size, h.Pieces
	}
	if h.Version.hasV2() {
		info["meta version"] = 2
		info["file tree"] = map[string]any{name: map[string]any{"": map[string]any{"length": h.Size, "pieces root": h.Root[:]}}}
		layers := map[string]any{} // libtorrent writes the key even if it is empty
		if h.Layer != nil {
			layers[string(h.Root[:])] = h.Layer
		}
		meta["piece layers"] = layers
	}
	if o.Private {
		info["private"] = 1
	}
	for _, text := range []struct {
		dict       map[string]any
		key, value string
	}{{info, "source", o.Source}, {meta, "comment", o.Comment}, {meta, "created by", o.CreatedBy}} {
		if text.value == "" {
			continue
		}
		if !utf8.ValidString(text.value) || strings.ContainsFunc(text.value, unicode.IsControl) {
			return nil, fmt.Errorf("%s: not UTF-8, or control characters in it", text.key)
		}
		text.dict[text.key] = text.value
	}
	if !o.CreationDate.IsZero() {
		meta["creation date"] = o.CreationDate.Unix()
	}
	if err := o.addURLs(meta); err != nil {
		return nil, err
	}
	data, err := bencode.Marshal(meta)
	if err != nil {
		return nil, err
	}
	if _, err := Parse(data, ""); err != nil {
		return nil, err
	}
	return data, nil
}

func (o *BuildOptions) addURLs(meta map[string]any) error {
	var seen urlSet
	var seeds []string
	for i, s := range o.WebSeeds {
		clean, ok := cleanURL(s, "http", "https")
		if !ok || strings.HasSuffix(clean, "/") {
			return fmt.Errorf("web seed %d: not an http or https URL of a file, without login", i+1) // it may hold a password
		}
		if len(seeds) < MaxWebSeeds && seen.add(clean) {
			seeds = append(seeds, clean)
		}
	}
	if seeds != nil {
		meta["url-list"] = seeds
	}
	tiers, err := cleanTiers(o.Trackers)
	if err != nil {
		return err
	}
	if tiers != nil {
		meta["announce"] = tiers[0][0]
		if len(tiers) > 1 || len(tiers[0]) > 1 {
			meta["announce-list"] = tiers
		}
	}
	if o.Private && o.Nodes != nil {
		return errors.New("a private torrent has no DHT nodes")
	}
	var nodes [][]any
	for _, s := range o.Nodes {
		u, err := url.Parse("//" + s)
		ok := err == nil && u.Host == s && u.Port() != "" && utf8.ValidString(s) && wellFormedHost(u)
		if !ok || strings.Contains(u.Hostname(), ":") != strings.HasPrefix(s, "[") {
			return fmt.Errorf("DHT node %q: not host:port", s)
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return err
		}
		nodes = append(nodes, []any{u.Hostname(), port})
	}
	if nodes != nil {
		meta["nodes"] = nodes
	}
	return nil
}

// cleanTiers returns the tiers without duplicates and empty tiers.
func cleanTiers(all [][]string) (tiers [][]string, err error) {
	var seen urlSet
	for _, list := range all {
		var tier []string
		for _, s := range list {
			clean, ok := cleanURL(s, "http", "https", "udp")
			if !ok {
				return nil, errors.New("tracker: not an http, https or udp URL without login")
			}
			if seen[clean] {
				continue
			}
			if !seen.add(clean) {
				return nil, fmt.Errorf("more than %d trackers", maxURLs)
			}
			tier = append(tier, clean)
		}
		if tier != nil {
			tiers = append(tiers, tier)
		}
	}
	return tiers, nil
}

// InfoHashes returns both info hashes in lower-case hex: the SHA-1 of a v1 or hybrid, the SHA-256 of a v2 or hybrid
// info dictionary. The other one is "".
func (m *Manifest) InfoHashes() (v1, v2 string) {
	if len(m.InfoHash) == 2*20 {
		v1 = m.InfoHash
	}
	if m.v2 {
		v2 = hex.EncodeToString(m.identity[:])
	}
	return v1, v2
}
