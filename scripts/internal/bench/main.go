// Command bench measures torrent-xfer beside curl and aria2c on mirrors of this machine and prints one table. scripts/bench
// builds and runs it. Every figure is the wall time, processor time or memory of a whole process, the median of several
// runs; the programs take turns. The exit status says nothing about speed: it is 1 only if torrent-xfer failed or left a
// wrong byte.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
)

func main() {
	run := run
	// The bench measures itself hashing.
	if len(os.Args) == 3 {
		switch kind := os.Args[1]; kind {
		case "hash-sha1", "hash-sha256":
			run = func() error { return hashFile(strings.TrimPrefix(kind, "hash-"), os.Args[2]) }
		case "hash-cores":
			run = func() error { return hashCores(os.Args[2]) }
		}
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench holds what all rows share.
type bench struct {
	ctx       context.Context
	runs      int
	xfer      string            // the program that is measured
	mirrors   string            // the program that starts mirrors
	installed map[string]string // paths of curl, aria2c, nginx, mktorrent
	memory    string            // directory of ours on a tmpfs, or on disk if there is none
	disk      string            // directory of ours on disk
	alone     bool              // others run only where they are the measure
	keep      string            // directory for the reports; "": they are not kept
	table     *table
	wrong     []string // what torrent-xfer must never do
}

func run() error {
	xfer := flag.String("torrent-xfer", "", "the program to measure")
	mirrors := flag.String("mirrors", "", "the program internal/mirrortest/mirrors")
	runs := flag.Int("n", 3, "runs of which the median is taken; short rows take more")
	keep := flag.String("keep", "", "keep the reports of torrent-xfer in this directory")
	tmpfs := flag.String("tmpfs", "/dev/shm", "where files and mirrors' content lie unless a row says otherwise")
	alone := flag.Bool("alone", false, "run curl only where it is the measure, and aria2c not at all")
	list := flag.Bool("list", false, "list the rows and exit")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: scripts/bench [flags] [row ...]")
		flag.PrintDefaults()
		listRows(flag.CommandLine.Output())
	}
	flag.Parse()
	if *list {
		listRows(os.Stdout)
		return nil
	}
	selected, err := selectRows(flag.Args())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	b := &bench{ctx: ctx, runs: max(*runs, 1), alone: *alone, xfer: *xfer, mirrors: *mirrors, keep: *keep, installed: map[string]string{}}
	var missing []string
	for _, p := range []string{"curl", "aria2c", "nginx", "mktorrent"} {
		if path, err := exec.LookPath(p); err == nil {
			b.installed[p] = path
		} else {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		fmt.Println("Not installed:", strings.Join(missing, ", "))
	}
	if b.disk, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.disk)
	if free(*tmpfs) < 3*giga/2 {
		err = errors.New("too small")
	} else {
		b.memory, err = os.MkdirTemp(*tmpfs, "bench-")
	}
	if err != nil {
		fmt.Printf("%s cannot be used (%v): everything lies on disk.\n", *tmpfs, err)
		b.memory = filepath.Join(b.disk, "memory")
		if err := os.Mkdir(b.memory, 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(b.memory)
	if *keep != "" {
		if err := os.MkdirAll(*keep, 0o755); err != nil {
			return err
		}
	}
	b.table = newTable(os.Stdout)
	for _, r := range selected {
		if err := r.run(b); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	b.table.close()
	if len(b.wrong) > 0 {
		return fmt.Errorf("torrent-xfer went wrong:\n  %s", strings.Join(b.wrong, "\n  "))
	}
	return nil
}

func listRows(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(tw, "  %s\t%s\n", r.name, r.text)
	}
	tw.Flush()
}

func selectRows(names []string) ([]row, error) {
	if len(names) == 0 {
		return rows, nil
	}
	var out []row
next:
	for _, n := range names {
		group := len(out)
		for _, r := range rows {
			if strings.HasPrefix(r.name, n+"-") && n == "swarm" {
				out = append(out, r)
			}
		}
		if len(out) > group {
			continue
		}
		for _, r := range rows {
			if r.name == n {
				out = append(out, r)
				continue next
			}
		}
		return nil, fmt.Errorf("no row is called %q; see -list", n)
	}
	return out, nil
}
