package main

import (
	"fmt"
	"io"
)

// A line is one figure of the table.
type line struct {
	name         string
	got, against string
	ratio, goal  string
	reached      bool
	curl, aria   string // "" where that program has nothing to say
	note         string
}

type table struct {
	w               io.Writer
	reached, missed int
}

const lineFormat = "%-38s %12s %12s %8s %9s %-4s %11s %11s  %s\n"

func newTable(w io.Writer) *table {
	fmt.Fprintf(w, lineFormat, "", "torrent-xfer", "against", "ratio", "goal", "", "curl", "aria2c", "")
	return &table{w: w}
}

func (t *table) add(l line) {
	verdict := "yes"
	if l.reached {
		t.reached++
	} else {
		t.missed++
		verdict = "NO"
	}
	fmt.Fprintf(t.w, lineFormat, l.name, l.got, l.against, l.ratio, l.goal, verdict, l.curl, l.aria, l.note)
}

func (t *table) close() {
	fmt.Fprintf(t.w, "%d goals reached, %d not.\n", t.reached, t.missed)
}
