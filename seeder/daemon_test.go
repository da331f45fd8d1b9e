package seeder

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeSwarm does nothing and remembers it.
type fakeSwarm struct {
	mu     sync.Mutex
	status SwarmStatus
	added  map[ID]Torrent
	limit  int64
	paused bool
}

func (f *fakeSwarm) Add(t Torrent) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.added == nil {
		f.added = map[ID]Torrent{}
	}
	f.added[t.ID] = t
	return nil
}

func (f *fakeSwarm) Remove(id ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.added, id)
}

func (f *fakeSwarm) Limit(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = n
}

func (f *fakeSwarm) Pause(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = on
}

func (f *fakeSwarm) Status() SwarmStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Torrents = slices.Clone(s.Torrents)
	return s
}

func (f *fakeSwarm) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// give has the swarm have given n more bytes of a torrent.
func (f *fakeSwarm) give(id ID, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Uploaded += n
	i := slices.IndexFunc(f.status.Torrents, func(t SwarmTorrent) bool { return t.ID == id })
	if i < 0 {
		f.status.Torrents = append(f.status.Torrents, SwarmTorrent{ID: id, Peers: 1})
		i = len(f.status.Torrents) - 1
	}
	f.status.Torrents[i].Uploaded += n
}

func (f *fakeSwarm) is(paused bool, limit int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paused == paused && f.limit == limit
}

func (f *fakeSwarm) offered() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.added)
}

// running is a daemon that runs, with a client.
type running struct {
	*Daemon
	swarm  *fakeSwarm
	client *Client
	socket string
	stop   func()
}

func startDaemon(t *testing.T, dir string, c Config) *running {
	t.Helper()
	return startChanged(t, dir, c, func(*Daemon) {})
}

func startChanged(t *testing.T, dir string, c Config, change func(*Daemon)) *running {
	t.Helper()
	l, stale, err := OpenLibrary(filepath.Join(dir, "library"))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{swarm: &fakeSwarm{}, socket: filepath.Join(dir, "control")}
	os.Remove(r.socket)
	control, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	r.Daemon = &Daemon{Library: l, Stale: stale, Swarm: r.swarm}
	change(r.Daemon)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, c, control) }()
	r.client = dial(t, r.socket)
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.Close()
	})
	t.Cleanup(r.stop)
	return r
}

