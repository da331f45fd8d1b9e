package main

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A row is a part of the table that can be asked for by name.
type row struct {
	name, text string
	run        func(*bench) error
}

const (
	mega = 1_000_000
	giga = 1000 * mega
	ms   = time.Millisecond
)

var rows = []row{
	{"equal", "20 MB from 4 equal mirrors, with a torrent", (*bench).equal},
	{"digest", "the same with size and SHA-256 and no torrent", (*bench).digest},
	{"unequal", "20 MB from 4 mirrors of 0.2 to 8 MB/s, in several orders", (*bench).unequal},
	{"faults", "20 MB with faulty mirrors among the good ones", (*bench).faults},
	{"one-good", "30 MB from nine mirrors of 0.1 MB/s and one of 10 MB/s", (*bench).oneGood},
	{"many", "40 MB from 40 mirrors of 1 MB/s", (*bench).many},
	{"few", "5 MB with 40 mirrors of 10 MB/s: how many are bothered", (*bench).few},
	{"plain", "200 MB from one unlimited mirror, no torrent", (*bench).plain},
	{"torrent", "200 MB from one unlimited mirror, with a torrent", (*bench).torrent},
	{"small", "40 KB over 30 ms", (*bench).small},
	{"memory", "peak memory", (*bench).memoryUse},
	{"apt", "apt's acquire method beside apt's own: update, 300 small packages, a large one", (*bench).apt},
	{"publish", "torrents of a tree of 2 GB, hybrid, no state, page cache", (*bench).publishTree},
	{"publish-one", "a v1 torrent of one file of 2 GiB", (*bench).publishOne},
	{"publish-many", "v1 torrents of 3,000 files of 350 KB", (*bench).publishMany},
	{"publish-again", "a tree of 100,000 files that is published already", (*bench).publishAgain},
	{"swarm-8", "8 clients that begin together, 40 MB from one mirror of 10 MB/s, peers on", (*bench).swarmEight},
	{"swarm-16", "16 clients that begin together, 5 MB from one mirror of 10 MB/s", (*bench).swarmSixteen},
	{"swarm-arrivals", "16 clients that arrive 1 s apart, 40 MB from one mirror of 2.5 MB/s", (*bench).swarmArrivals},
	{"swarm-seeded", "16 clients that arrive 1 s apart, 40 MB from one mirror of 10 MB/s, each with a daemon that goes on giving", (*bench).swarmSeeded},
	{"swarm-mixed", "200 MB from three mirrors and three peers of 8 MB/s each", (*bench).swarmMixed},
	{"swarm-leech", "500 MB from one daemon", (*bench).swarmLeech},
	{"swarm-idle", "a daemon with 10,000 files that nobody wants", (*bench).swarmIdle},
}

// several are mirrors without faults.
func several(delay time.Duration, rates ...int64) (out []mirror) {
	for _, r := range rates {
		out = append(out, mirror{rate: r, delay: delay})
	}
	return out
}

// ideal is how long the good mirrors need together: the bytes over the sum of their rates, and two delays.
func ideal(size int64, mirrors []mirror) time.Duration {
	var rate int64
	var delay time.Duration
	for _, m := range mirrors {
		if m.good() {
			rate += m.rate
			delay = max(delay, m.delay)
		}
	}
	return time.Duration(float64(size)/float64(rate)*1e9) + 2*delay
}

// fastest is the good mirror that a person would give to curl.
func fastest(mirrors []mirror) (best int) {
	for i, m := range mirrors {
		if m.good() && (!mirrors[best].good() || m.rate > mirrors[best].rate) {
			best = i
		}
	}
	return best
}

