package fetcher

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"time"
)

// How work is measured out.
const (
	probeBytes   = 256 << 10              // first range of a source of unknown speed
	rangeSeconds = 0.4                    // shortest range, in time, while much is left
	stepSeconds  = 0.25                   // an open body is claimed in such steps, since more of it costs no request
	rangeLongest = 10                     // longest range, in seconds
	usualDelay   = 200 * time.Millisecond // first byte of a source nobody knows
	quietAfter   = 300 * time.Millisecond // silence after which a speed is no longer believed
	lullAfter    = 100 * time.Millisecond // silence that counts in what is expected of a claim
	stuckAfter   = 3 * time.Second
	longestLull  = 2 * time.Second
	mostLapses   = 3                     // claims lost in silence, in a row, until a source is set aside
	lookAgain    = 50 * time.Millisecond // idle sources look for slow ones to relieve
)

// A Feed is one source's line into a Sink: it gets claims and remembers how the source does. Fields are guarded by the
// Sink's mutex.
type Feed struct {
	s     *Sink
	index uint16
	name  string
	host  string // two feeds of one host are not two witnesses
	prior float64
	usual time.Duration // first-byte time of earlier runs; 0: unknown

	whole   bool // can only send the file from its start: takes claims from the near end and skips what is here
	active  bool
	banned  error
	claim   *Claim
	rate    float64 // bytes/s, smoothed; 0: not measured
	acc     int64
	accFrom time.Time
	last    time.Time
	paused  bool          // by the rate limit: its silence is ours
	trip    time.Duration // round trip, as the latest request showed; 0: none yet
	warm    bool          // a connection is open
	lull    time.Duration // longest pause within a body so far
	lapses  int           // claims lost in silence, in a row

	bytes     int64
	placed    int64 // of bytes: what became a block of the file
	requests  int
	firstByte time.Duration
	blame     string
}

// open adds a source. host groups sources of one machine.
func (s *Sink) open(name, host string) *Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &Feed{s: s, index: uint16(len(s.feeds)), name: name, host: host}
	s.feeds = append(s.feeds, f)
	return f
}

// join and leave tell the Sink that the source is at work, or is not any more and why. A ban that comes in between waits
// for the source.
func (f *Feed) join() {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.active = true
	f.s.wake()
}

func (f *Feed) leave(why error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.active = false
	if f.banned == why || f.banned == errLost {
		f.banned = nil
	}
	f.s.wake()
}

// ban sets the source aside; its current claim ends.
func (f *Feed) ban(why error) {
	if f.banned == nil {
		f.banned = why
		if f.blame == "" {
			f.blame = why.Error()
		}
	}
	if f.claim != nil {
		f.claim.lose()
	}
	f.s.wake()
}

// speed is the believed bytes/s at now, 0 if nothing is known. A silent source loses its speed.
func (f *Feed) speed(now time.Time) float64 {
	v := f.rate
	if v == 0 {
		v = f.prior
	}
	if c := f.claim; c != nil && c.began {
		if f.rate == 0 { // not measured yet: a guess that fades with silence
			v = float64(c.pos-c.start) / (now.Sub(f.accFrom) + 20*time.Millisecond).Seconds()
		}
		if quiet, usual := f.quiet(now), f.patience(quietAfter); quiet > usual {
			v *= float64(usual) / float64(quiet)
		}
	}
	return v
}

// patience is how long a silence has to last to mean something: servers that limit a rate send in bursts.
func (f *Feed) patience(least time.Duration) time.Duration { return max(least, f.lull*3/2) }

func (f *Feed) quiet(now time.Time) time.Duration {
	if f.paused {
		return 0
	}
	return now.Sub(f.last)
}

// delay is the expected time from a request to its first byte: a round trip, two if a connection has to be made.
func (f *Feed) delay() time.Duration {
	if f.trip == 0 {
		if f.usual > 0 {
			return f.usual
		}
		var sum time.Duration
		n := 0
		for _, g := range f.s.feeds {
			if g.trip > 0 {
				sum += 2 * g.trip
				n++
			}
		}
		if n == 0 {
			return usualDelay
		}
		return sum / time.Duration(n)
	}
	if f.warm {
		return f.trip
	}
	return 2 * f.trip
}

