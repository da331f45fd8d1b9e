package aptmethod

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"torrent-xfer/mirrorlist"
)

const maxMirrorList = 1 << 20 // bytes, unpacked

// neighbors knows where else the files of a repository are: from the mirror list that apt has it from, from
// Acquire::torrent::Mirrors, and from the URIs that stand in one stanza of a deb822 file.
type neighbors struct {
	own     bool   // the method has a name of its own
	lists   string // Dir::State::lists
	asked   *mirrorlist.List
	sources *mirrorlist.List
	files   map[string][]byte // mirror lists by path; nil: not to be read
}

// load reads what there is. It has to be done before the process confines itself.
func (n *neighbors) load(c *Config) {
	n.own = c.names[0] != "http" && c.names[0] != "https"
	n.lists = c.Directory("Dir::State::lists")
	n.files = map[string][]byte{}
	if l := c.List("Acquire::" + ownScheme + "::Mirrors"); len(l) > 0 {
		n.asked, _ = mirrorlist.ParseURLs(strings.NewReader(strings.Join(l, "\n")), mirrorlist.Options{})
	}
	files := []string{c.Directory("Dir::Etc::sourcelist")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, _ := filepath.Glob(filepath.Join(c.Directory("Dir::Etc::sourceparts"), pattern))
		files = append(files, more...)
	}
	var lists []*mirrorlist.List
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if l, err := mirrorlist.Load(f, mirrorlist.Options{}); err == nil {
			lists = append(lists, l)
		}
	}
	n.sources = mirrorlist.Merge(lists...)
}

// of lists the other URLs of an item's file, and where its repository begins.
func (n *neighbors) of(it *item, u *url.URL) (mirrors []*url.URL, repository string) {
	lists := []*mirrorlist.List{n.asked, n.sources}
	if path := n.listPath(it.message.get("Target-Repo-URI")); path != "" {
		lists = slices.Insert(lists, 0, n.filtered(path, it.message))
	}
	for _, l := range lists {
		m, r := l.Alternates(u)
		if repository == "" {
			repository = r
		}
		if len(m) > 0 {
			return slices.DeleteFunc(m, func(o *url.URL) bool {
				return o.Scheme != "http" && o.Scheme != "https" || u.Scheme == "https" && o.Scheme == "http"
			}), repository
		}
	}
	return nil, repository
}

// listPath is where the mirror list lies that a repository's URI stands for: named by mirror+file, or fetched by apt for
// mirror+http and the like. "": it stands for none.
func (n *neighbors) listPath(repo string) string {
	scheme, rest, ok := strings.Cut(repo, ":")
	scheme = strings.TrimPrefix(scheme, ownScheme+"+")
	kind, ok2 := strings.CutPrefix(scheme, "mirror")
	if !ok || !ok2 || kind != "" && kind[0] != '+' {
		return ""
	}
	rest = strings.TrimRight(rest, "/")
	if kind == "+file" {
		path := unquote(rest)
		if after, ok := strings.CutPrefix(path, "//"); ok {
			path = "/" + strings.TrimLeft(after, "/")
		}
		if !filepath.IsAbs(path) {
			return ""
		}
		return path
	}
	name := strings.TrimPrefix(rest, "//")
	if login, host, ok := strings.Cut(name, "@"); ok && !strings.Contains(login, "/") {
		name = host
	}
	return filepath.Join(n.lists, "auxfiles", strings.ReplaceAll(quote(name, `\|{}[]<>"^~_=!@#$%^&*`), "/", "_"))
}

// filtered is the part of a mirror list that is meant for files like the one asked for (apt-transport-mirror(1)).
func (n *neighbors) filtered(path string, target *message) *mirrorlist.List {
	text, known := n.files[path]
	if !known {
		text = readList(path)
		n.files[path] = text
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || !meantFor(fields[1:], target) {
			continue
		}
		kept := fields[:1]
		for _, tag := range fields[1:] {
			if strings.HasPrefix(tag, "priority:") {
				kept = append(kept, tag)
			}
		}
		lines = append(lines, strings.Join(kept, " "))
	}
	l, err := mirrorlist.ParseURLs(strings.NewReader(strings.Join(lines, "\n")), mirrorlist.Options{})
	if err != nil {
		return nil
	}
	return l
}

// tagFields are the fields of a 600 that the tags of a mirror list limit it to.
var tagFields = map[string][]string{
	"arch": {"Target-Architecture"}, "codename": {"Target-Codename", "Target-Release"}, "component": {"Target-Component"},
	"lang": {"Target-Language"}, "suite": {"Target-Suite", "Target-Release"}, "type": {"Target-Type"},
}

// meantFor reports whether no kind of tag is there without naming what the target is. What apt does not say of the target
// is not limited.
func meantFor(tags []string, target *message) bool {
	named, fits := map[string]bool{}, map[string]bool{}
	for _, tag := range tags {
		key, value, _ := strings.Cut(tag, ":")
		fields := tagFields[key]
		known := false
		for _, f := range fields {
			v := target.get(f)
			known = known || v != ""
			fits[key] = fits[key] || v == value && v != ""
		}
		named[key] = named[key] || known
	}
	for key := range named {
		if named[key] && !fits[key] {
			return false
		}
	}
	return true
}

func readList(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMirrorList))
	if err == nil && bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = io.ReadAll(io.LimitReader(z, maxMirrorList))
		}
	}
	if err != nil {
		return nil
	}
	return data
}

// reads lists the files outside of apt's directories that may be read later.
func (n *neighbors) reads(c *Config, first *item) (paths []string) {
	paths = c.certificates()
	if path := n.listPath(first.message.get("Target-Repo-URI")); path != "" {
		n.filtered(path, first.message)
		paths = append(paths, path)
	}
	return paths
}
