package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// How a mirror can fail. The blame is in the text; the type decides what happens next.
type (
	// statusError: an answer that is neither the file nor a part of it.
	statusError struct {
		code  int
		again time.Time // Retry-After; zero: not said
	}
	// badAnswer: an answer that cannot be used, and the next one would not be better.
	badAnswer struct{ what string }
	// stalled: nothing came for too long.
	stalled struct{ what string }
)

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("answered %d %s", e.code, http.StatusText(e.code)))
}
func (e *badAnswer) Error() string { return e.what }
func (e *stalled) Error() string   { return e.what }

var (
	errNotModified = errors.New("not modified")
	errNoRanges    = &badAnswer{"ignores ranges"}
	errWebPage     = &badAnswer{"answered a web page instead of the file"}
)

// mirror is the Source of one HTTP(S) URL. One request is under way at a time.
type mirror struct {
	url  *url.URL
	feed *Feed
	job  *job

	whole   bool // asks for the whole file and skips what is here: the server ignores ranges
	webPage bool // takes even a web page: nobody has anything better

	state    mirrorState
	stop     context.CancelFunc
	last     error
	chances  int       // times it was called back after a failure
	forgiven int64     // bytes it had given when it was last judged
	until    time.Time // not to be asked before
	begun    time.Time // of the first Fill
	hired    time.Time // of the latest
}

type mirrorState int

const (
	inReserve mirrorState = iota
	inUse
	setAside
)

func (m *mirror) String() string { return redacted(m.url) }

// Fill implements Source.
func (m *mirror) Fill(ctx context.Context, dst *Sink) error {
	for {
		c, err := m.feed.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		err = m.fetch(ctx, c)
		c.Close()
		if errors.Is(err, errLost) {
			if why := c.whyLost(); why != nil {
				return why
			}
		}
		if err != nil && !(errors.Is(err, errLost) && dst.shared()) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (s *Sink) shared() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.many
}

// fetch asks for the range of c and writes what comes.
func (m *mirror) fetch(ctx context.Context, c *Claim) error {
	s := m.feed.s
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if c.lost || c.held && c.end == c.start {
		s.mu.Unlock()
		return errLost // taken over before it was asked for
	}
	c.cancel, c.asked = cancel, time.Now()
	m.feed.requests++
	start, end, open := c.start, c.end, c.open
	s.mu.Unlock()

	silent := m.job.stall
	var timedOut atomic.Bool
	watch := time.AfterFunc(silent, func() { timedOut.Store(true); cancel() })
	defer watch.Stop()
	explain := func(err error) error {
		s.mu.Lock()
		lost := c.lost
		s.mu.Unlock()
		switch {
		case lost:
			return errLost
		case timedOut.Load():
			return &stalled{fmt.Sprintf("was silent for %v", silent)}
		}
		return err
	}

	all := start == 0 && (open || end == m.job.knownSize())
	ranged := !m.whole && !all
	heard := m.job.listen(m)
	ask := func(set func(http.Header)) (*http.Response, error) {
		return m.job.client.get(heard.during(ctx), m.url, set)
	}
	if m.job.req.Whole {
		ranged = true
		ask = func(func(http.Header)) (*http.Response, error) { return m.job.spliced(ctx, m.url, start, end) }
	}
	res, err := ask(func(h http.Header) {
		switch {
		case ranged && open:
			h.Set("Range", fmt.Sprintf("bytes=%d-", start))
		case ranged:
			h.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
		}
		if since := m.job.since; !since.IsZero() && start == 0 {
			h.Set("If-Modified-Since", since.UTC().Format(http.TimeFormat))
		}
	})
	if err != nil {
		heard.post()
		return explain(err)
	}
	defer res.Body.Close()
	size, from, err := m.examine(res, ranged, start, end)
	if err != nil {
		heard.post()
		return explain(err)
	}
	heard.take(res, res.Request.URL)
	version := validator{res.Header.Get("ETag"), res.Header.Get("Last-Modified")}
	if from < start {
		s.mu.Lock()
		c.skip = start - from
		s.mu.Unlock()
	}
	err = c.Begin(size, version)
	heard.post() // with the size known
	if err != nil {
		return err
	}
	if start == 0 && !s.shared() { // whoever began before sent a copy of his own
		m.job.mu.Lock()
		m.job.mtime, m.job.from = time.Time{}, nil
		m.job.mu.Unlock()
	}
	m.job.dated(m, version.LastModified)

	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	chunk := *buf
	if m.job.limit != nil {
		chunk = chunk[:min(len(chunk), m.job.limit.Burst())]
	}
	first := true
	for {
		n, err := res.Body.Read(chunk)
		if n > 0 {
			watch.Reset(silent)
			if first {
				m.feed.arrived(c)
				first = false
			}
			if _, werr := c.Write(chunk[:n]); werr != nil {
				return werr
			}
			if m.job.limit != nil { // our own waiting is not the mirror's silence
				watch.Stop()
				m.feed.pause(true)
				err := m.job.limit.WaitN(ctx, n)
				m.feed.pause(false)
				if err != nil {
					return explain(err)
				}
				watch.Reset(silent)
			}
		}
		if err == io.EOF {
			m.feed.setWarm()
			return c.End()
		}
		if err != nil {
			return explain(fmt.Errorf("%w after %d bytes", err, c.got()))
		}
	}
}

func (c *Claim) got() int64 {
	c.feed.s.mu.Lock()
	defer c.feed.s.mu.Unlock()
	return c.pos - c.start
}

// arrived notes the first byte of an answer.
func (f *Feed) arrived(c *Claim) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	took := time.Since(c.asked)
	if f.firstByte == 0 {
		f.firstByte = took
	}
	if f.trip = took; !f.warm {
		f.trip = took / 2
	}
	f.warm = false // until this body has been read to its end
}

