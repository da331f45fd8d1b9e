package mirrortest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	loginPage = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Welcome to the hotel network</h1>" +
		"<form method=\"post\" action=\"/login\"><input name=\"room\"><button>Connect</button></form></body></html>\n"
	control = "\x1b[2J\x1b]0;owned\x07\x08\x7f"
	c1      = "\u009b2J\u009d0;owned\u009c"
)

// exchange is one request and its answer.
type exchange struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	conn  *conn
	entry *Entry
	ctx   context.Context // ends with the client, or with the mirror
	body  io.Writer       // the response as net/http frames it, or the bare connection
	path  string
}

// answer is what is to be sent.
type answer struct {
	status int
	header http.Header
	data   io.ReaderAt
	from   int64 // the body is data's bytes from from ...
	to     int64 // ... to to
	total  int64 // bytes of the whole file
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s.wg.Add(1) // the connection is counted too, so Wait is not passed yet
	defer s.wg.Done()
	w.Header().Set("Server", "mirrortest")
	for name, values := range s.cfg.Headers[r.URL.Path] {
		w.Header()[name] = slices.Clone(values)
	}
	if r.URL.Path == "/.stats" {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s.Stats()) // an error is the client's
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	x := &exchange{s: s, w: w, r: r, conn: r.Context().Value(connKey{}).(*conn), entry: s.stats.begin(r), ctx: ctx, body: w,
		path: r.URL.Path}
	defer func() {
		s.stats.update(func() {
			x.entry.Elapsed = time.Since(x.entry.Time)
			x.entry.Done = true
		})
	}()
	if s.bucket != nil {
		s.bucket.begin()
		defer s.bucket.end()
	}
	x.answer()
}

// strike notes that f struck.
func (x *exchange) strike(f *faultState) {
	x.s.stats.update(func() { x.entry.Faults = append(x.entry.Faults, f.Kind.String()) })
}

func (x *exchange) answer() {
	for f := range x.s.struck(stageAnswer, x.path, nil) {
		x.strike(f)
		x.instead(f)
		return
	}
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.status(http.StatusMethodNotAllowed)
		return
	}
	file, ok := x.s.lookup(x.path)
	defer x.s.release(x.path, file)
	fits := func(f *faultState) bool { return x.s.hasContent(f, x.path, ok) }
	for f := range x.s.struck(stageContent, x.path, fits) {
		x.strike(f)
		var err error
		if file, err = x.s.replace(f, x.path, file); err != nil {
			x.status(http.StatusInternalServerError)
			return
		}
		ok = true
	}
	if !ok {
		x.status(http.StatusNotFound)
		return
	}
	x.send(file)
}

