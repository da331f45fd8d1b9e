package mirrortest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const size = 300_000

// world is one mirror of /f and /f.torrent with some faults, and its client.
type world struct {
	t    *testing.T
	s    *Server
	c    *http.Client
	data []byte
}

func faulty(t *testing.T, faults ...Fault) *world {
	t.Helper()
	data := sample(size)
	s := start(t, Config{Files: map[string]File{"/f": Bytes(data), "/f.torrent": Bytes([]byte("the true torrent"))},
		Faults: faults})
	return &world{t, s, client(t, s), data}
}

// fetch wants a status and returns the answer, what came of the body, and how that ended.
func (w *world) fetch(status int, path string, header ...string) (*http.Response, []byte, error) {
	w.t.Helper()
	resp, body, err := fetch(w.t, w.c, w.s, path, header...)
	if resp == nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != status {
		w.t.Fatalf("status %d, want %d", resp.StatusCode, status)
	}
	return resp, body, err
}

// whole wants the answer to end well, with this body.
func (w *world) whole(status int, want []byte, path string, header ...string) *http.Response {
	w.t.Helper()
	resp, body, err := w.fetch(status, path, header...)
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Equal(body, want) {
		w.t.Fatalf("body of %d bytes differs from the %d expected", len(body), len(want))
	}
	return resp
}

func TestStatusFaults(t *testing.T) {
	for kind, status := range map[FaultKind]int{NotFound: 404, Forbidden: 403, ServerError: 500, Unavailable: 503,
		UnavailableDate: 503, TooMany: 429} {
		w := faulty(t, Fault{Kind: kind, Dur: 1500 * time.Millisecond, Count: 1})
		asked := time.Now()
		resp, _, err := w.fetch(status, "/f")
		if err != nil {
			t.Fatal(err)
		}
		after := resp.Header.Get("Retry-After")
		switch kind {
		case Unavailable, TooMany:
			if after != "2" {
				t.Errorf("%v: Retry-After %q", kind, after)
			}
		case UnavailableDate:
			if at, err := http.ParseTime(after); err != nil || at.Before(asked.Add(1500*time.Millisecond)) {
				t.Errorf("%v: Retry-After %q", kind, after)
			}
		default:
			if after != "" {
				t.Errorf("%v: Retry-After %q", kind, after)
			}
		}
		w.whole(200, w.data, "/f")
		if e := w.s.Stats().Log[0]; e.Status != status || !slices.Equal(e.Faults, []string{kind.String()}) {
			t.Errorf("%v: logged %+v", kind, e)
		}
	}
}

func TestWhichResponsesAreStruck(t *testing.T) {
	w := faulty(t, Fault{Kind: NotFound, After: 1, Count: 2})
	for _, status := range []int{200, 404, 404, 200} {
		w.fetch(status, "/f")
	}
	w = faulty(t, Fault{Kind: NotFound})
	w.fetch(200, "/f.torrent")
	w = faulty(t, Fault{Kind: NotFound, Path: "*"})
	w.fetch(404, "/f.torrent")
	w = faulty(t, Fault{Kind: NotFound, Path: "/*.torrent"})
	w.fetch(404, "/f.torrent")
	w.fetch(200, "/f")
	statuses := func() (all []int) {
		w := faulty(t, Fault{Kind: NotFound, Chance: 0.5, Seed: 7})
		for range 40 {
			resp, _, err := fetch(t, w.c, w.s, "/f", "Range", "bytes=0-0")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, resp.StatusCode)
		}
		return all
	}
	first := statuses()
	if !slices.Contains(first, 404) || !slices.Contains(first, 206) || !slices.Equal(first, statuses()) {
		t.Error("chance is not repeatable, or never, or always: ", first)
	}
}

func TestRefuse(t *testing.T) {
	w := faulty(t, Fault{Kind: Refuse})
	if _, _, err := fetch(t, w.c, w.s, "/f"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
}

func TestUnreachable(t *testing.T) {
	w := faulty(t, Fault{Kind: Unreachable})
	nc, err := net.DialTimeout("tcp", w.s.addr.String(), 300*time.Millisecond)
	if err == nil {
		nc.Close()
		t.Fatal("connected")
	}
	if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatal(err)
	}
	// After the pause the client's own repeated SYN gets through.
	w = faulty(t, Fault{Kind: Unreachable, Dur: 100 * time.Millisecond})
	w.whole(200, w.data, "/f")
}

func TestSlowConnect(t *testing.T) {
	const d = 80 * time.Millisecond
	w := faulty(t, Fault{Kind: SlowConnect, Dur: d, Count: 1})
	begin := time.Now()
	w.whole(200, w.data, "/f")
	if took := time.Since(begin); took < d {
		t.Errorf("took %v", took)
	}
}

