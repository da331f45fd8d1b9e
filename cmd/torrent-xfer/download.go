package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

const downloadAbout = `TORRENT is a file or a URL. The file appears in DIR (default: here) under the name that the torrent gives it, several in a directory
of that name, whole and verified, or not at all. What is there already is verified too, and only what is missing is fetched; what was verified is kept for the next run. It comes from the torrent's web seeds and from peers, who get it too
until it is here.

`

// metadataTimeout is how long the torrent of a magnet link is looked for, unless the user says otherwise.
const metadataTimeout = 5 * time.Minute

// torrentPatience is how long peers are waited for, who may come and go.
const torrentPatience = 5 * time.Minute

// portPatience is for the port of the worker that was at work until the file was whole.
const portPatience = 5 * time.Second

// downloadSettings are those of download.
type downloadSettings struct {
	torrent string   // "": the argument
	dir     string   // "": the argument, or here
	peers   []string // to begin with
	inOrder bool
	// of several files; both nil: all
	spans    []metainfo.Span
	patterns []string
}

func downloadSettingsTable() []setting {
	verbs := []string{cmdDownload}
	return []setting{
		{name: "torrent", aliases: []string{"t"}, value: true, verbs: verbs, usage: "download what `TORRENT` is of: a file, a URL or a magnet link",
			set: func(s *settings, v string) error { s.download.torrent = v; return notEmpty(v) }},
		{name: "dir", aliases: []string{"d"}, value: true, verbs: verbs, usage: "download into `DIR`",
			set: func(s *settings, v string) error { s.download.dir = v; return notEmpty(v) }},
		{name: "peer", value: true, many: true, verbs: verbs, usage: "begin with the peer at `HOST:PORT`",
			set: func(s *settings, v string) error {
				if _, _, err := net.SplitHostPort(v); err != nil {
					return fmt.Errorf("%q is not HOST:PORT", v)
				}
				s.download.peers = append(s.download.peers, v)
				return nil
			}},
		{name: "sequential", verbs: verbs, usage: "fetch it from its beginning to its end, as far as several sources at once allow",
			set: func(s *settings, v string) error { return parseBool(v, &s.download.inOrder) }},
		{name: "recheck", verbs: verbs, usage: "verify what is there already, and fetch what is wrong; without this flag too, it is for those who have it in their scripts",
			set: func(_ *settings, v string) error { var always bool; return parseBool(v, &always) }},
		{name: "select", value: true, many: true, verbs: verbs,
			usage: "of several files only those that `FILES` names: numbers, that count from 0 (0,3-5), or a pattern (*.iso)",
			set: func(s *settings, v string) error {
				if spans, err := metainfo.ParseSpans(v); err == nil {
					s.download.spans = append(s.download.spans, spans...)
					return nil
				}
				s.download.patterns = append(s.download.patterns, v)
				return notEmpty(v)
			}},
	}
}

func downloadCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, cmdDownload)
	if err != nil {
		return err
	}
	names := c.Args().Slice()
	if s.download.torrent != "" {
		names = append([]string{s.download.torrent}, names...)
	}
	if s.download.dir != "" {
		names = append(names, s.download.dir)
	}
	switch {
	case len(names) == 0:
		return usageError("nothing to download: name a magnet link or a torrent")
	case len(names) > 2:
		return usageError("too many arguments: %q", names[len(names)-1])
	case len(names) == 1:
		names = append(names, ".")
	}
	t, err := aimAtTorrent(env, s, names[0])
	if err != nil {
		return err
	}
	return t.bring(names[1])
}

// torrentJob is the download of what a torrent is of.
type torrentJob struct {
	download
	link *metainfo.Magnet // nil: none
	data []byte           // the torrent; nil: it is at url, or peers have it
	with *company         // nil: no peers
}

// aimAtTorrent finds out what text names.
func aimAtTorrent(env Env, s settings, text string) (*torrentJob, error) {
	t := &torrentJob{}
	t.env, t.settings = env, s
	switch {
	case isMagnet(text):
		link, err := metainfo.ParseMagnet(text)
		if err != nil {
			return nil, usageError("%w", err)
		}
		if t.title = link.Name; t.title == "" {
			t.title = "magnet " + link.InfoHashV1 + link.InfoHashV2
		}
		t.link, t.url = &link, &url.URL{Scheme: "magnet", RawQuery: strings.TrimPrefix(link.String(), "magnet:?")}
	case strings.Contains(text, "://"):
		u, err := parseURL(text)
		if err != nil {
			return nil, err
		}
		t.url = u
		if u.Scheme == "file" {
			t.data, err = readTorrent(u.Path)
		}
		if err != nil {
			return nil, usageError("%w", err)
		}
	default:
		var err error
		if t.data, err = readTorrent(env.path(text)); err != nil {
			return nil, usageError("%w", err)
		}
		t.url = &url.URL{Scheme: "file", Path: env.path(text)}
	}
	if t.settings.peers.when != "always" && t.proxied() {
		return t, nil
	}
	var err error
	if t.with, err = newCompany(env, t.settings); t.with != nil {
		t.with.always = true
	}
	if errors.Is(err, errNoWorker) && (t.link != nil && t.link.Sources == nil || t.settings.peers.when == "always") {
		return nil, noWorker(t.name(), err)
	}
	if !errors.Is(err, errNoWorker) && err != nil {
		return nil, err
	}
	return t, nil
}

