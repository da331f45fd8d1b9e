package swarm_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

func TestMaxPeers(t *testing.T) {
	for most, want := range map[int]int64{0: 6, 2: 2} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
			var all []*stranger
			for i := range 6 {
				all = append(all, s.stranger(t, fmt.Sprintf("127.0.0.%d", 11+i), s.tracker, nil))
			}
			var seen atomic.Int64
			s.during(t, func(f *fetcher.Fetcher, o *peers.Options) {
				o.MaxPeers = most
				listen := f.OnEvent
				f.OnEvent = func(e fetcher.Event) {
					seen.Store(max(seen.Load(), int64(e.Peers)))
					listen(e)
				}
			}, func(netip.AddrPort) {
				eventually(t, "not as many are connected as may be", func() bool {
					var open int64
					for _, p := range all {
						open += p.open.Load()
					}
					return open == want && seen.Load() >= want
				})
			})
			if n := seen.Load(); n != want {
				t.Errorf("%d peers at once", n)
			}
		})
	}
}

func TestBlock(t *testing.T) {
	t.Parallel()
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	blocked, other := s.stranger(t, "127.0.0.9", s.tracker, nil), s.stranger(t, "127.0.0.20", s.tracker, nil)
	s.during(t, func(_ *fetcher.Fetcher, o *peers.Options) { o.Block = []string{"127.0.0.8/30"} }, func(worker netip.AddrPort) {
		eventually(t, "the other is not connected", func() bool { return other.open.Load() > 0 })
		eventually(t, "the other is refused", func() bool { return s.greets(t, "127.0.0.20", worker) })
		if s.greets(t, "127.0.0.9", worker) {
			t.Error("a blocked peer is taken in")
		}
	})
	if blocked.plain.Load()+blocked.dark.Load() > 0 {
		t.Error("a blocked peer was dialled")
	}
}

func TestEncryption(t *testing.T) {
	for _, how := range []string{"", "prefer", "require", "never"} {
		t.Run("how="+how, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
			p := s.stranger(t, "127.0.0.30", s.tracker, nil)
			s.during(t, func(_ *fetcher.Fetcher, o *peers.Options) { o.Encryption = how }, func(worker netip.AddrPort) {
				eventually(t, "the peer is not dialled", func() bool { return p.plain.Load()+p.dark.Load() > 0 })
				if how != "require" {
					eventually(t, "a handshake that is not encrypted is not answered", func() bool { return s.greets(t, "127.0.0.1", worker) })
				} else if s.greets(t, "127.0.0.1", worker) {
					t.Error("a handshake that is not encrypted is answered")
				}
			})
			if wrong := map[string]int64{"": p.dark.Load(), "require": p.plain.Load(), "never": p.dark.Load()}[how]; wrong > 0 {
				t.Errorf("%d connections of the other kind", wrong)
			}
			if how == "prefer" && p.dark.Load() == 0 {
				t.Error("it did not try encryption")
			}
		})
	}
}

// Who is to listen at an address speaks to peers and trackers from there.
func TestListenAt(t *testing.T) {
	t.Parallel()
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.buildFor(metainfo.V1, 0, []string{s.tracker.HTTP}, []string{s.tracker.UDP})
	at := netip.MustParseAddr("127.0.0.3")
	p := s.stranger(t, "127.0.0.42", s.tracker, nil)
	from := func(who, whence netip.Addr) {
		if whence != at {
			t.Errorf("%v is spoken to from %v", who, whence)
		}
	}
	s.during(t, func(_ *fetcher.Fetcher, o *peers.Options) { o.Interface = at.String() }, func(worker netip.AddrPort) {
		if s.greets(t, "127.0.0.1", worker) {
			t.Error("it listens at another address")
		}
		eventually(t, "it does not listen where it is to", func() bool {
			return s.greets(t, "127.0.0.1", netip.AddrPortFrom(at, worker.Port()))
		})
		eventually(t, "trackers or a peer are not met", func() bool { return len(s.tracker.Log()) > 1 && p.whence.Load() != nil })
		from(p.at.Addr(), *p.whence.Load())
	})
	k := s.keep(t, "worker", func(p *peers.Seeding) { p.Options.Interface = at.String() })
	p.whence.Store(nil)
	k.Add(k.t)
	eventually(t, "the seed does not meet the peer", func() bool { return p.whence.Load() != nil })
	from(p.at.Addr(), *p.whence.Load())
	k.stop()
	for _, a := range s.tracker.Log() {
		from(netip.MustParseAddr("127.0.0.1"), a.Peer.Addr())
	}
}
