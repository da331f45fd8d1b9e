package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
	"torrent-xfer/seeder"
)

// A family is a process and those that it has started.
type family struct {
	root int
	peak map[int]int64 // bytes, by process, as last seen
}

// look notes how much memory each has taken at most, and returns what all take now.
func (f *family) look() (now int64) {
	for _, pid := range append(children(f.root), f.root) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(text)) {
			field := strings.Fields(l)
			if len(field) < 2 {
				continue
			}
			kib, _ := strconv.ParseInt(field[1], 10, 64)
			switch field[0] {
			case "VmHWM:":
				f.peak[pid] = kib << 10
			case "VmRSS:":
				now += kib << 10
			}
		}
	}
	return now
}

// most is the sum of what each has taken at most.
func (f *family) most() (sum int64) {
	for _, n := range f.peak {
		sum += n
	}
	return sum
}

// cpu is the processor time of all.
func (f *family) cpu() (sum time.Duration) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs on Linux
	for _, pid := range append(children(f.root), f.root) {
		if field := processStat(pid); len(field) > 12 {
			user, _ := strconv.ParseInt(field[11], 10, 64)
			system, _ := strconv.ParseInt(field[12], 10, 64)
			sum += time.Duration(user+system) * tick
		}
	}
	return sum
}

// processStat is /proc/PID/stat from the third field on.
func processStat(pid int) []string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

func children(pid int) (list []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		if field := processStat(child); len(field) > 1 && field[1] == strconv.Itoa(pid) {
			list = append(list, child)
		}
	}
	return list
}

// seeding is a daemon that runs.
type seeding struct {
	b       *bench
	cmd     *exec.Cmd
	control string
	said    strings.Builder
	family  family
}

// seed starts a daemon on a library.
func (b *bench) seed(library string) (*seeding, error) {
	s := &seeding{b: b, control: library + ".sock"}
	s.cmd = exec.CommandContext(b.ctx, b.xfer, "daemon", "--config", os.DevNull, "--library", library, "--control", s.control, "--user", "root",
		"--private", "--no-lpd", "--seed-space", "1T")
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.memory}
	s.cmd.Stderr = &s.said
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.family = family{s.cmd.Process.Pid, map[int]int64{}}
	return s, nil
}

// await waits until the daemon's status is as wanted.
func (s *seeding) await(limit time.Duration, wanted func(*seeder.Status) bool) (*seeder.Status, error) {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.CommandContext(s.b.ctx, s.b.xfer, "status", "--json", "--control", s.control).Output()
		st := &seeder.Status{}
		if err == nil {
			err = json.Unmarshal(out, st)
		}
		if err == nil && wanted(st) {
			return st, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("the daemon is not ready after %v: %v, %s", limit, err, s.said.String())
		}
	}
}

func (s *seeding) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// swarmIdle is a daemon with many files that nobody wants at the moment.
func (b *bench) swarmIdle() error {
	const files, size, watched = 10_000, 20_000, time.Minute
	tracker, err := trackertest.Start()
	if err != nil {
		return err
	}
	defer tracker.Close()
	tracker.Interval = 30 * time.Minute // as opentracker says
	library := filepath.Join(b.memory, "library")
	defer os.RemoveAll(library)
	if err := fill(b.ctx, library, files, size, tracker.HTTP); err != nil {
		return err
	}
	began := time.Now()
	s, err := b.seed(library)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.await(time.Minute, func(st *seeder.Status) bool { return st.Port != 0 && len(st.Torrents) == files }); err != nil {
		return err
	}
	ready := time.Since(began)
	b.table.add(line{name: "daemon with 10,000 files: ready", got: seconds(ready), goal: "5 s", reached: ready <= 5*time.Second})
	time.Sleep(10 * time.Second)
	used, heard := s.family.cpu(), len(tracker.Log())
	var memory int64
	for end := time.Now().Add(watched); time.Now().Before(end) && b.ctx.Err() == nil; time.Sleep(time.Second) {
		memory = max(memory, s.family.look())
	}
	share := (s.family.cpu() - used).Seconds() / watched.Seconds() * 100
	b.table.add(line{name: "  of one core, while it announces them", got: fmt.Sprintf("%.1f %%", share), goal: "2 %", reached: share <= 2,
		note: fmt.Sprintf("%d announces in that minute", len(tracker.Log())-heard)})
	b.table.add(line{name: "  memory of both processes", got: bytesText(memory), goal: "250 MB", reached: memory <= 250*mega})
	return b.ctx.Err()
}

