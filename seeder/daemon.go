package seeder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	tickEvery    = time.Second
	saveEvery    = 10 * time.Second
	clockEvery   = 600 // seconds of the seeding clock, after which it is saved although nothing else has changed
	keptProblems = 20
	leastRate    = 64 << 10 // bytes/s, while anything may be given
	freeRate     = 128 << 20
	queued       = 64 // offers that wait to be taken
)

// Config is what a Daemon keeps to. The zero value: no limits, and nobody but root and our own user may change anything.
type Config struct {
	Space      int64         // bytes of content in the library, and of downloads; <= 0: no limit
	Rate       int64         // bytes/s of all that is given; <= 0: no limit
	Day, Month int64         // bytes given, of the local calendar; <= 0: no limit
	Hours      Hours         // of the day in which anything is given; nil: always
	Time       time.Duration // for which a file is offered, pauses left out; <= 0: no limit
	Ratio      float64       // of what was given of a file to its size, up to which it is offered; <= 0: no limit
	Watch      []string      // directories the files of which are offered, as long as they lie there unchanged
	Group      int           // whose members may change things, a group of the system; <= 0: none
}

// Daemon offers a library to peers. Set the fields before Run.
type Daemon struct {
	Library *Library
	Stale   []ID // of OpenLibrary
	Swarm   Swarm
	Log     *slog.Logger // nil: silent

	// Find finds the torrent of a watched file of that name and size. An error that wraps ErrNoTorrent: there is none. nil: only
	// what lies beside the file counts.
	Find func(ctx context.Context, name string, size int64) (Offer, error)

	// Download brings what o says to dest, as far as it is not there already, and tells how it goes in objects of JSON, of which
	// "size" is the file's in bytes. It ends soon after ctx. nil: nothing is downloaded.
	Download func(ctx context.Context, o Order, dest string, tell func(line []byte)) error

	jobs jobs

	ticking sync.Mutex // one tick at a time, so that Swarm is told things in their order
	saving  sync.Mutex

	mu       sync.Mutex
	config   Config
	state    state
	dirty    bool  // state differs from what was saved, in more than its clock
	clockWas int64 // state.Clock as it was saved
	offers   chan Offer
	metainfo *semaphore.Weighted // of maxMetainfo bytes
	relook   chan struct{}
	last     SwarmStatus
	seen     map[ID]int64     // bytes of last, by torrent
	rates    map[ID]float64   // bytes/s now
	rate     float64          // of all
	clock    time.Duration    // less than a second, on top of state.Clock
	held     string           // why nobody is served; "": it is not so
	limit    int64            // as the Swarm was told; -1: not yet
	doubts   map[ID]time.Time // when content that may be wrong is verified; it is not offered until then
	verified map[ID]time.Time // when content was verified anew and right
	twins    map[string]twin  // watched files, by path, that are in the library otherwise
	problems []Problem
}

// Problem is something that went wrong, and who is to blame for it.
type Problem struct {
	Time time.Time `json:"time"`
	Name string    `json:"name"`
	What string    `json:"what"`
}

