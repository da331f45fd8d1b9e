package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

func TestPublishBeside(t *testing.T) {
	dir := packageTree(t, "core/a-1-1-any.pkg.tar.zst", "pool/b_1_all.deb")
	write(t, filepath.Join(dir, "core/core.db"), bytesOf("db", 400_000))
	write(t, filepath.Join(dir, "core/small_1_all.deb"), bytesOf("small", 1000))
	got := publish(t, dir, Options{})
	got.want(t, 0, 2, 2, 0, 0)
	if got.Files != 2 || got.HashedBytes != 600_000 {
		t.Errorf("%+v", got.Report)
	}
	wantLines(t, outputNames(t, dir), "core/a-1-1-any.pkg.tar.zst.torrent", "pool/b_1_all.deb.torrent")
	for name := range outputs(t, dir) {
		file := strings.TrimSuffix(name, torrentSuffix)
		wantFits(t, filepath.Join(dir, name), filepath.Base(file), read(t, filepath.Join(dir, file)))
	}

	before := snapshot(t, dir)
	publish(t, dir, Options{}).want(t, 2, 0, 0, 0, 0)
	wantSame(t, before, snapshot(t, dir))
}

// All that tells a file from what it was leads to its being read again, and nothing else does.
func TestChangesAreNoticed(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, path string)
		hashed int
	}{
		{"nothing", func(*testing.T, string) {}, 0},
		{"size", func(t *testing.T, path string) { write(t, path, bytesOf("longer", 300_001)) }, 1},
		{"a nanosecond", func(t *testing.T, path string) { touch(t, path, longAgo.Add(1)) }, 1},
		{"back in time", func(t *testing.T, path string) { touch(t, path, longAgo.AddDate(-1, 0, 0)) }, 1},
		{"another inode", func(t *testing.T, path string) {
			write(t, path+".new", bytesOf("replaced", 300_000))
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"the mode", func(t *testing.T, path string) { os.Chmod(path, 0o600) }, 0},
		{"another file", func(t *testing.T, path string) { write(t, filepath.Join(filepath.Dir(path), "x.txt"), []byte("x")) }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := packageTree(t, "a.deb", "b.deb")
			publish(t, dir, Options{}).want(t, 0, 2, 2, 0, 0)
			path := filepath.Join(dir, "a.deb")
			test.change(t, path)
			got := publish(t, dir, Options{})
			if got.Hashed != test.hashed || got.Unchanged != 2-test.hashed || got.Problems != 0 {
				t.Errorf("%+v", got.Report)
			}
			wantFits(t, path+torrentSuffix, "a.deb", read(t, path))
			publish(t, dir, Options{}).want(t, 2, 0, 0, 0, 0)
		})
	}
}

// What is as young as its torrent may have been changed after it was read: it is read once more, later.
func TestYoungFilesAreReadAgain(t *testing.T) {
	for range 20 {
		dir := packageTree(t, "a.deb", "coarse.deb")
		now := time.Now().Add(30 * time.Millisecond)
		touch(t, filepath.Join(dir, "a.deb"), now)
		touch(t, filepath.Join(dir, "coarse.deb"), now.Truncate(time.Second).Add(time.Second)) // of a clock that counts seconds
		publish(t, dir, Options{}).want(t, 0, 2, 2, 0, 0)
		if time.Since(now) > clockFine-10*time.Millisecond {
			continue // they were not so young any more
		}
		publish(t, dir, Options{}).want(t, 0, 2, 0, 0, 0)
		return
	}
	t.Error("they were never read while they were young")
}

func TestStill(t *testing.T) {
	at := longAgo.UnixNano()
	for _, test := range []struct {
		mtime, hashed int64
		want          bool
	}{
		{at, at + int64(time.Second), true},
		{at, at + int64(50*time.Millisecond), false},
		{at, at - int64(50*time.Millisecond), false},
		{at, at - int64(time.Hour), true}, // dated into the future
		{1e18, 1e18 + int64(time.Second), false},
		{1e18, 1e18 + int64(3*time.Second), true},
	} {
		e := entry{file: stamp{1, test.mtime, 2}, hashed: test.hashed}
		if got := e.still(stamp{1, test.mtime, 2}); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// A file that is changed, cut, or removed while the run goes on is a problem of its own; the others are done.
func TestFilesThatMove(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, path string)
		want   []string
	}{
		"touched": {func(t *testing.T, path string) { touch(t, path, longAgo.Add(time.Second)) },
			[]string{"a.iso: it was changed while it was read"}},
		"written": {func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString("x")
			f.Close()
		}, []string{"a.iso: it was changed while it was read"}},
		"cut":     {func(t *testing.T, path string) { os.Truncate(path, 1<<20) }, []string{"a.iso: it was changed while it was read"}},
		"grown":   {func(t *testing.T, path string) { os.Truncate(path, 9<<20) }, []string{"a.iso: it was changed while it was read"}},
		"removed": {func(t *testing.T, path string) { remove(t, path) }, nil}, // what is open stays readable
	} {
		t.Run(name, func(t *testing.T) {
			dir := packageTree(t, "b.deb")
			path := filepath.Join(dir, "a.iso")
			write(t, path, bytesOf("iso", 8<<20))
			done := false
			got := runWith(func(ctx context.Context, dir string, o Options) (*Report, error) {
				hear := o.OnEvent
				o.Jobs = 1
				o.OnEvent = func(e Event) {
					if hear(e); e.Kind == Progress && !done {
						done = true
						test.change(t, path)
					}
				}
				return Publish(ctx, dir, o)
			}, dir, Options{})
			if got.err != nil || !exists(filepath.Join(dir, "b.deb.torrent")) {
				t.Fatalf("%v\n%s", got.err, got.text())
			}
			wantLines(t, got.told(Problem), test.want...)
			if test.want != nil && exists(path+torrentSuffix) {
				t.Error("it has a torrent")
			}
			got = publish(t, dir, Options{})
			if got.Problems != 0 {
				t.Errorf("later:\n%s", got.text())
			}
			if exists(path) != exists(path+torrentSuffix) {
				t.Error("later its torrent is not as the file")
			}
		})
	}
}

