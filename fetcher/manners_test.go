package fetcher

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"

	"golang.org/x/sys/unix"
)

// trusting is a transport that knows the certificates of these mirrors.
func trusting(mirrors ...*mirrortest.Server) *http.Transport {
	pool := x509.NewCertPool()
	for _, m := range mirrors {
		c, err := tls.Dial("tcp", mustURL(m.URL("/")).Host, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			panic(err)
		}
		pool.AddCert(c.ConnectionState().PeerCertificates[0])
		c.Close()
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
}

// requests lists what m was asked for of path.
func requests(m *mirrortest.Server, path string) (list []mirrortest.Entry) {
	for _, e := range m.Stats().Log {
		if e.Path == path {
			list = append(list, e)
		}
	}
	return list
}

// proxy answers http requests by asking itself, or with an empty page where the host does not exist, and relays CONNECT.
type proxy struct {
	url  *url.URL
	mu   sync.Mutex
	seen []string // method and target
}

func startProxy(t *testing.T) *proxy {
	p := &proxy{}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = mustURL(s.URL)
	return p
}

func (p *proxy) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	if r.Method == http.MethodConnect {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		if buf.Reader.Buffered() == 0 {
			splice(c, r.RequestURI)
		}
		c.Close()
		return
	}
	if ip := net.ParseIP(r.URL.Hostname()); ip == nil || !ip.IsLoopback() {
		return
	}
	ask, err := http.NewRequestWithContext(r.Context(), r.Method, r.RequestURI, nil)
	if err != nil {
		return
	}
	ask.Header = r.Header.Clone()
	res, err := http.DefaultTransport.RoundTrip(ask)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	io.Copy(w, res.Body)
}

// source is what the report says of m.
func source(res *Result, m *mirrortest.Server) SourceReport {
	for _, s := range res.Sources {
		if s.Name == m.URL(testPath) {
			return s
		}
	}
	return SourceReport{}
}

func TestHTTP2(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, 4<<20).mode(mode)
		var own []int // connections that trusting made
		for range 3 {
			w.mirror(mirrortest.Config{TLS: true, HTTP2: true, Rate: 3 << 20, Delay: time.Millisecond})
		}
		w.fetcher.Transport = trusting(w.mirrors...)
		for _, m := range w.mirrors {
			own = append(own, m.Stats().Connections)
		}
		res := w.mustFetch()
		if mode != "plain" && len(res.Sources) < 2 {
			t.Errorf("%s: %s", mode, w.describe(res))
		}
		for i, m := range w.mirrors {
			st := m.Stats()
			for _, e := range st.Log {
				if e.Proto != "HTTP/2.0" {
					t.Errorf("%s: asked by %s", mode, e.Proto)
				}
			}
			if n := st.Connections - own[i]; n > 2 {
				t.Errorf("%s: mirror %d saw %d connections", mode, i, n)
			}
		}
	}
}

// A certificate that cannot be verified ends it there: nothing is asked, by whatever means.
func TestTLSIsVerified(t *testing.T) {
	names(map[string]string{"wrong.test": "127.0.0.1"})
	for _, how := range []string{"unknown authority", "other name", "expired"} {
		w := newWorld(t, 300_000)
		var said lines
		said.listen(&w.fetcher)
		m := w.mirror(mirrortest.Config{TLS: true})
		req := w.prepare()
		switch how {
		case "other name":
			w.fetcher.Transport = trusting(m)
			req.URL.Host = "wrong.test:" + portOf(m)
			req.Torrent = TorrentHint{}
		case "expired":
			w.fetcher.Transport = trusting(m)
			w.fetcher.Transport.TLSClientConfig.Time = func() time.Time { return time.Now().Add(48 * time.Hour) }
		}
		res, err := w.fetcher.Fetch(t.Context(), req)
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: error %v", how, err)
		}
		said.check(t, res, err)
		if n := m.Stats().Requests; n != 0 {
			t.Errorf("%s: %d requests", how, n)
		}
		w.checkOnly()

		w.mirrors = nil
		good := w.mirror(mirrortest.Config{})
		req.Mirrors = []*url.URL{mustURL(good.URL(testPath))}
		res, err = w.fetcher.Fetch(t.Context(), req)
		if err != nil {
			t.Fatalf("%s, with a good mirror: %v", how, err)
		}
		w.checkRight(res)
		if m.Stats().Requests != 0 || !strings.Contains(res.Sources[0].Blame, "certificate") {
			t.Errorf("%s, with a good mirror: %s", how, w.describe(res))
		}
	}
}

