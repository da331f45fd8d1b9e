package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Env is all that the program takes from its surroundings. It enters once.
type Env struct {
	Args       []string // the program's name first
	Environ    []string // NAME=value
	Stdin      io.Reader
	Stdout     io.Writer
	Stderr     io.Writer
	Dir        string // working directory; "": unknown, relative paths stay as they are
	Executable string // path of the program; "": unknown
	UID        int    // real user
	Parent     int    // process id of the caller
}

func systemEnv() Env {
	dir, err := os.Getwd()
	if err != nil {
		dir = ""
	}
	program, err := os.Executable()
	if err != nil {
		program = ""
	}
	return Env{Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Dir: dir, Executable: program,
		UID: os.Getuid(), Parent: os.Getppid()}
}

// get returns an environment variable, "" if it is not set.
func (e Env) get(name string) string {
	for _, kv := range e.Environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// path makes name absolute.
func (e Env) path(name string) string {
	if name == "" || filepath.IsAbs(name) || e.Dir == "" {
		return name
	}
	return filepath.Join(e.Dir, name)
}

// xdg returns a directory of the XDG Base Directory Specification, "" if there is neither it nor a home.
func (e Env) xdg(variable, fallback string) string {
	if dir := e.get(variable); filepath.IsAbs(dir) {
		return dir
	}
	if home := e.get("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, fallback)
	}
	return ""
}

// cacheDir is where the memory of hosts is kept, "" for nowhere.
func (e Env) cacheDir() string {
	if e.UID == 0 && !filepath.IsAbs(e.get("XDG_CACHE_HOME")) {
		return "/var/cache/torrent-xfer"
	}
	dir := e.xdg("XDG_CACHE_HOME", ".cache")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "torrent-xfer")
}

// configFiles are the files that are read unasked, those that count more first.
func (e Env) configFiles() (files []string) {
	if e.UID != 0 {
		if dir := e.xdg("XDG_CONFIG_HOME", ".config"); dir != "" {
			files = append(files, filepath.Join(dir, "torrent-xfer.toml"))
		}
	}
	return append(files, "/etc/torrent-xfer.toml")
}
