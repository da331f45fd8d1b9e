package fetcher

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

// friends is a swarm without a network: its one peer has the whole file.
type friends struct {
	data  []byte
	order func(blocks []int)                        // nil: as wanted
	spoil func(block int, p []byte)                 // nil: nothing
	each  func(w *Swarm, o Orders)                  // nil: nothing
	after func(ctx context.Context, n int) error    // after n blocks; nil: nothing
	fill  func(ctx context.Context, w *Swarm) error // instead of all that
}

func (f *friends) String() string { return "friends" }

func (f *friends) Fill(ctx context.Context, dst *Sink) error {
	w := dst.JoinSwarm()
	if w == nil {
		return errors.New("no torrent")
	}
	defer w.Leave()
	if f.fill != nil {
		return f.fill(ctx, w)
	}
	n := w.manifest.Pieces()
	all := slices.Repeat([]bool{true}, n)
	w.Offer(Offer{Peers: 1, Had: all, Asked: make([]bool, n), Mine: make([]bool, n)})
	per := int(w.manifest.PieceLength / blockSize)
	given, wanted := 0, map[int]bool{}
	for {
		o, err := w.Next(ctx)
		if f.each != nil {
			f.each(w, o)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range o.Want {
			wanted[p] = true
		}
		for _, p := range o.Leave {
			delete(wanted, p)
		}
		for _, p := range append(slices.Clone(o.Want), pieces(o.Verdicts)...) {
			if !wanted[p] {
				continue
			}
			var list []int
			for b := p * per; b < p*per+blocks(w.manifest.PieceSize(p)); b++ {
				list = append(list, b)
			}
			if f.order != nil {
				f.order(list)
			}
			for _, b := range list {
				data := slices.Clone(f.data[b*blockSize : min((b+1)*blockSize, len(f.data))])
				if f.spoil != nil {
					f.spoil(b, data)
				}
				if err := w.Put(ctx, b, data); err != nil {
					return err
				}
				if given++; f.after != nil {
					if err := f.after(ctx, given); err != nil {
						return err
					}
				}
			}
			w.Check(p)
		}
	}
}

func pieces(list []Verdict) (p []int) {
	for _, v := range list {
		p = append(p, v.Piece)
	}
	return p
}

func (w *world) withFriends(f *friends) *friends {
	f.data = w.data
	w.fetcher.JoinSwarm = func(*metainfo.Manifest) (Source, error) { return f, nil }
	return f
}

func peersGave(res *Result) int64 {
	for _, s := range res.Sources {
		if s.Name == PeersName {
			return s.Bytes
		}
	}
	return -1
}

func TestPeersGiveWhatNoMirrorHas(t *testing.T) {
	w := newWorld(t, 2<<20+777).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{}})
	w.request.Torrent.Metainfo = w.torrent
	w.withFriends(&friends{order: func(b []int) { rand.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] }) }})
	res := w.mustFetch()
	// What they gave while the mirror was still being asked came once more.
	if got := peersGave(res); got < int64(len(w.data)) || res.Received != got || got-res.Duplicate != int64(len(w.data)) {
		t.Errorf("%d bytes of peers, %d received, %d of them twice", got, res.Received, res.Duplicate)
	}
}

func TestNobodyComes(t *testing.T) {
	w := newWorld(t, 1<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{}})
	w.request.Torrent.Metainfo = w.torrent
	w.withFriends(&friends{fill: func(ctx context.Context, _ *Swarm) error { <-ctx.Done(); return ctx.Err() }})
	w.fetcher.PeerPatience = 300 * time.Millisecond
	began := time.Now()
	if _, err := w.fetch(); !errors.Is(err, ErrNotFound) || time.Since(began) < 300*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// What peers gave stays when they are gone, and it is said why they are.
func TestPeersLeaveInTheMiddle(t *testing.T) {
	const gave = 128 // blocks
	w := newWorld(t, 4<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Rate: 2 << 20})
	w.request.Torrent.Metainfo = w.torrent
	w.withFriends(&friends{after: func(_ context.Context, n int) error {
		if n == gave {
			return errors.New("the worker fell over")
		}
		return nil
	}})
	res := w.mustFetch()
	if !slices.ContainsFunc(w.events, func(e Event) bool {
		return e.Kind == Retried && e.Source == PeersName && e.Message == "the worker fell over"
	}) {
		t.Error("nobody is told why peers left")
	}
	if res.Duplicate > gave*blockSize/2 { // a mirror may have been at the same
		t.Errorf("%d bytes came twice", res.Duplicate)
	}
}