func (f *Feed) note(now time.Time, n int, first bool) {
	f.bytes += int64(n)
	if f.index > 0 { // feed 0 is the disk
		f.s.received += int64(n)
	}
	gap := now.Sub(f.last)
	f.last = now
	if first {
		f.acc, f.accFrom = 0, now
		return
	}
	f.lull = min(max(f.lull, gap), longestLull)
	if f.claim != nil && f.claim.pos-f.claim.start > 4*BlockSize {
		f.lapses = 0
	}
	f.acc += int64(n)
	if dt := now.Sub(f.accFrom); dt >= 40*time.Millisecond || f.rate == 0 && dt >= 15*time.Millisecond {
		f.sample(now)
	}
}

func (f *Feed) sample(now time.Time) {
	dt := now.Sub(f.accFrom).Seconds()
	if dt <= 0 || f.acc == 0 {
		return
	}
	v := float64(f.acc) / dt
	if f.rate == 0 {
		f.rate = v
	} else {
		memory := 0.4 // seconds; bad news is believed sooner
		if v < f.rate {
			memory = 0.2
		}
		f.rate += (v - f.rate) * (1 - math.Exp(-dt/memory))
	}
	f.acc, f.accFrom = 0, now
}

// A Claim is a range of the file that one source is fetching.
type Claim struct {
	feed   *Feed
	start  int64
	pos    int64 // next byte expected
	end    int64 // exclusive; may shrink; -1: to the end of a body of unknown length
	open   bool  // the body goes on to the end of the file: the claim may be extended without a new request
	skip   int64 // bytes of the body to throw away, since they are here already
	crc    uint32
	busy   int64 // bytes before this offset are being written: nobody else may take them
	lost   bool
	solo   bool // a piece that has to come from one source
	void   bool // what it gave is of no use
	silent bool // lost in silence once too often
	held   bool // counted among the Sink's claims
	began  bool // a body byte has arrived
	asked  time.Time
	cancel context.CancelFunc // ends the request; nil: none under way
}

func (c *Claim) block() int64 { return c.pos / BlockSize * BlockSize }

func (c *Claim) lose() {
	c.lost = true
	if c.cancel != nil {
		c.cancel()
	}
}

// whyLost is the blame that goes with losing the claim; nil: somebody else was simply faster.
func (c *Claim) whyLost() error {
	c.feed.s.mu.Lock()
	defer c.feed.s.mu.Unlock()
	if c.feed.banned == nil && c.silent {
		return errSilent
	}
	return c.feed.banned
}

// Next waits until there is work for the source and claims it. io.EOF: the Sink is full.
func (f *Feed) Next(ctx context.Context) (*Claim, error) {
	s := f.s
	for {
		s.mu.Lock()
		var c *Claim
		err := s.failed
		switch {
		case err != nil:
		case f.banned != nil:
			err = f.banned
		case s.isFull():
			err = io.EOF
		case s.many:
			c = s.assign(f, time.Now())
		case s.lead != nil:
			err = errLost
		default:
			c = &Claim{feed: f, start: s.plain, pos: s.plain, end: s.size, open: true, asked: time.Now()}
		}
		if c != nil {
			f.claim = c
		}
		changed := s.changed
		s.mu.Unlock()
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-time.After(lookAgain):
		}
	}
}

func (s *Sink) hold(c *Claim) {
	c.held = true
	s.claims = append(s.claims, c)
}

// Begin tells the Sink what the server said before the body: the size of the whole file (-1: not told) and its version.
// An error means that this body is of no use.
func (c *Claim) Begin(size int64, v validator) error {
	s := c.feed.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.lost {
		return errLost
	}
	if s.size >= 0 && size >= 0 && size != s.size {
		return anotherSize(size, s.size)
	}
	if s.many {
		if s.confirm && v != (validator{}) && s.version != (validator{}) && !s.version.agrees(v) {
			return &otherVersion{what: "has another version of the file"}
		}
		if !c.held { // asked for before anything could be verified
			b := int(c.start / BlockSize)
			if size < 0 || b >= len(s.have) || s.have[b] || s.soloBlock(b) || s.claimAt(c.start) != nil {
				return errLost
			}
			c.end = s.size
			s.hold(c)
			s.soften(c)
		}
		return nil
	}
	if s.lead != nil && s.lead != c {
		return errLost
	}
	if c.start != s.plain {
		return errLost
	}
	if c.start > 0 && !s.version.agrees(v) {
		return &otherVersion{what: "has another version of the file"}
	}
	if c.start == 0 {
		s.version = v
	}
	s.lead = c
	s.unsure = size < 0 && s.size >= 0
	s.hold(c)
	if size >= 0 && s.size < 0 {
		s.setSize(size)
	}
	c.end = s.size
	return nil
}

