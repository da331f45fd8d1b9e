package fetcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

// What an audit of the engine found, each kept from coming back.

// Killed while the digest is computed: everything is there, nothing is confirmed.
func TestResumeFullDigestOnly(t *testing.T) {
	for _, n := range []int{1, 3} {
		w := newWorld(t, 600<<10).withDigest()
		w.request.Expect.Size = 0
		for range n {
			w.mirror(mirrortest.Config{})
		}
		dest := filepath.Join(w.dir, testName)
		w.meanwhile(1, func() { os.Mkdir(dest, 0o755) }) // the file cannot get its name
		if _, err := w.fetch(); !errors.Is(err, ErrWrite) {
			t.Fatal(err)
		}
		os.Remove(dest)
		w.fetcher.OnEvent = nil
		res, err := w.fetch()
		if err != nil {
			t.Errorf("%d mirrors: %v\n%s", n, err, w.describe(res))
			continue
		}
		w.checkRight(res)
	}
}

// A server without ranges that always breaks off at the same place must not be asked for ever.
func TestNoRangesAndBreaksOff(t *testing.T) {
	for _, kind := range []mirrortest.FaultKind{mirrortest.Reset, mirrortest.Truncate, mirrortest.Stall} {
		for _, mode := range modes {
			t.Run(kind.String()+"/"+mode, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1<<20).mode(mode)
				w.fetcher.StallTimeout = 300 * time.Millisecond // whatever is silent, it has to end
				w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.IgnoreRange}, {Kind: kind, At: 600_000}}})
				res, err := w.fetch()
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("for ever\n%s", w.describe(res))
				}
			})
		}
	}
}

// Six MB, all mirrors right, the digest wrong.
func TestWrongDigestManyMirrors(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 6} {
		for _, sized := range []bool{true, false} {
			t.Run(fmt.Sprint(n, sized), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 6<<20).withDigest()
				w.request.Expect.SHA256[0] ^= 1
				if !sized {
					w.request.Expect.Size = 0
				}
				for range n {
					w.mirror(mirrortest.Config{Rate: 20 << 20})
				}
				res, err := w.fetch()
				if !errors.Is(err, ErrWrong) {
					t.Errorf("error %v", err)
				}
				t.Logf("received %.2f times", float64(res.Received)/float64(len(w.data)))
			})
		}
	}
}

// The honest mirror cannot do ranges.
func TestDigestHonestWithoutRanges(t *testing.T) {
	liar := mirrortest.Fault{Kind: mirrortest.FlipBit, At: 5}
	liar2 := mirrortest.Fault{Kind: mirrortest.FlipBit, At: 3<<20 - 5}
	noRange := mirrortest.Fault{Kind: mirrortest.IgnoreRange}
	for name, set := range map[string][]mirrortest.Config{
		"liar with ranges":    {{Rate: 8 << 20, Faults: []mirrortest.Fault{noRange}}, {Rate: 8 << 20, Faults: []mirrortest.Fault{liar, liar2}}},
		"liar without ranges": {{Rate: 8 << 20, Faults: []mirrortest.Fault{noRange}}, {Rate: 8 << 20, Faults: []mirrortest.Fault{noRange, liar, liar2}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3<<20).withDigest()
			for _, c := range set {
				w.mirror(c)
			}
			w.mustFetch()
		})
	}
}

// Two mirrors hold the same wrong copy, the URL's own host the right one.
func TestDigestCollusion(t *testing.T) {
	t.Parallel()
	bad := 0
	for i := range 10 {
		w := newWorld(t, 6<<20).withDigest()
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		for range 2 {
			w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.FlipBit, At: int64(i)*600_000 + 1000}}})
		}
		res, err := w.fetch()
		if err != nil {
			bad++
			t.Logf("%v\n%s", err, w.describe(res))
		}
	}
	if bad > 0 {
		t.Errorf("%d of 10 failed", bad)
	}
}

// A limited download is not a stalled one.
func TestLimitIsNoStall(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 4096).withTorrent(16 << 10)
			w.fetcher.StallTimeout = 1500 * time.Millisecond // less than what may come at once takes
			w.fetcher.LimitRate = 600
			for range n {
				w.mirror(mirrortest.Config{})
			}
			if res, err := w.fetch(); err != nil {
				t.Errorf("%v\n%s", err, w.describe(res))
			}
		})
	}
}

