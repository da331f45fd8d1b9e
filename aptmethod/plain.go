package aptmethod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	mostTries    = 5  // requests for one file of one server, after answers that were of no use
	pipelineMost = 10 // requests sent ahead, unless Pipeline-Depth says otherwise
	trustAfter   = 3  // answers after which a server that closes the connection may still be sent requests ahead
)

// isThere reports whether what an earlier run left is the whole file already; mu is held.
func (m *Method) isThere(ctx context.Context, it *item) bool {
	if it.ready != nil {
		return true
	}
	if it.tries > 0 || it.started || !it.expect.usable() || it.expect.size < 0 {
		return false
	}
	info, err := os.Stat(it.filename)
	if err != nil || !info.Mode().IsRegular() || info.Size() != it.expect.size {
		return false
	}
	found, err := sum(ctx, it.filename, it.expect)
	if err == nil && it.expect.matches(found) {
		it.ready = &found
		return true
	}
	os.Remove(it.filename)
	return false
}

// connected returns the connection to it's server, a new one if need be, with requests sent ahead.
func (m *Method) connected(ctx context.Context, it *item) (*conn, *trouble) {
	m.mu.Lock()
	c := m.conn
	m.mu.Unlock()
	if c != nil && c.server != it.at.server() {
		m.hangUp()
		c = nil
	}
	if c == nil {
		d := &dialler{config: &m.config, logins: m.logins, env: m.Env, detect: m.Detect, status: m.status, address: m.from}
		var t *trouble
		if c, t = d.open(ctx, it.at, it.proxy); t != nil {
			return nil, t
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = c
	m.fill()
	return c, nil
}

func (m *Method) from(address string) {
	m.mu.Lock()
	m.address = address
	m.mu.Unlock()
}

func (m *Method) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.close()
		m.conn = nil
	}
}

// fill sends the requests that may be sent by now; mu is held.
func (m *Method) fill() {
	c := m.conn
	if c == nil {
		return
	}
	depth := int(m.config.ourInt(c.host, "Pipeline-Depth", pipelineMost))
	if !c.pipeline || m.shy[c.server] {
		depth = 0
	}
	for _, it := range m.queue {
		if len(c.sent) > depth {
			return
		}
		if slices.Contains(c.sent, it) {
			continue
		}
		if it.large || it.at.server() != c.server || len(c.sent) > 0 && !it.expect.usable() {
			return
		}
		if m.isThere(context.Background(), it) {
			continue
		}
		c.sent = append(c.sent, it)
		c.net.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c.net, m.request(c, it)); err != nil {
			return // whoever reads notices
		}
	}
}

// step asks for the item at the head of the queue, or reads the answer that comes for it.
func (m *Method) step(ctx context.Context, it *item) error {
	c, t := m.connected(ctx, it)
	if t != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return m.fail(it, t)
	}
	m.mu.Lock()
	first := len(c.sent) > 0 && c.sent[0] == it
	m.mu.Unlock()
	if !first { // out of step: begin anew
		if it.ready == nil {
			m.hangUp()
		}
		return nil
	}
	m.status("Waiting for headers")
	res, err := c.readHead()
	if err != nil {
		return m.noAnswer(ctx, c, it, err)
	}
	defer res.Body.Close()
	m.debugAnswer(it, res)
	m.mu.Lock()
	m.broken = 0
	last := res.Close || !res.ProtoAtLeast(1, 1)
	if last && res.StatusCode/100 == 2 && c.answers <= trustAfter && res.Header.Get("Connection") != "" {
		m.shy[c.server] = true
	}
	if !last && !c.pipeline {
		c.pipeline = true
		m.fill()
	}
	m.mu.Unlock()
	err = m.answered(ctx, c, it, res)
	if last {
		m.hangUp()
	}
	return err
}

// noAnswer is called when the header of an answer did not come, or is none.
func (m *Method) noAnswer(ctx context.Context, c *conn, it *item, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.hangUp()
	var silent interface{ Timeout() bool }
	if errors.As(err, &silent) && silent.Timeout() {
		return m.fail(it, transient("Connection timed out"))
	}
	if !isLost(err) {
		return m.fail(it, transient("Bad header data"))
	}
	m.mu.Lock()
	if c.answers < trustAfter { // else it has been idle, or has answered as many as it answers at a time
		m.shy[c.server] = true
	}
	m.broken++
	again := m.broken < 2
	if !again {
		m.broken = 0
	}
	m.mu.Unlock()
	if again {
		return nil
	}
	return m.fail(it, transient("Connection failed"))
}

// isLost tells a connection that ended from an answer that makes no sense.
func isLost(err error) bool {
	var number unix.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &number)
}

