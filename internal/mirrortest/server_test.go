package mirrortest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestConditionalRequests(t *testing.T) {
	data := []byte("0123456789")
	s := start(t, Config{Files: map[string]File{"/f": Bytes(data), "/empty": {}}})
	c := client(t, s)
	const tag, modified = `"65937d25-a"`, "Tue, 02 Jan 2024 03:04:05 GMT"
	for _, q := range []struct {
		header []string
		status int
		body   string
	}{
		{nil, 200, "0123456789"},
		{[]string{"Range", "bytes=2-3"}, 206, "23"},
		{[]string{"Range", "bytes=7-"}, 206, "789"},
		{[]string{"Range", "bytes=7-100"}, 206, "789"},
		{[]string{"Range", "bytes=-3"}, 206, "789"},
		{[]string{"Range", "bytes=-30"}, 206, "0123456789"},
		{[]string{"Range", "bytes=0-9223372036854775807"}, 206, "0123456789"},
		{[]string{"Range", "bytes=10-"}, 416, ""},
		{[]string{"Range", "bytes=3-2"}, 416, ""},
		{[]string{"Range", "bytes=x-"}, 416, ""},
		{[]string{"Range", "bytes=-0"}, 416, ""},
		{[]string{"Range", "bytes="}, 200, "0123456789"},
		{[]string{"Range", "bytes=0-1,4-5"}, 200, "0123456789"},
		{[]string{"Range", "pieces=0-1"}, 200, "0123456789"},
		{[]string{"Range", "bytes=2-3", "If-Range", tag}, 206, "23"},
		{[]string{"Range", "bytes=2-3", "If-Range", `"other"`}, 200, "0123456789"},
		{[]string{"Range", "bytes=2-3", "If-Range", modified}, 206, "23"},
		{[]string{"Range", "bytes=2-3", "If-Range", "Tue, 02 Jan 2024 03:04:06 GMT"}, 200, "0123456789"},
		{[]string{"If-Modified-Since", modified}, 304, ""},
		{[]string{"If-Modified-Since", "Tue, 02 Jan 2024 03:04:06 GMT"}, 200, "0123456789"},
		{[]string{"If-None-Match", `"x", W/` + tag}, 304, ""},
		{[]string{"If-None-Match", `"x"`}, 200, "0123456789"},
		{[]string{"If-None-Match", `"x"`, "If-Modified-Since", modified}, 200, "0123456789"},
	} {
		resp, body, err := fetch(t, c, s, "/f", q.header...)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != q.status || q.status != 416 && string(body) != q.body {
			t.Errorf("%q: %d %q, want %d %q", q.header, resp.StatusCode, body, q.status, q.body)
		}
		if (resp.Header.Get("Accept-Ranges") != "") != (q.status == 200) {
			t.Errorf("%q: %v", q.header, resp.Header) // nginx says it where there is no Content-Range
		}
		switch q.status {
		case 416:
			if resp.Header.Get("Content-Range") != "bytes */10" {
				t.Errorf("%q: %v", q.header, resp.Header)
			}
		default:
			if resp.Header.Get("ETag") != tag || resp.Header.Get("Last-Modified") != modified {
				t.Errorf("%q: %v", q.header, resp.Header)
			}
		}
	}
	resp, err := c.Head(s.URL("/f"))
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != 10 || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Error(resp, err)
	}
	if resp, body, err := fetch(t, c, s, "/empty", "Range", "bytes=0-"); err != nil || resp.StatusCode != 200 || len(body) != 0 ||
		resp.Header.Get("ETag") != "" {
		t.Error(resp, err)
	}
	if resp, _, err := fetch(t, c, s, "/none"); err != nil || resp.StatusCode != 404 {
		t.Error(resp, err)
	}
	if resp, err := c.Post(s.URL("/f"), "", nil); err != nil || resp.StatusCode != 405 {
		t.Error(resp, err)
	}
	if n := s.Stats().Connections; n != 1 {
		t.Errorf("%d connections: not kept alive", n)
	}
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	data := sample(5 << 20)
	if err := os.Mkdir(filepath.Join(dir, "core"), 0o777); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "core", "a b++.zst")
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {Delay: time.Millisecond}, {TLS: true}, {Rate: 1 << 30},
		{Faults: []Fault{{Kind: WrongBytes}}}} {
		cfg.Dir = dir
		cfg.Files = map[string]File{"/core/b": Bytes([]byte("b"))}
		s := start(t, cfg)
		c := client(t, s)
		want := data
		if cfg.Faults != nil {
			want = inverted(data, 0xff)
		}
		resp, body, err := fetch(t, c, s, "/core/a b++.zst", "Range", "bytes=4-")
		if err != nil || resp.StatusCode != 206 || !bytes.Equal(body, want[4:]) {
			t.Fatal(resp, err)
		}
		n := int64(0)
		for deadline := time.Now().Add(5 * time.Second); n != int64(len(data)-4) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // the last bytes may be here before they are counted
			n = s.Stats().BodyBytes
		}
		if n != int64(len(data)-4) {
			t.Errorf("%d bytes counted", n)
		}
		for _, path := range []string{"/", "/core", "/core/", "/none", "/out", "/../etc/passwd"} {
			if resp, _, err := fetch(t, c, s, path); err != nil || resp.StatusCode != 404 {
				t.Error(path, resp, err)
			}
		}
		if resp, _, err := fetch(t, c, s, "/core/b"); err != nil || resp.StatusCode != 200 {
			t.Error(resp, err)
		}
	}
}