// Run serves the control socket, which may be nil, and offers the library until ctx ends.
func (d *Daemon) Run(ctx context.Context, c Config, control *net.UnixListener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.begin()
	d.Configure(c)
	for _, e := range d.Library.Entries() {
		if !slices.Contains(d.Stale, e.ID) {
			d.offer(e)
		}
	}
	d.tick(time.Now(), 0)
	d.goOn(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		if err := d.Swarm.Run(ctx); err != nil {
			cancel(err)
		}
	})
	all.Go(func() { d.work(ctx) })
	all.Go(func() { d.watch(ctx) })
	if control != nil {
		all.Go(func() { d.serve(ctx, control) })
	}
	last, saved := time.Now(), time.Now()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(tickEvery):
		}
		now := time.Now()
		d.tick(now, now.Sub(last))
		if last = now; now.Sub(saved) >= saveEvery {
			saved = now
			d.save()
			d.sweepJobs(now)
		}
	}
	all.Wait()
	d.jobs.all.Wait()
	d.tick(time.Now(), 0)
	d.mu.Lock()
	d.dirty = true // the clock is saved at last
	d.mu.Unlock()
	d.save()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (d *Daemon) begin() {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	s, err := readState(d.Library.dir)
	if err != nil {
		d.Log.Warn("what was counted is lost", "why", err)
	}
	for _, e := range d.Library.Entries() {
		s.Clock = max(s.Clock, e.Since)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clockWas = s.Clock
	d.state, d.offers, d.relook, d.limit = s, make(chan Offer, queued), make(chan struct{}, 1), -1
	d.seen, d.rates, d.doubts, d.verified = map[ID]int64{}, map[ID]float64{}, map[ID]time.Time{}, map[ID]time.Time{}
	d.twins, d.metainfo = map[string]twin{}, semaphore.NewWeighted(maxMetainfo)
	for _, id := range d.Stale {
		d.doubts[id] = time.Time{}
	}
}

// Configure has d keep to c from now on.
func (d *Daemon) Configure(c Config) {
	d.mu.Lock()
	d.config = c
	d.mu.Unlock()
	select {
	case d.relook <- struct{}{}:
	default:
	}
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	d.jobsFit()
}

// work takes offers, and checks what has changed, one after the other.
func (d *Daemon) work(ctx context.Context) {
	again := time.NewTicker(tickEvery)
	defer again.Stop()
	for {
		d.recheckDoubts(ctx, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case o := <-d.offers:
			d.take(ctx, o)
			o.Content.Close()
			d.metainfo.Release(int64(len(o.Metainfo)))
		}
	}
}

func (d *Daemon) take(ctx context.Context, o Offer) {
	d.mu.Lock()
	space := d.config.Space
	o.Since = d.state.Clock
	d.mu.Unlock()
	if space > 0 {
		d.jobs.mu.Lock()
		jobs, _ := d.jobs.size(d.keptJobs())
		d.jobs.mu.Unlock()
		space = max(1, space-jobs) // 0 is no limit
	}
	e, removed, err := d.Library.Take(ctx, o, space, d.least)
	for _, id := range removed {
		d.withdraw(id)
		d.Log.Info("gives way", "torrent", id)
	}
	switch {
	case err == nil:
		d.Log.Info("taken", "name", e.Name, "torrent", e.ID, "bytes", e.Size)
		d.offer(e)
	case errors.Is(err, ErrKnown):
		d.mu.Lock()
		g := d.state.Given[e.ID]
		g.Last, d.dirty = d.state.Clock, true // it is of use
		d.state.Given[e.ID] = g
		d.mu.Unlock()
	case ctx.Err() == nil:
		d.blame(cmp.Or(e.Name, o.URL), "not taken: "+err.Error())
	}
}

// offer has peers told of e.
func (d *Daemon) offer(e Entry) {
	t := Torrent{ID: e.ID, V2: e.V2, Trackers: e.Trackers, Hosts: e.Hosts, Private: e.Private,
		Metainfo: func() ([]byte, error) { return d.Library.Metainfo(e.ID) }}
	if err := d.Swarm.Add(t); err != nil {
		d.blame(e.Name, "not offered: "+err.Error())
	}
}

// least orders entries so that those come first that nobody has got for the longest time.
func (d *Daemon) least(list []Entry) []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := func(e Entry) int64 { return max(e.Since, d.state.Given[e.ID].Last) }
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(used(a), used(b)) })
	return list
}

// forget takes e out of the library.
func (d *Daemon) forget(e Entry, why string) {
	d.withdraw(e.ID)
	d.Library.Remove(e.ID)
	d.Log.Info("not offered any more", "name", e.Name, "torrent", e.ID, "why", why)
}

// withdraw takes leave of the peers of a torrent.
func (d *Daemon) withdraw(id ID) {
	d.Swarm.Remove(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, id) // it is counted anew, should it come again
}

// Open opens content that a peer wants. It is one for Swarm to call.
func (d *Daemon) Open(id ID) (*os.File, error) { return d.Library.Open(id) }

