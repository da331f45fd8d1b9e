package mirrortest

import (
	"context"
	"sync"
	"time"
)

// bucket shares one rate among all responses of a mirror. It models a wire: bytes are due when the wire would have
// carried them, and a wire that was idle has saved nothing. What a late wake-up lost is made good up to burst.
type bucket struct {
	rate  float64 // bytes/s
	burst time.Duration
	chunk int // bytes to take at once

	mu     sync.Mutex
	active int       // responses under way
	next   time.Time // when the wire is free
}

func newBucket(rate int64) *bucket {
	b := &bucket{rate: float64(rate)}
	b.burst = max(10*time.Millisecond, b.cost(4096))
	b.chunk = int(min(max(rate/200, 512), 64<<10))
	return b
}

func (b *bucket) cost(n int) time.Duration {
	return time.Duration(float64(n) / b.rate * float64(time.Second))
}

// begin and end enclose one response.
func (b *bucket) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); b.active == 0 && b.next.Before(now) {
		b.next = now
	}
	b.active++
}

func (b *bucket) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active--
}

// take waits until n bytes may be sent. If ctx ends first it takes nothing.
func (b *bucket) take(ctx context.Context, n int) error {
	cost := b.cost(n)
	b.mu.Lock()
	if oldest := time.Now().Add(-b.burst); b.next.Before(oldest) {
		b.next = oldest
	}
	b.next = b.next.Add(cost)
	due := b.next
	b.mu.Unlock()
	if err := sleep(ctx, time.Until(due)); err != nil {
		b.mu.Lock()
		b.next = b.next.Add(-cost)
		b.mu.Unlock()
		return err
	}
	return nil
}
