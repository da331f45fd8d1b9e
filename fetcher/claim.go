package fetcher

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"
)

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

func (c *Claim) block() int64 { return c.pos / blockSize * blockSize }

// quiet is how long nothing has come: since the last byte, or since it was asked for.
func (c *Claim) quiet(now time.Time) time.Duration {
	if !c.began {
		return now.Sub(c.asked)
	}
	return c.feed.quiet(now)
}

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
	if c.feed.name != PeersName {
		s.nudge()
	}
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
			b := int(c.start / blockSize)
			if size < 0 || b >= len(s.have) || s.have[b] || s.soloBlock(b) || s.taken(b) {
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

func roundUp(off int64) int64 { return (off + blockSize - 1) / blockSize * blockSize }

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
	first := int(c.pos / blockSize)
	pos, crc := c.pos, c.crc
	var sums []uint32
	for len(p) > 0 {
		n := min(blockSize-pos%blockSize, int64(len(p)))
		crc = crc32.Update(crc, castagnoli, p[:n])
		p, pos = p[n:], pos+n
		if pos%blockSize == 0 || pos == size {
			sums = append(sums, crc)
			crc = 0
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if size != s.size && pos == s.size && pos%blockSize != 0 { // the size became known meanwhile
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
		rest := c.pos % blockSize
		s.size = c.pos
		if rest > 0 {
			s.blockDone(int(c.pos/blockSize), c.feed, c.crc)
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
	b := int(c.block() / blockSize)
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
