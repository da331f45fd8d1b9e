package fetcher

import (
	"math"
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
	next      int // among peers: the piece to go on with
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
	if f.name == PeersName {
		if quiet := f.quiet(now); quiet > quietAfter {
			v *= float64(quietAfter) / float64(quiet)
		}
		return v
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
	if f.claim != nil && f.claim.pos-f.claim.start > 4*blockSize {
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
