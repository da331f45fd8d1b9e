package fetcher

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

// growing is a world whose file grows in order.
func growing(t *testing.T, size int) *world {
	w := newWorld(t, size).withDigest()
	w.request.Grow = true
	return w
}

func (w *world) dest() string { return filepath.Join(w.dir, testName) }

func (w *world) checkDate() {
	w.Helper()
	if info, err := os.Stat(w.dest()); err != nil || !info.ModTime().Equal(mirrortest.Bytes(nil).ModTime) {
		w.Errorf("the file is not of the server's date: %v", err)
	}
}

// watch looks at the file until the returned function is called, which gives the largest step by which it grew. Whatever is
// in it has to be a beginning of the right file, if honest.
func (w *world) watch(honest bool) (end func() int) {
	stop, largest := make(chan struct{}), make(chan int)
	go func() {
		before, most := 0, 0
		for {
			if got, err := os.ReadFile(w.dest()); err == nil {
				if honest && !bytes.HasPrefix(w.data, got) {
					w.Error("the file held something else than its beginning")
				}
				most = max(most, len(got)-before)
				before = len(got)
			}
			select {
			case <-stop:
				largest <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int { close(stop); return <-largest }
}

func TestGrowsInOrder(t *testing.T) {
	for _, torrent := range []bool{false, true} {
		w := growing(t, 6<<20)
		if torrent {
			w.withTorrent(256 << 10)
		}
		for _, rate := range []int64{2 << 20, 2 << 20, 1 << 20} {
			w.mirror(mirrortest.Config{Rate: rate})
		}
		end := w.watch(true)
		res := w.mustFetch()
		if most := end(); most == len(w.data) {
			t.Errorf("torrent %v: nothing was to be seen before the end", torrent)
		}
		w.checkDate()
		gave := 0
		for _, s := range res.Sources {
			if s.Bytes > 0 {
				gave++
			}
		}
		if gave < 2 {
			t.Errorf("torrent %v: only one mirror was used\n%s", torrent, w.describe(res))
		}
		if res.Duplicate > res.Size/4 {
			t.Errorf("torrent %v: %d bytes were fetched twice", torrent, res.Duplicate)
		}
	}
}

func TestGrowsPastALiar(t *testing.T) {
	t.Parallel()
	for _, torrent := range []bool{false, true} {
		w := growing(t, 4<<20)
		if torrent {
			w.withTorrent(64 << 10)
		}
		for i := range 4 {
			cfg := mirrortest.Config{Rate: 2 << 20}
			if i == 1 {
				for at := int64(0); at < 4<<20; at += 50_000 {
					cfg.Faults = append(cfg.Faults, mirrortest.Fault{Kind: mirrortest.FlipBit, At: at, Path: testPath})
				}
			}
			w.mirror(cfg)
		}
		end := w.watch(torrent) // without pieces nobody knows until the end
		w.mustFetch()
		end()
		w.checkDate()
	}
}

func TestGrowsOnFromWhatIsThere(t *testing.T) {
	t.Parallel()
	const n = 3<<20 + 12345
	for name, there := range map[string]func(data []byte) []byte{
		"a part":       func(data []byte) []byte { return data[:n] },
		"other bytes":  func(data []byte) []byte { return bytes.Repeat([]byte{7}, n) },
		"a wrong tail": func(data []byte) []byte { return append(bytes.Clone(data[:n]), "wrong"...) },
		"too much":     func(data []byte) []byte { return append(bytes.Clone(data), "more"...) },
		"all of it":    func(data []byte) []byte { return data },
		"nothing":      func([]byte) []byte { return nil },
	} {
		for _, torrent := range []bool{false, true} {
			w := growing(t, 5<<20)
			if torrent {
				w.withTorrent(128 << 10)
			}
			// Not so fast that reading what is here once more costs less than another request.
			w.mirror(mirrortest.Config{Rate: 8 << 20})
			w.mirror(mirrortest.Config{Rate: 8 << 20})
			if err := os.WriteFile(w.dest(), there(w.data), 0o600); err != nil {
				t.Fatal(err)
			}
			os.Chtimes(w.dest(), time.Time{}, mirrortest.Bytes(nil).ModTime)
			res := w.mustFetch()
			if kept := int64(len(w.data)) - res.Received; name == "a part" && kept < n/2 {
				t.Errorf("%s, torrent %v: only %d bytes were kept", name, torrent, kept)
			}
			w.checkDate()
		}
	}
}

func TestGrowsBehindALink(t *testing.T) {
	w := growing(t, 1<<20)
	w.mirror(mirrortest.Config{})
	real := filepath.Join(t.TempDir(), "real")
	if err := os.Symlink(real, w.dest()); err != nil {
		t.Fatal(err)
	}
	w.mustFetch()
	if to, err := os.Readlink(w.dest()); err != nil || to != real {
		t.Errorf("the link became %q, %v", to, err)
	}
}

func TestGrowingIsInterrupted(t *testing.T) {
	w := growing(t, 8<<20)
	for range 3 {
		w.mirror(mirrortest.Config{Rate: 2 << 20})
	}
	received := int64(0)
	for range 4 {
		received += w.interrupted(1<<20, nil).Received
		got, err := os.ReadFile(w.dest())
		if err != nil || !bytes.HasPrefix(w.data, got) {
			t.Fatalf("interrupted, the file holds %d bytes that are not its beginning, %v", len(got), err)
		}
		w.checkDate()
	}
	res := w.mustFetch()
	if received += res.Received; received > int64(len(w.data))*15/10 {
		t.Errorf("%d bytes received for %d", received, len(w.data))
	}
}

// Another program went on with the file meanwhile, or took it away.
func TestGrowsOnAfterOthers(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]func(w *world) error{
		"more":    func(w *world) error { return os.WriteFile(w.dest(), w.data[:6<<20], 0o600) },
		"less":    func(w *world) error { return os.Truncate(w.dest(), 1000) },
		"nothing": func(w *world) error { return os.Remove(w.dest()) },
		"wrong":   func(w *world) error { return os.WriteFile(w.dest(), bytes.Repeat([]byte{1}, 6<<20), 0o600) },
	} {
		w := growing(t, 8<<20)
		w.mirror(mirrortest.Config{Rate: 4 << 20})
		w.interrupted(2<<20, nil)
		if err := meddle(w); err != nil {
			t.Fatal(err)
		}
		res := w.mustFetch()
		if name == "more" && res.Received > 2<<20+blockSize {
			t.Errorf("%s: %d bytes received", name, res.Received)
		}
	}
}

func TestNothingGrows(t *testing.T) {
	w := growing(t, 2<<20)
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{"/other": mirrortest.Bytes(nil)}})
	if _, err := w.fetch(); !errors.Is(err, ErrNotFound) {
		t.Errorf("no mirror has the file, and yet: %v", err)
	}
	w.checkOnly()
}