// A peer's wrong blocks are found out once the piece is right.
func TestWrongBlocksAreNamed(t *testing.T) {
	w := newWorld(t, 1<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{}})
	w.request.Torrent.Metainfo = w.torrent
	var verdicts []Verdict
	var wrong []WrongBlocks
	real := func(v Verdict) bool { return v.Attempt >= 0 } // else a mirror had claimed it
	w.withFriends(&friends{
		spoil: func(b int, p []byte) {
			if told := slices.ContainsFunc(verdicts, real); (b == 9 || b == 10) && !told {
				p[100] ^= 1
			}
		},
		each: func(_ *Swarm, o Orders) { verdicts, wrong = append(verdicts, o.Verdicts...), append(wrong, o.Wrong...) },
	})
	w.mustFetch()
	verdicts = slices.DeleteFunc(verdicts, func(v Verdict) bool { return !real(v) })
	if len(verdicts) != 1 || verdicts[0] != (Verdict{Piece: 2, Attempt: 0, Alone: true}) {
		t.Errorf("%+v", verdicts)
	}
	if len(wrong) != 1 || wrong[0].Piece != 2 || wrong[0].Attempt != 0 || !slices.Equal(wrong[0].Blocks, []int{1, 2}) {
		t.Errorf("%+v", wrong)
	}
}

// swarmOn is a Sink of data, verified by pieces of 64 KiB, and a line of peers into it.
func swarmOn(t *testing.T, data []byte) (*Sink, *Swarm) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "partial"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := metainfo.Parse(v1Torrent("f", data, 64<<10, ""), "")
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(file, nil)
	s.open("disk", "")
	s.share(m)
	t.Cleanup(func() { s.stopHashing(); file.Close() })
	w := s.JoinSwarm()
	if w == nil || s.JoinSwarm() != nil {
		t.Fatal("one line of peers, and no more")
	}
	return s, w
}

// claim has a mirror claim [from, to).
func (s *Sink) claimFor(f *Feed, from, to int64) *Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.claimRange(f, from, to, time.Now())
	f.claim, f.active = c, true
	return c
}

