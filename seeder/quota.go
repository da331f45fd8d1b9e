package seeder

import "time"

// Quota counts the bytes that were given in the present day and month, by the local calendar. It is kept as JSON; the zero value has
// counted nothing.
type Quota struct {
	Date  string `json:"date"`  // 2006-01-02
	Day   int64  `json:"day"`   // bytes on Date
	Month int64  `json:"month"` // bytes in the month of Date
}

// Add counts n more bytes at now. A new day begins when the date is a later one. If it is an earlier one the clock was wrong before
// or is now: what was counted stays, so that nothing is given twice for it, and belongs to that date from now on.
func (q *Quota) Add(now time.Time, n int64) {
	date := now.Format(time.DateOnly)
	if date > q.Date {
		q.Day = 0
		if len(q.Date) < 7 || date[:7] != q.Date[:7] {
			q.Month = 0
		}
	}
	q.Date = date
	q.Day += n
	q.Month += n
}

// Left is what may still be given, in bytes; negative: there is no limit. maxDay and maxMonth <= 0 are none.
func (q *Quota) Left(maxDay, maxMonth int64) int64 {
	left := int64(-1)
	if maxDay > 0 {
		left = max(0, maxDay-q.Day)
	}
	if maxMonth > 0 && (left < 0 || maxMonth-q.Month < left) {
		left = max(0, maxMonth-q.Month)
	}
	return left
}