// A torrent that surely does not fit any more is worse than none.
func TestChangingFileLosesItsTorrent(t *testing.T) {
	dir := packageTree(t, "other.deb")
	path := filepath.Join(dir, "a.iso")
	write(t, path, bytesOf("iso", 8<<20))
	o := Options{Mirrors: []string{"http://m.example"}, Metalink: true}
	publish(t, dir, o).want(t, 0, 2, 4, 0, 0)
	write(t, path, bytesOf("new", 8<<20))
	touch(t, path, longAgo.Add(time.Hour))
	var once sync.Once
	got := runWith(func(ctx context.Context, dir string, o Options) (*Report, error) {
		hear := o.OnEvent
		o.OnEvent = func(e Event) {
			if hear(e); e.Kind == Progress {
				once.Do(func() { os.Truncate(path, 7<<20) })
			}
		}
		return Publish(ctx, dir, o)
	}, dir, o)
	got.want(t, 1, 0, 0, 2, 1)
	wantLines(t, got.told(Removed), "a.iso.meta4", "a.iso.torrent")
	if got.HashedBytes != 0 {
		t.Errorf("%d bytes of nothing were hashed", got.HashedBytes)
	}
	publish(t, dir, o).want(t, 1, 1, 2, 0, 0)
}

func TestVanishingBeforeItIsRead(t *testing.T) {
	dir := packageTree(t, "a.deb", "b.deb")
	got := runWith(func(ctx context.Context, dir string, o Options) (*Report, error) {
		hear := o.OnEvent
		o.OnEvent = func(e Event) {
			if hear(e); e.Kind == Planned {
				remove(t, filepath.Join(dir, "a.deb"))
			}
		}
		return Publish(ctx, dir, o)
	}, dir, Options{})
	if got.err != nil {
		t.Fatal(got.err)
	}
	wantLines(t, got.told(Problem), "a.deb: no such file or directory")
	wantLines(t, outputNames(t, dir), "b.deb.torrent")
}

func TestVanishedFiles(t *testing.T) {
	dir := packageTree(t, "x/a.deb", "x/b.deb", "x/c.deb")
	o := Options{Mirrors: []string{"http://m.example"}, Metalink: true}
	publish(t, dir, o).want(t, 0, 3, 6, 0, 0)
	remove(t, filepath.Join(dir, "x/a.deb"))
	write(t, filepath.Join(dir, "x/b.deb"), bytesOf("b", 100)) // too small now
	got := publish(t, dir, o)
	got.want(t, 1, 0, 0, 4, 0)
	wantLines(t, got.told(Removed), "x/a.deb.meta4", "x/a.deb.torrent", "x/b.deb.meta4", "x/b.deb.torrent")

	// What somebody has changed meanwhile is no longer ours.
	write(t, filepath.Join(dir, "x/c.deb.torrent"), []byte("precious"))
	remove(t, filepath.Join(dir, "x/c.deb"))
	write(t, filepath.Join(dir, "x/d.deb"), bytesOf("d", 300_000))
	got = publish(t, dir, o)
	got.want(t, 0, 1, 2, 1, 0)
	wantLines(t, got.told(Removed), "x/c.deb.meta4")
	wantLines(t, got.told(Note), "x/c.deb.torrent: no published file has this name, and it is not known here; --prune removes it")
	o.Prune = true
	got = publish(t, dir, o)
	got.want(t, 1, 0, 0, 1, 0)
	wantLines(t, outputNames(t, dir), "x/d.deb.meta4", "x/d.deb.torrent")
}

// A tree that is not mounted costs no torrents.
func TestNothingIsLeft(t *testing.T) {
	dir, out := packageTree(t, "a.deb"), t.TempDir()
	o := Options{Out: out}
	publish(t, dir, o)
	before := outputs(t, out)
	remove(t, filepath.Join(dir, "a.deb"))
	if got := runWith(Publish, dir, o); !errors.Is(got.err, ErrVanished) {
		t.Errorf("%v", got.err)
	}
	wantSame(t, before, outputs(t, out))
	o.Prune = true // cron jobs say that
	if got := runWith(Publish, dir, o); !errors.Is(got.err, ErrVanished) {
		t.Errorf("%v", got.err)
	}
	o.Prune, o.Force = false, true
	publish(t, dir, o).want(t, 0, 0, 0, 1, 0)
	o.Force = false
	publish(t, dir, o).want(t, 0, 0, 0, 0, 0)
}

// Without its state a run reads everything, and leaves what is right as it is.
func TestStateLost(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, path string){
		"removed": remove1,
		"damaged": func(t *testing.T, path string) { write(t, path, bytesOf("x", 3000)) },
		"empty":   func(t *testing.T, path string) { write(t, path, nil) },
		"NULs":    func(t *testing.T, path string) { write(t, path, make([]byte, 1000)) },
		"cut":     func(t *testing.T, path string) { os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := packageTree(t, "a.deb", "b.deb")
			o := Options{Mirrors: []string{"http://m.example/"}, Metalink: true}
			publish(t, dir, o)
			state := filepath.Join(dir, StateName)
			want := read(t, state)
			before := snapshot(t, dir)
			lose(t, state)
			got := publish(t, dir, o)
			got.want(t, 0, 2, 0, 0, 0)
			if len(read(t, state)) != len(want) {
				t.Error("the state is not as it was")
			}
			after := snapshot(t, dir)
			for _, m := range []map[string]string{before, after} {
				delete(m, StateName)
				delete(m, ".")
			}
			wantSame(t, before, after)
			publish(t, dir, o).want(t, 2, 0, 0, 0, 0)
		})
	}
}

func remove1(t *testing.T, path string) { remove(t, path) }

