package metainfo

import (
	"net/url"
	"strconv"
	"strings"
)

// MagnetParts is what a magnet link says of a torrent (BEP 9, BEP 52). What is zero is left out.
type MagnetParts struct {
	InfoHashV1 string // 40 hex digits
	InfoHashV2 string // 64 hex digits
	Name       string // any bytes
	Size       int64  // bytes of content
	Trackers   []string
	WebSeeds   []string
}

// String returns the link: all that a URI reserves is percent-encoded, a space as %20. It is "" if there is no info hash.
func (m MagnetParts) String() string {
	var parts []string
	add := func(key, value string) { parts = append(parts, key+"="+value) }
	if m.InfoHashV1 != "" {
		add("xt", "urn:btih:"+m.InfoHashV1)
	}
	if m.InfoHashV2 != "" {
		add("xt", "urn:btmh:1220"+m.InfoHashV2) // a multihash: SHA-256, 32 bytes
	}
	if parts == nil {
		return ""
	}
	if m.Name != "" {
		add("dn", magnetEscape(m.Name))
	}
	if m.Size > 0 {
		add("xl", strconv.FormatInt(m.Size, 10))
	}
	for _, tracker := range m.Trackers {
		add("tr", magnetEscape(tracker))
	}
	for _, seed := range m.WebSeeds {
		add("ws", magnetEscape(seed))
	}
	return "magnet:?" + strings.Join(parts, "&")
}

// magnetEscape leaves only what RFC 3986 calls unreserved. A plus would be a plus to some clients and a space to others.
func magnetEscape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