func (f *Feed) pause(on bool) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.paused, f.last = on, time.Now()
}

func (f *Feed) setWarm() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.warm = true
}

// examine checks the head of an answer against what was asked. size is that of the whole file (-1: not told); the body
// begins at from.
func (m *mirror) examine(res *http.Response, ranged bool, start, end int64) (size, from int64, err error) {
	switch res.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusPartialContent:
	case http.StatusNotModified:
		if !m.job.since.IsZero() {
			return 0, 0, errNotModified
		}
		return 0, 0, &statusError{code: res.StatusCode}
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, 0, &otherVersion{what: "has another version of the file (416 Range Not Satisfiable)"}
	default:
		return 0, 0, &statusError{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), time.Now())}
	}
	if enc := res.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") && !suffixEncoding(m.url.Path, enc) {
		return 0, 0, &badAnswer{"compresses although it was asked not to (" + clean(enc) + ")"}
	}
	if m.isWebPage(res) && !m.webPage {
		return 0, 0, errWebPage
	}
	if res.StatusCode != http.StatusPartialContent {
		if ranged && start == 0 {
			return res.ContentLength, 0, nil // the whole begins with the part
		}
		if ranged {
			if known := m.job.knownSize(); known >= 0 && res.ContentLength >= 0 && res.ContentLength != known {
				return 0, 0, anotherSize(res.ContentLength, known)
			}
			return 0, 0, errNoRanges
		}
		return res.ContentLength, 0, nil
	}
	if !ranged {
		return 0, 0, &badAnswer{"sent a part although the whole was asked for"}
	}
	first, last, total, ok := parseContentRange(res.Header.Get("Content-Range"))
	if !ok || first != start || !(end < 0 || last <= end-1) || total >= 0 && last >= total ||
		res.ContentLength >= 0 && res.ContentLength != last-first+1 {
		return 0, 0, &badAnswer{"sent another range than the one asked for (" + clean(res.Header.Get("Content-Range")) + ")"}
	}
	if total < 0 {
		return 0, 0, &badAnswer{"does not tell the size of the file"}
	}
	return total, first, nil
}

// isWebPage tells a login or error page with status 200 from a file that is not meant to be one.
func (m *mirror) isWebPage(res *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind != "text/html" && kind != "application/xhtml+xml" {
		return false
	}
	switch strings.ToLower(path.Ext(m.job.req.URL.Path)) {
	case "", ".html", ".htm", ".xhtml", ".php", ".asp", ".aspx", ".jsp", ".cgi":
		return false
	}
	return true
}

// suffixEncoding reports whether a server only says in Content-Encoding what the file's name says already (a common
// fault of configuration): then the body is the file as it is.
func suffixEncoding(name, enc string) bool {
	ext := strings.ToLower(path.Ext(name))
	switch strings.ToLower(enc) {
	case "gzip", "x-gzip":
		return ext == ".gz" || ext == ".tgz"
	case "bzip2", "x-bzip2":
		return ext == ".bz2"
	case "compress", "x-compress":
		return ext == ".z"
	case "zstd":
		return ext == ".zst"
	case "xz", "x-xz":
		return ext == ".xz"
	}
	return false
}

// parseContentRange parses RFC 9110 section 14.4, bytes only. total is -1 for "*".
func parseContentRange(text string) (first, last, total int64, ok bool) {
	rest, found := strings.CutPrefix(text, "bytes ")
	if !found {
		return 0, 0, 0, false
	}
	span, size, found := strings.Cut(strings.TrimSpace(rest), "/")
	if !found {
		return 0, 0, 0, false
	}
	a, b, found := strings.Cut(span, "-")
	if !found {
		return 0, 0, 0, false
	}
	first, ok1 := digits(a)
	last, ok2 := digits(b)
	total, ok3 := int64(-1), size == "*"
	if !ok3 {
		total, ok3 = digits(size)
	}
	return first, last, total, ok1 && ok2 && ok3 && first <= last
}

func digits(text string) (int64, bool) {
	if text == "" || text[0] < '0' || text[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 63)
	return n, err == nil
}

// retryAfter parses RFC 9110 section 10.2.3: seconds or a date. Zero: not said.
func retryAfter(text string, now time.Time) time.Time {
	if n, ok := digits(strings.TrimSpace(text)); ok {
		return now.Add(time.Duration(min(n, 1<<20)) * time.Second)
	}
	if t, err := http.ParseTime(text); err == nil {
		return t
	}
	return time.Time{}
}

// newLimit returns a limiter for bytes/s over everything that shares it. nil: no limit.
func newLimit(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	burst := int(min(max(bytesPerSecond/20, 1<<10), 64<<10))
	l := rate.NewLimiter(rate.Limit(bytesPerSecond), burst)
	l.AllowN(time.Now(), burst)
	return l
}
