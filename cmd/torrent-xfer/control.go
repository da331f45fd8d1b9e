package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/seeder"
)

const (
	statusAbout = `--json prints one object: port, peers (connected), rate (bytes/s given now), limit (bytes/s, 0: none), held (why nobody is served),
paused, uploaded (bytes since the daemon was started), day, month and space (used and most, in bytes; 0: no limit),
worker_restarts, waiting (files handed over, not yet taken), problems (time, name, what), downloads in the background (url, size, ended),
and torrents: info_hash, name, size, url,
peers, uploaded, ratio, rate, added, seeded_s, problem.

`
	pauseAbout  = "Nobody is served until torrent-xfer resume, after a restart of the daemon either.\n\n"
	removeAbout = "WHAT is a file's name, or the first eight digits of its info hash or more. The daemon's copy is gone then.\n\n"
	limitAbout  = "RATE is in bytes/s, as 500k or 2M, for all that is given together; \"none\" has the configuration hold again.\n\n"

	watchEvery = time.Second
)

// controlVerbs are those that speak to the daemon and end.
var controlVerbs = []string{"status", "pause", "resume", "remove", "limit"}

func controlSettingsTable() []setting {
	return []setting{
		{name: "json", verbs: []string{"status"}, usage: "print JSON", set: func(s *settings, v string) error { return parseBool(v, &s.json) }},
		{name: "watch", verbs: []string{"status"}, usage: "print it again every second, until interrupted",
			set: func(s *settings, v string) error { return parseBool(v, &s.watch) }},
	}
}

// controlCommand has the daemon do what verb says.
func controlCommand(verb string) func(Env, *cli.Context) error {
	return func(env Env, c *cli.Context) error {
		s, err := loadSettings(env, c, verb)
		if err != nil {
			return err
		}
		r := seeder.Request{Do: verb}
		switch arg := c.Args().First(); {
		case verb == "remove" && c.NArg() == 1:
			r.What = arg
		case verb == "limit" && c.NArg() == 1:
			if arg == "none" {
				break
			}
			if err := parseBytes(strings.TrimSuffix(arg, "/s"), &r.Rate); err != nil {
				return usageError("%w", err)
			}
		case verb == "remove" || verb == "limit":
			return usageError("%s takes one argument", verb)
		case c.NArg() > 0:
			return usageError("too many arguments: %q", arg)
		}
		client, err := dialControl(env, s)
		if err != nil {
			return &failure{status: exitFailed, err: fmt.Errorf("there is no daemon: %w", err), next: "start torrent-xfer daemon, or name its socket with --control"}
		}
		defer client.Close()
		giveUpRights(env)
		for {
			st, removed, err := client.Ask(r)
			if err != nil {
				return &failure{status: exitFailed, err: fmt.Errorf("%s: %w", verb, err), next: "torrent-xfer status tells how things stand"}
			}
			text := strings.Join(removed, "\n")
			if text != "" {
				text = "removed " + printable(strings.Join(removed, ", ")) + "\n"
			}
			if st != nil {
				if text, err = formatStatus(st, s.json); err != nil {
					return err
				}
			}
			if _, err := env.Stdout.Write([]byte(text)); err != nil {
				return fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
			}
			if !s.watch {
				return nil
			}
			time.Sleep(watchEvery)
			if _, terminal := terminalWidth(env.Stdout); terminal && !s.json {
				env.Stdout.Write([]byte("\x1b[H\x1b[2J"))
			}
		}
	}
}

func formatStatus(st *seeder.Status, asJSON bool) (string, error) {
	if asJSON {
		text, err := json.Marshal(st)
		return string(text) + "\n", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s", plural(len(st.Torrents), "file"), plural(st.Peers, "peer"), formatRate(st.Rate))
	if st.Limit > 0 {
		fmt.Fprintf(&b, " of %s", formatRate(float64(st.Limit)))
	}
	if st.Port > 0 {
		fmt.Fprintf(&b, ", port %d", st.Port)
	}
	if st.Held != "" {
		fmt.Fprintf(&b, "; nobody is served: %s", st.Held)
	}
	fmt.Fprintf(&b, "\ngiven today %s, this month %s; %s of disk\n", amount(st.Day), amount(st.Month), amount(st.Space))
	if n := st.Waiting; n > 0 {
		fmt.Fprintf(&b, "%s not looked at yet\n", plural(n, "file"))
	}
	if n := st.Restarts; n > 0 {
		fmt.Fprintf(&b, "what speaks to peers crashed %s\n", plural(n, "time"))
	}
	if len(st.Torrents) > 0 {
		fmt.Fprintf(&b, "\n%-12s  %10s  %5s  %10s  %6s  %12s  %s\n", "INFO HASH", "SIZE", "PEERS", "GIVEN", "RATIO", "RATE", "NAME")
	}
	for _, t := range st.Torrents {
		fmt.Fprintf(&b, "%-12.12s  %10s  %5d  %10s  %6.2f  %12s  %s\n", t.ID, formatBytes(float64(t.Size)), t.Peers, formatBytes(float64(t.Uploaded)),
			t.Ratio, formatRate(t.Rate), printable(t.Name))
		if t.Problem != "" {
			fmt.Fprintf(&b, "%14s%s\n", "", printable(t.Problem))
		}
	}
	if len(st.Downloads) > 0 {
		b.WriteByte('\n')
	}
	for _, j := range st.Downloads {
		what := "downloads"
		if j.Ended {
			what = "keeps for whoever asks"
		}
		fmt.Fprintf(&b, "%s %s\n", what, printable(j.URL))
	}
	if len(st.Problems) > 0 {
		b.WriteByte('\n')
	}
	for _, p := range st.Problems {
		fmt.Fprintf(&b, "%s  %s: %s\n", p.Time.Local().Format(time.DateTime), printable(p.Name), printable(p.What))
	}
	return b.String(), nil
}

// amount is what was used of a budget.
func amount(a seeder.Amount) string {
	if a.Most <= 0 {
		return formatBytes(float64(a.Used))
	}
	return formatBytes(float64(a.Used)) + " of " + formatBytes(float64(a.Most))
}
