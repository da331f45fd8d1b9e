package swarm

import (
	"testing"
	"time"
)

func TestUntilNext(t *testing.T) {
	for seconds, want := range map[int32]time.Duration{-1: time.Minute, 0: time.Minute, 90: 90 * time.Second, 7200: 2 * time.Hour, 1 << 30: 24 * time.Hour} {
		if got := untilNext(seconds); got != want {
			t.Errorf("%d: %v", seconds, got)
		}
	}
}
