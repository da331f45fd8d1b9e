package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

const (
	toStdout = "-"
	toNobody = "/dev/null"

	// pacman asks every server for a signature that may not exist, one after the other; asking many of them each time
	// would cost the square of that.
	signatureMirrors = 2
)

// fetchCommand is the command without a verb.
func fetchCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, cmdFetch)
	if err != nil {
		return err
	}
	d := &download{env: env, settings: s, from: readCaller(env.Parent)}
	if err := d.aim(c.Args().Slice()); err != nil {
		return err
	}
	if d.from.isPacman() {
		dieWithParent(env.Parent)
	}
	return d.run()
}

// aim reads the arguments: URL [DEST], with -o DEST, or "URL>NAME" as void's xbps-src has it. A metalink of this machine
// may stand in the place of the URL; a lone URL of one is followed.
func (d *download) aim(args []string) (err error) {
	d.dest = d.settings.output
	switch {
	case len(args) == 0:
		return usageError("no URL")
	case len(args) > 2 || len(args) == 2 && d.dest != "":
		return usageError("too many arguments: %q", args[len(args)-1])
	case len(args) == 2:
		if d.dest = standard(args[1]); d.dest == "" {
			return usageError("DEST is empty")
		}
	}
	text := args[0]
	if i := strings.LastIndexByte(text, '>'); i >= 0 && d.dest == "" {
		text, d.dest = text[:i], text[i+1:]
	}
	if d.url, err = parseURL(text); err != nil {
		data, err := localMetalink(d.env, text, err)
		if err != nil {
			return err
		}
		return d.describe(data, text, nil)
	}
	if d.dest == "" {
		d.dest = fileName(d.url)
		if !isPlainName(d.dest) {
			return usageError("the URL names no file: say where it goes")
		}
		d.follows = d.url.Scheme != "file" && metalinkName.MatchString(d.dest)
	}
	return nil
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	var parse *url.Error
	switch {
	case errors.As(err, &parse):
		return nil, usageError("not a URL: %w", parse.Err) // without the text, which may hold a password
	case err != nil:
		return nil, usageError("not a URL: %w", err)
	case u.Scheme == "file":
		return u, nil
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, usageError("not an http, https or file URL")
	case u.Host == "":
		return nil, usageError("the URL names no host")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, usageError("not a URL: there is no port %s", port)
		}
	}
	return u, nil
}

// fileName is the decoded last segment of u's path.
func fileName(u *url.URL) string {
	name, err := url.PathUnescape(lastSegment(u))
	if err != nil {
		return lastSegment(u)
	}
	return name
}

// download is one file on its way.
type download struct {
	env      Env
	settings settings
	url      *url.URL // of the file, or of its torrent alone
	title    string   // what people know the file by; "": the last segment of url
	dest     string   // as the user says it
	from     caller
	makes    bool           // directories where the file goes
	follows  bool           // url is a metalink that is not wanted itself
	metalink *metalink.File // that describes the file; nil: none
	referrer *url.URL       // of the metalink; nil: it was none of the network
}

func (d *download) name() string {
	if d.title != "" {
		return d.title
	}
	if n := fileName(d.url); n != "" {
		return n
	}
	return d.url.Hostname()
}

