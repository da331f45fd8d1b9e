package swarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	alog "github.com/anacrolix/log"
	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/metainfo"
	pp "github.com/anacrolix/torrent/peer_protocol"

	ours "torrent-xfer/metainfo"

	"torrent-xfer/internal/peers"
)

const (
	// peerIDPrefix is ours (BEP 20): torrent-xfer 0.1.0.
	peerIDPrefix = "-TX0100-"

	defaultPeers = 50
	queuePerPeer = 256 << 10 // bytes waiting to be sent to one peer
	offerEvery   = 10 * time.Millisecond
	offerAnyway  = 200 * time.Millisecond // since what a peer said may take a moment to count
	aliveEvery   = 5 * time.Second
	passOn       = 200 * time.Millisecond // for what came last: nobody else may have it, and each would go to the mirror for it
)

// engine serves one torrent for one Link.
type engine struct {
	link    *peers.Link
	file    io.ReaderAt
	client  *torrent.Client
	torrent *torrent.Torrent
	info    *metainfo.Info
	size    int64
	gate    *gate
	filter  *filter
	port    uint16 // that peers connect to
	udp     string // network of UDP trackers
	hashes  [][20]byte

	announcer *announcer

	mu      sync.Mutex
	changed bool // what is to be offered
	asked   []int
	pieces  []piece
	waiting map[int]chan verdict
	history map[copyOf][]string
}

// piece is what is known of one piece. Its givers are the peers of its blocks since it was last judged.
type piece struct {
	have, want bool
	givers     []string
}

type copyOf struct{ piece, attempt int }

type verdict int

const (
	right verdict = iota
	wrong
	notWhole
)

var (
	errNotWanted = errors.New("the block is not wanted any more")
	errNotWhole  = errors.New("the piece is not whole")
)