// The torrent that the user names counts for what an earlier run left, too.
func TestNamedTorrentOnResume(t *testing.T) {
	w := newWorld(t, 4<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.interruptAt(2 << 20)
	right := append([]byte(nil), w.data...)
	for i := range right {
		right[i] ^= 0x55
	}
	w.request.Torrent.Metainfo = v1Torrent(testName, right, 64<<10, "")
	res, err := w.fetch()
	if err == nil {
		t.Errorf("no error; info hash %s\n%s", res.InfoHash, w.describe(res))
	}
}

// 304 after a part of a newer copy came from a mirror that broke off.
func TestNotModifiedAfterAPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 300_000)
	newer := make([]byte, 900_000)
	old := mirrortest.Bytes(w.data)
	fresh := mirrortest.Bytes(newer)
	fresh.ModTime = fresh.ModTime.Add(time.Hour)
	cached := filepath.Join(t.TempDir(), "cached")
	os.WriteFile(cached, w.data, 0o644)
	os.Chtimes(cached, old.ModTime, old.ModTime)
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{testPath: fresh}, Faults: []mirrortest.Fault{{Kind: mirrortest.Vanish, At: 600_000}}})
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{testPath: old}})
	w.request.Volatile, w.request.Cached = true, cached
	res, err := w.fetch()
	if err != nil {
		t.Log(err)
		return
	}
	w.checkRight(res)
}

// Served as text/html, with a digest that it matches: curl would be content.
func TestHTMLTypeOfTheRightFile(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, 300_000).mode(mode)
		f := mirrortest.Bytes(w.data)
		f.ContentType = "text/html"
		files := map[string]mirrortest.File{testPath: f}
		if w.torrent != nil {
			files[testPath+".torrent"] = mirrortest.Bytes(w.torrent)
		}
		w.mirror(mirrortest.Config{Files: files})
		if res, err := w.fetch(); err != nil {
			t.Errorf("%s: %v\n%s", mode, err, w.describe(res))
		}
	}
}

// Only the size is known; the first mirror dies, the second has other validators.
func TestSizeOnlyOtherValidators(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1<<20)
	w.request.Expect.Size = 1 << 20
	f := mirrortest.Bytes(w.data)
	f.ModTime = f.ModTime.Add(time.Minute)
	w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.Vanish, At: 600_000}}})
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{testPath: f}})
	if res, err := w.fetch(); err != nil {
		t.Errorf("%v\n%s", err, w.describe(res))
	}
}

// Longer than expected, and the length is not told.
func TestSizeOnlyLongerChunked(t *testing.T) {
	w := newWorld(t, 2<<20)
	w.request.Expect.Size = 1 << 20
	w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.NoLength}}})
	if res, err := w.fetch(); err == nil {
		t.Errorf("a prefix was taken for the file: %s", w.describe(res))
	}
}

// Never more mirrors at once than allowed, whatever is being compared.
func TestCompareKeepsToMaxMirrors(t *testing.T) {
	w := newWorld(t, 24<<20).withDigest()
	w.fetcher.MaxMirrors = 2
	w.mirror(mirrortest.Config{Rate: 20 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.FlipBit, At: 20 << 20}, {Kind: mirrortest.FlipBit, At: 1000}}})
	for range 20 {
		w.mirror(mirrortest.Config{Rate: 20 << 20, Delay: 10 * time.Millisecond})
	}
	res := w.mustFetch()
	if n := len(res.Sources); n > 10 {
		t.Errorf("%d mirrors used", n)
	}
	t.Log(w.describe(res))
}

func TestMaxMirrorsOnePlain(t *testing.T) {
	w := newWorld(t, 1<<20)
	w.fetcher.MaxMirrors = 1
	for range 3 {
		w.mirror(mirrortest.Config{Delay: 600 * time.Millisecond})
	}
	res := w.mustFetch()
	if n := len(res.Sources); n > 1 {
		t.Errorf("%d mirrors used", n)
	}
}

// Piece checks do not need a goroutine each.
func TestManyPiecesFewGoroutines(t *testing.T) {
	const n = 1 << 30
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Truncate(n)
	s := newSink(f, nil)
	disk := s.open("disk", "")
	s.mu.Lock()
	s.setSize(n)
	for b := range s.have {
		s.blockDone(b, disk, 0)
	}
	s.mu.Unlock()
	m, err := metainfo.Parse(zeroTorrent(n, 64<<10), "")
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.share(m)
	g := runtime.NumGoroutine()
	runtime.ReadMemStats(&after)
	t.Logf("%d goroutines, %d MiB", g, (after.Sys-before.Sys)>>20)
	if g > 1000 {
		t.Errorf("%d goroutines", g)
	}
	s.mu.Lock()
	s.manifest = nil
	s.mu.Unlock()
}

