package mirrorlist

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Alternates returns the other URLs that hold the same bytes as u, best first, and a stable key of the repository that u
// belongs to: the URL of the server root that matched, without credentials. The key is "" (and there are no mirrors) if
// no repository has u below one of its servers. u itself is never among the mirrors.
//
// Repositories are never mixed: u belongs to the one repository with the longest matching server root, a root without
// variables before one with, an earlier repository before a later one. Scheme and host are compared without regard
// to case and to the scheme's default port, the path segment by segment with percent-encoding undone, and credentials not
// at all; "torrent+" before u's scheme, as apt's lists have it, does not count. What follows the root is appended to the
// other servers just as u has it escaped.
//
// There are no mirrors of a directory, of a path with "." or ".." in it, and of a URL with a query, which might be
// meant for (or hold a secret of) its own host only. Credentials are those of each server's own entry.
func (l *List) Alternates(u *url.URL) (mirrors []*url.URL, repository string) {
	if l == nil || u == nil {
		return nil, ""
	}
	file, ok := locate(u)
	if !ok {
		return nil, ""
	}
	var (
		best  root
		vars  variables
		repo  *Repository
		found bool
	)
	for i := range l.Repositories {
		for _, s := range l.Repositories[i].Servers {
			r, err := parseRoot(s.URL)
			if err != nil {
				continue
			}
			v, ok := r.match(file)
			if ok && (!found || r.closer(best)) {
				best, vars, repo, found = r, v, &l.Repositories[i], true
			}
		}
	}
	if !found {
		return nil, ""
	}
	repository = canonical(file.origin, file.segs[:len(best.segs)])
	if u.RawQuery != "" || u.ForceQuery {
		return nil, repository
	}

	n := len(best.segs)
	for file.segs[n] == "" { // a doubled slash after the root
		n++
	}
	rest := strings.Join(file.raw[n:], "/")
	seen := map[string]bool{
		canonical(file.origin, file.segs):                                                true,
		canonical(file.origin, slices.Concat(file.segs[:len(best.segs)], file.segs[n:])): true,
	}
	for _, s := range repo.Servers {
		if !s.serves(file.segs[len(file.segs)-1]) {
			continue
		}
		r, err := parseRoot(s.URL)
		// A server that lacks a variable of the matched one, or has one more, holds another part of the tree.
		if err != nil || r.variables() != best.variables() {
			continue
		}
		m, err := below(vars.expand(s.URL), rest)
		if err != nil {
			continue
		}
		there, ok := locate(m)
		if !ok {
			continue
		}
		if key := canonical(there.origin, there.segs); !seen[key] {
			seen[key] = true
			mirrors = append(mirrors, m)
		}
	}
	return mirrors, repository
}

// below appends an escaped path to a server's URL. The server's own path is escaped as needed.
func below(server, rest string) (*url.URL, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/") + "/" + rest
	u.Path, err = url.PathUnescape(u.RawPath)
	return u, err
}

// serves tells whether the server is meant for a file of this name.
func (s Server) serves(name string) bool {
	if s.Cache && isDatabase(name) {
		return false
	}
	if len(s.Types) > 0 && !slices.Contains(s.Types, aptType(name)) {
		return false
	}
	arch := debArch(name)
	return len(s.Archs) == 0 || arch == "" || slices.Contains(s.Archs, arch)
}

// isDatabase knows pacman's databases and their signatures by their names.
func isDatabase(name string) bool {
	name = strings.TrimSuffix(name, ".sig")
	return strings.HasSuffix(name, ".db") || strings.HasSuffix(name, ".files") ||
		strings.Contains(name, ".db.tar") || strings.Contains(name, ".files.tar")
}

// aptType is the Target-Type that apt gives to a file of this name.
func aptType(name string) string {
	for _, ext := range []string{".deb", ".udeb", ".ddeb"} {
		if strings.HasSuffix(name, ext) {
			return "deb"
		}
	}
	return "index"
}

// debArch is the architecture in NAME_VERSION_ARCH.deb; "": there is none.
func debArch(name string) string {
	if aptType(name) != "deb" {
		return ""
	}
	name = name[:strings.LastIndexByte(name, '.')]
	return name[strings.LastIndexByte(name, '_')+1:]
}

// torrentPrefix marks, in apt's lists, a scheme that is handed to this program; the rest names what is really asked.
const torrentPrefix = "torrent+"

// location is a URL taken apart for comparison.
type location struct {
	origin string   // scheme://host[:port], lower case, without the default port
	raw    []string // path segments as escaped in the URL
	segs   []string // the same, unescaped
}

// locate takes apart the URL of a file; false: it is not one that could be elsewhere too.
func locate(u *url.URL) (location, bool) {
	var at location
	var err error
	plain := *u
	plain.Scheme = strings.TrimPrefix(strings.ToLower(u.Scheme), torrentPrefix)
	if at.origin, err = origin(&plain); err != nil {
		return at, false
	}
	path, ok := strings.CutPrefix(u.EscapedPath(), "/")
	if !ok {
		return at, false
	}
	at.raw = strings.Split(path, "/")
	for _, raw := range at.raw {
		seg, err := url.PathUnescape(raw)
		if err != nil || isDots(seg) {
			return at, false
		}
		at.segs = append(at.segs, seg)
	}
	return at, at.segs[len(at.segs)-1] != ""
}

