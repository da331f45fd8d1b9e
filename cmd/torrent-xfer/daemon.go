package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/seeder"
)

const (
	cmdDaemon = "daemon"

	daemonUser   = "torrent-xfer"
	defaultSpace = 10_000_000_000
	firstPassed  = 3 // descriptor that systemd passes first
)

const daemonAbout = `It runs until it is told to end (SIGINT, SIGTERM), and reads its configuration again on SIGHUP: limits change at once, what has to
do with the network and places when it is started again. Downloads with --seed, or "seed = true" in the configuration, hand it their
files, of which it keeps copies. Started as root it becomes another user.

`

// daemonSettings are those of daemon.
type daemonSettings struct {
	library, user, group string
	metrics              string // HOST:PORT or the path of a unix socket; "": none
	private              bool
	mirrors              []string // see newBeside
	config               seeder.Config
}

func daemonSettingsTable() []setting {
	verbs := []string{cmdDaemon}
	bytes := func(at func(*settings) *int64) func(*settings, string) error {
		return func(s *settings, v string) error { return parseBytes(strings.TrimSuffix(v, "/s"), at(s)) }
	}
	return []setting{
		{name: "library", value: true, lasting: true, verbs: verbs,
			usage: "keep files in `DIR` (default: /var/lib/torrent-xfer/library for root, $XDG_STATE_HOME/torrent-xfer/library)",
			set:   func(s *settings, v string) error { s.daemon.library = v; return notEmpty(v) }},
		{name: "user", value: true, lasting: true, verbs: verbs, usage: "become `NAME` if started as root (default: " + daemonUser + ")",
			set: func(s *settings, v string) error { s.daemon.user = v; return notEmpty(v) }},
		{name: "control-group", value: true, lasting: true, verbs: verbs,
			usage: "members of the group `NAME` may hand files over too, and change what is done",
			set:   func(s *settings, v string) error { s.daemon.group = v; return notEmpty(v) }},
		{name: "metrics", value: true, lasting: true, verbs: verbs,
			usage: "answer Prometheus at http://`ADDRESS`/metrics; an absolute path is a unix socket (default: nowhere)",
			set:   func(s *settings, v string) error { s.daemon.metrics = v; return notEmpty(v) }},
		{name: "watch", value: true, many: true, lasting: true, verbs: verbs,
			usage: "offer the files in `DIR` too, a package cache, as long as they lie there: those that have a torrent beside them, or beside the mirror's",
			set: func(s *settings, v string) error {
				if !filepath.IsAbs(v) {
					return fmt.Errorf("%q is no absolute path", v)
				}
				s.daemon.config.Watch = append(s.daemon.config.Watch, filepath.Clean(v))
				return nil
			}},
		{name: "watch-mirror", value: true, many: true, lasting: true, colons: true, verbs: verbs,
			usage: "look for torrents of watched files below the directory `URL` (default: where pacman's repositories are)",
			set: func(s *settings, v string) error {
				if u, err := parseURL(v); err != nil {
					return err
				} else if u.Scheme == "file" {
					return fmt.Errorf("%q is no http or https URL", v)
				}
				s.daemon.mirrors = append(s.daemon.mirrors, v)
				return nil
			}},
		{name: "private", lasting: true, verbs: verbs, usage: "peers and trackers may be at private addresses, as in a network of one's own",
			set: func(s *settings, v string) error { return parseYes(v, &s.daemon.private) }},
		{name: "seed-space", value: true, lasting: true, verbs: verbs,
			usage: "keep `BYTES` of files at most (default: 10G); those that nobody has got for the longest time give way",
			set:   bytes(func(s *settings) *int64 { return &s.daemon.config.Space })},
		{name: "seed-per-day", value: true, lasting: true, verbs: verbs, usage: "give `BYTES` a day at most",
			set: bytes(func(s *settings) *int64 { return &s.daemon.config.Day })},
		{name: "seed-per-month", value: true, lasting: true, verbs: verbs, usage: "give `BYTES` a month at most",
			set: bytes(func(s *settings) *int64 { return &s.daemon.config.Month })},
		{name: "seed-hours", value: true, lasting: true, verbs: verbs, usage: "give within `HOURS` of the day only: 22:00-06:00,12:00-13:00",
			set: func(s *settings, v string) (err error) { s.daemon.config.Hours, err = seeder.ParseHours(v); return err }},
		{name: "seed-time", value: true, lasting: true, verbs: verbs, usage: "offer each file for `DURATION`: 72h",
			set: func(s *settings, v string) error { return parseDuration(v, &s.daemon.config.Time) }},
		{name: "seed-ratio", value: true, lasting: true, verbs: verbs, usage: "offer each file until `N` times its size is given",
			set: func(s *settings, v string) error { return parseRatio(v, &s.daemon.config.Ratio) }},
	}
}