// instead gives an answer that has nothing to do with the file.
func (x *exchange) instead(f *faultState) {
	h := x.w.Header()
	switch f.Kind {
	case NotFound:
		x.status(http.StatusNotFound)
	case Forbidden:
		x.status(http.StatusForbidden)
	case ServerError:
		x.status(http.StatusInternalServerError)
	case Unavailable, TooMany, UnavailableDate:
		wait := max(f.Dur, time.Second)
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		switch f.Kind {
		case TooMany:
			x.status(http.StatusTooManyRequests)
			return
		case UnavailableDate:
			// An HTTP date has whole seconds: rounded up, so that Dur is kept.
			h.Set("Retry-After", time.Now().Add(wait+time.Second-1).UTC().Format(http.TimeFormat))
		}
		x.status(http.StatusServiceUnavailable)
	case Blackhole:
		x.silence()
	case Login, HTMLTorrent:
		x.page(http.StatusOK, loginPage)
	case ControlRedirect:
		h.Set("Location", "http://127.0.0.1:1/"+url.PathEscape(control)+c1)
		x.page(http.StatusFound, "")
	case ControlReason:
		w, err := x.raw("HTTP/1.1", http.StatusNotFound, "Not Found "+control, nil)
		if err == nil {
			io.WriteString(w, "Content-Length: 0\r\n\r\n") // an error is the client's
		}
	case RedirectLoop:
		h.Set("Location", x.r.URL.RequestURI())
		x.page(http.StatusFound, "")
	case Redirect:
		h.Set("Location", target(f.Target, x.r.URL))
		x.page(http.StatusFound, "")
	case EndlessHeaders:
		w, err := x.raw("HTTP/1.1", http.StatusOK, "OK", nil)
		line := []byte("X-Endless: " + strings.Repeat("e", 1000) + "\r\n")
		for err == nil {
			if _, err = w.Write(line); err == nil {
				err = sleep(x.ctx, f.Dur)
			}
		}
	case HugeHeader:
		n := f.At
		if n <= 0 {
			n = 8 << 20
		}
		w, err := x.raw("HTTP/1.1", http.StatusOK, "OK", nil)
		if err == nil {
			// The client may have given up; there is nobody else to tell.
			io.WriteString(w, "X-Huge: "+strings.Repeat("h", int(n))+"\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// target completes where a redirect points with the path of the request.
func target(to string, asked *url.URL) string {
	if u, err := url.Parse(to); err == nil && u.Host != "" && u.Path == "" {
		u.Path, u.RawPath, u.RawQuery = asked.Path, asked.RawPath, asked.RawQuery
		return u.String()
	}
	return to
}

// status answers an error as nginx does, with a small page.
func (x *exchange) status(code int) {
	x.page(code, fmt.Sprintf("<html>\r\n<head><title>%d %s</title></head>\r\n</html>\r\n", code, http.StatusText(code)))
}

func (x *exchange) page(code int, text string) {
	h := x.w.Header()
	h.Set("Content-Type", "text/html")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	x.head(code)
	if x.r.Method != http.MethodHead {
		x.Write([]byte(text)) // an error is the client's
	}
}

func (x *exchange) head(code int) {
	x.w.WriteHeader(code)
	x.s.stats.update(func() { x.entry.Status = code })
}

// inConfig says whether p is served from Config.Files.
func (s *Server) inConfig(p string) bool {
	_, ok := s.cfg.Files[p]
	return ok
}

// lookup finds the true file. It has to be released.
func (s *Server) lookup(p string) (f File, ok bool) {
	if f, ok := s.cfg.Files[p]; ok {
		if f.Data == nil {
			f.Data = bytes.NewReader(nil)
		}
		return f, true
	}
	name := strings.TrimPrefix(path.Clean(p), "/")
	if s.root == nil || name == "" {
		return File{}, false
	}
	// O_NONBLOCK: a FIFO in the directory must not hang the mirror.
	file, err := s.root.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return File{}, false
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return File{}, false
	}
	return File{Data: file, Size: info.Size(), ModTime: info.ModTime()}, true
}

// plan decides what a good mirror answers. whole leaves Range out of account.
func (x *exchange) plan(file File, whole bool) *answer {
	a := &answer{status: http.StatusOK, header: x.w.Header(), data: file.Data, to: file.Size, total: file.Size}
	etag := file.etag()
	contentType := file.ContentType
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	a.header.Set("Content-Type", contentType)
	modified := ""
	if !file.ModTime.IsZero() {
		modified = file.ModTime.UTC().Format(http.TimeFormat)
		a.header.Set("Last-Modified", modified)
	}
	if etag != "" {
		a.header.Set("ETag", etag)
	}
	// As ngx_http_not_modified_filter: both conditions, where given, have to hold, and the date has to be equal.
	since, match := x.r.Header.Get("If-Modified-Since"), x.r.Header.Get("If-None-Match")
	if (since != "" || match != "") && (since == "" || sameDate(since, modified)) && (match == "" || anyTag(match, etag)) {
		a.header.Del("Content-Type")
		a.status, a.to = http.StatusNotModified, 0
		return a
	}
	if whole {
		return a
	}
	a.header.Set("Accept-Ranges", "bytes")
	header := x.r.Header.Get("Range")
	if cond := x.r.Header.Get("If-Range"); header == "" || cond != "" && !holds(cond, etag, modified) {
		return a
	}
	switch from, to, ok := parseRange(header, file.Size); {
	case !ok:
		a.status, a.to = http.StatusRequestedRangeNotSatisfiable, 0
		a.header.Del("Accept-Ranges")
		a.header.Del("Content-Type")
		a.header.Del("ETag")
		a.header.Del("Last-Modified")
		a.header.Set("Content-Range", fmt.Sprintf("bytes */%d", file.Size))
	case to >= 0:
		a.status, a.from, a.to = http.StatusPartialContent, from, to
		a.header.Del("Accept-Ranges")
		a.label(from, file.Size)
	}
	return a
}

// label sets a Content-Range that begins at from, of total.
func (a *answer) label(from, total int64) {
	a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+a.to-a.from-1, total))
}

func sameDate(a, b string) bool {
	ta, err := http.ParseTime(a)
	if err != nil {
		return false
	}
	tb, err := http.ParseTime(b)
	return err == nil && ta.Equal(tb)
}

// holds evaluates If-Range (RFC 9110 section 13.1.5): an equal strong tag, or the very date.
func holds(cond, etag, modified string) bool {
	if strings.HasSuffix(cond, `"`) {
		return cond == etag && !strings.HasPrefix(etag, "W/")
	}
	return sameDate(cond, modified)
}

// anyTag evaluates If-None-Match by weak comparison.
func anyTag(list, etag string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || etag != "" && strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// parseRange reads a Range header. Not ok: it cannot be satisfied or makes no sense, which nginx both answers with 416.
// to < 0: answered with the whole file, as are several ranges, another unit, and any range of an empty file.
func parseRange(header string, size int64) (from, to int64, ok bool) {
	unit, spec, found := strings.Cut(header, "=")
	if !found || !strings.EqualFold(unit, "bytes") || spec == "" || strings.Contains(spec, ",") || size == 0 {
		return 0, -1, true
	}
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return 0, 0, false
	}
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	number := func(s string) int64 {
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return -1
		}
		return int64(n)
	}
	if first == "" {
		n := number(last)
		if n <= 0 {
			return 0, 0, false
		}
		return max(size-n, 0), size, true
	}
	from, to = number(first), size
	if last != "" {
		end := number(last)
		if end < from {
			return 0, 0, false
		}
		if end < size {
			to = end + 1
		}
	}
	if from < 0 || from >= size {
		return 0, 0, false
	}
	return from, to, true
}

