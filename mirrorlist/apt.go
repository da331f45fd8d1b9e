package mirrorlist

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ParseSourcesList reads apt's one-line format, sources.list(5). Each URI is a repository of its own: entries that differ
// only in their URI are not taken for mirrors of each other. An entry whose URI is mirror+file:/path has the servers of
// the mirror list at that path, which is read through opts. torrent+ before a scheme is ignored; cdrom: entries are
// skipped, and so are, with a warning, all others that are not http or https.
func ParseSourcesList(r io.Reader, opts Options) (*List, error) {
	p := newParser(opts)
	lines, err := p.readLines("", r)
	if err != nil {
		return nil, err
	}
	p.sourcesList("", lines)
	return p.result("the list")
}

// ParseDeb822 reads apt's stanza format, sources.list(5). The URIs of a stanza are one repository. Stanzas that are not
// enabled are skipped. URIs are treated as by [ParseSourcesList].
func ParseDeb822(r io.Reader, opts Options) (*List, error) {
	p := newParser(opts)
	lines, err := p.readLines("", r)
	if err != nil {
		return nil, err
	}
	if err := p.deb822("", lines); err != nil {
		return nil, err
	}
	return p.result("the list")
}

// ParseURLs reads a plain list of URLs, one on a line, or an apt mirror list (apt-transport-mirror(1)), in which key:value
// remarks follow the URL. All are roots of one repository. Lower priorities come first, lines without one last, equal ones
// in the order of the list, where apt would shuffle them. Of the other remarks type: and arch: are kept; what else a line
// is limited to (codename, component, lang, suite) cannot be told from a file's URL and is ignored.
func ParseURLs(r io.Reader, opts Options) (*List, error) {
	p := newParser(opts)
	lines, err := p.readLines("", r)
	if err != nil {
		return nil, err
	}
	p.add("", p.urls("", lines))
	return p.result("the list")
}

func (p *parser) urls(name string, lines []string) []Server {
	type ranked struct {
		Server
		rank uint64
	}
	var all []ranked
	for i, line := range lines {
		fields := strings.Fields(line)
		if len(fields) == 0 || isComment(line) {
			continue
		}
		at := place{name, i}
		s, ok := p.server(at, fields[0], false)
		if !ok {
			continue
		}
		rank := uint64(math.MaxUint64)
		for _, remark := range fields[1:] {
			key, value, _ := strings.Cut(remark, ":")
			switch key {
			case "priority":
				n, err := strconv.ParseUint(value, 10, 31)
				if err != nil {
					p.warn(at, "the priority is not a number; taken as none")
					continue
				}
				s.Priority, rank = int(n), n
			case "type":
				s.Types = append(s.Types, value)
			case "arch":
				s.Archs = append(s.Archs, value)
			}
		}
		all = append(all, ranked{s, rank})
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	var servers []Server
	for _, r := range all {
		servers = append(servers, r.Server)
	}
	return servers
}

func (p *parser) sourcesList(name string, lines []string) {
	for i, line := range lines {
		at := place{name, i}
		kind, rest := cutField(stripComment(line))
		switch kind {
		case "":
			continue
		case "deb", "deb-src":
		default:
			p.warn(at, "the entry is neither deb nor deb-src")
			continue
		}
		if strings.HasPrefix(rest, "[") {
			_, after, ok := strings.Cut(rest, "]")
			if !ok {
				p.warn(at, "the options have no end")
				continue
			}
			rest = after
		}
		if uri, _ := cutField(rest); uri != "" {
			p.addApt(uri, p.aptServers(at, uri))
		} else {
			p.warn(at, "the entry has no URI")
		}
	}
}

// stripComment cuts a line at the first "#" that is not within [].
func stripComment(line string) string {
	inOptions := false
	for i, c := range []byte(line) {
		switch {
		case c == '[':
			inOptions = true
		case c == ']':
			inOptions = false
		case c == '#' && !inOptions:
			return line[:i]
		}
	}
	return line
}

func cutField(line string) (field, rest string) {
	line = strings.Trim(line, " \t")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		return line[:i], strings.TrimLeft(line[i:], " \t")
	}
	return line, ""
}

func (p *parser) deb822(name string, lines []string) error {
	stanza := map[string][]string{}
	field, first := "", 0
	for i, line := range append(lines, "") {
		at := place{name, i}
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.Trim(line, " \t") == "":
			p.stanza(place{name, first}, stanza)
			stanza, field = map[string][]string{}, ""
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				return fmt.Errorf("%v: a continuation line of no field", at)
			}
			stanza[field] = append(stanza[field], line)
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok {
				return fmt.Errorf("%v: not a field", at)
			}
			if len(stanza) == 0 {
				first = i
			}
			field = strings.ToLower(strings.TrimRight(key, " \t"))
			if _, twice := stanza[field]; twice {
				// Most likely an empty line is missing: two repositories would become one.
				return fmt.Errorf("%v: the field is there twice", at)
			}
			stanza[field] = []string{value}
		}
	}
	return nil
}

func (p *parser) stanza(at place, fields map[string][]string) {
	if len(fields) == 0 {
		return
	}
	switch strings.ToLower(strings.TrimSpace(strings.Join(fields["enabled"], " "))) {
	case "no", "false", "without", "off", "disable", "0":
		return
	}
	uris := strings.Fields(strings.Join(fields["uris"], " "))
	if len(uris) == 0 {
		p.warn(at, "the stanza has no URIs")
		return
	}
	var servers []Server
	for _, uri := range uris {
		servers = append(servers, p.aptServers(at, uri)...)
	}
	p.addApt(uris[0], servers)
}

// addApt adds a repository unless it is there already: the same URI usually stands in several entries.
func (p *parser) addApt(name string, servers []Server) {
	var key strings.Builder
	for _, s := range servers {
		key.WriteString(s.URL + "\n")
	}
	if !p.seen[key.String()] {
		p.seen[key.String()] = true
		p.add(name, servers)
	}
}

// aptServers returns what a URI of a sources entry stands for.
func (p *parser) aptServers(at place, uri string) []Server {
	scheme, rest, _ := strings.Cut(uri, ":")
	switch strings.TrimPrefix(strings.ToLower(scheme), torrentPrefix) {
	case "cdrom":
		return nil
	case "mirror+file":
		servers, err := p.mirrorFile(rest)
		if err != nil {
			p.warn(at, "%v", err)
		}
		return servers
	}
	if strings.Contains(uri, "$(") {
		p.warn(at, "a variable in the URI")
		return nil
	}
	if s, ok := p.server(at, uri, false); ok {
		return []Server{s}
	}
	return nil
}

// mirrorFile reads the mirror list at the path of a mirror+file URI.
func (p *parser) mirrorFile(uri string) ([]Server, error) {
	if after, ok := strings.CutPrefix(uri, "//"); ok {
		uri = "/" + strings.TrimLeft(after, "/")
	}
	name, err := url.PathUnescape(strings.TrimRight(uri, "/"))
	if err != nil || !strings.HasPrefix(name, "/") || strings.ContainsFunc(name, isForbidden) {
		return nil, errors.New("the path of the mirror list is not absolute")
	}
	lines, err := p.readFile(name)
	if err != nil {
		return nil, err
	}
	return p.urls(name, lines), nil
}