// fill makes a library.
func fill(ctx context.Context, dir string, files int, size int64, tracker string) error {
	l, _, err := seeder.OpenLibrary(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	content, err := os.CreateTemp("", "content-")
	if err != nil {
		return err
	}
	defer os.Remove(content.Name())
	defer content.Close()
	data, noise := make([]byte, size), rand.NewChaCha8([32]byte{1})
	for i := range files {
		noise.Read(data)
		if _, err := content.WriteAt(data, 0); err != nil {
			return err
		}
		h, err := metainfo.Hash(ctx, content, size, metainfo.HashOptions{})
		if err != nil {
			return err
		}
		torrent, err := metainfo.Build(fmt.Sprintf("example%d.pkg.tar.zst", i), h, metainfo.BuildOptions{Trackers: [][]string{{tracker}}})
		if err != nil {
			return err
		}
		if _, _, err := l.Take(ctx, seeder.Offer{Metainfo: torrent, Content: content}, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// swarmLeech is one download from one seed: the daemon, or libtorrent.
func (b *bench) swarmLeech() error {
	python := b.python()
	if python == "" {
		fmt.Println("No libtorrent, against which it is measured: swarm-leech is left out.")
		return nil
	}
	c, err := b.content(500*mega, false)
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
	library := filepath.Join(b.memory, "library")
	defer os.RemoveAll(library)
	if err := take(b.ctx, library, c.file(), c.file()+".torrent"); err != nil {
		return err
	}
	s, err := b.seed(library)
	if err != nil {
		return err
	}
	defer s.stop()
	st, err := s.await(time.Minute, func(st *seeder.Status) bool { return st.Port != 0 && len(st.Torrents) == 1 })
	if err != nil {
		return err
	}
	port, stop, err := b.seedElsewhere(python, c, 0)
	if err != nil {
		return err
	}
	defer stop()
	var ours, theirs []time.Duration
	var leech int64
	for range b.runs {
		for _, from := range []struct {
			port  uint16
			walls *[]time.Duration
		}{{uint16(st.Port), &ours}, {port, &theirs}} {
			wall, peak, err := b.leech(c, from.port)
			if err != nil {
				b.wrong = append(b.wrong, fmt.Sprintf("swarm-leech: %v", err))
				return nil
			}
			*from.walls, leech = append(*from.walls, wall), max(leech, peak)
		}
	}
	s.family.look()
	itself := func(d time.Duration) time.Duration { return d }
	own, lib := median(ours, itself), median(theirs, itself)
	ratio := own.Seconds() / lib.Seconds()
	b.table.add(line{name: "500 MB from one daemon, against libtorrent", got: seconds(own), against: seconds(lib), ratio: fmt.Sprintf("%.2f", ratio),
		goal: "1.00", reached: ratio <= 1})
	b.table.add(line{name: "  memory of both processes that fetch", got: bytesText(leech), goal: "96 MB", reached: leech <= 96*mega})
	b.table.add(line{name: "  and of those that seed", got: bytesText(s.family.most()), goal: "96 MB", reached: s.family.most() <= 96*mega})
	return nil
}

func take(ctx context.Context, dir, path, torrent string) error {
	l, _, err := seeder.OpenLibrary(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	content, err := os.Open(path)
	if err != nil {
		return err
	}
	defer content.Close()
	data, err := os.ReadFile(torrent)
	if err != nil {
		return err
	}
	_, _, err = l.Take(ctx, seeder.Offer{Metainfo: data, Content: content}, 0, nil)
	return err
}

// leech fetches the file from one peer, and tells how much memory that took.
func (b *bench) leech(c *content, port uint16) (wall time.Duration, peak int64, err error) {
	dir, err := os.MkdirTemp(b.memory, "leech-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(b.ctx, b.xfer, "download", "--config", os.DevNull, "--progress", "none", "--no-lpd", "--peer",
		fmt.Sprintf("127.0.0.1:%d", port), c.file()+".torrent", dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	f, ended := family{cmd.Process.Pid, map[int]int64{}}, make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for waiting := true; waiting; {
		select {
		case err = <-ended:
			waiting = false
		case <-time.After(50 * time.Millisecond):
			f.look()
		}
	}
	wall = time.Since(began)
	right, errSame := same(filepath.Join(dir, fileName), c.file())
	if err != nil || errSame != nil || !right {
		return 0, 0, fmt.Errorf("right: %v, %w, said %q", right, errors.Join(err, errSame), said.String())
	}
	return wall, f.most(), nil
}
