package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"torrent-xfer/metainfo"

	"golang.org/x/sys/unix"

	"golang.org/x/time/rate"
)

const (
	defaultMaxMirrors = 16
	defaultStall      = 10 * time.Second
	tickEvery         = 25 * time.Millisecond
	progressEvery     = 100 * time.Millisecond
	torrentGrace      = 10 * time.Millisecond // a whole body waits no longer than this for a torrent
)

// job is one call of Fetch. Its fields belong to the goroutine that runs it, unless they say otherwise.
type job struct {
	*Fetcher
	req    Request
	client *client
	sink   *Sink
	log    *slog.Logger
	limit  *rate.Limiter // nil: none
	stall  time.Duration
	since  time.Time // condition of a volatile file; zero: none
	expect Expect    // of the caller, and of an earlier run of his
	told   Expect    // digests that only the URL's own host told; they give way

	said     chan *hearing // by the URL's own host, once
	hasHeard atomic.Bool
	toldNow  bool      // told is of this run
	turned   bool      // from a version that it does not fit to another one
	toldEnds time.Time // told gives way then; zero: it has not been doubted
	metalink bool      // what one says was used

	mirrors  []*mirror // best first
	ended    chan exit
	epoch    int // begins anew when everything is forgotten
	workers  sync.WaitGroup
	crew     crew
	torrent  torrents
	company  company
	sizes    map[int64]map[string]bool // which hosts say what other size
	only     *mirror                   // the one mirror that is being tried alone; nil: all may work
	alone    []*mirror
	tried    map[*mirror]bool // alone
	mismatch bool             // the digest said no at least once
	checked  []bool           // blocks that two mirrors gave alike
	local    bool             // the destination or the partial file may hold pieces

	begun    time.Time
	reported time.Time // of the last progress event
	started  bool
	resumed  int64

	mu    sync.Mutex
	mtime time.Time
	from  *mirror // who told mtime
}

type exit struct {
	m     *mirror
	err   error
	epoch int // in which it was hired
}

func (f *Fetcher) fetch(ctx context.Context, req Request) (result *Result, err error) {
	j := &job{Fetcher: f, req: req, log: f.Log, limit: newLimit(f.LimitRate), stall: f.StallTimeout,
		expect: req.Expect, ended: make(chan exit, 64), said: make(chan *hearing, 1), sizes: map[int64]map[string]bool{}, tried: map[*mirror]bool{}, torrent: torrents{known: map[resource]bool{}}, company: company{ended: make(chan error, 1)}, begun: time.Now()}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.stall <= 0 {
		j.stall = defaultStall
	}
	result = &Result{}
	defer func() {
		j.fill(result, err)
		result.Elapsed = time.Since(j.begun)
		j.event(Event{Kind: Finished, Size: result.Size, Done: result.Size, Err: err})
	}()
	alone := req.URL == nil && len(req.Torrent.Metainfo) > 0
	if alone {
		j.req.URL = &url.URL{} // of no host: nobody's own
		req = j.req
	}
	if req.URL == nil || !req.Expect.valid() {
		return result, fmt.Errorf("%w: no URL, or a digest of the wrong length", ErrRequest)
	}
	switch scheme := req.URL.Scheme; {
	case alone:
	case scheme == "http" || scheme == "https":
		if req.URL.Host == "" {
			return result, fmt.Errorf("%w: the URL names no host", ErrRequest)
		}
	case scheme == "file":
		return result, j.copyLocal(ctx, result)
	default:
		return result, fmt.Errorf("%w: cannot fetch %q URLs", ErrRequest, clean(req.URL.Scheme))
	}
	if len(req.Torrent.Metainfo) > 0 {
		m, err := metainfo.Parse(req.Torrent.Metainfo, "")
		if alone && req.Whole {
			m, err = metainfo.ParseAll(req.Torrent.Metainfo)
		}
		if err != nil && !alone {
			m, err = metainfo.Parse(req.Torrent.Metainfo, baseName(req.URL))
		}
		if err != nil {
			return result, fmt.Errorf("%w: %w", ErrRequest, err)
		}
		j.torrent.sworn = m
	}
	if f := req.Torrent.Metalink; f != nil {
		if err := j.swear(f); err != nil {
			return result, err
		}
		j.expect = j.req.Expect
	}
	if err := j.fetchRemote(ctx, result); err != nil {
		return result, err
	}
	return result, nil
}