// The names in a certificate come from the network, too.
func TestWordsInCertificates(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	odd := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"\x1b[2J.test", "\a.test"}}
	der, err := x509.CreateCertificate(rand.Reader, odd, odd, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	f := &Fetcher{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}}
	f.Transport.TLSClientConfig.RootCAs.AddCert(leaf)
	var said lines
	said.listen(f)
	names(map[string]string{"odd.test": "127.0.0.1"})
	res, err := f.Fetch(t.Context(), Request{URL: mustURL("https://odd.test:" + mustURL(s.URL).Port()), Dest: filepath.Join(t.TempDir(), "x")})
	if err == nil || !strings.Contains(err.Error(), ".test") {
		t.Errorf("error %v", err)
	}
	said.check(t, res, err)
}

func TestProxy(t *testing.T) {
	for _, secure := range []bool{false, true} {
		w := newWorld(t, 2<<20).withTorrent(64 << 10)
		for range 2 {
			w.mirror(mirrortest.Config{TLS: secure, Rate: 2 << 20})
		}
		p := startProxy(t)
		w.fetcher.Transport = &http.Transport{}
		if secure {
			w.fetcher.Transport = trusting(w.mirrors...)
		}
		w.fetcher.Transport.Proxy = http.ProxyURL(p.url)
		res := w.mustFetch()
		if len(res.Sources) != 2 {
			t.Errorf("https %v: %s", secure, w.describe(res))
		}
		for _, m := range w.mirrors {
			want := "GET " + m.URL(testPath)
			if secure {
				want = "CONNECT " + mustURL(m.URL("/")).Host
			}
			if !slices.Contains(p.seen, want) {
				t.Errorf("https %v: the proxy was not asked to %s", secure, want)
			}
		}
		if secure && len(p.seen) > 6 {
			t.Errorf("%d tunnels for 2 mirrors", len(p.seen))
		}

		// A proxy that is dead is not gone round.
		dead := *p.url
		dead.Host = "127.0.0.1:1"
		w.fetcher.Transport.Proxy = http.ProxyURL(&dead)
		before := w.mirrors[0].Stats().Connections
		os.Remove(filepath.Join(w.dir, testName))
		if _, err := w.fetch(); err == nil {
			t.Errorf("https %v: fetched without the proxy", secure)
		}
		if n := w.mirrors[0].Stats().Connections - before; n != 0 {
			t.Errorf("https %v: %d connections past the proxy", secure, n)
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	for _, agent := range []string{"", "pacman/7.0.0 (Linux x86_64) libalpm/15.0.0"} {
		w := newWorld(t, 3<<20).withTorrent(64 << 10)
		w.fetcher.UserAgent = agent
		want := agent
		if want == "" {
			want = "torrent-xfer"
		}
		for range 2 {
			w.mirror(mirrortest.Config{Rate: 8 << 20})
		}
		w.mustFetch()
		for _, m := range w.mirrors {
			st := m.Stats()
			if st.Paths[testPath+".torrent"] == 0 || st.Paths[testPath] == 0 {
				t.Error("the mirror was not asked for both")
			}
			for _, e := range st.Log {
				if e.Method != "GET" || e.UserAgent != want || e.Header.Get("Accept-Encoding") != "identity" || len(e.Header) != 1 {
					t.Errorf("%s %s by %q: %v", e.Method, e.Path, e.UserAgent, e.Header)
				}
			}
		}
	}
}

// One connection to each mirror is kept alive; a second one is for the torrent.
func TestConnections(t *testing.T) {
	for _, mode := range modes[1:] {
		w := newWorld(t, 20<<20).mode(mode)
		for range 4 {
			w.mirror(mirrortest.Config{Rate: 10 << 20, Delay: 5 * time.Millisecond})
		}
		res := w.mustFetch()
		for i, m := range w.mirrors {
			most := 1
			if len(requests(m, testPath+".torrent")) > 0 {
				most = 2
			}
			most += 6 // a range whose end another mirror takes over closes its connection
			if n := m.Stats().Connections; n > most {
				t.Errorf("%s: mirror %d saw %d connections, %d are enough\n%s", mode, i, n, most, w.describe(res))
			}
		}
	}
}

// A connection serves one range after the other.
func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6<<20).withDigest()
	w.mirror(mirrortest.Config{Rate: 2 << 20})
	var asked, connected atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var first, last int64
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n < 2 {
			last = int64(len(w.data)) - 1
		}
		last = min(last, first+2*blockSize-1) // less than asked for, and it is asked again
		rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(w.data)))
		rw.Header().Set("Content-Length", fmt.Sprint(last-first+1))
		rw.WriteHeader(http.StatusPartialContent)
		rw.Write(w.data[first : last+1])
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connected.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	req := w.prepare()
	req.Mirrors = []*url.URL{mustURL(s.URL + testPath)}
	res, err := w.fetching(req)
	if err != nil {
		t.Fatal(err)
	}
	w.checkRight(res)
	if a, c := asked.Load(), connected.Load(); a < 3 || c > a/2 {
		t.Errorf("%d requests, %d connections\n%s", a, c, w.describe(res))
	}
}