// until gathers orders until ok says so.
func until(t *testing.T, w *Swarm, ok func(Orders) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		o, err := w.Next(ctx)
		if ok(o) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPeersKeepOffMirrorsClaims(t *testing.T) {
	data := randomBytes(4 * 64 << 10)
	s, w := swarmOn(t, data)
	put := func(b int) {
		t.Helper()
		if err := w.Put(t.Context(), b, data[b*blockSize:(b+1)*blockSize]); err != nil {
			t.Fatal(err)
		}
	}
	until(t, w, func(o Orders) bool { return slices.Equal(sorted(o.Want), []int{0, 1, 2, 3}) })
	f := s.open("mirror", "mirror")
	c := s.claimFor(f, 64<<10, 128<<10)
	until(t, w, func(o Orders) bool { return slices.Equal(o.Leave, []int{1}) })
	for b := range 16 {
		put(b)
	}
	s.hashing.Wait()
	s.mu.Lock()
	if s.got != 3*64<<10 || s.duplicate != 64<<10 {
		t.Errorf("%d bytes in place, %d twice", s.got, s.duplicate)
	}
	s.mu.Unlock()
	c.Close()
	until(t, w, func(o Orders) bool { return slices.Contains(o.Want, 1) })
	for b := 4; b < 8; b++ {
		put(b)
	}
	until(t, w, func(o Orders) bool { return slices.Contains(o.Have, 1) })
	if err := w.Put(t.Context(), 16, data[:blockSize]); err == nil {
		t.Error("a block behind the end of the file is taken")
	}
	if err := w.Put(t.Context(), 3, data[:10]); err == nil {
		t.Error("a part of a block is taken")
	}
	s.restart(-1)
	if err := w.Put(t.Context(), 3, data[:blockSize]); !errors.Is(err, errOver) {
		t.Errorf("%v", err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, errOver) {
		t.Errorf("%v", err)
	}
}

// What peers are being asked for is theirs while they give it, and a mirror's share once they are silent for as long as it would need.
func TestMirrorsRelievePeers(t *testing.T) {
	s, w := swarmOn(t, randomBytes(16*64<<10))
	all := slices.Repeat([]bool{true}, 16)
	w.Offer(Offer{Peers: 1, Had: all, Asked: all, Mine: make([]bool, 16)})
	f := s.open("mirror", "mirror")
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for p := range w.told {
		w.told[p] = orderWant
	}
	f.active, f.warm, f.trip, f.rate = true, true, 20*time.Millisecond, 10<<20
	w.feed.rate, w.feed.last = 30<<20, now
	if c := s.assignAmong(f, now); c != nil {
		t.Errorf("%+v, which peers are about to give", c)
	}
	w.feed.last = now.Add(-quietAfter)
	c := s.assignAmong(f, now)
	if c == nil || c.end-c.start < 64<<10 || c.end-c.start > 4*64<<10 {
		t.Errorf("%+v instead of a share of what silent peers are asked for", c)
	}
}

// A download ends as soon as the file is whole; that it is, peers are told all the same.
func TestWholeIsToldAtTheEnd(t *testing.T) {
	s, w := swarmOn(t, randomBytes(4*64<<10))
	until(t, w, func(o Orders) bool { return len(o.Want) == 4 })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		time.Sleep(20 * time.Millisecond) // so that it waits, most of the time
		s.mu.Lock()
		defer s.mu.Unlock()
		for p := range s.pieces {
			s.pieces[p] = pieceGood
		}
		s.got, s.good = s.size, len(s.pieces)
		cancel()
	}()
	if o, err := w.Next(ctx); !errors.Is(err, io.EOF) || len(o.Have) != 4 {
		t.Errorf("%v, of %v", err, o)
	}
}

func sorted(list []int) []int { slices.Sort(list); return list }

// What falls to others is left to them while peers are far quicker than mirrors, and not a moment longer.
func TestMirrorsFetchWhatFallsToThem(t *testing.T) {
	s, w := swarmOn(t, randomBytes(4*64<<10))
	w.Offer(Offer{Peers: 2, Had: []bool{true, false, false, false}, Asked: make([]bool, 4), Mine: []bool{true, false, true, false}})
	f := s.open("mirror", "mirror")
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	f.active, f.rate, w.feed.rate, w.feed.last = true, 1<<20, 10<<20, now
	c := s.assignAmong(f, now)
	if c == nil || c.start != 2*64<<10 || c.end != 3*64<<10 {
		t.Fatalf("%+v instead of the one piece that nobody has and falls to this download", c)
	}
	if c := s.assignAmong(f, now); c != nil {
		t.Errorf("%+v, which others bring", c)
	}
	w.feed.rate = 1 << 20
	if c := s.assignAmong(f, now); c == nil || c.start != 64<<10 && c.start != 3*64<<10 {
		t.Errorf("%+v: peers are no quicker than the mirror, and two pieces nobody has", c)
	}
	w.feed.rate = 10 << 20
	if c := s.assignAmong(f, now.Add(2*peersQuiet)); c == nil {
		t.Error("peers are silent, and the mirror waits for them")
	}
}

// A piece of which a mirror and peers each gave a part: whoever was wrong is found out, the other is not blamed.
func TestMixedPieces(t *testing.T) {
	for _, guilty := range []string{"mirror", "peers"} {
		t.Run(guilty, func(t *testing.T) {
			data := randomBytes(64 << 10)
			s, w := swarmOn(t, data)
			f := s.open("mirror", "mirror")
			give := func(c *Claim, p []byte) {
				if _, err := c.Write(p); err != nil {
					t.Fatal(err)
				}
				c.Close()
			}
			first, second := slices.Clone(data[:32<<10]), slices.Clone(data[32<<10:])
			if guilty == "mirror" {
				first[5] ^= 1
			} else {
				second[blockSize+5] ^= 1
			}
			give(s.claimFor(f, 0, 32<<10), first)
			for i := range 2 {
				if err := w.Put(t.Context(), 2+i, second[i*blockSize:(i+1)*blockSize]); err != nil {
					t.Fatal(err)
				}
			}
			until(t, w, func(o Orders) bool { return slices.Contains(o.Verdicts, Verdict{Piece: 0}) })
			other := s.open("other", "other")
			give(s.claimFor(other, 0, 64<<10), data)
			blamed := []WrongBlocks(nil)
			until(t, w, func(o Orders) bool { blamed = append(blamed, o.Wrong...); return len(o.Have) == 1 })
			s.mu.Lock()
			defer s.mu.Unlock()
			if (f.banned != nil) != (guilty == "mirror") || w.feed.banned != nil || other.banned != nil {
				t.Errorf("banned: mirror %v, peers %v, other %v", f.banned, w.feed.banned, other.banned)
			}
			if guilty == "mirror" && blamed != nil || guilty == "peers" && (len(blamed) != 1 || !slices.Equal(blamed[0].Blocks, []int{3})) {
				t.Errorf("%+v", blamed)
			}
		})
	}
}

// A run that goes on from an earlier one has the torrent from the journal, and peers from the torrent that it finds again.
func TestPeersAfterResume(t *testing.T) {
	w := newWorld(t, 6<<20).withTorrent(64 << 10)
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.interruptAt(2 << 20)
	w.gate.narrow(1 << 20) // the mirror waits for peers
	defer w.gate.open()
	w.withFriends(&friends{after: func(context.Context, int) error { w.gate.open(); return nil }})
	res := w.mustFetch()
	if res.Resumed == 0 || peersGave(res) <= 0 {
		t.Errorf("%d bytes resumed, %d of peers", res.Resumed, peersGave(res))
	}
}

// Who wants the file in order has peers asked for its beginning first, and for no more than what they give in a while.
func TestPeersInOrder(t *testing.T) {
	data := randomBytes(6 << 20)
	s, w := swarmOn(t, data)
	s.mu.Lock()
	s.ordered, s.strict = true, true
	s.mu.Unlock()
	var want []int
	for p := range windowLeast / (64 << 10) {
		want = append(want, p)
	}
	until(t, w, func(o Orders) bool { return slices.Equal(o.Want, want) })
	for b := range 4 {
		if err := w.Put(t.Context(), b, data[b*blockSize:(b+1)*blockSize]); err != nil {
			t.Fatal(err)
		}
	}
	until(t, w, func(o Orders) bool { return slices.Contains(o.Want, len(want)) })
}
