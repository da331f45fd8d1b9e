package fetcher

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// taken reports whether some claim covers block b.
func (s *Sink) taken(b int) bool { return s.claimAt(int64(b)*blockSize) != nil }

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
		for len(taken) > 0 && taken[0].to <= int64(b)*blockSize {
			taken = taken[1:]
		}
		switch {
		case len(taken) > 0 && taken[0].from <= int64(b)*blockSize:
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
	for _, v := range s.bad[int(int64(b)*blockSize/s.manifest.PieceLength)] {
		if v.from == f {
			return true
		}
	}
	return false
}

// outlook is what is known of all sources together.
func (s *Sink) outlook(now time.Time) (remaining float64, mean, total float64, n int) {
	known, peers := 0, 0.0
	for _, g := range s.feeds {
		if !g.active {
			continue
		}
		if g.name == PeersName { // one more helps nothing to a mirror's share
			peers = g.speed(now)
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
	return float64(s.size - s.got), mean, total + peers, n
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
		return int64(min(probe, max(remaining/float64(2*n), blockSize)))
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
	return int64(max(v*sec, blockSize))
}

// stuck reports whether no block has arrived for so long that f, which could have fetched three meanwhile, should do
// what it can, whatever was expected of others.
func (s *Sink) stuck(f *Feed, now time.Time) bool { return now.Sub(s.gotAt) > f.muchLater(now) }

// muchLater is how long f waits for what others are expected to give.
func (f *Feed) muchLater(now time.Time) time.Duration {
	block := time.Duration(blockSize / max(f.speed(now), 10<<10) * float64(time.Second))
	return stuckAfter + 3*block
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
	if s.amongPeers() && !f.whole && !s.strict {
		return s.assignAmong(f, now)
	}
	lo, hi := s.gap()
	if lo == hi {
		return s.relieve(f, now)
	}
	if f.whole {
		if lo, hi = s.firstGap(); lo == hi {
			return nil
		}
		c := s.claimRange(f, int64(lo)*blockSize, min(int64(hi)*blockSize, s.size), now)
		c.open = true
		return c
	}
	if s.ordered {
		if c := s.hurry(f, now); c != nil {
			return c
		}
	}
	want := s.ration(f, now)
	if want == 0 && !s.stuck(f, now) {
		return nil
	}
	if s.ordered {
		lo, hi = s.inOrder(f, max(want, blockSize), now)
		return s.claimRange(f, int64(lo)*blockSize, min(int64(hi)*blockSize, s.size), now)
	}
	want = max(want, blockSize)
	if slack := blocks(want) / 8; hi-lo <= blocks(want)+slack {
		want = int64(hi-lo) * blockSize // no crumbs: each would cost somebody a request
	}
	from := max(lo, hi-blocks(want))
	if s.manifest != nil {
		step := int(s.manifest.PieceLength / blockSize)
		if near := (from + step/2) / step * step; hi-from >= 20*step && near > lo && near < hi {
			from = near
		}
	}
	return s.claimRange(f, int64(from)*blockSize, min(int64(hi)*blockSize, s.size), now)
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
		c := s.claimRange(f, int64(lo)*blockSize, min(int64(hi)*blockSize, s.size), now)
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
	if s.limit != nil {
		v = min(v, float64(s.limit.Limit())) // nobody gives more
	}
	left := remaining / max(total, 1)
	stuck := s.stuck(f, now)
	wait := f.delay().Seconds()
	var victim *Claim
	var split int64
	var gain float64
	for _, c := range s.claims {
		if c.lost || c.feed == f || c.feed.name == PeersName || c.end < 0 || c.pos >= c.end {
			continue
		}
		low := c.block()
		if c.busy > c.pos {
			low = roundUp(c.busy)
		}
		if c.solo {
			if low = c.start; c.busy > c.pos || s.gaveWrong(f, int(low/blockSize)) {
				continue
			}
		}
		t := c.eta(now, mean)
		u := float64(c.end-c.pos) / max(t, 1e-6)
		keep := int64(u * (wait*v + float64(c.end-c.pos)) / (u + v))
		at := (c.pos + keep + blockSize/2) / blockSize * blockSize
		if at >= c.end || at <= c.pos || c.end-c.block() <= blockSize || c.solo {
			at = low
		}
		at = max(at, low)
		if at >= c.end {
			continue
		}
		ends := max(wait+float64(c.end-at)/v, float64(at-c.pos)/u)
		if stuck && !c.feed.paused && now.Sub(c.asked) > f.muchLater(now) { // else nobody would be left in peace for long enough
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
	s.nudge()
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
	if s.amongPeers() {
		want = min(want, int64(c.feed.speed(now)*amongSeconds))
	}
	limit := min(len(s.have), b+max(blocks(want), 1))
	for b < limit && !s.have[b] && !s.taken(b) && !s.soloBlock(b) {
		b++
	}
	c.end = min(int64(b)*blockSize, s.size)
	if c.end < from {
		c.end = from
	}
}

// extend lets an open claim go on where it ended: over free blocks, over what is here already if reading it again costs
// less than a new request, or over the range of a slower source.
func (s *Sink) extend(c *Claim) bool {
	if !s.many || c.end >= s.size || s.amongPeers() && !c.feed.whole {
		return false
	}
	now := time.Now()
	v := c.feed.speed(now)
	reach := int64(v * c.feed.delay().Seconds())
	if c.feed.whole {
		reach = s.size
	}
	b := int(c.end / blockSize)
	if c.end%blockSize != 0 {
		return false
	}
	from := c.end
	for b < len(s.have) && int64(b)*blockSize-from <= reach {
		off := int64(b) * blockSize
		if s.have[b] {
			b++
			continue
		}
		if s.soloBlock(b) {
			return false
		}
		other := s.claimAt(off)
		if other != nil && other != c {
			if other.lost || other.solo || other.feed.name == PeersName {
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
