package fetcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testClock is a clock that the test sets.
type testClock struct{ time.Time }

func (c *testClock) now() time.Time { return c.Time }

// loadAt is LoadHostStats with a clock.
func loadAt(path string, c *testClock) *HostStats {
	h := &HostStats{path: path, now: c.now}
	h.load()
	return h
}

func newTestClock() *testClock {
	return &testClock{time.Unix(1_800_000_000, 0)}
}

func TestHostStatsSurviveARun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "torrent-xfer", "hosts.json")
	h := LoadHostStats(path)
	h.succeeded("fast.example", 8e6, 20*time.Millisecond)
	h.failed("dead.example")
	h.failed("dead.example")
	for range barrenMisses {
		h.torrentMissed("http://fast.example/core/")
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	h = LoadHostStats(path)
	if s := h.get("fast.example"); s.Speed != 8e6 || s.FirstByte != 20*time.Millisecond || s.Failures != 0 || s.Updated.IsZero() {
		t.Errorf("%+v", s)
	}
	if s := h.get("dead.example"); s.Failures != 2 || s.LastFailure.IsZero() || s.Speed != 0 {
		t.Errorf("%+v", s)
	}
	if s := h.get("other.example"); s != (hostStat{}) {
		t.Errorf("%+v", s)
	}
	if !h.barren("http://fast.example/core/") || h.barren("http://fast.example/extra/") {
		t.Error("wrong repositories are barren")
	}
	if names := directory(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %q", names)
	}
}

func directory(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestHostStatsNilAndZero(t *testing.T) {
	var none *HostStats
	none.succeeded("a", 1, 1)
	none.failed("a")
	none.torrentMissed("r")
	none.torrentFound("r")
	if none.get("a") != (hostStat{}) || none.barren("r") || none.Save() != nil {
		t.Error("a nil memory remembers")
	}
	var zero HostStats
	zero.failed("a")
	if zero.get("a").Failures != 1 || zero.Save() != nil {
		t.Error("the zero value does not work")
	}
}

func TestHostStatsMeans(t *testing.T) {
	var h HostStats
	h.succeeded("a", 100, 10)
	h.succeeded("a", 200, 20)
	if s := h.get("a"); s.Speed <= 100 || s.Speed >= 200 || s.FirstByte <= 10 || s.FirstByte >= 20 {
		t.Errorf("%+v", s)
	}
	before := h.get("a")
	for _, speed := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		h.succeeded("a", speed, 0)
		h.succeeded("a", 0, -time.Second)
		h.succeeded("a", 0, math.MaxInt64)
	}
	if s := h.get("a"); s.Speed != before.Speed || s.FirstByte != before.FirstByte {
		t.Errorf("%+v", s)
	}
	for range 40 {
		h.succeeded("a", 1000, 5)
	}
	if s := h.get("a"); s.Speed < 999 || s.FirstByte > 6 {
		t.Errorf("old measurements stay: %+v", s)
	}
}

func TestHostFailuresAreForgotten(t *testing.T) {
	clock := newTestClock()
	h := &HostStats{now: clock.now}
	h.failed("a")
	clock.Time = clock.Add(failuresLast - time.Second)
	h.failed("a")
	if n := h.get("a").Failures; n != 2 {
		t.Errorf("%d failures", n)
	}
	clock.Time = clock.Add(failuresLast)
	if n := h.get("a").Failures; n != 0 {
		t.Errorf("%d failures after an hour", n)
	}
	h.failed("a")
	if n := h.get("a").Failures; n != 1 {
		t.Errorf("%d failures, one since the hour", n)
	}
	h.succeeded("a", 0, 0)
	if n := h.get("a").Failures; n != 0 {
		t.Errorf("%d failures after a success", n)
	}
}

func TestBarrenRepositories(t *testing.T) {
	clock := newTestClock()
	h := &HostStats{now: clock.now}
	miss := func(n int) {
		for range n {
			h.torrentMissed("r")
		}
	}
	miss(barrenMisses - 1)
	h.torrentFound("r")
	miss(barrenMisses - 1)
	if h.barren("r") {
		t.Error("barren after seven misses since the hit")
	}
	miss(1)
	clock.Time = clock.Add(barrenLasts - time.Second)
	miss(3) // of files whose torrents were asked for before the eighth miss
	if !h.barren("r") {
		t.Error("not barren before 24 h are over")
	}
	clock.Time = clock.Add(time.Second)
	if h.barren("r") {
		t.Error("barren after 24 h")
	}
	miss(barrenMisses - 1)
	if h.barren("r") {
		t.Error("seven misses of a new day are enough")
	}
	miss(1)
	if !h.barren("r") {
		t.Error("eight misses of a new day are not enough")
	}
	h.torrentFound("r")
	if h.barren("r") {
		t.Error("barren after a hit")
	}
}

func TestHostStatsWhenTheClockWasPutBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	clock := newTestClock()
	h := loadAt(path, clock)
	for range barrenMisses {
		h.torrentMissed("r")
	}
	h.failed("a")
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	clock.Time = clock.Add(-10 * 365 * 24 * time.Hour)
	if h.barren("r") || h.get("a").Failures != 0 {
		t.Error("a time in the future counts in a running process")
	}
	h = loadAt(path, clock)
	if !h.barren("r") || h.get("a").Failures != 1 {
		t.Error("a time in the future does not count as now")
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	clock.Time = clock.Add(barrenLasts)
	h = loadAt(path, clock)
	if h.barren("r") || h.get("a").Failures != 0 {
		t.Error("still barren or dead a day later")
	}
}

func TestLoadHostStatsRefuses(t *testing.T) {
	good := `{"version":1,"hosts":{"a":{"failures":1,"last_failure":4000000000,"updated":1}},"repositories":{}}`
	write := func(content string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		make  func(t *testing.T, path string)
		loads bool
	}{
		"good":          {write(good), true},
		"spaces behind": {write(good + strings.Repeat(" ", maxHostStatsFile-len(good))), true},
		"too large":     {write(good + strings.Repeat(" ", maxHostStatsFile-len(good)+1)), false},
		"absent":        {func(*testing.T, string) {}, false},
		"empty":         {write(""), false},
		"rubbish":       {write("\x00\xff{"), false},
		"two":           {write(good + good), false},
		"version 2":     {write(strings.Replace(good, `"version":1`, `"version":2`, 1)), false},
		"no version":    {write(strings.Replace(good, `"version":1,`, ``, 1)), false},
		"symlink": {func(t *testing.T, path string) {
			write(good)(t, path+".real")
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, false},
		"directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, false},
		"FIFO": {func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hosts.json")
			test.make(t, path)
			if got := LoadHostStats(path).get("a").Failures == 1; got != test.loads {
				t.Errorf("loaded: %v", got)
			}
		})
	}
	t.Run("another owner", func(t *testing.T) {
		// Only root can give a file away; anybody else has files of root's to try it with.
		path := "/etc/passwd"
		if os.Geteuid() == 0 {
			path = filepath.Join(t.TempDir(), "hosts.json")
			write(good)(t, path)
			if err := os.Chown(path, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := readHostStats(path); err == nil {
			t.Errorf("read %q", data)
		}
	})
}

func TestLoadHostStatsDropsAbsurdEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	file := `{"version":1,"hosts":{
		"good":{"speed":5,"updated":1},
		"speed":{"speed":-1,"updated":1},"fast":{"speed":1e300,"updated":1},
		"early":{"speed":5,"first_byte_ns":-1,"updated":1},"late":{"speed":5,"first_byte_ns":9223372036854775807,"updated":1},
		"failures":{"speed":5,"failures":-1,"updated":1},"many":{"speed":5,"failures":9007199254740993,"updated":1},
		"time":{"speed":5,"last_failure":-1,"updated":1},"never":{"speed":5,"updated":9223372036854775807},
		"con\u001btrol":{"speed":5,"updated":1},"":{"speed":5,"updated":1},
		"` + strings.Repeat("l", maxRememberedKey+1) + `":{"speed":5,"updated":1}
	},"repositories":{
		"barren":{"misses":8,"barren":99999999999,"updated":1},
		"negative":{"misses":-1,"barren":99999999999,"updated":1},"many":{"misses":9,"barren":99999999999,"updated":1},
		"before":{"misses":8,"barren":-1,"updated":1},"never":{"misses":8,"barren":9223372036854775807,"updated":1},
		"old":{"misses":8,"barren":1,"updated":1},"no time":{"misses":8,"updated":1}
	}}`
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	h := LoadHostStats(path)
	if len(h.hosts) != 1 || h.get("good").Speed != 5 {
		t.Errorf("%v", h.hosts)
	}
	if !h.barren("barren") {
		t.Error("the good repository was dropped")
	}
	for _, repo := range []string{"negative", "many", "before", "never", "old", "no time"} {
		if h.barren(repo) {
			t.Errorf("%s is barren", repo)
		}
	}
}

func TestSaveHostStatsOnlyWhenLearned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	h := LoadHostStats(path)
	h.get("a")
	h.barren("r")
	h.failed("")
	h.failed("con\x1btrol")
	h.torrentMissed(strings.Repeat("l", maxRememberedKey+1))
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if names := directory(t, filepath.Dir(path)); names != nil {
		t.Errorf("written: %q", names)
	}
	h.failed("a")
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if names := directory(t, filepath.Dir(path)); names != nil {
		t.Errorf("written again: %q", names)
	}
}