func (d *download) run() error {
	env, s := d.env, d.settings
	began := time.Now()
	hosts := d.loadHosts()
	if d.follows {
		d.dest = ""
		if err := d.follow(); err != nil {
			return err
		}
	}
	if err := d.checkPlaces(); err != nil {
		return err
	}
	mirrors, repository, err := mirrorsOf(env, s, d.from, d.url)
	if err != nil {
		return err
	}
	hint, err := torrentHint(env, s.torrent, d.url, mirrors, repository)
	if err != nil {
		return err
	}
	if d.metalink != nil {
		hint.Metalink = d.metalink
		if s.torrent == "none" {
			hint.Metalink.Torrents = nil
		}
	}
	req := fetcher.Request{URL: d.url, Mirrors: mirrors, Dest: env.path(d.dest), Torrent: hint, Only: s.noMirrors, Referrer: d.referrer,
		Expect: fetcher.Expect{Size: s.size, SHA256: s.sha256, SHA512: s.sha512}}
	d.pacmanManners(&req)

	streamed := d.dest == toStdout || d.dest == toNobody
	if streamed {
		dir, err := os.MkdirTemp(env.get("TMPDIR"), "torrent-xfer-")
		if err != nil {
			return d.fail(fmt.Errorf("%w: %w", fetcher.ErrWrite, err))
		}
		defer removeDir(dir)
		req.Dest = filepath.Join(dir, "file")
		signal.Ignore(syscall.SIGPIPE) // a reader that leaves is an error, not our death
	}
	show := newDisplay(env, s, printable(d.name()))
	with, err := d.company(req)
	if err != nil {
		return err
	}
	seeds := dialSeeder(env, s, proxied(env, d.url))
	defer seeds.close()
	ctx, stop := d.lifetime()
	defer stop()
	d.warnOfAnother(hint)

	noTorrent := "it did not come in time"
	onEvent := func(e fetcher.Event) {
		if e.Kind == fetcher.Retried && strings.HasPrefix(e.Source, "torrent ") {
			noTorrent = e.Message
		}
		show.event(e)
	}
	f := d.fetcher()
	f.Hosts, f.OnEvent, f.Log = hosts, onEvent, show.log()
	result, err := d.fromDaemon(ctx, f, req, show)
	if result == nil {
		d.confine(req, with, streamed, show.log())
		if with != nil {
			f.JoinSwarm = with.join(req, ownHost(req, hosts, proxied(env, d.url)), show.log())
			if with.always {
				f.PeerPatience = alwaysPatient
			}
		}
		result, err = f.Fetch(ctx, req)
	}
	if err == nil {
		seeds.handOver(req, result, hosts, show.log())
	}
	if err == nil && d.dest == toStdout {
		err = copyOut(env.Stdout, req.Dest)
	}
	err = d.conclude(ctx, result, err, began, hosts, show)
	if err == nil && namesTorrent(s.torrent) && result.InfoHash == "" && !result.Metalink && !s.quiet {
		if d.url.Scheme == "file" {
			noTorrent = "files of this machine are only copied"
		}
		warn(env.Stderr, "%s: not verified by the torrent that was named: %s", d.name(), noTorrent)
	}
	if rerr := d.writeReport(result, err); rerr != nil && err == nil {
		return &failure{status: exitWrite, file: d.name(), err: fmt.Errorf("the file is there, but not its report: %w", rerr)}
	}
	return err
}

// conclude tells how a download ended, and returns the error that it ends with.
func (d *download) conclude(ctx context.Context, result *fetcher.Result, err error, began time.Time, hosts *fetcher.HostStats, show *display) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && ctx.Err() != nil {
		err = cause
	}
	result.Elapsed = time.Since(began)
	if serr := hosts.Save(); serr != nil {
		show.log().Info("the memory of hosts is not saved", "why", serr)
	}
	if err != nil {
		err = d.fail(err)
	}
	show.finish(result, err)
	return err
}

// warnOfAnother tells of a torrent or metalink that the user named if it seems to be of another file.
func (d *download) warnOfAnother(hint fetcher.TorrentHint) {
	name := ""
	if m, err := metainfo.Parse(hint.Metainfo, ""); err == nil {
		name = m.Name
	} else if hint.Metalink != nil && d.metalink == nil {
		name = path.Base(hint.Metalink.Name)
	}
	if name != "" && name != fileName(d.url) && name != filepath.Base(d.dest) && !d.settings.quiet {
		warn(d.env.Stderr, "%s: --torrent is of a file called %s", d.name(), name)
	}
}

func (d *download) fetcher() *fetcher.Fetcher {
	env, s := d.env, d.settings
	return &fetcher.Fetcher{Transport: newTransport(env), UserAgent: userAgent(env), Credentials: credentials(env, d.url),
		MaxMirrors: s.maxMirrors, LimitRate: s.limitRate, ConnectTimeout: s.connectTimeout}
}

// checkPlaces refuses what the file and the report may not be written to, before anything is done.
func (d *download) checkPlaces() error {
	dest, report := d.env.path(d.dest), d.env.path(d.settings.report)
	if d.settings.report != "" && (dest == report || d.dest == d.settings.report) {
		return usageError("the file and its report cannot both go to %s", d.dest)
	}
	var err error
	if d.dest != toStdout && d.dest != toNobody {
		err = replaceable(dest)
		if strings.HasSuffix(d.dest, "/") && err == nil {
			err = fmt.Errorf("there is no directory %s", d.dest)
		}
	}
	if err != nil {
		return d.fail(fmt.Errorf("%w: %w", fetcher.ErrWrite, err))
	}
	return d.checkReport()
}

func (d *download) checkReport() error {
	if d.settings.report == "" || d.settings.report == toStdout {
		return nil
	}
	if err := replaceable(d.env.path(d.settings.report)); err != nil {
		return d.fail(fmt.Errorf("%w: --report: %w", fetcher.ErrWrite, err))
	}
	return nil
}

// replaceable refuses what is no file, and the links by which a process names its own open files, as /dev/stderr is one:
// whoever replaces such a link takes it from everybody.
func replaceable(name string) error {
	info, err := os.Stat(name)
	link, _ := os.Readlink(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory", name)
	case err == nil && !info.Mode().IsRegular(), strings.HasPrefix(link, "/proc/"):
		return fmt.Errorf("%s is not a regular file", name)
	}
	return nil
}

