package fetcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if text := os.Getenv("FETCHER_TEST_CHILD"); text != "" {
		var req Request
		if err := json.Unmarshal([]byte(text), &req); err != nil {
			panic(err)
		}
		if _, err := new(Fetcher).Fetch(context.Background(), req); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (w *world) child() *exec.Cmd {
	w.Helper()
	text, err := json.Marshal(w.prepare())
	if err != nil {
		w.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FETCHER_TEST_CHILD="+string(text))
	cmd.Stderr = os.Stderr
	return cmd
}

// sent is what the mirrors sent of the file itself.
func (w *world) sent() (n int64) {
	for _, m := range w.mirrors {
		n += m.Stats().Paths[testPath]
	}
	return n
}

func (w *world) mode(mode string) *world {
	w.told = mode == "told"
	switch mode {
	case "torrent":
		w.withTorrent(64 << 10)
	case "digest":
		w.withDigest()
	}
	return w
}

var modes = []string{"plain", "torrent", "digest", "told"}

// rounds is how many random kills are tried; scripts/soak asks for more.
func rounds(t *testing.T, usual int) int {
	if text := os.Getenv("TORRENT_XFER_ROUNDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usual
}

// noPartial checks that what stands at the destination is nothing or the whole file.
func (w *world) noPartial() {
	w.Helper()
	if _, err := os.Stat(filepath.Join(w.dir, testName)); err == nil {
		w.checkRight(&Result{})
	}
}

func TestKilledAndRepeated(t *testing.T) {
	t.Parallel()
	const size, rate = 3 << 20, 8 << 20
	for round := range rounds(t, 21) {
		mode := modes[round%len(modes)]
		w := newWorld(t, size).mode(mode)
		for range 3 {
			w.mirror(mirrortest.Config{Rate: rate, Delay: 2 * time.Millisecond})
		}
		cmd := w.child()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(450)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		w.noPartial()
		if round%4 == 3 {
			w.spoilTail()
		}
		held := w.held()
		if round%4 == 3 {
			held -= spoiled + blockSize
		}
		res := w.mustFetch()
		if res.Resumed < held-blockSize || res.Received > size*5/4-res.Resumed/2 { // some of it may come twice
			t.Errorf("%s: %d bytes were there after the kill: %s", mode, held, w.describe(res))
		}
		if mode != "plain" && res.Verified == "" {
			t.Errorf("%s: not verified", mode)
		}
	}
}

// held is what the journal knows of the partial file.
func (w *world) held() (n int64) {
	partial := partialPath(w.dest())
	data, err := os.ReadFile(partial + journalSuffix)
	if _, gone := os.Stat(partial); err != nil || gone != nil {
		return 0
	}
	_, sums, _ := readJournal(data)
	for b := range sums {
		n += min(blockSize, int64(len(w.data))-int64(b)*blockSize)
	}
	return n
}

const spoiled = 200_000

// spoilTail overwrites the end of the partial file as a power loss might.
func (w *world) spoilTail() {
	f, err := os.OpenFile(partialPath(filepath.Join(w.dir, testName)), os.O_RDWR, 0)
	if err != nil {
		return // killed before there was one, or after the end
	}
	defer f.Close()
	info, _ := f.Stat()
	n := min(spoiled, info.Size())
	junk := make([]byte, n)
	for i := range junk {
		junk[i] = byte(i * 7)
	}
	f.WriteAt(junk, info.Size()-n)
}

func TestInterruptedAndRepeated(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, 4<<20).mode(mode)
		for range 3 {
			w.mirror(mirrortest.Config{Rate: 4 << 20})
		}
		w.interruptAt(2 << 20)
		res := w.mustFetch()
		if res.Resumed < 1<<20 || res.Received > int64(len(w.data))-res.Resumed/2 {
			t.Errorf("%s: %s", mode, w.describe(res))
		}
	}
}

// The torrent may appear, vanish or be another one between runs; the mirrors may be others.
func TestResumeAcrossTorrentAndMirrors(t *testing.T) {
	for _, before := range modes {
		for _, after := range modes {
			t.Run(before+", then "+after, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 4<<20).mode(before)
				w.mirror(mirrortest.Config{Rate: 4 << 20})
				w.mirror(mirrortest.Config{Rate: 4 << 20})
				w.interruptAt(2 << 20)
				w.torrent, w.mirrors, w.request = nil, nil, Request{}
				w.mode(after)
				w.mirror(mirrortest.Config{Rate: 4 << 20})
				w.mirror(mirrortest.Config{Rate: 4 << 20})
				res := w.mustFetch()
				if res.Received > 3<<20 {
					t.Error(w.describe(res))
				}
			})
		}
	}
}

