package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func entryOf(seed string) *entry {
	e := &entry{file: stamp{123456, longAgo.UnixNano(), 1<<63 + 5}, hashed: -7, settings: 1 << 62, hashes: digestOf([]byte(seed + "h")),
		torrent: product{stamp{77, -1, 3}, digestOf([]byte(seed)), len(seed)%2 == 0}}
	if len(seed)%3 == 0 {
		e.sha256 = string(bytesOf(seed, 32))
		e.metalink = product{stamp{1, 2, 3}, digestOf([]byte(seed + "m")), len(seed)%2 == 1}
	}
	return e
}

func TestStateEntriesComeBack(t *testing.T) {
	for _, path := range []string{"a", "a b/c.deb", "a\nb", `q"\`, "ü/\u2028", "raw\xff.deb", "raw\xfe/x.deb", strings.Repeat("x", 255)} {
		e := entryOf(path)
		got, back, ok := parseEntry(formatEntry(path, e))
		if !ok || got != path || *back != *e {
			t.Errorf("%q: %q, %+v, %v, want %+v", path, got, back, ok, e)
		}
		if got, back, ok := parseEntry(formatEntry(path, nil)); !ok || got != path || back != nil {
			t.Errorf("%q, forgotten: %q, %v, %v", path, got, back, ok)
		}
		s := state{entries: map[string]*entry{}}
		if line := stateLine(path, e); strings.Count(line, "\n") != 1 || !s.take(strings.TrimSuffix(line, "\n")) || s.entries[path] == nil {
			t.Errorf("%q is not taken from its own line", path)
		}
	}
}

// stateFile makes one of the layout "beside".
func stateFile(lines ...string) []byte {
	return []byte(stateHeader + "beside\n" + strings.Join(lines, ""))
}

func readState(t *testing.T, data []byte) *state {
	t.Helper()
	s := &state{layout: "beside", entries: map[string]*entry{}}
	if _, err := s.read(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStateSkipsWhatIsDamaged(t *testing.T) {
	a, b, c := stateLine("a", entryOf("a")), stateLine("b", entryOf("b")), stateLine("c", entryOf("c"))
	wrong := strings.Replace(b, "b", "d", 1)
	huge := strings.Repeat("x", 1<<20) + "\n"
	for _, test := range []struct {
		name   string
		data   []byte
		want   string
		spoilt int
	}{
		{"whole", stateFile(a, b, c), "a b c", 0},
		{"empty", nil, "", 0},
		{"the last one counts", stateFile(a, b, stateLine("a", nil)), "b", 0},
		{"torn", stateFile(a, b[:len(b)/2]), "a", 1},
		{"torn header", stateFile()[:9], "", 1},
		{"wrong checksum", stateFile(a, wrong, c), "a c", 1},
		{"joined lines", stateFile(a, b[:len(b)/2]+c, c), "a c", 1},
		{"huge line", stateFile(a, huge, c), "a c", 1},
		{"huge and torn", stateFile(a, huge[:1<<19]), "a", 1},
		{"huge header", []byte(huge), "", 1},
		{"NULs", append(stateFile(a), make([]byte, 5000)...), "a", 1},
		{"binary", bytesOf("state", 100_000), "", 1},
		{"outside", stateFile(a, stateLine("../b", entryOf("b")), stateLine("/c", entryOf("c")), stateLine("x/../y", entryOf("c")),
			stateLine("", entryOf("c")), stateLine(".", entryOf("c")), stateLine("a\x00b", entryOf("c"))), "a", 6},
	} {
		s := readState(t, test.data)
		if got := strings.Join(slices.Sorted(maps.Keys(s.entries)), " "); got != test.want || s.spoilt != test.spoilt {
			t.Errorf("%s: %q, %d spoilt; want %q, %d", test.name, got, s.spoilt, test.want, test.spoilt)
		}
	}
	if s := readState(t, []byte(stateHeader+"flat\n"+a)); len(s.entries) != 0 {
		t.Error("another layout's entries are taken")
	}
}

func FuzzState(f *testing.F) {
	a, b := stateLine("a", entryOf("a")), stateLine("dir/b.deb", entryOf("abc"))
	f.Add(stateFile(a, b))
	f.Add(stateFile(a, b[:20]))
	f.Add(stateFile(stateLine("a", nil), stateLine("../x", entryOf("a"))))
	f.Add([]byte(stateHeader + "flat\n" + a))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, stateFile(withSums(data)...)} {
			s := &state{layout: "beside", entries: map[string]*entry{}}
			if _, err := s.read(bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			for path, e := range s.entries {
				if !filepath.IsLocal(path) || path == "." || strings.ContainsRune(path, 0) {
					t.Errorf("%q", path)
				}
				if got, back, ok := parseEntry(formatEntry(path, e)); !ok || got != path || *back != *e {
					t.Errorf("%q does not come back", path)
				}
			}
		}
	})
}

// withSums makes each line one that its checksum fits.
func withSums(data []byte) (lines []string) {
	for text := range strings.SplitSeq(string(data), "\n") {
		if _, rest, ok := strings.Cut(text, " "); ok {
			text = rest
		}
		lines = append(lines, fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text))
	}
	return lines
}

func openStateIn(t *testing.T, dir string, write bool) (*state, error) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return openState(folder{f}, "state", "beside", write)
}

// What a run appended stands there after its end in one line for each name, and after its death as it was appended.
func TestStateKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s, err := openStateIn(t, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]entry{}
	for i := range 100 {
		path := fmt.Sprintf("%02d", i%50)
		s.set(path, entryOf(fmt.Sprint(i)))
		want[path] = *entryOf(fmt.Sprint(i))
	}
	s.set("07", nil)
	delete(want, "07")
	compare := func(when string, lines int) {
		t.Helper()
		data := read(t, filepath.Join(dir, "state"))
		got := map[string]entry{}
		for path, e := range readState(t, data).entries {
			got[path] = *e
		}
		if !maps.Equal(got, want) || bytes.Count(data, []byte("\n")) != lines {
			t.Errorf("%s: %d entries in %d lines, want %d in %d", when, len(got), bytes.Count(data, []byte("\n")), len(want), lines)
		}
	}
	compare("killed", 102)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	compare("closed", 50)
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}

	// The rest of a torn line is not joined to the next one.
	f, err := os.OpenFile(filepath.Join(dir, "state"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(stateLine("torn", entryOf("x"))[:30])
	f.Close()
	if s, err = openStateIn(t, dir, true); err != nil {
		t.Fatal(err)
	}
	s.set("new", entryOf("new"))
	want["new"] = *entryOf("new")
	compare("killed after a torn line", 51)
	s.close()
}

func TestStateIsLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := openStateIn(t, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openStateIn(t, dir, true); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := openStateIn(t, dir, false); err != nil {
		t.Errorf("one that only looks: %v", err)
	}
	if err := s.rewrite(); err != nil { // the lock goes over to the new file
		t.Fatal(err)
	}
	if _, err := openStateIn(t, dir, true); !errors.Is(err, ErrBusy) {
		t.Errorf("after a rewriting: %v", err)
	}
	s.close()
	if s, err = openStateIn(t, dir, true); err != nil {
		t.Fatal(err)
	}
	s.close()
}

func TestStateOnlyLookedAt(t *testing.T) {
	dir := t.TempDir()
	if s, err := openStateIn(t, dir, false); err != nil || s.close() != nil || exists(filepath.Join(dir, "state")) {
		t.Errorf("%v", err)
	}
	write(t, filepath.Join(dir, "state"), stateFile(stateLine("a", entryOf("a"))))
	before := snapshot(t, dir)
	s, err := openStateIn(t, dir, false)
	if err != nil || s.entries["a"] == nil {
		t.Fatal(err)
	}
	s.set("b", entryOf("b"))
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	wantSame(t, before, snapshot(t, dir))
}

// What somebody else has put at the state's name is neither followed nor waited for.
func TestStateIsNoLink(t *testing.T) {
	for _, to := range []string{"there", "dangling", "../outside", "/etc/hostname", "state", "."} {
		dir := filepath.Join(t.TempDir(), "dir")
		write(t, filepath.Join(dir, "there"), []byte("precious"))
		write(t, filepath.Join(dir, "../outside"), []byte("precious"))
		symlink(t, to, filepath.Join(dir, "state"))
		before := snapshot(t, filepath.Dir(dir))
		for _, write := range []bool{true, false} {
			if _, err := openStateIn(t, dir, write); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", to, err)
			}
		}
		wantSame(t, before, snapshot(t, filepath.Dir(dir)))
	}
}