// Run speaks to the peers of the torrent that link names, until link stops it. file is read for pieces that are verified.
// The error says why there is nothing to be had from peers; whatever panics in the library panics.
// If link names a magnet link instead, its torrent is looked for; file is not used. If it names neither, finished files are seeded, and
// file is the socket over which they come.
func Run(link *peers.Link, file *os.File) error {
	start, err := link.Start()
	if err != nil {
		return err
	}
	alog.Default.SetHandlers() // local discovery prints there
	if start.Seed {
		return seed(link, start, file)
	}
	if start.Magnet != "" {
		return findMetadata(link, start)
	}
	e := &engine{link: link, file: file, waiting: map[int]chan verdict{}, history: map[copyOf][]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := e.open(ctx, start); err != nil {
		return err
	}
	done := make(chan struct{})
	var offers sync.WaitGroup
	offers.Go(func() { e.offer(done) })
	err = link.Listen(peers.Orders{Have: e.have, Want: e.want, Leave: e.leave, Verdict: e.judged, Wrong: e.wrong,
		First: func(urls []string) { e.announcer.followFirst(ctx, flat(urls)) }})
	close(done)
	cancel()
	offers.Wait()
	e.close(start.Options.Linger)
	if errors.Is(err, io.EOF) {
		return nil // the download has ended
	}
	return err
}

func (e *engine) open(ctx context.Context, start peers.Start) error {
	checked, err := ours.ParseAll(start.Metainfo)
	if err != nil {
		return err // once more: this process trusts nobody
	}
	mi, err := metainfo.Load(bytes.NewReader(start.Metainfo))
	if err != nil {
		return err
	}
	spec, err := torrent.TorrentSpecFromMetaInfoErr(mi)
	if err != nil {
		return err
	}
	info, err := mi.UnmarshalInfo()
	if err != nil {
		return err
	}
	e.info, e.size = &info, checked.Size
	private := info.Private != nil && *info.Private
	e.pieces, e.asked = make([]piece, info.NumPieces()), make([]int, info.NumPieces())
	cfg, err := e.config(start.Options, start.Reach, private)
	if err != nil {
		return err
	}
	if err := e.enter(cfg, start.Options, private); err != nil {
		return err
	}
	spec.DisableInitialPieceCheck = true
	spec.Trackers, spec.Webseeds, spec.Sources, spec.DhtNodes = nil, nil, nil, nil
	t, _, err := e.client.AddTorrentSpec(spec)
	if err != nil {
		e.exit()
		return err
	}
	t.SetOnWriteChunkError(func(error) {}) // a block that came too late is no reason to stop
	e.setOut(cfg, t, hashesOf(spec.AddTorrentOpts), start.Options.UserAgent)
	go func() {
		if len(start.First) > 0 && !private {
			select {
			case <-e.announcer.followFirst(ctx, flat(start.First)):
			case <-time.After(cmp.Or(max(0, start.Options.HeadStart), peers.DefaultHeadStart)):
			}
		}
		e.announcer.follow(ctx, tiersOf(start.Trackers), private)
	}()
	go addPeers(t, start.Peers)
	return e.link.Note("listening at port " + strconv.Itoa(e.client.LocalPort()))
}

// enter starts the client where peers find it.
func (e *engine) enter(cfg *torrent.ClientConfig, o peers.Options, private bool) (err error) {
	if e.client, err = torrent.NewClient(cfg); err != nil {
		return err
	}
	if e.gate, err = openGate(e.client, cfg, e.filter, o.Port, mostPeers, nil); err == nil && o.DHT && !private {
		_, err = joinDHT(e.client, cfg)
	}
	if err != nil {
		e.exit()
	}
	return err
}

func (e *engine) exit() {
	if e.gate != nil {
		e.gate.close()
	}
	e.client.Close()
}

// hashesOf are the names of a torrent, of which a hybrid has two; that of v2 is cut (BEP 52).
func hashesOf(o torrent.AddTorrentOpts) (list [][20]byte) {
	if o.InfoHash != (metainfo.Hash{}) {
		list = append(list, o.InfoHash)
	}
	if o.InfoHashV2.Ok {
		list = append(list, *o.InfoHashV2.Value.ToShort())
	}
	return list
}

// setOut prepares what announces need.
func (e *engine) setOut(cfg *torrent.ClientConfig, t *torrent.Torrent, hashes [][20]byte, agent string) {
	e.torrent, e.hashes, e.port = t, hashes, uint16(e.client.LocalPort())
	if e.udp = "udp"; cfg.DisableIPv6 {
		e.udp = "udp4"
	}
	e.announcer = newAnnouncer(e, agent)
}

// config has the client do what a download wants of it.
func (e *engine) config(o peers.Options, reach peers.Reach, private bool) (*torrent.ClientConfig, error) {
	f, err := newFilter(reach, o.Block)
	if err != nil {
		return nil, err
	}
	e.filter = f
	cfg, err := clientConfig(o, f)
	if err != nil {
		return nil, err
	}
	if !o.NoLPD && !private {
		cfg.LocalServiceDiscovery = &torrent.LocalServiceDiscoveryConfig{}
		if i := interfaceOf(o.Interface); i != nil {
			cfg.LocalServiceDiscovery.Ifi = i.Name
		}
	}
	cfg.EstablishedConnsPerTorrent = defaultPeers
	if o.MaxPeers > 0 {
		cfg.EstablishedConnsPerTorrent = o.MaxPeers
	}
	cfg.PieceHashersPerTorrent = 64 // that only wait for a verdict
	cfg.DefaultStorage = storageOf{e}
	cfg.Callbacks.ReadMessage = func(_ *torrent.PeerConn, m *pp.Message) {
		switch m.Type {
		case pp.Have, pp.Bitfield, pp.HaveAll, pp.HaveNone:
			e.note(-1, 0)
		case pp.Request:
			passOverPadding(e.info, m)
		}
	}
	cfg.Callbacks.PeerClosed = append(cfg.Callbacks.PeerClosed, func(*torrent.Peer) { e.note(-1, 0) })
	cfg.Callbacks.SentRequest = append(cfg.Callbacks.SentRequest, func(r torrent.PeerRequestEvent) { e.note(int(r.Index), 1) })
	cfg.Callbacks.DeletedRequest = append(cfg.Callbacks.DeletedRequest, func(r torrent.PeerRequestEvent) { e.note(int(r.Index), -1) })
	cfg.Callbacks.ReceivedUsefulData = append(cfg.Callbacks.ReceivedUsefulData, func(r torrent.ReceivedUsefulDataEvent) {
		e.gave(r.Peer.RemoteAddr.String(), int(r.Message.Index), int(r.Message.Begin)/ours.BlockSize)
	})
	return cfg, nil
}

// passOverPadding makes a request for padding one that the client does not see; it would end the connection.
func passOverPadding(info *metainfo.Info, m *pp.Message) {
	if asksForPadding(info, m) {
		m.Keepalive = true
	}
}

// asksForPadding reports whether a block is asked for with what follows the end of a file in a v2 torrent: libtorrent 2.0.8 believes
// that there is padding. It does not get that block.
func asksForPadding(info *metainfo.Info, m *pp.Message) bool {
	if info == nil || info.HasV1() || int(m.Index) >= info.NumPieces() || m.Length > ours.BlockSize {
		return false
	}
	end := int64(m.Begin) + int64(m.Length)
	return end > info.Piece(int(m.Index)).Length() && end <= info.PieceLength
}

// flat are the trackers of all tiers but those of other kinds than HTTP and UDP.
func flat(tiers ...[]string) []string {
	return slices.DeleteFunc(slices.Concat(tiers...), func(u string) bool {
		return !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "udp://")
	})
}