// answered deals with an answer for it, the first item that was asked for.
func (m *Method) answered(ctx context.Context, c *conn, it *item, res *http.Response) error {
	code := res.StatusCode
	m.mu.Lock()
	if !honestAboutRanges(res) {
		m.noRange[c.server] = true
	}
	allowed := m.ranges(c, it)
	m.mu.Unlock()
	switch {
	case code == http.StatusNotModified:
		os.Remove(it.filename)
		m.taken(c, it)
		return m.done(it, outcome{filename: it.filename, modified: it.modified, notNewer: true})
	case isRedirect(code) && m.config.ourBool(it.at.host, "AllowRedirect", true) && res.Header.Get("Location") != "":
		to, t := m.redirect(it, res.Header.Get("Location"))
		m.flush(c, it, res)
		if t != nil {
			return m.fail(it, t)
		}
		return m.send(redirectMessage(it.uri, to))
	}
	part, t := partOf(res)
	if t != nil {
		m.hangUp()
		return m.fail(it, t)
	}
	switch {
	case (code == http.StatusRequestedRangeNotSatisfiable || code == http.StatusPartialContent) && !allowed:
		os.Remove(it.filename)
		return m.again(c, it, res)
	case code == http.StatusRequestedRangeNotSatisfiable:
		info, err := os.Stat(it.filename)
		if err != nil || info.Size() == 0 {
			break
		}
		found, err := sum(ctx, it.filename, it.expect)
		if err == nil && (it.expect.matches(found) || !it.expect.usable() && part.total == info.Size()) {
			m.flush(c, it, res)
			m.send(it.startMessage(info.Size(), info.ModTime(), info.Size()))
			return m.done(it, outcome{filename: it.filename, size: info.Size(), modified: info.ModTime(), resumed: info.Size(), found: found})
		}
		os.Remove(it.filename)
		return m.again(c, it, res)
	}
	if code < 200 || code >= 300 {
		m.flush(c, it, res)
		t := permanent("%d %s", code, strings.TrimPrefix(res.Status, strconv.Itoa(code)))
		t.reason = fmt.Sprintf("HttpError%d", code)
		t.transient = slices.Contains([]int{408, 429, 500, 502, 503, 504, 599}, code)
		return m.fail(it, t)
	}
	return m.receive(ctx, c, it, res, part)
}

// part is which bytes of the file an answer holds.
type part struct {
	from  int64
	total int64 // of the whole file; < 0: not told
}

func partOf(res *http.Response) (part, *trouble) {
	p := part{total: -1}
	if res.ContentLength > 0 {
		p.total = res.ContentLength
	}
	text := res.Header.Get("Content-Range")
	if text == "" || res.StatusCode != http.StatusPartialContent && res.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		if res.StatusCode == http.StatusPartialContent {
			return p, permanent("The HTTP server sent an invalid Content-Range header")
		}
		return p, nil
	}
	span, total, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	var err error
	if p.total, err = strconv.ParseInt(total, 10, 64); err != nil || p.total < 0 {
		return p, transient("Bad header data. The HTTP server sent an invalid Content-Range header")
	}
	if span == "*" && res.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return p, nil
	}
	first, _, _ := strings.Cut(span, "-")
	if p.from, err = strconv.ParseInt(first, 10, 64); err != nil || p.from < 0 {
		return p, transient("Bad header data. The HTTP server sent an invalid Content-Range header")
	}
	if p.from > p.total {
		return p, transient("Bad header data. This HTTP server has broken range support")
	}
	return p, nil
}

// honestAboutRanges is false for servers that say they have no ranges of bytes, and for Varnish before 6.4, which has
// them but forgets to compare dates.
func honestAboutRanges(res *http.Response) bool {
	var major, minor int
	for _, via := range strings.Fields(res.Header.Get("Via")) {
		if n, _ := fmt.Sscanf(via, "(Varnish/%d.%d)", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 4) {
			return false
		}
	}
	accept := res.Header.Get("Accept-Ranges")
	return accept == "" || slices.Contains(strings.Split(strings.ReplaceAll(accept, " ", ""), ","), "bytes")
}

// taken notes that the answer for it has been read to its end, and that it is not to be asked for again.
func (m *Method) taken(c *conn, it *item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.sent = without(c.sent, it)
	m.queue = without(m.queue, it)
	if m.conn == c {
		m.fill()
	}
}

func without(list []*item, it *item) []*item {
	return slices.DeleteFunc(list, func(o *item) bool { return o == it })
}

// flush reads what nobody wants, if it is short.
func (m *Method) flush(c *conn, it *item, res *http.Response) {
	n, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxJunk))
	if err != nil || n == maxJunk || res.Close {
		m.hangUp()
	}
	m.taken(c, it)
}

// again asks once more, behind what has been asked for already.
func (m *Method) again(c *conn, it *item, res *http.Response) error {
	if it.tries++; it.tries > mostTries {
		m.hangUp()
		return m.fail(it, permanent("This HTTP server has broken range support"))
	}
	m.flush(c, it, res)
	m.mu.Lock()
	defer m.mu.Unlock()
	place := 0
	if m.conn == c {
		place = len(c.sent)
	}
	m.queue = slices.Insert(m.queue, min(place, len(m.queue)), it)
	m.fill()
	return nil
}