func zeroTorrent(n, piece int) []byte {
	sums := make([]byte, (n+piece-1)/piece*20)
	info := fmt.Sprintf("d6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:%se", n, len(testName), testName, piece, len(sums), sums)
	return []byte("d4:info" + info + "e")
}

// Interrupted while the digest is computed: that is no write error.
func TestCancelWhileHashing(t *testing.T) {
	for range 10 { // it may be done before
		w := newWorld(t, 48<<20).withDigest()
		w.mirror(mirrortest.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
				if w.sent() == int64(len(w.data)) {
					time.Sleep(15 * time.Millisecond)
					cancel()
				}
			}
		}()
		_, err := w.fetcher.Fetch(ctx, w.prepare())
		if errors.Is(err, ErrWrite) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
	}
	t.Error("never interrupted")
}

func TestSize(t *testing.T) {
	// no redirect, no validators, resets once
	w := newWorld(t, 1<<20)
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n++
		if n == 1 {
			rw.Header().Set("Content-Length", fmt.Sprint(len(w.data)))
			rw.Write(w.data[:600_000])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(w.data))
	}))
	s.Config.ErrorLog = nil
	defer s.Close()
	for _, size := range []int64{0, 1 << 20} {
		n = 0
		_, err := w.fetching(Request{URL: mustURL(s.URL + testPath), Dest: filepath.Join(w.dir, testName), Expect: Expect{Size: size}})
		if err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestLateVerdict(t *testing.T) {
	for _, n := range []int{1, 2} {
		w := newWorld(t, 32<<20)
		w.request.Torrent.Metainfo = v1Torrent(testName, w.data, 16<<20, "")
		for range n {
			w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.FlipBit, At: 100}, {Kind: mirrortest.Truncate, At: 16<<20 + 1, Count: 1}}})
		}
		res, err := w.fetch()
		if !errors.Is(err, ErrWrong) {
			t.Errorf("%d: %v\n%s", n, err, w.describe(res))
		}
	}
}

// A late write of a mirror that was set aside must not land on what another wrote there meanwhile.
func TestLateWrite(t *testing.T) {
	const n = 256 << 10
	good, bad := make([]byte, n), make([]byte, n)
	for i := range good {
		good[i], bad[i] = 1, 2
	}
	hit := 0
	rounds := 1000
	for i := range rounds {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		s := newSink(f, nil)
		s.open("disk", "")
		a, b := s.open("a", "a"), s.open("b", "b")
		a.active, b.active = true, true
		s.mu.Lock()
		s.setSize(n)
		s.many = true
		s.grow(blocks(n))
		ca := s.claimRange(a, 0, n, time.Now())
		a.claim = ca
		s.mu.Unlock()
		var wg sync.WaitGroup
		wg.Go(func() { ca.Write(bad); ca.Close() })
		for {
			s.mu.Lock()
			if ca.busy > ca.pos {
				break
			}
			if ca.pos == n {
				break
			}
			s.mu.Unlock()
			runtime.Gosched()
		}
		done := ca.pos == n
		if !done {
			a.ban(&wrongBytes{"", 0, [32]byte{}})
		}
		s.mu.Unlock()
		if !done {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			var cb *Claim
			for {
				cb, err = b.Next(ctx)
				if err != nil {
					break
				}
				if _, err := cb.Write(good[cb.start:cb.end]); err != nil && !errors.Is(err, errLost) {
					t.Fatal(err)
				}
				cb.Close()
			}
			cancel()
			wg.Wait()
			got, _ := os.ReadFile(f.Name())
			if got[0] != 1 || got[n-1] != 1 || strings.Contains(string(got), "\x02") {
				hit++
			}
		}
		wg.Wait()
		f.Close()
		os.Remove(f.Name())
		_ = i
	}
	if hit > 0 {
		t.Errorf("%d of %d times the set-aside source had the last word", hit, rounds)
	}
}