func dial(t *testing.T, socket string) *Client {
	t.Helper()
	c, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (r *running) do(t *testing.T, q Request) *Status {
	t.Helper()
	s, _, err := r.client.Ask(q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestFilesAreHandedOver(t *testing.T) {
	dir := t.TempDir()
	r := startDaemon(t, dir, Config{Space: 1 << 20})
	for _, name := range []string{"a", "b", "c"} { // one after the other, and nobody waits
		o := offer(t, name, name[0], 100_000)
		o.URL, o.Trackers, o.Hosts = "http://host/"+name, [][]string{{"http://host/announce"}}, []string{"host"}
		if err := r.client.Seed(o); err != nil {
			t.Fatal(err)
		}
		os.Remove(o.Content.Name())
		o.Content.Close()
	}
	eventually(t, "not all are taken", func() bool { return len(r.do(t, Request{Do: "status"}).Torrents) == 3 })
	eventually(t, "not all are offered", func() bool { return r.swarm.offered() == 3 })
	s := r.do(t, Request{Do: "status"})
	if s.Space.Used != 300_000 || s.Space.Most != 1<<20 || s.Torrents[0].URL != "http://host/a" || len(s.Problems) != 0 {
		t.Errorf("%+v", s)
	}
	added := r.swarm.added[s.Torrents[0].ID]
	if data, err := added.Metainfo(); err != nil || len(data) == 0 || added.Hosts[0] != "host" || added.Trackers[0][0] != "http://host/announce" {
		t.Errorf("%+v %v", added, err)
	}
	r.stop()
	if r = startDaemon(t, dir, Config{}); r.swarm.offered() != 3 {
		eventually(t, "the library is not offered again", func() bool { return r.swarm.offered() == 3 })
	}
}

func TestWhatIsWrongIsTold(t *testing.T) {
	r := startDaemon(t, t.TempDir(), Config{})
	o := offer(t, "a", 'a', 100_000)
	o.Content = offer(t, "b", 'b', 100_000).Content
	if err := r.client.Seed(o); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the problem is not told", func() bool {
		p := r.do(t, Request{Do: "status"}).Problems
		return len(p) == 1 && p[0].Name == "a" && strings.Contains(p[0].What, ErrWrong.Error())
	})
}

func TestAPauseSurvives(t *testing.T) {
	dir := t.TempDir()
	r := startDaemon(t, dir, Config{Rate: 5000})
	eventually(t, "not as configured", func() bool { return r.swarm.is(false, 5000) })
	r.do(t, Request{Do: "pause"})
	r.do(t, Request{Do: "limit", Rate: 1000})
	if !r.swarm.is(true, 1000) {
		t.Error("not paused, or not limited")
	}
	r.stop()
	r = startDaemon(t, dir, Config{Rate: 5000})
	eventually(t, "not paused, or not limited, after a restart", func() bool { return r.swarm.is(true, 1000) })
	if s := r.do(t, Request{Do: "status"}); !s.Paused || s.Held != "paused" || s.Limit != 1000 {
		t.Errorf("%+v", s)
	}
	r.do(t, Request{Do: "resume"})
	r.do(t, Request{Do: "limit"})
	if !r.swarm.is(false, 5000) {
		t.Error("not as it was")
	}
}

func TestRemove(t *testing.T) {
	r := startDaemon(t, t.TempDir(), Config{})
	for _, name := range []string{"a", "b"} {
		if err := r.client.Seed(offer(t, name, name[0], 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "not taken", func() bool { return r.swarm.offered() == 2 })
	s := r.do(t, Request{Do: "status"})
	if _, names, err := r.client.Ask(Request{Do: "remove", What: s.Torrents[0].ID.String()[:12]}); err != nil || !slices.Equal(names, []string{s.Torrents[0].Name}) {
		t.Error(names, err)
	}
	if _, names, err := r.client.Ask(Request{Do: "remove", What: s.Torrents[1].Name}); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
	if _, _, err := r.client.Ask(Request{Do: "remove", What: "c"}); err == nil {
		t.Error("what is not there is removed")
	}
	if r.swarm.offered() != 0 || len(r.Library.Entries()) != 0 {
		t.Error("something is left")
	}
}

func TestRubbishEndsTheConnection(t *testing.T) {
	r := startDaemon(t, t.TempDir(), Config{})
	for _, line := range []string{"rubbish\n", `{"version":2,"do":"status"}` + "\n", `{"version":1,"do":"seed","metainfo":1}` + "\nx"} {
		c := dial(t, r.socket)
		c.c.SetDeadline(time.Now().Add(time.Minute))
		c.c.Write([]byte(line))
		for {
			if _, err := c.c.line(); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%q: still connected", line)
			} else if err != nil {
				break
			}
		}
	}
	if s := r.do(t, Request{Do: "status"}); s == nil {
		t.Error("no status")
	}
}

// still is a daemon whose time goes as the test says.
func still(t *testing.T, c Config, names ...string) (*Daemon, *fakeSwarm) {
	t.Helper()
	l, _, err := OpenLibrary(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	swarm := &fakeSwarm{}
	d := &Daemon{Library: l, Swarm: swarm}
	d.begin()
	d.Configure(c)
	for _, name := range names {
		d.take(t.Context(), offer(t, name, name[0], 100_000))
	}
	return d, swarm
}

func TestQuotaHolds(t *testing.T) {
	d, swarm := still(t, Config{Day: 1 << 20, Rate: 300_000}, "a")
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	id := d.Library.Entries()[0].ID
	for range 100 { // as a swarm that gives what it may
		d.tick(now, time.Second)
		if now = now.Add(time.Second); !swarm.paused {
			swarm.give(id, swarm.limit)
		}
	}
	d.tick(now, time.Second)
	if given, _ := d.state.Quota.Given(now); !swarm.paused || given < 1<<20 || given > 1<<20+leastRate {
		t.Errorf("paused: %v, given: %d", swarm.paused, given)
	}
	if d.tick(now.AddDate(0, 0, 1), time.Second); swarm.paused {
		t.Error("paused on the next day")
	}
}

func TestHoursHold(t *testing.T) {
	h, err := ParseHours("22:00-06:00")
	if err != nil {
		t.Fatal(err)
	}
	d, swarm := still(t, Config{Hours: h})
	for hour, paused := range map[int]bool{12: true, 23: false, 5: false, 6: true} {
		if d.tick(time.Date(2026, 5, 1, hour, 0, 0, 0, time.Local), time.Second); swarm.paused != paused {
			t.Errorf("at %d: paused %v", hour, swarm.paused)
		}
	}
}

// The time for which a file is offered goes on only while it is offered, whatever the clock of the day does.
func TestSeedTime(t *testing.T) {
	d, swarm := still(t, Config{Time: time.Hour}, "a")
	now := time.Now()
	d.state.Paused = true
	d.tick(now, 0)
	d.tick(now, 10*time.Hour)
	if d.state.Paused = false; swarm.offered() != 1 {
		t.Fatal("a pause counts")
	}
	d.tick(now.AddDate(10, 0, 0), 59*time.Minute)
	d.take(t.Context(), offer(t, "b", 'b', 100_000))
	if swarm.offered() != 2 {
		t.Error("removed too soon")
	}
	if d.tick(now, time.Minute); swarm.offered() != 1 || d.Library.Entries()[0].Name != "b" {
		t.Error("not removed, or another one")
	}
}

func TestSeedRatio(t *testing.T) {
	d, swarm := still(t, Config{Ratio: 2}, "a")
	id := d.Library.Entries()[0].ID
	swarm.give(id, 199_999)
	if d.tick(time.Now(), time.Second); swarm.offered() != 1 {
		t.Error("removed too soon")
	}
	swarm.give(id, 1)
	if d.tick(time.Now(), time.Second); swarm.offered() != 0 || len(d.Library.Entries()) != 0 {
		t.Error("not removed")
	}
}

// What nobody has got for the longest time gives way.
func TestTheLeastUsedGiveWay(t *testing.T) {
	d, swarm := still(t, Config{Space: 250_000}, "a", "b")
	for _, e := range d.Library.Entries() {
		if e.Name == "a" {
			d.tick(time.Now(), 10*time.Second)
			swarm.give(e.ID, 1)
			d.tick(time.Now(), time.Second)
		}
	}
	d.take(t.Context(), offer(t, "c", 'c', 100_000))
	var names []string
	for _, e := range d.Library.Entries() {
		names = append(names, e.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"a", "c"}) {
		t.Errorf("%q", names)
	}
	if d.Configure(Config{Space: 150_000}); d.Library.Size() != 100_000 || swarm.offered() != 1 {
		t.Error("a smaller budget does not hold")
	}
}

func TestDroppedContentIsVerifiedAnew(t *testing.T) {
	d, swarm := still(t, Config{}, "a", "b")
	list := d.Library.Entries()
	if err := os.WriteFile(d.Library.path(list[0].ID, contentFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Dropped(list[0].ID, ErrChanged)
	d.Dropped(list[1].ID, errors.New("for a moment"))
	d.recheckDoubts(t.Context(), time.Now())
	_, a := d.Library.Entry(list[0].ID)
	_, b := d.Library.Entry(list[1].ID)
	if a || !b || swarm.offered() != 1 {
		t.Error("what has changed is still offered, or the other one is not")
	}
}

// Content that can only not be read, or is dropped again and again, is kept and offered again after a while.
func TestWhatCannotBeReadIsKept(t *testing.T) {
	d, swarm := still(t, Config{}, "a")
	e := d.Library.Entries()[0]
	path := d.Library.path(e.ID, torrentFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil { // EISDIR, as EIO or EMFILE would be
		t.Fatal(err)
	}
	d.Dropped(e.ID, errors.New("for a moment"))
	d.recheckDoubts(t.Context(), time.Now())
	if _, ok := d.Library.Entry(e.ID); !ok || swarm.offered() != 0 {
		t.Fatal("it is gone, or still offered")
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	d.recheckDoubts(t.Context(), time.Now().Add(failedAgain))
	if swarm.offered() != 1 {
		t.Fatal("it is not offered again")
	}
	for range 5 {
		d.Dropped(e.ID, errors.New("for a moment"))
		d.withdraw(e.ID)
		d.recheckDoubts(t.Context(), time.Now())
		if swarm.offered() != 0 {
			t.Error("verified again at once")
		}
		d.recheckDoubts(t.Context(), time.Now().Add(failedAgain))
		if swarm.offered() != 1 {
			t.Fatal("it is gone, or not offered")
		}
	}
	if n := len(d.problems); n != 2 {
		t.Errorf("%d problems: %+v", n, d.problems)
	}
}

func TestLostCountsCostNoContent(t *testing.T) {
	dir := t.TempDir()
	r := startDaemon(t, dir, Config{Time: time.Hour})
	r.client.Seed(offer(t, "a", 'a', 100_000))
	eventually(t, "not taken", func() bool { return r.swarm.offered() == 1 })
	r.stop()
	if err := os.WriteFile(filepath.Join(dir, "library", stateFile), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = startDaemon(t, dir, Config{Time: time.Hour})
	eventually(t, "not offered", func() bool { return r.swarm.offered() == 1 })
}

// A daemon that gives nothing writes nothing but its clock, and that seldom, or in the end.
func TestAnIdleDaemonWritesNothing(t *testing.T) {
	dir := t.TempDir()
	r := startDaemon(t, dir, Config{})
	r.do(t, Request{Do: "status"})
	r.stop()
	if _, err := os.Lstat(filepath.Join(r.Library.dir, stateFile)); err != nil {
		t.Error(err)
	}
	d, _ := still(t, Config{})
	written := func(elapsed time.Duration) bool {
		d.tick(time.Now(), elapsed)
		d.save()
		_, err := os.Lstat(filepath.Join(d.Library.dir, stateFile))
		return err == nil
	}
	if written(0) || written(clockEvery*time.Second/2) || !written(clockEvery*time.Second/2) {
		t.Error("written too soon, or not at all")
	}
}

// slowSwarm waits before it pauses.
type slowSwarm struct {
	*fakeSwarm
	pauses, goOn chan struct{}
}

func (s slowSwarm) Pause(on bool) {
	if on {
		s.pauses <- struct{}{}
		<-s.goOn
	}
	s.fakeSwarm.Pause(on)
}

func TestASwarmIsToldInOrder(t *testing.T) {
	d, swarm := still(t, Config{})
	slow := slowSwarm{swarm, make(chan struct{}), make(chan struct{})}
	d.Swarm = slow
	d.tick(time.Now(), 0)
	var all sync.WaitGroup
	all.Go(func() { d.pause(true) })
	<-slow.pauses
	all.Go(func() { d.pause(false) })
	time.Sleep(50 * time.Millisecond) // for the second to overtake the first, if it can
	close(slow.goOn)
	if all.Wait(); swarm.paused {
		t.Error("paused after it was told to go on")
	}
}