// hangs wants resp to bring n bytes and then nothing until the mirror is closed.
func (w *world) hangs(resp *http.Response, want []byte) {
	w.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, want) {
		w.t.Fatal("bytes before the silence: ", err)
	}
	more := make(chan error, 1)
	go func() {
		n, err := resp.Body.Read(make([]byte, 1))
		if n > 0 {
			err = nil
		}
		more <- err
	}()
	select {
	case err := <-more:
		w.t.Fatal("not silent: ", err)
	case <-time.After(50 * time.Millisecond):
	}
	w.s.Close()
	if err := <-more; err == nil || err == io.EOF {
		w.t.Fatal("closing the mirror ended the body well")
	}
}

func TestStall(t *testing.T) {
	w := faulty(t, Fault{Kind: Stall, At: 100_000})
	w.whole(206, w.data[100_001:], "/f", "Range", "bytes=100001-")
	w.whole(206, w.data[:100_000], "/f", "Range", "bytes=0-99999")
	resp, err := get(t, w.c, w.s, "/f", "Range", "bytes=50000-")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.hangs(resp, w.data[50_000:100_000])
}

func TestStallInEveryResponse(t *testing.T) {
	w := faulty(t, Fault{Kind: Stall, At: -10})
	resp, err := get(t, w.c, w.s, "/f", "Range", "bytes=50000-")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.hangs(resp, w.data[50_000:50_010])
}

func TestBlackhole(t *testing.T) {
	w := faulty(t, Fault{Kind: Blackhole})
	answered := make(chan error, 1)
	go func() {
		resp, err := get(t, w.c, w.s, "/f")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	for w.s.Stats().Requests == 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-answered:
		t.Fatal("answered: ", err)
	case <-time.After(50 * time.Millisecond):
	}
	w.s.Close()
	if <-answered == nil {
		t.Fatal("answered at the end")
	}
	if e := w.s.Stats().Log[0]; e.Status != 0 || !e.Done {
		t.Fatalf("logged %+v", e)
	}
}

func TestReset(t *testing.T) {
	w := faulty(t, Fault{Kind: Reset, At: 250_000, Count: 1})
	_, body, err := w.fetch(200, "/f")
	if !errors.Is(err, syscall.ECONNRESET) || !bytes.Equal(body, w.data[:250_000]) {
		t.Fatal(len(body), err)
	}
	w.whole(200, w.data, "/f")
	if st := w.s.Stats(); st.BodyBytes != 250_000+size || st.Connections != 2 {
		t.Fatal(st)
	}
}

func TestTruncate(t *testing.T) {
	w := faulty(t, Fault{Kind: Truncate, At: 1000})
	resp, body, err := w.fetch(200, "/f")
	if err != io.ErrUnexpectedEOF || resp.ContentLength != size || !bytes.Equal(body, w.data[:1000]) {
		t.Fatal(len(body), err)
	}
}

