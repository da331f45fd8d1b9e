package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"torrent-xfer/mirrorlist"
)

const aptConfigTime = 2 * time.Second

// aptConfig is apt's configuration as apt-config(8) dumps it, by lower-case name; lists are joined with line feeds.
type aptConfig map[string]string

var aptLine = regexp.MustCompile(`^([^ "]+) "(.*)";$`)

func parseAptConfig(dump string) aptConfig {
	c := aptConfig{}
	for line := range strings.Lines(dump) {
		m := aptLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		key := strings.ToLower(m[1])
		if list, ok := strings.CutSuffix(key, "::"); ok {
			c[list] = strings.TrimPrefix(c[list]+"\n"+m[2], "\n")
		} else {
			c[key] = m[2]
		}
	}
	return c
}

// path is a file or directory of apt's tree.
func (c aptConfig) path(key string) string {
	key = strings.ToLower(key)
	path := c[key]
	for !filepath.IsAbs(path) {
		i := strings.LastIndex(key, "::")
		if i < 0 {
			break
		}
		key = key[:i]
		path = filepath.Join(c[key], path)
	}
	return path
}

// apt checks apt's side. Without apt there is nothing to be checked.
func (f *findings) apt(env Env) {
	program, err := findProgram(env, "apt-config")
	if err != nil {
		f.note("apt is not installed here")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), aptConfigTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "dump")
	cmd.Env, cmd.Dir, cmd.WaitDelay = append(slices.Clone(env.Environ), "LC_ALL=C"), "/", time.Second
	dump, err := cmd.Output()
	if err != nil {
		f.bad("apt: apt-config dump: %v", err)
		return
	}
	c := parseAptConfig(string(dump))
	f.aptMethods(env, c, f.aptSources(c))
	if name := c["apt::sandbox::user"]; name == "" || name == "root" {
		f.note("apt: APT::Sandbox::User is not set, so its downloads run as root")
	} else if _, err := user.Lookup(name); err != nil {
		f.bad("apt: there is no user %s, which APT::Sandbox::User names", name)
	}
	if list := c["acquire::torrent::mirrors"]; list != "" {
		l, err := mirrorlist.ParseURLs(strings.NewReader(list), mirrorlist.Options{})
		if err != nil {
			f.bad("apt: Acquire::torrent::Mirrors: %v", err)
		} else {
			f.ok("apt: Acquire::torrent::Mirrors names %s", plural(len(l.Repositories[0].Servers), "server"))
			for _, w := range l.Warnings {
				f.note("apt: Acquire::torrent::Mirrors: %s", w)
			}
		}
	}
	for _, name := range []string{"http", "torrent", "torrent+http"} {
		if c["acquire::"+name+"::pipeline-depth"] == "0" {
			f.note("apt: Acquire::%s::Pipeline-Depth is 0, so each small package costs a round trip", name)
		}
	}
}

var torrentSource = regexp.MustCompile(`torrent\+(https?|mirror\+[a-z]+):`)

// aptSources lists the methods that apt's sources ask for, and checks the mirror lists that they name.
func (f *findings) aptSources(c aptConfig) (methods []string) {
	files := []string{c.path("Dir::Etc::sourcelist")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, _ := filepath.Glob(filepath.Join(c.path("Dir::Etc::sourceparts"), pattern))
		files = append(files, more...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		found := false
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			for _, m := range torrentSource.FindAllString(line, -1) {
				found = true
				if m = strings.TrimSuffix(m, ":"); !slices.Contains(methods, m) {
					methods = append(methods, m)
				}
			}
		}
		if !found {
			continue
		}
		l, err := mirrorlist.Load(file, mirrorlist.Options{})
		if err != nil {
			f.bad("apt: %s: %v", file, err)
			continue
		}
		for _, w := range l.Warnings {
			f.note("apt: %s", w)
		}
		for _, r := range l.Repositories {
			f.ok("apt: %s: %s", r.Name, plural(len(r.Servers), "server"))
		}
	}
	return methods
}

// aptMethods checks that apt finds this program under the names that are needed.
func (f *findings) aptMethods(env Env, c aptConfig, needed []string) {
	dir := c.path("Dir::Bin::methods")
	found := 0
	for _, name := range []string{"torrent+http", "torrent+https", "http", "https"} {
		path := c["dir::bin::methods::"+name]
		if path == "" {
			path = filepath.Join(dir, name)
		}
		info, err := os.Stat(path)
		needs := slices.Contains(needed, name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !needs:
		case err != nil && (needs || strings.HasPrefix(name, "torrent")):
			f.bad("apt: the method %s cannot be run: %v", name, err)
		case err != nil:
		case info.Mode()&0o111 == 0:
			f.bad("apt: the method %s cannot be run: %s is not executable", name, path)
		default:
			real, _ := filepath.EvalSymlinks(path)
			mine, _ := filepath.EvalSymlinks(env.Executable)
			switch {
			case real == mine && mine != "" || filepath.Base(real) == "torrent-xfer":
				found++
				f.ok("apt: the method %s is %s", name, real)
			case strings.HasPrefix(name, "torrent"):
				f.bad("apt: the method %s is another program, %s", name, real)
			}
		}
	}
	for _, name := range needed {
		if kind, ok := strings.CutPrefix(name, "torrent+mirror+"); ok {
			for _, m := range []string{name, "torrent+" + kind} {
				if _, err := os.Stat(filepath.Join(dir, m)); err != nil && c["dir::bin::methods::"+m] == "" {
					f.bad("apt: a source says %s:, but there is no method %s", name, m)
				}
			}
		}
	}
	if found == 0 {
		f.note("apt: no method of it is this program")
	} else if len(needed) == 0 {
		f.note("apt: no source says torrent+http: or torrent+https: yet")
	}
}