// proxied tells whether the torrent is asked for through a proxy or, if it is here, whether anything would be.
func (t *torrentJob) proxied() bool {
	via := t.url
	if via.Host == "" {
		via = &url.URL{Scheme: "https", Host: "peers.invalid"}
	}
	return proxied(t.env, via)
}

// isMagnet tells a magnet link from the name of a file.
func isMagnet(text string) bool { return strings.HasPrefix(text, "magnet:?") }

// load has the torrent in data.
func (t *torrentJob) load(ctx context.Context, log *slog.Logger) error {
	switch {
	case t.data != nil:
		return nil
	case t.link == nil:
		data, err := t.fetcher().Load(ctx, t.url, metainfo.MaxSize)
		t.data, t.referrer = data, t.url
		return err
	}
	for _, s := range t.link.Sources {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		data, err := t.fetcher().Load(ctx, u, metainfo.MaxSize)
		if err == nil {
			t.data, err = t.link.Complete(data)
		}
		if err == nil {
			t.referrer = u
			return nil
		}
		log.Info("no torrent", "url", bare(u), "why", why(err))
	}
	if t.with == nil {
		return fmt.Errorf("%w: the torrent of the link is with peers, who are not asked (see --peers)", fetcher.ErrNotFound)
	}
	if t.settings.timeout == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, metadataTimeout, fmt.Errorf("%w: no peer gave the torrent of the link in %v", fetcher.ErrTimeout, metadataTimeout))
		defer cancel()
	}
	m := peers.Metadata{Worker: t.with.worker, Options: t.with.options, Reach: peers.Reach{Private: true}, Log: log}
	link := *t.link
	link.Peers = append(link.Peers, t.settings.download.peers...)
	data, err := m.Fetch(ctx, link)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	t.data = data
	return err
}

// bring downloads it into dir.
func (t *torrentJob) bring(dir string) error {
	began := time.Now()
	hosts := t.loadHosts()
	t.dest = filepath.Join(dir, "torrent")
	if info, err := os.Stat(t.env.path(dir)); err != nil || !info.IsDir() {
		return t.fail(fmt.Errorf("%w: there is no directory %s", fetcher.ErrWrite, dir))
	}
	if err := t.checkReport(); err != nil {
		return err
	}
	seeds := dialSeeder(t.env, t.settings, t.proxied())
	defer seeds.close()
	t.makes = true
	t.confine(fetcher.Request{Dest: t.env.path(t.dest)}, t.with, false, slog.New(slog.DiscardHandler))
	ctx, stop := t.lifetime()
	defer stop()
	log := newDisplay(t.env, t.settings, printable(t.name())).log()
	if err := t.load(ctx, log); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return t.fail(err)
	}
	m, err := metainfo.ParseAll(t.data)
	if err != nil {
		return &failure{status: exitFailed, file: t.name(), err: err, next: "torrent-xfer metainfo tells what is in it"}
	}
	if strings.HasPrefix(m.Name, ".") {
		return &failure{status: exitFailed, file: t.name(), err: fmt.Errorf("the torrent calls its file %q, and nothing hidden is written", m.Name),
			next: "torrent-xfer metainfo tells what is in it"}
	}
	t.title, t.dest = m.Name, filepath.Join(dir, m.Name)
	req := fetcher.Request{Dest: t.env.path(t.dest), Torrent: fetcher.TorrentHint{Metainfo: t.data}, Referrer: t.referrer,
		InOrder: t.settings.download.inOrder}
	var into *tree
	if m.Files() == nil {
		if err := t.checkPlaces(); err != nil {
			return err
		}
	} else {
		root, err := os.OpenRoot(t.env.path(dir))
		if err != nil {
			return t.fail(fmt.Errorf("%w: %w", fetcher.ErrWrite, err))
		}
		defer root.Close()
		into = &tree{root: root, name: m.Name, files: m.Files(), want: make([]bool, len(m.Files()))}
		spans := t.settings.download.spans
		if t.link != nil && spans == nil && t.settings.download.patterns == nil {
			spans = t.link.Select
		}
		if err := into.choose(spans, t.settings.download.patterns); err != nil {
			return err
		}
		req.Dest, req.Whole, req.Wanted, req.Local = into.gathered(t.env.path(dir), m), true, into.ranges(), into
	}
	f := t.fetcher()
	show := newDisplay(t.env, t.settings, printable(t.name()))
	f.Hosts, f.OnEvent, f.Log, f.PeerPatience = hosts, show.event, show.log(), torrentPatience
	host := ownHost(req, hosts, t.referrer != nil && proxied(t.env, t.referrer))
	if t.with != nil {
		f.JoinSwarm = t.join(req, host, show.log())
	}
	result, err := t.fetch(ctx, f, req, m, into)
	if err == nil && into == nil {
		seeds.handOver(req, result, hosts, show.log())
	}
	err = t.conclude(ctx, result, err, began, hosts, show)
	if rerr := t.writeReport(result, err); rerr != nil && err == nil {
		return &failure{status: exitWrite, file: t.name(), err: fmt.Errorf("the file is there, but not its report: %w", rerr)}
	}
	if err == nil && t.settings.give.wanted() {
		stop()
		return t.seed(m, into, reachOf(context.Background(), req), host)
	}
	return err
}

