package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/scrape"
	"torrent-xfer/metainfo"
)

const scrapeAbout = `Trackers are http, https and udp URLs, as clients announce to (BEP 48, BEP 15). TORRENT is a file or a URL; its own trackers are
asked unless others are named.

--json prints a list of objects: tracker, info_hash, seeders, leechers, completed (times downloaded), known (the tracker has
heard of it; over UDP that is not told, and true), error (why a tracker did not answer).

`

const scrapeTimeout = 15 * time.Second

// scrapeSettings are those of scrape.
type scrapeSettings struct {
	trackers []string
	hashes   []string
}

func scrapeSettingsTable() []setting {
	verbs := []string{"scrape"}
	return []setting{
		{name: "tracker", aliases: []string{"t"}, value: true, many: true, verbs: verbs, usage: "ask the tracker at `URL`",
			set: func(s *settings, v string) error { s.scrape.trackers = append(s.scrape.trackers, v); return nil }},
		{name: "info-hash", aliases: []string{"i"}, value: true, many: true, verbs: verbs,
			usage: "ask about `HASH`: 40 or 64 hexadecimal digits; several with commas between them, or a torrent",
			set:   func(s *settings, v string) error { s.scrape.hashes = append(s.scrape.hashes, v); return notEmpty(v) }},
		{name: "json", verbs: verbs, usage: "print JSON", set: func(s *settings, v string) error { return parseBool(v, &s.json) }},
		{name: "timeout", value: true, verbs: verbs, usage: "give a tracker up after `DURATION` (default: 15s)",
			set: func(s *settings, v string) error { return parseDuration(v, &s.timeout) }},
	}
}

// scraped is what one tracker says of one torrent.
type scraped struct {
	Tracker   string `json:"tracker"`
	InfoHash  string `json:"info_hash"`
	Seeders   int64  `json:"seeders"`
	Leechers  int64  `json:"leechers"`
	Completed int64  `json:"completed"`
	Known     bool   `json:"known"`
	Error     string `json:"error,omitempty"`
}

func scrapeCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "scrape")
	if err != nil {
		return err
	}
	trackers, hashes, err := scrapeTargets(env, s, append(s.scrape.hashes, c.Args().Slice()...))
	if err != nil {
		return err
	}
	giveUpRights(env)
	if s.timeout == 0 {
		s.timeout = scrapeTimeout
	}
	d := &download{env: env, settings: settings{}}
	ctx, stop := d.lifetime()
	defer stop()
	var list []scraped
	var last error
	answered := false
	for _, u := range trackers {
		found, err := scrapeOne(ctx, env, s.timeout, u, hashes)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err == nil {
			answered = true
		} else {
			last = &failure{status: statusOf(err), file: bare(u), err: err, next: "check the tracker's URL"}
			if !s.json {
				warn(env.Stderr, "%s: %s", bare(u), why(err))
			}
		}
		list = append(list, found...)
	}
	if err := printScraped(env, s.json, list); err != nil {
		return fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
	}
	if !answered {
		return last
	}
	return nil
}

// scrapeOne asks one tracker. What it says of nothing because it failed says why.
func scrapeOne(ctx context.Context, env Env, patience time.Duration, u *url.URL, hashes []scrape.Hash) (list []scraped, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	counts, err := scrape.Do(ctx, &http.Client{Transport: agentTransport{newTransport(env), userAgent(env)}}, u, hashes)
	for i, h := range hashes {
		r := scraped{Tracker: bare(u), InfoHash: hex.EncodeToString(h[:])}
		if err != nil {
			r.Error = printable(why(err))
		} else {
			n := counts[i]
			r.Seeders, r.Leechers, r.Completed, r.Known = n.Seeders, n.Leechers, n.Completed, n.Known
		}
		list = append(list, r)
	}
	return list, err
}

// agentTransport says who asks.
type agentTransport struct {
	http.RoundTripper
	agent string
}

func (t agentTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", t.agent)
	return t.RoundTripper.RoundTrip(r)
}

// scrapeTargets finds out whom to ask about what. what are info hashes, some joined by commas, and at most one torrent.
func scrapeTargets(env Env, s settings, what []string) (trackers []*url.URL, hashes []scrape.Hash, err error) {
	named := s.scrape.trackers
	add := func(text string) bool {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != 20 && len(raw) != 32 {
			return false
		}
		if h := scrape.Hash(raw[:20]); !slices.Contains(hashes, h) { // 32 bytes: v2, of which trackers know the first 20
			hashes = append(hashes, h)
		}
		return true
	}
	torrent := ""
	for _, list := range what {
		for _, text := range strings.Split(list, ",") {
			switch text = strings.TrimSpace(text); {
			case add(text):
			case torrent != "":
				return nil, nil, usageError("%q is no info hash, and one torrent at a time is enough", text)
			default:
				torrent = text
			}
		}
	}
	if torrent != "" {
		data, err := readInput(env, s, torrent, metainfo.MaxSize)
		if err != nil {
			return nil, nil, err
		}
		d, err := metainfo.Describe(data)
		if err != nil {
			return nil, nil, usageError("%s is neither an info hash nor a torrent: %w", inputLabel(torrent), err)
		}
		add(d.InfoHashV1)
		add(d.InfoHashV2)
		if len(named) == 0 {
			named = append(slices.Concat(d.Tiers...), d.Announce)
		}
	}
	for _, text := range named {
		u, err := url.Parse(text)
		if err == nil && text != "" && (u.Host == "" || !slices.Contains([]string{"http", "https", "udp"}, u.Scheme)) {
			err = errors.New("not an http, https or udp URL")
		}
		switch {
		case err != nil && len(s.scrape.trackers) > 0:
			return nil, nil, usageError("--tracker: %w", err)
		case err == nil && text != "" && !slices.ContainsFunc(trackers, func(o *url.URL) bool { return o.String() == u.String() }):
			trackers = append(trackers, u)
		}
	}
	switch {
	case len(hashes) == 0:
		return nil, nil, usageError("nothing to ask about: name an info hash with -i, or a torrent")
	case len(trackers) == 0:
		return nil, nil, usageError("nobody to ask: name a tracker with -t")
	}
	return trackers, hashes, nil
}

func printScraped(env Env, asJSON bool, list []scraped) error {
	if asJSON {
		text, err := json.MarshalIndent(list, "", "  ")
		if err == nil {
			_, err = env.Stdout.Write(append(text, '\n'))
		}
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-40s  %8s  %8s  %9s  %s\n", "INFO HASH", "SEEDERS", "LEECHERS", "COMPLETED", "TRACKER")
	for _, r := range list {
		switch {
		case r.Error != "":
			continue
		case !r.Known:
			fmt.Fprintf(&b, "%-40s  %8s  %8s  %9s  %s\n", r.InfoHash, "-", "-", "-", printable(r.Tracker))
		default:
			fmt.Fprintf(&b, "%-40s  %8d  %8d  %9d  %s\n", r.InfoHash, r.Seeders, r.Leechers, r.Completed, printable(r.Tracker))
		}
	}
	_, err := env.Stdout.Write([]byte(b.String()))
	return err
}