// Journals with absurd numbers.
func TestAbsurdJournals(t *testing.T) {
	for name, recs := range map[string][]byte{
		"no expect, high block": append(record('H', []byte(`{"version":1,"size":40000}`)), record('B', []byte{255, 255, 255, 255, 1, 2, 3, 4, 1, 2, 3, 4})...),
		"unknown size, high":    append(record('H', []byte(`{"version":1,"size":-1}`)), record('B', []byte{255, 255, 255, 127, 1, 2, 3, 4, 1, 2, 3, 4})...),
		"size 0":                append(record('H', []byte(`{"version":1,"size":0}`)), record('B', []byte{0, 0, 0, 0, 1, 2, 3, 4})...),
		"shared size -1":        append(record('H', []byte(`{"version":1,"size":-1,"shared":true}`)), record('B', []byte{0, 0, 0, 0, 1, 2, 3, 4})...),
		"size 2^42":             append(record('H', []byte(`{"version":1,"size":4398046511104}`)), record('B', []byte{0, 0, 0, 0, 1, 2, 3, 4})...),
	} {
		w := newWorld(t, 40000)
		w.mirror(mirrortest.Config{})
		p := partialPath(filepath.Join(w.dir, testName))
		os.WriteFile(p, make([]byte, 40000), 0o600)
		os.WriteFile(p+journalSuffix, recs, 0o600)
		if name == "size 2^42" {
			continue // costs gigabytes
		}
		res, err := w.fetch()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		w.checkRight(res)
	}
}

// Another process put a file of another size there.
func TestTakeChecksSize(t *testing.T) {
	w := newWorld(t, 300_000)
	w.mirror(mirrortest.Config{Rate: 1 << 20})
	req := w.prepare()
	ch := make(chan error)
	go func() { _, err := new(Fetcher).Fetch(t.Context(), req); ch <- err }()
	time.Sleep(50 * time.Millisecond)
	b := newWorld(t, 200_000)
	b.mirror(mirrortest.Config{})
	other := b.prepare()
	other.Dest = req.Dest
	other.Expect.Size = 200_000
	_, err := new(Fetcher).Fetch(t.Context(), other)
	if err := <-ch; err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(req.Dest)
	if err == nil && info.Size() != 200_000 {
		t.Errorf("nil, and the file has %d bytes", info.Size())
	}
}

// A torrent on the own host that is of the previous version while the file is new, one mirror, and resumed by size.
func TestStatusLikeCurl(t *testing.T) {
	for _, code := range []int{200, 203} {
		w := newWorld(t, 100_000)
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(code)
			rw.Write(w.data)
		}))
		_, err := w.fetching(Request{URL: mustURL(s.URL + testPath), Dest: filepath.Join(w.dir, testName)})
		if err != nil {
			t.Errorf("%d: %v", code, err)
		}
		s.Close()
	}
}

// A claim that was lost before it was asked for is not asked for.
func TestLostBeforeAsked(t *testing.T) {
	w := newWorld(t, 4*blockSize)
	srv := w.mirror(mirrortest.Config{})
	req := w.prepare()
	f, err := os.Create(filepath.Join(w.dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newSink(f, nil)
	s.open("disk", "")
	j := &job{Fetcher: &Fetcher{}, req: req, sink: s, stall: time.Second}
	j.client = newClient(j.Fetcher, req)
	defer j.client.close()
	m := &mirror{url: req.URL, job: j, feed: s.open("m", "m")}
	s.mu.Lock()
	s.setSize(4 * blockSize)
	s.many = true
	c := s.claimRange(m.feed, blockSize, 2*blockSize, time.Now())
	s.cut(c, blockSize) // what relieve does
	s.mu.Unlock()
	if err := m.fetch(t.Context(), c); !errors.Is(err, errLost) {
		t.Errorf("error %v, want %v", err, errLost)
	}
	for _, e := range srv.Stats().Log {
		t.Errorf("asked for %q, answered %d", e.Range, e.Status)
	}
}

// One liar beside two honest mirrors, pieces as large as half of the file.
func TestSolo(t *testing.T) {
	t.Parallel()
	bad := 0
	for i := range 9 {
		liar := i % 3
		w := newWorld(t, 8<<20)
		w.request.Torrent.Metainfo = v1Torrent(testName, w.data, 4<<20, "")
		for k := range 3 {
			if k == liar {
				w.mirror(mirrortest.Config{Rate: 20 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.WrongBytes}}})
			} else {
				w.mirror(mirrortest.Config{Rate: 10 << 20})
			}
		}
		res, err := w.fetch()
		if x := float64(res.Received) / float64(8<<20); err != nil || x > 3 {
			bad++
			t.Logf("liar %d: %v, received %.2f\n%s", liar, err, x, w.describe(res))
		}
	}
	if bad > 0 {
		t.Errorf("%d of 9", bad)
	}
}