// Every 206 is checked against what was asked.
func TestPartialContentIsChecked(t *testing.T) {
	type answer struct {
		first, last, total int64
		label              string // "": made of the numbers
		kind               string
		length             int64 // 0: as the body is
		data               []byte
	}
	cases := map[string]struct {
		spoil func(a *answer)
		blame string
	}{
		"as it should be":  {func(*answer) {}, ""},
		"less than asked":  {func(a *answer) { a.last = min(a.last, a.first+blockSize-1) }, ""},
		"later start":      {func(a *answer) { a.first++ }, "another range"},
		"earlier start":    {func(a *answer) { a.first-- }, "another range"},
		"later end":        {func(a *answer) { a.last += 100 }, "another range"},
		"larger total":     {func(a *answer) { a.total++ }, "another version"},
		"smaller total":    {func(a *answer) { a.total = a.last }, "another range"},
		"unknown total":    {func(a *answer) { a.label = fmt.Sprintf("bytes %d-%d/*", a.first, a.last) }, "size"},
		"other unit":       {func(a *answer) { a.label = fmt.Sprintf("items %d-%d/%d", a.first, a.last, a.total) }, "another range"},
		"no label":         {func(a *answer) { a.label = "none" }, "another range"},
		"unsatisfied":      {func(a *answer) { a.label = fmt.Sprintf("bytes */%d", a.total) }, "another range"},
		"backwards":        {func(a *answer) { a.label = fmt.Sprintf("bytes %d-%d/%d", a.last, a.first-1, a.total) }, "another range"},
		"signs":            {func(a *answer) { a.label = fmt.Sprintf("bytes +%d-%d/%d", a.first, a.last, a.total) }, "another range"},
		"beyond numbers":   {func(a *answer) { a.label = fmt.Sprintf("bytes %d-99999999999999999999/%d", a.first, a.total) }, "another range"},
		"multipart":        {func(a *answer) { a.kind, a.label = "multipart/byteranges; boundary=x", "none" }, "another range"},
		"length too short": {func(a *answer) { a.length = a.last - a.first }, "another range"},
		"compressed":       {func(a *answer) { a.kind = "gzip" }, "compresses"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4<<20).withDigest()
			w.mirror(mirrortest.Config{Rate: 10 << 20})
			s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				a := answer{total: int64(len(w.data)), data: w.data}
				if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &a.first, &a.last); n == 0 {
					rw.WriteHeader(http.StatusForbidden)
					return
				} else if n == 1 {
					a.last = a.total - 1
				}
				c.spoil(&a)
				if a.label == "" {
					a.label = fmt.Sprintf("bytes %d-%d/%d", a.first, a.last, a.total)
				}
				body := a.data[max(a.first, 0):min(a.last+1, int64(len(a.data)))]
				if a.length > 0 {
					body = body[:a.length]
				}
				if a.label != "none" {
					rw.Header().Set("Content-Range", a.label)
				}
				if a.kind == "gzip" {
					rw.Header().Set("Content-Encoding", a.kind)
				} else if a.kind != "" {
					rw.Header().Set("Content-Type", a.kind)
				}
				rw.Header().Set("Content-Length", fmt.Sprint(len(body)))
				rw.WriteHeader(http.StatusPartialContent)
				rw.Write(body)
			}))
			defer s.Close()
			req := w.prepare()
			req.Mirrors = []*url.URL{mustURL(s.URL + testPath)}
			res, err := w.fetcher.Fetch(t.Context(), req)
			if err != nil {
				t.Fatalf("%v\n%s", err, w.describe(res))
			}
			w.checkRight(res)
			if len(res.Sources) != 2 {
				t.Fatalf("the mirror was not asked:\n%s", w.describe(res))
			}
			odd := res.Sources[1]
			if c.blame == "" && odd.Bytes == 0 || c.blame != "" && (odd.Bytes != 0 || !strings.Contains(odd.Blame, c.blame)) {
				t.Error(w.describe(res))
			}
		})
	}
}

func TestPartNobodyAskedFor(t *testing.T) {
	w := newWorld(t, 1000)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Range", "bytes 0-999/1000")
		rw.WriteHeader(http.StatusPartialContent)
		rw.Write(w.data)
	}))
	defer s.Close()
	_, err := w.fetcher.Fetch(t.Context(), Request{URL: mustURL(s.URL + testPath), Dest: filepath.Join(w.dir, testName)})
	if err == nil || !strings.Contains(err.Error(), "part") {
		t.Errorf("error %v", err)
	}
	w.checkOnly()
}

