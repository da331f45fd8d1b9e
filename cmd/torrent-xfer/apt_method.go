package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/aptmethod"
	"torrent-xfer/fetcher"
)

const detectTime = 30 * time.Second // for apt's proxy detector

var (
	// aptName is what a method may be called, which is the scheme of its URIs.
	aptName = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)
	// ownName are the names by which this program is known to be a method, wherever it lies.
	ownName = regexp.MustCompile(`^(torrent|https?|[a-z][a-z0-9-]*\+https?)$`)
)

// isAptName reports whether apt starts programs of this path as a method, without an argument: its directory of methods
// is called so, and the name is the user's choice.
func isAptName(path string) bool {
	dir, name := filepath.Split(path)
	return ownName.MatchString(name) || filepath.Base(dir) == "methods" && aptName.MatchString(name) && name != "torrent-xfer"
}

// aptMethodCommand is the acquire method. Its end, whatever the reason, is the end of what apt waits for, so nothing is
// printed but what belongs to the protocol.
func aptMethodCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "apt-method")
	if err != nil { // a mistake in our own configuration must not keep apt from working
		warn(env.Stderr, "%v; the defaults hold, without peers", err)
		s = settings{torrent: "auto", peers: peersSettings{when: "never"}}
	}
	name := "torrent+http"
	switch c.NArg() {
	case 0:
	case 1:
		name = c.Args().First()
	default:
		return usageError("apt-method takes one name")
	}
	if !aptName.MatchString(name) {
		return usageError("%q is none of apt's methods", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Ignore(syscall.SIGPIPE)
	a := &aptMethod{env: env, engine: &aptEngine{env: env, settings: s}}
	if a.engine.with, err = newCompany(env, s); err != nil && (s.verbose || !errors.Is(err, errNoWorker)) {
		warn(env.Stderr, "no peers: %v", err)
	}
	a.engine.seeds = dialSeeder(env, s, false)
	defer a.engine.seeds.close()
	m := &aptmethod.Method{Name: name, In: env.Stdin, Out: env.Stdout, Env: env.get, Prepare: a.prepare, Confine: a.confine,
		Detect: a.detect, Engine: a.engine,
		Debug: func(text string) { io.WriteString(env.Stderr, text) }}
	switch err := m.Serve(ctx); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return &failure{status: exitInterrupted, err: errSilent}
	case errors.Is(err, aptmethod.ErrProtocol):
		return &failure{status: exitUsage, err: errSilent} // it was told in the protocol's own words
	default:
		return &failure{status: exitFailed, err: err, next: "apt's own messages say more"}
	}
}

type aptMethod struct {
	env    Env
	engine *aptEngine
}

// prepare gives up root's rights as apt's own methods do.
func (a *aptMethod) prepare(c *aptmethod.Config) error {
	user := c.Find("APT::Sandbox::User")
	if c.Bool("Debug::NoDropPrivs", false) || user == "" || user == "root" || a.env.UID != 0 {
		return nil
	}
	return becomeUser(user)
}

// confine keeps what is asked for below apt's own directories. A proxy detector is a program, which a confined process
// may not run.
func (a *aptMethod) confine(c *aptmethod.Config, write, read []string) {
	if dir := c.Directory("Dir::Cache::archives"); filepath.IsAbs(dir) {
		a.engine.hosts = fetcher.LoadHostStats(filepath.Join(dir, "partial/.torrent-xfer.hosts.json"))
	}
	if a.env.UID != 0 || c.Detector() != "" || c.Find("APT::Sandbox::User") == "" {
		return
	}
	to := reach{write: write, read: read}
	if with := a.engine.with; with != nil {
		to.run, to.listen = with.worker, with.ports()
	}
	if text, err := confine(a.env, to); err != nil && a.engine.settings.verbose {
		warn(a.env.Stderr, "not confined: %v; in force: %s", err, text)
	}
}

// detect runs apt's proxy detector.
func (a *aptMethod) detect(ctx context.Context, command, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, detectTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, url)
	cmd.Env, cmd.WaitDelay = a.env.Environ, time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	if i := slices.Index(out, '\n'); i >= 0 {
		out = out[:i]
	}
	return string(out), nil
}

// aptEngine lets package fetcher bring what apt wants.
type aptEngine struct {
	env      Env
	settings settings
	hosts    *fetcher.HostStats
	with     *company // nil: no peers
	seeds    *seeds   // nil: nobody keeps files available
}

func (e *aptEngine) Fetch(ctx context.Context, file aptmethod.File) (resumed int64, err error) {
	req := fetcher.Request{URL: file.URL, Mirrors: file.Mirrors, Dest: file.Path, Grow: true,
		Expect: fetcher.Expect{Size: file.Size, SHA256: file.SHA256, SHA512: file.SHA512}}
	if req.Torrent, err = torrentHint(e.env, e.settings.torrent, file.URL, file.Mirrors, file.Repository); err != nil {
		return 0, err
	}
	f := &fetcher.Fetcher{Transport: file.Transport, Network: file.Network, UserAgent: file.UserAgent, Credentials: file.Credentials, Hosts: e.hosts,
		MaxMirrors: e.settings.maxMirrors, LimitRate: file.LimitRate, ConnectTimeout: file.Timeout, StallTimeout: file.Timeout}
	if w := e.with; w != nil && (w.always || file.Size > peersMinimum && !file.Proxied) {
		f.JoinSwarm = w.join(req, ownHost(req, e.hosts, file.Proxied), nil)
		if w.always {
			f.PeerPatience = alwaysPatient
		}
	}
	lied, started, peers := map[string]bool{}, false, 0
	f.OnEvent = func(ev fetcher.Event) {
		if ev.Peers > peers {
			peers = ev.Peers
			file.Peers(peers)
		}
		switch {
		case (ev.Kind == fetcher.Started || ev.Kind == fetcher.Progress) && ev.Done > 0 && !started:
			started = true // to know the size is not enough: it may yet turn out that nobody has the file
			file.Started(ev.Resumed)
		case ev.Kind == fetcher.Retried && strings.HasPrefix(ev.Message, "sent wrong bytes") && !lied[ev.Source] &&
			!strings.HasPrefix(ev.Source, "peer "): // of strangers nobody has to be warned
			lied[ev.Source] = true
			file.Lied(ev.Source, ev.Message)
		}
	}
	result, err := f.Fetch(ctx, req)
	e.hosts.Save() // the memory is a convenience
	if err == nil && (!file.Proxied || e.settings.peers.when == "always") {
		e.seeds.handOver(req, result, e.hosts, slog.New(slog.DiscardHandler))
	}
	if errors.Is(err, fetcher.ErrWrong) {
		err = fmt.Errorf("%w: %w", aptmethod.ErrWrong, err)
	}
	return result.Resumed, err
}
