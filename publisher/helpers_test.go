package publisher

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"torrent-xfer/metainfo"
)

var longAgo = time.Date(2020, 1, 2, 3, 4, 5, 678901234, time.UTC)

// bytesOf are always the same for one seed.
func bytesOf(seed string, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(b)
	return b
}

// write makes a file that was modified long ago, so that its age leaves no doubt.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	touch(t, path, longAgo)
}

func touch(t testing.TB, path string, when time.Time) {
	t.Helper()
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
}

// A packageTree is a directory with a few packages, all of 300 kB.
func packageTree(t testing.TB, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		write(t, filepath.Join(dir, name), bytesOf(name, 300_000))
	}
	return dir
}

// outcome is what a run reported.
type outcome struct {
	Report
	err    error
	events []Event
}

func runWith(f func(context.Context, string, Options) (*Report, error), dir string, o Options) outcome {
	var got outcome
	o.OnEvent = func(e Event) { got.events = append(got.events, e) }
	report, err := f(context.Background(), dir, o)
	got.Report, got.err = *report, err
	return got
}

// publish runs once; nothing may go wrong as a whole.
func publish(t testing.TB, dir string, o Options) outcome {
	t.Helper()
	got := runWith(Publish, dir, o)
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got
}

// told are the events of a kind, sorted: "path: message", or the path alone.
func (o outcome) told(kind EventKind) (lines []string) {
	for _, e := range o.events {
		if e.Kind == kind {
			lines = append(lines, strings.TrimSuffix(e.Path+": "+e.Message, ": "))
		}
	}
	slices.Sort(lines)
	return lines
}

// want compares the numbers of a run with those expected.
func (o outcome) want(t testing.TB, unchanged, hashed, written, removed, problems int) {
	t.Helper()
	got := [...]int{o.Unchanged, o.Hashed, o.Written, o.Removed, o.Problems}
	if want := [...]int{unchanged, hashed, written, removed, problems}; got != want {
		t.Fatalf("unchanged, hashed, written, removed, problems: %v, want %v\n%s", got, want, o.text())
	}
}

func (o outcome) text() string {
	var b strings.Builder
	for _, e := range o.events {
		if e.Kind > Progress {
			fmt.Fprintf(&b, "%d %s: %s\n", e.Kind, e.Path, e.Message)
		}
	}
	return b.String()
}

func wantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// snapshot tells of all that is below dir: mode, size, times, inode, links' targets, and content.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		switch {
		case d.Type().IsRegular():
			content, err = os.ReadFile(path)
		case d.Type()&fs.ModeSymlink != 0:
			var to string
			to, err = os.Readlink(path)
			content = []byte(to)
		}
		name, _ := filepath.Rel(dir, path)
		all[name] = fmt.Sprintf("%v %d %v %v %x", info.Mode(), info.Size(), info.ModTime().UnixNano(), inodeOf(info), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// below are the paths of the files below dir.
func below(t testing.TB, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func wantSame(t testing.TB, before, after map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] != before[name] {
			t.Errorf("%s was %q, is %q", name, before[name], after[name])
		}
	}
	for name := range after {
		if before[name] == "" {
			t.Errorf("%s is new", name)
		}
	}
}

// outputs are the contents of the torrents and metalinks below dir.
func outputs(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range below(t, dir) {
		if _, ok := isOutput(filepath.Base(path)); ok {
			name, _ := filepath.Rel(dir, path)
			all[name] = string(read(t, path))
		}
	}
	return all
}

func outputNames(t testing.TB, dir string) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(outputs(t, dir)))
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func hardLink(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(from, to); err != nil {
		t.Fatal(err)
	}
}

// torrentOf is the torrent that somebody else makes of data.
func torrentOf(t testing.TB, name string, data []byte, o metainfo.HashOptions, b metainfo.BuildOptions) []byte {
	t.Helper()
	h, err := metainfo.Hash(context.Background(), strings.NewReader(string(data)), int64(len(data)), o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := metainfo.Build(name, h, b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantFits says that the torrent at path is one of the file with that content.
func wantFits(t testing.TB, path, name string, content []byte) {
	t.Helper()
	want, err := metainfo.HashesOf(read(t, path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	m, err := metainfo.Parse(read(t, path), "")
	if err != nil || m.Name != name || m.Size != int64(len(content)) {
		t.Fatalf("%s: %v, %+v", path, err, m)
	}
	now, err := metainfo.Hash(context.Background(), strings.NewReader(string(content)), want.Size,
		metainfo.HashOptions{Version: want.Version, PieceLength: want.PieceLength})
	if err != nil || len(differences(want, now)) > 0 {
		t.Errorf("%s: %v, %v", path, err, differences(want, now))
	}
}
