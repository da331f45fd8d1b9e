package fetcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

func (w *world) within(d time.Duration, req Request) (*Result, error) {
	ctx, cancel := context.WithTimeout(w.Context(), d)
	defer cancel()
	return w.fetcher.Fetch(ctx, req)
}

func TestAuditOddMirrors(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, 3<<20).mode(mode)
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		req := w.prepare()
		for range 5 {
			req.Mirrors = append(req.Mirrors, req.URL, req.Mirrors[0])
		}
		for _, u := range []string{"file:///etc/passwd", "ftp://x/y", "mailto:a@b", "http:///nohost", "//x", "x"} {
			req.Mirrors = append([]*url.URL{mustURL(u)}, req.Mirrors...)
		}
		res, err := w.within(20*time.Second, req)
		if err != nil {
			t.Errorf("%s: %v\n%s", mode, err, w.describe(res))
			continue
		}
		w.checkRight(res)
	}
}

// Cancelled at every stage: nothing is left running.
func TestAuditCancelLeaks(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, 3<<20).mode(mode)
		w.mirror(mirrortest.Config{Rate: 8 << 20, Delay: 3 * time.Millisecond})
		w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.FlipBit, At: 1 << 20}}})
		w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.Blackhole}}})
		for i := range 8 {
			w.dir = t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*60)*time.Millisecond)
			w.fetcher.Fetch(ctx, w.prepare())
			cancel()
			var buf []byte
			for try := 0; ; try++ {
				buf = make([]byte, 1<<20)
				buf = buf[:runtime.Stack(buf, true)]
				var left []string
				for _, g := range strings.Split(string(buf), "\n\n") {
					if strings.Contains(g, "torrent-xfer/fetcher.") && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "TestAudit") {
						left = append(left, g)
					}
				}
				if len(left) == 0 {
					break
				}
				if try > 50 {
					t.Fatalf("%s %d: %s", mode, i, strings.Join(left, "\n\n"))
				}
				time.Sleep(2 * time.Millisecond)
			}
		}
	}
}

// The web seeds of a torrent are all that works.
func TestAuditOnlyWebSeeds(t *testing.T) {
	w := newWorld(t, 3<<20)
	seed := w.mirror(mirrortest.Config{Rate: 8 << 20})
	more := fmt.Sprintf("8:url-list%d:%s", len(seed.URL(testPath)), seed.URL(testPath))
	w.mirrors = nil
	w.torrent = v1Torrent(testName, w.data, 64<<10, more)
	w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.NotFound}}})
	w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.Blackhole}}})
	res := w.mustFetch()
	t.Log(w.describe(res))
}

// Claims never overlap and never cover what is there.
func TestAuditClaimInvariant(t *testing.T) {
	for round := range 20 {
		const size = 6<<20 + 777
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		s := newSink(f, nil)
		s.open("disk", "")
		data := randomBytes(size)
		var m *Manifest
		if round%2 == 0 {
			if m, err = ParseTorrent(v1Torrent(testName, data, 64<<10, ""), ""); err != nil {
				t.Fatal(err)
			}
		}
		s.mu.Lock()
		s.setSize(size)
		s.mu.Unlock()
		s.share(m)
		s.mu.Lock()
		s.growing = false
		s.mu.Unlock()
		check := func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for i, a := range s.claims {
				if a.lost || a.pos == a.end {
					continue
				}
				for b := int(a.block() / BlockSize); int64(b)*BlockSize < a.end; b++ {
					if s.have[b] {
						t.Errorf("round %d: claim %d..%d (pos %d) covers block %d that is here", round, a.start, a.end, a.pos, b)
						return
					}
				}
				for _, b := range s.claims[:i] {
					if !b.lost && a.block() < b.end && b.block() < a.end && a.pos < a.end && b.pos < b.end {
						t.Errorf("round %d: claims %d..%d and %d..%d overlap", round, a.pos, a.end, b.pos, b.end)
						return
					}
				}
			}
		}
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for k := range 6 {
			feed := s.open(fmt.Sprint(k), fmt.Sprint(k))
			feed.setActive(true)
			r := rand.New(rand.NewPCG(uint64(round), uint64(k)))
			whole := k == 5
			feed.whole = whole
			wg.Go(func() {
				for {
					c, err := feed.Next(ctx)
					if err != nil {
						if errors.Is(err, errLost) {
							feed.setActive(true)
							continue
						}
						return
					}
					s.mu.Lock()
					c.open = c.open || r.IntN(2) == 0
					pos := c.start
					if whole {
						c.skip = c.start
						pos = 0
					}
					s.mu.Unlock()
					if c.Begin(size, validator{}) == nil {
						for pos < size {
							n := min(int64(1+r.IntN(100_000)), size-pos)
							if _, err := c.Write(data[pos : pos+n]); err != nil {
								break
							}
							pos += n
							check()
							if r.IntN(20) == 0 {
								break
							}
							if k < 2 {
								time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
							}
						}
					}
					c.Close()
					check()
					if r.IntN(30) == 0 {
						s.mu.Lock()
						feed.ban(errLost)
						s.mu.Unlock()
					}
				}
			})
		}
		select {
		case <-s.Full():
		case <-ctx.Done():
			t.Errorf("round %d: not full", round)
		}
		wg.Wait()
		cancel()
		got, _ := os.ReadFile(f.Name())
		if string(got) != string(data) {
			t.Errorf("round %d: wrong", round)
		}
		f.Close()
	}
}

// The liar alone is tried first, MaxMirrors 1.
func TestAuditMaxMirrorsOne(t *testing.T) {
	for _, mode := range []string{"torrent", "digest"} {
		for _, n := range []int{2, 3, 4} {
			w := newWorld(t, 3<<20).mode(mode)
			w.fetcher.MaxMirrors = 1
			w.mirror(mirrortest.Config{Rate: 20 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.FlipBit, At: 2 << 20}}})
			for range n - 1 {
				w.mirror(mirrortest.Config{Rate: 20 << 20})
			}
			w.mustFetch()
		}
	}
}

// The honest must not bear blame for bytes.
func TestAuditHonestNotBlamed(t *testing.T) {
	for i := range 20 {
		w := newWorld(t, 5<<20).mode([]string{"torrent", "digest"}[i%2])
		liar := rand.IntN(4)
		for k := range 4 {
			c := mirrortest.Config{Rate: 10 << 20}
			if k == liar {
				for range 4 {
					c.Faults = append(c.Faults, mirrortest.Fault{Kind: mirrortest.FlipBit, At: int64(rand.IntN(5 << 20))})
				}
			}
			w.mirror(c)
		}
		res := w.mustFetch()
		for _, s := range res.Sources {
			for k, m := range w.mirrors {
				if k != liar && s.Name == m.URL(testPath) && s.Blame != "" {
					t.Errorf("%d: honest one blamed: %s", i, w.describe(res))
				}
			}
		}
	}
}
