package main

import "time"

// giveSettings say how long finished files are given to peers. What is zero does not end it.
type giveSettings struct {
	time  time.Duration
	ratio float64 // bytes given for each byte of a torrent
}

// wanted reports whether a download is to be followed by seeding.
func (s giveSettings) wanted() bool { return s.time > 0 || s.ratio > 0 }

func giveSettingsTable(verbs ...string) []setting {
	return []setting{
		{name: "seed-time", value: true, verbs: verbs, usage: "give the files to peers for `DURATION`: 90, 90s, 2h",
			set: func(s *settings, v string) error { return parseDuration(v, &s.give.time) }},
		{name: "seed-ratio", value: true, verbs: verbs, usage: "give the files to peers until `R` bytes were given for each of theirs: 1, 1.5",
			set: func(s *settings, v string) error { return parseRatio(v, &s.give.ratio) }},
	}
}
