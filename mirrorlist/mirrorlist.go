// Package mirrorlist knows which other URLs hold the same bytes as a given one.
//
// It reads the lists that package managers keep (pacman.conf and its mirrorlists, apt's sources.list, .sources and
// mirror lists) and plain lists of URLs, and answers one question: [List.Alternates].
//
// The package is pure: it reads no environment, runs no programs and opens no sockets. It opens the files that it is
// told to read, and those that they name (Include of pacman.conf, mirror+file of apt).
package mirrorlist

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoServers says that a list was read but names no server that can be used. The error that wraps it tells how the
// first unusable one was wrong, if there was one.
var ErrNoServers = errors.New("names no usable server")

// A List is a set of repositories. The zero value knows none. A List is not changed by its methods.
type List struct {
	Repositories []Repository
	// Warnings are entries that were left out, each with its file and line and the reason; no URLs and so no
	// passwords, no control characters. Of one file at most 65, the last of which says that there were more.
	Warnings []string
}

// A Repository is one tree of files, and the servers that hold it.
type Repository struct {
	// Name is for people: pacman's name of the repository, or the first URI of an apt entry; "": it has none.
	Name string
	// Servers hold the same bytes, best first.
	Servers []Server
}

// A Server is the root of a repository on one server.
type Server struct {
	// URL is http, https or file, without trailing slash. In its path $repo and $arch stand for one name each (a whole
	// path segment or a part of one), as in pacman's mirrorlist; a match gives them their values.
	URL string
	// Priority is what an apt mirror list says, where lower is better; 0: it says 0 or nothing. [Repository.Servers]
	// are in order already.
	Priority int
	// Cache marks a CacheServer of pacman.conf(5): it has packages and their signatures, no databases.
	Cache bool
	// Types and Archs limit the server to some files, as an apt mirror list's type: and arch: do. nil: no limit.
	// Known types are "deb" and "index"; an architecture is that in a .deb file's name.
	Types, Archs []string
}

// Options say how lists are to be read. The zero value reads the machine's own files.
type Options struct {
	// Arch is what "Architecture = auto" (or none at all) in a pacman.conf stands for; "": the machine's, as uname -m
	// says it. If it is set, it replaces $arch in a bare mirrorlist too; else $arch is taken from the URL in question.
	Arch string
	// Repo replaces $repo in a bare mirrorlist; "": $repo is taken from the URL in question. pacman.conf has its own names.
	Repo string
	// FS holds the files: absolute and relative paths are looked up from its root. nil: the machine's files, relative
	// paths (and those of Include, as pacman does it) from the working directory.
	FS fs.FS
}

// Merge joins lists in the given order, which decides between repositories that know a URL equally well. Repositories
// stay apart even where their names are the same. nil lists are skipped.
func Merge(lists ...*List) *List {
	all := &List{}
	for _, l := range lists {
		if l == nil {
			continue
		}
		all.Repositories = append(all.Repositories, l.Repositories...)
		all.Warnings = append(all.Warnings, l.Warnings...)
	}
	return all
}

// maxWarnings bounds what a file of rubbish can make us say.
const maxWarnings = 64

// parser collects what one Load or Parse call finds.
type parser struct {
	opts  Options
	list  List
	files int             // opened so far
	bytes int             // read so far
	seen  map[string]bool // the repositories of apt's entries, by their servers
}

func newParser(opts Options) *parser { return &parser{opts: opts, seen: map[string]bool{}} }

func (p *parser) warn(at place, format string, args ...any) {
	switch n := len(p.list.Warnings); {
	case n < maxWarnings:
		p.list.Warnings = append(p.list.Warnings, at.String()+": "+fmt.Sprintf(format, args...))
	case n == maxWarnings:
		p.list.Warnings = append(p.list.Warnings, "more entries were left out")
	}
}

// server makes a Server of a URL as a list has it; false: it was left out, with a warning.
func (p *parser) server(at place, raw string, allowFile bool) (Server, bool) {
	raw = strings.TrimRight(raw, "/")
	if len(raw) > len(torrentPrefix) && strings.EqualFold(raw[:len(torrentPrefix)], torrentPrefix) {
		raw = raw[len(torrentPrefix):]
	}
	r, err := parseRoot(raw)
	if err == nil && r.scheme() == "file" && !allowFile {
		err = errors.New("a file URL has no place in this list")
	}
	if err != nil {
		p.warn(at, "%v", err)
		return Server{}, false
	}
	return Server{URL: raw}, true
}

func (p *parser) add(name string, servers []Server) {
	if len(servers) > 0 {
		p.list.Repositories = append(p.list.Repositories, Repository{Name: name, Servers: servers})
	}
}

// result is the list; what names the list that was read.
func (p *parser) result(what string) (*List, error) {
	if len(p.list.Repositories) > 0 {
		return &p.list, nil
	}
	if len(p.list.Warnings) > 0 {
		return nil, fmt.Errorf("%s %w (%s)", what, ErrNoServers, p.list.Warnings[0])
	}
	return nil, fmt.Errorf("%s %w", what, ErrNoServers)
}

// arch is what "Architecture = auto" stands for.
func (o Options) arch() (string, error) {
	if o.Arch != "" {
		return o.Arch, nil
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(name.Machine[:]), nil
}
