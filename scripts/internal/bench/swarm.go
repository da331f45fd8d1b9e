package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"torrent-xfer/internal/trackertest"
)

const libtorrent program = "libtorrent"

// crowdLimit is how long a crowd is waited for, the time of its arrivals included.
const crowdLimit = 4 * time.Minute

// A crowd is many clients that want one file of one mirror, each a process of its own on this machine. All leave when they
// have the file, as package managers' downloads do, unless a daemon goes on for them.
type crowd struct {
	row      string // of its reports
	name     string
	clients  int
	apart    time.Duration // between two arrivals
	size     int64
	rate     int64   // of the mirror
	mostSent float64 // files that the mirror may give in all
	mostTime float64 // of what one client alone needs; 0: no goal
	seed     bool    // of torrent-xfer's clients each has a daemon that goes on giving
}

// gathering is what became of one crowd.
type gathering struct {
	sent    int64         // bytes that the mirror gave
	last    time.Duration // from the first start until the last client ended
	failure string
}

// libtorrentClient has web seeds, and what lets peers of one address meet. argv: the torrent, the directory, a rate and
// "fetch", which ends with the download, or "seed", which prints its port and ends with standard input.
const libtorrentClient = `
import libtorrent as lt, sys, time
torrent, where, rate, what = sys.argv[1:]
s = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
    "enable_natpmp": False, "allow_multiple_connections_per_ip": True, "alert_mask": 0})
local = s.get_peer_class(lt.session.local_peer_class_id)
local["upload_limit"] = int(rate)
s.set_peer_class(lt.session.local_peer_class_id, local)
flags = lt.torrent_flags.seed_mode if what == "seed" else lt.torrent_flags.update_subscribe
h = s.add_torrent({"ti": lt.torrent_info(torrent), "save_path": where, "flags": flags})
if what == "seed":
    while not h.status().is_seeding:
        time.sleep(0.05)
    time.sleep(1.5) # the first connection to a session that has just begun waits a second
    print(s.listen_port(), flush=True)
    sys.stdin.read()
else:
    while not h.status().is_seeding:
        time.sleep(0.05)
    s.pause()
`

// announce makes the file's torrent, v1 since that is what everybody reads.
func (b *bench) announce(c *content, tracker string, urls ...string) error {
	torrent := c.file() + ".torrent"
	os.Remove(torrent)
	args := []string{"create", "--meta-version", "1", "--tracker", tracker, "-o", torrent}
	for _, u := range urls {
		args = append(args, "--mirror", u)
	}
	return quiet(exec.CommandContext(b.ctx, b.xfer, append(args, c.file())...))
}

// client prepares one client of a crowd.
func (b *bench) client(ctx context.Context, p program, c *content, dir string, urls ...string) *exec.Cmd {
	torrent := c.file() + ".torrent"
	var cmd *exec.Cmd
	switch p {
	case xfer:
		args := []string{"--config", os.DevNull, "--progress", "none", "--no-lpd", "--report", filepath.Join(dir, "report.json")}
		for _, u := range urls[1:] {
			args = append(args, "--mirror", u)
		}
		cmd = exec.CommandContext(ctx, b.xfer, append(args, urls[0], filepath.Join(dir, fileName))...)
	case aria:
		cmd = exec.CommandContext(ctx, b.installed[string(aria)], "--no-conf", "-q", "-d", dir, "--seed-time=0", "--enable-dht=false",
			"--bt-enable-lpd=false", "--enable-peer-exchange=true", "--file-allocation=none", "--listen-port=20000-40000",
			"--bt-tracker-connect-timeout=5", torrent)
	case libtorrent:
		cmd = exec.CommandContext(ctx, b.python(), "-c", libtorrentClient, torrent, dir, "0", "fetch")
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"), "LC_ALL=C"}
	return cmd
}

// gather has a crowd fetch the file with one program.
func (b *bench) gather(c *content, p program, w crowd, clients int) (g gathering, err error) {
	s, err := b.serve(c.dir, several(20*ms, w.rate))
	if err != nil {
		return g, err
	}
	defer s.stop()
	tracker, err := trackertest.Start()
	if err != nil {
		return g, err
	}
	defer tracker.Close()
	urls := s.urls(fileName)
	if err := b.announce(c, tracker.HTTP, urls...); err != nil {
		return g, err
	}
	root, err := os.MkdirTemp(b.memory, "crowd-")
	if err != nil {
		return g, err
	}
	defer os.RemoveAll(root)
	ctx, cancel := context.WithTimeout(b.ctx, crowdLimit)
	defer cancel()
	var all sync.WaitGroup
	failures := make([]error, clients)
	began := time.Now()
	for i := range clients {
		if i > 0 {
			time.Sleep(w.apart)
		}
		dir := filepath.Join(root, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return g, err
		}
		cmd := b.client(ctx, p, c, dir, urls...)
		if w.seed && p == xfer {
			d, err := b.seed(filepath.Join(dir, "library"))
			if err != nil {
				return g, err
			}
			defer d.stop()
			cmd.Args = slices.Insert(cmd.Args, 1, "--seed", "--control", d.control)
		}
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			return g, err
		}
		all.Go(func() {
			if failures[i] = cmd.Wait(); failures[i] != nil {
				failures[i] = fmt.Errorf("%w: %s", failures[i], strings.TrimSpace(said.String()))
			}
		})
	}
	all.Wait()
	g.last = time.Since(began)
	g.sent = s.traffic(fileName).sent
	if b.ctx.Err() != nil {
		return g, b.ctx.Err()
	}
	for i, err := range failures {
		right, errSame := same(filepath.Join(root, fmt.Sprint(i), fileName), c.file())
		switch {
		case ctx.Err() != nil:
			g.failure = fmt.Sprintf("> %v", crowdLimit)
		case err != nil || errSame != nil:
			g.failure = "failed"
		case !right:
			g.failure = "WRONG BYTES"
		default:
			continue
		}
		if p == xfer {
			b.wrong = append(b.wrong, fmt.Sprintf("%s: client %d: %s, %v", w.name, i, g.failure, errors.Join(err, errSame)))
		}
		break
	}
	b.keepReports(w.row, root)
	return g, nil
}