// Dropped is told by Swarm of content that cannot be read or has changed, and has it verified anew: after a while, if that was done
// not long ago and found it right.
func (d *Daemon) Dropped(id ID, why error) {
	e, ok := d.Library.Entry(id)
	if !ok {
		return
	}
	d.mu.Lock()
	last, again := d.verified[id]
	d.doubts[id] = last
	if again {
		d.doubts[id] = last.Add(failedAgain)
	}
	d.mu.Unlock()
	if again {
		d.blame(e.Name, "dropped for a while: "+why.Error())
	}
}

// recheckDoubts verifies what is to be verified by now.
func (d *Daemon) recheckDoubts(ctx context.Context, now time.Time) {
	var due []ID
	d.mu.Lock()
	for id, when := range d.doubts {
		if !when.After(now) {
			due = append(due, id)
		}
	}
	for id, when := range d.verified {
		if now.Sub(when) >= failedAgain {
			delete(d.verified, id)
		}
	}
	d.mu.Unlock()
	for _, id := range due {
		d.recheck(ctx, id)
	}
}

// recheck verifies the content of an entry, and offers it again if it is right.
func (d *Daemon) recheck(ctx context.Context, id ID) {
	e, _ := d.Library.Entry(id)
	err := d.Library.Recheck(ctx, id)
	if ctx.Err() != nil {
		return
	}
	kept, ok := d.Library.Entry(id)
	d.mu.Lock()
	delete(d.doubts, id)
	switch {
	case !ok:
	case err == nil:
		d.verified[id] = time.Now()
	default:
		d.doubts[id] = time.Now().Add(failedAgain)
	}
	d.mu.Unlock()
	switch {
	case ok && err == nil:
		d.offer(kept)
	case ok:
		d.withdraw(id)
		d.blame(e.Name, "dropped for a while: "+err.Error())
	case !errors.Is(err, ErrUnknown):
		d.withdraw(id)
		if e.Path == "" || !errors.Is(err, fs.ErrNotExist) { // who cleans his cache has no problem
			d.blame(e.Name, "dropped: "+err.Error())
		}
	}
}

func (d *Daemon) blame(name, what string) {
	d.Log.Warn(what, "name", name)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problems = slices.DeleteFunc(d.problems, func(p Problem) bool { return p.Name == name && p.What == what }) // told anew
	d.problems = append(d.problems, Problem{time.Now(), name, what})
	if n := len(d.problems); n > keptProblems {
		d.problems = slices.Clone(d.problems[n-keptProblems:])
	}
}

// tick counts what was given since the last one, elapsed ago, and has the limits hold.
func (d *Daemon) tick(now time.Time, elapsed time.Duration) {
	d.ticking.Lock()
	defer d.ticking.Unlock()
	st := d.Swarm.Status()
	d.mu.Lock()
	d.count(now, elapsed, st)
	c, done := d.config, []Entry(nil)
	held := ""
	left := d.state.Quota.Left(now, c.Day, c.Month)
	switch {
	case d.state.Paused:
		held = "paused"
	case !c.Hours.Hold(now):
		held = "outside of its hours"
	case left == 0:
		held = "all is given that may be"
	}
	if held == "" {
		d.clock += elapsed
		if whole := d.clock.Truncate(time.Second); whole > 0 {
			d.clock -= whole
			d.state.Clock += int64(whole / time.Second)
		}
	}
	if c.Time > 0 || c.Ratio > 0 {
		for _, e := range d.Library.Entries() {
			if e.Path != "" {
				continue // it is offered as long as it lies there
			}
			if c.Time > 0 && d.state.seeded(e) >= c.Time || c.Ratio > 0 && float64(d.state.Given[e.ID].Bytes) >= c.Ratio*float64(e.Size) {
				done = append(done, e)
			}
		}
	}
	limit := d.rateLimit(left)
	pause, slow := (held == "") != (d.held == "") || d.limit < 0, limit != d.limit
	d.held, d.limit = held, limit
	d.mu.Unlock()
	if pause {
		d.Swarm.Pause(held != "")
	}
	if slow {
		d.Swarm.Limit(limit)
	}
	for _, e := range done {
		d.forget(e, "it was offered for long enough, or often enough given")
	}
}