// pacmanManners marks what changes under one name, and the version of a database that pacman has already.
func (d *download) pacmanManners(req *fetcher.Request) {
	name := d.name()
	described := req.Torrent.Metalink != nil && (req.Torrent.Metalink.SHA256 != nil || req.Torrent.Metalink.SHA512 != nil)
	if changing.MatchString(name) && req.Expect.SHA256 == nil && req.Expect.SHA512 == nil && !described {
		req.Volatile = true
	}
	if strings.HasSuffix(name, ".sig") && d.from.isPacman() && len(req.Mirrors) > signatureMirrors {
		req.Mirrors = req.Mirrors[:signatureMirrors]
	}
	if _, force := d.from.pacmanOptions(); req.Volatile && !force && database.MatchString(name) {
		req.Cached = oldDatabase(req.Dest, name)
	}
}

func (d *download) loadHosts() *fetcher.HostStats {
	dir := d.env.cacheDir()
	if dir == "" || os.MkdirAll(dir, 0o755) != nil {
		return nil
	}
	return fetcher.LoadHostStats(filepath.Join(dir, "hosts.json"))
}

// confine gives root's rights up before the first packet.
func (d *download) confine(req fetcher.Request, with *company, streamed bool, log *slog.Logger) {
	if d.env.UID != 0 {
		return
	}
	dir := filepath.Dir(req.Dest)
	to := reach{write: []string{dir}}
	if streamed {
		to.clear = []string{filepath.Dir(dir)} // its own directory has to go at the end
	}
	if d.makes {
		to.shape = []string{dir}
	}
	if cache := d.env.cacheDir(); cache != "" {
		to.write = append(to.write, cache)
	}
	if d.settings.report != "" && d.settings.report != toStdout {
		to.write = append(to.write, filepath.Dir(d.env.path(d.settings.report)))
	}
	if req.Cached != "" {
		to.read = append(to.read, req.Cached)
	}
	if d.follows { // what the settings name is read when the metalink is there
		to.read = append(to.read, d.env.path(d.settings.torrent))
		for _, f := range d.settings.mirrorLists {
			to.read = append(to.read, d.env.path(f))
		}
	}
	if d.url.Scheme == "file" {
		to.read = append(to.read, d.url.Path)
	}
	if with != nil {
		to.run, to.listen = with.worker, with.ports()
	}
	text, err := confine(d.env, to)
	if err != nil {
		log.Info("not confined", "why", err, "in_force", text)
		return
	}
	log.Info("confined", "in_force", text)
}

// lifetime ends with the first signal, or when the time is over. A second signal kills.
func (d *download) lifetime() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := func() { cancel(nil) }
	if t := d.settings.timeout; t > 0 {
		// Not a deadline: who sees one coming gives up before it, as the limiter of the rate does.
		timer := time.AfterFunc(t, func() { cancel(fmt.Errorf("%w after %v", fetcher.ErrTimeout, t)) })
		stop = func() { timer.Stop(); cancel(nil) }
	}
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, stop
}

// fail says which file an error is about.
func (d *download) fail(err error) error {
	f := &failure{status: statusOf(err), file: d.name(), err: err}
	_, terminal := terminalWidth(d.env.Stderr)
	if info, serr := os.Stat(d.env.path(d.dest)); f.status == exitWrite && serr == nil && info.IsDir() {
		f.next = "say how the file in it is to be called"
	}
	if d.from.isPacman() {
		switch {
		case f.status == exitInterrupted && terminal:
			f.next = "press Ctrl-C again to stop pacman"
		case f.status == exitNotFound && strings.HasSuffix(d.name(), ".sig"):
			f.next = "pacman goes on without it if it may"
			if !terminal || database.MatchString(strings.TrimSuffix(d.name(), ".sig")) {
				f.err = errSilent
			}
		}
	}
	return f
}

// removeDir removes a directory of plain files. Unlike os.RemoveAll it does not open the directory above, which a confined
// process may not read.
func removeDir(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		os.Remove(filepath.Join(dir, e.Name()))
	}
	os.Remove(dir)
}

func copyOut(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
	}
	return nil
}

// report is what --report writes.
type report struct {
	URL    string `json:"url"` // without credentials
	Dest   string `json:"dest"`
	Status int    `json:"status"`
	Error  string `json:"error"`
	*fetcher.Result
}

func (d *download) writeReport(result *fetcher.Result, err error) error {
	if d.settings.report == "" {
		return nil
	}
	r := report{URL: bare(d.url), Dest: d.dest, Status: statusOf(err), Result: result}
	if err != nil {
		r.Error = printable(err.Error())
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if d.settings.report == toStdout {
		_, err := d.env.Stdout.Write(append(text, '\n'))
		return err
	}
	file := d.env.path(d.settings.report)
	f, err := os.CreateTemp(filepath.Dir(file), ".torrent-xfer-report-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// bare is u without credentials.
func bare(u *url.URL) string {
	b := *u
	b.User = nil
	return b.String()
}
