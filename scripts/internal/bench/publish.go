package main

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A tree is a directory of package files.
type tree struct {
	dir   string
	files int
	size  int64
}

func (t *tree) remove() { os.RemoveAll(t.dir) }

// tree makes files of these sizes, each over and over until there are as many as wanted, a hundred to a directory.
func (b *bench) tree(files int, sizes ...int64) (*tree, error) {
	base := b.memory
	var total int64
	for i := range files {
		total += max(sizes[i%len(sizes)], 4096)
	}
	if free(base) < total*5/4 {
		base = b.disk
	}
	dir, err := os.MkdirTemp(base, "tree-")
	if err != nil {
		return nil, err
	}
	t := &tree{dir: dir}
	return t, t.grow(files, sizes...)
}

// grow adds files. No two files of a tree are alike.
func (t *tree) grow(files int, sizes ...int64) error {
	noise := make([]byte, 1<<20)
	for i := range files {
		dir := filepath.Join(t.dir, fmt.Sprintf("%04d", t.files/100))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("example%d-1.0-1-x86_64.pkg.tar.zst", t.files)))
		if err != nil {
			return err
		}
		size := sizes[i%len(sizes)]
		r := rand.NewChaCha8([32]byte{byte(t.files), byte(t.files >> 8), byte(t.files >> 16)})
		for left := size; left > 0 && err == nil; left -= int64(len(noise)) {
			n := min(left, int64(len(noise)))
			_, _ = r.Read(noise[:n])
			_, err = f.Write(noise[:n])
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		t.files++
		t.size += size
	}
	return nil
}

// paths are all files of packages in the tree.
func (t *tree) paths() (paths []string, err error) {
	err = filepath.WalkDir(t.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".zst") {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

// timed runs one program as a whole.
func (b *bench) timed(path string, args ...string) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, hangLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.disk, "XDG_CACHE_HOME=" + filepath.Join(b.disk, "cache"), "LC_ALL=C"}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	o.wall = time.Since(began)
	if err != nil {
		return o, fmt.Errorf("%s: %w\n%.2000s", strings.Join(cmd.Args[:2], " "), err, out)
	}
	o.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	o.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024
	return o, nil
}

// publish runs torrent-xfer on the tree. Wherever out is, a run finds no torrents and no state there; "" is beside the files,
// with what is there from the run before.
func (b *bench) publish(t *tree, out string, flags ...string) (o outcome, err error) {
	config := filepath.Join(b.disk, "empty.toml")
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		return o, err
	}
	if out != "" {
		flags = append(flags, "--out", out)
		defer os.RemoveAll(out)
	}
	flags = append([]string{"publish", "--config", config, "--mirror", "https://mirror.example.org/repo/"}, flags...)
	o, err = b.timed(b.xfer, append(flags, t.dir)...)
	if err != nil {
		return o, err
	}
	return o, b.published(t, out)
}

// published counts: a publisher that leaves files out is fast.
func (b *bench) published(t *tree, out string) error {
	if out == "" {
		out = t.dir
	}
	n := 0
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".torrent") {
			n++
		}
		return err
	})
	if err == nil && n != t.files {
		b.wrong = append(b.wrong, fmt.Sprintf("publish made %d torrents of %d files", n, t.files))
	}
	return err
}

// hashCores hashes as many bytes with SHA-1 and SHA-256 on all processors, from memory; as a process of its own.
func hashCores(bytes string) error {
	size, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	n := int64(runtime.NumCPU())
	for range n {
		wait.Go(func() {
			buf := make([]byte, 256<<10)
			for _, h := range []hash.Hash{sha1.New(), sha256.New()} {
				for left := size / n; left > 0; left -= int64(len(buf)) {
					h.Write(buf[:min(left, int64(len(buf)))])
				}
			}
		})
	}
	wait.Wait()
	return nil
}

// inTurn runs each competitor n times over, by turns, so that nobody is always first.
func inTurn(n int, all map[string]func() (outcome, error), order ...string) (map[string]outcomes, error) {
	results := map[string]outcomes{}
	for i := range n {
		for k := range order {
			name := order[(i+k)%len(order)]
			if past := results[name]; name != string(xfer) && len(past) > 0 && past[len(past)-1].wall > tooSlow {
				continue
			}
			o, err := all[name]()
			if err != nil {
				return nil, err
			}
			results[name] = append(results[name], o)
		}
	}
	return results, nil
}

func (b *bench) publishTree() error {
	const mixed = 2 * giga
	sizes := []int64{300_000, 450_000, 700_000, 1_200_000, 2_500_000, 6_000_000, 20_000_000, 90_000_000}
	var one int64
	for _, s := range sizes {
		one += s
	}
	t, err := b.tree(int(mixed/one)*len(sizes), sizes...)
	if err != nil {
		return err
	}
	defer t.remove()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out := filepath.Join(filepath.Dir(t.dir), "torrents")
	all, err := inTurn(b.runs, map[string]func() (outcome, error){
		string(xfer): func() (outcome, error) { return b.publish(t, out) },
		"hash":       func() (outcome, error) { return b.timed(self, "hash-cores", fmt.Sprint(t.size)) },
	}, string(xfer), "hash")
	if err != nil {
		return err
	}
	b.table.add(made(fmt.Sprintf("publish %.1f GB in %d files, hybrid", float64(t.size)/giga, t.files), all[string(xfer)], all["hash"].wall(),
		1.20, fmt.Sprintf("against SHA-1 and SHA-256 of as much on %d processors; no state, page cache; %s", runtime.NumCPU(),
			mebibytes(all[string(xfer)].peak()))))
	return nil
}

