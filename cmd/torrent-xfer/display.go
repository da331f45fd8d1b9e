package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"torrent-xfer/fetcher"
)

// display tells a person or a program how a download goes, on standard error.
type display struct {
	out     io.Writer
	how     string // bar, plain, json or none
	name    string // printable
	verbose bool
	columns func() int

	mu    sync.Mutex
	drawn string // the bar's line as it stands on the terminal; "": none
	bar   *progressbar.ProgressBar
	last  fetcher.Event
}

func newDisplay(env Env, s settings, name string) *display {
	d := &display{out: env.Stderr, how: s.progress, name: name, verbose: s.verbose}
	_, terminal := terminalWidth(env.Stderr)
	switch {
	case s.quiet:
		d.how = "none"
	case d.how != "auto":
	case terminal && env.get("TERM") != "dumb":
		d.how = "bar"
	case terminal || s.verbose:
		d.how = "plain"
	default:
		d.how = "none"
	}
	d.columns = func() int {
		if n, ok := terminalWidth(env.Stderr); ok && n > 0 {
			return n - 1 // a full line makes some terminals go to the next
		}
		return 79
	}
	return d
}

// terminalWidth tells whether w is a terminal, and its width if that is known.
func terminalWidth(w io.Writer) (width int, terminal bool) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0
	}
	return width, true
}

// log is where the engine's words go: nowhere unless the user asks for them.
func (d *display) log() *slog.Logger {
	if !d.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// Write prints whole lines above the bar.
func (d *display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	n, err := d.out.Write(p)
	if d.bar != nil {
		d.draw(d.last)
	}
	return n, err
}

func (d *display) event(e fetcher.Event) {
	switch {
	case d.how == "json":
		if e.Kind != fetcher.Finished {
			d.object(e)
		}
	case e.Kind == fetcher.Retried:
		if d.verbose {
			fmt.Fprintf(d, "torrent-xfer: %s: set aside %s: %s\n", d.name, printable(e.Source), printable(e.Message))
		}
	case d.how == "bar" && e.Kind != fetcher.Finished:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.draw(e)
	}
}

// finish says how it ended. An error is told by the caller.
func (d *display) finish(r *fetcher.Result, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	d.bar = nil
	switch d.how {
	case "json":
		d.finished(r, err)
	case "bar":
		if err == nil {
			fmt.Fprintln(d.out, line(d.columns(), d.name, summary(r)...))
		}
	case "plain":
		if err == nil {
			fmt.Fprintln(d.out, strings.Join(append([]string{d.name}, summary(r)...), "  "))
		}
	}
}

// summary is what remains to be said of a file that has arrived.
func summary(r *fetcher.Result) []string {
	size := formatBytes(float64(r.Size))
	givers, peers := 0, int64(0)
	for _, s := range r.Sources {
		switch {
		case s.Name == fetcher.PeersName:
			peers = s.Bytes
		case s.Bytes > 0:
			givers++
		}
	}
	switch {
	case r.NotChanged:
		return []string{size, "up to date"}
	case r.Received == 0 && r.Resumed > 0:
		return []string{size, "was here already"}
	}
	fields := []string{size, formatRate(float64(r.Received) / max(r.Elapsed.Seconds(), 1e-3)), formatTime(r.Elapsed)}
	if givers > 0 {
		fields = append(fields, plural(givers, "mirror"))
	}
	if peers > 0 {
		fields = append(fields, formatBytes(float64(peers))+" from peers")
	}
	return fields
}

// draw shows a snapshot in one line. mu is held.
func (d *display) draw(e fetcher.Event) {
	d.last = e
	var fields []string
	if e.Size > 0 {
		fields = append(fields, formatBytes(float64(e.Size)))
	} else {
		fields = append(fields, formatBytes(float64(e.Done)))
	}
	if e.Rate > 0 {
		fields = append(fields, formatRate(e.Rate))
		if e.Size > 0 {
			fields = append(fields, formatTime(time.Duration(float64(e.Size-e.Done)/e.Rate*float64(time.Second))))
		}
	}
	if e.Known > 0 {
		fields = append(fields, fmt.Sprintf("%d of %s", e.Mirrors, plural(e.Known, "mirror")))
		if e.Peers > 0 {
			fields = append(fields, plural(e.Peers, "peer"))
		}
	}

	const percent, frame, least = 7, 3, 8 // "  100% ", "| |", and the smallest bar worth drawing
	width := d.columns()
	text := ""
	if e.Size > 0 && width >= 40 {
		text = line(width-percent-frame-least, d.name, fields...)
		text = d.withBar(text, e, min(width-columns(text)-percent-frame, 40))
	} else {
		if e.Size > 0 {
			fields = append([]string{fmt.Sprintf("%d%%", 100*max(min(e.Done, e.Size), 0)/e.Size)}, fields...)
		}
		text = line(width, d.name, fields...)
	}
	if text != d.drawn {
		io.WriteString(d.out, "\r\x1b[K"+text)
		d.drawn = text
	}
}

// withBar has the progress bar drawn behind text, room columns wide.
func (d *display) withBar(text string, e fetcher.Event, room int) string {
	if d.bar == nil || d.bar.GetMax64() != e.Size {
		d.bar = progressbar.NewOptions64(e.Size, progressbar.OptionSetWriter(io.Discard), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetTheme(progressbar.ThemeASCII))
	}
	progressbar.OptionSetWidth(room)(d.bar)
	d.bar.Describe(text)
	d.bar.Set64(max(min(e.Done, e.Size-1), 0)) // at its end the bar would stand still for good
	return strings.TrimRight(strings.TrimLeft(d.bar.String(), "\r"), " ")
}

// erase takes the bar off the terminal. mu is held.
func (d *display) erase() {
	if d.drawn != "" {
		io.WriteString(d.out, "\r\x1b[K")
		d.drawn = ""
	}
}

// message is one line of --progress json.
type message struct {
	Event   string  `json:"event"` // started, progress, retried or finished
	Name    string  `json:"name"`
	Size    int64   `json:"size"` // bytes; -1: unknown
	Done    int64   `json:"done"`
	Rate    float64 `json:"rate"` // bytes/s
	Mirrors int     `json:"mirrors"`
	Known   int     `json:"known"`
	Peers   int     `json:"peers"`
	Source  string  `json:"source,omitempty"`
	Message string  `json:"message,omitempty"`
	Status  *int    `json:"status,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func (d *display) object(e fetcher.Event) {
	kinds := map[fetcher.EventKind]string{fetcher.Started: "started", fetcher.Progress: "progress", fetcher.Retried: "retried"}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = e
	d.encode(message{Event: kinds[e.Kind], Name: d.name, Size: e.Size, Done: e.Done, Rate: e.Rate, Mirrors: e.Mirrors,
		Known: e.Known, Peers: e.Peers, Source: e.Source, Message: e.Message})
}

func (d *display) finished(r *fetcher.Result, err error) {
	status := statusOf(err)
	m := message{Event: "finished", Name: d.name, Size: r.Size, Done: r.Size, Known: d.last.Known, Status: &status,
		Rate: float64(r.Received) / max(r.Elapsed.Seconds(), 1e-3)}
	if err != nil {
		m.Error, m.Size, m.Done = printable(err.Error()), d.last.Size, d.last.Done
	}
	d.encode(m)
}

func (d *display) encode(m message) {
	if text, err := json.Marshal(m); err == nil {
		d.out.Write(append(text, '\n'))
	}
}