// A partial file that is whole already, since the rename failed, is not fetched again.
func TestResumeOfAWholePartial(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		w := newWorld(t, 2<<20+100).mode(mode)
		w.mirror(mirrortest.Config{Rate: 4 << 20})
		dest := filepath.Join(w.dir, testName)
		w.meanwhile(1<<20, func() { os.Mkdir(dest, 0o755) })
		if _, err := w.fetch(); !errors.Is(err, ErrWrite) {
			t.Fatalf("%s: error %v, want %v", mode, err, ErrWrite)
		}
		w.fetcher.OnEvent = nil
		os.Remove(dest)
		if res := w.mustFetch(); res.Received > 2*blockSize {
			t.Errorf("%s: %s", mode, w.describe(res))
		}
	}
}

// The file is shorter now than what an earlier run left: 416, and a new start.
func TestResumeOfALongerPartial(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		w := newWorld(t, 4<<20).mode(mode)
		w.mirror(mirrortest.Config{Rate: 4 << 20})
		w.interruptAt(2 << 20)
		w.data = randomBytes(1 << 20)
		w.data[0] ^= 1
		w.torrent, w.mirrors, w.request = nil, nil, Request{}
		newer := mirrortest.Bytes(w.data)
		newer.ModTime = newer.ModTime.Add(time.Hour)
		m := w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{testPath: newer}})
		res := w.mustFetch()
		if res.Resumed != 0 || res.Received != 1<<20 {
			t.Errorf("%s: %s", mode, w.describe(res))
		}
		if list := requests(m, testPath); mode == "plain" && list[0].Status != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("%s: the first answer was %d", mode, list[0].Status)
		}
	}
}

// Without hashes a download goes on only where the server proves that the file is still the same.
func TestResumeChecksValidators(t *testing.T) {
	day := mirrortest.Bytes(nil).ModTime
	cases := map[string]struct {
		before, after mirrortest.File
		resumes       bool
	}{
		"the same":           {mirrortest.File{ModTime: day}, mirrortest.File{ModTime: day}, true},
		"strong tag alone":   {mirrortest.File{ETag: `"a"`}, mirrortest.File{ETag: `"a"`}, true},
		"other tag and date": {mirrortest.File{ModTime: day, ETag: `"a"`}, mirrortest.File{ModTime: day.Add(time.Second), ETag: `"b"`}, false},
		"other tag alone":    {mirrortest.File{ETag: `"a"`}, mirrortest.File{ETag: `"b"`}, false},
		"weak tag alone":     {mirrortest.File{ETag: `W/"a"`}, mirrortest.File{ETag: `W/"a"`}, false},
		"nothing":            {mirrortest.File{}, mirrortest.File{}, false},
		"nothing before":     {mirrortest.File{}, mirrortest.File{ModTime: day}, false},
		"nothing after":      {mirrortest.File{ModTime: day}, mirrortest.File{}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2<<20)
			serve := func(f mirrortest.File) {
				f.Data, f.Size = bytes.NewReader(w.data), int64(len(w.data))
				w.mirrors = nil
				w.mirror(mirrortest.Config{Rate: 4 << 20, Files: map[string]mirrortest.File{testPath: f}})
			}
			serve(c.before)
			w.interruptAt(1 << 20)
			if !c.resumes {
				w.data = bytes.Clone(w.data)
				for i := range w.data {
					w.data[i] ^= 0x33
				}
			}
			serve(c.after)
			if res := w.mustFetch(); (res.Resumed > 0) != c.resumes {
				t.Error(w.describe(res))
			}
		})
	}
}

// A mirror that asks for patience is not asked before it said; meanwhile another one serves.
func TestRetryAfter(t *testing.T) {
	for _, kind := range []mirrortest.FaultKind{mirrortest.Unavailable, mirrortest.UnavailableDate, mirrortest.TooMany} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 300_000).withDigest()
			m := w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: kind, Dur: 30 * time.Second}}})
			good := w.mirror(mirrortest.Config{})
			res := w.mustFetch()
			if list := requests(m, testPath); len(list) != 1 || source(res, good).Bytes != int64(len(w.data)) {
				t.Errorf("beside a good mirror: %d requests\n%s", len(list), w.describe(res))
			}

			w = newWorld(t, 300_000)
			m = w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: kind, Dur: time.Second, Count: 1}}})
			w.mustFetch()
			list := requests(m, testPath)
			if len(list) != 2 {
				t.Fatalf("alone: %d requests", len(list))
			}
			if wait := list[1].Time.Sub(list[0].Time); wait < 990*time.Millisecond && kind != mirrortest.UnavailableDate {
				t.Errorf("alone: asked again after %v", wait)
			}

			w = newWorld(t, 300_000)
			m = w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: kind, Dur: 2 * time.Hour}}})
			res, err := w.fetch()
			if err == nil || !strings.Contains(err.Error(), fmt.Sprint(requests(m, testPath)[0].Status)) {
				t.Errorf("two hours: error %v", err)
			}
			if n := len(requests(m, testPath)); n != 1 {
				t.Errorf("two hours: %d requests\n%s", n, w.describe(res))
			}
			w.checkOnly()

			if kind != mirrortest.TooMany {
				return // one kind will do
			}
			w = newWorld(t, 300_000)
			m = w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: kind, Dur: time.Second}}})
			if _, err := w.fetch(); err == nil {
				t.Error("always: no error")
			}
			if n := len(requests(m, testPath)); n < 2 || n > 5 {
				t.Errorf("always: %d requests", n)
			}
		})
	}
}

