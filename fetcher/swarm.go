package fetcher

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"torrent-xfer/metainfo"

	"golang.org/x/time/rate"
)

// How mirrors and peers share the work.
const (
	amongSeconds   = 0.3                    // a mirror's range among peers: what it holds nobody else fetches
	windowSeconds  = 1                      // peers are asked for what they give in so long, the rest is for mirrors
	windowLeast    = 4 << 20                // bytes of that at least
	crowdShare     = 16                     // of what no peer has, a mirror's range is this part of one's own share
	plentyOfPeers  = 3                      // peers that are so many times faster than all mirrors together need none of them
	peersProve     = time.Second            // for peers who have come to show how fast they are
	proveSeconds   = 0.1                    // a mirror's range, meanwhile, of what they have
	peersQuiet     = time.Second            // silence after which what peers are fetching is up for mirrors
	peersUnseen    = 10 * time.Second       // for peers to appear, once no mirror is left
	peersSilent    = time.Minute            // for the next block of peers who are there, once no mirror is left
	mostBlamed     = 20                     // peers named in a report
	ordersInterval = 2 * time.Millisecond   // orders are gathered for so long
	ordersAgain    = 100 * time.Millisecond // and looked for without a reason so often
)

// PeersName is the name of the one source that all peers are.
const PeersName = "peers"

// errOver: the torrent that the swarm was joined for is not in use any more.
var errOver = errors.New("the torrent is not in use any more")

// A Swarm is the line of peers into a Sink. They give blocks in any order, of pieces that no mirror is fetching; the Sink
// says which those are. Its methods may be called by several goroutines.
type Swarm struct {
	s        *Sink
	feed     *Feed
	manifest *metainfo.Manifest
	limit    *rate.Limiter // nil: none
	nudged   chan struct{}

	// The rest is guarded by the Sink's mutex.
	peers    int
	since    time.Time // when the first came
	had      []bool    // by piece: some peer has it
	asked    []bool    // by piece: peers are being asked for it
	mine     []bool    // by piece: it falls to this download to fetch it from mirrors
	told     []orderKind
	checks   map[int]bool // pieces that the peers' side believes to be whole
	attempts map[int]int  // failed copies, by piece
	failed   map[int]bool // the last copy came from peers alone and was wrong
	orders   Orders       // verdicts and wrong blocks not told yet
	scratch  []bool
	joined   time.Time
	base     int       // where peers begin, chosen at random
	seen     time.Time // when a peer was last there
}

type orderKind uint8

const (
	orderNone orderKind = iota
	orderWant
	orderHave
)

// Orders tell the peers' side what has changed.
type Orders struct {
	Have     []int // pieces that are verified: they may be given to others
	Want     []int // pieces that peers may be asked for
	Leave    []int // pieces that they may not be asked for any more
	Verdicts []Verdict
	Wrong    []WrongBlocks
}

func (o *Orders) empty() bool {
	return len(o.Have)+len(o.Want)+len(o.Leave)+len(o.Verdicts)+len(o.Wrong) == 0
}

// Verdict answers Check for a piece that is not right.
type Verdict struct {
	Piece   int
	Attempt int  // counts, from 0, the copies of this piece that failed; -1: it was not whole, so nothing failed
	Alone   bool // peers gave all of it
}

// WrongBlocks names blocks of a failed copy that peers gave, now that the right ones are known.
type WrongBlocks struct {
	Piece   int
	Attempt int
	Blocks  []int // from the start of the piece
}

// JoinSwarm opens the line of peers for the torrent that is in use. nil: there is none, or there are peers already.
func (s *Sink) JoinSwarm() *Swarm {
	f := s.open(PeersName, PeersName)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifest == nil || s.swarm != nil {
		return nil
	}
	n := s.manifest.Pieces()
	w := &Swarm{s: s, feed: f, manifest: s.manifest, limit: s.limit, nudged: make(chan struct{}, 1),
		had: make([]bool, n), asked: make([]bool, n), told: make([]orderKind, n), scratch: make([]bool, n),
		checks: map[int]bool{}, attempts: map[int]int{}, failed: map[int]bool{}, joined: time.Now(), base: rand.IntN(n)}
	f.active, f.last = true, time.Now()
	s.swarm = w
	return w
}

