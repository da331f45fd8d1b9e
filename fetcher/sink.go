package fetcher

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"torrent-xfer/metainfo"

	"golang.org/x/time/rate"
)

// A Source puts bytes of one file into a Sink until the Sink is full (nil) or ctx ends. Any other error says why the
// source is of no use any more.
type Source interface {
	String() string
	Fill(ctx context.Context, dst *Sink) error
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errLost  = errors.New("the work was given to a faster source")
	errShort = errors.New("the body ended early")
)

// wrongBytes is the blame of a source whose bytes failed verification.
type wrongBytes struct {
	what  string
	piece int // the piece that it gave alone; -1: not known, or several gave it
	hash  [32]byte
}

func (e *wrongBytes) Error() string { return e.what }

// A Sink is the one file being filled. It knows which blocks have arrived, from whom, which pieces are verified and who
// is to fetch what. All methods may be called by several goroutines.
type Sink struct {
	file    *os.File
	journal *journal

	writes   sync.RWMutex // held for reading while a claim writes to the file; taken before mu
	mu       sync.Mutex
	changed  chan struct{}      // closed and replaced when waiting feeds should look again
	full     chan struct{}      // closed when everything is in place
	doubted  chan struct{}      // receives when two sources agree with each other against the manifest
	size     int64              // -1: unknown
	many     bool               // several sources may work at once: there is something to verify against
	manifest *metainfo.Manifest // nil: none
	version  validator          // of the copy that a plain download follows, or that an earlier run began with
	confirm  bool               // a shared download went on from an earlier run: answers have to agree with version
	unsure   bool               // a body of untold length has to end before the file counts as whole
	lead     *Claim             // the one claim of a plain download
	plain    int64              // where a plain download goes on

	have      []bool // by block
	owner     []uint16
	sum       []uint32 // CRC-32C, for the journal and for blame in mixed pieces
	pieces    []pieceState
	good      int               // pieces verified
	got       int64             // bytes in blocks that we have
	gotAt     time.Time         // when the latest block arrived, or work was shared
	bad       map[int][]verdict // by piece: copies that failed
	solo      map[int]bool      // pieces that have to come from one source, so that the next failure names it
	pending   int               // verifications under way
	growing   bool              // more mirrors may join soon
	salvaging bool              // the disk is being looked through: mirrors take little
	feeds     []*Feed
	claims    []*Claim
	failed    error          // the file cannot be written
	swarm     *Swarm         // nil: no peers
	limit     *rate.Limiter  // of all bytes received; nil: none
	blamed    []SourceReport // peers
	uploaded  int64          // to peers
	ordered   bool           // nobody works far beyond the first gap
	strict    bool           // nor do peers
	front     int            // blocks from the start on that are good, as far as was looked
	wanted    []Range        // of several files; nil: all
	unwanted  []bool         // by piece, of several files; nil: none
	laid      int64          // bytes that only count as here: padding, and what is not wanted
	trim      int64          // bytes of the destination that still hold, since blocks were given up; -1: all

	received, duplicate int64

	queue      []int // pieces to be hashed
	hashers    int
	hashing    sync.WaitGroup
	generation int // of what is in queue: a restart begins a new one
	buffers    sync.Pool
}

type pieceState uint8

const (
	pieceMissing pieceState = iota
	pieceChecking
	pieceGood
)

// verdict remembers one failed copy of a piece.
type verdict struct {
	from    *Feed // nil: mixed
	hash    [32]byte
	own     []uint16 // by block of the piece, mixed only
	crc     []uint32
	attempt int // mixed, peers among them: counts their failed copies of this piece
}

func newSink(file *os.File, j *journal) *Sink {
	return &Sink{
		file: file, journal: j, size: -1,
		changed: make(chan struct{}), full: make(chan struct{}), doubted: make(chan struct{}, 1),
		bad: map[int][]verdict{}, solo: map[int]bool{},
		buffers: sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }},
	}
}

// validator is what HTTP tells of a file's version.
type validator struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// agrees reports whether both describe one version (a strong ETag or the date being equal).
func (v validator) agrees(o validator) bool {
	if v.ETag != "" && v.ETag == o.ETag && v.ETag[0] == '"' {
		return true
	}
	return v.LastModified != "" && v.LastModified == o.LastModified
}

// verifies reports whether a torrent decides.
func (s *Sink) verifies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.manifest != nil
}

func (s *Sink) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
	s.nudge()
}

func blocks(n int64) int { return int((n + blockSize - 1) / blockSize) }

func (s *Sink) blockLen(b int) int64 {
	if s.size < 0 {
		return blockSize // the last one is not known yet
	}
	return min(blockSize, s.size-int64(b)*blockSize)
}