// keepReports keeps the reports of a crowd's clients, where they are wanted.
func (b *bench) keepReports(name, root string) {
	if b.keep == "" {
		return
	}
	reports, _ := filepath.Glob(filepath.Join(root, "*", "report.json"))
	for _, r := range reports {
		if data, err := os.ReadFile(r); err == nil {
			os.WriteFile(filepath.Join(b.keep, fmt.Sprintf("%s-client-%s.json", name, filepath.Base(filepath.Dir(r)))), data, 0o644)
		}
	}
}

// text is how often the mirror gave the file, or why that is not known.
func (g gathering) text(size int64) string {
	if g.failure != "" {
		return g.failure
	}
	return fmt.Sprintf("%.2f x", float64(g.sent)/float64(size))
}

// crowd measures one crowd of each program. Of torrent-xfer's the median counts, and the worst is told.
func (b *bench) crowd(w crowd) error {
	c, err := b.content(w.size, false)
	if err != nil {
		return err
	}
	defer c.remove()
	var own []gathering
	for range b.runs {
		g, err := b.gather(c, xfer, w, w.clients)
		if err != nil {
			return err
		}
		own = append(own, g)
	}
	sent := median(own, func(g gathering) int64 { return g.sent })
	last := median(own, func(g gathering) time.Duration { return g.last })
	var worst gathering
	for _, g := range own {
		worst.sent, worst.last = max(worst.sent, g.sent), max(worst.last, g.last)
		if g.failure != "" {
			worst.failure = g.failure
		}
	}
	others := map[program]gathering{}
	for _, p := range []program{aria, libtorrent} {
		if b.alone || p == aria && b.installed[string(p)] == "" || p == libtorrent && b.python() == "" {
			continue
		}
		if others[p], err = b.gather(c, p, w, w.clients); err != nil {
			return err
		}
	}
	show := func(p program, what func(gathering) string) string {
		g, ok := others[p]
		switch {
		case !ok:
			return ""
		case g.failure != "":
			return g.failure
		}
		return what(g)
	}
	given := func(g gathering) string { return g.text(w.size) }
	ended := func(g gathering) string { return seconds(g.last) }
	ratio := float64(sent) / float64(w.size)
	b.table.add(line{name: fmt.Sprintf("%s: the mirror gave", w.name), got: bytesText(sent), against: bytesText(w.size),
		ratio: fmt.Sprintf("%.2f", ratio), goal: fmt.Sprintf("%.2f", w.mostSent), reached: ratio <= w.mostSent && worst.failure == "",
		aria: show(aria, given), note: strings.Trim(fmt.Sprintf("at worst %.2f; libtorrent %s", float64(worst.sent)/float64(w.size),
			show(libtorrent, given)), "; ")})
	if w.mostTime == 0 {
		return nil
	}
	single, err := b.gather(c, xfer, w, 1)
	if err != nil {
		return err
	}
	ratio = last.Seconds() / single.last.Seconds()
	b.table.add(line{name: "  the last ended, against one alone", got: seconds(last), against: seconds(single.last),
		ratio: fmt.Sprintf("%.2f", ratio), goal: fmt.Sprintf("%.2f", w.mostTime), reached: ratio <= w.mostTime && worst.failure == "",
		aria: show(aria, ended), note: strings.Trim(fmt.Sprintf("at worst %s; libtorrent %s", seconds(worst.last), show(libtorrent, ended)), "; ")})
	return nil
}