func TestTLS(t *testing.T) {
	data := sample(1 << 20)
	for _, http2 := range []bool{false, true} {
		s := start(t, Config{Files: map[string]File{"/f": Bytes(data)}, TLS: true, HTTP2: http2, Delay: 5 * time.Millisecond,
			Faults: []Fault{{Kind: Truncate, At: 500_000, After: 1, Count: 1}, {Kind: HTTP10, After: 2, Count: 1}}})
		c := client(t, s)
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
		c.Transport.(*http.Transport).Protocols = protocols
		resp, body, err := fetch(t, c, s, "/f")
		if err != nil || !bytes.Equal(body, data) {
			t.Fatal(err)
		}
		if (resp.ProtoMajor == 2) != http2 {
			t.Errorf("HTTP2 %v gave %s", http2, resp.Proto)
		}
		_, body, err = fetch(t, c, s, "/f")
		if err == nil || !bytes.HasPrefix(data, body) || len(body) > 500_000 {
			t.Errorf("truncated: %d bytes, %v", len(body), err)
		}
		resp, body, err = fetch(t, c, s, "/f")
		if http2 {
			if err == nil {
				t.Error("an HTTP/1.0 answer over HTTP/2")
			}
		} else if err != nil || resp.Proto != "HTTP/1.0" || !bytes.Equal(body, data) {
			t.Error(resp, err)
		}
		if _, body, err = fetch(t, c, s, "/f"); err != nil || !bytes.Equal(body, data) {
			t.Error(err)
		}
	}
	if start(t, Config{}).CertPool() != nil {
		t.Error("a certificate without TLS")
	}
	if s, err := Start(Config{HTTP2: true}); err == nil {
		s.Close()
		t.Error("HTTP/2 without TLS")
	}
}

// TestBucket runs under a clock that only sleeping moves.
func TestBucket(t *testing.T) {
	for _, rate := range []int64{100_000, 5_000_000, 40_000_000, 500_000_000} {
		for _, late := range []time.Duration{0, 2 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket(rate)
				time.Sleep(time.Hour) // idle time earns nothing
				begin := time.Now()
				var sent atomic.Int64
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						b.begin()
						defer b.end()
						for time.Since(begin) < time.Second {
							if err := b.take(t.Context(), b.chunk); err != nil {
								t.Error(err)
							}
							sent.Add(int64(b.chunk))
							if rate <= 40_000_000 {
								time.Sleep(late) // as a timer that fires late
							}
						}
					})
				}
				wg.Wait()
				want := float64(rate) * time.Since(begin).Seconds()
				if off := float64(sent.Load())/want - 1; off < -0.01 || off > 0.01 {
					t.Errorf("rate %d, %v late: off by %.4f", rate, late, off)
				}
			})
		}
	}
}