func daemonCommand(env Env, c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError("too many arguments: %q", c.Args().First())
	}
	s, config, err := loadDaemon(env, c)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if s.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))
	with, err := newCompany(env, s)
	if errors.Is(err, errNoWorker) {
		return noWorker("", err)
	}
	if err != nil {
		return err
	}
	if with == nil {
		return usageError("--peers never leaves the daemon nothing to do")
	}
	control, err := openControl(env, s)
	if err != nil {
		return daemonFailure(err)
	}
	defer control.Close()
	var metrics net.Listener
	if s.daemon.metrics != "" {
		if metrics, err = openMetrics(s.daemon.metrics); err != nil {
			return daemonFailure(fmt.Errorf("metrics: %w", err))
		}
		defer metrics.Close()
	}
	place, err := env.libraryDir(s)
	if err != nil {
		return err
	}
	if err := settle(env, s, place); err != nil {
		return daemonFailure(err)
	}
	library, stale, err := seeder.OpenLibrary(place)
	if err != nil {
		return daemonFailure(err)
	}
	defer library.Close()
	d := &seeder.Daemon{Library: library, Stale: stale, Log: log}
	d.Swarm = newSeeding(d, with, s.daemon.private, log)
	d.Download = downloader(env, s)
	d.Find = newBeside(env, s.daemon.mirrors).find

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	go func() {
		for range hangUps {
			if _, config, err := loadDaemon(env, c); err != nil {
				log.Warn("the configuration stays as it was", "why", err)
			} else {
				d.Configure(config)
			}
		}
	}()
	if metrics != nil {
		go func() {
			if err := d.ServeMetrics(ctx, metrics); err != nil {
				log.Warn("metrics", "why", err)
			}
		}()
	}
	notify(env, "READY=1")
	if err := d.Run(ctx, config, control); err != nil {
		return daemonFailure(err)
	}
	return nil
}

// daemonFailure is the failure of a daemon that could not begin, or go on.
func daemonFailure(err error) error {
	var f *failure
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, fs.ErrPermission):
		return &failure{status: exitFailed, err: err, next: "check whose place that is, or name another one"}
	case errors.Is(err, seeder.ErrLocked):
		return &failure{status: exitFailed, err: err, next: "end the daemon whose it is, or name another one with --library"}
	case strings.Contains(err.Error(), syscall.EADDRINUSE.Error()): // perhaps the worker's words
		return &failure{status: exitFailed, err: err, next: "end who listens there, or choose another place"}
	}
	return &failure{status: exitFailed, err: err, next: "run it again with --verbose"}
}

// loadDaemon reads what the daemon goes by.
func loadDaemon(env Env, c *cli.Context) (settings, seeder.Config, error) {
	s, err := loadSettings(env, c, cmdDaemon)
	config := s.daemon.config
	if err != nil {
		return s, config, err
	}
	config.Rate = s.peers.options.LimitUpload
	if config.Space == 0 {
		config.Space = defaultSpace
	}
	if s.daemon.group != "" {
		g, err := user.LookupGroup(s.daemon.group)
		if err == nil {
			config.Group, err = strconv.Atoi(g.Gid)
		}
		if err != nil {
			return s, config, usageError("--control-group: %w", err)
		}
	}
	return s, config, nil
}

// libraryDir is where files are kept.
func (e Env) libraryDir(s settings) (string, error) {
	state, _, _ := strings.Cut(e.get("STATE_DIRECTORY"), ":") // systemd's
	switch {
	case s.daemon.library != "":
		return e.path(s.daemon.library), nil
	case filepath.IsAbs(state):
		return filepath.Join(state, "library"), nil
	case e.UID == 0:
		return "/var/lib/torrent-xfer/library", nil
	}
	dir := e.xdg("XDG_STATE_HOME", ".local/state")
	if dir == "" {
		return "", usageError("there is no home to keep files in: name a directory with --library")
	}
	return filepath.Join(dir, "torrent-xfer/library"), nil
}

// openControl listens at the control socket, or takes the one that systemd listens at. Everybody may connect to it; what he may do is
// found out then.
func openControl(env Env, s settings) (*net.UnixListener, error) {
	if env.get("LISTEN_PID") == strconv.Itoa(os.Getpid()) && env.get("LISTEN_FDS") == "1" {
		syscall.CloseOnExec(firstPassed)
		f := os.NewFile(firstPassed, "control")
		defer f.Close()
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("the socket of systemd: %w", err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			return u, nil
		}
		l.Close()
		return nil, errors.New("the socket of systemd is no unix socket")
	}
	path := env.path(s.seed.control)
	if path == "" {
		path = env.ownControl()
	}
	if path == "" && env.UID != 0 {
		return nil, usageError("there is no place for the control socket: name one with --control")
	}
	mode := fs.FileMode(0o700)
	if path == "" {
		path, mode = systemControl, 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), mode); err != nil {
		return nil, err
	}
	return listenUnix(path)
}

// listenUnix makes a socket that everybody may connect to.
func listenUnix(path string) (*net.UnixListener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another daemon listens at %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		os.Remove(path) // of one that was killed
	}
	defer syscall.Umask(syscall.Umask(0o111)) // chmod(2) afterwards might follow what somebody has put there meanwhile
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

func openMetrics(address string) (net.Listener, error) {
	if filepath.IsAbs(address) {
		return listenUnix(address)
	}
	return net.Listen("tcp", address)
}

// settle makes the library's directory and, started as root, becomes the user whose it is.
func settle(env Env, s settings, place string) error {
	if err := seeder.CheckLibrary(place); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil { // the other user has to get there
		return err
	}
	if err := os.Mkdir(place, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	name := s.daemon.user
	if name == "" {
		name = daemonUser
	}
	if env.UID != 0 || name == "root" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("%w; create it (systemd-sysusers), or name another with --user", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Lchown(place, uid, gid)); err != nil {
		return err
	}
	return becomeUser(name)
}

// notify tells systemd, if it wants to be told (sd_notify(3)).
func notify(env Env, what string) {
	path := env.get("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // "@" is an abstract one to Go too
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(what))
}
