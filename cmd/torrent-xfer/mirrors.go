package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
)

// mirrorLine is one mirror as the verb "mirrors" tells it with --json.
type mirrorLine struct {
	URL string `json:"url"`
	*probeResult
}

func mirrorsCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "mirrors")
	if err != nil {
		return err
	}
	if c.NArg() != 1 {
		return usageError("mirrors takes one URL")
	}
	u, err := parseURL(c.Args().First())
	if err != nil {
		return err
	}
	others, _, err := mirrorsOf(env, s, readCaller(env.Parent), u)
	if err != nil {
		return err
	}
	list := append([]*url.URL{u}, others...)
	lines := make([]mirrorLine, len(list))
	for i, m := range list {
		lines[i].URL = bare(m)
	}
	var verdict error
	if s.probe {
		if u.Scheme == "file" {
			return usageError("only http and https URLs can be probed")
		}
		if env.UID == 0 {
			// Its error may be ignored: nothing is written here.
			confine(env, reach{})
		}
		d := &download{env: env, settings: s, url: u}
		ctx, stop := d.lifetime()
		defer stop()
		found := false
		for i, r := range newProber(env, u).probe(ctx, list) {
			lines[i].probeResult = r
			found = found || r.Status/100 == 2
		}
		if cause := context.Cause(ctx); cause != nil {
			verdict = cause
		} else if !found {
			verdict = &failure{status: exitNotFound, file: fileName(u), err: fetcher.ErrNotFound}
		}
	}
	switch {
	case s.json:
		e := json.NewEncoder(env.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(lines); err != nil {
			return err
		}
	case s.probe:
		printTable(env.Stdout, lines)
	default:
		for _, l := range lines {
			fmt.Fprintln(env.Stdout, printable(l.URL))
		}
	}
	return verdict
}

func printTable(w io.Writer, lines []mirrorLine) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STATUS\tSIZE\tLATENCY\tSPEED\tURL")
	for _, l := range lines {
		status, size, latency, speed := l.Error, "-", "-", "-"
		if l.Status != 0 {
			status = fmt.Sprint(l.Status)
			latency = l.Latency.Round(100 * time.Microsecond).String()
		}
		if l.Size >= 0 {
			size = formatBytes(float64(l.Size))
		}
		if l.Speed > 0 {
			speed = formatRate(l.Speed)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", printable(status), size, latency, speed, printable(l.URL))
	}
	t.Flush()
}