// TestRate counts what several connections get together within a time; a busy machine can only make it less.
func TestRate(t *testing.T) {
	for _, rate := range []int64{100_000, 40_000_000} {
		s := start(t, Config{Files: map[string]File{"/f": Bytes(sample(20 << 20))}, Rate: rate})
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var wg, begun sync.WaitGroup
		begun.Add(3)
		for range 3 {
			wg.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL("/f"), nil)
				resp, err := client(t, s).Do(req)
				begun.Done()
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				io.Copy(io.Discard, resp.Body)
			})
		}
		begun.Wait()
		time.Sleep(400 * time.Millisecond)
		for end := time.Now().Add(time.Minute); s.Stats().BodyBytes == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		cancel()
		wg.Wait()
		sent := s.Stats().BodyBytes
		most := float64(rate)*time.Since(begin).Seconds()*1.01 + float64(s.bucket.chunk)
		t.Logf("rate %d: %d bytes, %.3f of the most", rate, sent, float64(sent)/most)
		if float64(sent) > most {
			t.Errorf("rate %d: %d bytes are more than %.0f", rate, sent, most)
		}
		if sent == 0 {
			t.Errorf("rate %d: nothing", rate)
		}
	}
}

// TestWaitingWriterNoticesClient has a mirror so slow that a response would take a day.
func TestWaitingWriterNoticesClient(t *testing.T) {
	s := start(t, Config{Files: map[string]File{"/f": Bytes(sample(1 << 20))}, Rate: 10})
	resp, err := get(t, client(t, s), s, "/f")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for !s.Stats().Log[0].Done {
		time.Sleep(time.Millisecond)
	}
	if n := s.Stats().BodyBytes; n != 0 {
		t.Errorf("%d bytes sent", n)
	}
}

func TestDelayIsNoLimit(t *testing.T) {
	// If each of these, written at once, waited in turn, that would be a minute.
	const n, d = 200, 300 * time.Millisecond
	s := start(t, Config{Files: map[string]File{"/f": Bytes([]byte("x"))}, Delay: d})
	nc, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	begin := time.Now()
	one := "GET /f HTTP/1.1\r\nHost: m\r\n\r\n"
	last := "GET /f HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(nc, strings.Repeat(one, n-1)+last); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(nc)
	if err != nil || bytes.Count(answer, []byte("HTTP/1.1 200 OK")) != n {
		t.Fatal(len(answer), err)
	}
	if took := time.Since(begin); took < 2*d || took > n*d {
		t.Errorf("took %v", took)
	}
}

func TestStatsOverHTTP(t *testing.T) {
	s := start(t, Config{Files: map[string]File{"/f": Bytes([]byte("x"))}})
	c := client(t, s)
	fetch(t, c, s, "/f", "User-Agent", "agent/1", "If-None-Match", `"y"`, "Cookie", "a=b")
	_, body, err := fetch(t, c, s, "/.stats")
	if err != nil {
		t.Fatal(err)
	}
	var st Stats
	if err := json.Unmarshal(body, &st); err != nil {
		t.Fatal(err)
	}
	if st.Requests != 1 || st.BodyBytes != 1 || st.Log[0].UserAgent != "agent/1" || st.Log[0].Header.Get("Cookie") != "a=b" ||
		st.Log[0].Time.IsZero() {
		t.Errorf("%+v", st)
	}
}