// Nothing of another version of the file may survive in the new one.
func TestResumeOfAnotherVersion(t *testing.T) {
	for _, before := range modes {
		for _, after := range modes {
			for _, sameSize := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, then %s, same size %v", before, after, sameSize), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, 4<<20).mode(before)
					w.mirror(mirrortest.Config{Rate: 4 << 20})
					w.mirror(mirrortest.Config{Rate: 4 << 20})
					w.interruptAt(2 << 20)
					w.torrent, w.mirrors, w.request = nil, nil, Request{}
					w.data = append([]byte(nil), w.data...) // the old mirrors may still be sending
					for i := range w.data {
						w.data[i] ^= 0x55
					}
					if !sameSize {
						w.data = w.data[:3<<20]
					}
					w.mode(after)
					newer := mirrortest.Bytes(w.data)
					newer.ModTime = newer.ModTime.Add(time.Hour)
					for range 2 {
						files := map[string]mirrortest.File{testPath: newer}
						if w.torrent != nil {
							files[testPath+".torrent"] = mirrortest.Bytes(w.torrent)
						}
						w.mirror(mirrortest.Config{Rate: 8 << 20, Files: files})
					}
					w.mustFetch()
				})
			}
		}
	}
}

func TestTwoProcessesDoTheWorkOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		w := newWorld(t, 2<<20).mode(mode)
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if out, err := w.child().Output(); err != nil {
					t.Errorf("%s: %v %s", mode, err, out)
				}
			})
		}
		wg.Wait()
		w.checkRight(&Result{})
		if n := w.sent(); n >= 4<<20 {
			t.Errorf("%s: mirrors sent %d bytes", mode, n)
		}
	}
}

// Whoever has the lock keeps his partial file, whatever those do who come meanwhile.
func TestLockedPartialStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "partial")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3000 {
				f, err := openOwn(path)
				if err != nil {
					t.Error(err)
					return
				}
				d := &destination{partial: path, file: f}
				if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && d.inPlace() {
					runtime.Gosched()
					if !d.inPlace() {
						t.Error("somebody removed a partial file that is locked")
					}
					d.abandon()
				}
				f.Close()
			}
		})
	}
	wg.Wait()
}

func TestForeignPartOfADestinationIsSalvaged(t *testing.T) {
	w := newWorld(t, 4<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	part := append([]byte(nil), w.data[:3<<20]...)
	copy(part[1<<20:], "rubbish") // one piece is wrong
	if err := os.WriteFile(filepath.Join(w.dir, testName), part, 0o644); err != nil {
		t.Fatal(err)
	}
	res := w.mustFetch()
	if res.Received > 3<<20 {
		t.Error(w.describe(res))
	}
}

func TestRightDestinationIsLeftAlone(t *testing.T) {
	w := newWorld(t, 1<<20).withDigest()
	w.mirror(mirrortest.Config{})
	if err := os.WriteFile(filepath.Join(w.dir, testName), w.data, 0o600); err != nil {
		t.Fatal(err)
	}
	if res := w.mustFetch(); res.Received != 0 || w.sent() != 0 {
		t.Error(w.describe(res))
	}
}

func TestVanishedDirectory(t *testing.T) {
	w := newWorld(t, 2<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.meanwhile(1<<20, func() { os.RemoveAll(w.dir) })
	if _, err := w.fetch(); !errors.Is(err, ErrWrite) {
		t.Errorf("error %v, want %v", err, ErrWrite)
	}
}

// A full disk ends with the right error; when there is room again the next run goes on.
func TestFullDisk(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, 4<<20).mode(mode)
		w.dir = filepath.Join(w.dir, "small")
		os.Mkdir(w.dir, 0o755)
		if err := unix.Mount("tmpfs", w.dir, "tmpfs", 0, "size=3m"); err != nil {
			if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
				t.Fatal(err)
			}
			t.Skip("cannot mount a small file system here:", err)
		}
		defer unix.Unmount(w.dir, unix.MNT_DETACH)
		w.mirror(mirrortest.Config{})
		w.mirror(mirrortest.Config{})
		if _, err := w.fetch(); !errors.Is(err, ErrWrite) || !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("%s: error %v, want %v", mode, err, unix.ENOSPC)
		}
		w.noPartial()
		if err := unix.Mount("tmpfs", w.dir, "tmpfs", unix.MS_REMOUNT, "size=12m"); err != nil {
			t.Fatal(err)
		}
		res := w.mustFetch()
		if res.Received > 3<<20 {
			t.Errorf("%s: %s", mode, w.describe(res))
		}
		unix.Unmount(w.dir, unix.MNT_DETACH)
	}
}

func FuzzReadJournal(f *testing.F) {
	f.Add(append(record('H', []byte(`{"version":1,"size":40000}`)), record('B', []byte{0, 0, 0, 0, 1, 2, 3, 4})...))
	f.Add(record('B', []byte{255, 255, 255, 255, 1, 2, 3, 4, 5, 6, 7, 8}))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, whole := readJournal(data)
		if whole < 0 || whole > int64(len(data)) {
			t.Errorf("whole up to %d of %d", whole, len(data))
		}
	})
}

// A body of unknown length that is given up is counted as what it was.
func TestDuplicateOfUnknownLength(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 300_000)
	w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.NoLength}, {Kind: mirrortest.Vanish, At: 200_000}}})
	newer := mirrortest.Bytes(w.data)
	newer.ModTime = newer.ModTime.Add(time.Hour)
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{testPath: newer}, Faults: []mirrortest.Fault{{Kind: mirrortest.NoLength}}})
	if res := w.mustFetch(); res.Duplicate < 100_000 || res.Duplicate > 200_000 {
		t.Error(w.describe(res))
	}
}
