package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/netaddr"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

const (
	workerName    = "torrent-xfer-swarm"
	peersMinimum  = 4 << 20 // bytes; below that a file is here before peers are found
	alwaysPatient = time.Minute
	maxBlocklist  = 64 << 20
)

// errNoWorker: the program that speaks to peers is not installed, or not to be trusted.
var errNoWorker = errors.New("there is nobody to speak to peers")

// peersSettings are what the user wants of peers.
type peersSettings struct {
	when       string // auto, never or always
	options    peers.Options
	blocklists []string
}

// peersSettingsTable describes them for these verbs, and all but --peers for those that seed.
func peersSettingsTable(joining []string, seeding ...string) []setting {
	verbs := slices.Concat(joining, seeding)
	return []setting{
		{name: "peers", value: true, lasting: true, verbs: joining,
			usage: "exchange the file with others who fetch it; `WHEN` is auto (it has a torrent, is above 4 MiB, and no proxy is set), never or always",
			set:   oneOf(func(s *settings) *string { return &s.peers.when }, "auto", "never", "always")},
		{name: "port", value: true, lasting: true, verbs: verbs, usage: "take connections of peers at `PORT` (default: any free one)",
			set: func(s *settings, v string) error {
				n, err := strconv.ParseUint(v, 10, 16)
				if err != nil {
					return fmt.Errorf("%q is not a port", v)
				}
				s.peers.options.Port = int(n)
				return nil
			}},
		{name: "interface", value: true, lasting: true, verbs: verbs, usage: "speak to peers and trackers from the interface or address `NAME` only",
			set: func(s *settings, v string) error { s.peers.options.Interface = v; return notEmpty(v) }},
		{name: "limit-upload", value: true, lasting: true, verbs: verbs, usage: "give peers `RATE` bytes/s at most: 500k, 2M, 1.5MiB",
			set: func(s *settings, v string) error {
				return parseBytes(strings.TrimSuffix(v, "/s"), &s.peers.options.LimitUpload)
			}},
		{name: "max-peers", value: true, lasting: true, verbs: verbs, usage: "be connected with `N` peers at once at most (default: 50, to seed 200)",
			set: func(s *settings, v string) (err error) {
				n := &s.peers.options.MaxPeers
				if *n, err = strconv.Atoi(v); err != nil || *n < 1 {
					return fmt.Errorf("%q is not a number of peers", v)
				}
				return nil
			}},
		{name: "encryption", value: true, lasting: true, verbs: verbs, usage: "hide from the network what peers exchange; `HOW` is allow (default), prefer, require or never",
			set: oneOf(func(s *settings) *string { return &s.peers.options.Encryption }, "allow", "prefer", "require", "never")},
		{name: "dht", lasting: true, verbs: verbs, usage: "look for peers in the DHT too",
			set: func(s *settings, v string) error { return parseBool(v, &s.peers.options.DHT) }},
		{name: "dht-node", value: true, many: true, lasting: true, colons: true, verbs: verbs, usage: "enter the DHT at `HOST:PORT`, not at the usual places; implies --dht",
			set: func(s *settings, v string) error {
				if _, _, err := net.SplitHostPort(v); err != nil {
					return fmt.Errorf("%q is not HOST:PORT", v)
				}
				s.peers.options.DHT, s.peers.options.DHTNodes = true, append(s.peers.options.DHTNodes, v)
				return nil
			}},
		{name: "no-lpd", lasting: true, verbs: verbs, usage: "do not look for peers on the local network",
			set: func(s *settings, v string) error { return parseBool(v, &s.peers.options.NoLPD) }},
		{name: "blocklist", value: true, many: true, lasting: true, verbs: verbs,
			usage: "never speak to the addresses in `FILE`: one, a prefix or a range (NAME:FIRST-LAST) a line",
			set:   func(s *settings, v string) error { s.peers.blocklists = append(s.peers.blocklists, v); return nil }},
	}
}

// oneOf stores a value that has to be one of a few.
func oneOf(at func(*settings) *string, words ...string) func(*settings, string) error {
	return func(s *settings, v string) error {
		if !slices.Contains(words, v) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(words, ", "))
		}
		*at(s) = v
		return nil
	}
}

// company is the swarm that a download may join. nil: none.
type company struct {
	worker  string
	options peers.Options
	always  bool
}

// ports are those that the worker may bind; 0: any.
func (c *company) ports() []uint16 {
	list := []uint16{uint16(c.options.Port)}
	if c.options.Interface != "" && c.options.Port != 0 {
		list = append(list, 0) // connections that it makes are bound too
	}
	return list
}

// company finds out whether peers are wanted, and can be had.
func (d *download) company(req fetcher.Request) (*company, error) {
	always := d.settings.peers.when == "always"
	if req.Volatile || d.url.Scheme == "file" ||
		!always && (req.Expect.Size > 0 && req.Expect.Size <= peersMinimum || proxied(d.env, d.url)) {
		return nil, nil
	}
	c, err := newCompany(d.env, d.settings)
	if errors.Is(err, errNoWorker) && always {
		return nil, &failure{status: exitFailed, file: d.name(), err: fmt.Errorf("no peers: %w", err), next: "install " + workerName + " beside torrent-xfer, or leave --peers always out"}
	}
	if errors.Is(err, errNoWorker) {
		return nil, nil
	}
	return c, err
}