// Leave ends the line. Whatever peers were to fetch is the mirrors' again.
func (w *Swarm) Leave() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.feed.active = false
	w.peers = 0
	if w.s.swarm == w {
		w.s.swarm = nil
	}
	w.s.wake()
}

// Manifest is what the swarm is verified by.
func (w *Swarm) Manifest() *metainfo.Manifest { return w.manifest }

// OpenPartial opens the unfinished file for reading; pieces in Have may be read from it, also after it got its final name.
func (w *Swarm) OpenPartial() (*os.File, error) {
	f, err := os.Open(w.s.file.Name())
	if err != nil {
		return nil, err
	}
	mine, err1 := w.s.file.Stat()
	there, err2 := f.Stat()
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, fmt.Errorf("the partial file was replaced: %w", errors.Join(err, os.ErrInvalid))
	}
	return f, nil
}

// Next waits until something has changed. io.EOF: the file is whole, and the orders say so.
func (w *Swarm) Next(ctx context.Context) (Orders, error) {
	for {
		ended := ctx.Err() // what was so before it ended is told
		w.s.mu.Lock()
		began := time.Now()
		over := w.s.swarm != w
		o := w.gather()
		full := w.s.isFull()
		took := time.Since(began) // of very many pieces, so long that it is not done often
		w.s.mu.Unlock()
		switch {
		case over:
			return o, errOver
		case full:
			return o, io.EOF
		case !o.empty():
			return o, nil
		case ended != nil:
			return o, ended
		}
		select {
		case <-ctx.Done():
		case <-w.nudged:
			time.Sleep(min(max(ordersInterval, 20*took), ordersAgain))
		case <-time.After(ordersAgain):
		}
	}
}

// nudge has Next look again. s.mu is held.
func (s *Sink) nudge() {
	if s.swarm != nil {
		select {
		case s.swarm.nudged <- struct{}{}:
		default:
		}
	}
}

// gather compares what peers were told with how things are. s.mu is held.
func (w *Swarm) gather() Orders {
	s := w.s
	o := w.orders
	w.orders = Orders{}
	if s.swarm != w || s.manifest != w.manifest {
		return o
	}
	mine := w.claimed()
	budget := int64(math.MaxInt64)
	mirrors := slices.ContainsFunc(s.feeds, func(f *Feed) bool { return f != w.feed && f.active })
	if mirrors {
		budget = max(windowLeast, int64(w.feed.speed(time.Now())*windowSeconds))
	}
	base := w.base
	if s.strict {
		base, budget = 0, max(windowLeast, int64(w.feed.speed(time.Now())*windowSeconds))
	}
	for i := range s.pieces {
		p := (base + i) % len(s.pieces)
		state := s.pieces[p]
		now := orderNone
		switch {
		case s.unwanted != nil && s.unwanted[p]:
		case state == pieceGood:
			now = orderHave
		case state == pieceMissing && !mine[p] && !(s.solo[p] && mirrors):
			if now = orderWant; w.had[p] || s.strict {
				if budget -= w.manifest.PieceSize(p); budget < 0 && !w.asked[p] {
					now = orderNone // what peers have in plenty is not kept from the mirrors
				}
			}
		case state == pieceChecking && w.told[p] == orderWant:
			now = orderWant
		}
		if w.checks[p] && state != pieceChecking {
			delete(w.checks, p)
			if state == pieceMissing {
				o.Verdicts = append(o.Verdicts, w.verdict(p))
			} else {
				delete(w.failed, p)
				w.told[p] = orderNone // once more
			}
		}
		if now == w.told[p] {
			continue
		}
		switch now {
		case orderHave:
			o.Have = append(o.Have, p)
		case orderWant:
			o.Want = append(o.Want, p)
		default:
			o.Leave = append(o.Leave, p)
		}
		w.told[p] = now
	}
	return o
}

func (w *Swarm) verdict(p int) Verdict {
	if w.failed[p] {
		delete(w.failed, p)
		return Verdict{Piece: p, Attempt: w.attempts[p] - 1, Alone: true}
	}
	return Verdict{Piece: p, Attempt: -1}
}

