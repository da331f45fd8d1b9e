package swarm

import (
	"context"
	"maps"
	"math"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/tracker"
)

const (
	announcePatience = 15 * time.Second
	announcesAtOnce  = 64
	peersWanted      = 200
	leastInterval    = time.Minute // between two announces
	mostInterval     = 24 * time.Hour
	nextTracker      = time.Second      // until the next of a tier is asked too
	failedInterval   = 10 * time.Second // after the first failure; twice that after the next
	mostFailed       = time.Hour
)

// announcer goes to trackers. The client's own can lose its timer when two events coincide (v1.62.0, internal/mytimer), and then
// never goes there; nor does it tell how an announce ends.
type announcer struct {
	e     *engine
	agent string // for HTTP
	slots chan struct{}

	mu    sync.Mutex
	heard map[place]bool // where we are known, or may be
	first string         // the tracker of the torrent's own host that answered first
}

// place is a torrent at a tracker: a hybrid torrent has two names.
type place struct {
	url  string
	hash [20]byte
}

func newAnnouncer(e *engine, agent string) *announcer {
	return &announcer{e: e, agent: agent, slots: make(chan struct{}, announcesAtOnce), heard: map[place]bool{}}
}

// follow announces to one tracker of each tier until ctx ends (BEP 12), if the torrent is private to one of all (BEP 27).
func (a *announcer) follow(ctx context.Context, tiers [][]string, private bool) {
	patience := nextTracker
	if private {
		tiers, patience = [][]string{slices.Concat(tiers...)}, math.MaxInt64
	}
	a.mu.Lock()
	first := a.first
	a.mu.Unlock()
	known := map[string]bool{}
	for _, tier := range tiers {
		if slices.Contains(tier, first) {
			continue
		}
		tier = slices.DeleteFunc(slices.Clone(tier), func(u string) bool { return known[u] })
		for _, u := range tier {
			known[u] = true
		}
		if len(tier) > 0 {
			for _, hash := range a.e.hashes {
				go a.stay(ctx, tier, hash, patience, 0)
			}
		}
	}
}

// followFirst announces to the trackers of the torrent's own host and stays with the one that answers first. over is closed when
// one has, or none will.
func (a *announcer) followFirst(ctx context.Context, urls []string) (over <-chan struct{}) {
	answered, answer := context.WithCancel(ctx)
	go func() {
		defer answer()
		var asked sync.WaitGroup
		for _, u := range urls {
			asked.Go(func() {
				at := place{u, a.e.hashes[0]}
				interval, err := a.announce(ctx, at, tracker.Started, false)
				if err != nil {
					a.e.link.Note("no tracker at " + u)
					return
				}
				a.mu.Lock()
				kept := a.first == ""
				if kept {
					a.first = u
				}
				a.mu.Unlock()
				if !kept {
					return
				}
				answer()
				a.e.link.Heard(u)
				for i, hash := range a.e.hashes {
					if i > 0 {
						interval = 0
					}
					go a.stay(ctx, []string{u}, hash, nextTracker, interval)
				}
			})
		}
		asked.Wait()
	}()
	return answered.Done()
}

// stay announces to one tracker of a tier at a time, again and again, to the next once that fails. after: the first of them was
// announced to and wants that again after so long; 0: it was not.
func (a *announcer) stay(ctx context.Context, tier []string, hash [20]byte, patience, after time.Duration) {
	at, failed := 0, failedInterval
	if after == 0 {
		at, after = a.choose(ctx, tier, hash, patience, at)
	}
	for {
		wait := after
		if after == 0 {
			wait, failed = failed, min(2*failed, mostFailed)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if after == 0 {
			at, after = a.choose(ctx, tier, hash, patience, at)
			continue
		}
		var err error
		if after, err = a.announce(ctx, place{tier[at], hash}, tracker.None, false); err != nil {
			at, failed = (at+1)%len(tier), failedInterval
		}
	}
}

// choose announces to the trackers of a tier, from at on, until one answers: to the next once one fails, or takes longer than patience.
// It returns which that was, and when to announce there again; 0: none answers.
func (a *announcer) choose(ctx context.Context, tier []string, hash [20]byte, patience time.Duration, at int) (int, time.Duration) {
	type answer struct {
		at    int
		after time.Duration // 0: none
	}
	answers := make(chan answer, len(tier))
	for asked, failed := 0, 0; failed < len(tier); {
		var late <-chan time.Time
		if asked < len(tier) {
			go func(i int) {
				after, _ := a.announce(ctx, place{tier[i], hash}, tracker.Started, false)
				answers <- answer{i, after}
			}((at + asked) % len(tier))
			asked++
			late = time.After(patience)
		}
		select {
		case got := <-answers:
			if got.after > 0 {
				return got.at, got.after
			}
			failed++
		case <-late:
		case <-ctx.Done():
			return at, 0
		}
	}
	return at, 0
}

// leave tells all who know us that the file is complete, if it is, and that we leave.
func (a *announcer) leave(complete bool, linger time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), linger)
	defer cancel()
	a.mu.Lock()
	known := slices.Collect(maps.Keys(a.heard))
	a.mu.Unlock()
	var told sync.WaitGroup
	for _, at := range known {
		told.Go(func() {
			if complete {
				a.announce(ctx, at, tracker.Completed, true)
			}
			a.announce(ctx, at, tracker.Stopped, complete)
		})
	}
	told.Wait()
}

// announce announces this download once, adds the peers that are named, and returns when to come again.
func (a *announcer) announce(ctx context.Context, at place, event tracker.AnnounceEvent, complete bool) (interval time.Duration, err error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	within, cancel := context.WithTimeout(ctx, announcePatience)
	defer cancel()
	c, err := a.e.filter.tracker(within, at.url, a.e.udp, cancel)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	stats := a.e.torrent.Stats()
	r := tracker.AnnounceRequest{InfoHash: at.hash, PeerId: a.e.client.PeerID(), Port: a.e.port, Event: event, NumWant: peersWanted,
		Downloaded: stats.BytesReadUsefulData.Int64(), Uploaded: stats.BytesWrittenData.Int64()}
	if !complete {
		r.Left = 1 // of a torrent that is not known yet
		if a.e.torrent.Info() != nil {
			r.Left = max(a.e.torrent.BytesMissing(), 1)
		}
	}
	if event == tracker.Started {
		a.mu.Lock()
		a.heard[at] = true
		a.mu.Unlock()
	}
	answer, err := c.Announce(within, r, tracker.AnnounceOpt{UserAgent: a.agent})
	if err != nil {
		if event == tracker.Started && ctx.Err() == nil { // if it is we who have ended it, it may have been heard
			a.mu.Lock()
			delete(a.heard, at)
			a.mu.Unlock()
		}
		return 0, err
	}
	var found []torrent.PeerInfo
	for _, p := range answer.Peers[:min(len(answer.Peers), peersWanted)] {
		if ip, ok := p.ToNetipAddrPort(); ok && ip.Port() > 0 {
			found = append(found, torrent.PeerInfo{Addr: net.TCPAddrFromAddrPort(ip), Source: torrent.PeerSourceTracker})
		}
	}
	if len(found) > 0 && event != tracker.Stopped && event != tracker.Completed {
		a.e.torrent.AddPeers(found)
	}
	return untilNext(answer.Interval), nil
}

// untilNext is when to announce again, if a tracker wants that after so many seconds.
func untilNext(seconds int32) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, leastInterval), mostInterval)
}