// compared is the line that sets wall times against a base.
func compared(name string, all map[program]outcomes, base time.Duration, goal float64, note string) line {
	ratio := all[xfer].wall().Seconds() / base.Seconds()
	if worst := all[xfer].worst(); worst > all[xfer].wall()*5/4 {
		note = strings.TrimPrefix(note+"; the worst run "+seconds(worst), "; ")
	}
	return line{name: name, got: all[xfer].text(), against: seconds(base), ratio: fmt.Sprintf("%.3f", ratio),
		goal: fmt.Sprintf("%.2f", goal), reached: ratio <= goal && all[xfer].failure() == "",
		curl: all[curl].text(), aria: all[aria].text(), note: note}
}

// race is the download from limited mirrors by everybody.
func (b *bench) race(file string, c *content, mirrors []mirror) job {
	return job{name: file, content: c, best: fastest(mirrors), programs: []program{xfer, curl, aria},
		fresh: func() (*servers, error) { return b.serve(c.dir, mirrors) }}
}

// twice is the line about bytes fetched twice; the worst run counts.
func (b *bench) twice(size int64, runs outcomes) {
	var worst, sent int64
	for _, o := range runs {
		worst, sent = max(worst, o.report.Duplicate), max(sent, o.traffic.sent)
	}
	share := float64(worst) / float64(size)
	b.table.add(line{name: "  fetched twice", got: bytesText(worst), against: bytesText(size),
		ratio: fmt.Sprintf("%.2f %%", 100*share), goal: "2 %", reached: share <= 0.02,
		note: fmt.Sprintf("the worst of %d; mirrors sent %+.2f %%", len(runs), 100*(float64(sent)/float64(size)-1))})
}

func (b *bench) equal() error {
	c, err := b.contentWithTorrent(20 * mega)
	if err != nil {
		return err
	}
	defer c.remove()
	mirrors := several(20*ms, 5*mega, 5*mega, 5*mega, 5*mega)
	all, err := b.measure(b.race("equal", c, mirrors))
	if err != nil {
		return err
	}
	b.table.add(compared("20 MB, 4 mirrors of 5 MB/s", all, ideal(c.size, mirrors), 1.05, "torrent by "+c.maker))
	b.twice(c.size, all[xfer])
	return nil
}

