package swarm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	pp "github.com/anacrolix/torrent/peer_protocol"
	"golang.org/x/time/rate"

	ours "torrent-xfer/metainfo"

	"torrent-xfer/internal/peers"
)

const (
	seedMemory   = 160 << 20 // what the library is told to keep below: many peers at once need more than a download
	allPeers     = 200
	mostAwake    = 300              // torrents that the client knows
	mostMetainfo = ours.MaxSize     // bytes of theirs together: the client makes some ten times that of it
	idleAfter    = time.Minute      // without a peer a torrent leaves the client again
	infoPatience = 10 * time.Second // for the metainfo
	reportEvery  = time.Second
	reportAtOnce = 500
	mostTrouble  = 300 // bytes; so many torrents that each have trouble fit into a frame, whatever JSON makes of the text
)

// seeder seeds what it is told of. The client knows a torrent only while a peer wants it: a thousand pieces cost it some
// hundred KiB. All the others are an info hash and a place in the queue of a tracker; a peer's first words, the local network or the
// tracker wake them.
type seeder struct {
	link    *peers.Link
	files   *shelf
	client  *torrent.Client
	filter  *filter
	gate    *gate
	limiter *rate.Limiter // of uploads
	spread  *rounds
	closed  chan struct{}
	linger  time.Duration

	mu       sync.RWMutex
	known    map[[20]byte]*content // by both info hashes
	active   map[*content]bool
	changed  map[*content]bool // since the last report
	paused   bool
	uploaded int64 // bytes of torrents that have left the client
}

// content is a torrent that is seeded. Its fields are the seeder's, under its mu.
type content struct {
	id, v2   [20]byte // v2: zero: none
	private  bool
	gone     bool // removed or dropped
	torrent  *torrent.Torrent
	length   int           // of the metainfo, while there is a torrent
	busy     time.Time     // when somebody was last there
	info     chan struct{} // closed when the metainfo has come, or it is clear that it will not; nil: not asked for
	uploaded int64         // bytes, before it last left the client
	told     peers.SeedReport
	problem  string
}

// seed is Run for finished files.
func seed(link *peers.Link, start peers.Start, socket *os.File) error {
	debug.SetMemoryLimit(seedMemory)
	files, err := peers.NewFiles(socket)
	if err != nil {
		return err
	}
	s := &seeder{link: link, closed: make(chan struct{}), linger: start.Options.Linger, known: map[[20]byte]*content{},
		active: map[*content]bool{}, changed: map[*content]bool{}}
	if s.linger <= 0 {
		s.linger = peers.DefaultLinger
	}
	s.files = newShelf(files)
	if err := s.open(start.Options, start.Reach); err != nil {
		return err
	}
	var reports sync.WaitGroup
	reports.Go(s.report)
	err = link.Serve(peers.SeedOrders{Add: s.add, Remove: s.remove, Limit: s.limit, Pause: s.pause, Info: s.inform})
	close(s.closed)
	s.gate.close()
	s.client.Close()
	s.spread.leave(s.linger)
	reports.Wait()
	if errors.Is(err, io.EOF) {
		return nil // nobody wants us to seed any more
	}
	return err
}

func (s *seeder) open(o peers.Options, reach peers.Reach) error {
	f, err := newFilter(reach, o.Block)
	if err != nil {
		return err
	}
	s.filter = f
	cfg, err := clientConfig(o, f)
	if err != nil {
		return err
	}
	most := o.MaxPeers
	if most <= 0 {
		most = allPeers
	}
	most = min(most, mostPeers)
	cfg.EstablishedConnsPerTorrent = min(most, defaultPeers)
	cfg.AlwaysWantConns = true // whether or not there is a torrent
	cfg.PeriodicallyAnnounceTorrentsToDht = false
	cfg.DropDuplicatePeerIds = true
	cfg.Callbacks.ReceiveEncryptedHandshakeSkeys = s.secrets
	cfg.Callbacks.ReadMessage = func(c *torrent.PeerConn, m *pp.Message) {
		if m.Type == pp.Request {
			passOverPadding(c.Torrent().Info(), m)
		}
	}
	cfg.DefaultStorage = nowhere{}
	if s.client, err = torrent.NewClient(cfg); err != nil {
		return err
	}
	s.limiter = cfg.UploadRateLimiter
	if s.gate, err = openGate(s.client, cfg, f, o.Port, most, func(hash [20]byte) { s.wake(hash) }); err != nil {
		s.client.Close()
		return err
	}
	s.spread = newRounds(s, o.UserAgent)
	if o.DHT {
		server, err := joinDHT(s.client, cfg)
		if err != nil {
			s.gate.close()
			s.client.Close()
			return err
		}
		go s.announceDHT(server)
	}
	if !o.NoLPD {
		s.listenLocal(o.Interface)
	}
	return s.link.Note("listening at port " + strconv.Itoa(s.client.LocalPort()))
}

