package swarm

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/tracker"
	"github.com/anacrolix/torrent/tracker/udp"
)

const (
	announcePace    = 100 * time.Millisecond // between announces to one tracker, unless it has so many that they would take too long
	announceAtOnce  = 4                      // to one tracker
	leaveAtOnce     = 16
	announceWait    = 30 * time.Second
	usualInterval   = 30 * time.Minute // of a tracker that names none
	trackerPatience = 3                // failures until the tracker itself is given a rest
	leechersWanted  = 50
)

// rounds tell trackers what is seeded (BEP 3, 12, 15): of each tier one tracker. What one tracker is told is spread out, so
// that thousands of torrents are no burst; the last added come first.
type rounds struct {
	s     *seeder
	agent string
	key   int32

	mu     sync.Mutex
	queues map[string]*queue // by URL
	stands map[*content][]*stand
	closed chan struct{}
	over   bool
}

// stand is an info hash in a tier.
type stand struct {
	c    *content
	hash [20]byte
	tier []string
	at   int // of the tier: the tracker in use

	due       time.Time
	announced bool   // the tracker in use knows us
	stop      bool   // what is due is to take leave
	busy      bool   // an announce is under way
	off       bool   // not to be announced: removed or paused
	fails     int    // in a row
	q         *queue // where it waits; nil: nowhere
}

// queue is a tracker.
type queue struct {
	url      string
	fresh    []*stand // never announced; the last one is the next
	waiting  byDue
	stops    []*stand
	members  int // stands that are its own
	interval time.Duration
	next     time.Time // not before
	busy     int
	failures int // in a row
	wake     chan struct{}
	opening  sync.Mutex    // held while the client is made
	client   trackerClient // nil: none yet
}

// byDue is a heap.
type byDue []*stand

func (b byDue) Len() int           { return len(b) }
func (b byDue) Less(i, j int) bool { return b[i].due.Before(b[j].due) }
func (b byDue) Swap(i, j int)      { b[i], b[j] = b[j], b[i] }
func (b *byDue) Push(x any)        { *b = append(*b, x.(*stand)) }
func (b *byDue) Pop() any {
	old := *b
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*b = old[:len(old)-1]
	return x
}

func newRounds(s *seeder, agent string) *rounds {
	var key [4]byte
	rand.Read(key[:])
	return &rounds{s: s, agent: agent, key: int32(binary.LittleEndian.Uint32(key[:])), queues: map[string]*queue{},
		stands: map[*content][]*stand{}, closed: make(chan struct{})}
}

// set has c announced to these trackers from now on, or told that it is no more; off: not yet.
func (a *rounds) set(c *content, tiers [][]string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.stands[c]
	if len(old) > 0 && len(tiers) > 0 && sameTiers(old, tiers) {
		for _, t := range old {
			a.enable1(t, on)
		}
		return
	}
	for _, t := range old {
		a.enable1(t, false)
	}
	delete(a.stands, c)
	for _, tier := range tiers {
		for _, hash := range [][20]byte{c.id, c.v2} {
			if hash != [20]byte{} {
				t := &stand{c: c, hash: hash, tier: tier, off: true}
				a.stands[c] = append(a.stands[c], t)
				a.enable1(t, on)
			}
		}
	}
}

func sameTiers(old []*stand, tiers [][]string) bool {
	var have [][]string
	for _, t := range old {
		if t.hash == t.c.id {
			have = append(have, t.tier)
		}
	}
	return slices.EqualFunc(have, tiers, func(a, b []string) bool { return slices.Equal(a, b) })
}

// enable has c announced, or the trackers told that we leave.
func (a *rounds) enable(c *content, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.stands[c] {
		a.enable1(t, on)
	}
}

// enable1 is for one stand. mu is held.
func (a *rounds) enable1(t *stand, on bool) {
	if a.over || t.off == !on {
		return
	}
	t.off = !on
	if t.busy {
		return // see done
	}
	a.unqueue(t)
	if on {
		t.fails, t.at = 0, 0
		a.enqueue(t)
	} else if t.announced {
		t.stop = true
		a.enqueue(t)
	}
}

