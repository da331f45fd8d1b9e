package main

import (
	"sync/atomic"
	"time"

	"torrent-xfer/fetcher"
)

// startBar shows on a terminal how many of total bytes are hashed. add may be called by several goroutines; after stop
// the line is free again.
func startBar(env Env, name string, total int64) (add func(int), stop func()) {
	show := newDisplay(env, settings{progress: "auto"}, printable(name))
	if show.how != "bar" {
		return nil, func() {}
	}
	var done atomic.Int64
	began, quit, gone := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				n := done.Load()
				show.event(fetcher.Event{Kind: fetcher.Progress, Size: total, Done: n, Rate: float64(n) / time.Since(began).Seconds()})
			}
		}
	}()
	return func(n int) { done.Add(int64(n)) }, func() {
		close(quit)
		<-gone
		show.mu.Lock()
		defer show.mu.Unlock()
		show.erase()
	}
}