// claimed marks the pieces of which mirrors fetch a part. It is valid until the next call.
func (w *Swarm) claimed() []bool {
	clear(w.scratch)
	for _, c := range w.s.claims {
		if c.feed == w.feed {
			continue
		}
		from, to := c.covers()
		if c.end >= 0 && from >= to {
			continue
		}
		to = min(to, w.manifest.Size)
		for p := from / w.manifest.PieceLength; p*w.manifest.PieceLength < to; p++ {
			w.scratch[p] = true
		}
	}
	return w.scratch
}

// Put takes a block from a peer. It is written unless it is here already or a mirror is fetching it. The error is final.
func (w *Swarm) Put(ctx context.Context, block int, p []byte) error {
	s := w.s
	if w.limit != nil {
		for left := len(p); left > 0; {
			n := min(left, w.limit.Burst())
			if err := w.limit.WaitN(ctx, n); err != nil {
				return err
			}
			left -= n
		}
	}
	s.writes.RLock()
	defer s.writes.RUnlock()
	s.mu.Lock()
	switch {
	case s.failed != nil:
		s.mu.Unlock()
		return s.failed
	case s.swarm != w || s.manifest != w.manifest:
		s.mu.Unlock()
		return errOver
	case block < 0 || block >= len(s.have) || int64(len(p)) != s.blockLen(block):
		s.mu.Unlock()
		return fmt.Errorf("block %d of %d bytes is none of this file", block, len(p))
	}
	now := time.Now()
	if w.feed.firstByte == 0 {
		w.feed.firstByte = now.Sub(w.joined)
	}
	w.feed.note(now, len(p), w.feed.bytes == 0)
	if s.have[block] || s.taken(block) {
		s.duplicate += int64(len(p))
		s.mu.Unlock()
		return nil
	}
	off := int64(block) * blockSize
	c := &Claim{feed: w.feed, start: off, pos: off, end: off + int64(len(p)), busy: off + int64(len(p)), asked: now, began: true}
	s.hold(c) // nobody else may write here meanwhile
	s.mu.Unlock()
	_, err := s.file.WriteAt(p, off)
	crc := crc32.Checksum(p, castagnoli)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims = slices.DeleteFunc(s.claims, func(o *Claim) bool { return o == c })
	if err != nil {
		s.fail(err)
		return s.failed
	}
	if c.lost || s.swarm != w {
		return nil
	}
	s.journal.blocks(block, []uint32{crc})
	s.blockDone(block, w.feed, crc)
	s.finishIfFull()
	return nil
}

// Check asks for a verdict on a piece that the peers' side believes to be whole: it comes as Have or as a Verdict.
func (w *Swarm) Check(piece int) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if piece >= 0 && piece < len(w.told) {
		w.checks[piece] = true
		w.s.nudge()
	}
}

// Offer is what peers have, and what they are doing.
type Offer struct {
	Peers    int
	Had      []bool // by piece: some peer has it
	Asked    []bool // by piece: peers are being asked for it
	Mine     []bool // by piece: of all downloads that are there, it falls to this one to fetch it from mirrors
	Uploaded int64  // bytes given to peers so far
}

// Offer replaces the previous offer; o.Had, o.Asked and o.Mine have an element for each piece.
func (w *Swarm) Offer(o Offer) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(o.Had) != len(w.had) || len(o.Asked) != len(w.had) || len(o.Mine) != len(w.had) || s.swarm != w {
		return
	}
	alone := w.peers == 0
	defer s.nudge()
	w.peers, w.had, w.asked, w.mine, s.uploaded = o.Peers, o.Had, o.Asked, o.Mine, o.Uploaded
	if o.Peers > 0 {
		w.seen = time.Now()
	}
	if alone && o.Peers > 0 {
		w.since = time.Now()
		s.leaveToPeers()
		s.wake()
	}
}

// Blame names a peer who sent what it should not have.
func (w *Swarm) Blame(peer, what string) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if len(w.s.blamed) < mostBlamed {
		w.s.blamed = append(w.s.blamed, SourceReport{Name: "peer " + clean(peer), Blame: clean(what)})
	}
}

