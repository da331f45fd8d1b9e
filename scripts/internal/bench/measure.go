package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"torrent-xfer/fetcher"
)

// A program is one of those that are measured side by side.
type program string

const (
	xfer       program = "torrent-xfer"
	curl       program = "curl"
	aria       program = "aria2c"
	passSHA1   program = "sha1" // one pass of hashing over the content
	passSHA256 program = "sha256"
)

const (
	ariaLimit = 60 * time.Second // aria2 waits for stalled mirrors for minutes
	hangLimit = 10 * time.Minute
	tooSlow   = 20 * time.Second // what takes longer is not repeated
)

// A job is one download that each program does.
type job struct {
	name    string // of its reports
	content *content

	best     int      // of urls, for curl
	flags    []string // more flags of torrent-xfer
	fresh    func() (*servers, error)
	disk     bool // the destination is on disk
	runs     int  // 0: as many as usual
	programs []program
	remember bool // hosts are remembered from a run before
	needCurl bool // the figure is one against curl
}

// outcome is one run of one program.
type outcome struct {
	wall, cpu time.Duration
	peak      int64 // bytes
	failure   string
	report    fetcher.Result // torrent-xfer's own
	traffic   traffic
}

// outcomes are all runs of one program.
type outcomes []outcome

// wall is the median wall time.
func (o outcomes) wall() time.Duration {
	return median(o, func(o outcome) time.Duration { return o.wall })
}

// worst is the longest wall time.
func (o outcomes) worst() (worst time.Duration) {
	for _, r := range o {
		worst = max(worst, r.wall)
	}
	return worst
}

// cpu is the median of user and system time together.
func (o outcomes) cpu() time.Duration {
	return median(o, func(o outcome) time.Duration { return o.cpu })
}

func (o outcomes) peak() (worst int64) {
	for _, r := range o {
		worst = max(worst, r.peak)
	}
	return worst
}

// failure is the first, "" if there was none.
func (o outcomes) failure() string {
	for _, r := range o {
		if r.failure != "" {
			return r.failure
		}
	}
	return ""
}

// text is the median wall time, or why there is none.
func (o outcomes) text() string {
	if len(o) == 0 {
		return ""
	}
	if f := o.failure(); f != "" {
		return f
	}
	return seconds(o.wall())
}

func median[T any, N int64 | time.Duration](all []T, value func(T) N) N {
	if len(all) == 0 {
		return 0
	}
	var values []N
	for _, v := range all {
		values = append(values, value(v))
	}
	slices.Sort(values)
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}

// measure runs the job with each of its programs in turn, several times over, each time with mirrors that have seen
// nobody yet.
func (b *bench) measure(j job) (map[program]outcomes, error) {
	if j.runs == 0 {
		j.runs = b.runs
	}
	all := map[program]outcomes{}
	for i := range j.runs {
		for k := range j.programs {
			// Nobody is always first.
			p := j.programs[(i+k)%len(j.programs)]
			if b.leavesOut(j, p) {
				continue
			}
			if n := len(all[p]); p != xfer && n > 0 && all[p][n-1].wall > tooSlow {
				continue
			}
			o, err := b.once(j, p, i)
			if err != nil {
				return nil, err
			}
			all[p] = append(all[p], o)
		}
	}
	return all, nil
}

func (b *bench) leavesOut(j job, p program) bool {
	switch p {
	case curl:
		return b.installed[string(p)] == "" || b.alone && !j.needCurl
	case aria:
		return b.installed[string(p)] == "" || b.alone
	}
	return false
}

// once runs one program once, in new directories.
func (b *bench) once(j job, p program, number int) (o outcome, err error) {
	base := b.memory
	if j.disk {
		base = b.disk
	}
	dir, err := os.MkdirTemp(base, "run-")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(dir)
	home, err := os.MkdirTemp(b.disk, "home-")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(home)
	s, err := j.fresh()
	if err != nil {
		return o, err
	}
	defer s.stop()
	var before traffic
	if j.remember && p == xfer {
		if o, err = b.start(j, p, s, dir, home); err != nil || o.failure != "" {
			return o, err
		}
		if err := os.Remove(filepath.Join(dir, fileName)); err != nil {
			return o, err
		}
		before = s.traffic(fileName)
	}
	if o, err = b.start(j, p, s, dir, home); err != nil {
		return o, err
	}
	o.traffic = s.traffic(fileName)
	o.traffic.sent -= before.sent
	if p == xfer && b.keep != "" {
		report, err := os.ReadFile(filepath.Join(home, "report.json"))
		if err == nil {
			err = os.WriteFile(filepath.Join(b.keep, fmt.Sprintf("%s-%d.json", j.name, number+1)), report, 0o644)
		}
		if err != nil && o.failure == "" {
			return o, err
		}
	}
	return o, nil
}

// start runs one program and judges what it left.
func (b *bench) start(j job, p program, s *servers, dir, home string) (o outcome, err error) {
	if p == passSHA1 || p == passSHA256 {
		return b.hash(j.content, p)
	}
	dest, report := filepath.Join(dir, fileName), filepath.Join(home, "report.json")
	urls := s.urls(fileName)
	path, limit := b.installed[string(p)], hangLimit
	var args []string
	switch p {
	case xfer:
		config := filepath.Join(home, "empty.toml")
		if err := os.WriteFile(config, nil, 0o644); err != nil {
			return o, err
		}
		path = b.xfer
		args = append([]string{"--config", config, "--progress", "none", "--report", report}, j.flags...)
		for _, u := range urls[1:] {
			args = append(args, "--mirror", u)
		}
		args = append(args, urls[0], dest)
	case curl:
		args = []string{"-q", "-fsS", "-o", dest, urls[j.best]}
	case aria:
		limit = ariaLimit
		args = append([]string{"--no-conf", "-q", "-x4", "-s16", "-k1M", "--file-allocation=none", "-d", dir, "-o", fileName},
			urls...)
	}
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "LC_ALL=C"}
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	err = cmd.Run()
	o.wall = time.Since(began)
	if b.ctx.Err() != nil {
		return o, b.ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return o, err
	}
	o.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	o.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024
	switch {
	case ctx.Err() != nil:
		o.failure = fmt.Sprintf("> %v", limit)
	case err != nil:
		o.failure = "failed"
	}
	right, err := same(dest, j.content.file())
	switch {
	case errors.Is(err, os.ErrNotExist) && o.failure != "":
	case err != nil:
		return o, err
	case !right && (p == xfer || o.failure == ""):
		o.failure = "WRONG BYTES"
	}
	if p != xfer {
		return o, nil
	}
	if o.failure != "" {
		b.wrong = append(b.wrong, fmt.Sprintf("%s: %s, %v, said %q", j.name, o.failure, cmd.ProcessState,
			strings.TrimSpace(said.String())))
		return o, nil
	}
	data, err := os.ReadFile(report)
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(data, &o.report)
}

// hash measures one pass of hashing over the content, by this program as a process of its own.
func (b *bench) hash(c *content, kind program) (o outcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	began := time.Now()
	err = quiet(exec.CommandContext(b.ctx, self, "hash-"+string(kind), c.file()))
	o.wall = time.Since(began)
	return o, err
}