func TestLimitRate(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		w := newWorld(t, 2<<20).mode(mode)
		w.fetcher.LimitRate = 2 << 20
		for range 3 {
			w.mirror(mirrortest.Config{})
		}
		res := w.mustFetch()
		if rate := float64(res.Received) / res.Elapsed.Seconds(); rate > 1.3*float64(w.fetcher.LimitRate) {
			t.Errorf("%s: %.0f bytes/s", mode, rate)
		}
	}
}

func TestIPv6(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 here")
	}
	w := newWorld(t, 2<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Addr: "[::1]:0", Rate: 2 << 20})
	w.mirror(mirrortest.Config{Rate: 2 << 20})
	if res := w.mustFetch(); len(res.Sources) != 2 {
		t.Error(w.describe(res))
	}
}

// volatile adds a mirror of a database, of this age.
func (w *world) volatile(modTime time.Time, faults ...mirrortest.Fault) *mirrortest.Server {
	w.request.Volatile = true
	f := mirrortest.Bytes(w.data)
	f.ModTime = modTime
	return w.mirror(mirrortest.Config{Rate: 4 << 20, Faults: faults, Files: map[string]mirrortest.File{testPath: f, testPath + ".torrent": mirrortest.Bytes([]byte("x"))}})
}

func (w *world) checkModTime(want time.Time) {
	w.Helper()
	if info, err := os.Stat(filepath.Join(w.dir, testName)); err != nil || !info.ModTime().Equal(want) {
		w.Errorf("mtime %v (%v), want %v", info.ModTime(), err, want)
	}
}