// Other options make other torrents. The files are read only if the hashes are to be others.
func TestOptionsChange(t *testing.T) {
	mirror := []string{"http://m.example/"}
	for _, test := range []struct {
		name        string
		from, to    Options
		hashed      int
		written     int
		removed     int
		infoChanges bool
	}{
		{"mirrors", Options{}, Options{Mirrors: mirror}, 0, 2, 0, false},
		{"no mirrors", Options{Mirrors: mirror}, Options{}, 0, 2, 0, false},
		{"tracker", Options{}, Options{Build: metainfo.BuildOptions{Trackers: [][]string{{"udp://t.example:1/a"}}}}, 0, 2, 0, false},
		{"comment", Options{}, Options{Build: metainfo.BuildOptions{Comment: "x"}}, 0, 2, 0, false},
		{"private", Options{}, Options{Build: metainfo.BuildOptions{Private: true}}, 0, 2, 0, true},
		{"date", Options{}, Options{Build: metainfo.BuildOptions{CreationDate: longAgo}}, 0, 2, 0, false},
		{"a date beyond all years", Options{}, Options{Build: metainfo.BuildOptions{CreationDate: time.Unix(1<<50, 0)}}, 0, 2, 0, false},
		{"date of the file", Options{}, Options{DateOfFile: true}, 0, 2, 0, false},
		{"version", Options{}, Options{Version: metainfo.V1}, 2, 2, 0, true},
		{"piece length", Options{}, Options{PieceLength: 128 << 10}, 2, 2, 0, true},
		{"the usual piece length", Options{}, Options{PieceLength: metainfo.PieceLength(300_000, metainfo.Hybrid)}, 0, 0, 0, false},
		{"metalinks", Options{Mirrors: mirror}, Options{Mirrors: mirror, Metalink: true}, 2, 2, 0, false},
		{"no metalinks", Options{Mirrors: mirror, Metalink: true}, Options{Mirrors: mirror}, 0, 0, 2, false},
		{"mirrors of metalinks", Options{Mirrors: mirror, Metalink: true}, Options{Mirrors: []string{"http://n.example/"}, Metalink: true}, 0, 4, 0, false},
		{"exclude", Options{}, Options{Exclude: []string{"b*"}}, 0, 0, 1, false},
		{"min size", Options{}, Options{MinSize: 1 << 20, Include: []string{"*"}}, 0, 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "min size" {
				dir := packageTree(t, "a.deb", "b.deb")
				publish(t, dir, test.from)
				if got := runWith(Publish, dir, test.to); !errors.Is(got.err, ErrVanished) {
					t.Errorf("%v", got.err)
				}
				return
			}
			dir := packageTree(t, "a.deb", "b.deb")
			publish(t, dir, test.from)
			before, err := metainfo.Parse(read(t, filepath.Join(dir, "a.deb.torrent")), "")
			if err != nil {
				t.Fatal(err)
			}
			got := publish(t, dir, test.to)
			if got.Hashed != test.hashed || got.Written != test.written || got.Removed != test.removed || got.Problems != 0 {
				t.Errorf("%+v\n%s", got.Report, got.text())
			}
			after, err := metainfo.Parse(read(t, filepath.Join(dir, "a.deb.torrent")), "")
			if err != nil {
				t.Fatal(err)
			}
			if (before.InfoHash != after.InfoHash) != test.infoChanges {
				t.Error("the info hash")
			}
			got = publish(t, dir, test.to)
			if got.Unchanged != got.Files || got.Hashed+got.Written+got.Removed+got.Problems != 0 {
				t.Errorf("again: %+v\n%s", got.Report, got.text())
			}

			// From nothing comes the same.
			fresh := packageTree(t, "a.deb", "b.deb")
			publish(t, fresh, test.to)
			if !maps.Equal(outputs(t, dir), outputs(t, fresh)) {
				t.Error("other outputs than those of a first run")
			}
		})
	}
}

func TestTorrentsOfOthers(t *testing.T) {
	dir := packageTree(t, "a.deb")
	path := filepath.Join(dir, "a.deb")
	theirs := torrentOf(t, "a.deb", read(t, path), metainfo.HashOptions{Version: metainfo.V1, PieceLength: 32 << 10},
		metainfo.BuildOptions{CreatedBy: "mktorrent"})
	write(t, path+torrentSuffix, theirs)
	stays := func(when string, got outcome, notes int) {
		t.Helper()
		if got.Written+got.Removed+got.Problems != 0 || !bytes.Equal(read(t, path+torrentSuffix), theirs) {
			t.Errorf("%s: %+v\n%s", when, got.Report, got.text())
		}
		if n := len(got.told(Note)); n != notes {
			t.Errorf("%s:\n%s", when, got.text())
		}
	}
	stays("first", publish(t, dir, Options{}), 1)
	again := publish(t, dir, Options{})
	stays("again", again, 0)
	again.want(t, 1, 0, 0, 0, 0)
	stays("other options", publish(t, dir, Options{Build: metainfo.BuildOptions{Comment: "x"}}), 1)
	stays("other pieces", publish(t, dir, Options{PieceLength: 64 << 10}), 1)
	touch(t, path, longAgo.Add(time.Hour))
	stays("touched", publish(t, dir, Options{}), 1)
	remove(t, filepath.Join(dir, StateName))
	stays("no state", publish(t, dir, Options{}), 1)

	publish(t, dir, Options{Force: true, Build: metainfo.BuildOptions{Comment: "ours"}}).want(t, 0, 1, 1, 0, 0)

	// Theirs does not fit any more.
	write(t, path+torrentSuffix, theirs)
	stays("theirs again", publish(t, dir, Options{}), 1)
	write(t, path, bytesOf("new", 300_000))
	publish(t, dir, Options{}).want(t, 0, 1, 1, 0, 0)
	wantFits(t, path+torrentSuffix, "a.deb", read(t, path))
}

// When the file goes, theirs stays and our metalink goes.
func TestTorrentsOfOthersAreNotRemoved(t *testing.T) {
	dir := packageTree(t, "a.deb", "b.deb")
	path := filepath.Join(dir, "a.deb")
	write(t, path+torrentSuffix, torrentOf(t, "a.deb", read(t, path), metainfo.HashOptions{Version: metainfo.V1}, metainfo.BuildOptions{}))
	o := Options{Mirrors: []string{"http://m.example"}, Metalink: true}
	publish(t, dir, o).want(t, 0, 2, 3, 0, 0)
	remove(t, path)
	got := publish(t, dir, o)
	got.want(t, 1, 0, 0, 1, 0)
	wantLines(t, got.told(Removed), "a.deb.meta4")
	wantLines(t, got.told(Note), "a.deb.torrent: no published file has this name, and it is not known here; --prune removes it")
}

// Who syncs over our torrents costs us no reading, if theirs say the same of the content.
func TestTorrentsOfOthersOverOurs(t *testing.T) {
	dir := packageTree(t, "a.deb", "b.deb")
	o := Options{Mirrors: []string{"http://m.example"}}
	publish(t, dir, o)
	ours := outputs(t, dir)
	for name, content := range map[string][]byte{"a.deb": bytesOf("a.deb", 300_000), "b.deb": bytesOf("other", 300_000)} {
		write(t, filepath.Join(dir, name+".torrent"), torrentOf(t, name, content, metainfo.HashOptions{}, metainfo.BuildOptions{Comment: "theirs"}))
	}
	got := publish(t, dir, o)
	got.want(t, 0, 1, 2, 0, 0)
	if !maps.Equal(outputs(t, dir), ours) {
		t.Error("other torrents than before")
	}
	publish(t, dir, o).want(t, 2, 0, 0, 0, 0)
}