// note counts requests for a piece (-1: none) and remembers that there is something new to offer. The client's lock is held.
func (e *engine) note(piece, requests int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if piece >= 0 {
		before := e.asked[piece]
		e.asked[piece] += requests
		if (before > 0) == (e.asked[piece] > 0) {
			return
		}
	}
	e.changed = true
}

// gave remembers who gave a block. The client's lock is held.
func (e *engine) gave(peer string, index, block int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &e.pieces[index]
	if p.givers == nil {
		p.givers = make([]string, (e.info.Piece(index).Length()+ours.BlockSize-1)/ours.BlockSize)
	}
	if block < len(p.givers) {
		p.givers[block] = peer
	}
}

// offer tells what peers have whenever that has changed, and at times although it has not.
func (e *engine) offer(done <-chan struct{}) {
	tick := time.NewTicker(offerEvery)
	defer tick.Stop()
	var told, looked time.Time
	var took time.Duration // to look once: of very many pieces, so long that it is not done often
	var lastUploaded int64
	var lastHad, lastAsked, mine []bool
	var there [][20]byte // ids of peers
	n := e.torrent.NumPieces()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			if now.Sub(looked) < min(20*took, offerAnyway) {
				continue
			}
			now = time.Now()
			e.mu.Lock()
			changed := e.changed
			e.changed = false
			e.mu.Unlock()
			if !changed && now.Sub(looked) < offerAnyway {
				continue
			}
			looked = now
			conns := e.torrent.PeerConns()
			had, asked, ids := make([]bool, n), make([]bool, n), make([][20]byte, 0, len(conns))
			for _, c := range conns {
				ids = append(ids, c.PeerID)
				c.PeerPieces().Iterate(func(p uint32) bool {
					if int(p) < n {
						had[p] = true
					}
					return int(p) < n
				})
			}
			e.mu.Lock()
			for p, requests := range e.asked {
				asked[p] = requests > 0
			}
			e.mu.Unlock()
			stats := e.torrent.Stats()
			uploaded := stats.BytesWrittenData.Int64()
			took = time.Since(now)
			slices.SortFunc(ids, func(a, b [20]byte) int { return bytes.Compare(a[:], b[:]) })
			if mine == nil || !slices.Equal(ids, there) {
				there, mine, told = ids, share(e.client.PeerID(), ids, n), time.Time{}
			}
			if (uploaded == lastUploaded || now.Sub(told) < offerAnyway) && slices.Equal(had, lastHad) && slices.Equal(asked, lastAsked) && now.Sub(told) < aliveEvery {
				continue
			}
			lastUploaded, lastHad, lastAsked, told = uploaded, had, asked, now
			if e.link.Offer(len(conns), uploaded, had, asked, mine) != nil {
				return
			}
		}
	}
}