func (b *bench) digest() error {
	c, err := b.content(20*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	mirrors := several(20*ms, 5*mega, 5*mega, 5*mega, 5*mega)
	j := b.race("digest", c, mirrors)
	j.flags = []string{"--sha256", c.sha256, "--size", fmt.Sprint(c.size)}
	j.programs = []program{xfer}
	all, err := b.measure(j)
	if err != nil {
		return err
	}
	b.table.add(compared("  with a digest, no torrent", all, ideal(c.size, mirrors), 1.05, ""))
	b.twice(c.size, all[xfer])

	mirrors[1].faults = []string{"flip@-100000;count=1"}
	j = b.race("digest-flip", c, mirrors)
	j.flags = []string{"--sha256", c.sha256, "--size", fmt.Sprint(c.size)}
	j.programs = []program{xfer}
	if all, err = b.measure(j); err != nil {
		return err
	}
	var received int64
	for _, o := range all[xfer] {
		received = max(received, o.report.Received)
	}
	ratio := float64(received) / float64(c.size)
	b.table.add(line{name: "  and one flips one bit once: bytes", got: bytesText(received), against: bytesText(c.size),
		ratio: fmt.Sprintf("%.3f", ratio), goal: "2.00", reached: ratio <= 2 && all[xfer].failure() == "",
		note: "the worst run; wall " + all[xfer].text()})
	return nil
}

func (b *bench) unequal() error {
	c, err := b.contentWithTorrent(20 * mega)
	if err != nil {
		return err
	}
	defer c.remove()
	for i, order := range []struct {
		name, file string
		rates      []int64
		remember   bool
	}{
		{"20 MB, mirrors of 0.2, 1, 4, 8 MB/s", "unequal-slow-first", []int64{mega / 5, mega, 4 * mega, 8 * mega}, false},
		{"  8, 4, 1, 0.2 MB/s", "unequal-fast-first", []int64{8 * mega, 4 * mega, mega, mega / 5}, false},
		{"  4, 0.2, 8, 1 MB/s", "unequal-mixed", []int64{4 * mega, mega / 5, 8 * mega, mega}, false},
		{"  0.2, 1, 4, 8 MB/s, hosts remembered", "unequal-second", []int64{mega / 5, mega, 4 * mega, 8 * mega}, true},
	} {
		mirrors := several(20*ms, order.rates...)
		j := b.race(order.file, c, mirrors)
		if j.remember = order.remember; j.remember {
			j.programs = []program{xfer}
		} else if i > 0 {
			j.programs = []program{xfer, aria}
		}
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		b.table.add(compared(order.name, all, ideal(c.size, mirrors), 1.05, ""))
		b.twice(c.size, all[xfer])
	}
	return nil
}

func (b *bench) faults() error {
	c, err := b.contentWithTorrent(20 * mega)
	if err != nil {
		return err
	}
	defer c.remove()
	other, err := b.content(c.size, true)
	if err != nil {
		return err
	}
	defer other.remove()
	for i, set := range []struct {
		name, file string
		good       int
		faults     []string // one mirror each, all of the same rate, before the good ones; the seeds strike early
	}{
		{"20 MB, stall, reset, flips, 404", "faults-mixed", 2, []string{"stall@-300000", "reset@-300000", "flip@-1000", "404"}},
		{"  two liars", "faults-liars", 1, []string{"wrong", "wrong;data=" + other.file()}},
		{"  two liars with one lie", "faults-twins", 1, []string{"wrong", "wrong"}},
		{"  two older versions", "faults-stale", 1, []string{"older", "older-same"}},
		{"  login page", "faults-login", 2, []string{"login"}},
		{"  two flip a bit in a fifth of answers", "faults-flips", 2,
			[]string{"flip@-1000;chance=0.2;seed=10", "flip@-1000;chance=0.2;seed=5"}},
		{"  two reset at random", "faults-resets", 2,
			[]string{"reset@-200000;chance=0.3;seed=1", "reset@-200000;chance=0.3;seed=11"}},
	} {
		var mirrors []mirror
		for _, f := range set.faults {
			mirrors = append(mirrors, mirror{rate: 5 * mega, delay: 20 * ms, faults: []string{f}})
		}
		for range set.good {
			mirrors = append(mirrors, mirror{rate: 5 * mega, delay: 20 * ms})
		}
		j := b.race(set.file, c, mirrors)
		if i > 0 {
			j.programs = []program{xfer, aria}
		}
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		b.table.add(compared(set.name, all, ideal(c.size, mirrors), 1.10,
			fmt.Sprintf("ideal of the %d without a fault, 5 MB/s each", set.good)))
	}
	return nil
}

func (b *bench) oneGood() error {
	c, err := b.contentWithTorrent(30 * mega)
	if err != nil {
		return err
	}
	defer c.remove()
	for i, order := range []struct {
		name, file string
		place      int
	}{
		{"30 MB, 9 of 0.1 MB/s, 10 MB/s first", "one-good-first", 0},
		{"  10 MB/s in the middle", "one-good-middle", 5},
		{"  10 MB/s last", "one-good-last", 9},
	} {
		rates := slices.Repeat([]int64{mega / 10}, 10)
		rates[order.place] = 10 * mega
		mirrors := several(20*ms, rates...)
		j := b.race(order.file, c, mirrors)
		if i > 0 {
			j.programs = []program{xfer, aria}
		}
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		b.table.add(compared(order.name, all, ideal(c.size, mirrors), 1.10, ""))
		b.twice(c.size, all[xfer])
	}
	return nil
}

func (b *bench) many() error {
	c, err := b.contentWithTorrent(40 * mega)
	if err != nil {
		return err
	}
	defer c.remove()
	mirrors := several(20*ms, slices.Repeat([]int64{mega}, 40)...)
	j := b.race("many", c, mirrors)
	j.programs = []program{xfer, aria} // curl needs 40 s
	all, err := b.measure(j)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("ideal of 16; %d mirrors touched", touched(all[xfer]))
	if len(all[aria]) > 0 {
		note += fmt.Sprintf(", by aria2c %d", touched(all[aria]))
	}
	b.table.add(compared("40 MB, 40 mirrors of 1 MB/s", all, ideal(c.size, mirrors[:16]), 1.10, note))
	b.twice(c.size, all[xfer])
	return nil
}

func (b *bench) few() error {
	c, err := b.contentWithTorrent(5 * mega)
	if err != nil {
		return err
	}
	defer c.remove()
	mirrors := several(20*ms, slices.Repeat([]int64{10 * mega}, 40)...)
	all, err := b.measure(b.race("few", c, mirrors))
	if err != nil {
		return err
	}
	var asked int
	for _, o := range all[xfer] {
		asked = max(asked, o.traffic.asked)
	}
	n := touched(all[xfer])
	l := line{name: "5 MB, 40 mirrors of 10 MB/s: touched", got: fmt.Sprint(n), goal: "4", reached: n <= 4 && all[xfer].failure() == "",
		note: fmt.Sprintf("the most in %d runs; %d asked for the torrent; wall %s", len(all[xfer]), asked, all[xfer].text())}
	if len(all[curl]) > 0 {
		l.curl = "1"
		l.note += ", curl " + all[curl].text()
	}
	if len(all[aria]) > 0 {
		l.aria = fmt.Sprint(touched(all[aria]))
		l.note += ", aria2c " + all[aria].text()
	}
	b.table.add(l)
	return nil
}

// touched is the largest number of mirrors that were asked for content in one run.
func touched(runs outcomes) (n int) {
	for _, o := range runs {
		n = max(n, o.traffic.touched)
	}
	return n
}

// unlimited is the download from one mirror that is as fast as this machine.
func (b *bench) unlimited(file string, c *content) job {
	return job{name: file, content: c, runs: max(b.runs, 5), needCurl: true, programs: []program{xfer, curl, aria},
		fresh: func() (*servers, error) { return b.serveUnlimited(c.dir) }}
}

func (b *bench) plain() error {
	if b.installed["curl"] == "" {
		fmt.Println("No curl to measure against: no row plain.")
		return nil
	}
	c, err := b.content(200*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	for _, disk := range []bool{false, true} {
		j := b.unlimited("plain-tmpfs", c)
		name := "200 MB, one unlimited mirror, to tmpfs"
		if disk {
			j.name, j.disk, name = "plain-disk", true, "  to disk"
		}
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		b.table.add(compared(name, all, all[curl].wall(), 1.10, "against curl"))
		cpu, base := all[xfer].cpu(), all[curl].cpu()
		ratio := cpu.Seconds() / base.Seconds()
		l := line{name: "  processor time", got: seconds(cpu), against: seconds(base), ratio: fmt.Sprintf("%.3f", ratio), goal: "1.50",
			reached: ratio <= 1.5, curl: seconds(base), note: "user and system"}
		if len(all[aria]) > 0 {
			l.aria = seconds(all[aria].cpu())
		}
		b.table.add(l)
	}
	return nil
}

func (b *bench) torrent() error {
	if b.installed["curl"] == "" {
		fmt.Println("No curl to measure against: no row torrent.")
		return nil
	}
	c, err := b.content(200*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	for _, kind := range []struct {
		name, file string
		add        func(*content) (bool, error)
		hash       program
	}{
		{"200 MB, one unlimited mirror, v1", "torrent-v1", func(c *content) (bool, error) { return true, b.addTorrent(c) }, passSHA1},
		{"  hybrid", "torrent-hybrid", b.addHybrid, passSHA256},
	} {
		ok, err := kind.add(c)
		if err != nil {
			return err
		}
		if !ok {
			fmt.Println("No Python binding of libtorrent: no hybrid torrent.")
			continue
		}
		j := b.unlimited(kind.file, c)
		j.programs = append(j.programs, kind.hash)
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		hash := all[kind.hash].wall()
		b.table.add(compared(kind.name, all, all[curl].wall()+hash, 1.10,
			fmt.Sprintf("against curl, then %s in %s; torrent by %s; verified by %q", kind.hash, seconds(hash), c.maker,
				all[xfer][0].report.Verified)))
	}
	return nil
}

func (b *bench) small() error {
	if b.installed["curl"] == "" {
		fmt.Println("No curl to measure against: no row small.")
		return nil
	}
	for i, how := range []struct {
		name, file string
		torrent    bool
		flags      []string
	}{
		{"40 KB over 30 ms, no torrent there", "small-absent", false, nil},
		{"  a torrent there", "small-present", true, nil},
		{"  not looked for", "small-none", true, []string{"--torrent", "none"}},
	} {
		c, err := b.content(40_000, false)
		if err != nil {
			return err
		}
		defer c.remove()
		if how.torrent {
			if err := b.addTorrent(c); err != nil {
				return err
			}
		}
		j := b.race(how.file, c, several(30*ms, 0))
		j.flags, j.runs, j.needCurl = how.flags, max(b.runs, 15), true
		if i > 0 {
			j.programs = []program{xfer, curl}
		}
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		base := all[curl].wall()
		more := all[xfer].wall() - base
		b.table.add(line{name: how.name, got: all[xfer].text(), against: seconds(base), ratio: fmt.Sprintf("%+.1f ms", more.Seconds()*1000),
			goal: "+10.0 ms", reached: more <= 10*ms && all[xfer].failure() == "", curl: all[curl].text(), aria: all[aria].text(),
			note: fmt.Sprintf("medians of %d", j.runs)})
	}
	return nil
}

func (b *bench) memoryUse() error {
	const limit = 64 << 20
	for _, load := range []struct {
		name, file string
		size       int64
		zeros      bool
		mirrors    int // 1: unlimited
		flags      []string
	}{
		{"peak memory: 200 MB, one mirror", "memory-one", 200 * mega, false, 1, nil},
		{"  200 MB, 40 unlimited mirrors at once", "memory-40", 200 * mega, false, 40, []string{"--max-mirrors", "40"}},
		{"  2 GB, one unlimited mirror", "memory-2gb", 2 * giga, true, 1, nil},
	} {
		c, err := b.content(load.size, load.zeros)
		if err != nil {
			return err
		}
		defer c.remove()
		if err := b.addTorrent(c); err != nil {
			return err
		}
		j := b.unlimited(load.file, c)
		j.flags, j.runs, j.needCurl = load.flags, b.runs, false
		if load.mirrors > 1 {
			j.fresh = func() (*servers, error) { return b.serve(c.dir, make([]mirror, load.mirrors)) }
		}
		if load.size >= giga {
			j.disk, j.runs = free(b.memory) < 2*load.size, 1
		}
		all, err := b.measure(j)
		if err != nil {
			return err
		}
		peak := all[xfer].peak()
		l := line{name: load.name, got: mebibytes(peak), goal: "64 MiB", reached: peak <= limit && all[xfer].failure() == "",
			note: fmt.Sprintf("with a torrent; wall %s", all[xfer].text())}
		if len(all[curl]) > 0 {
			l.curl = mebibytes(all[curl].peak())
		}
		if len(all[aria]) > 0 {
			l.aria = mebibytes(all[aria].peak())
		}
		b.table.add(l)
		c.remove()
	}
	return nil
}

// mebibytes is a peak for people. The kernel counts the parent's memory too, until the program proper begins, so that
// nothing below our own can be told.
func mebibytes(n int64) string {
	text := fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) == nil && n <= own.Maxrss*1024 {
		return "<= " + text
	}
	return text
}

// free is how many bytes the file system of dir can still take.
func free(dir string) int64 {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0
	}
	return int64(s.Bavail) * s.Bsize
}
