package swarm_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

func TestCrowd(t *testing.T) {
	const size = 10 << 20
	s := newSite(t, size, mirrortest.Config{Rate: 4 << 20}, metainfo.Hybrid, 0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	results := make([]*fetcher.Result, 4)
	began := time.Now()
	for i := range results {
		all.Go(func() {
			var err error
			results[i], err = s.fetch(ctx, "worker", nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var mirror int64
	for _, r := range results {
		p := fromPeers(r)
		mirror += r.Received - p
		t.Logf("%v: %d from peers, %d received, %d twice, %d uploaded", r.Elapsed.Round(time.Millisecond), p, r.Received, r.Duplicate, r.Uploaded)
	}
	t.Logf("%v; the mirror gave %.2f x the file", time.Since(began).Round(time.Millisecond), float64(mirror)/size)
	for _, a := range s.tracker.Log() {
		t.Logf("%+v", a.Event)
	}
}