// setSize fixes the size. What a plain download has put there already is kept.
func (s *Sink) setSize(n int64) {
	s.size = n
	if s.many {
		s.grow(blocks(n))
	}
	if s.lead != nil {
		s.lead.end = n
	}
	s.journal.header(s)
	s.finishIfFull()
}

func (s *Sink) grow(n int) {
	for len(s.have) < n {
		s.have = append(s.have, make([]bool, n-len(s.have))...)
		s.owner = append(s.owner, make([]uint16, n-len(s.owner))...)
		s.sum = append(s.sum, make([]uint32, n-len(s.sum))...)
	}
}

// share lets several sources work at once, since something is there to verify against. m may be nil (a digest decides).
// The size has to be known or m to tell it.
func (s *Sink) share(m *metainfo.Manifest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m != nil {
		if s.size < 0 {
			s.setSize(m.Size)
		}
		s.dropManifest()
		s.manifest = m
		s.pieces = make([]pieceState, m.Pieces())
		s.front = 0
	}
	s.grow(blocks(s.size))
	if m != nil {
		s.layOut(m)
	}
	s.many, s.growing, s.gotAt = true, true, time.Now()
	if c := s.lead; c != nil {
		s.lead = nil
		s.soften(c)
	}
	s.journal.header(s)
	for p := range s.pieces {
		s.checkPiece(p)
	}
	s.reopen()
	s.finishIfFull()
	s.wake()
}

// restart forgets everything that has arrived and goes back to a plain download. The size stays known only if size >= 0.
func (s *Sink) restart(size int64) {
	s.writes.Lock() // no late write may land on what comes next
	defer s.writes.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.claims {
		c.lose()
	}
	s.claims, s.lead = nil, nil
	for _, f := range s.feeds {
		switch {
		case !f.active:
			f.banned = nil
		case f.banned == nil:
			f.banned = errLost // whoever is to go on is asked again
		}
	}
	for b := range s.have {
		s.forget(b)
	}
	s.have, s.owner, s.sum, s.got = nil, nil, nil, 0
	s.dropManifest()
	s.many, s.confirm, s.plain, s.version, s.size = false, false, 0, validator{}, size
	s.reopen()
	s.journal.restart(s)
	s.wake()
}

func (s *Sink) dropManifest() {
	s.manifest, s.pieces, s.good, s.unwanted, s.laid = nil, nil, 0, nil, 0
	s.bad, s.solo = map[int][]verdict{}, map[int]bool{}
	s.queue, s.pending = nil, 0
	s.generation++
	if w := s.swarm; w != nil {
		w.feed.active, s.swarm = false, nil
	}
}

func (s *Sink) forget(b int) {
	if s.have[b] {
		s.have[b] = false
		s.retract(b)
		s.got -= s.blockLen(b)
		s.duplicate += s.blockLen(b)
	}
}

// discard gives the blocks that f gave, and that ok does not vouch for, up for fetching again.
func (s *Sink) discard(f *Feed, ok func(block int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.have {
		if s.have[b] && s.owner[b] == f.index && !ok(b) {
			s.forget(b)
		}
	}
	s.reopen()
	s.wake()
}

func (s *Sink) reopen() {
	if s.isFull() {
		return
	}
	select {
	case <-s.full:
		s.full = make(chan struct{})
	default:
	}
}

func (s *Sink) isFull() bool {
	if s.size < 0 || s.got < s.size || s.unsure {
		return false
	}
	return s.manifest == nil || s.good == len(s.pieces)
}

func (s *Sink) finishIfFull() {
	if !s.isFull() {
		return
	}
	select {
	case <-s.full:
	default:
		close(s.full)
		s.wake()
	}
}

// Full is closed when all is in place and every piece is verified.
func (s *Sink) Full() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

// fail stops everything: the file cannot be written.
func (s *Sink) fail(err error) {
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrWrite, err)
		s.wake()
	}
}

// blockDone records a block that lies in the file.
func (s *Sink) blockDone(b int, f *Feed, crc uint32) {
	s.grow(b + 1)
	if s.have[b] {
		return
	}
	s.have[b], s.owner[b], s.sum[b] = true, f.index, crc
	s.gotAt = time.Now()
	n := int64(blockSize)
	if s.size >= 0 {
		n = s.blockLen(b)
	}
	s.got += n
	f.placed += n
	if s.manifest != nil {
		s.checkPiece(int(int64(b) * blockSize / s.manifest.PieceLength))
	}
}

func (s *Sink) pieceBlocks(p int) (lo, hi int) {
	lo = int(int64(p) * s.manifest.PieceLength / blockSize)
	return lo, lo + blocks(s.manifest.PieceSize(p))
}