// otherVersion is the blame of a mirror that lags, or leads.
type otherVersion struct {
	what string
	size int64 // 0: not told
}

func (e *otherVersion) Error() string { return e.what }

func anotherSize(size, expected int64) error {
	return &otherVersion{fmt.Sprintf("has another version (%d bytes instead of %d)", size, expected), size}
}

// covers is the range in which nobody else may write. What a lost claim is writing at this moment belongs to it.
func (c *Claim) covers() (from, to int64) {
	switch {
	case c.lost && c.busy > c.pos:
		return c.block(), roundUp(c.busy)
	case c.lost:
		return 0, 0
	case c.end < 0:
		return c.block(), math.MaxInt64
	}
	return c.block(), c.end
}

func roundUp(off int64) int64 { return (off + BlockSize - 1) / BlockSize * BlockSize }

func (s *Sink) claimAt(off int64) *Claim {
	for _, c := range s.claims {
		if from, to := c.covers(); off >= from && off < to {
			return c
		}
	}
	return nil
}

// Write puts p into the file. errLost: the rest of the claim was given away, or there is nothing left to do here.
// Bytes beyond the claim are an error only if the claim cannot be extended over them.
func (c *Claim) Write(p []byte) (int, error) {
	s := c.feed.s
	s.writes.RLock()
	defer s.writes.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.feed.note(time.Now(), len(p), !c.began)
	c.began = true
	written := 0
	for len(p) > 0 {
		if s.failed != nil {
			return written, s.failed
		}
		if c.lost {
			return written, errLost
		}
		if c.skip > 0 {
			n := min(c.skip, int64(len(p)))
			c.skip -= n
			s.duplicate += n
			p = p[n:]
			written += int(n)
			continue
		}
		n := int64(len(p))
		if c.end >= 0 {
			n = min(n, c.end-c.pos)
		}
		if n <= 0 {
			if c.open && s.extend(c) {
				continue
			}
			s.duplicate += int64(len(p))
			if s.unsure && s.lead == c {
				c.void = true
				return written, anotherSize(c.pos+int64(len(p)), s.size)
			}
			return written, errLost
		}
		c.busy = c.pos + n
		size := s.size
		s.mu.Unlock()
		err := s.put(c, p[:n], size)
		s.mu.Lock()
		if err != nil {
			s.fail(err)
			return written, s.failed
		}
		p = p[n:]
		written += int(n)
	}
	return written, nil
}

