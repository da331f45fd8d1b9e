package swarm_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// of has a download ask the trackers of a host.
func (s *site) of(host string, memory *fetcher.HostStats, headStart time.Duration) func(*fetcher.Fetcher, *fetcher.Request) {
	return func(f *fetcher.Fetcher, _ *fetcher.Request) {
		f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) {
			p.Host = &peers.Host{Name: host, Memory: memory}
			p.Options.HeadStart, p.Options.Linger = headStart, patience
		})
	}
}

// A tracker on the torrent's own host is announced to before the one in the torrent, its peers are used, and it is remembered.
func TestOwnHostFirst(t *testing.T) {
	t.Parallel()
	own, err := trackertest.StartAt("127.0.0.21:6969")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	s := newSite(t, 6<<20, mirrortest.Config{}, metainfo.V1, 0)
	there := s.tracker
	s.build(metainfo.V1, 0, "") // a seed that announces itself nowhere
	s.tracker = own
	s.seed(t)
	s.tracker = there
	s.build(metainfo.V1, 0, there.HTTP)
	s.hold(1<<20, func() bool { return s.joins(1)() && s.announces(1)() })
	memory := &fetcher.HostStats{}
	if _, err := s.fetch(within(t), "worker", s.of("127.0.0.21", memory, patience)); err != nil {
		t.Fatal(err)
	}
	then := there.Log()[0]
	if !slices.ContainsFunc(own.Log(), func(a trackertest.Announce) bool { return a.PeerID == then.PeerID && a.At.Before(then.At) }) {
		t.Errorf("the own host did not hear of %v before %v", then.Peer, then.At)
	}
	known, ok := memory.Trackers("127.0.0.21")
	if len(known) != 1 || !ok {
		t.Fatalf("remembered: %q", known)
	}
	eventually(t, "it is not told that the file is complete and we leave", func() bool {
		heard := map[string]bool{}
		for _, a := range own.Log() {
			heard[a.Event] = heard[a.Event] || a.PeerID == then.PeerID
		}
		return heard["started"] && heard["completed"] && heard["stopped"]
	})

	// The second time that one alone is asked.
	before := len(own.Log())
	s.hold(1<<20, s.joins(2))
	if _, err := s.fetch(within(t), "worker", s.of("127.0.0.21", memory, patience)); err != nil {
		t.Fatal(err)
	}
	if len(own.Log()) == before {
		t.Errorf("%s was not asked again", known)
	}
}

// Where nobody answers the trackers in the torrent are asked all the same, and the host is not asked again.
func TestOwnHostIsSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.22:6969")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pc, err := net.ListenPacket("udp4", "127.0.0.22:6969")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	var asked atomic.Int32 // connections and datagrams
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			asked.Add(1)
		}
	}()
	go func() {
		for b := make([]byte, 2048); ; {
			if _, _, err := pc.ReadFrom(b); err != nil {
				return
			}
			asked.Add(1)
		}
	}()
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.hold(1<<20, func() bool { return asked.Load() >= 2 && s.announces(1)() })
	memory := &fetcher.HostStats{}
	if _, err := s.fetch(within(t), "worker", s.of("127.0.0.22", memory, 0)); err != nil {
		t.Fatal(err)
	}
	if known, ok := memory.Trackers("127.0.0.22"); len(known) > 0 || !ok {
		t.Errorf("remembered: %q, %v", known, ok)
	}
	before := asked.Load()
	s.hold(1<<20, s.announces(2))
	if _, err := s.fetch(within(t), "worker", s.of("127.0.0.22", memory, patience)); err != nil { // it would take too long if there were a head start
		t.Fatal(err)
	}
	if n := asked.Load(); n > before+3 { // the first may have sent again
		t.Errorf("%d packets more", n-before)
	}
}

// A private torrent is announced to its own trackers alone (BEP 27), and so is any if the host's trackers are out of reach.
func TestOwnHostIsNotAsked(t *testing.T) {
	t.Parallel()
	own, err := trackertest.StartAt("127.0.0.23:6969")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	for kind, private := range map[string]bool{"private": true, "out of reach": false} {
		s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
		s.buildAs(metainfo.V1, 0, metainfo.BuildOptions{Trackers: [][]string{{s.tracker.HTTP}}, Private: private})
		s.hold(1<<20, s.announces(1))
		memory := &fetcher.HostStats{}
		_, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, r *fetcher.Request) {
			s.of("127.0.0.23", memory, patience)(f, r)
			if !private {
				f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) {
					p.Reach = func(context.Context) peers.Reach { return peers.Reach{Trusted: []string{"127.0.0.1"}} }
				})
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(own.Log()) > 0 {
			t.Errorf("%s: the host was asked", kind)
		}
		if _, ok := memory.Trackers("127.0.0.23"); ok && private {
			t.Errorf("%s: something is remembered", kind)
		}
	}
}
