package seeder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const takeTestEnv = "TEST_TAKE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(takeTestEnv); dir != "" {
		if err := takeAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// takeAll has the library in dir/library take and lose the files in dir until it is killed.
func takeAll(dir string) error {
	l, _, err := OpenLibrary(filepath.Join(dir, "library"))
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.torrent"))
	if err != nil {
		return err
	}
	for {
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			f, err := os.Open(strings.TrimSuffix(name, ".torrent"))
			if err != nil {
				return err
			}
			e, _, err := l.Take(context.Background(), Offer{Metainfo: data, Content: f}, 2<<20, oldest)
			f.Close()
			if errors.Is(err, ErrKnown) {
				l.Remove(e.ID)
			} else if err != nil {
				return err
			}
		}
	}
}

func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	for i := range 8 {
		o := offer(t, fmt.Sprint(i), byte(i), 500_000)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".torrent")), o.Metainfo, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(o.Content.Name(), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seen, slow := 0, time.Duration(1) // how much longer it takes to begin than it should
	for range 40 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), takeTestEnv+"="+dir)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(60)) * slow * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if said.Len() > 0 {
			t.Fatal(said.String())
		}
		l, stale, err := OpenLibrary(filepath.Join(dir, "library"))
		if err != nil || len(stale) > 0 {
			t.Fatal(err, stale)
		}
		if l.Size() > 2<<20 {
			t.Errorf("%d bytes are over the budget", l.Size())
		}
		for _, e := range l.Entries() {
			seen++
			if err := l.Recheck(t.Context(), e.ID); err != nil {
				t.Errorf("%s: %v", e.Name, err)
			}
		}
		l.Close()
		if seen == 0 {
			slow++
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "library", unfinished+"*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	if seen == 0 {
		t.Error("no run came as far as to take a file")
	}
	t.Logf("%d entries found right", seen)
}
