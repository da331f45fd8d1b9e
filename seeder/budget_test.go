package seeder

import (
	"testing"
	"time"
)

func TestHours(t *testing.T) {
	h, err := ParseHours("22:00-06:00, 12:00-13:00")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{"22:00": true, "23:59": true, "00:00": true, "05:59": true, "06:00": false, "12:30": true,
		"13:00": false, "21:59": false} {
		when, _ := time.Parse("15:04", at)
		if h.Hold(when) != want {
			t.Errorf("%s: %v", at, !want)
		}
	}
	if !Hours(nil).Hold(time.Now()) {
		t.Error("no hours are not always")
	}
	if all, err := ParseHours("00:00-24:00"); err != nil || !all.Hold(time.Now()) {
		t.Error("the whole day is not always", err)
	}
	for _, bad := range []string{"", "22:00", "22-23", "25:00-26:00", "08:00-08:00", "08:00-09:00,"} {
		if _, err := ParseHours(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestQuota(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	var q Quota
	for _, c := range []struct {
		date       string
		n          int64
		day, month int64
	}{
		{"2026-01-30", 5, 5, 5},
		{"2026-01-30", 5, 10, 10},
		{"2026-01-31", 1, 1, 11},
		{"2026-02-01", 2, 2, 2},
		{"1970-01-01", 1, 1, 1}, // the clock is not set yet
		{"2026-02-01", 0, 2, 2},
		{"2026-01-31", 1, 2, 12}, // it was put back
		{"2038-01-01", 1, 1, 1},  // and is wrong for a while
		{"2026-02-01", 1, 3, 3},
		{"2026-02-02", 1, 1, 4},
	} {
		q.Add(at(c.date), c.n)
		if day, month := q.Given(at(c.date)); day != c.day || month != c.month {
			t.Errorf("%s: %d and %d instead of %d and %d", c.date, day, month, c.day, c.month)
		}
	}
	for _, c := range []struct{ day, month, left int64 }{{0, 0, -1}, {5, 0, 4}, {0, 5, 1}, {5, 5, 1}, {1, 100, 0}, {1, 1, 0}} {
		if got := q.Left(at("2026-02-02"), c.day, c.month); got != c.left {
			t.Errorf("%d and %d: %d left instead of %d", c.day, c.month, got, c.left)
		}
	}
	for i := range 2 * mostDates {
		q.Add(at("2026-03-01").AddDate(0, 0, i), 1)
	}
	if _, ok := q.Days["2026-03-01"]; ok || len(q.Days) != mostDates {
		t.Errorf("%d dates are kept", len(q.Days))
	}
}