// have is told that pieces are verified.
func (e *engine) have(pieces []int) {
	e.mu.Lock()
	var answered []chan verdict
	for _, p := range pieces {
		if p >= 0 && p < len(e.pieces) {
			e.pieces[p] = piece{have: true}
			if c := e.waiting[p]; c != nil {
				answered = append(answered, c)
				delete(e.waiting, p)
			}
		}
	}
	e.mu.Unlock()
	for _, c := range answered {
		c <- right
	}
	for _, p := range pieces {
		if p >= 0 && p < len(e.pieces) {
			e.torrent.Piece(p).UpdateCompletion()
		}
	}
}

func (e *engine) want(list []int)  { e.setWanted(list, true, e.torrent.DownloadPieces) }
func (e *engine) leave(list []int) { e.setWanted(list, false, e.torrent.CancelPieces) }

// setWanted tells the client in runs of pieces.
func (e *engine) setWanted(list []int, on bool, tell func(from, to int)) {
	e.mu.Lock()
	for _, p := range list {
		if p < 0 || p >= len(e.pieces) {
			e.mu.Unlock()
			return
		}
		e.pieces[p].want = on
	}
	e.mu.Unlock()
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n] == list[0]+n {
			n++
		}
		tell(list[0], list[0]+n)
		list = list[n:]
	}
}

// judged is told that a piece is wrong, or not whole.
func (e *engine) judged(index, attempt int, alone bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if index < 0 || index >= len(e.pieces) {
		return
	}
	p := &e.pieces[index]
	v := notWhole
	if attempt >= 0 {
		e.history[copyOf{index, attempt}] = p.givers
		p.givers = nil
		if alone {
			v = wrong
			e.blameOnly(index, attempt)
		}
	}
	if c := e.waiting[index]; c != nil {
		delete(e.waiting, index)
		c <- v
	}
}

// blameOnly blames whoever gave a wrong piece, if it was one peer; the client bans it. mu is held.
func (e *engine) blameOnly(piece, attempt int) {
	givers := e.history[copyOf{piece, attempt}]
	for _, g := range givers {
		if g != givers[0] {
			return
		}
	}
	if len(givers) > 0 && givers[0] != "" {
		e.ban(givers[0], piece)
		delete(e.history, copyOf{piece, attempt})
	}
}

// wrong is told which blocks of a failed copy were wrong.
func (e *engine) wrong(piece, attempt int, blocks []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	givers := e.history[copyOf{piece, attempt}]
	delete(e.history, copyOf{piece, attempt})
	for _, b := range blocks {
		if b >= 0 && b < len(givers) && givers[b] != "" {
			e.ban(givers[b], piece)
		}
	}
}

// ban has nothing to do with a peer's address any more. mu is held.
func (e *engine) ban(peer string, piece int) {
	if e.filter.ban(peer) {
		go func() {
			e.link.Blame(peer, fmt.Sprintf("sent wrong bytes (piece %d)", piece))
			for _, c := range e.torrent.PeerConns() {
				if e.filter.banned(c.RemoteAddr.String()) {
					c.Close()
				}
			}
		}()
	}
}

// ask waits for the verdict on a piece of which all blocks were handed over.
func (e *engine) ask(index int) verdict {
	c := make(chan verdict, 1)
	e.mu.Lock()
	if e.pieces[index].have {
		e.mu.Unlock()
		return right
	}
	e.waiting[index] = c
	e.mu.Unlock()
	if e.link.Check(index) != nil {
		return notWhole
	}
	select {
	case v := <-c:
		return v
	case <-e.torrent.Closed():
		return notWhole
	}
}

// close takes leave, of peers and trackers, within a moment.
func (e *engine) close(linger time.Duration) {
	if linger <= 0 {
		linger = peers.DefaultLinger
	}
	e.mu.Lock()
	complete := !slices.ContainsFunc(e.pieces, func(p piece) bool { return !p.have }) // the client may not know yet
	e.mu.Unlock()
	var told sync.WaitGroup
	told.Go(func() { e.announcer.leave(complete, linger) })
	if complete && len(e.torrent.PeerConns()) > 0 {
		time.Sleep(min(passOn, linger))
	}
	e.exit()
	told.Wait()
}