func TestVolatile(t *testing.T) {
	day := mirrortest.Bytes(nil).ModTime
	t.Run("not changed", func(t *testing.T) {
		for _, same := range []bool{false, true} {
			w := newWorld(t, 300_000)
			m := w.volatile(day)
			w.request.Cached = filepath.Join(t.TempDir(), "cached")
			if same {
				w.request.Cached = filepath.Join(w.dir, testName)
			}
			os.WriteFile(w.request.Cached, w.data, 0o644)
			os.Chtimes(w.request.Cached, day, day)
			res := w.mustFetch()
			if !res.NotChanged || res.Received != 0 || res.Size != int64(len(w.data)) {
				t.Errorf("NotChanged %v, size %d, %s", res.NotChanged, res.Size, w.describe(res))
			}
			w.checkModTime(day)
			list := m.Stats().Log
			if len(list) != 1 || list[0].Status != http.StatusNotModified || list[0].Header.Get("If-Modified-Since") != day.Format(http.TimeFormat) {
				t.Errorf("asked: %+v", list)
			}
		}
	})
	t.Run("changed", func(t *testing.T) {
		w := newWorld(t, 300_000)
		m := w.volatile(day)
		w.request.Cached = filepath.Join(w.dir, testName)
		os.WriteFile(w.request.Cached, []byte("old"), 0o644)
		os.Chtimes(w.request.Cached, day.Add(-time.Hour), day.Add(-time.Hour))
		if res := w.mustFetch(); res.NotChanged || res.Received != int64(len(w.data)) {
			t.Errorf("NotChanged %v, %s", res.NotChanged, w.describe(res))
		}
		w.checkModTime(day)
		if list := m.Stats().Log; len(list) != 1 || list[0].Path != testPath || list[0].Range != "" || list[0].Header.Get("If-Modified-Since") == "" {
			t.Errorf("asked: %+v", list)
		}
	})
	t.Run("no copy yet", func(t *testing.T) {
		w := newWorld(t, 300_000)
		m := w.volatile(day)
		w.request.Cached = filepath.Join(t.TempDir(), "absent")
		w.mustFetch()
		w.checkModTime(day)
		if list := m.Stats().Log; len(list) != 1 || list[0].Header.Get("If-Modified-Since") != "" {
			t.Errorf("asked: %+v", list)
		}
	})
	t.Run("304 unasked", func(t *testing.T) {
		w := newWorld(t, 300_000)
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNotModified) }))
		defer s.Close()
		if _, err := w.fetcher.Fetch(t.Context(), Request{URL: mustURL(s.URL + testPath), Dest: filepath.Join(w.dir, testName), Volatile: true}); err == nil || !strings.Contains(err.Error(), "304") {
			t.Errorf("error %v", err)
		}
		w.checkOnly()
	})
	t.Run("missing", func(t *testing.T) {
		w := newWorld(t, 300_000)
		m := w.volatile(day, mirrortest.Fault{Kind: mirrortest.NotFound})
		dest := filepath.Join(w.dir, testName)
		os.WriteFile(dest, []byte("old"), 0o644)
		if _, err := w.fetch(); !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v, want %v", err, ErrNotFound)
		}
		if n := m.Stats().Requests; n != 1 {
			t.Errorf("%d requests", n)
		}
		if got, _ := os.ReadFile(dest); string(got) != "old" {
			t.Errorf("at the destination: %q", got)
		}
		w.checkOnly(testName)
	})
	t.Run("unavailable", func(t *testing.T) {
		w := newWorld(t, 300_000)
		m := w.volatile(day, mirrortest.Fault{Kind: mirrortest.Unavailable, Dur: 30 * time.Second})
		if _, err := w.fetch(); err == nil || m.Stats().Requests != 1 {
			t.Errorf("error %v, %d requests", err, m.Stats().Requests)
		}
		w.checkOnly()
	})
	for _, kind := range []mirrortest.FaultKind{mirrortest.Refuse, mirrortest.Blackhole, mirrortest.ServerError, mirrortest.Reset, mirrortest.Truncate, mirrortest.Stall} {
		t.Run("first mirror "+kind.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 300_000)
			if kind == mirrortest.Blackhole || kind == mirrortest.Stall {
				w.fetcher.StallTimeout = 5 * time.Second
			}
			w.volatile(day.Add(-time.Hour), mirrortest.Fault{Kind: kind})
			second := w.volatile(day)
			w.mustFetch()
			w.checkModTime(day)
			if list := second.Stats().Log; len(list) != 1 || list[0].Range != "" {
				t.Errorf("asked: %+v", list)
			}
		})
	}
	t.Run("never resumed", func(t *testing.T) {
		w := newWorld(t, 2<<20)
		w.volatile(day)
		w.interruptAt(1 << 20)
		w.checkOnly()
		if res := w.mustFetch(); res.Resumed != 0 || res.Received != int64(len(w.data)) {
			t.Error(w.describe(res))
		}
	})
	t.Run("killed", func(t *testing.T) {
		w := newWorld(t, 2<<20)
		w.volatile(day)
		w.gate.narrow(1 << 20)
		defer w.gate.open()
		cmd := w.child()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var left []string
		for end := time.Now().Add(patience); len(left) == 0 && time.Now().Before(end); {
			left, _ = filepath.Glob(filepath.Join(w.dir, ".*"))
			time.Sleep(time.Millisecond)
		}
		cmd.Process.Kill()
		cmd.Wait()
		w.gate.open()
		if left, _ = filepath.Glob(filepath.Join(w.dir, ".*")); len(left) != 1 {
			t.Fatalf("left behind: %q", left)
		}
		old := time.Now().Add(-partialMaxAge - time.Hour)
		os.Chtimes(left[0], old, old)
		w.request.Volatile = false
		w.mustFetch() // and nothing else is in the directory
	})
}

// Forgotten partial files of our own go after seven days; others stay.
func TestSweep(t *testing.T) {
	w := newWorld(t, 1000)
	w.mirror(mirrortest.Config{})
	put := func(name string, age time.Duration) string {
		path := filepath.Join(w.dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		os.Chtimes(path, then, then)
		return path
	}
	const week = 7 * 24 * time.Hour
	put(".old.pkg"+partialSuffix, week+time.Hour)
	put(".old.pkg"+partialSuffix+journalSuffix, week+time.Hour)
	put(".alone"+partialSuffix+journalSuffix, week+time.Hour)
	put(".core.db"+partialSuffix+".4711", week+time.Hour)
	kept := []string{testName}
	keep := func(name string, age time.Duration) string { kept = append(kept, name); return put(name, age) }
	keep(".young.pkg"+partialSuffix, week-time.Hour)
	keep(".young.db"+partialSuffix+".12", time.Hour)
	keep(".other.part", 2*week)
	keep("visible"+partialSuffix, 2*week)
	keep(partialSuffix+"-notes", 2*week)
	keep(".x"+partialSuffix+".1a", 2*week)
	linked := keep(".linked"+partialSuffix, 2*week)
	if err := os.Link(linked, filepath.Join(t.TempDir(), "other")); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Open(keep(".busy"+partialSuffix, 2*week))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := unix.Flock(int(busy.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		os.Chown(keep(".foreign"+partialSuffix, 2*week), nobody, nobody)
	}
	kept = append(kept, ".dir"+partialSuffix, ".link"+partialSuffix)
	os.Mkdir(filepath.Join(w.dir, ".dir"+partialSuffix), 0o755)
	os.Symlink(put("../aside", 2*week), filepath.Join(w.dir, ".link"+partialSuffix))
	if _, err := w.fetch(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(kept)
	w.checkOnly(kept...)
	if _, err := os.Stat(filepath.Join(w.dir, "../aside")); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for _, mode := range append([]string{"volatile"}, modes...) {
		w := newWorld(t, 300_000).mode(mode)
		w.request.Volatile = mode == "volatile"
		w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.NotFound}}})
		if _, err := w.fetch(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v, want %v", mode, err, ErrNotFound)
		}
		w.checkOnly()
		w.mirror(mirrortest.Config{})
		w.mustFetch()
	}
}