// enqueue has t wait at the tracker in use. mu is held.
func (a *rounds) enqueue(t *stand) {
	url := t.tier[t.at]
	q := a.queues[url]
	if q == nil {
		q = &queue{url: url, interval: usualInterval, wake: make(chan struct{}, 1)}
		a.queues[url] = q
		go a.run(q)
	}
	t.q = q
	q.members++
	switch {
	case t.stop:
		q.stops = append(q.stops, t)
	case t.due.IsZero():
		q.fresh = append(q.fresh, t)
	default:
		heap.Push(&q.waiting, t)
	}
	q.poke()
}

// unqueue has t wait nowhere. mu is held.
func (a *rounds) unqueue(t *stand) {
	q := t.q
	if q == nil {
		return
	}
	same := func(o *stand) bool { return o == t }
	if i := slices.Index(q.waiting, t); i >= 0 {
		heap.Remove(&q.waiting, i)
	}
	q.fresh, q.stops = slices.DeleteFunc(q.fresh, same), slices.DeleteFunc(q.stops, same)
	q.members--
	t.q, t.stop, t.due = nil, false, time.Time{}
	q.poke()
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run announces what is due at one tracker.
func (a *rounds) run(q *queue) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a.mu.Lock()
		t, wait := q.pick(time.Now())
		if t == nil && q.members == 0 && q.busy == 0 || a.over {
			if a.queues[q.url] == q && !a.over {
				delete(a.queues, q.url)
				q.rest()
			}
			a.mu.Unlock()
			return
		}
		if t == nil && q.busy == 0 && wait > announceWait {
			q.rest()
		}
		a.mu.Unlock()
		if t != nil {
			go a.announce(q, t)
			continue
		}
		timer.Reset(wait)
		select {
		case <-q.wake:
		case <-timer.C:
		case <-a.closed:
		}
	}
}

// rest closes what is open to the tracker.
func (q *queue) rest() {
	if q.client != nil {
		q.client.Close()
		q.client = nil
	}
}

// pick takes what is to be announced now; nil: wait so long. The announcer's mu is held.
func (q *queue) pick(now time.Time) (t *stand, wait time.Duration) {
	switch {
	case q.busy >= announceAtOnce:
		return nil, time.Hour
	case now.Before(q.next) && len(q.stops)+len(q.fresh)+len(q.waiting) > 0:
		return nil, q.next.Sub(now)
	case len(q.stops) > 0:
		t, q.stops = q.stops[0], q.stops[1:]
	case len(q.waiting) > 0 && !now.Before(q.waiting[0].due):
		t = heap.Pop(&q.waiting).(*stand)
	case len(q.fresh) > 0:
		n := len(q.fresh) - 1
		t, q.fresh = q.fresh[n], q.fresh[:n]
	case len(q.waiting) > 0:
		return nil, q.waiting[0].due.Sub(now)
	default:
		return nil, time.Hour
	}
	q.next = now.Add(min(announcePace, q.interval*4/5/time.Duration(max(1, q.members))))
	q.members--
	q.busy++
	t.q, t.busy = nil, true
	return t, 0
}

// connect makes the client of the tracker, which may have to look up its address.
func (a *rounds) connect(ctx context.Context, q *queue) (trackerClient, error) {
	q.opening.Lock()
	defer q.opening.Unlock()
	a.mu.Lock()
	client := q.client
	a.mu.Unlock()
	if client != nil {
		return client, nil
	}
	client, err := a.s.filter.tracker(ctx, q.url, "", nil)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	q.client = client
	return client, nil
}

// tell announces t.
func (a *rounds) tell(ctx context.Context, q *queue, t *stand, event tracker.AnnounceEvent) (tracker.AnnounceResponse, error) {
	client, err := a.connect(ctx, q)
	if err != nil {
		return tracker.AnnounceResponse{}, err
	}
	want := int32(leechersWanted)
	if event == tracker.Stopped {
		want = 0
	}
	r := tracker.AnnounceRequest{InfoHash: t.hash, PeerId: a.s.client.PeerID(), Event: event, NumWant: want, Key: a.key,
		Port: uint16(a.s.client.LocalPort()), Uploaded: a.s.uploadedOf(t.c)}
	return client.Announce(ctx, r, tracker.AnnounceOpt{UserAgent: a.agent})
}

