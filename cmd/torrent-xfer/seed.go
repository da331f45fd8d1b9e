package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"torrent-xfer/fetcher"
	"torrent-xfer/seeder"
)

// systemControl is the control socket of the machine's daemon.
const systemControl = "/run/torrent-xfer/control.sock"

// seedSettings are those of all who speak to the daemon.
type seedSettings struct {
	wanted     bool   // finished files are handed over
	background bool   // the daemon downloads
	control    string // "": the usual places
}

func seedSettingsTable() []setting {
	return []setting{
		{name: "seed", lasting: true, verbs: []string{cmdFetch, cmdDownload, "apt-method"},
			usage: "hand the file to torrent-xfer daemon when it is here, if that runs, for it to give to others",
			set:   func(s *settings, v string) error { return parseYes(v, &s.seed.wanted) }},
		{name: "control", value: true, lasting: true, verbs: append([]string{cmdFetch, cmdDownload, "apt-method", cmdDaemon}, controlVerbs...),
			usage: "the daemon is spoken to at the socket `PATH` (default: " + systemControl + ", or $XDG_RUNTIME_DIR/torrent-xfer/control.sock)",
			set:   func(s *settings, v string) error { s.seed.control = v; return notEmpty(v) }},
	}
}

// parseYes is parseBool for those who say yes or no.
func parseYes(v string, to *bool) error {
	switch strings.ToLower(v) {
	case "yes", "on":
		*to = true
	case "no", "off":
		*to = false
	default:
		return parseBool(v, to)
	}
	return nil
}

// ownControl is the socket of a person's own daemon; "": there is no place for one.
func (e Env) ownControl() string {
	if dir := e.get("XDG_RUNTIME_DIR"); e.UID != 0 && filepath.IsAbs(dir) {
		return filepath.Join(dir, "torrent-xfer/control.sock")
	}
	return ""
}

// dialControl connects to the daemon. Root's processes know only the machine's own, unless root says otherwise.
func dialControl(env Env, s settings) (*seeder.Client, error) {
	if s.seed.control != "" {
		return seeder.Dial(env.path(s.seed.control))
	}
	if own := env.ownControl(); own != "" {
		if c, err := seeder.Dial(own); err == nil {
			return c, nil
		}
	}
	return seeder.Dial(systemControl)
}

// seeds is a line to the daemon. nil: nobody wants that, or none runs.
type seeds struct {
	client *seeder.Client // nil: it is cut
}

// dialSeeder connects before rights are given up: the daemon goes by who we were then. Who asks through a proxy is not to be seen by
// peers, unless he says so.
func dialSeeder(env Env, s settings, proxied bool) *seeds {
	if !s.seed.wanted || proxied && s.peers.when != "always" {
		return nil
	}
	c, err := dialControl(env, s)
	if err != nil {
		return nil
	}
	return &seeds{client: c}
}

func (s *seeds) close() {
	if s != nil && s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// handOver gives the daemon a finished file, by a descriptor: whatever becomes of its name, the daemon can read it.
func (s *seeds) handOver(req fetcher.Request, result *fetcher.Result, hosts *fetcher.HostStats, log *slog.Logger) {
	m := result.Torrent()
	if s == nil || s.client == nil || m == nil {
		return
	}
	// The trackers are told, since Metainfo leaves them out.
	o := seeder.Offer{Metainfo: m.Metainfo(), Trackers: append(ownTrackers(m, ownHost(req, hosts, false)), m.Trackers...), Hosts: trustedHosts(req)}
	if o.Metainfo == nil {
		return // it is of several files
	}
	if origin := originOf(req); origin != nil && origin.Host != "" {
		o.URL = bare(origin)
	}
	if err := s.give(o, req.Dest); err != nil {
		log.Info("not handed to the daemon", "why", fmt.Sprint(err))
		return
	}
	log.Info("handed to the daemon, for it to give to others")
}

// give sends o with the content of file. If that fails the line is cut: the daemon would take what follows for the rest, and one that
// hangs is waited for once, not for each file of many.
func (s *seeds) give(o seeder.Offer, file string) (err error) {
	if o.Content, err = os.Open(file); err != nil {
		return err
	}
	defer o.Content.Close()
	if err = s.client.Seed(o); err != nil {
		s.close()
	}
	return err
}
