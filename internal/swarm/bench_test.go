package swarm_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

func TestFiguresMirrorsAndSeeds(t *testing.T) {
	if os.Getenv("FIGURES") == "" {
		t.Skip()
	}
	const size, rate = 60 << 20, 4 << 20
	s := newSite(t, size, mirrortest.Config{Rate: rate, Delay: 20 * time.Millisecond}, metainfo.Hybrid, 0)
	for range 3 {
		s.seedAt(t, rate)
	}
	r, err := s.fetch(t.Context(), "worker", func(_ *fetcher.Fetcher, q *fetcher.Request) {
		for range 2 {
			m, err := mirrortest.Start(mirrortest.Config{Rate: rate, Delay: 20 * time.Millisecond, Dir: filepath.Join(s.dir, "srv")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			u, _ := url.Parse(m.URL("/" + name))
			q.Mirrors = append(q.Mirrors, u)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ideal := float64(size) / rate / 6
	t.Logf("%v, %.2f x the ideal; %d from peers, %d twice", r.Elapsed, r.Elapsed.Seconds()/ideal, fromPeers(r), r.Duplicate)
	for _, s := range r.Sources {
		t.Logf("%+v", s)
	}
}

func TestFigures(t *testing.T) {
	if os.Getenv("FIGURES") == "" {
		t.Skip()
	}
	for _, c := range []struct {
		clients, size int
		rate          int64
		apart         time.Duration
	}{{8, 40 << 20, 10 << 20, 0}, {16, 5 << 20, 10 << 20, 0}, {16, 40 << 20, 2500 << 10, time.Second}, {16, 40 << 20, 10 << 20, time.Second}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			s := newSite(t, c.size, mirrortest.Config{Rate: c.rate, Delay: 20 * time.Millisecond}, metainfo.Hybrid, 0)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			var all sync.WaitGroup
			results := make([]*fetcher.Result, c.clients)
			began := time.Now()
			for i := range results {
				time.Sleep(c.apart)
				all.Go(func() { results[i], _ = s.fetch(ctx, "worker", nil) })
			}
			all.Wait()
			var mirror, twice int64
			if os.Getenv("FIGURES") == "log" {
				for _, e := range s.mirror.Stats().Log {
					t.Logf("REQ %d %d %s %s %d", e.Time.Sub(began).Milliseconds(), e.Elapsed.Milliseconds(), e.Path, e.Range, e.BodyBytes)
				}
			}
			for _, r := range results {
				mirror += r.Received - fromPeers(r)
				twice += r.Duplicate
				t.Logf("%v %d %+v", r.Elapsed.Round(time.Millisecond), fromPeers(r), r.Sources[1:])
			}
			t.Logf("%v (alone: %.2f); the mirror gave %.2f x the file; twice %.3f", time.Since(began).Round(time.Millisecond), float64(c.size)/float64(c.rate), float64(mirror)/float64(c.size), float64(twice)/float64(c.size))
		})
	}
}
