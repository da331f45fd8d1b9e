package fetcher

import (
	"fmt"
	"testing"
	"time"
)

func FuzzParseContentRange(f *testing.F) {
	for _, text := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 0-1/*", "bytes */5", "bytes 9-5/10", "items 0-1/2", "bytes -1-2/3", "bytes 0-9223372036854775807/*", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, last, total, ok := parseContentRange(text)
		if ok && (first < 0 || last < first || total < -1) {
			t.Errorf("%q: %d-%d/%d", text, first, last, total)
		}
		if ok && total >= 0 {
			again := fmt.Sprintf("bytes %d-%d/%d", first, last, total)
			if a, b, c, ok := parseContentRange(again); !ok || a != first || b != last || c != total {
				t.Errorf("%q does not survive a round trip", again)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, text := range []string{"0", "120", "-1", "99999999999999999999", "Fri, 02 Jan 2026 03:05:05 GMT", "soon", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if at := retryAfter(text, now); !at.IsZero() && at.Sub(now) > 0 && at.Year() > 9999 {
			t.Errorf("%q: %v", text, at)
		}
	})
}
