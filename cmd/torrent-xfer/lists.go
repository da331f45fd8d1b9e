package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"torrent-xfer/mirrorlist"
)

const (
	pacmanConfFile = "/etc/pacman.conf"
	pacmanConfTime = 2 * time.Second
)

// mirrorsOf returns the other http and https URLs of u's file, best first, and its repository as mirrorlist knows it.
// A list that is broken costs a line of warning and nothing else.
func mirrorsOf(env Env, s settings, from caller, u *url.URL) (mirrors []*url.URL, repository string, err error) {
	named, err := namedMirrors(s.mirrors, u)
	if err != nil || u.Scheme == "file" {
		return nil, "", err
	}
	var warnings []string
	var found []*url.URL
	if !s.noMirrors {
		if len(s.mirrorLists) > 0 {
			found, repository, warnings = namedLists(env, s.mirrorLists, u)
		} else {
			found, repository, warnings = systemLists(env, from, u)
		}
	}
	seen := map[string]bool{u.String(): true}
	for _, w := range warnings {
		if !s.quiet {
			warn(env.Stderr, "%s", w)
		}
	}
	for _, m := range append(named, found...) {
		if key := m.String(); (m.Scheme == "http" || m.Scheme == "https") && !seen[key] {
			seen[key] = true
			mirrors = append(mirrors, m)
		}
	}
	return mirrors, repository, nil
}

// namedMirrors reads --mirror.
func namedMirrors(list []string, u *url.URL) (mirrors []*url.URL, err error) {
	for _, text := range list {
		m, err := url.Parse(text)
		if err != nil || m.Host == "" || m.Scheme != "http" && m.Scheme != "https" {
			if strings.Contains(text, "@") {
				text = "this one" // it may hold a password
			}
			return nil, usageError("--mirror: not an http or https URL: %s", text)
		}
		if strings.HasSuffix(m.EscapedPath(), "/") {
			m = m.JoinPath("./" + lastSegment(u))
		}
		mirrors = append(mirrors, m)
	}
	return mirrors, nil
}

// lastSegment is the escaped name of u's file.
func lastSegment(u *url.URL) string {
	path := u.EscapedPath()
	return path[strings.LastIndexByte(path, '/')+1:]
}

func namedLists(env Env, files []string, u *url.URL) (mirrors []*url.URL, repository string, warnings []string) {
	var lists []*mirrorlist.List
	for _, f := range files {
		l, err := mirrorlist.Load(env.path(f), mirrorlist.Options{})
		if err != nil {
			warnings = append(warnings, "mirror list is left out: "+err.Error())
			continue
		}
		if n := len(l.Warnings); n > 1 {
			warnings = append(warnings, fmt.Sprintf("%s (and %d more)", l.Warnings[0], n-1))
		} else {
			warnings = append(warnings, l.Warnings...)
		}
		lists = append(lists, l)
	}
	mirrors, repository = mirrorlist.Merge(lists...).Alternates(u)
	return mirrors, repository, warnings
}

// systemLists asks pacman's and apt's own lists.
func systemLists(env Env, from caller, u *url.URL) (mirrors []*url.URL, repository string, warnings []string) {
	conf, _ := from.pacmanOptions()
	if conf == "" {
		conf = pacmanConfFile
	}
	if mirrors, repository, err := pacmanLists(env, conf, u); err != nil {
		warnings = append(warnings, "pacman's mirrors are left out: "+err.Error())
	} else if repository != "" {
		return mirrors, repository, nil
	}
	files := []string{"/etc/apt/sources.list"}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, _ := filepath.Glob("/etc/apt/sources.list.d/" + pattern)
		files = append(files, more...)
	}
	var lists []*mirrorlist.List
	for _, f := range files {
		l, err := loadIfThere(f)
		if err != nil {
			warnings = append(warnings, "apt's mirrors are left out: "+err.Error())
		}
		lists = append(lists, l)
	}
	mirrors, repository = mirrorlist.Merge(lists...).Alternates(u)
	return mirrors, repository, warnings
}

// loadIfThere reads one of the system's lists. One that is not there, not for us, or empty is nil without an error.
func loadIfThere(file string) (*mirrorlist.List, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, nil
	}
	l, err := mirrorlist.Load(file, mirrorlist.Options{})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, mirrorlist.ErrNoServers) {
		return nil, nil
	}
	return l, err
}

// pacmanLists looks u up in a pacman.conf. If u lies under one of its servers, pacman-conf is asked for that repository:
// it knows better.
func pacmanLists(env Env, conf string, u *url.URL) (mirrors []*url.URL, repository string, err error) {
	l, err := loadIfThere(conf)
	if err != nil {
		return nil, "", err
	}
	mirrors, repository = l.Alternates(u)
	if repository == "" {
		return nil, "", nil
	}
	name := ""
	for _, r := range l.Repositories {
		if _, key := (&mirrorlist.List{Repositories: []mirrorlist.Repository{r}}).Alternates(u); key == repository {
			name = r.Name
			break
		}
	}
	if asked, err := askPacmanConf(env, conf, name); err == nil {
		if m, r := asked.Alternates(u); r != "" {
			return m, r, nil
		}
	}
	return mirrors, repository, nil
}

// askPacmanConf asks for one repository: the others would cost two processes each. Both questions are asked at once.
func askPacmanConf(env Env, conf, repository string) (*mirrorlist.List, error) {
	program, err := findProgram(env, "pacman-conf")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pacmanConfTime)
	defer cancel()
	type answer struct {
		out []byte
		err error
	}
	answers := map[string]chan answer{"Server": make(chan answer, 1), "CacheServer": make(chan answer, 1)}
	for what, ch := range answers {
		go func() {
			out, err := runPacman(ctx, env, program, "--config", conf, "-r", repository, what)
			ch <- answer{out, err}
		}()
	}
	return mirrorlist.FromPacmanConf(func(args ...string) ([]byte, error) {
		if args[0] == "--repo-list" {
			return []byte(repository + "\n"), nil
		}
		a := <-answers[args[len(args)-1]]
		return a.out, a.err
	})
}

// runPacman runs pacman or a program of its kin, and returns its standard output.
func runPacman(ctx context.Context, env Env, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = append(slices.Clone(env.Environ), "LC_ALL=C"), "/", time.Second
	return cmd.Output()
}

// findProgram looks a program up in PATH. Names that are not absolute there are left out: the directory that we run in
// may be anybody's.
func findProgram(env Env, name string) (string, error) {
	for _, dir := range filepath.SplitList(env.get("PATH")) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
