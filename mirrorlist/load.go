package mirrorlist

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what is read.
const (
	maxFile  = 4 << 20  // bytes of one file, unpacked
	maxLine  = 8 << 10  // bytes of one line
	maxBytes = 16 << 20 // bytes of a file and all that it includes
	maxFiles = 1000     // a file and all that it includes
)

// Load reads a file and finds out by itself what it is: pacman.conf, a pacman mirrorlist, apt's sources.list, a deb822
// .sources file, an apt mirror list, or a plain list of URLs, each possibly packed with gzip.
//
// Entries that cannot be used become [List.Warnings]; a list without a single usable one is an error that wraps
// [ErrNoServers]. Files over 4 MiB, lines over 8 KiB and control characters outside comments are refused.
func Load(path string, opts Options) (*List, error) {
	p := newParser(opts)
	lines, err := p.readFile(path)
	if err != nil {
		return nil, err
	}
	switch detect(path, lines) {
	case pacmanConf:
		err = p.pacmanConf(path, lines)
	case pacmanMirrorlist:
		err = p.pacmanMirrorlist(path, lines)
	case aptSourcesList:
		p.sourcesList(path, lines)
	case aptDeb822:
		err = p.deb822(path, lines)
	case urls:
		p.add("", p.urls(path, lines))
	}
	if err != nil {
		return nil, err
	}
	return p.result(path)
}

type format int

const (
	urls format = iota // a plain list, or an apt mirror list, which is one with remarks
	pacmanConf
	pacmanMirrorlist
	aptSourcesList
	aptDeb822
)

var (
	isSection = regexp.MustCompile(`^\[.*\]$`)
	isServer  = regexp.MustCompile(`^(Server|CacheServer|Include)\s*=`)
	isEntry   = regexp.MustCompile(`^deb(-src)?\s`)
	isStanza  = regexp.MustCompile(`(?i)^URIs\s*:`)
)

// detect tells a list's format from its lines, and from its name only where lines cannot tell.
func detect(name string, lines []string) format {
	if strings.HasSuffix(strings.TrimSuffix(name, ".gz"), ".sources") {
		return aptDeb822
	}
	found := urls
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		switch {
		case isSection.MatchString(line) && (found == urls || found == pacmanMirrorlist):
			return pacmanConf
		case found != urls:
		case isServer.MatchString(line):
			found = pacmanMirrorlist
		case isEntry.MatchString(line):
			found = aptSourcesList
		case isStanza.MatchString(line):
			found = aptDeb822
		}
	}
	return found
}

// place is where in a list something stands.
type place struct {
	name string // of the file; "": the caller's reader
	line int    // from 0; -1: unknown
}

func (at place) String() string {
	name := at.name
	if strings.ContainsFunc(name, unicode.IsControl) {
		name = strconv.Quote(name)
	}
	switch {
	case at.line < 0:
		return name
	case name == "":
		return fmt.Sprintf("line %d", at.line+1)
	}
	return fmt.Sprintf("%s:%d", name, at.line+1)
}

// readFile opens a file and returns its lines.
func (p *parser) readFile(name string) ([]string, error) {
	if p.files++; p.files > maxFiles {
		return nil, fmt.Errorf("more than %d files included", maxFiles)
	}
	var f fs.File
	var err error
	if p.opts.FS != nil {
		f, err = p.opts.FS.Open(inside(name))
	} else {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return p.readLines(name, f)
}

// inside is the name of a file of the machine in an fs.FS that stands for its root.
func inside(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// readLines reads all, within bounds. Lines come without their ends.
func (p *parser) readLines(name string, r io.Reader) ([]string, error) {
	data, err := readBounded(r)
	if err == nil && bytes.HasPrefix(data, []byte("\x1f\x8b")) {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = readBounded(z)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading mirror list %s: %w", name, err)
	}
	if p.bytes += len(data); p.bytes > maxBytes {
		return nil, fmt.Errorf("mirror list %s: more than %d bytes with all included files", name, maxBytes)
	}
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSuffix(line, "\r")
		if len(line) > maxLine {
			return nil, fmt.Errorf("%v: line longer than %d bytes", place{name, i}, maxLine)
		}
		if !isComment(line) && strings.ContainsFunc(lines[i], isForbidden) {
			return nil, fmt.Errorf("%v: control character in the line", place{name, i})
		}
	}
	return lines, nil
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}

func isComment(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") }

func isForbidden(r rune) bool { return unicode.IsControl(r) && r != '\t' }