// TestCloseLeavesNothing closes a mirror while connections hang in every way.
func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	files := map[string]File{"/f": Bytes(sample(8 << 20))}
	var servers []*Server
	var wg sync.WaitGroup
	for _, cfg := range []Config{
		{Faults: []Fault{{Kind: Blackhole}}},
		{Faults: []Fault{{Kind: Stall, At: 1000}}},
		{Faults: []Fault{{Kind: EndlessHeaders, Dur: time.Hour}}},
		{Faults: []Fault{{Kind: Drip, Dur: time.Hour}}},
		{Faults: []Fault{{Kind: SlowConnect, Dur: time.Hour}}},
		{Faults: []Fault{{Kind: Unreachable, Dur: time.Hour}}},
		{Faults: []Fault{{Kind: Vanish, Dur: time.Hour}}},
		{Faults: []Fault{{Kind: HTTP10}}, Rate: 1},
		{Delay: time.Hour},
		{Rate: 1},
		{TLS: true, HTTP2: true, Faults: []Fault{{Kind: Stall, At: 1000}}},
	} {
		cfg.Files = files
		s, err := Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
		wg.Go(func() {
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}, ForceAttemptHTTP2: true,
				DialContext: (&net.Dialer{Timeout: 200 * time.Millisecond}).DialContext}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get(s.URL("/f"))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			// What SlowConnect holds back may be let through in the moment of closing.
			if held := len(cfg.Faults) == 1 && cfg.Faults[0].Kind == SlowConnect; err == nil && cfg.Rate == 0 && !held {
				t.Errorf("%+v: a whole answer", cfg.Faults)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	for _, s := range servers {
		s.Close()
		s.Close()
		// Its port is free again, though another program may have it for a moment.
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			l, err := net.Listen("tcp", s.addr.String())
			if err == nil {
				l.Close()
				break
			}
			if time.Now().After(end) {
				t.Error(err)
				break
			}
		}
	}
	wg.Wait()
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestParseConfig(t *testing.T) {
	cfg, err := ParseConfig("rate=5M,delay=20ms,http2,fault=stall@100K;count=2;path=/x*.zst,fault=redirect;target=http://h:1")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Rate != 5e6 || cfg.Delay != 20*time.Millisecond || !cfg.TLS || !cfg.HTTP2 || len(cfg.Faults) != 2 {
		t.Errorf("%+v", cfg)
	}
	if f := cfg.Faults[0]; f.Kind != Stall || f.At != 100_000 || f.Count != 2 || f.Path != "/x*.zst" {
		t.Errorf("%+v", f)
	}
	if f := cfg.Faults[1]; f.Kind != Redirect || f.Target != "http://h:1" {
		t.Errorf("%+v", f)
	}
	for _, bad := range []string{"x", "rate=", "rate=M", "rate=9223372036854775807G", "delay=1", "fault=", "fault=nonsense",
		"fault=stall@x", "fault=stall;count=x", "fault=stall;x=1", "fault=wrong;data=/nonexistent"} {
		if _, err := ParseConfig(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, k := range Kinds() {
		f.Add(k.String() + "@100K;path=/*;count=1;after=2;dur=1s;chance=0.5;seed=3;target=http://h")
	}
	f.Fuzz(func(t *testing.T, spec string) {
		if strings.Contains(spec, "data") {
			return // would read any file
		}
		fault, err := ParseFault(spec)
		if err != nil {
			return
		}
		again, err := ParseFault(fault.Kind.String())
		if err != nil || again.Kind != fault.Kind {
			t.Errorf("%q gave %v", spec, fault.Kind)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, h := range []string{"bytes=0-", "bytes=-5", "bytes=3-9", "bytes=0-1,3-4", "bytes=9-3", "bytes=", "x",
		"bytes=18446744073709551615-", "bytes=-18446744073709551615"} {
		f.Add(h, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		from, to, ok := parseRange(header, size)
		if ok && to >= 0 && (from < 0 || from >= to || to > size) {
			t.Errorf("%q of %d gave %d to %d", header, size, from, to)
		}
	})
}