// made is the line that sets the making of torrents against a base.
func made(name string, got outcomes, base time.Duration, goal float64, note string) line {
	ratio := got.wall().Seconds() / base.Seconds()
	return line{name: name, got: got.text(), against: seconds(base), ratio: fmt.Sprintf("%.3f", ratio), goal: fmt.Sprintf("%.2f", goal),
		reached: ratio <= goal, note: note}
}

func (b *bench) publishOne() error {
	if b.installed["mktorrent"] == "" {
		fmt.Println("No mktorrent to measure against: no row publish-one.")
		return nil
	}
	t, err := b.tree(1, 2<<30)
	if err != nil {
		return err
	}
	defer t.remove()
	paths, err := t.paths()
	if err != nil {
		return err
	}
	torrent := filepath.Join(filepath.Dir(t.dir), "one.torrent")
	const exponent = 21
	replaced := func(path string, args ...string) func() (outcome, error) {
		return func() (outcome, error) {
			defer os.Remove(torrent)
			return b.timed(path, args...)
		}
	}
	competitors := map[string]func() (outcome, error){
		string(xfer):     func() (outcome, error) { return b.publish(t, torrent+"s", "--meta-version", "1") },
		"mktorrent -t 2": replaced(b.installed["mktorrent"], "-t", "2", "-l", fmt.Sprint(exponent), "-o", torrent, paths[0]),
	}
	order := []string{string(xfer), "mktorrent -t 2"}
	if path, err := exec.LookPath("transmission-create"); err == nil && !b.alone {
		order = append(order, "transmission-create")
		competitors[order[len(order)-1]] = replaced(path, "-o", torrent, paths[0])
	}
	if python := b.python(); python != "" && !b.alone {
		order = append(order, "libtorrent")
		competitors[order[len(order)-1]] = replaced(python, "-c", libtorrentScript, "1", paths[0], torrent, fmt.Sprint(1<<exponent))
	}
	all, err := inTurn(b.runs, competitors, order...)
	if err != nil {
		return err
	}
	note := "against mktorrent -t 2"
	for _, name := range order[2:] {
		note += fmt.Sprintf("; %s %s", name, all[name].text())
	}
	b.table.add(made("publish one file of 2 GiB, v1", all[string(xfer)], all["mktorrent -t 2"].wall(), 1, note))
	return nil
}

func (b *bench) publishMany() error {
	if b.installed["mktorrent"] == "" {
		fmt.Println("No mktorrent to measure against: no row publish-many.")
		return nil
	}
	t, err := b.tree(3000, 350_000)
	if err != nil {
		return err
	}
	defer t.remove()
	paths, err := t.paths()
	if err != nil {
		return err
	}
	out := filepath.Join(filepath.Dir(t.dir), "torrents")
	all, err := inTurn(b.runs, map[string]func() (outcome, error){
		string(xfer): func() (outcome, error) { return b.publish(t, out, "--meta-version", "1") },
		"mktorrent": func() (o outcome, err error) {
			if err := os.Mkdir(out, 0o755); err != nil {
				return o, err
			}
			defer os.RemoveAll(out)
			const loop = `set -e; program=$1 out=$2; shift 2
for f; do "$program" -t 2 -l 15 -w "https://mirror.example.org/repo/${f##*/}" -o "$out/${f##*/}.torrent" "$f" >/dev/null; done`
			return b.timed("sh", append([]string{"-c", loop, "sh", b.installed["mktorrent"], out}, paths...)...)
		},
	}, string(xfer), "mktorrent")
	if err != nil {
		return err
	}
	b.table.add(made("publish 3,000 files of 350 KB, v1", all[string(xfer)], all["mktorrent"].wall(), 0.2, "against a loop of mktorrent -t 2"))
	return nil
}

func (b *bench) publishAgain() error {
	const (
		files  = 100_000
		goal   = 5 * time.Second
		memory = 150 << 20
		added  = 100
	)
	t, err := b.tree(files, 1000)
	if err != nil {
		return err
	}
	defer t.remove()
	flags := []string{"--min-size", "1"}
	first, err := b.publish(t, "", flags...)
	if err != nil {
		return err
	}
	var same, more outcomes
	for range b.runs {
		o, err := b.publish(t, "", flags...)
		if err != nil {
			return err
		}
		same = append(same, o)
		if err := t.grow(added, 350_000); err != nil {
			return err
		}
		if o, err = b.publish(t, "", flags...); err != nil {
			return err
		}
		more = append(more, o)
	}
	b.table.add(line{name: "publish 100,000 files again", got: same.text(), goal: seconds(goal), reached: same.wall() <= goal,
		note: "the first time " + seconds(first.wall)})
	b.table.add(line{name: "  memory", got: mebibytes(same.peak()), goal: "150 MiB", reached: same.peak() <= memory,
		note: "the first time " + mebibytes(first.peak)})
	extra := more.wall() - same.wall()
	b.table.add(line{name: "  with 100 new files of 350 KB", got: more.text(), against: same.text(),
		ratio: fmt.Sprintf("%+.0f ms", extra.Seconds()*1000), goal: "+1000 ms", reached: extra <= time.Second})
	return nil
}