// add is told of torrents.
func (s *seeder) add(list []peers.Seed) {
	for _, t := range list {
		if len(t.ID) != 20 || len(t.V2) != 0 && len(t.V2) != 20 {
			continue
		}
		s.mu.Lock()
		c := s.known[[20]byte(t.ID)]
		if c == nil {
			c = &content{id: [20]byte(t.ID)}
			if t.V2 != nil {
				c.v2 = [20]byte(t.V2)
				s.known[c.v2] = c
			}
			s.known[c.id] = c
		}
		c.private = t.Private
		paused := s.paused
		s.mu.Unlock()
		s.filter.trust(t.Hosts)
		s.spread.set(c, tiersOf(t.Trackers), !paused)
	}
}

func (s *seeder) remove(id [20]byte) {
	s.mu.Lock()
	c := s.known[id]
	s.mu.Unlock()
	if c != nil {
		s.forget(c)
	}
}

// forget has nothing to do with c any more.
func (s *seeder) forget(c *content) {
	s.mu.Lock()
	c.gone = true
	for _, id := range [][20]byte{c.id, c.v2} {
		if s.known[id] == c {
			delete(s.known, id)
		}
	}
	delete(s.changed, c)
	s.mu.Unlock()
	s.spread.set(c, nil, true)
	s.sleep(c)
}

// drop tells that c cannot be offered any more.
func (s *seeder) drop(c *content, why error) {
	s.mu.Lock()
	before := c.gone
	c.gone = true
	s.mu.Unlock()
	if before {
		return
	}
	s.link.Drop(c.id, why.Error())
	s.forget(c)
}

func (s *seeder) limit(bytesPerSecond int64) {
	l := s.limiter
	limit, burst := uploadRate(bytesPerSecond)
	l.SetBurst(burst)
	l.SetLimit(limit)
}

func (s *seeder) pause(on bool) {
	s.mu.Lock()
	s.paused = on
	var all, active []*content
	for id, c := range s.known {
		if id == c.id {
			all = append(all, c)
		}
		if c.torrent != nil && id == c.id {
			active = append(active, c)
		}
	}
	s.mu.Unlock()
	if on {
		for _, c := range active {
			s.sleep(c)
		}
	}
	for _, c := range all {
		s.spread.enable(c, !on)
	}
}