func (j *job) fetchRemote(ctx context.Context, result *Result) error {
	before, err := checkDest(j.req.Dest)
	if err != nil {
		return err
	}
	if before != nil && j.expect.digest() && !j.req.Volatile && (j.expect.Size <= 0 || j.expect.Size == before.Size()) {
		if ok, err := checkFile(ctx, j.req.Dest, j.expect); err != nil {
			return err
		} else if ok {
			result.Size, result.Resumed, result.Verified = before.Size(), before.Size(), j.expect.kind()
			return nil
		}
	}
	var d *destination
	if j.req.Volatile {
		d, err = openVolatile(j.req.Dest)
	} else {
		var done bool
		if d, done, err = openDest(ctx, j.req.Dest, j.req.Partial); done {
			if ok, err := j.take(ctx, result); ok || err != nil {
				return err
			}
			d, _, err = openDest(ctx, j.req.Dest, j.req.Partial) // not what was asked for here
		}
	}
	if err != nil {
		return err
	}
	defer d.file.Close()
	var jn *journal
	if !j.req.Volatile {
		jn = &journal{path: d.partial + journalSuffix, expect: j.expect}
	}
	j.sink = newSink(d.file, jn)
	j.sink.limit, j.sink.wanted = j.limit, j.req.Wanted
	j.sink.ordered, j.sink.strict = j.req.InOrder, j.req.InOrder
	disk := j.sink.open("disk", "")
	if !j.req.Volatile {
		if info, err := d.file.Stat(); err == nil && info.Size() > 0 {
			j.local = true
			if old := d.openJournal(); old != nil {
				j.resumed, j.expect, j.told = j.sink.resume(old, j.expect, disk)
				if jn.f == nil {
					old.Close()
				}
			}
		}
		j.local = j.local && jn.f == nil || before != nil && before.Size() > 0 || j.req.Local != nil
	}
	if cached := j.req.Cached; j.req.Volatile && cached != "" {
		if info, err := os.Stat(cached); err == nil && info.Mode().IsRegular() {
			j.since = info.ModTime()
		}
	}
	var g *grower
	if j.req.Grow {
		if g, err = openGrowing(j); err != nil {
			d.abandon()
			return err
		}
		defer g.file.Close()
		n, err := g.adopt(disk)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrWrite, err)
		}
		j.resumed += n
		g.begin()
	}
	j.client = newClient(j.Fetcher, j.req)
	defer j.client.close()
	j.muster()
	if f := j.req.Torrent.Metalink; f != nil {
		j.addNamed(urlsOf(f.URLs), j.req.Referrer == nil && (j.expect.digest() || j.torrent.sworn != nil))
	}

	err = j.run(ctx)
	if errors.Is(err, errNotModified) {
		var n int64
		if n, err = copyInto(d.file, j.req.Cached); err == nil {
			result.NotChanged = true
			j.mtime = j.since
			j.sink.size = n
		}
	}
	if err == nil {
		j.sink.mu.Lock()
		result.Size = j.sink.size
		j.sink.mu.Unlock()
		d.mtime = j.mtime
		if g == nil {
			err = d.commit(result.Size)
		}
	}
	if g != nil {
		if gerr := g.end(err == nil, result.Size); err == nil {
			err = gerr
		}
		switch {
		case err == nil:
			d.abandon()
		case before == nil:
			g.removeEmpty()
		}
	}
	if err != nil {
		// What grew is there in Dest too, and the room may be needed.
		if j.req.Volatile || !j.sink.worthKeeping() || g != nil && errors.Is(err, ErrWrite) {
			d.abandon()
			jn.remove()
		}
		jn.close()
		return err
	}
	jn.remove()
	sweep(filepath.Dir(d.partial), time.Now())
	return nil
}

// worthKeeping reports whether a later run could go on from what is in the partial file.
func (s *Sink) worthKeeping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal != nil && s.journal.f != nil && s.got > 0
}

// take accepts what another process has put at the destination while this one waited for it, if it is what was asked for.
func (j *job) take(ctx context.Context, result *Result) (bool, error) {
	info, err := os.Stat(j.req.Dest)
	if err != nil || j.expect.Size > 0 && info.Size() != j.expect.Size {
		return false, nil
	}
	if j.expect.digest() {
		if ok, err := checkFile(ctx, j.req.Dest, j.expect); !ok || err != nil {
			return false, err
		}
		result.Verified = j.expect.kind()
	}
	result.Size, result.Resumed = info.Size(), info.Size()
	return true, nil
}

func checkFile(ctx context.Context, path string, want Expect) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	ok, err := want.check(ctx, f, info.Size())
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return ok && err == nil, nil
}