func TestSaveHostStatsMerges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	first, second := LoadHostStats(path), LoadHostStats(path)
	first.failed("a")
	first.failed("both")
	first.torrentMissed("r")
	second.succeeded("b", 5, 5)
	second.succeeded("both", 7, 7)
	for range barrenMisses {
		second.torrentMissed("s")
	}
	for _, h := range []*HostStats{first, second} {
		if err := h.Save(); err != nil {
			t.Fatal(err)
		}
	}
	h := LoadHostStats(path)
	if h.get("a").Failures != 1 || h.get("b").Speed != 5 || h.get("both").Speed != 7 || h.repos["r"].Misses != 1 || !h.barren("s") {
		t.Errorf("%v, %v", h.hosts, h.repos)
	}
}

func TestSaveHostStatsTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	shared := LoadHostStats(path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			shared.succeeded(fmt.Sprint("shared", i), 1, 1)
			shared.torrentMissed("r")
			shared.get("shared0")
			shared.barren("r")
			if err := shared.Save(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	h := LoadHostStats(path)
	if len(h.hosts) != 8 || !h.barren("r") {
		t.Errorf("%v, %v", h.hosts, h.repos)
	}
}

func TestSaveHostStatsKeepsTheNewest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.json")
	clock := newTestClock()
	h := loadAt(path, clock)
	const n = 2*maxRemembered + 500
	for i := range n {
		h.failed(fmt.Sprint("host", i))
		h.torrentMissed(fmt.Sprint("repo", i))
		clock.Time = clock.Add(time.Second)
	}
	if len(h.hosts) > 2*maxRemembered || len(h.repos) > 2*maxRemembered {
		t.Errorf("%d hosts, %d repositories in memory", len(h.hosts), len(h.repos))
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	h = loadAt(path, clock)
	_, oldHost := h.hosts[fmt.Sprint("host", n-maxRemembered-1)]
	_, newHost := h.hosts[fmt.Sprint("host", n-maxRemembered)]
	if len(h.hosts) != maxRemembered || len(h.repos) != maxRemembered || oldHost || !newHost {
		t.Errorf("%d hosts, %d repositories, old %v, new %v", len(h.hosts), len(h.repos), oldHost, newHost)
	}

	// As many as may be kept, with names as long as may be, are too many for a file.
	for i := range maxRemembered {
		h.failed(fmt.Sprintf("%0*d", maxRememberedKey, i))
		h.torrentMissed(fmt.Sprintf("%0*d", maxRememberedKey, i))
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > maxHostStatsFile {
		t.Errorf("%v, %v", info.Size(), err)
	}
	if h = loadAt(path, clock); len(h.hosts) == 0 {
		t.Error("nothing was kept")
	}
}

func TestSaveHostStatsWhereItCannot(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"parent's parent absent": filepath.Join(dir, "a", "b", "hosts.json"),
		"parent is a file":       filepath.Join(dir, "file", "hosts.json"),
		"is a directory":         filepath.Join(dir, "directory"),
	} {
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "directory", "full"), 0o755); err != nil {
			t.Fatal(err)
		}
		h := LoadHostStats(path)
		h.failed("a")
		if err := h.Save(); err == nil {
			t.Errorf("%s: saved", name)
		}
		if err := h.Save(); err == nil || h.get("a").Failures != 1 {
			t.Errorf("%s: forgotten after the first try: %v", name, err)
		}
	}
	if names := directory(t, dir); len(names) != 2 {
		t.Errorf("left behind: %q", names)
	}
}