// rateLimit is what may be given in bytes/s. As the end of the quota comes near it gets less, since what was given is known some
// seconds late. mu is held.
func (d *Daemon) rateLimit(left int64) int64 {
	limit := max(0, d.config.Rate)
	if d.state.Rate > 0 {
		limit = d.state.Rate
	}
	if least := max(left/4, leastRate); left >= 0 && least < freeRate && (limit == 0 || least < limit) {
		limit = least
	}
	return limit
}

// count adds what has been given. mu is held.
func (d *Daemon) count(now time.Time, elapsed time.Duration, st SwarmStatus) {
	all := max(0, st.Uploaded-d.last.Uploaded)
	if st.Restarts > d.last.Restarts {
		d.Log.Warn("what speaks to peers crashed and was started again")
	}
	d.state.Quota.Add(now, all)
	d.dirty = d.dirty || all > 0
	smooth := func(old float64, n int64) float64 {
		if elapsed <= 0 {
			return old
		}
		rate := 0.7*old + 0.3*float64(n)/elapsed.Seconds()
		if rate < 1 {
			return 0
		}
		return rate
	}
	d.rate = smooth(d.rate, all)
	for _, t := range st.Torrents {
		n := max(0, t.Uploaded-d.seen[t.ID])
		if n > 0 {
			g := d.state.Given[t.ID]
			d.state.Given[t.ID] = given{g.Bytes + n, d.state.Clock}
			d.seen[t.ID] = t.Uploaded
		}
		if r := smooth(d.rates[t.ID], n); r > 0 {
			d.rates[t.ID] = r
		} else {
			delete(d.rates, t.ID)
		}
	}
	d.last = st
}

// save writes down what outlives the process, if it has changed.
func (d *Daemon) save() {
	d.saving.Lock()
	defer d.saving.Unlock()
	d.mu.Lock()
	changed := d.dirty || d.state.Clock >= d.clockWas+clockEvery
	left := maps.Clone(d.state.Left)
	d.mu.Unlock()
	if !changed {
		return
	}
	maps.DeleteFunc(left, func(path string, was identity) bool {
		info, err := os.Lstat(path)
		return err == nil && identityOf(info) == was
	})
	d.mu.Lock()
	for path, was := range left { // what has changed or gone meanwhile
		if d.state.Left[path] == was {
			delete(d.state.Left, path)
		}
	}
	for id := range d.state.Given {
		if _, ok := d.Library.Entry(id); !ok {
			delete(d.state.Given, id)
			delete(d.seen, id)
		}
	}
	text, err := json.Marshal(d.state)
	d.dirty, d.clockWas = false, d.state.Clock
	d.mu.Unlock()
	if err == nil {
		err = replaceSynced(filepath.Join(d.Library.dir, stateFile), text)
	}
	if err != nil {
		d.Log.Warn("what was counted cannot be saved", "why", err)
		d.mu.Lock()
		d.dirty = true
		d.mu.Unlock()
	}
}

// pause is asked for over the control socket.
func (d *Daemon) pause(on bool) {
	d.mu.Lock()
	d.state.Paused, d.dirty = on, true
	d.mu.Unlock()
	d.tick(time.Now(), 0)
	d.save()
}

// setRate is asked for over the control socket; 0: as configured.
func (d *Daemon) setRate(rate int64) {
	d.mu.Lock()
	d.state.Rate, d.dirty = rate, true
	d.mu.Unlock()
	d.tick(time.Now(), 0)
	d.save()
}

// remove forgets what is called so, or has that info hash or beginning of one.
func (d *Daemon) remove(what string) (names []string, err error) {
	var found []Entry
	for _, e := range d.Library.Entries() {
		if e.Name == what || len(what) >= 8 && strings.HasPrefix(e.ID.String(), strings.ToLower(what)) {
			found = append(found, e)
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%q: %w", what, ErrUnknown)
	}
	for _, e := range found {
		d.mu.Lock()
		if e.Path != "" {
			d.state.Left[e.Path], d.dirty = e.Seen, true
		}
		for path, t := range d.twins {
			if t.id == e.ID {
				d.state.Left[path], d.dirty = t.identity, true
			}
		}
		d.mu.Unlock()
		d.forget(e, "asked for")
		names = append(names, e.Name)
	}
	return names, nil
}