// leaveToPeers leaves to each mirror the piece that it is at, once there are peers: everybody began at the same places.
func (s *Sink) leaveToPeers() {
	for _, c := range s.claims {
		if c.lost || c.solo || c.feed == s.swarm.feed || c.end < 0 {
			continue
		}
		at := max(c.pos, c.busy) + blockSize
		length := s.manifest.PieceLength
		if at = (at + length - 1) / length * length; at < c.end {
			c.end = at
		}
	}
}

// amongPeers reports whether mirrors have to mind what peers do. s.mu is held.
func (s *Sink) amongPeers() bool {
	w := s.swarm
	return w != nil && w.peers > 0 && s.manifest == w.manifest
}

// assignAmong claims a range for the mirror f where it helps most among peers: of what no peer has and falls to this download,
// else of what no peer has, from a place of its own choice at random, else of what nobody is being asked for, else of what peers
// are slow at. nil: peers do not need it now.
func (s *Sink) assignAmong(f *Feed, now time.Time) *Claim {
	w := s.swarm
	taken := w.claimed()
	quiet := now.Sub(w.feed.last) > peersQuiet
	free := func(p int) bool { return s.pieces[p] == pieceMissing && !taken[p] && !s.solo[p] }
	rare := func(p int) bool { return free(p) && !w.had[p] }
	mine := func(p int) bool { return rare(p) && w.mine[p] }
	left := func(p int) bool { return free(p) && w.told[p] != orderWant }
	idle := func(p int) bool { return free(p) && (!w.asked[p] || quiet) }
	unseen := int64(0)
	for p := range s.pieces {
		if rare(p) {
			unseen += w.manifest.PieceSize(p)
		}
	}
	// Others fetch such pieces at the same time, and what they are at is not known here: small ranges seldom meet.
	most := unseen / int64(crowdShare*(w.peers+1))
	if c := s.claimPieces(f, now, most, mine); c != nil {
		return c
	}
	mirrors := 0.0
	for _, g := range s.feeds {
		if g.active && g != w.feed {
			mirrors += g.speed(now)
		}
	}
	peers := w.feed.speed(now)
	if !quiet && mirrors > 0 && peers > plentyOfPeers*mirrors {
		return nil // what falls to others comes through them
	}
	if c := s.claimPieces(f, now, most, rare); c != nil {
		return c
	}
	most = int64(math.MaxInt64)
	if now.Sub(w.since) < peersProve {
		most = int64(f.speed(now) * proveSeconds)
	}
	for _, ok := range []func(int) bool{left, idle} {
		if c := s.claimPieces(f, now, most, ok); c != nil {
			return c
		}
	}
	if c := s.relieve(f, now); c != nil {
		return c
	}
	// What is left is with the peers. A mirror that would end sooner than they takes its share off them.
	rest := 0.0
	for p := range s.pieces {
		if free(p) {
			rest += float64(w.manifest.PieceSize(p))
		}
	}
	v := max(f.speed(now), 1)
	alone := f.delay().Seconds() + float64(min(w.manifest.PieceLength, w.manifest.Size))/v
	silence := now.Sub(w.feed.last).Seconds() // which may last as long again: who limits a rate sends in bursts
	if rest == 0 || max(rest/max(peers, 1), silence) < alone*1.5 {
		return nil
	}
	return s.claimPieces(f, now, int64(rest*v/max(mirrors+peers, v)/2), free)
}