// newCompany returns nil if the settings want no peers at all, and an error that wraps errNoWorker if there can be none.
func newCompany(env Env, s settings) (*company, error) {
	if s.peers.when == "never" || s.torrent == "none" {
		return nil, nil
	}
	c := &company{options: s.peers.options, always: s.peers.when == "always"}
	c.options.UserAgent = "torrent-xfer/" + version
	for _, name := range s.peers.blocklists {
		list, err := readBlocklist(env.path(name))
		if err != nil {
			return nil, usageError("--blocklist: %w", err)
		}
		c.options.Block = append(c.options.Block, list...)
	}
	var err error
	if c.worker, err = findWorker(env); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoWorker, err)
	}
	return c, nil
}

// join makes the source of peers for a torrent that is in use. host: see ownHost.
func (c *company) join(req fetcher.Request, host *peers.Host, log *slog.Logger) func(*metainfo.Manifest) (fetcher.Source, error) {
	return func(m *metainfo.Manifest) (fetcher.Source, error) {
		if !c.always && m.Size <= peersMinimum {
			return nil, nil
		}
		return &peers.Source{Worker: c.worker, Options: c.options, Log: log, Host: host,
			Reach: func(ctx context.Context) peers.Reach { return reachOf(ctx, req) }}, nil
	}
}

// ownHost is the host that the torrent came from, as far as the user named it. nil: none, or it is asked through a proxy and is not to
// see us.
func ownHost(req fetcher.Request, hosts *fetcher.HostStats, proxied bool) *peers.Host {
	u := req.URL
	switch {
	case req.Torrent.MetainfoURL != nil:
		u = req.Torrent.MetainfoURL
	case u == nil:
		u = req.Referrer
	}
	if proxied || u == nil {
		return nil
	}
	return &peers.Host{Name: u.Hostname(), Memory: hosts}
}

// ownTrackers are the trackers of the own host (see ownHost) that are known, for a torrent that is not private.
func ownTrackers(m *metainfo.Manifest, host *peers.Host) [][]string {
	if host == nil || host.Memory == nil || m.Private {
		return nil
	}
	if known, _ := host.Memory.Trackers(host.Name); len(known) > 0 {
		return [][]string{known}
	}
	return nil
}

// reachOf says where a torrent may point: anywhere if the file's own host, or the torrent's, is not on the internet.
func reachOf(ctx context.Context, req fetcher.Request) peers.Reach {
	origin := originOf(req)
	if origin == nil {
		return peers.Reach{Private: true} // the user has the torrent
	}
	host := origin.Hostname()
	r := peers.Reach{Private: !netaddr.PublicHost(host)}
	if !r.Private {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil {
			r.Private = !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return netaddr.Public(ip.Unmap()) })
		}
	}
	r.Trusted = trustedHosts(req)
	return r
}

// originOf is where the user says the file is from. nil: he has the torrent.
func originOf(req fetcher.Request) *url.URL {
	if req.URL == nil {
		return req.Referrer
	}
	return req.URL
}

// trustedHosts are the user's own mirrors.
func trustedHosts(req fetcher.Request) (hosts []string) {
	for _, u := range slices.Concat([]*url.URL{originOf(req), req.Torrent.MetainfoURL}, req.Mirrors, req.Torrent.URLs) {
		if u != nil && u.Hostname() != "" && !slices.Contains(hosts, u.Hostname()) {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// proxied tells whether u is asked for through a proxy: then peers would see what the proxy hides.
func proxied(env Env, u *url.URL) bool {
	t := newTransport(env)
	if t.Proxy == nil {
		return false
	}
	via, err := t.Proxy(&http.Request{URL: u})
	return via != nil || err != nil
}

// findWorker returns the path of the program that speaks to peers: beside this one, or where packages put it.
func findWorker(env Env) (string, error) {
	self, err := filepath.EvalSymlinks(env.Executable)
	if env.Executable == "" || err != nil {
		return "", fmt.Errorf("it is not known where %s is", workerName)
	}
	dir := filepath.Dir(self)
	for _, path := range []string{filepath.Join(dir, workerName), filepath.Join(dir, "../lib/torrent-xfer", workerName)} {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if env.UID == 0 && (!ok || st.Uid != 0 || info.Mode()&0o022 != 0) {
			return "", fmt.Errorf("others than root may write %s", path)
		}
		return path, nil
	}
	return "", fmt.Errorf("there is no %s beside %s", workerName, self)
}

// readBlocklist reads addresses, prefixes and ranges, one a line; "NAME:FIRST-LAST" as in P2P lists. Lines that begin with
// "#" say nothing.
func readBlocklist(file string) ([]string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBlocklist {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, maxBlocklist)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := parseBlocklist(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

func parseBlocklist(text string) (list []string, err error) {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if _, err := peers.ParseRange(line); err != nil {
			_, rest, ok := strings.Cut(line, ":")
			for ok { // a name may hold colons, and so do addresses
				if _, err = peers.ParseRange(rest); err == nil {
					line = rest
					break
				}
				_, rest, ok = strings.Cut(rest, ":")
			}
			if err != nil {
				return nil, fmt.Errorf("line %d: %q is no address, prefix or range", i+1, line)
			}
		}
		list = append(list, strings.TrimSpace(line))
	}
	return list, nil
}