// send answers with file, spoiled by the faults that strike from here on.
func (x *exchange) send(file File) {
	ranged := func(*faultState) bool { return x.r.Header.Get("Range") != "" }
	ignore := false
	for f := range x.s.struck(stageRange, x.path, ranged) {
		x.strike(f)
		ignore = true
	}
	a := x.plan(file, ignore)
	if a.status != http.StatusOK && a.status != http.StatusPartialContent {
		if a.status == http.StatusNotModified {
			x.head(a.status)
			return
		}
		x.status(a.status)
		return
	}
	var frame FaultKind
	var frameAt int64
	isGet := func(*faultState) bool { return x.r.Method == http.MethodGet }
	for f := range x.s.struck(stageFrame, x.path, isGet) {
		x.strike(f)
		frame, frameAt = f.Kind, f.At
		break
	}
	if frame == Gzip { // like nginx, which then ignores Range
		a.status, a.from, a.to = http.StatusOK, 0, a.total
		a.header.Del("Content-Range")
		a.header.Del("Accept-Ranges")
	}
	headFits := func(f *faultState) bool {
		return f.Kind == ControlChars || f.Kind == ControlC1 || a.status == http.StatusPartialContent
	}
	for f := range x.s.struck(stageHead, x.path, headFits) {
		x.strike(f)
		switch f.Kind {
		case RangeStart:
			switch {
			case a.from > 0:
				a.label(a.from-1, a.total)
			case a.to < a.total:
				a.label(a.from+1, a.total)
			default:
				a.header.Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", a.total-1, a.total))
			}
		case RangeElsewhere:
			// One byte off where the file allows it: as wrong as it gets without looking so.
			if a.from > 0 {
				a.from--
				a.to--
			} else {
				a.from = min(1, a.to-1)
			}
			a.label(a.from, a.total)
		case RangeTotal:
			a.label(a.from, a.total+4096)
		case ControlChars, ControlC1:
			text := control
			if f.Kind == ControlC1 {
				text = c1
			}
			a.header.Set("ETag", `"`+text+`"`)
			a.header.Set("Server", text)
			a.header.Set("Content-Disposition", "attachment; filename="+text)
		}
	}
	if x.r.Method == http.MethodHead {
		a.header.Set("Content-Length", strconv.FormatInt(a.to-a.from, 10))
		x.head(a.status)
		return
	}
	var cut *faultState
	cutAt := a.to
	placed := func(f *faultState) bool {
		_, ok := f.place(a.from, a.to)
		return ok && (f.Kind == FlipBit || cut == nil && frame != Gzip)
	}
	for f := range x.s.struck(stageByte, x.path, placed) {
		x.strike(f)
		pos, _ := f.place(a.from, a.to)
		if f.Kind == FlipBit {
			a.data = flipped{a.data, pos}
		} else {
			cut, cutAt = f, pos
		}
	}
	if err := x.frame(a, frame, frameAt); err != nil {
		return
	}
	if frame == Gzip {
		x.zip(a)
		return
	}
	if err := x.copy(a.data, a.from, cutAt); err != nil {
		return
	}
	if cut != nil {
		x.cut(cut, a, cutAt)
	}
	if frame == Endless || frame == EndlessChunked {
		zeros := make([]byte, 64<<10)
		for {
			if _, err := x.Write(zeros); err != nil {
				return
			}
		}
	}
}