// receive puts the body of an answer where apt wants it.
func (m *Method) receive(ctx context.Context, c *conn, it *item, res *http.Response, p part) error {
	f, err := os.OpenFile(it.filename, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o666)
	if err == nil {
		err = f.Truncate(p.from)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		m.hangUp()
		if errors.Is(err, fs.ErrPermission) && m.neighbors.own && m.Confine != nil {
			// Confined to where apt's first files went. apt's own method, which is not, can still bring it.
			m.drop(it)
			_, rest, _ := strings.Cut(it.uri, "://")
			return m.send(redirectMessage(it.uri, it.at.wire()+"://"+rest))
		}
		return m.fail(it, permanent("Could not open file %s - open (%s)", it.filename, numbered(err)))
	}
	defer f.Close()
	date := parseTime(res.Header.Get("Last-Modified"))
	if !it.started {
		it.started = true
		m.send(it.startMessage(max(p.total, 0), date, p.from))
	}
	t := m.checkSize(c, it, p)
	if t == nil {
		t = m.copyBody(ctx, c, it, res.Body, f, p.from, date)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if t != nil {
		m.hangUp()
		return m.fail(it, t)
	}
	return m.finish(ctx, c, it, date, p)
}

// checkSize refuses a file of a size that nobody waits for: the mirror is being updated, or it is some error page.
func (m *Method) checkSize(c *conn, it *item, p part) *trouble {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.total < 0 {
		return nil
	}
	for _, o := range c.sent {
		if o.expect.size <= 0 || o.expect.size == p.total {
			return nil
		}
	}
	return unexpectedSize(p.total, it.expect.size)
}

// most is the largest file that may come now: answers may have been swapped. 0: no limit.
func (m *Method) most(c *conn) (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range c.sent {
		if o.maximum <= 0 {
			return 0
		}
		n = max(n, o.maximum)
	}
	return n
}

// copyBody writes a body behind the first from bytes of f. After each write f bears the server's date: whoever goes on
// later asks whether the file is still of that date.
func (m *Method) copyBody(ctx context.Context, c *conn, it *item, body io.Reader, f *os.File, from int64, date time.Time) *trouble {
	limit, most := m.limit, m.most(c)
	chunk := make([]byte, readBuffer)
	if limit != nil {
		chunk = chunk[:min(len(chunk), limit.Burst())]
	}
	for pos := from; ; {
		n, err := body.Read(chunk)
		if n > 0 {
			if _, werr := f.WriteAt(chunk[:n], pos); werr != nil {
				stamp(f, date) // when there is room again, it goes on from here
				return permanent("Error writing to file - write (%s)", numbered(werr))
			}
			pos += int64(n)
			stamp(f, date)
			if most > 0 && pos > most {
				return unexpectedSize(pos, most)
			}
			if werr := wait(ctx, limit, n); werr != nil {
				return transient("%v", werr)
			}
		}
		var silent interface{ Timeout() bool }
		switch {
		case err == io.EOF:
			stamp(f, date)
			return nil
		case err == nil:
		case errors.As(err, &silent) && silent.Timeout():
			return transient("Connection timed out")
		case isLost(err):
			return transient("Error reading from server. Remote end closed connection")
		default:
			return transient("Error reading from server - %s", cause(err))
		}
	}
}

func wait(ctx context.Context, limit *rate.Limiter, n int) error {
	if limit == nil {
		return nil
	}
	return limit.WaitN(ctx, n)
}

// stamp gives f the server's date, the beginning of time if it told none: then nothing is taken for the same version.
func stamp(f *os.File, date time.Time) {
	seconds := int64(0)
	if !date.IsZero() {
		seconds = date.Unix()
	}
	tv := unix.NsecToTimeval(seconds * int64(time.Second))
	unix.Futimes(int(f.Fd()), []unix.Timeval{tv, tv}) // a wrong date costs a later run bytes, not correctness
}

// finish reports a file that has come. If it is not what was asked for, but what another request was for, the answers
// were swapped on the way.
func (m *Method) finish(ctx context.Context, c *conn, it *item, date time.Time, p part) error {
	found, err := sum(ctx, it.filename, it.expect)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		m.hangUp()
		return m.fail(it, permanent("Problem hashing file - %s", cause(err)))
	}
	o := outcome{filename: it.filename, size: found.size, modified: date, resumed: p.from, found: found}
	if it.expect.usable() && !it.expect.matches(found) {
		if other := m.swapped(ctx, c, it); other != nil {
			if err := os.Rename(it.filename, other.filename); err == nil {
				it.started = false
				o.filename, o.found = other.filename, *other.ready
				m.taken(c, other)
				return m.done(other, o)
			}
		}
		return m.wrong(ctx, c, it, o)
	}
	m.taken(c, it)
	return m.done(it, o)
}