// A torrent that somebody or something spoilt is made anew; what only bears its name stays.
func TestDamagedTorrents(t *testing.T) {
	whole := func(t *testing.T) (dir, path string) {
		dir = packageTree(t, "a.deb")
		publish(t, dir, Options{})
		return dir, filepath.Join(dir, "a.deb.torrent")
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"cut":     func(t *testing.T, path string) { os.Truncate(path, 100) },
		"empty":   func(t *testing.T, path string) { os.Truncate(path, 0) },
		"removed": remove1,
		"a bit": func(t *testing.T, path string) {
			data := read(t, path)
			data[len(data)-30] ^= 1
			write(t, path, data)
		},
		"NULs": func(t *testing.T, path string) { write(t, path, make([]byte, 500)) },
		"another file": func(t *testing.T, path string) {
			write(t, path, torrentOf(t, "a.deb", []byte("x"), metainfo.HashOptions{}, metainfo.BuildOptions{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := whole(t)
			want := read(t, path)
			damage(t, path)
			got := publish(t, dir, Options{})
			if got.Written != 1 || got.Problems != 0 || !bytes.Equal(read(t, path), want) {
				t.Errorf("%+v\n%s", got.Report, got.text())
			}
			publish(t, dir, Options{}).want(t, 1, 0, 0, 0, 0)
		})
	}
	for name, there := range map[string][]byte{"a text": []byte("precious"),
		"another name": torrentOf(t, "b.deb", bytesOf("a.deb", 300_000), metainfo.HashOptions{}, metainfo.BuildOptions{})} {
		t.Run(name, func(t *testing.T) {
			dir := packageTree(t, "a.deb")
			path := filepath.Join(dir, "a.deb.torrent")
			write(t, path, there)
			got := publish(t, dir, Options{})
			wantLines(t, got.told(Problem), "a.deb: there is something else called a.deb.torrent; --force replaces it")
			if !bytes.Equal(read(t, path), there) {
				t.Error("it is gone")
			}
			publish(t, dir, Options{Force: true}).want(t, 0, 1, 1, 0, 0)
		})
	}
	t.Run("empty, and no state", func(t *testing.T) { // as a loss of power leaves it
		dir := packageTree(t, "a.deb")
		write(t, filepath.Join(dir, "a.deb.torrent"), nil)
		publish(t, dir, Options{}).want(t, 0, 1, 1, 0, 0)
	})
}

func TestLinks(t *testing.T) {
	dir := packageTree(t, "pool/a.deb", "real/b.deb")
	write(t, filepath.Join(dir, "../outside.deb"), bytesOf("outside", 300_000))
	symlink(t, "../../pool/a.deb", filepath.Join(dir, "repo/os/a.deb"))
	symlink(t, "../../pool/a.deb", filepath.Join(dir, "repo/os/latest.deb"))
	symlink(t, "latest.deb", filepath.Join(dir, "repo/os/twice.deb"))
	symlink(t, "real", filepath.Join(dir, "dir.deb"))
	symlink(t, "real", filepath.Join(dir, "links"))
	symlink(t, "../outside.deb", filepath.Join(dir, "out.deb"))
	symlink(t, "out.deb", filepath.Join(dir, "indirect.deb"))
	symlink(t, "../../../../../../etc/hostname", filepath.Join(dir, "etc.deb"))
	symlink(t, filepath.Join(dir, "pool/a.deb"), filepath.Join(dir, "absolute.deb"))
	symlink(t, "loop2.deb", filepath.Join(dir, "loop1.deb"))
	symlink(t, "loop1.deb", filepath.Join(dir, "loop2.deb"))
	symlink(t, "nowhere.deb", filepath.Join(dir, "dangling.deb"))
	symlink(t, "nowhere", filepath.Join(dir, "readme"))
	if err := mkfifo(filepath.Join(dir, "fifo.deb")); err != nil {
		t.Fatal(err)
	}
	got := publish(t, dir, Options{})
	got.want(t, 0, 2, 5, 0, 0)
	wantLines(t, got.told(Note),
		"absolute.deb: points to "+dir+"/pool/a.deb; of links only relative ones are followed",
		"dangling.deb: points to nowhere.deb, which is not there",
		"etc.deb: points to ../../../../../../etc/hostname, outside of DIR",
		"fifo.deb: not a regular file",
		"indirect.deb: points to out.deb, which leads out of DIR",
		"loop1.deb: a link that leads in a circle",
		"loop2.deb: a link that leads in a circle",
		"out.deb: points to ../outside.deb, outside of DIR")
	wantLines(t, outputNames(t, dir), "pool/a.deb.torrent", "real/b.deb.torrent", "repo/os/a.deb.torrent",
		"repo/os/latest.deb.torrent", "repo/os/twice.deb.torrent")
	wantFits(t, filepath.Join(dir, "repo/os/twice.deb.torrent"), "twice.deb", read(t, filepath.Join(dir, "pool/a.deb")))
	publish(t, dir, Options{}).want(t, 5, 0, 0, 0, 0)

	// A link that is turned to something else is another file.
	remove(t, filepath.Join(dir, "repo/os/latest.deb"))
	symlink(t, "../../real/b.deb", filepath.Join(dir, "repo/os/latest.deb"))
	publish(t, dir, Options{}).want(t, 3, 0, 2, 0, 0)
	wantFits(t, filepath.Join(dir, "repo/os/twice.deb.torrent"), "twice.deb", read(t, filepath.Join(dir, "real/b.deb")))
	// The one that comes to nothing loses its torrent.
	remove(t, filepath.Join(dir, "repo/os/latest.deb"))
	symlink(t, "../../../outside.deb", filepath.Join(dir, "repo/os/latest.deb"))
	publish(t, dir, Options{}).want(t, 3, 0, 0, 2, 0)
}

func TestHardLinksAreReadOnce(t *testing.T) {
	dir := packageTree(t, "a.deb", "x/b.deb")
	hardLink(t, filepath.Join(dir, "a.deb"), filepath.Join(dir, "x/a.deb"))
	hardLink(t, filepath.Join(dir, "a.deb"), filepath.Join(dir, "x/c.deb"))
	publish(t, dir, Options{}).want(t, 0, 2, 4, 0, 0)
	wantFits(t, filepath.Join(dir, "x/c.deb.torrent"), "c.deb", read(t, filepath.Join(dir, "a.deb")))
	publish(t, dir, Options{}).want(t, 4, 0, 0, 0, 0)

	// A further name costs no reading.
	hardLink(t, filepath.Join(dir, "a.deb"), filepath.Join(dir, "y/d.deb"))
	publish(t, dir, Options{}).want(t, 4, 0, 1, 0, 0)
	// A name that goes takes its own torrent only.
	remove(t, filepath.Join(dir, "a.deb"))
	publish(t, dir, Options{}).want(t, 4, 0, 0, 1, 0)
}

func TestOut(t *testing.T) {
	dir, out := packageTree(t, "core/os/a.deb", "extra/b.deb", "c.deb"), filepath.Join(t.TempDir(), "new", "out")
	before := snapshot(t, dir)
	o := Options{Out: out}
	publish(t, dir, o).want(t, 0, 3, 3, 0, 0)
	wantSame(t, before, snapshot(t, dir))
	wantLines(t, outputNames(t, out), "c.deb.torrent", "core/os/a.deb.torrent", "extra/b.deb.torrent")
	publish(t, dir, o).want(t, 3, 0, 0, 0, 0)

	// Directories that are empty now go too, but not those of others.
	write(t, filepath.Join(out, "extra/readme"), nil)
	remove(t, filepath.Join(dir, "core/os/a.deb"))
	remove(t, filepath.Join(dir, "extra/b.deb"))
	publish(t, dir, o).want(t, 1, 0, 0, 2, 0)
	if exists(filepath.Join(out, "core")) || !exists(filepath.Join(out, "extra/readme")) {
		t.Error("directories")
	}

	// A torrent that goes missing is made from what is known of its file's others.
	write(t, filepath.Join(out, "core/old.deb.torrent"), []byte("old"))
	got := publish(t, dir, o)
	wantLines(t, got.told(Note), "core/old.deb.torrent: no published file has this name, and it is not known here; --prune removes it")
	o.Prune = true
	publish(t, dir, o).want(t, 1, 0, 0, 1, 0)
	wantLines(t, outputNames(t, out), "c.deb.torrent")
}

// The tree of the torrents may lie within that of the files; what else is in it is published as well.
func TestOutWithin(t *testing.T) {
	for _, flat := range []bool{false, true} {
		dir := packageTree(t, "a.deb", "sub/b.deb")
		o := Options{Out: filepath.Join(dir, "sub"), Flat: flat}
		publish(t, dir, o).want(t, 0, 2, 2, 0, 0)
		publish(t, dir, o).want(t, 2, 0, 0, 0, 0)
	}
	dir := packageTree(t, "a.deb")
	if got := runWith(Publish, dir, Options{Out: dir}); !errors.Is(got.err, ErrOptions) {
		t.Errorf("%v", got.err)
	}
	publish(t, dir, Options{Out: dir, Flat: true}).want(t, 0, 1, 1, 0, 0)
}

// What another run has written into a directory of its own is not to be pruned.
func TestPruneLeavesOtherRuns(t *testing.T) {
	for _, o := range []Options{{Flat: true}, {Out: "torrents"}} {
		dir := packageTree(t, "a.deb", "sub/b.deb")
		if o.Out != "" {
			o.Out = filepath.Join(dir, o.Out)
		}
		publish(t, dir, o).want(t, 0, 2, 2, 0, 0)
		got := publish(t, dir, Options{Prune: true})
		got.want(t, 0, 2, 2, 0, 0)
		wantLines(t, got.told(Note))
		publish(t, dir, o).want(t, 2, 0, 0, 0, 0)
	}
	dir, out := packageTree(t, "a.deb"), t.TempDir()
	publish(t, packageTree(t, "b.deb"), Options{Out: filepath.Join(out, "other")})
	publish(t, dir, Options{Out: out, Prune: true}).want(t, 0, 1, 1, 0, 0)
}

func TestFlat(t *testing.T) {
	dir := packageTree(t, "core/a.deb", "extra/b.deb")
	o := Options{Flat: true, Mirrors: []string{"http://m.example/", "http://n.example/"}, Metalink: true}
	publish(t, dir, o).want(t, 0, 2, 4, 0, 0)
	wantLines(t, outputNames(t, dir), "torrents/a.deb.meta4", "torrents/a.deb.torrent", "torrents/b.deb.meta4", "torrents/b.deb.torrent")
	publish(t, dir, o).want(t, 2, 0, 0, 0, 0)
	remove(t, filepath.Join(dir, "core/a.deb"))
	publish(t, dir, o).want(t, 1, 0, 0, 2, 0)
}

// Files that share a name share a torrent, if they are the same. Else the first has it and the others are problems.
func TestFlatCollisions(t *testing.T) {
	dir := packageTree(t, "b/y.deb", "c/z.deb")
	write(t, filepath.Join(dir, "a/x.deb"), bytesOf("x", 300_000))
	write(t, filepath.Join(dir, "b/x.deb"), bytesOf("x", 300_000))
	hardLink(t, filepath.Join(dir, "a/x.deb"), filepath.Join(dir, "c/x.deb"))
	o := Options{Flat: true, Mirrors: []string{"http://m.example/"}, Metalink: true}
	publish(t, dir, o).want(t, 0, 4, 6, 0, 0)
	publish(t, dir, o).want(t, 5, 0, 0, 0, 0)
	want := outputs(t, dir)

	// One of them is another one now.
	write(t, filepath.Join(dir, "b/x.deb"), bytesOf("X", 300_001))
	for range 2 {
		got := publish(t, dir, o)
		wantLines(t, got.told(Problem), "b/x.deb: the torrent of this name is that of another file: a/x.deb")
		if got.Written+got.Removed != 0 {
			t.Errorf("%s", got.text())
		}
		wantSame(t, want, outputs(t, dir))
	}
	// The first goes, its other name inherits.
	remove(t, filepath.Join(dir, "a/x.deb"))
	remove(t, filepath.Join(dir, "c/x.deb"))
	publish(t, dir, o).want(t, 2, 1, 2, 0, 0)
	wantFits(t, filepath.Join(dir, "torrents/x.deb.torrent"), "x.deb", bytesOf("X", 300_001))
	publish(t, dir, o).want(t, 3, 0, 0, 0, 0)
	remove(t, filepath.Join(dir, "b/x.deb"))
	publish(t, dir, o).want(t, 2, 0, 0, 2, 0)
}

// Links of one name in many directories, each to another file.
func TestFlatCollisionsOfLinks(t *testing.T) {
	var want map[string]string
	for round := range 5 {
		dir := packageTree(t, "a/1.iso", "b/2.iso", "c/3.iso")
		for _, name := range []string{"a/1", "b/2", "c/3"} {
			d, n, _ := strings.Cut(name, "/")
			symlink(t, n+".iso", filepath.Join(dir, d, "latest.iso"))
		}
		for range 2 {
			got := publish(t, dir, Options{Flat: true, Jobs: 1 + round})
			wantLines(t, got.told(Problem), "b/latest.iso: the torrent of this name is that of another file: a/latest.iso",
				"c/latest.iso: the torrent of this name is that of another file: a/latest.iso")
			wantFits(t, filepath.Join(dir, "torrents/latest.iso.torrent"), "latest.iso", bytesOf("a/1.iso", 300_000))
			if want == nil {
				want = outputs(t, dir)
			}
			wantSame(t, want, outputs(t, dir))
		}
	}
}

// A dry run reads no file, so it does not know whether another's torrent is right; it does not say that it would be written.
func TestDryRunAndTorrentsOfOthers(t *testing.T) {
	dir := packageTree(t, "a.deb", "b.deb", "c.deb")
	for name, size := range map[string]int{"a.deb": 300_000, "b.deb": 200_000} {
		write(t, filepath.Join(dir, name+torrentSuffix),
			torrentOf(t, name, bytesOf(name, size), metainfo.HashOptions{PieceLength: 32 << 10}, metainfo.BuildOptions{}))
	}
	got := publish(t, dir, Options{DryRun: true})
	wantLines(t, got.told(Wrote), "b.deb.torrent", "c.deb.torrent")
	wantLines(t, publish(t, dir, Options{DryRun: true, Force: true}).told(Wrote), "a.deb.torrent", "b.deb.torrent", "c.deb.torrent")
	wantLines(t, publish(t, dir, Options{}).told(Wrote), got.told(Wrote)...)
	write(t, filepath.Join(dir, "a.deb"), bytesOf("new", 300_000))
	touch(t, filepath.Join(dir, "a.deb"), longAgo.Add(time.Hour))
	wantLines(t, publish(t, dir, Options{DryRun: true}).told(Wrote), "a.deb.torrent")
	remove(t, filepath.Join(dir, StateName))
	write(t, filepath.Join(dir, "a.deb"), bytesOf("a.deb", 300_000))
	wantLines(t, publish(t, dir, Options{DryRun: true}).told(Wrote))
}

func TestUnusedIncludes(t *testing.T) {
	dir := packageTree(t, "a.deb", "b.bin", "c.db")
	got := publish(t, dir, Options{Include: []string{"*.bin", "b*", "*.db", "x/*"}})
	got.want(t, 0, 1, 1, 0, 0)
	wantLines(t, got.told(Note), "*.db: no file has such a name, or only such that are never published",
		"x/*: no file has such a name, or only such that are never published")
}

func TestDryRun(t *testing.T) {
	for name, o := range map[string]Options{"beside": {}, "flat": {Flat: true}, "out": {Out: "out"}, "state": {State: "state"}} {
		t.Run(name, func(t *testing.T) {
			dir := packageTree(t, "a.deb", "b.deb")
			for _, to := range []*string{&o.Out, &o.State} {
				if *to != "" {
					*to = filepath.Join(t.TempDir(), *to)
				}
			}
			o.Mirrors, o.Metalink = []string{"http://m.example"}, true
			all := func() map[string]string {
				s := snapshot(t, dir)
				for _, path := range []string{o.Out, o.State} {
					if exists(path) {
						for name, text := range snapshot(t, path) {
							s[path+name] = text
						}
					}
				}
				return s
			}
			dry := o
			dry.DryRun = true
			before := all()
			for range 2 {
				publish(t, dir, dry).want(t, 0, 2, 4, 0, 0)
			}
			wantSame(t, before, all())

			publish(t, dir, o).want(t, 0, 2, 4, 0, 0)
			remove(t, filepath.Join(dir, "a.deb"))
			write(t, filepath.Join(dir, "c.deb"), bytesOf("c", 300_000))
			before = all()
			got := publish(t, dir, dry)
			got.want(t, 1, 1, 2, 2, 0)
			wantSame(t, before, all())
			want := publish(t, dir, o)
			for _, kind := range []EventKind{Wrote, Removed} {
				wantLines(t, got.told(kind), want.told(kind)...)
			}
			// Without metalinks, and from nothing.
			dry.Metalink = false
			publish(t, dir, dry).want(t, 0, 0, 0, 2, 0)
		})
	}
}

// What runs that were killed have left is cleared away by the next one.
func TestTemporaryFilesAreCleared(t *testing.T) {
	for name, o := range map[string]Options{"beside": {}, "flat": {Flat: true}, "out": {Out: "out"}, "state": {State: "state"}} {
		t.Run(name, func(t *testing.T) {
			dir := packageTree(t, "x/a.deb")
			at, left := filepath.Join(dir, "x"), []string{}
			if o.Flat {
				at = filepath.Join(dir, "torrents")
			}
			if o.Out != "" {
				o.Out = filepath.Join(t.TempDir(), o.Out)
				at = filepath.Join(o.Out, "x")
			}
			stateTemp := filepath.Join(dir, StateName)
			switch {
			case o.State != "":
				o.State = filepath.Join(t.TempDir(), o.State)
				stateTemp = o.State
				write(t, o.State+"2.tmp.BCD", []byte("of another state"))
			case o.Out != "":
				stateTemp = filepath.Join(o.Out, StateName)
			case o.Flat:
				stateTemp = filepath.Join(at, StateName)
			}
			for _, path := range []string{filepath.Join(at, tempPrefix+"ABC"), stateTemp + ".tmp.ABC"} {
				write(t, path, []byte("half"))
				left = append(left, path)
			}
			publish(t, dir, o).want(t, 0, 1, 1, 0, 0)
			for _, path := range left {
				if exists(path) {
					t.Errorf("%s is still there", path)
				}
			}
			if o.State != "" && !exists(o.State+"2.tmp.BCD") {
				t.Error("another state's is gone")
			}
		})
	}

	// The files' own tree is another run's, if the torrents go elsewhere.
	dir := packageTree(t, "a.deb")
	temp := filepath.Join(dir, tempPrefix+"ABC")
	write(t, temp, []byte("half"))
	publish(t, dir, Options{Out: t.TempDir()})
	if !exists(temp) {
		t.Error("another run's temporary file is gone")
	}
}

func TestStateIsNoOtherFile(t *testing.T) {
	dir := packageTree(t, "a.deb")
	precious := filepath.Join(t.TempDir(), "precious")
	write(t, precious, []byte("precious\n"))
	if got := runWith(Publish, dir, Options{State: precious}); !errors.Is(got.err, ErrOptions) {
		t.Errorf("%v", got.err)
	}
	if string(read(t, precious)) != "precious\n" {
		t.Error("it is gone")
	}
	for _, damaged := range []string{"", "\x00\x00\x00\x00", stateHeader + "fl"} {
		write(t, precious, []byte(damaged))
		publish(t, dir, Options{State: precious})
		publish(t, dir, Options{State: precious}).want(t, 1, 0, 0, 0, 0)
		write(t, precious, []byte("\x00"))
	}
}

// One state may serve one layout after the other.
func TestLayoutsDoNotMix(t *testing.T) {
	dir, out, state := packageTree(t, "a.deb"), t.TempDir(), filepath.Join(t.TempDir(), "state")
	for _, o := range []Options{{}, {Flat: true}, {Out: out}, {}} {
		o.State = state
		before := outputs(t, dir)
		if got := publish(t, dir, o); got.Hashed != 1 || got.Removed != 0 {
			t.Errorf("%+v\n%s", got.Report, got.text())
		}
		for name := range before {
			if !exists(filepath.Join(dir, name)) {
				t.Errorf("%s is gone", name)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	dir := packageTree(t, "good.deb", "bad.deb", "short.deb", "none.deb", "broken.deb", "other.deb", "meta.deb", "many.deb")
	write(t, filepath.Join(dir, "one.deb"), bytesOf("one", 1000))
	mirrors := []string{"http://m.example"}
	o := Options{MinSize: -1, Mirrors: mirrors, Metalink: true, PieceLength: 16 << 10}
	publish(t, dir, o)
	if got := runWith(Check, dir, o); got.err != nil || got.Problems != 0 || got.Hashed != 9 || got.HashedBytes != 2_401_000 {
		t.Fatalf("%v %+v\n%s", got.err, got.Report, got.text())
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	flip := func(name string, offsets ...int) {
		data := read(t, at(name))
		for _, i := range offsets {
			data[i] ^= 1
		}
		write(t, at(name), data) // neither size nor time tell it
	}
	flip("bad.deb", 16<<10, 40_000)
	flip("one.deb", 5)
	flip("many.deb", 0, 20_000, 40_000, 60_000, 80_000, 100_000, 140_000)
	os.Truncate(at("short.deb"), 299_999)
	remove(t, at("none.deb.torrent"))
	os.Truncate(at("broken.deb.torrent"), 50)
	write(t, at("other.deb.torrent"), read(t, at("good.deb.torrent")))
	meta := strings.Replace(string(read(t, at("meta.deb.meta4"))), `type="sha-256">`, `type="sha-256">00`, 1)
	write(t, at("meta.deb.meta4"), []byte(meta[:strings.Index(meta, "</hash>")-2]+meta[strings.Index(meta, "</hash>"):]))
	before := snapshot(t, dir)
	got := runWith(Check, dir, o)
	if got.err != nil {
		t.Fatal(got.err)
	}
	lines := got.told(Problem)
	want := []string{
		"bad.deb: it differs from its torrent: v1 pieces 1-2, v2 pieces 1-2",
		"broken.deb: its torrent: ",
		"many.deb: it differs from its torrent: v1 pieces 0-4, 6, 8, v2 pieces 0-4, 6, 8",
		"meta.deb: its metalink is of another content",
		"none.deb: it has no torrent",
		"one.deb: it differs from its torrent: v1 piece 0, v2 piece 0",
		"other.deb: its torrent is of a file of another name",
		"short.deb: it has 299999 bytes, its torrent says 300000",
	}
	if len(lines) != len(want) {
		t.Fatalf("%s", got.text())
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("%q instead of %q", lines[i], want[i])
		}
	}
	wantSame(t, before, snapshot(t, dir))

	// The state does not hide what --check would have found, and a new run repairs what it can see.
	got = publish(t, dir, o)
	if got.Problems != 0 {
		t.Errorf("%s", got.text())
	}
	lines = runWith(Check, dir, o).told(Problem)
	for i, line := range lines {
		lines[i], _, _ = strings.Cut(line, ":")
	}
	wantLines(t, lines, "bad.deb", "many.deb", "one.deb")
}

func TestCheckWritesNothing(t *testing.T) {
	dir, out := packageTree(t, "a.deb"), filepath.Join(t.TempDir(), "out")
	before := snapshot(t, dir)
	for _, o := range []Options{{}, {Flat: true}, {Out: out}} {
		got := runWith(Check, dir, o)
		if got.err != nil {
			t.Error(got.err)
		}
		wantLines(t, got.told(Problem), "a.deb: it has no torrent")
	}
	wantSame(t, before, snapshot(t, dir))
	if exists(out) {
		t.Error("a directory was made")
	}
}

func TestMetalinks(t *testing.T) {
	dir := packageTree(t, "core/a b+c.deb")
	content := read(t, filepath.Join(dir, "core/a b+c.deb"))
	path := filepath.Join(dir, "core/a b+c.deb.meta4")
	if got := runWith(Publish, dir, Options{Metalink: true}); !errors.Is(got.err, ErrOptions) {
		t.Errorf("%v", got.err)
	}
	for _, version := range []metainfo.Version{metainfo.Hybrid, metainfo.V1, metainfo.V2} {
		o := Options{Mirrors: []string{"http://m.example/", "https://n.example/sub"}, Metalink: true, Version: version}
		publish(t, dir, o).want(t, 0, 1, 2, 0, 0)
		d, err := metalink.Parse(read(t, path))
		if err != nil || len(d.Files) != 1 {
			t.Fatal(err)
		}
		f := d.Files[0]
		sum := digestOf(content)
		if f.Name != "a b+c.deb" || f.Size != 300_000 || !bytes.HasPrefix(f.SHA256, sum[:]) || len(f.SHA256) != 32 {
			t.Errorf("%+v", f)
		}
		var urls []string
		for _, u := range slices.Concat(f.URLs, f.Torrents) {
			urls = append(urls, fmt.Sprintf("%d %s", u.Priority, u.URL))
		}
		wantLines(t, urls, "1 http://m.example/core/a%20b%2Bc.deb", "2 https://n.example/sub/core/a%20b%2Bc.deb",
			"1 http://m.example/core/a%20b%2Bc.deb.torrent", "2 https://n.example/sub/core/a%20b%2Bc.deb.torrent")
		h, err := metainfo.HashesOf(read(t, strings.TrimSuffix(path, metalinkSuffix)+torrentSuffix))
		if err != nil || !bytes.Equal(f.Pieces.Hashes, h.Pieces) || h.Pieces != nil && f.Pieces.Length != h.PieceLength {
			t.Errorf("version %d: pieces: %v", version, err)
		}
		remove(t, path)
		publish(t, dir, o).want(t, 0, 0, 1, 0, 0) // restored without reading
		o.Metalink = false
		publish(t, dir, o).want(t, 0, 0, 0, 1, 0)
		if exists(path) {
			t.Error("it is still there")
		}
	}
}

func TestMetalinkOfOthers(t *testing.T) {
	dir := packageTree(t, "a.deb")
	o := Options{Mirrors: []string{"http://m.example/"}, Metalink: true}
	path := filepath.Join(dir, "a.deb.meta4")
	write(t, path, []byte("precious"))
	got := publish(t, dir, o)
	wantLines(t, got.told(Problem), "a.deb: there is something else called a.deb.meta4; --force replaces it")
	if string(read(t, path)) != "precious" {
		t.Error("it is gone")
	}
}

// The same files and options make the same bytes, in any place, order and number of jobs.
func TestTwoCopies(t *testing.T) {
	names := []string{"core/a.deb", "core/b.deb", "extra/a.deb", "c.iso"}
	for _, o := range []Options{{}, {Flat: true, Exclude: []string{"extra"}}, {DateOfFile: true}} {
		o.Mirrors, o.Metalink = []string{"http://m.example/"}, true
		var want map[string]string
		for _, jobs := range []int{1, 7, 0} {
			slices.Reverse(names)
			dir := packageTree(t, names...)
			write(t, filepath.Join(dir, "big.iso"), bytesOf("big", large+12345))
			hardLink(t, filepath.Join(dir, "core/a.deb"), filepath.Join(dir, "core/z.deb"))
			o.Jobs = jobs
			publish(t, dir, o)
			if want == nil {
				want = outputs(t, dir)
			}
			wantSame(t, want, outputs(t, dir))
		}
	}
}

// Links at the names of outputs are neither followed nor replaced, and what they lead to stays as it is.
func TestHostileLinks(t *testing.T) {
	outside := t.TempDir()
	for _, name := range []string{"file", "dir/file"} {
		write(t, filepath.Join(outside, name), []byte("precious"))
	}
	before := snapshot(t, outside)
	o := Options{Mirrors: []string{"http://m.example"}, Metalink: true, Force: true, Prune: true}

	dir := packageTree(t, "a.deb", "b.deb", "c.deb")
	symlink(t, filepath.Join(outside, "file"), filepath.Join(dir, "a.deb.torrent"))
	symlink(t, filepath.Join(outside, "new"), filepath.Join(dir, "b.deb.torrent"))
	symlink(t, "c.deb", filepath.Join(dir, "c.deb.meta4"))
	symlink(t, filepath.Join(outside, "file"), filepath.Join(dir, "gone.deb.torrent"))
	got := publish(t, dir, o)
	wantLines(t, got.told(Problem), "a.deb: a.deb.torrent: not a regular file", "b.deb: b.deb.torrent: not a regular file",
		"c.deb: c.deb.meta4: not a regular file")
	if !bytes.Equal(read(t, filepath.Join(dir, "c.deb")), bytesOf("c.deb", 300_000)) {
		t.Error("the file was overwritten")
	}
	wantSame(t, before, snapshot(t, outside))

	// Below another directory of the outputs.
	dir, out := packageTree(t, "x/a.deb", "y/b.deb"), t.TempDir()
	symlink(t, filepath.Join(outside, "dir"), filepath.Join(out, "x"))
	symlink(t, filepath.Join(outside, "nowhere"), filepath.Join(out, "y"))
	o.Out = out
	if got := runWith(Publish, dir, o); got.err != nil || got.Problems != 2 {
		t.Errorf("%v\n%s", got.err, got.text())
	}
	wantSame(t, before, snapshot(t, outside))

	// The place of the flat layout, and the state.
	for _, name := range []string{"torrents", StateName} {
		dir = packageTree(t, "a.deb")
		symlink(t, outside, filepath.Join(dir, name))
		if got := runWith(Publish, dir, Options{Flat: name == "torrents"}); got.err == nil {
			t.Errorf("%s: no error", name)
		}
		wantSame(t, before, snapshot(t, outside))
	}
}

// The tree's own links lead nowhere that a removal could do harm.
func TestRemovalStaysWithin(t *testing.T) {
	dir, out := packageTree(t, "x/a.deb", "b.deb"), t.TempDir()
	publish(t, dir, Options{Out: out})
	if err := os.Rename(filepath.Join(out, "x"), filepath.Join(out, "real")); err != nil {
		t.Fatal(err)
	}
	symlink(t, "real", filepath.Join(out, "x"))
	remove(t, filepath.Join(dir, "x/a.deb"))
	publish(t, dir, Options{Out: out})
	if !exists(filepath.Join(out, "x")) {
		t.Error("a link was taken for an empty directory")
	}
}

func TestInterrupted(t *testing.T) {
	dir := packageTree(t, "a.deb", "b.deb", "c.deb", "d.deb")
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(context.Background())
	got := runWith(func(_ context.Context, dir string, o Options) (*Report, error) {
		hear := o.OnEvent
		o.OnEvent = func(e Event) {
			if hear(e); e.Kind == Wrote {
				cancel(why)
			}
		}
		return Publish(ctx, dir, o)
	}, dir, Options{Jobs: 1})
	if !errors.Is(got.err, why) || got.Written == 0 || got.Written == 4 || got.Problems != 0 {
		t.Fatalf("%v %+v\n%s", got.err, got.Report, got.text())
	}
	publish(t, dir, Options{}).want(t, got.Written, 4-got.Written, 4-got.Written, 0, 0)
}

// Names that are no text, characters that are none, and names that ".torrent" makes too long.
func TestOddNames(t *testing.T) {
	long := strings.Repeat("n", 243) + ".deb"
	dir := packageTree(t, "raw\xff/a.deb", "b\xfe.deb", "new\nline.deb", "e\u0301 %41+~:#?&.deb", long, "n"+long)
	got := publish(t, dir, Options{Mirrors: []string{"http://m.example/"}})
	for _, p := range got.told(Problem) {
		if !strings.HasPrefix(p, "b\xfe.deb: ") && !strings.HasPrefix(p, "new\nline.deb: ") && !strings.HasPrefix(p, "n"+long+": ") {
			t.Error(p)
		}
	}
	if got.Hashed != got.Written {
		t.Errorf("what gets no torrent is read: %+v", got.Report)
	}
	got2 := publish(t, dir, Options{Mirrors: []string{"http://m.example/"}})
	got2.want(t, got.Written, 0, 0, 0, got.Problems)
	if len(got2.told(Note)) > 0 {
		t.Error(got2.text())
	}
	m, err := metainfo.Parse(read(t, filepath.Join(dir, "raw\xff/a.deb.torrent")), "")
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, m.WebSeeds, "http://m.example/raw%FF/a.deb")
	if m, err = metainfo.Parse(read(t, filepath.Join(dir, "e\u0301 %41+~:#?&.deb.torrent")), ""); err != nil {
		t.Fatal(err)
	}
	wantLines(t, m.WebSeeds, "http://m.example/e%CC%81%20%2541%2B~:%23%3F&.deb")
}
