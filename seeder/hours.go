package seeder

import (
	"fmt"
	"strings"
	"time"
)

// Hours are times of the day. nil: always.
type Hours []span

// span is from its first minute of the day to before its last; if that is not later it goes over midnight.
type span struct{ from, to int }

// ParseHours reads "22:00-06:00,12:00-13:00".
func ParseHours(text string) (h Hours, err error) {
	for _, part := range strings.Split(text, ",") {
		from, to, ok := strings.Cut(strings.TrimSpace(part), "-")
		a, err1 := minute(from)
		b, err2 := minute(to)
		if !ok || err1 != nil || err2 != nil || a == b {
			return nil, fmt.Errorf("%q are no hours: 22:00-06:00", part)
		}
		h = append(h, span{a, b})
	}
	return h, nil
}

func minute(text string) (int, error) {
	text = strings.TrimSpace(text)
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err
}

// Hold tells whether t, in its own time zone, is within the hours.
func (h Hours) Hold(t time.Time) bool {
	at := t.Hour()*60 + t.Minute()
	for _, s := range h {
		if s.from < s.to && s.from <= at && at < s.to || s.from > s.to && (at >= s.from || at < s.to) {
			return true
		}
	}
	return h == nil
}