// frame sends the header, and decides by it how the body's end is told.
func (x *exchange) frame(a *answer, kind FaultKind, at int64) error {
	length := a.to - a.from
	switch kind {
	case HTTP10, WrongLength:
		proto := "HTTP/1.0"
		if kind == WrongLength {
			proto = "HTTP/1.1"
			if at == 0 {
				at = -(length + 1) / 2
			}
			a.header.Set("Content-Length", strconv.FormatInt(max(length+at, 0), 10))
		}
		w, err := x.raw(proto, a.status, http.StatusText(a.status), a.header)
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, "\r\n")
		x.body = w
		return err
	case Endless:
		if x.r.ProtoMajor == 1 {
			a.header.Set("Transfer-Encoding", "identity") // tells net/http to end the body by closing
		}
	case Gzip:
		a.header.Set("Content-Encoding", "gzip")
		if tag := a.header.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
			a.header.Set("ETag", "W/"+tag)
		}
	case NoLength, EndlessChunked:
	default:
		a.header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	x.head(a.status)
	if x.s.bucket != nil || kind != 0 {
		return x.flush()
	}
	return nil
}

// raw takes the connection from net/http and writes the start of a header: everything but its last empty line. The
// connection is closed when the mirror or the exchange ends. Over HTTP/2 it is reset.
func (x *exchange) raw(proto string, code int, reason string, header http.Header) (io.Writer, error) {
	nc, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.conn.reset()
		return nil, err
	}
	ctx, cancel := context.WithCancel(x.ctx)
	x.ctx = ctx
	x.s.wg.Go(func() {
		// Nobody else reads now; the end of the connection ends the exchange.
		io.Copy(io.Discard, struct{ io.Reader }{nc})
		cancel()
	})
	context.AfterFunc(x.ctx, func() { nc.Close() })
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d %s\r\nDate: %s\r\nConnection: close\r\n", proto, code, reason,
		time.Now().UTC().Format(http.TimeFormat))
	header.Write(&b) // a bytes.Buffer does not fail
	x.s.stats.update(func() { x.entry.Status = code })
	_, err = nc.Write(b.Bytes())
	return nc, err
}

// Write sends body bytes as fast as the mirror may, and counts them.
func (x *exchange) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := len(p)
		if b := x.s.bucket; b != nil {
			k = min(k, b.chunk)
			if err := b.take(x.ctx, k); err != nil {
				return n, err
			}
		}
		m, err := x.body.Write(p[:k])
		x.s.stats.sent(x.entry, int64(m))
		n += m
		if err == nil && x.s.bucket != nil {
			err = x.flush()
		}
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

// flush pushes what was written to the kernel.
func (x *exchange) flush() error {
	if x.body != io.Writer(x.w) {
		return nil
	}
	return http.NewResponseController(x.w).Flush()
}

// copy sends data's bytes from from to to.
func (x *exchange) copy(data io.ReaderAt, from, to int64) error {
	if f, ok := data.(*os.File); ok && x.s.root != nil && !x.s.inConfig(x.path) && x.s.bucket == nil && !x.s.cfg.TLS {
		return x.sendfile(f, from, to)
	}
	buf, ok := x.s.buffers.Get().(*[128 << 10]byte)
	if !ok {
		buf = new([128 << 10]byte)
	}
	defer x.s.buffers.Put(buf)
	for from < to {
		n, err := data.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 {
			return err
		}
		if _, err := x.Write(buf[:n]); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// sendfile lets the kernel copy, in steps that keep the statistics fresh. f's offset has to be ours alone.
func (x *exchange) sendfile(f *os.File, from, to int64) error {
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err
	}
	for from < to {
		n, err := io.CopyN(x.body, f, min(4<<20, to-from))
		x.s.stats.sent(x.entry, n)
		if err != nil {
			return err
		}
		from += n
	}
	return nil
}

func (x *exchange) zip(a *answer) {
	z, err := gzip.NewWriterLevel(x, gzip.BestSpeed)
	if err != nil {
		return
	}
	if _, err := io.Copy(z, io.NewSectionReader(a.data, a.from, a.to-a.from)); err == nil {
		z.Close() // an error is the client's
	}
}

// silence sends what was written and waits for the client, or the mirror, to give up.
func (x *exchange) silence() {
	<-x.ctx.Done()
	panic(http.ErrAbortHandler)
}

// cut does what f does to a body that has been sent up to pos. It may return for Drip alone.
func (x *exchange) cut(f *faultState, a *answer, pos int64) {
	if f.Kind != Drip {
		x.flush() // if it fails the connection is gone already
	}
	switch f.Kind {
	case Stall:
		x.silence()
	case Reset:
		x.conn.drain(x.ctx)
		x.conn.reset()
	case Truncate:
		x.conn.CloseWrite()
		x.conn.Close()
	case Vanish:
		x.conn.drain(x.ctx)
		x.s.vanish(f.Dur)
	case Drip:
		pause := f.Dur
		if pause <= 0 {
			pause = 50 * time.Millisecond
		}
		for ; pos < a.to; pos++ {
			if x.copy(a.data, pos, pos+1) != nil || x.flush() != nil || sleep(x.ctx, pause) != nil {
				panic(http.ErrAbortHandler)
			}
		}
		return
	}
	panic(http.ErrAbortHandler)
}
