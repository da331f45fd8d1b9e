package mirrorlist

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxDepth is how deep Include may go (process_include in pacman's src/pacman/conf.c).
const maxDepth = 10

// ParseMirrorlist reads a pacman mirrorlist: Server lines outside any section, usually with $repo and $arch in them.
// All are one repository for each value of the two. Include is followed through opts.
func ParseMirrorlist(r io.Reader, opts Options) (*List, error) {
	p := newParser(opts)
	lines, err := p.readLines("", r)
	if err != nil {
		return nil, err
	}
	if err := p.pacmanMirrorlist("", lines); err != nil {
		return nil, err
	}
	return p.result("the mirrorlist")
}

// FromPacmanConf asks pacman-conf(8), which run executes with the given arguments and whose standard output it returns.
// It asks one thing at a time. pacman-conf before 6.1 fails when asked for CacheServer: then there is none.
func FromPacmanConf(run func(args ...string) ([]byte, error)) (*List, error) {
	p := newParser(Options{})
	ask := func(args ...string) ([]string, error) {
		out, err := run(args...)
		if err != nil {
			return nil, fmt.Errorf("pacman-conf %s: %w", strings.Join(args, " "), err)
		}
		lines, err := p.readLines("pacman-conf", strings.NewReader(string(out)))
		return slices.DeleteFunc(lines, func(s string) bool { return s == "" }), err
	}
	names, err := ask("--repo-list")
	if err != nil {
		return nil, err
	}
	knowsCaches := true
	var asked []string
	for _, name := range names {
		// pacman refuses to work with a repository that is configured twice; pacman-conf lists it twice.
		if slices.Contains(asked, name) {
			continue
		}
		asked = append(asked, name)
		repo := pacmanRepo{name: name}
		urls, err := ask("-r", name, "Server")
		if err != nil {
			return nil, err
		}
		for _, u := range urls {
			repo.servers = append(repo.servers, pacmanServer{url: u, at: place{"pacman-conf", -1}})
		}
		if knowsCaches {
			urls, err = ask("-r", name, "CacheServer")
			knowsCaches = err == nil
			for _, u := range urls {
				repo.servers = append(repo.servers, pacmanServer{url: u, cache: true, at: place{"pacman-conf", -1}})
			}
		}
		p.addPacman(repo, variables{repo: name})
	}
	return p.result("pacman-conf")
}

// pacmanState is what pacman's parser carries from line to line, into included files and back out of them: after an
// Include the section is the last one that the included file opened.
type pacmanState struct {
	repos []pacmanRepo
	inRepo,
	inOptions bool // neither: no section yet
	bare  bool // a mirrorlist: one nameless repository and no sections
	arch  string
	depth int
}

type pacmanRepo struct {
	name    string
	servers []pacmanServer
}

type pacmanServer struct {
	url   string
	cache bool
	at    place
}

func (p *parser) pacmanConf(name string, lines []string) error {
	var s pacmanState
	if err := p.ini(&s, name, lines); err != nil {
		return err
	}
	if s.arch == "" || s.arch == "auto" {
		var err error
		if s.arch, err = p.opts.arch(); err != nil {
			return err
		}
	}
	for _, repo := range s.repos {
		p.addPacman(repo, variables{repo: repo.name, arch: s.arch})
	}
	return nil
}

func (p *parser) pacmanMirrorlist(name string, lines []string) error {
	s := pacmanState{repos: []pacmanRepo{{name: p.opts.Repo}}, inRepo: true, bare: true}
	if err := p.ini(&s, name, lines); err != nil {
		return err
	}
	p.addPacman(s.repos[0], variables{repo: p.opts.Repo, arch: p.opts.Arch})
	return nil
}

// addPacman puts the known variables into a repository's servers. Caches come first: pacman asks them first.
func (p *parser) addPacman(repo pacmanRepo, known variables) {
	var caches, servers []Server
	for _, s := range repo.servers {
		server, ok := p.server(s.at, known.expand(s.url), true)
		switch {
		case ok && s.cache:
			server.Cache = true
			caches = append(caches, server)
		case ok:
			servers = append(servers, server)
		}
	}
	p.add(repo.name, append(caches, servers...))
}

// ini reads lines as pacman's src/common/ini.c does: "#" makes a comment only at the start of a line, key and value part
// at the first "=".
func (p *parser) ini(s *pacmanState, name string, lines []string) error {
	for i, line := range lines {
		at := place{name, i}
		line = strings.Trim(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' && line[len(line)-1] == ']' {
			if err := s.open(line[1 : len(line)-1]); err != nil {
				return fmt.Errorf("%v: %w", at, err)
			}
			continue
		}
		key, value, hasValue := strings.Cut(line, "=")
		key, value = strings.TrimRight(key, " \t"), strings.TrimLeft(value, " \t")
		if !hasValue && takesValue(key) {
			return fmt.Errorf("%v: %s needs a value", at, key)
		}
		if err := p.directive(s, at, key, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *pacmanState) open(section string) error {
	switch {
	case s.bare:
		return errors.New("a section in a mirrorlist")
	case section == "":
		return errors.New("a section without a name")
	}
	s.inOptions = section == "options"
	s.inRepo = !s.inOptions
	if s.inRepo {
		s.repos = append(s.repos, pacmanRepo{name: section})
	}
	return nil
}

func (p *parser) directive(s *pacmanState, at place, key, value string) error {
	switch {
	case key == "Include":
		return p.include(s, at, value)
	case !s.inRepo && !s.inOptions:
		return fmt.Errorf("%v: a directive outside of all sections", at)
	case key == "Architecture" && s.inOptions:
		if s.arch == "" {
			s.arch, _ = cutField(value)
		}
	case (key == "Server" || key == "CacheServer") && s.inRepo:
		repo := &s.repos[len(s.repos)-1]
		repo.servers = append(repo.servers, pacmanServer{url: value, cache: key == "CacheServer", at: at})
	case takesValue(key):
		p.warn(at, "%s has no place in this section", key)
	}
	return nil
}

// takesValue tells which directives of interest are an error without "=".
func takesValue(key string) bool {
	return key == "Include" || key == "Server" || key == "CacheServer" || key == "Architecture"
}

func (p *parser) include(s *pacmanState, at place, pattern string) error {
	if s.depth >= maxDepth {
		return fmt.Errorf("%v: Include goes deeper than %d files", at, maxDepth)
	}
	s.depth++
	defer func() { s.depth-- }()
	for _, name := range p.glob(pattern) {
		lines, err := p.readFile(name)
		if err != nil {
			return fmt.Errorf("%v: Include: %w", at, err)
		}
		if err := p.ini(s, name, lines); err != nil {
			return err
		}
	}
	return nil
}

// glob expands a pattern as glob(3) does with GLOB_NOCHECK: without a match the pattern is the name.
func (p *parser) glob(pattern string) []string {
	// glob(3) negates a class with "!", Go with "^".
	goPattern := strings.ReplaceAll(pattern, "[!", "[^")
	var names []string
	var err error
	if p.opts.FS != nil {
		names, err = fs.Glob(p.opts.FS, inside(goPattern))
		for i, name := range names {
			if path.IsAbs(pattern) {
				names[i] = "/" + name
			}
		}
	} else {
		names, err = filepath.Glob(goPattern)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return matchesHidden(pattern, name) })
	if err != nil || len(names) == 0 {
		return []string{pattern}
	}
	return names
}

// matchesHidden tells whether a wildcard of the pattern stands for a leading dot, which glob(3) does not allow.
func matchesHidden(pattern, name string) bool {
	want, have := strings.Split(path.Clean(pattern), "/"), strings.Split(path.Clean(name), "/")
	for n := 1; n <= min(len(want), len(have)); n++ {
		w, h := want[len(want)-n], have[len(have)-n]
		if strings.HasPrefix(h, ".") && strings.IndexAny(w, "*?[") == 0 {
			return true
		}
	}
	return false
}