// inform gets the metainfo that was asked for.
func (s *seeder) inform(id [20]byte, data []byte) {
	s.mu.RLock()
	c := s.known[id]
	s.mu.RUnlock()
	if c == nil {
		return
	}
	var err error
	if data != nil {
		if err = s.enter(c, data); err != nil {
			s.drop(c, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.info != nil {
		close(c.info)
		c.info = nil
	}
}

// enter has the client know c.
func (s *seeder) enter(c *content, data []byte) error {
	m, err := ours.ParseAll(data) // once more: this process trusts nobody
	if err != nil {
		return err
	}
	if v1, v2 := m.InfoHashes(); v1 != hex.EncodeToString(c.id[:]) && (v1 != "" || v2[:40] != hex.EncodeToString(c.id[:])) {
		return errors.New("the metainfo is of another torrent")
	}
	mi, err := metainfo.Load(bytes.NewReader(data))
	if err != nil {
		return err
	}
	spec, err := torrent.TorrentSpecFromMetaInfoErr(mi)
	if err != nil {
		return err
	}
	spec.Trackers, spec.Webseeds, spec.Sources, spec.DhtNodes = nil, nil, nil, nil
	spec.DisableInitialPieceCheck = true
	spec.Storage = &seedStorage{s: s, c: c}
	s.mu.RLock()
	refused := s.paused || c.gone || c.torrent != nil
	s.mu.RUnlock()
	if refused || !s.makeRoom(len(data)) {
		return nil
	}
	t, _, err := s.client.AddTorrentSpec(spec)
	if err != nil {
		return err
	}
	s.mu.Lock()
	c.torrent, c.length, c.busy = t, len(data), time.Now()
	s.active[c] = true
	left := s.paused || c.gone
	s.mu.Unlock()
	if left { // meanwhile
		s.sleep(c)
	}
	return nil
}

// makeRoom lets torrents sleep until the client may know one more whose metainfo is that long, those first that nobody has wanted for
// longest. false: peers have so many that there is no room.
func (s *seeder) makeRoom(length int) bool {
	for {
		var oldest *content
		s.mu.Lock()
		n := length
		for c := range s.active {
			n += c.length
			if (oldest == nil || c.busy.Before(oldest.busy)) && len(c.torrent.PeerConns()) == 0 {
				oldest = c
			}
		}
		room := n <= mostMetainfo && len(s.active) < mostAwake
		s.mu.Unlock()
		if room || oldest == nil {
			return room
		}
		s.sleep(oldest)
	}
}

// wake has the client know the torrent with that info hash, if it is seeded; nil: it is not.
func (s *seeder) wake(id [20]byte) *torrent.Torrent {
	s.mu.Lock()
	c := s.known[id]
	if c == nil || c.gone || s.paused {
		s.mu.Unlock()
		return nil
	}
	c.busy = time.Now()
	if c.torrent != nil {
		defer s.mu.Unlock()
		return c.torrent
	}
	wait := c.info
	if wait == nil {
		wait = make(chan struct{})
		c.info = wait
		if s.link.Ask(c.id) != nil {
			s.mu.Unlock()
			return nil
		}
	}
	s.mu.Unlock()
	select {
	case <-wait:
	case <-s.closed:
	case <-time.After(infoPatience):
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return c.torrent
}

// sleep has the client forget c.
func (s *seeder) sleep(c *content) {
	s.mu.Lock()
	t := c.torrent
	if t != nil {
		uploaded := t.Stats().BytesWrittenData
		c.uploaded += uploaded.Int64()
		s.uploaded += uploaded.Int64()
		c.torrent = nil
		delete(s.active, c)
		if !c.gone {
			s.changed[c] = true
		}
	}
	s.mu.Unlock()
	if t != nil {
		t.Drop()
	}
	s.files.forget(c)
}

// secrets tries all info hashes on an encrypted handshake, and wakes the one that fits.
func (s *seeder) secrets(fits func([]byte) (more bool)) {
	var found [20]byte
	s.mu.RLock()
	for id := range s.known {
		if !fits(id[:]) {
			found = id
			break
		}
	}
	s.mu.RUnlock()
	if found != [20]byte{} {
		s.wake(found)
	}
}

// trouble remembers what a tracker said; "": all is well. The client quotes whole answers.
func (s *seeder) trouble(c *content, text string) {
	if len(text) > mostTrouble {
		text = strings.ToValidUTF8(text[:mostTrouble], "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.gone && c.problem != text {
		c.problem = text
		s.changed[c] = true
	}
}

// report tells how things stand, and puts to sleep what nobody has wanted for a while.
func (s *seeder) report() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	told := time.Time{}
	var last peers.Report
	for {
		r, idle := s.look()
		for _, c := range idle {
			s.sleep(c)
		}
		if len(r.Torrents) > 0 || r.Port != last.Port || r.Peers != last.Peers || r.Uploaded != last.Uploaded || time.Since(told) > aliveEvery {
			last, told = r, time.Now()
			if s.link.Report(r) != nil {
				return
			}
		}
		select {
		case <-s.closed:
			r, _ := s.look()
			s.link.Report(r)
			return
		case <-tick.C:
		}
	}
}

func (s *seeder) look() (r peers.Report, idle []*content) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = peers.Report{Port: s.client.LocalPort(), Peers: s.gate.peers(), Uploaded: s.uploaded}
	now := time.Now()
	for c := range s.active {
		conns := len(c.torrent.PeerConns())
		st := c.torrent.Stats()
		uploaded := st.BytesWrittenData.Int64()
		r.Uploaded += uploaded
		if conns > 0 {
			c.busy = now
		} else if now.Sub(c.busy) > idleAfter {
			idle = append(idle, c)
		}
		if conns != c.told.Peers || c.uploaded+uploaded != c.told.Uploaded {
			s.changed[c] = true
		}
	}
	for c := range s.changed {
		if len(r.Torrents) == reportAtOnce {
			break // the others are told of next time
		}
		delete(s.changed, c)
		c.told = peers.SeedReport{ID: c.id[:], Uploaded: c.uploaded, Problem: c.problem}
		if c.torrent != nil {
			st := c.torrent.Stats()
			c.told.Peers, c.told.Uploaded = len(c.torrent.PeerConns()), c.uploaded+st.BytesWrittenData.Int64()
		}
		r.Torrents = append(r.Torrents, c.told)
	}
	return r, idle
}