// announce announces t and has it wait again.
func (a *rounds) announce(q *queue, t *stand) {
	ctx, cancel := context.WithTimeout(context.Background(), announceWait)
	defer cancel()
	event := tracker.None
	switch {
	case t.stop:
		event = tracker.Stopped
	case !t.announced:
		event = tracker.Started
	}
	r, err := a.tell(ctx, q, t, event)
	if !t.stop {
		problem := ""
		if err != nil {
			problem = "tracker " + q.url + ": " + err.Error()
		}
		a.s.trouble(t.c, problem)
	}
	a.done(q, t, r.Interval, err)
	if err == nil && event != tracker.Stopped && (r.Leechers > 0 || r.Seeders == 0) && len(r.Peers) > 0 {
		a.s.meet(t.hash, r.Peers)
	}
}

// done says when t is due again.
func (a *rounds) done(q *queue, t *stand, interval int32, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	q.busy--
	t.busy = false
	switch {
	case refuses(err):
		q.failures = 0 // it is there, and has no use for this torrent
	case err != nil:
		if q.failures++; q.failures >= trackerPatience {
			q.next = now.Add(min(15*time.Minute, 10*time.Second<<min(q.failures-trackerPatience, 8)))
		}
		if q.busy == 0 {
			q.rest()
		}
	default:
		q.failures = 0
		if q.interval = untilNext(interval); interval <= 0 {
			q.interval = usualInterval
		}
	}
	q.poke()
	if a.over {
		t.announced = t.announced || err == nil && !t.stop
		return
	}
	switch {
	case t.stop:
		t.stop, t.announced, t.due = false, false, time.Time{}
		if !t.off { // wanted again meanwhile
			a.enqueue(t)
		}
	case err == nil:
		t.announced, t.fails, t.due = true, 0, now.Add(q.interval)
		if t.stop = t.off; t.stop || t.due.After(now) {
			a.enqueue(t)
		}
	case t.off:
		t.due = time.Time{}
		if t.stop = t.announced; t.stop {
			a.enqueue(t)
		}
	default:
		t.fails++
		t.announced = false
		t.at = (t.at + 1) % len(t.tier)
		t.due = now
		if t.at == 0 { // all of them have failed
			t.due = now.Add(min(30*time.Minute, time.Minute<<min(t.fails/len(t.tier)-1, 5)))
		}
		a.enqueue(t)
	}
}

// refuses reports whether a tracker has answered that it does not want a torrent.
func refuses(err error) bool {
	var byUDP udp.ErrorResponse
	return errors.As(err, &byUDP) || errors.As(err, new(refusal))
}

// leave takes leave of all trackers, as far as that is possible within d; the last announced come first.
func (a *rounds) leave(d time.Duration) {
	a.mu.Lock()
	a.over = true
	close(a.closed)
	byQueue := map[*queue][]*stand{}
	for _, q := range a.queues {
		for _, t := range slices.Concat(q.stops, q.waiting) {
			if t.announced {
				byQueue[q] = append(byQueue[q], t)
			}
		}
	}
	for _, list := range a.stands {
		for _, t := range list {
			if q := a.queues[t.tier[t.at]]; t.busy && !t.stop && q != nil { // perhaps it has been heard
				byQueue[q] = append(byQueue[q], t)
			}
		}
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var all sync.WaitGroup
	for q, list := range byQueue {
		slices.SortFunc(list, func(x, y *stand) int { return cmp.Compare(y.due.UnixNano(), x.due.UnixNano()) })
		next := make(chan *stand)
		go func() {
			defer close(next)
			for _, t := range list {
				select {
				case next <- t:
				case <-ctx.Done():
					return
				}
			}
		}()
		for range min(leaveAtOnce, len(list)) {
			all.Go(func() {
				for t := range next {
					a.tell(ctx, q, t, tracker.Stopped)
				}
			})
		}
	}
	all.Wait()
}

// meet has the client speak to peers that may want the torrent.
func (s *seeder) meet(hash [20]byte, found []tracker.Peer) {
	t := s.wake(hash)
	if t == nil {
		return
	}
	var list []torrent.PeerInfo
	for _, p := range found[:min(len(found), 2*leechersWanted)] {
		if ip, ok := netip.AddrFromSlice(p.IP); ok && p.Port > 0 && p.Port < 1<<16 {
			list = append(list, torrent.PeerInfo{Addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(p.Port))), Source: torrent.PeerSourceTracker})
		}
	}
	t.AddPeers(list)
}

func (s *seeder) uploadedOf(c *content) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := c.uploaded
	if c.torrent != nil {
		st := c.torrent.Stats()
		n += st.BytesWrittenData.Int64()
	}
	return n
}