// checkPiece starts verifying p if it is whole.
func (s *Sink) checkPiece(p int) {
	if s.pieces[p] != pieceMissing {
		return
	}
	lo, hi := s.pieceBlocks(p)
	for b := lo; b < hi; b++ {
		if !s.have[b] {
			return
		}
	}
	s.pieces[p] = pieceChecking
	s.pending++
	s.queue = append(s.queue, p)
	if s.hashers < runtime.GOMAXPROCS(0) {
		s.hashers++
		s.hashing.Add(1)
		go s.hash()
	}
}

// hash verifies what is in the queue.
func (s *Sink) hash() {
	defer s.hashing.Done()
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.hashers--
			s.mu.Unlock()
			return
		}
		p, m, generation := s.queue[0], s.manifest, s.generation
		s.queue = s.queue[1:]
		s.mu.Unlock()
		hash, ok, err := m.SumPiece(s.file, p, *buf)
		s.hashed(p, generation, hash, ok, err)
	}
}

// stopHashing waits until nothing reads the file any more.
func (s *Sink) stopHashing() {
	s.mu.Lock()
	s.queue = nil
	s.mu.Unlock()
	s.hashing.Wait()
}

func (s *Sink) hashed(p, generation int, hash [32]byte, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	if s.generation != generation {
		return
	}
	s.pending--
	switch {
	case err != nil:
		s.fail(err)
	case ok:
		s.pieces[p] = pieceGood
		s.good++
		s.blameMixed(p)
		s.finishIfFull()
	default:
		s.pieces[p] = pieceMissing
		s.badPiece(p, hash)
	}
}

// soloBlock reports whether b is in a piece that has to come from one source.
func (s *Sink) soloBlock(b int) bool {
	return len(s.solo) > 0 && s.solo[int(int64(b)*blockSize/s.manifest.PieceLength)]
}

// badPiece takes a piece that failed apart: a single giver is blamed at once, several only when the right bytes are known.
func (s *Sink) badPiece(p int, hash [32]byte) {
	lo, hi := s.pieceBlocks(p)
	single := true
	for b := lo; b < hi; b++ {
		single = single && s.owner[b] == s.owner[lo]
	}
	peers := s.swarm != nil && s.owner[lo] == s.swarm.feed.index // many, of whom each may lie
	single = single && !peers
	v := verdict{hash: hash}
	if single {
		v.from = s.feeds[s.owner[lo]]
	} else {
		v.own = append(v.own, s.owner[lo:hi]...)
		v.crc = append(v.crc, s.sum[lo:hi]...)
	}
	for b := lo; b < hi; b++ {
		s.forget(b)
	}
	if alone := s.badFromPeers(p, &v); !alone {
		s.solo[p] = true
	}
	for _, o := range s.bad[p] {
		if single && o.from != nil && o.from.host != v.from.host && o.hash == hash {
			select {
			case s.doubted <- struct{}{}:
			default:
			}
		}
	}
	s.bad[p] = append(s.bad[p], v)
	if single {
		v.from.ban(&wrongBytes{fmt.Sprintf("sent wrong bytes (piece %d)", p), p, hash})
	}
}

// blameMixed names, now that piece p is right, who gave wrong blocks of it before.
func (s *Sink) blameMixed(p int) {
	lo, _ := s.pieceBlocks(p)
	for _, v := range s.bad[p] {
		s.wrongFromPeers(p, v)
		for i := range v.own {
			if v.crc[i] != s.sum[lo+i] && s.feeds[v.own[i]].name != PeersName {
				s.feeds[v.own[i]].ban(&wrongBytes{fmt.Sprintf("sent wrong bytes (piece %d)", p), -1, [32]byte{}})
			}
		}
	}
	delete(s.bad, p)
	delete(s.solo, p)
}

// against lists the feeds whose whole copies of some piece agree with each other and not with the manifest.
func (s *Sink) against() []*Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, vs := range s.bad {
		for i, v := range vs {
			for _, o := range vs[:i] {
				if v.from != nil && o.from != nil && v.from.host != o.from.host && v.hash == o.hash {
					return []*Feed{o.from, v.from}
				}
			}
		}
	}
	return nil
}

// progress returns bytes in place, and bytes/s over all feeds.
func (s *Sink) progress() (done, size int64, rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done = s.got
	now := time.Now()
	for _, c := range s.claims {
		done += max(0, c.pos-c.block())
		if c.feed.name != PeersName {
			rate += c.feed.speed(now)
		}
	}
	if s.swarm != nil {
		rate += s.swarm.feed.speed(now)
	}
	if s.size >= 0 {
		done = min(done, s.size)
	}
	if s.laid > 0 {
		return done - s.laid, s.size - s.laid, rate
	}
	return done, s.size, rate
}

// adopt takes over a block that an earlier run left in the file and that was hashed again.
func (s *Sink) adopt(b int, f *Feed, crc uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blockDone(b, f, crc)
}

var _ io.Writer = (*Claim)(nil)
