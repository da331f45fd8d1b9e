package seeder

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"torrent-xfer/metainfo"
)

// offer makes a file of n bytes and its torrent.
func offer(t *testing.T, name string, fill byte, n int) Offer {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, bytes.Repeat([]byte{fill}, n), 0o644); err != nil {
		t.Fatal(err)
	}
	data := torrentOf(t, name, file)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Offer{Metainfo: data, Content: f}
}

func oldest(list []Entry) []Entry { return list }

func TestTakenFilesSurvive(t *testing.T) {
	dir := t.TempDir()
	l, _, err := OpenLibrary(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := offer(t, "a", 'a', 100_000)
	e, _, err := l.Take(t.Context(), o, 0, oldest)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Take(t.Context(), o, 0, oldest); !errors.Is(err, ErrKnown) {
		t.Errorf("taken twice: %v", err)
	}
	if _, _, err := OpenLibrary(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	l.Close()
	os.Mkdir(filepath.Join(dir, unfinished+"1"), 0o700) // as a crash leaves it
	l, stale, err := OpenLibrary(dir)
	if err != nil || len(stale) != 0 || len(l.Entries()) != 1 {
		t.Fatal(err, stale, l.Entries())
	}
	if _, err := os.Stat(filepath.Join(dir, unfinished+"1")); err == nil {
		t.Error("what a crash left is still there")
	}
	f, err := l.Open(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(l.path(e.ID, contentFile), bytes.Repeat([]byte{'b'}, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Open(e.ID); !errors.Is(err, ErrChanged) {
		t.Errorf("changed content is opened: %v", err)
	}
	if err := l.Recheck(t.Context(), e.ID); !errors.Is(err, ErrWrong) || len(l.Entries()) != 0 {
		t.Errorf("changed content stays: %v", err)
	}
}

func TestWrongContentIsNotTaken(t *testing.T) {
	l, _, err := OpenLibrary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := offer(t, "a", 'a', 100_000)
	o.Content = offer(t, "b", 'b', 100_000).Content
	if _, _, err := l.Take(t.Context(), o, 0, oldest); !errors.Is(err, ErrWrong) || len(l.Entries()) != 0 {
		t.Error(err)
	}
}

func TestTheOldestGiveWay(t *testing.T) {
	l, _, err := OpenLibrary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range "abc" {
		if _, _, err := l.Take(t.Context(), offer(t, string(c), byte(c), 100_000), 250_000, oldest); err != nil {
			t.Fatal(err)
		}
	}
	if list := l.Entries(); len(list) != 2 || list[0].Name != "b" || l.Size() != 200_000 {
		t.Error(list)
	}
	if _, _, err := l.Take(t.Context(), offer(t, "big", 'd', 300_000), 250_000, oldest); !errors.Is(err, ErrRoom) || len(l.Entries()) != 2 {
		t.Error(err)
	}
}

func torrentOf(t *testing.T, name, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := hashOf(t, f)
	data, err := metainfo.Build(name, h, metainfo.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func hashOf(t *testing.T, f *os.File) *metainfo.Hashes {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h, err := metainfo.Hash(t.Context(), f, info.Size(), metainfo.HashOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A library that cannot be read for the moment loses nothing.
func TestAnUnreadableLibraryIsKept(t *testing.T) {
	dir := t.TempDir()
	l, _, err := OpenLibrary(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := l.Take(t.Context(), offer(t, "a", 'a', 100_000), 0, oldest)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	record, away := l.path(e.ID, recordFile), filepath.Join(dir, "away")
	if err := errors.Join(os.Rename(record, away), os.Mkdir(record, 0o700)); err != nil { // EISDIR, as EIO or EMFILE would be
		t.Fatal(err)
	}
	if l, _, err = OpenLibrary(dir); err != nil || len(l.Entries()) != 0 {
		t.Fatal(err, l.Entries())
	}
	l.Close()
	if err := errors.Join(os.Remove(record), os.Rename(away, record)); err != nil {
		t.Fatal(err)
	}
	l, stale, err := OpenLibrary(dir)
	if err != nil || len(stale) != 0 || len(l.Entries()) != 1 {
		t.Error(err, stale, l.Entries())
	}
	l.Close()
}

// during does something whenever it is asked whether it has ended.
type during struct {
	context.Context
	do func() error
}

func (d during) Err() error { return d.do() }

func TestRemovedWhileVerified(t *testing.T) {
	l, _, err := OpenLibrary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := l.Take(t.Context(), offer(t, "a", 'a', 100_000), 0, oldest)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Recheck(during{t.Context(), func() error { l.Remove(e.ID); return nil }}, e.ID); !errors.Is(err, ErrUnknown) || len(l.Entries()) != 0 {
		t.Error(err, l.Entries())
	}
}

// A directory that is somebody else's is refused, and stays as it is; what is not the library's stays in its own too.
func TestForeignFilesStay(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{"new-year", "lock", "jobs/" + strings.Repeat("0", 32), "jobs/thesis", strings.Repeat("0", 40)}
	put := func() {
		t.Helper()
		for _, name := range foreign {
			if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	put()
	if _, _, err := OpenLibrary(dir); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != len(foreign)-1 {
		t.Error("something is added", list, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, _, err := OpenLibrary(dir)
		if err != nil {
			t.Fatal(err)
		}
		foreign = []string{"new-year", "jobs/thesis"}
		put()
		old := time.Now().Add(-2 * jobKept)
		if err := os.Chtimes(filepath.Join(dir, "jobs/thesis"), old, old); err != nil {
			t.Fatal(err)
		}
		d := &Daemon{Library: l}
		d.sweepJobs(time.Now())
		l.Close()
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// While a file is copied the budget holds, nothing gives way to a wrong one, and the copy may be ended.
func TestTheBudgetHoldsWhileCopying(t *testing.T) {
	const size, budget = 3 * copyStep, 5 * copyStep
	dir := t.TempDir()
	l, _, err := OpenLibrary(dir)
	if err != nil {
		t.Fatal(err)
	}
	old, _, err := l.Take(t.Context(), offer(t, "old", 'o', size), budget, oldest)
	if err != nil {
		t.Fatal(err)
	}
	wrong := offer(t, "wrong", 'w', size)
	wrong.Content = offer(t, "other", 'x', size).Content
	if _, _, err := l.Take(t.Context(), wrong, budget, oldest); !errors.Is(err, ErrWrong) || len(l.Entries()) != 1 {
		t.Error(err, l.Entries())
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "cloned"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if clone(f, wrong.Content) {
		return // a copy takes neither room nor time here
	}
	var copied int64
	_, removed, err := l.Take(during{t.Context(), func() error {
		list, _ := filepath.Glob(filepath.Join(dir, unfinished+"*", contentFile))
		for _, path := range list {
			if info, err := os.Stat(path); err == nil && info.Size() > 0 {
				copied = info.Size()
				if l.Size()+copied > budget {
					t.Errorf("%d bytes are over the budget", l.Size()+copied)
				}
				return context.Canceled
			}
		}
		return nil
	}}, offer(t, "new", 'n', size), budget, oldest)
	if !errors.Is(err, context.Canceled) || copied == 0 || copied >= size || !slices.Equal(removed, []ID{old.ID}) {
		t.Errorf("%v after %d bytes; %v are removed", err, copied, removed)
	}
}