// claimPieces claims missing blocks of pieces that ok takes: about that many bytes at most, but at least a piece, going on
// where f ended, or anywhere.
func (s *Sink) claimPieces(f *Feed, now time.Time, most int64, ok func(int) bool) *Claim {
	n := len(s.pieces)
	p := f.next
	if p <= 0 || p >= n || !ok(p) { // any, and each as likely as another: the rest is in few places in the end
		count := 0
		for q := range n {
			if ok(q) {
				if count++; rand.IntN(count) == 0 {
					p = q
				}
			}
		}
		if count == 0 {
			return nil
		}
	}
	want := int64(f.speed(now) * amongSeconds)
	if want == 0 {
		want = probeBytes
	}
	want = min(want, most)
	lo, hi := s.pieceBlocks(p)
	for lo < hi && s.have[lo] {
		lo++
	}
	end := lo
	for end < hi && !s.have[end] {
		end++
	}
	q := p + 1
	for ; end == hi && q < n && int64(end-lo)*blockSize < want && ok(q); q++ {
		_, hi = s.pieceBlocks(q)
		for end < hi && !s.have[end] {
			end++
		}
	}
	if lo == end {
		return nil
	}
	f.next = q
	return s.claimRange(f, int64(lo)*blockSize, min(int64(end)*blockSize, s.size), now)
}

// badFromPeers notes a failed copy in which peers had a part, and reports whether it was theirs alone.
func (s *Sink) badFromPeers(p int, v *verdict) (alone bool) {
	w := s.swarm
	if w == nil || !slices.Contains(v.own, w.feed.index) {
		return false
	}
	v.attempt = w.attempts[p]
	w.attempts[p]++
	alone = !slices.ContainsFunc(v.own, func(o uint16) bool { return o != w.feed.index })
	if alone { // their side is going to ask
		w.failed[p] = true
		return true
	}
	delete(w.checks, p)
	w.orders.Verdicts = append(w.orders.Verdicts, Verdict{Piece: p, Attempt: v.attempt})
	return false
}

// wrongFromPeers tells which of the blocks that peers gave in a failed copy were wrong.
func (s *Sink) wrongFromPeers(p int, v verdict) {
	w := s.swarm
	if w == nil {
		return
	}
	lo, _ := s.pieceBlocks(p)
	o := WrongBlocks{Piece: p, Attempt: v.attempt}
	for i, own := range v.own {
		if own == w.feed.index && v.crc[i] != s.sum[lo+i] {
			o.Blocks = append(o.Blocks, i)
		}
	}
	if o.Blocks != nil {
		w.orders.Wrong = append(w.orders.Wrong, o)
	}
}

// company is what a job knows of the swarm that it joined.
type company struct {
	since time.Time          // when it was joined; zero: never
	stop  context.CancelFunc // nil: there is none at work
	ended chan error
}

// joinSwarm has peers help from now on. Whatever goes wrong with them costs only them.
func (j *job) joinSwarm(ctx context.Context, m *metainfo.Manifest) {
	if j.JoinSwarm == nil || m.Pieces() == 0 || m.Metainfo() == nil || !j.company.since.IsZero() {
		return
	}
	source, err := j.JoinSwarm(m)
	if err != nil {
		j.log.Info("no peers", "why", reason(err))
		return
	}
	if source == nil {
		return
	}
	sctx, stop := context.WithCancel(ctx)
	j.company.since, j.company.stop = time.Now(), stop
	j.workers.Go(func() {
		defer stop()
		err := source.Fill(sctx, j.sink)
		select {
		case j.company.ended <- err:
		case <-ctx.Done():
		}
	})
}

// leaveSwarm is called when the torrent is given up.
func (j *job) leaveSwarm() {
	if j.company.stop != nil {
		j.company.stop()
	}
}

// parted is told why peers do not help any more.
func (j *job) parted(err error) {
	j.company.stop = nil
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errOver) {
		return
	}
	text := reason(err)
	j.sink.mu.Lock()
	for _, f := range j.sink.feeds {
		if f.name == PeersName {
			f.blame = text
		}
	}
	j.sink.mu.Unlock()
	ev := j.snapshot(Retried)
	ev.Source, ev.Message = "peers", text
	j.event(ev)
}

// countsOnPeers reports, when no mirror is left, whether peers may still give the rest.
func (j *job) countsOnPeers(now time.Time) bool {
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	w := j.sink.swarm
	if j.company.stop == nil {
		return false
	}
	patience := j.PeerPatience
	if patience <= 0 {
		patience = peersUnseen
	}
	if w == nil {
		return now.Sub(j.company.since) < patience
	}
	return now.Sub(w.joined) < patience || now.Sub(w.seen) < patience && now.Sub(w.feed.last) < max(peersSilent, patience)
}