func TestDrip(t *testing.T) {
	w := faulty(t, Fault{Kind: Drip, At: size - 5, Dur: time.Millisecond})
	w.whole(200, w.data, "/f")
	w = faulty(t, Fault{Kind: Drip, At: 10, Dur: time.Hour})
	resp, err := get(t, w.c, w.s, "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.hangs(resp, w.data[:11])
}

func TestVanish(t *testing.T) {
	for away := 200 * time.Millisecond; !vanishes(t, away); away *= 2 {
		if away > time.Minute {
			t.Fatal("never away")
		}
	}
}

// vanishes checks a mirror that is away for so long. false: nothing was to be seen of that.
func vanishes(t *testing.T, away time.Duration) bool {
	w := faulty(t, Fault{Kind: Vanish, At: 1000, Count: 1, Dur: away})
	if _, body, err := w.fetch(200, "/f"); !errors.Is(err, syscall.ECONNRESET) || !bytes.Equal(body, w.data[:1000]) {
		t.Fatal(len(body), err)
	}
	for refused := 0; ; {
		_, body, err := fetch(t, w.c, w.s, "/f")
		if err == nil {
			if !bytes.Equal(body, w.data) {
				t.Error("wrong after the return")
			}
			return refused > 0
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		refused++
		time.Sleep(5 * time.Millisecond)
	}
}

func inverted(b []byte, mask byte) []byte {
	out := bytes.Clone(b)
	for i := range out {
		out[i] ^= mask
	}
	return out
}

func TestWrongBytes(t *testing.T) {
	good := faulty(t).whole(200, sample(size), "/f")
	w := faulty(t, Fault{Kind: WrongBytes})
	resp := w.whole(200, inverted(w.data, 0xff), "/f")
	for _, name := range []string{"ETag", "Last-Modified", "Content-Length"} {
		if resp.Header.Get(name) != good.Header.Get(name) {
			t.Errorf("%s gives the lie away", name)
		}
	}
	other := bytes.Repeat([]byte("x"), size)
	w = faulty(t, Fault{Kind: WrongBytes, Data: Bytes(other)})
	w.whole(206, other[5:10], "/f", "Range", "bytes=5-9")
}

func TestFlipBit(t *testing.T) {
	w := faulty(t, Fault{Kind: FlipBit, At: 150_000, Count: 1})
	w.whole(206, w.data[:150_000], "/f", "Range", "bytes=0-149999")
	wrong := bytes.Clone(w.data)
	wrong[150_000] ^= 1
	w.whole(206, wrong[140_000:160_000], "/f", "Range", "bytes=140000-159999")
	w.whole(200, w.data, "/f")
}

func TestVersions(t *testing.T) {
	good := faulty(t).whole(200, sample(size), "/f")
	for kind, want := range map[FaultKind][]byte{
		Older:     inverted(sample(size)[:size*3/4], 0x5a),
		OlderSame: inverted(sample(size), 0x5a),
	} {
		w := faulty(t, Fault{Kind: kind})
		resp := w.whole(200, want, "/f")
		old, err := http.ParseTime(resp.Header.Get("Last-Modified"))
		now, _ := http.ParseTime(good.Header.Get("Last-Modified"))
		if err != nil || !old.Before(now) || resp.Header.Get("ETag") == good.Header.Get("ETag") {
			t.Errorf("%v: %v", kind, resp.Header)
		}
	}
	version := Bytes([]byte("version 1"))
	version.ETag = `"one"`
	w := faulty(t, Fault{Kind: Older, Data: version})
	if resp := w.whole(200, []byte("version 1"), "/f"); resp.Header.Get("ETag") != `"one"` {
		t.Error(resp.Header)
	}
}

func TestChanged(t *testing.T) {
	w := faulty(t, Fault{Kind: Changed, After: 2})
	before := w.whole(206, w.data[:10], "/f", "Range", "bytes=0-9")
	tag := before.Header.Get("ETag")
	w.whole(206, w.data[10:20], "/f", "Range", "bytes=10-19", "If-Range", tag)
	newer := inverted(w.data, 0xa5)
	after := w.whole(206, newer[20:30], "/f", "Range", "bytes=20-29")
	if after.Header.Get("ETag") == tag || after.Header.Get("Last-Modified") == before.Header.Get("Last-Modified") {
		t.Error("the validators did not change")
	}
	w.whole(200, newer, "/f", "Range", "bytes=20-29", "If-Range", tag)
}

func TestLogin(t *testing.T) {
	w := faulty(t, Fault{Kind: Login})
	resp := w.whole(200, []byte(loginPage), "/f", "Range", "bytes=10-19")
	if resp.Header.Get("Content-Type") != "text/html" || resp.Header.Get("ETag") != "" {
		t.Error(resp.Header)
	}
}

func TestRangeFaults(t *testing.T) {
	w := faulty(t, Fault{Kind: IgnoreRange})
	if resp := w.whole(200, w.data, "/f", "Range", "bytes=10-19"); resp.Header.Get("Content-Range") != "" {
		t.Error(resp.Header)
	}
	for _, c := range []struct {
		kind           FaultKind
		ask, said      string
		from, to       int
		lengthDisagree bool
	}{
		{RangeStart, "bytes=10-19", "bytes 9-18/300000", 10, 20, false},
		{RangeStart, "bytes=0-9", "bytes 1-10/300000", 0, 10, false},
		{RangeStart, "bytes=0-", "bytes 1-299999/300000", 0, size, true},
		{RangeTotal, "bytes=10-19", "bytes 10-19/304096", 10, 20, false},
		{RangeElsewhere, "bytes=10-19", "bytes 9-18/300000", 9, 19, false},
		{RangeElsewhere, "bytes=0-9", "bytes 1-9/300000", 1, 10, false},
	} {
		w := faulty(t, Fault{Kind: c.kind})
		resp := w.whole(206, w.data[c.from:c.to], "/f", "Range", c.ask)
		if got := resp.Header.Get("Content-Range"); got != c.said {
			t.Errorf("%v: %s answered by %s, want %s", c.kind, c.ask, got, c.said)
		}
		w.whole(200, w.data, "/f")
	}
}

func TestGzip(t *testing.T) {
	w := faulty(t, Fault{Kind: Gzip})
	resp, body, err := w.fetch(200, "/f", "Range", "bytes=10-19", "Accept-Encoding", "identity")
	if err != nil || resp.Header.Get("Content-Encoding") != "gzip" || resp.ContentLength != -1 {
		t.Fatal(resp.Header, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || !bytes.Equal(plain, w.data) {
		t.Fatal(err)
	}
}

func TestNoLength(t *testing.T) {
	w := faulty(t, Fault{Kind: NoLength})
	resp := w.whole(206, w.data[10:], "/f", "Range", "bytes=10-")
	if resp.ContentLength != -1 || !slices.Equal(resp.TransferEncoding, []string{"chunked"}) {
		t.Error(resp.ContentLength, resp.TransferEncoding)
	}
}

func TestHTTP10(t *testing.T) {
	w := faulty(t, Fault{Kind: HTTP10})
	resp := w.whole(206, w.data[10:], "/f", "Range", "bytes=10-")
	if resp.Proto != "HTTP/1.0" || resp.ContentLength != -1 || resp.TransferEncoding != nil {
		t.Error(resp.Proto, resp.ContentLength, resp.TransferEncoding)
	}
	w.whole(200, w.data, "/f")
	if st := w.s.Stats(); st.Connections != 2 || st.BodyBytes != 2*size-10 || st.Log[0].Status != 206 {
		t.Error(st)
	}
}

func TestWrongLength(t *testing.T) {
	w := faulty(t, Fault{Kind: WrongLength})
	if resp := w.whole(200, w.data[:size/2], "/f"); resp.ContentLength != size/2 {
		t.Error(resp.ContentLength)
	}
	w = faulty(t, Fault{Kind: WrongLength, At: 7})
	resp, body, err := w.fetch(200, "/f")
	if err != io.ErrUnexpectedEOF || resp.ContentLength != size+7 || !bytes.Equal(body, w.data) {
		t.Error(resp.ContentLength, len(body), err)
	}
	w = faulty(t, Fault{Kind: WrongLength, At: -7})
	w.whole(200, w.data[:size-7], "/f")
}

func TestEndless(t *testing.T) {
	for kind, chunked := range map[FaultKind]bool{Endless: false, EndlessChunked: true} {
		w := faulty(t, Fault{Kind: kind})
		resp, err := get(t, w.c, w.s, "/f", "Range", "bytes=10-19")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 206 || resp.ContentLength != -1 || (resp.TransferEncoding != nil) != chunked {
			t.Errorf("%v: %d, %v, %v", kind, resp.StatusCode, resp.ContentLength, resp.TransferEncoding)
		}
		body := make([]byte, 3<<20)
		if _, err := io.ReadFull(resp.Body, body); err != nil || !bytes.Equal(body[:10], w.data[10:20]) {
			t.Errorf("%v: %v", kind, err)
		}
		resp.Body.Close()
		w.s.Close() // waits for the answer to end
	}
}

func TestHeaderFloods(t *testing.T) {
	for _, kind := range []FaultKind{EndlessHeaders, HugeHeader} {
		w := faulty(t, Fault{Kind: kind})
		w.c.Transport.(*http.Transport).MaxResponseHeaderBytes = 1 << 20
		if _, err := get(t, w.c, w.s, "/f"); err == nil || !strings.Contains(err.Error(), "exceeded") {
			t.Errorf("%v: %v", kind, err)
		}
	}
	w := faulty(t, Fault{Kind: HugeHeader, At: 5000})
	if resp := w.whole(200, nil, "/f"); len(resp.Header.Get("X-Huge")) != 5000 {
		t.Error(len(resp.Header.Get("X-Huge")))
	}
}

func TestControlChars(t *testing.T) {
	// net/http refuses C0 control characters, so this is read by hand.
	w := faulty(t, Fault{Kind: ControlChars})
	nc, err := net.Dial("tcp", w.s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "GET /f HTTP/1.1\r\nHost: m\r\nRange: bytes=0-0\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(nc)
	if err != nil || !bytes.HasSuffix(answer, append([]byte("\r\n\r\n"), w.data[0])) {
		t.Fatalf("%q, %v", answer, err)
	}
	for _, line := range []string{"Etag: \"" + control + "\"", "Server: " + control,
		"Content-Disposition: attachment; filename=" + control} {
		if !bytes.Contains(answer, []byte("\r\n"+line+"\r\n")) {
			t.Errorf("no %q in %q", line, answer)
		}
	}
	w = faulty(t, Fault{Kind: ControlC1})
	if resp := w.whole(200, w.data, "/f"); resp.Header.Get("ETag") != `"`+c1+`"` {
		t.Errorf("%q", resp.Header)
	}
	w = faulty(t, Fault{Kind: ControlReason})
	if resp := w.whole(404, nil, "/f"); !strings.HasSuffix(resp.Status, control) {
		t.Errorf("%q", resp.Status)
	}
	w = faulty(t, Fault{Kind: ControlRedirect})
	resp := w.whole(302, nil, "/f")
	if u, err := resp.Location(); err != nil || u.Path != "/"+control+c1 {
		t.Errorf("%q, %v", u, err)
	}
}

func TestRedirects(t *testing.T) {
	w := faulty(t, Fault{Kind: RedirectLoop})
	if resp := w.whole(302, nil, "/f"); resp.Header.Get("Location") != "/f" {
		t.Error(resp.Header)
	}
	other := faulty(t)
	w = faulty(t, Fault{Kind: Redirect, Target: strings.TrimSuffix(other.s.URL(""), "/")})
	w.c.CheckRedirect = nil
	w.whole(206, w.data[3:], "/f", "Range", "bytes=3-")
	if other.s.Stats().BodyBytes != size-3 || w.s.Stats().BodyBytes != 0 {
		t.Error("not from the other host")
	}
	w = faulty(t, Fault{Kind: Redirect, Target: "https://192.0.2.1/x"})
	if resp := w.whole(302, nil, "/f"); resp.Header.Get("Location") != "https://192.0.2.1/x" {
		t.Error(resp.Header)
	}
}

// metainfoOf is a torrent of b, written here a second time from BEP 3.
func metainfoOf(name string, b []byte) []byte {
	var pieces string
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), 262144)
		sum := sha1.Sum(b[:k])
		pieces += string(sum[:])
		b = b[k:]
	}
	return fmt.Appendf(nil, "d4:infod6:lengthi%de4:name%d:%s12:piece lengthi262144e6:pieces%d:%see", n, len(name), name,
		len(pieces), pieces)
}

func TestTorrentFaults(t *testing.T) {
	w := faulty(t, Fault{Kind: OwnTorrent})
	wrong := inverted(w.data, 0xff)
	w.whole(200, wrong, "/f")
	w.whole(200, metainfoOf("f", wrong), "/f.torrent")

	other := []byte("another file")
	w = faulty(t, Fault{Kind: OwnTorrent, Data: Bytes(other), Path: "/f"})
	w.whole(200, other, "/f")
	w.whole(200, metainfoOf("f", other), "/f.torrent")

	w = faulty(t, Fault{Kind: OldTorrent})
	w.whole(200, w.data, "/f")
	w.whole(200, metainfoOf("f", inverted(w.data[:size*3/4], 0x5a)), "/f.torrent")
	w = faulty(t, Fault{Kind: OldTorrent, Data: Bytes([]byte("an old torrent"))})
	w.whole(200, []byte("an old torrent"), "/f.torrent")

	w = faulty(t, Fault{Kind: HTMLTorrent})
	w.whole(200, w.data, "/f")
	w.whole(200, []byte(loginPage), "/f.torrent")
}

func TestFaultsCombine(t *testing.T) {
	w := faulty(t, Fault{Kind: WrongBytes}, Fault{Kind: HTTP10}, Fault{Kind: Truncate, At: 1000}, Fault{Kind: FlipBit, At: 5})
	want := inverted(w.data, 0xff)
	want[5] ^= 1
	w.whole(200, want[:1000], "/f") // HTTP/1.0 without length: the end is an end
	want = inverted(w.data, 0xff)
	w.whole(206, want[2000:], "/f", "Range", "bytes=2000-")
	if got := w.s.Stats().Log[0].Faults; !slices.Equal(got, []string{"wrong", "http10", "truncate", "flip"}) {
		t.Error(got)
	}
}

func TestEveryKindIsNamedAndTakesAll(t *testing.T) {
	for _, k := range Kinds() {
		parsed, err := ParseFaultKind(k.String())
		if err != nil || parsed != k || k.Describe() == "" {
			t.Errorf("%d: %v, %v", int(k), parsed, err)
		}
	}
	if len(Kinds()) != len(kinds) {
		t.Error("Kinds leaves some out")
	}
}

func TestBadFaults(t *testing.T) {
	for _, f := range []Fault{{}, {Kind: 999}, {Kind: Redirect}, {Kind: NotFound, Path: "["}, {Kind: NotFound, Chance: 2}} {
		if s, err := Start(Config{Faults: []Fault{f}}); err == nil {
			s.Close()
			t.Errorf("%+v was accepted", f)
		}
	}
}