func TestSaveHostStatsBesideAnUnfinishedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hosts.json")
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func() error{
		"file":    func() error { return os.WriteFile(path+".tmp", []byte("x"), 0o644) },
		"symlink": func() error { return os.Symlink(victim, path+".tmp") },
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		h := LoadHostStats(path)
		h.failed("a")
		if err := h.Save(); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path + ".tmp"); err != nil {
			t.Errorf("%s: taken away from the other process: %v", name, err)
		}
		if err := h.Save(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := time.Now().Add(-2 * saveStale)
	if err := errors.Join(os.WriteFile(path+".tmp", []byte("x"), 0o644), os.Chtimes(path+".tmp", old, old)); err != nil {
		t.Fatal(err)
	}
	h := LoadHostStats(path)
	h.failed("b")
	if err := h.Save(); err != nil {
		t.Error(err)
	}
	if s := LoadHostStats(path); s.get("a").Failures != 2 || s.get("b").Failures != 1 {
		t.Errorf("%v", s.hosts)
	}
	if content, err := os.ReadFile(victim); err != nil || string(content) != "precious" {
		t.Errorf("%q, %v", content, err)
	}
	if names := directory(t, dir); len(names) != 2 {
		t.Errorf("left behind: %q", names)
	}
}

func TestSaveHostStatsReplacesASymlink(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "hosts.json"), filepath.Join(dir, "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o644), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	h := LoadHostStats(path)
	h.failed("a")
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(victim); err != nil || string(content) != "precious" {
		t.Errorf("%q, %v", content, err)
	}
	if LoadHostStats(path).get("a").Failures != 1 {
		t.Error("not saved")
	}
}

func FuzzDecodeHostStats(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"hosts":{"a":{"speed":5.5,"first_byte_ns":7,"failures":1,"last_failure":1800000000,"updated":1800000000}},"repositories":{"r":{"misses":8,"barren":1800000000,"updated":1800000000}}}`,
		`{"version":1,"hosts":null}`, `{"version":1,"hosts":{"a":{"speed":1e999}}}`, `{"version":1,"repositories":{"":{"misses":-1}}}`, `{}`, `[]`, ``, `{"version":1`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		hosts, repos := decodeHostStats(data)
		out := encodeHostStats(hosts, repos)
		if len(out) > maxHostStatsFile || !json.Valid(out) {
			t.Fatalf("%d bytes, %.200q", len(out), out)
		}
		for host, s := range hosts {
			if host == "" || s.Speed < 0 || s.Speed > maxSpeed || s.FirstByte < 0 || s.FirstByte > maxFirstByte || s.Failures < 0 {
				t.Errorf("%q: %+v", host, s)
			}
		}
		if len(hosts) > maxRemembered || len(repos) > maxRemembered {
			return
		}
		hosts2, repos2 := decodeHostStats(out)
		if len(hosts2) != len(hosts) || len(repos2) != len(repos) {
			t.Errorf("%v, %v became %v, %v", hosts, repos, hosts2, repos2)
		}
		for repo, s := range repos {
			if repos2[repo] != s {
				t.Errorf("%q: %+v became %+v", repo, s, repos2[repo])
			}
		}
	})
}

func TestTrackersAreRememberedForAWeek(t *testing.T) {
	clock := newTestClock()
	path := filepath.Join(t.TempDir(), "hosts.json")
	h := loadAt(path, clock)
	if _, known := h.Trackers("a.example"); known {
		t.Error("nobody was asked")
	}
	one := []string{"udp://a.example:6969/announce"}
	h.SetTrackers("a.example", one)
	h.SetTrackers("b.example", nil)
	h.SetTrackers("c.example", []string{"javascript:1"})
	h.failed("a.example")
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	h = loadAt(path, clock)
	for _, c := range []struct {
		after time.Duration
		known bool
	}{{0, true}, {7*24*time.Hour - time.Second, true}, {time.Second, false}} {
		clock.Time = clock.Add(c.after)
		for host, want := range map[string][]string{"a.example": one, "b.example": nil, "c.example": nil} {
			if !c.known {
				want = nil
			}
			if got, known := h.Trackers(host); known != c.known || !slices.Equal(got, want) {
				t.Errorf("%s after %v: %v, %v", host, c.after, got, known)
			}
		}
	}
	var none *HostStats
	none.SetTrackers("a.example", one)
	if _, known := none.Trackers("a.example"); known {
		t.Error("nobody remembers")
	}
}