func (b *bench) swarmEight() error {
	return b.crowd(crowd{row: "swarm-8", name: "8 clients, 40 MB, 10 MB/s", clients: 8, size: 40 * mega, rate: 10 * mega, mostSent: 1.5, mostTime: 1.6})
}

func (b *bench) swarmSixteen() error {
	return b.crowd(crowd{row: "swarm-16", name: "16 clients, 5 MB, 10 MB/s", clients: 16, size: 5 * mega, rate: 10 * mega, mostSent: 2})
}

func (b *bench) swarmArrivals() error {
	return b.crowd(crowd{row: "swarm-arrivals", name: "16 clients 1 s apart, 2.5 MB/s", clients: 16, apart: time.Second, size: 40 * mega,
		rate: 5 * mega / 2, mostSent: 2})
}

func (b *bench) swarmSeeded() error {
	return b.crowd(crowd{row: "swarm-seeded", name: "16 clients 1 s apart, 10 MB/s, seeding", clients: 16, apart: time.Second, size: 40 * mega,
		rate: 10 * mega, mostSent: 1.5, seed: true})
}

// seedElsewhere has libtorrent seed c, with rate in bytes/s (0: no limit), until stop is called.
func (b *bench) seedElsewhere(python string, c *content, rate int) (port uint16, stop func(), err error) {
	cmd := exec.CommandContext(b.ctx, python, "-c", libtorrentClient, c.file()+".torrent", c.dir, fmt.Sprint(rate), "seed")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return 0, nil, err
	}
	stop = func() { in.Close(); io.Copy(io.Discard, out); cmd.Wait() }
	if _, err := fmt.Fscan(bufio.NewReader(out), &port); err != nil {
		stop()
		return 0, nil, err
	}
	return port, stop, nil
}

// swarmMixed is one client with mirrors and seeds of the same speed.
func (b *bench) swarmMixed() error {
	const rate, each = 8 * mega, 3
	python := b.python()
	if python == "" {
		fmt.Println("No libtorrent, so nobody seeds: swarm-mixed is left out.")
		return nil
	}
	c, err := b.content(200*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	tracker, err := trackertest.Start()
	if err != nil {
		return err
	}
	defer tracker.Close()
	if err := b.announce(c, tracker.HTTP); err != nil {
		return err
	}
	for range each {
		port, stop, err := b.seedElsewhere(python, c, rate)
		if err != nil {
			return err
		}
		defer stop()
		tracker.Add(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	}
	mirrors := several(20*ms, rate, rate, rate)
	var walls []time.Duration
	var shares []int64
	for i := range b.runs {
		s, err := b.serve(c.dir, mirrors)
		if err != nil {
			return err
		}
		defer s.stop()
		dir, err := os.MkdirTemp(b.memory, "mixed-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		cmd := b.client(b.ctx, xfer, c, dir, s.urls(fileName)...)
		var said strings.Builder
		cmd.Stderr = &said
		began := time.Now()
		err = cmd.Run()
		walls = append(walls, time.Since(began))
		if right, errSame := same(filepath.Join(dir, fileName), c.file()); err != nil || errSame != nil || !right {
			b.wrong = append(b.wrong, fmt.Sprintf("swarm-mixed: right: %v, %v, said %q", right, errors.Join(err, errSame), said.String()))
			continue
		}
		var report struct {
			Sources []struct {
				Name  string
				Bytes int64
			}
		}
		data, err := os.ReadFile(filepath.Join(dir, "report.json"))
		if err = errors.Join(err, json.Unmarshal(data, &report)); err != nil {
			return err
		}
		for _, source := range report.Sources {
			if source.Name == "peers" {
				shares = append(shares, source.Bytes)
			}
		}
		if b.keep != "" {
			os.WriteFile(filepath.Join(b.keep, fmt.Sprintf("swarm-mixed-%d.json", i+1)), data, 0o644)
		}
		os.Remove(filepath.Join(dir, fileName))
		s.stop()
	}
	base := time.Duration(float64(c.size)/(2*each*rate)*1e9) + 40*ms
	wall := median(walls, func(d time.Duration) time.Duration { return d })
	ratio := wall.Seconds() / base.Seconds()
	b.table.add(line{name: "200 MB, 3 mirrors and 3 seeds of 8 MB/s", got: seconds(wall), against: seconds(base),
		ratio: fmt.Sprintf("%.3f", ratio), goal: "1.15", reached: ratio <= 1.15 && len(b.wrong) == 0,
		note: "from peers " + bytesText(median(shares, func(n int64) int64 { return n }))})
	return nil
}
