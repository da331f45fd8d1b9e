package seeder

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const mostDates = 100

// Quota counts the bytes that were given on each day of the local calendar. It is kept as JSON; the zero value has counted nothing.
// What is given while the clock is wrong, as that of a machine without a battery is when it starts, counts for other days and loses nothing.
type Quota struct {
	Days map[string]int64 `json:"days"` // bytes by date, 2006-01-02; the last hundred of them
}

// Add counts n more bytes at now.
func (q *Quota) Add(now time.Time, n int64) {
	if n <= 0 {
		return
	}
	if q.Days == nil {
		q.Days = map[string]int64{}
	}
	q.Days[now.Format(time.DateOnly)] += n
	for len(q.Days) > mostDates {
		delete(q.Days, slices.Min(slices.Collect(maps.Keys(q.Days))))
	}
}

// Given is what was counted on the day of now, and in its month, in bytes.
func (q *Quota) Given(now time.Time) (day, month int64) {
	today := now.Format(time.DateOnly)
	for date, n := range q.Days {
		if strings.HasPrefix(date, today[:len("2006-01")]) {
			month += n
		}
	}
	return q.Days[today], month
}

// Left is what may still be given at now, in bytes; negative: there is no limit. maxDay and maxMonth <= 0 are none.
func (q *Quota) Left(now time.Time, maxDay, maxMonth int64) int64 {
	day, month := q.Given(now)
	left := int64(-1)
	if maxDay > 0 {
		left = max(0, maxDay-day)
	}
	if maxMonth > 0 && (left < 0 || maxMonth-month < left) {
		left = max(0, maxMonth-month)
	}
	return left
}