// After eight files of 1 MiB or more without a torrent nobody asks that repository again.
func TestRepositoryWithoutTorrents(t *testing.T) {
	w := newWorld(t, 0)
	files := map[string]mirrortest.File{}
	small, large := randomBytes(100_000), randomBytes(1<<20)
	path := func(repo string, i int) string { return fmt.Sprintf("/%s/file-%d.pkg", repo, i) }
	for i := range 40 {
		files[path("large", i)], files[path("small", i)] = mirrortest.Bytes(large), mirrortest.Bytes(small)
	}
	m := w.mirror(mirrortest.Config{Rate: 40 << 20, Files: files})
	cache := filepath.Join(t.TempDir(), "hosts")
	w.fetcher.Hosts = LoadHostStats(cache)
	asks := func(repo string, i int) int {
		req := Request{URL: mustURL(m.URL(path(repo, i))), Dest: filepath.Join(w.dir, "x")}
		req.Torrent.URLs = []*url.URL{mustURL(m.URL(path(repo, i) + ".torrent"))}
		if res, err := w.fetcher.Fetch(t.Context(), req); err != nil {
			t.Fatalf("%v\n%s", err, w.describe(res))
		}
		os.Remove(req.Dest)
		return len(requests(m, path(repo, i)+".torrent"))
	}
	for i := range 12 {
		if asks("small", i) != 1 {
			t.Fatalf("not asked after %d small files", i)
		}
	}
	for i := range barrenMisses {
		if asks("large", i) != 1 {
			t.Fatalf("not asked after %d large files", i)
		}
	}
	if err := w.fetcher.Hosts.Save(); err != nil {
		t.Fatal(err)
	}
	w.fetcher.Hosts = LoadHostStats(cache)
	for i := barrenMisses; i < barrenMisses+3; i++ {
		if asks("large", i) != 0 {
			t.Errorf("asked after %d large files", i)
		}
	}
	if asks("small", 20) != 1 {
		t.Error("another repository was not asked")
	}
}

// A mirror that was dead is not first next time.
func TestDeadMirrorIsNotFirstNextTime(t *testing.T) {
	for _, kind := range []mirrortest.FaultKind{mirrortest.Reset, mirrortest.Refuse, mirrortest.ServerError} {
		w := newWorld(t, 300_000)
		w.fetcher.Hosts = LoadHostStats(filepath.Join(t.TempDir(), "hosts"))
		dead := w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: kind}}})
		w.mirror(mirrortest.Config{})
		if res := w.mustFetch(); len(res.Sources) != 2 || source(res, dead).Blame == "" {
			t.Errorf("%v: %s", kind, w.describe(res))
		}
		if err := w.fetcher.Hosts.Save(); err != nil {
			t.Fatal(err)
		}
		w.fetcher.Hosts = LoadHostStats(w.fetcher.Hosts.path)
		before := len(requests(dead, testPath))
		os.Remove(filepath.Join(w.dir, testName))
		if res := w.mustFetch(); len(res.Sources) != 1 || len(requests(dead, testPath)) != before {
			t.Errorf("%v: asked again: %s", kind, w.describe(res))
		}
	}
}

