package swarm

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
)

// metadataTurn is how long peers may take to give what a magnet link is of; twice that once each has had its turn, and so on.
const metadataTurn = 5 * time.Second

// turns asks peers one after the other for the torrent of a magnet link, once all together have not given it: to the client
// (v1.62.0) what one of them says of it, its size above all, counts for the others too.
type turns struct {
	e     *engine
	named []string // of the link, "host:port"
	alone bool     // one at a time
	busy  bool     // somebody is connected, since then
	since time.Time
	turn  time.Duration

	mu    sync.Mutex
	known map[string]torrent.PeerInfo // that took our connection, by address
}

func newTurns(e *engine, named []string) *turns {
	return &turns{e: e, named: named, known: map[string]torrent.PeerInfo{}, since: time.Now(), turn: metadataTurn}
}

// met is told of each peer that is connected. The client's lock is held.
func (r *turns) met(c *torrent.PeerConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Discovery != torrent.PeerSourceIncoming && len(r.known) < peersWanted {
		r.known[c.RemoteAddr.String()] = torrent.PeerInfo{Addr: c.RemoteAddr, Source: c.Discovery}
	}
}

// look is called again and again.
func (r *turns) look(now time.Time) {
	t := r.e.torrent
	conns := t.PeerConns()
	if busy := len(conns) > 0; busy != r.busy {
		r.busy, r.since = busy, now
	}
	if now.Sub(r.since) < r.turn {
		return
	}
	r.since = now
	r.mu.Lock()
	again := slices.Collect(maps.Values(r.known))
	r.mu.Unlock()
	switch {
	case len(again) == 1 && r.busy && !r.alone: // nobody else can have spoken: it is slow
		return
	case len(again) == 0: // nobody was there; perhaps somebody is now
		r.turn *= 2
	case !r.alone:
		r.alone = true
		t.SetMaxEstablishedConns(1)
	case !r.busy: // each has had its turn
		r.turn *= 2
		r.e.filter.pardon()
	default:
		for _, c := range conns {
			r.e.filter.ban(c.RemoteAddr.String())
		}
	}
	for _, c := range conns {
		c.Close()
	}
	t.AddPeers(again)
	go addPeers(t, r.named)
}