// seed gives to peers what has arrived, as long as the user wants. It reaches no further than the download did.
func (t *torrentJob) seed(m *metainfo.Manifest, into *tree, reach peers.Reach, host *peers.Host) error {
	if t.with == nil {
		warn(t.env.Stderr, "%s: there are no peers to give it to (see --peers)", t.name())
		return nil
	}
	o := &offer{name: t.name(), size: m.Size}
	var err error
	if o.torrent, err = peers.TorrentOf(t.data); err == nil && into != nil && slices.Contains(into.want, false) {
		err = errors.New("only torrents that are here as a whole are given to peers")
	}
	paths := []string{t.dest}
	if into != nil {
		paths = nil
		for _, f := range into.files {
			paths = append(paths, filepath.Join(filepath.Dir(t.dest), into.path(f)))
		}
	}
	were := make([]os.FileInfo, len(paths))
	for i := range paths {
		if err == nil {
			paths[i] = t.env.path(paths[i])
			were[i], err = os.Stat(paths[i])
		}
	}
	if err != nil {
		warn(t.env.Stderr, "%s: not given to peers: %s", t.name(), err)
		return nil
	}
	o.torrent.Trackers = append(ownTrackers(m, host), m.Trackers...)
	o.open = func(file int) (*os.File, error) {
		if file < 0 || file >= len(paths) {
			return nil, os.ErrNotExist
		}
		return asItWas(paths[file], were[file])
	}
	job := newSeedJob(t.env, t.settings, t.with)
	job.offers, job.reach, job.patience = []*offer{o}, reach, portPatience
	if err := job.run(); err != nil {
		return &failure{status: exitFailed, file: t.name(), err: fmt.Errorf("it is here, but not given to peers any more: %w", err), next: "run it again with --verbose"}
	}
	return nil
}

// fetch has the file, or all files of into.
func (t *torrentJob) fetch(ctx context.Context, f *fetcher.Fetcher, req fetcher.Request, m *metainfo.Manifest, into *tree) (*fetcher.Result, error) {
	if into == nil {
		return f.Fetch(ctx, req)
	}
	here := &fetcher.Result{Size: m.Size, Resumed: m.Size, Verified: "torrent", InfoHash: m.InfoHash}
	if into.goOn(ctx, m, req.Dest) {
		return here, into.split(ctx, req.Dest)
	}
	os.Remove(req.Dest) // of no use, if it is there
	if into.isThere(ctx, m) {
		return here, nil
	}
	result, err := f.Fetch(ctx, req)
	if err == nil {
		err = into.split(ctx, req.Dest)
	}
	return result, err
}

// join adds the peers that the link names.
func (t *torrentJob) join(req fetcher.Request, host *peers.Host, log *slog.Logger) func(*metainfo.Manifest) (fetcher.Source, error) {
	return func(m *metainfo.Manifest) (fetcher.Source, error) {
		if slices.ContainsFunc(m.Files(), func(f metainfo.File) bool { return f.Size == 0 }) {
			return nil, errors.New("the BitTorrent library crashes on torrents with empty files")
		}
		source, err := t.with.join(req, host, log)(m)
		if s, ok := source.(*peers.Source); ok {
			s.Peers = t.settings.download.peers
			if t.link != nil {
				s.Peers = append(t.link.Peers, s.Peers...)
			}
		}
		return source, err
	}
}

// readMagnet has the torrent that a link is of, and what people call it.
func readMagnet(env Env, s settings, text string) (name string, data []byte, err error) {
	if !isMagnet(text) {
		return "", nil, usageError("not a magnet link")
	}
	s.torrent = "auto"
	t, err := aimAtTorrent(env, s, text)
	if err != nil {
		return "", nil, err
	}
	if env.UID == 0 {
		to := reach{}
		if t.with != nil {
			to.run, to.listen = t.with.worker, t.with.ports()
		}
		confine(env, to) // its error may be ignored: nothing is written here
	}
	ctx, stop := t.lifetime()
	defer stop()
	if err := t.load(ctx, slog.New(slog.DiscardHandler)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", nil, t.fail(err)
	}
	return t.name(), t.data, nil
}