// copyInto replaces the content of dst, which may hold a part of something else, and returns the bytes copied.
func copyInto(dst *os.File, path string) (int64, error) {
	src, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	if err := dst.Truncate(0); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if _, err := dst.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	n, err := io.Copy(dst, src)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return n, nil
}

// copyLocal fetches a file URL (RFC 8089).
func (j *job) copyLocal(ctx context.Context, result *Result) error {
	if h := j.req.URL.Host; h != "" && !strings.EqualFold(h, "localhost") {
		return fmt.Errorf("%w: a file URL on another host (%s)", ErrRequest, clean(h))
	}
	src, err := os.OpenFile(j.req.URL.Path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang here
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", ErrNotFound, clean(j.req.URL.Path))
	}
	if before, err := checkDest(j.req.Dest); err != nil {
		return err
	} else if before != nil && os.SameFile(before, info) {
		return fmt.Errorf("%w: source and destination are one file", ErrWrite)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := openVolatile(j.req.Dest)
	if err != nil {
		return err
	}
	defer d.file.Close()
	d.mtime = info.ModTime()
	n, err := io.Copy(d.file, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return src.Read(p)
	}))
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if err != nil {
		err = fmt.Errorf("%w: %w", ErrWrite, err)
	} else if j.expect.Size > 0 && n != j.expect.Size {
		err = fmt.Errorf("%w: %d bytes instead of %d", ErrWrong, n, j.expect.Size)
	} else if j.expect.digest() {
		var ok bool
		if ok, err = j.expect.check(ctx, d.file, n); err == nil && !ok {
			err = fmt.Errorf("%w: its digest differs", ErrWrong)
		}
		result.Verified = j.expect.kind()
	}
	if err == nil {
		err = d.commit(n)
	}
	if err != nil {
		d.abandon()
		return err
	}
	result.Size, result.Received = n, n
	result.Sources = []SourceReport{{Name: redacted(j.req.URL), Bytes: n}}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// baseName is the file's name as the URL's last segment tells it.
func baseName(u *url.URL) string {
	p := strings.TrimRight(u.Path, "/")
	return p[strings.LastIndexByte(p, '/')+1:]
}

func (j *job) knownSize() int64 {
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	return j.sink.size
}

// dated notes the server's date of the file. The host of the URL knows best.
func (j *job) dated(m *mirror, lastModified string) {
	t, err := http.ParseTime(lastModified)
	if err != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.from == nil || hostKey(m.url) == hostKey(j.req.URL) {
		j.mtime, j.from = t, m
	}
}

func (j *job) event(e Event) {
	if j.OnEvent != nil {
		j.OnEvent(e)
	}
}

func (j *job) snapshot(kind EventKind) Event {
	done, size, rate := j.sink.progress()
	e := Event{Kind: kind, Size: size, Done: done, Rate: rate, Known: len(j.mirrors)}
	for _, m := range j.mirrors {
		if m.state == inUse {
			e.Mirrors++
		}
	}
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	e.Resumed = j.resumed + j.sink.feeds[0].bytes
	if w := j.sink.swarm; w != nil {
		e.Peers = w.peers
	}
	return e
}

// fill completes the report.
func (j *job) fill(r *Result, err error) {
	r.Metalink = j.metalink
	if j.sink == nil {
		return
	}
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	r.Received, r.Duplicate, r.Resumed = j.sink.received, j.sink.duplicate, j.resumed+j.sink.feeds[0].bytes
	if m := j.sink.manifest; m != nil && err == nil {
		r.InfoHash = m.InfoHash
		if m.InfoHash != "" {
			r.torrent = m
		}
		if r.Verified == "" {
			r.Verified, _, _ = strings.Cut(nameOf(m), " ")
		}
	}
	if d := j.deciding(); d.digest() && (j.expect.digest() || j.sink.manifest == nil) && err == nil && !r.NotChanged {
		r.Verified = d.kind()
	}
	used := slices.Clone(j.mirrors)
	slices.SortStableFunc(used, func(a, b *mirror) int { return a.begun.Compare(b.begun) })
	for _, m := range used {
		if m.feed.requests == 0 {
			continue
		}
		r.Sources = append(r.Sources, SourceReport{Name: m.String(), Bytes: m.feed.bytes, Requests: m.feed.requests,
			FirstByte: m.feed.firstByte, Blame: m.feed.blame})
	}
	for _, f := range j.sink.feeds {
		if f.name == PeersName {
			r.Sources = append(r.Sources, SourceReport{Name: f.name, Bytes: f.bytes, FirstByte: f.firstByte, Blame: f.blame})
		}
	}
	r.Sources = append(r.Sources, j.sink.blamed...)
	r.Uploaded = j.sink.uploaded
}