func TestFileURL(t *testing.T) {
	w := newWorld(t, 300_000)
	var said lines
	said.listen(&w.fetcher)
	source := filepath.Join(t.TempDir(), "a b%20c#d.pkg")
	os.WriteFile(source, w.data, 0o600)
	day := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	os.Chtimes(source, day, day)
	fetch := func(path string, expect Expect) (*Result, error) {
		u := &url.URL{Scheme: "file", Path: path}
		return w.fetcher.Fetch(t.Context(), Request{URL: mustURL(u.String()), Dest: filepath.Join(w.dir, testName), Expect: expect})
	}
	sum := sha512.Sum512(w.data)
	for _, expect := range []Expect{{}, {Size: 300_000}, {SHA512: sum[:]}} {
		res, err := fetch(source, expect)
		if err != nil || res.Size != 300_000 {
			t.Fatalf("%v, %s", err, w.describe(res))
		}
		w.checkRight(res)
		w.checkModTime(day)
		os.Remove(filepath.Join(w.dir, testName))
	}
	sum[3] ^= 1
	for _, expect := range []Expect{{Size: 299_999}, {SHA512: sum[:]}} {
		if _, err := fetch(source, expect); !errors.Is(err, ErrWrong) {
			t.Errorf("error %v, want %v", err, ErrWrong)
		}
		w.checkOnly()
	}
	for _, path := range []string{source + ".absent", filepath.Dir(source), source + "/below"} {
		res, err := fetch(path, Expect{})
		if err == nil || path != source+"/below" && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v", path, err)
		}
		said.check(t, res, err)
		w.checkOnly()
	}
	if _, err := w.fetcher.Fetch(t.Context(), Request{URL: mustURL("file://elsewhere" + source), Dest: filepath.Join(w.dir, testName)}); !errors.Is(err, ErrRequest) {
		t.Errorf("on another host: error %v", err)
	}
	w.dir = filepath.Dir(source)
	before := w.data
	if _, err := w.fetcher.Fetch(t.Context(), Request{URL: &url.URL{Scheme: "file", Path: source}, Dest: source}); !errors.Is(err, ErrWrite) {
		t.Errorf("onto itself: error %v", err)
	}
	if got, _ := os.ReadFile(source); !bytes.Equal(got, before) {
		t.Errorf("onto itself: %d bytes are left", len(got))
	}
}

func TestWrongExpectations(t *testing.T) {
	for name, spoil := range map[string]func(*Expect){
		"size":                func(e *Expect) { e.Size++ },
		"size alone":          func(e *Expect) { *e = Expect{Size: e.Size - 1} },
		"SHA-256":             func(e *Expect) { e.SHA256[0] ^= 1 },
		"SHA-256 alone":       func(e *Expect) { e.SHA256[0] ^= 1; e.Size = 0 },
		"SHA-512":             func(e *Expect) { e.SHA512 = make([]byte, sha512.Size) },
		"SHA-512, no SHA-256": func(e *Expect) { *e = Expect{SHA512: make([]byte, sha512.Size)} },
	} {
		for _, torrent := range []bool{false, true} {
			for _, mirrors := range []int{1, 2, 3} {
				t.Run(fmt.Sprintf("%s/torrent=%v/%d", name, torrent, mirrors), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, 300_000).withDigest()
					if torrent {
						w.withTorrent(64 << 10)
					}
					spoil(&w.request.Expect)
					for range mirrors {
						w.mirror(mirrortest.Config{})
					}
					dest := filepath.Join(w.dir, testName)
					os.WriteFile(dest, []byte("old"), 0o644)
					res, err := w.fetch()
					if !errors.Is(err, ErrWrong) {
						t.Errorf("error %v, want %v\n%s", err, ErrWrong, w.describe(res))
					}
					if got, _ := os.ReadFile(dest); string(got) != "old" {
						t.Errorf("the destination now holds %d bytes", len(got))
					}
				})
			}
		}
	}
}

func TestEmptyFiles(t *testing.T) {
	for _, mode := range modes {
		for _, cfg := range []mirrortest.Config{{}, {Faults: []mirrortest.Fault{{Kind: mirrortest.NoLength}}}, {Faults: []mirrortest.Fault{{Kind: mirrortest.HTTP10}}}} {
			w := newWorld(t, 0).mode(mode)
			w.mirror(cfg)
			w.mirror(cfg)
			if res := w.mustFetch(); res.Size != 0 || res.Received != 0 || mode == "digest" && res.Verified != "sha256" {
				t.Errorf("%s: size %d, %s", mode, res.Size, w.describe(res))
			}
		}
	}
	w := newWorld(t, 0)
	w.mirror(mirrortest.Config{})
	w.request.Torrent.Metainfo = v1Torrent(testName, nil, 64<<10, "")
	if res := w.mustFetch(); res.Verified != "torrent" {
		t.Error(w.describe(res))
	}
}

// The destination may be a name relative to the working directory, or as long as names can be.
func TestDestinationNames(t *testing.T) {
	w := newWorld(t, 300_000)
	w.mirror(mirrortest.Config{})
	t.Chdir(w.dir)
	for _, name := range []string{"x", strings.Repeat("y", 255), strings.Repeat("\u00e9", 127), ".hidden", "-", "a\nb"} {
		req := w.prepare()
		req.Dest = name
		for _, volatile := range []bool{false, true} {
			req.Volatile = volatile
			if res, err := w.fetcher.Fetch(context.Background(), req); err != nil {
				t.Fatalf("%q: %v\n%s", name, err, w.describe(res))
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, w.data) {
				t.Errorf("%q: %d bytes, %v", name, len(got), err)
			}
			w.checkOnly(name)
		}
		os.Remove(name)
	}
}
