package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// caller is the process that called us, as /proc tells it. The zero value is one of which nothing is known.
type caller struct {
	name string   // its comm
	args []string // without its own name
	dir  string   // "": not to be seen by us
}

func readCaller(pid int) (c caller) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	name, err := os.ReadFile(proc + "comm")
	if err != nil {
		return c
	}
	c.name = strings.TrimSuffix(string(name), "\n")
	if !c.isPacman() {
		return c
	}
	if line, err := os.ReadFile(proc + "cmdline"); err == nil {
		for _, a := range bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
			c.args = append(c.args, string(a))
		}
		c.args = c.args[1:]
	}
	c.dir, _ = os.Readlink(proc + "cwd")
	return c
}

func (c caller) isPacman() bool { return c.name == "pacman" }

// pacmanOptions reads pacman's command line as getopt_long does (parseargs in pacman's src/pacman/pacman.c): the
// configuration file, "" if none is named, and whether databases are to be fetched even if they are up to date.
func (c caller) pacmanOptions() (config string, force bool) {
	refresh := 0
	for i := 0; i < len(c.args); i++ {
		a := c.args[i]
		if a == "--" {
			break
		}
		if name, ok := strings.CutPrefix(a, "--"); ok {
			name, value, joined := strings.Cut(name, "=")
			switch {
			case len(name) > 2 && strings.HasPrefix("refresh", name):
				refresh++
			case !joined && longWithValue[name]:
				if i++; i < len(c.args) {
					value = c.args[i]
				}
			}
			if name == "config" {
				config = value
			}
			continue
		}
		if len(a) < 2 || a[0] != '-' {
			continue
		}
		for j, letter := range a[1:] {
			if letter == 'y' {
				refresh++
			}
			if letter == 'b' || letter == 'r' { // --dbpath, --root
				if j+2 == len(a) {
					i++
				}
				break
			}
		}
	}
	if config != "" && !filepath.IsAbs(config) {
		if c.dir == "" {
			config = ""
		} else {
			config = filepath.Join(c.dir, config)
		}
	}
	return config, refresh > 1
}

// longWithValue are pacman's long options whose value is the next argument.
var longWithValue = map[string]bool{"arch": true, "assume-installed": true, "cachedir": true, "color": true, "config": true,
	"dbpath": true, "gpgdir": true, "hookdir": true, "ignore": true, "ignoregroup": true, "logfile": true,
	"overwrite": true, "print-format": true, "root": true, "sysroot": true, "ask": true}

var downloadDir = regexp.MustCompile(`^download-[A-Za-z0-9]{6}$`)

// oldDatabase is where the version of a database lies that pacman has: where dest is going to be renamed to, or one
// directory above if dest is in pacman 7's own directory for downloads. "": dest is not as pacman names it, and what lies
// beside it may be anything.
func oldDatabase(dest, name string) string {
	dir, base := filepath.Split(dest)
	switch {
	case base != name+".part":
		return ""
	case downloadDir.MatchString(filepath.Base(dir)):
		return filepath.Join(filepath.Dir(filepath.Clean(dir)), name)
	}
	return filepath.Join(dir, name)
}
