package main

import (
	"sync/atomic"
	"time"

	"torrent-xfer/fetcher"
)

// hashBar shows on a terminal how many bytes of a job are hashed.
type hashBar struct {
	show       *display // nil: there is no terminal
	done       atomic.Int64
	quit, gone chan struct{}
}

// startBar begins a bar for a job of total bytes.
func startBar(env Env, name string, total int64) *hashBar {
	show := newDisplay(env, settings{progress: "auto"}, printable(name))
	if show.how != "bar" {
		return &hashBar{}
	}
	b := &hashBar{show: show, quit: make(chan struct{}), gone: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(b.gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-b.quit:
				return
			case <-tick.C:
				n := b.done.Load()
				show.event(fetcher.Event{Kind: fetcher.Progress, Size: total, Done: n, Rate: float64(n) / time.Since(began).Seconds()})
			}
		}
	}()
	return b
}

// add says that n more bytes are hashed. Several goroutines may call it.
func (b *hashBar) add(n int) { b.done.Add(int64(n)) }

// above calls print while the line is free.
func (b *hashBar) above(print func()) {
	if b.show != nil {
		b.show.mu.Lock()
		defer b.show.mu.Unlock()
		b.show.erase()
	}
	print()
}

// stop leaves the line free.
func (b *hashBar) stop() {
	if b.show != nil {
		close(b.quit)
		<-b.gone
	}
	b.above(func() {})
}
