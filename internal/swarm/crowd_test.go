package swarm_test

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

// crowd has clients fetch the file, starting so far apart, and returns what each got and what the mirror gave.
func (s *site) crowd(clients int, apart time.Duration) (results []*fetcher.Result, mirror int64) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	results = make([]*fetcher.Result, clients)
	for i := range results {
		if i > 0 {
			time.Sleep(apart)
		}
		all.Go(func() {
			var err error
			if results[i], err = s.fetch(ctx, "worker", nil); err != nil {
				s.t.Error(err)
			}
		})
	}
	all.Wait()
	for _, r := range results {
		mirror += r.Received - fromPeers(r)
	}
	return results, mirror
}

// Those who begin together fetch different pieces and exchange them: the mirror need not give the file to each.
func TestCrowd(t *testing.T) {
	const size, clients = 10 << 20, 4
	s := newSite(t, size, mirrortest.Config{Rate: 2 << 20}, metainfo.Hybrid, 0)
	s.hold(1<<20, s.joins(clients))
	results, mirror := s.crowd(clients, 0)
	for _, r := range results {
		if fromPeers(r) < 1<<20 {
			t.Errorf("%d bytes from peers: %+v", fromPeers(r), r.Sources)
		}
	}
	if mirror > (clients-1)*size {
		t.Errorf("the mirror gave %.2f x the file", float64(mirror)/size)
	}
}

// BenchmarkCrowd tells how often the mirror gave the file, and how much longer it took than one alone would need.
func BenchmarkCrowd(b *testing.B) {
	for _, c := range []struct {
		clients, size int
		rate          int64
		apart         time.Duration
	}{{8, 40 << 20, 10 << 20, 0}, {16, 5 << 20, 10 << 20, 0}, {16, 40 << 20, 2500 << 10, time.Second}} {
		b.Run(fmt.Sprintf("%d clients, %d MiB, %d KiB per s, %v apart", c.clients, c.size>>20, c.rate>>10, c.apart), func(b *testing.B) {
			for b.Loop() {
				s := newSite(b, c.size, mirrortest.Config{Rate: c.rate, Delay: 20 * time.Millisecond}, metainfo.Hybrid, 0)
				results, mirror := s.crowd(c.clients, c.apart)
				var longest time.Duration
				for _, r := range results {
					longest = max(longest, r.Elapsed)
				}
				b.ReportMetric(float64(mirror)/float64(c.size), "x-mirror")
				b.ReportMetric(longest.Seconds()*float64(c.rate)/float64(c.size), "x-time")
			}
		})
	}
}

// BenchmarkMirrorsAndSeeds: three mirrors and three seeds of the same speed; ideal is their sum.
func BenchmarkMirrorsAndSeeds(b *testing.B) {
	const size, rate = 200 << 20, 8 << 20
	for b.Loop() {
		s := newSite(b, size, mirrortest.Config{Rate: rate, Delay: 20 * time.Millisecond}, metainfo.Hybrid, 0)
		for range 3 {
			s.seedAt(b, rate)
		}
		r, err := s.fetch(b.Context(), "worker", func(_ *fetcher.Fetcher, q *fetcher.Request) {
			for range 2 {
				m, err := mirrortest.Start(mirrortest.Config{Rate: rate, Delay: 20 * time.Millisecond, Dir: filepath.Join(s.dir, "srv")})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { m.Close() })
				u, err := url.Parse(m.URL("/" + name))
				if err != nil {
					b.Fatal(err)
				}
				q.Mirrors = append(q.Mirrors, u)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.Elapsed.Seconds()/(float64(size)/rate/6), "x-ideal")
	}
}