// isDots tells whether some server could take the segment, or a part of it, for a step up the tree.
func isDots(seg string) bool {
	for part := range strings.SplitSeq(strings.ReplaceAll(seg, `\`, "/"), "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// origin is a URL's scheme and host in one form for all their spellings.
func origin(u *url.URL) (string, error) {
	scheme := strings.ToLower(u.Scheme)
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case u.Opaque != "":
		return "", errors.New("the URL has no path")
	case scheme == "file":
		if host != "" && host != "localhost" || port != "" {
			return "", errors.New("a file URL of another host")
		}
		return "file://", nil
	case scheme != "http" && scheme != "https":
		return "", fmt.Errorf("the scheme %.20q is not http, https or file", u.Scheme)
	case host == "":
		return "", errors.New("the URL has no host")
	case port != "" && port != map[string]string{"http": "80", "https": "443"}[scheme]:
		return scheme + "://" + net.JoinHostPort(host, port), nil
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return scheme + "://" + host, nil
}

func canonical(origin string, segs []string) string {
	var b strings.Builder
	b.WriteString(origin)
	for _, s := range segs {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// variables are the values of $repo and $arch; as a comparable set of names, "$" stands for a variable that occurs.
type variables struct{ repo, arch string }

func (v *variables) named(name string) *string {
	if name == "$repo" {
		return &v.repo
	}
	return &v.arch
}

// expand puts in the values that are known.
func (v variables) expand(s string) string {
	if v.repo != "" {
		s = strings.ReplaceAll(s, "$repo", v.repo)
	}
	if v.arch != "" {
		s = strings.ReplaceAll(s, "$arch", v.arch)
	}
	return s
}

// root is a Server's URL taken apart.
type root struct {
	origin string
	segs   []segment
}

// segment is one part of a root's path: literal text, or a variable with literal text around it.
type segment struct{ before, variable, after string }

// parseRoot refuses what cannot be the root of a repository. Its errors do not quote the URL.
func parseRoot(raw string) (root, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return root{}, errors.New("not a URL")
	}
	var r root
	if r.origin, err = origin(u); err != nil {
		return root{}, err
	}
	if u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#") {
		return root{}, errors.New("a query, fragment or trailing comment in the URL")
	}
	if strings.Contains(u.Host, "$") {
		return root{}, errors.New("a variable in the host name")
	}
	path := strings.TrimPrefix(strings.TrimRight(u.EscapedPath(), "/"), "/")
	if path == "" {
		return r, nil
	}
	for part := range strings.SplitSeq(path, "/") {
		s, err := parseSegment(part)
		if err != nil {
			return root{}, err
		}
		r.segs = append(r.segs, s)
	}
	return r, nil
}

func parseSegment(raw string) (segment, error) {
	var s segment
	for _, name := range []string{"$repo", "$arch"} {
		switch n := strings.Count(raw, name); {
		case n > 1 || n == 1 && s.variable != "":
			return s, errors.New("two variables in one path segment")
		case n == 1:
			s.variable = name
		}
	}
	before, after := raw, ""
	if s.variable != "" {
		before, after, _ = strings.Cut(raw, s.variable)
	}
	var err error
	if s.before, err = url.PathUnescape(before); err != nil {
		return s, errors.New("not a URL")
	}
	if s.after, err = url.PathUnescape(after); err != nil {
		return s, errors.New("not a URL")
	}
	if isDots(s.before + s.variable + s.after) {
		return s, errors.New(`"." or ".." in the path`)
	}
	return s, nil
}

func (r root) scheme() string {
	scheme, _, _ := strings.Cut(r.origin, ":")
	return scheme
}

// match tells whether the file lies below the root, and what the variables stand for then.
func (r root) match(file location) (variables, bool) {
	var v variables
	if r.origin != file.origin || len(r.segs) >= len(file.segs) {
		return v, false
	}
	for i, s := range r.segs {
		seg := file.segs[i]
		if s.variable == "" {
			if seg != s.before {
				return v, false
			}
			continue
		}
		rest, ok := strings.CutPrefix(seg, s.before)
		if !ok {
			return v, false
		}
		value, ok := strings.CutSuffix(rest, s.after)
		if !ok || !isName(value) {
			return v, false
		}
		known := v.named(s.variable)
		if *known != "" && *known != value {
			return v, false
		}
		*known = value
	}
	return v, true
}

// isName accepts what repositories and architectures are called; such a value needs no escaping in a URL.
func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("@._+-", c) >= 0:
		default:
			return false
		}
	}
	return strings.Trim(s, ".") != ""
}

// closer tells whether r, which matches as well, says more about the file than other does.
func (r root) closer(other root) bool {
	if len(r.segs) != len(other.segs) {
		return len(r.segs) > len(other.segs)
	}
	return r.literals() > other.literals()
}

func (r root) literals() int {
	n := 0
	for _, s := range r.segs {
		if s.variable == "" {
			n++
		}
	}
	return n
}

func (r root) variables() variables {
	var v variables
	for _, s := range r.segs {
		if s.variable != "" {
			*v.named(s.variable) = "$"
		}
	}
	return v
}
