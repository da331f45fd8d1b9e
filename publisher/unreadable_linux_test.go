package publisher

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody calls f in a thread that permissions hold for, even if root runs the tests. What f does in other threads it
// does as before.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// publishAsNobody runs as one who may write to dir, but need not be able to read all in it.
func publishAsNobody(t *testing.T, dir string, o Options) (got outcome) {
	t.Helper()
	chmod(t, filepath.Dir(dir), 0o755)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && os.Getuid() == 0 {
			err = os.Lchown(path, 65534, 65534)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() { got = publish(t, dir, o) })
	return got
}

// What cannot be looked at is perhaps there: its torrents stay, whatever the layout.
func TestUnreadableDirectory(t *testing.T) {
	for name, o := range map[string]Options{"beside": {}, "flat": {Flat: true}, "out": {Out: "torrents"}} {
		t.Run(name, func(t *testing.T) {
			dir := packageTree(t, "a.deb", "secret/deep/b.deb", "secret/c.deb", "z.deb")
			if o.Out != "" {
				o.Out = filepath.Join(dir, o.Out)
			}
			publish(t, dir, o).want(t, 0, 4, 4, 0, 0)
			want := outputs(t, dir)
			delete(want, "z.deb.torrent")
			delete(want, "torrents/z.deb.torrent")
			chmod(t, filepath.Join(dir, "secret"), 0)
			remove(t, filepath.Join(dir, "z.deb"))
			for _, o.Prune = range []bool{false, true} {
				got := publishAsNobody(t, dir, o)
				wantLines(t, got.told(Problem), "secret: permission denied")
				wantLines(t, got.told(Note))
				chmod(t, filepath.Join(dir, "secret"), 0o700)
				wantSame(t, want, outputs(t, dir))
				chmod(t, filepath.Join(dir, "secret"), 0)
			}
			chmod(t, filepath.Join(dir, "secret"), 0o755)
			publish(t, dir, o).want(t, 3, 0, 0, 0, 0)
		})
	}
}

// So do those of a link whose end cannot be seen.
func TestUnreadableLinkTarget(t *testing.T) {
	dir := packageTree(t, "pool/a.deb", "b.deb")
	symlink(t, "pool/a.deb", filepath.Join(dir, "link.deb"))
	publish(t, dir, Options{}).want(t, 0, 2, 3, 0, 0)
	chmod(t, filepath.Join(dir, "pool"), 0)
	got := publishAsNobody(t, dir, Options{})
	wantLines(t, got.told(Problem), "link.deb: permission denied", "pool: permission denied")
	chmod(t, filepath.Join(dir, "pool"), 0o755)
	publish(t, dir, Options{}).want(t, 3, 0, 0, 0, 0)
}

func TestUnreadableTree(t *testing.T) {
	dir := packageTree(t, "a.deb")
	publish(t, dir, Options{})
	chmod(t, dir, 0o300)
	chmod(t, filepath.Dir(dir), 0o755)
	var got outcome
	asNobody(t, func() { got = runWith(Publish, dir, Options{}) })
	if got.err == nil {
		t.Error("no error")
	}
	chmod(t, dir, 0o755)
	wantLines(t, outputNames(t, dir), "a.deb.torrent")
}

func TestUnreadableFile(t *testing.T) {
	dir := packageTree(t, "a.deb")
	big := filepath.Join(dir, "big.iso")
	write(t, big, nil)
	if err := os.Truncate(big, large); err != nil { // this size is opened by the thread that is nobody
		t.Fatal(err)
	}
	touch(t, big, longAgo)
	publish(t, dir, Options{}).want(t, 0, 2, 2, 0, 0)
	want := outputs(t, dir)
	touch(t, big, longAgo.Add(1))
	chmod(t, big, 0)
	got := publishAsNobody(t, dir, Options{})
	got.want(t, 1, 0, 0, 0, 1)
	wantLines(t, got.told(Problem), "big.iso: permission denied")
	wantSame(t, want, outputs(t, dir))
	chmod(t, big, 0o644)
	publish(t, dir, Options{}).want(t, 1, 1, 0, 0, 0)
}

// Whoever may read a file may read its torrent, whatever the umask is.
func TestOutputsAreReadable(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	o := Options{Mirrors: []string{"http://m.example"}, Metalink: true}
	for _, out := range []string{"", "new/out"} {
		dir := packageTree(t, "sub/a.deb", "sub/b.deb")
		at, o := dir, o
		if out != "" {
			at = filepath.Join(dir, out)
			o.Out = at
		}
		chmod(t, dir, 0o755)
		chmod(t, filepath.Join(dir, "sub"), 0o755)
		chmod(t, filepath.Join(dir, "sub/a.deb"), 0o644)
		wantModes := func(when string) {
			t.Helper()
			for name, want := range map[string]fs.FileMode{"a.deb": 0o644, "b.deb": 0o600} {
				for _, suffix := range []string{torrentSuffix, metalinkSuffix} {
					info, err := os.Stat(filepath.Join(at, "sub", name+suffix))
					if err != nil || info.Mode() != want {
						t.Errorf("%q, %s: %s%s: %v, %v", out, when, name, suffix, info.Mode(), err)
					}
				}
			}
			if info, err := os.Stat(filepath.Join(at, "sub")); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%q: %v, %v", out, info.Mode(), err)
			}
		}
		publish(t, dir, o)
		wantModes("new")
		for _, suffix := range []string{torrentSuffix, metalinkSuffix} {
			chmod(t, filepath.Join(at, "sub/a.deb"+suffix), 0o600)
		}
		publish(t, dir, o).want(t, 2, 0, 0, 0, 0)
		wantModes("unchanged")
		for _, suffix := range []string{torrentSuffix, metalinkSuffix} {
			chmod(t, filepath.Join(at, "sub/a.deb"+suffix), 0o600)
		}
		remove(t, filepath.Join(at, StateName))
		publish(t, dir, o).want(t, 0, 2, 0, 0, 0)
		wantModes("without a state")
	}
}