// A length that cannot be true costs no memory.
func TestAbsurdLength(t *testing.T) {
	for _, n := range []int64{1 << 45, 1 << 62} {
		w := newWorld(t, 100_000)
		w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.WrongLength, At: n}}})
		w.mirror(mirrortest.Config{})
		if res, err := w.fetch(); err == nil {
			w.checkRight(res)
		}
	}
}

// A file is one source, however its URL is spelled, and a torrent is asked for once, as it was named first.
func TestSpellingsOfOneURL(t *testing.T) {
	w := newWorld(t, 4<<20)
	files := map[string]mirrortest.File{}
	m := w.mirror(mirrortest.Config{Files: files, Rate: 4 << 20})
	other := strings.TrimSuffix(m.URL(testPath), testName) + strings.ReplaceAll(testName, "-", "%2D")
	files[testPath] = mirrortest.Bytes(w.data)
	files[testPath+".torrent"] = mirrortest.Bytes(v1Torrent(testName, w.data, 64<<10, fmt.Sprintf("8:url-list%d:%s", len(other), other)))
	req := w.prepare()
	req.Mirrors = []*url.URL{mustURL(other)}
	req.Torrent.URLs = append(req.Torrent.URLs, mustURL(other+".torrent"))
	res, err := w.fetching(req)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.describe(res))
	}
	w.checkRight(res)
	if res.InfoHash == "" || len(res.Sources) != 1 || res.Sources[0].Name != req.URL.String() {
		t.Errorf("torrent %q\n%s", res.InfoHash, w.describe(res))
	}
	if n := len(requests(m, testPath+".torrent")); n != 1 {
		t.Errorf("the torrent was asked for %d times", n)
	}
}

func TestResource(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"http://h/g++-1:2.deb", "HTTP://H:80/g%2B%2b-1%3A2.deb", true},
		{"https://h:443/a", "https://h/a", true},
		{"http://h:443/a", "http://h/a", false},
		{"http://h/a", "https://h/a", false},
		{"http://h/a+b", "http://h/a%20b", false},
		{"http://h/p//a", "http://h/p/a", false},
		{"http://h/p%2Fa", "http://h/p/a", false},
		{"http://h/a%3Fb", "http://h/a?b", false},
		{"http://h/a?b=%2B", "http://h/a?b=+", false},
		{"http://h/a", "http://h/A", false},
	} {
		if same := resourceOf(mustURL(c.a)) == resourceOf(mustURL(c.b)); same != c.same {
			t.Errorf("%s, %s: %v", c.a, c.b, same)
		}
	}
}

// Mirrors that were all silent for a while do not take each other's requests away, again and again, before they can be answered.
func TestTakenOverInTurns(t *testing.T) {
	for _, age := range []time.Duration{0, 100 * time.Millisecond, time.Minute} {
		s := newSink(nil, nil)
		now := time.Now()
		var feeds []*Feed
		for _, name := range []string{"disk", "a", "b", "idle"} {
			feeds = append(feeds, s.open(name, name))
		}
		s.setSize(2 * blockSize)
		s.many, s.gotAt = true, now.Add(-time.Hour)
		for i, f := range feeds[1:3] {
			f.active = true
			f.claim = s.claimRange(f, int64(i)*blockSize, int64(i+1)*blockSize, now.Add(-age))
		}
		feeds[3].active = true
		if c := s.relieve(feeds[3], now); (c != nil) != (age == time.Minute) {
			t.Errorf("asked %v ago, and taken over: %v", age, c != nil)
		}
	}
}

// Nobody is thought to be faster than the limit.
func TestLimitIsNoReasonToTakeOver(t *testing.T) {
	for _, limit := range []int64{0, 600} {
		s := newSink(nil, nil)
		s.limit = newLimit(limit)
		now := time.Now()
		s.open("disk", "")
		at, idle := s.open("a", "a"), s.open("b", "b")
		s.setSize(blockSize)
		s.many, s.gotAt = true, now
		at.active, at.rate, at.last, idle.active = true, 580, now, true
		at.claim = s.claimRange(at, 0, blockSize, now.Add(-time.Second))
		at.claim.began = true
		if c := s.relieve(idle, now); (c != nil) != (limit == 0) {
			t.Errorf("limit %d: taken over: %v", limit, c != nil)
		}
	}
}
