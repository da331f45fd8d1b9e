package metainfo

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

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

// WebSeedURL is the URL of the file at path (with slashes) below root, which is a URL without query.
func WebSeedURL(root, path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		// Some servers take a plus for a space.
		segments[i] = strings.ReplaceAll(url.PathEscape(s), "+", "%2B")
	}
	return strings.TrimSuffix(root, "/") + "/" + strings.Join(segments, "/")
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