// put writes p at c.pos and records the blocks that became whole.
func (s *Sink) put(c *Claim, p []byte, size int64) error {
	if _, err := s.file.WriteAt(p, c.pos); err != nil {
		return err
	}
	first := int(c.pos / BlockSize)
	pos, crc := c.pos, c.crc
	var sums []uint32
	for len(p) > 0 {
		n := min(BlockSize-pos%BlockSize, int64(len(p)))
		crc = crc32.Update(crc, castagnoli, p[:n])
		p, pos = p[n:], pos+n
		if pos%BlockSize == 0 || pos == size {
			sums = append(sums, crc)
			crc = 0
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size != s.size && pos == s.size && pos%BlockSize != 0 { // the size became known meanwhile
		sums = append(sums, crc)
	}
	s.journal.blocks(first, sums)
	c.pos, c.crc = pos, crc
	if c.lost {
		return nil
	}
	for i, sum := range sums {
		s.blockDone(first+i, c.feed, sum)
	}
	s.finishIfFull()
	return nil
}

// End is told that the body ended in good order. It reports errShort if more was announced.
func (c *Claim) End() error {
	s := c.feed.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.lost {
		return errLost
	}
	if c.end < 0 {
		rest := c.pos % BlockSize
		s.size = c.pos
		if rest > 0 {
			s.blockDone(int(c.pos/BlockSize), c.feed, c.crc)
		}
		s.setSize(c.pos)
		return nil
	}
	if c.pos < c.end {
		return errShort
	}
	if s.lead == c {
		s.unsure = false
		s.finishIfFull()
	}
	return nil
}

// Close gives back what was not written.
func (c *Claim) Close() {
	s := c.feed.s
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if c.feed.rate == 0 && c.feed.acc > 0 {
		if now.Sub(c.feed.accFrom) < time.Millisecond {
			c.feed.accFrom = now.Add(-time.Millisecond)
		}
		c.feed.sample(now)
	}
	if c.feed.claim == c {
		c.feed.claim = nil
	}
	for i, o := range s.claims {
		if o == c {
			s.claims = append(s.claims[:i], s.claims[i+1:]...)
			break
		}
	}
	b := int(c.block() / BlockSize)
	if part := c.pos - c.block(); part > 0 && !(b < len(s.have) && s.have[b]) {
		s.duplicate += part
	}
	if s.lead == c {
		s.lead, s.unsure = nil, false
		s.plain = c.block()
		if c.void {
			for b := range s.have {
				s.forget(b)
			}
			s.plain = 0
		}
	}
	s.wake()
}

// taken reports whether some claim covers block b.
func (s *Sink) taken(b int) bool { return s.claimAt(int64(b)*BlockSize) != nil }

// gap finds the longest run of blocks that nobody has or fetches.
func (s *Sink) gap() (lo, hi int) {
	start := -1
	flush := func(b int) {
		if start >= 0 && b-start > hi-lo {
			lo, hi = start, b
		}
		start = -1
	}
	type span struct{ from, to int64 }
	var taken []span
	for _, c := range s.claims {
		if from, to := c.covers(); from < to {
			taken = append(taken, span{from, to})
		}
	}
	slices.SortFunc(taken, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	n := len(s.have)
	for b := 0; b < n; b++ {
		for len(taken) > 0 && taken[0].to <= int64(b)*BlockSize {
			taken = taken[1:]
		}
		switch {
		case len(taken) > 0 && taken[0].from <= int64(b)*BlockSize:
			flush(b)
			b = max(b, blocks(min(taken[0].to, s.size))-1)
		case s.have[b], s.soloBlock(b):
			flush(b)
		case start < 0:
			start = b
		}
	}
	flush(n)
	return lo, hi
}

func (s *Sink) firstGap() (lo, hi int) {
	for lo < len(s.have) && (s.have[lo] || s.taken(lo) || s.soloBlock(lo)) {
		lo++
	}
	hi = lo
	for hi < len(s.have) && !s.have[hi] && !s.taken(hi) && !s.soloBlock(hi) {
		hi++
	}
	return lo, hi
}

func (s *Sink) gaveWrong(f *Feed, b int) bool {
	for _, v := range s.bad[int(int64(b)*BlockSize/s.manifest.PieceLength)] {
		if v.from == f {
			return true
		}
	}
	return false
}

// outlook is what is known of all sources together.
func (s *Sink) outlook(now time.Time) (remaining float64, mean, total float64, n int) {
	known := 0
	for _, g := range s.feeds {
		if !g.active {
			continue
		}
		n++
		if v := g.speed(now); v > 0 {
			total += v
			known++
		}
	}
	if known > 0 {
		mean = total / float64(known)
		total += mean * float64(n-known)
	}
	return float64(s.size - s.got), mean, total, n
}

// ration is how many bytes f should be given now. 0: others will be done sooner without it.
func (s *Sink) ration(f *Feed, now time.Time) int64 {
	if s.salvaging {
		return probeBytes
	}
	remaining, mean, total, n := s.outlook(now)
	if n <= 1 && !s.growing {
		return s.size
	}
	v := f.speed(now)
	if f.rate == 0 {
		v /= 2 // other days, other speeds
	}
	if v <= 0 && mean == 0 && !s.growing && !slices.ContainsFunc(s.claims, func(c *Claim) bool { return c.open }) {
		return int64(remaining) / int64(n) // nobody is known, nobody else is coming: even shares
	}
	if v <= 0 {
		probe := max(probeBytes, 2*mean*f.delay().Seconds())
		return int64(min(probe, max(remaining/float64(2*n), BlockSize)))
	}
	if math.Abs(v-mean) < 0.15*mean {
		v = (v + mean) / 2 // a short measurement is noisy: most of so small a difference is chance
	}
	left := remaining / total
	late := f.delay().Seconds()
	if busy := s.busy(now, f, nil); busy > 0 && remaining/busy < late {
		return 0 // others end before its first byte comes
	}
	sec := min(left, rangeLongest)
	if s.growing && left > 2*rangeSeconds {
		sec = min(max(left/4, rangeSeconds), rangeLongest) // others are about to join
	} else if len(s.claims) > 0 {
		sec = max(left-late/4, left/2)
	}
	return int64(max(v*sec, BlockSize))
}

// stuck reports whether no block has arrived for so long that f, which could have fetched three meanwhile, should do
// what it can, whatever was expected of others.
func (s *Sink) stuck(f *Feed, now time.Time) bool {
	block := time.Duration(BlockSize / max(f.speed(now), 10<<10) * float64(time.Second))
	return now.Sub(s.gotAt) > stuckAfter+3*block
}

// busy is the speed of all that is being received now, but for a's and b's.
func (s *Sink) busy(now time.Time, a, b *Feed) (sum float64) {
	for _, c := range s.claims {
		if c.feed != a && c.feed != b && !c.lost && c.began && c.feed.quiet(now) < lullAfter {
			sum += c.feed.speed(now)
		}
	}
	return sum
}

// assign claims a range for f: out of what nobody fetches, from the far end (a body that goes on to the end of the file
// comes from the near one), else out of what a slower source would take longer for.
func (s *Sink) assign(f *Feed, now time.Time) *Claim {
	if s.salvaging {
		return nil
	}
	if c := s.assignSolo(f, now); c != nil {
		return c
	}
	lo, hi := s.gap()
	if lo == hi {
		return s.relieve(f, now)
	}
	if f.whole {
		if lo, hi = s.firstGap(); lo == hi {
			return nil
		}
		c := s.claimRange(f, int64(lo)*BlockSize, min(int64(hi)*BlockSize, s.size), now)
		c.open = true
		return c
	}
	want := s.ration(f, now)
	if want == 0 && !s.stuck(f, now) {
		return nil
	}
	want = max(want, BlockSize)
	if slack := blocks(want) / 8; hi-lo <= blocks(want)+slack {
		want = int64(hi-lo) * BlockSize // no crumbs: each would cost somebody a request
	}
	from := max(lo, hi-blocks(want))
	if s.manifest != nil {
		step := int(s.manifest.PieceLength / BlockSize)
		if near := (from + step/2) / step * step; hi-from >= 20*step && near > lo && near < hi {
			from = near
		}
	}
	return s.claimRange(f, int64(from)*BlockSize, min(int64(hi)*BlockSize, s.size), now)
}

// assignSolo claims a piece that has to come whole from one source, unless f gave it wrong before.
func (s *Sink) assignSolo(f *Feed, now time.Time) *Claim {
	for p := range s.solo {
		lo, hi := s.pieceBlocks(p)
		if s.pieces[p] != pieceMissing || f.whole || s.gaveWrong(f, lo) {
			continue
		}
		free := true
		for b := lo; b < hi && free; b++ {
			free = !s.taken(b)
		}
		if !free {
			continue
		}
		for b := lo; b < hi; b++ {
			s.forget(b)
		}
		c := s.claimRange(f, int64(lo)*BlockSize, min(int64(hi)*BlockSize, s.size), now)
		c.solo = true
		return c
	}
	return nil
}

func (s *Sink) claimRange(f *Feed, from, to int64, now time.Time) *Claim {
	c := &Claim{feed: f, start: from, pos: from, end: to, asked: now}
	s.hold(c)
	return c
}

// eta is how long c is going to need for the rest of its range, in seconds.
func (c *Claim) eta(now time.Time, mean float64) float64 {
	u := c.feed.speed(now)
	if c.began {
		rest := float64(c.end-c.pos) / max(u, 1)
		if quiet := c.feed.quiet(now); quiet > c.feed.patience(lullAfter) {
			rest += quiet.Seconds() // it may well last as long again
		}
		return rest
	}
	if u <= 0 {
		u = max(mean/2, 10<<10)
	}
	rest := float64(c.end-c.pos) / u
	usual := c.feed.delay()
	if age := now.Sub(c.asked); age < 2*usual {
		return max(usual-age, 0).Seconds() + rest
	} else {
		return age.Seconds() + rest
	}
}

// relieve takes over part of a slower claim, or all of it, if that ends the download sooner.
func (s *Sink) relieve(f *Feed, now time.Time) *Claim {
	remaining, mean, total, _ := s.outlook(now)
	v := f.speed(now)
	if v <= 0 {
		v = max(mean/2, 10<<10)
	}
	left := remaining / max(total, 1)
	stuck := s.stuck(f, now)
	wait := f.delay().Seconds()
	var victim *Claim
	var split int64
	var gain float64
	for _, c := range s.claims {
		if c.lost || c.feed == f || c.end < 0 || c.pos >= c.end {
			continue
		}
		low := c.block()
		if c.busy > c.pos {
			low = roundUp(c.busy)
		}
		if c.solo {
			if low = c.start; c.busy > c.pos || s.gaveWrong(f, int(low/BlockSize)) {
				continue
			}
		}
		t := c.eta(now, mean)
		u := float64(c.end-c.pos) / max(t, 1e-6)
		keep := int64(u * (wait*v + float64(c.end-c.pos)) / (u + v))
		at := (c.pos + keep + BlockSize/2) / BlockSize * BlockSize
		if at >= c.end || at <= c.pos || c.end-c.block() <= BlockSize || c.solo {
			at = low
		}
		at = max(at, low)
		if at >= c.end {
			continue
		}
		ends := max(wait+float64(c.end-at)/v, float64(at-c.pos)/u)
		if stuck {
			victim, split = c, low
			break
		}
		if ends > 1.2*left+0.02 && s.busy(now, f, c.feed) > v {
			continue // a quicker one is going to come by sooner
		}
		if g := t - ends; g > gain && g > 0.01+t*0.1 {
			victim, split, gain = c, at, g
		}
	}
	if victim == nil {
		return nil
	}
	end, solo := victim.end, victim.solo
	s.cut(victim, split)
	if solo {
		return s.assignSolo(f, now)
	}
	return s.claimRange(f, split, end, now)
}

// cut ends c at split. A claim that has nothing left is over, and its request with it.
func (s *Sink) cut(c *Claim, split int64) {
	c.end = split
	if split <= c.pos && c.busy <= c.pos {
		since := c.feed.last
		if !c.began {
			since = c.asked.Add(2 * c.feed.delay())
		}
		if time.Since(since) > lullAfter {
			c.feed.lapses++
			if c.silent = c.feed.lapses >= mostLapses; c.silent {
				c.feed.lapses = 0
			}
		}
		c.lose()
	}
}

// soften gives an open claim a fair next part and leaves the rest for others.
func (s *Sink) soften(c *Claim) {
	from := c.pos
	if c.busy > from {
		from = c.busy
	}
	c.end = from
	b := blocks(from)
	now := time.Now()
	want := min(s.ration(c.feed, now), max(int64(c.feed.speed(now)*stepSeconds), probeBytes))
	limit := min(len(s.have), b+max(blocks(want), 1))
	for b < limit && !s.have[b] && !s.taken(b) && !s.soloBlock(b) {
		b++
	}
	c.end = min(int64(b)*BlockSize, s.size)
	if c.end < from {
		c.end = from
	}
}

// extend lets an open claim go on where it ended: over free blocks, over what is here already if reading it again costs
// less than a new request, or over the range of a slower source.
func (s *Sink) extend(c *Claim) bool {
	if !s.many || c.end >= s.size {
		return false
	}
	now := time.Now()
	v := c.feed.speed(now)
	reach := int64(v * c.feed.delay().Seconds())
	if c.feed.whole {
		reach = s.size
	}
	b := int(c.end / BlockSize)
	if c.end%BlockSize != 0 {
		return false
	}
	from := c.end
	for b < len(s.have) && int64(b)*BlockSize-from <= reach {
		off := int64(b) * BlockSize
		if s.have[b] {
			b++
			continue
		}
		if s.soloBlock(b) {
			return false
		}
		other := s.claimAt(off)
		if other != nil && other != c {
			if other.lost || other.solo {
				return false
			}
			low := other.block()
			if other.busy > other.pos {
				low = roundUp(other.busy)
			}
			_, mean, _, _ := s.outlook(now)
			if other.end < 0 || low >= other.end || low-from > reach ||
				(float64(other.end-from)/max(v, 1)) > other.eta(now, mean)*0.8 {
				return false
			}
			end := other.end
			s.cut(other, low)
			c.jump(from, low)
			c.end = end
			return true
		}
		c.jump(from, off)
		s.soften(c)
		return c.end > c.pos
	}
	return false
}

func (c *Claim) jump(from, to int64) {
	c.skip += to - from
	c.pos = to
	c.busy = to
	c.crc = 0
}
