package main

import (
	"fmt"
	"time"
)

// A row is a part of the table that can be asked for by name.
type row struct {
	name, text string
	run        func(*bench) error
}

const (
	mega = 1_000_000
	ms   = time.Millisecond
)

var rows = []row{
	{"equal", "20 MB from 4 equal mirrors, with a torrent", (*bench).equal},
	{"digest", "the same with size and SHA-256 and no torrent", (*bench).digest},
	{"unequal", "20 MB from 4 mirrors of 0.2 to 8 MB/s", (*bench).unequal},
	{"plain", "200 MB from one unlimited mirror, no torrent", (*bench).plain},
}

var everybody = []program{xfer, curl, aria}

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

// race measures a download from limited mirrors against the ideal.
func (b *bench) race(name, file string, c *content, mirrors []mirror, goal float64, note string, change func(*job)) (outcomes, error) {
	j := job{name: file, content: c, best: fastest(mirrors), programs: everybody,
		fresh: func() (*servers, error) { return b.serve(c.dir, mirrors) }}
	if change != nil {
		change(&j)
	}
	all, err := b.measure(j)
	if err != nil {
		return nil, err
	}
	b.table.add(compared(name, all, ideal(c.size, mirrors), goal, note))
	return all[xfer], nil
}

// compared is the line that sets wall times against a base.
func compared(name string, all map[program]outcomes, base time.Duration, goal float64, note string) line {
	ratio := all[xfer].wall().Seconds() / base.Seconds()
	return line{name: name, got: all[xfer].text(), against: seconds(base), ratio: fmt.Sprintf("%.3f", ratio),
		goal: fmt.Sprintf("%.2f", goal), reached: ratio <= goal && all[xfer].failure() == "",
		curl: all[curl].text(), aria: all[aria].text(), note: note}
}

// twice is the line about bytes fetched twice; the worst run counts.
func (b *bench) twice(name string, size int64, runs outcomes) {
	var worst, sent int64
	for _, o := range runs {
		worst, sent = max(worst, o.report.Duplicate), max(sent, o.traffic.sent)
	}
	share := float64(worst) / float64(size)
	b.table.add(line{name: "  " + name + ": fetched twice", got: bytesText(worst), against: bytesText(size),
		ratio: fmt.Sprintf("%.2f %%", 100*share), goal: "2 %", reached: share <= 0.02,
		note: fmt.Sprintf("worst of %d; mirrors sent %.2f %% too much", len(runs), 100*(float64(sent)/float64(size)-1))})
}

func (b *bench) equal() error {
	c, err := b.content(20*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	if err := b.addTorrent(c); err != nil {
		return err
	}
	mirrors := several(20*ms, 5*mega, 5*mega, 5*mega, 5*mega)
	runs, err := b.race("20 MB, 4 mirrors of 5 MB/s", "equal", c, mirrors, 1.05, "torrent by "+c.maker, nil)
	if err != nil {
		return err
	}
	b.twice("equal", c.size, runs)
	return nil
}

func (b *bench) digest() error {
	c, err := b.content(20*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	mirrors := several(20*ms, 5*mega, 5*mega, 5*mega, 5*mega)
	runs, err := b.race("  the same, digest and no torrent", "digest", c, mirrors, 1.05, "", func(j *job) {
		j.flags = []string{"--sha256", c.sha256, "--size", fmt.Sprint(c.size)}
		j.programs = []program{xfer}
	})
	if err != nil {
		return err
	}
	b.twice("digest", c.size, runs)
	return nil
}

func (b *bench) unequal() error {
	c, err := b.content(20*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	if err := b.addTorrent(c); err != nil {
		return err
	}
	for _, order := range []struct {
		name, file string
		rates      []int64
	}{
		{"20 MB, 4 mirrors of 0.2, 1, 4, 8 MB/s", "unequal-slow-first", []int64{mega / 5, mega, 4 * mega, 8 * mega}},
		{"  8, 4, 1, 0.2 MB/s", "unequal-fast-first", []int64{8 * mega, 4 * mega, mega, mega / 5}},
		{"  4, 0.2, 8, 1 MB/s", "unequal-mixed", []int64{4 * mega, mega / 5, 8 * mega, mega}},
	} {
		runs, err := b.race(order.name, order.file, c, several(20*ms, order.rates...), 1.05, "", nil)
		if err != nil {
			return err
		}
		b.twice(order.file, c.size, runs)
	}
	return nil
}

func (b *bench) plain() error {
	c, err := b.content(200*mega, false)
	if err != nil {
		return err
	}
	defer c.remove()
	for _, where := range []struct {
		name string
		disk bool
	}{{"tmpfs", false}, {"disk", true}} {
		all, err := b.measure(b.unlimited("plain-"+where.name, c, where.disk))
		if err != nil {
			return err
		}
		b.unlimitedLines("200 MB, one unlimited mirror, "+where.name, all)
	}
	return nil
}

// unlimited is a download from one mirror that is as fast as this machine.
func (b *bench) unlimited(file string, c *content, disk bool) job {
	return job{name: file, content: c, disk: disk, runs: max(b.runs, 5), programs: everybody,
		fresh: func() (*servers, error) { return b.serveUnlimited(c.dir) }}
}

func (b *bench) unlimitedLines(name string, all map[program]outcomes) {
	if len(all[curl]) == 0 {
		return
	}
	b.table.add(compared(name, all, all[curl].wall(), 1.10, ""))
	cpu, base := all[xfer].cpu(), all[curl].cpu()
	ratio := cpu.Seconds() / base.Seconds()
	l := line{name: "  processor time", got: seconds(cpu), against: seconds(base), ratio: fmt.Sprintf("%.3f", ratio), goal: "1.50",
		reached: ratio <= 1.5, curl: seconds(base)}
	if len(all[aria]) > 0 {
		l.aria = seconds(all[aria].cpu())
	}
	b.table.add(l)
}
