package swarm

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"torrent-xfer/internal/peers"
)

func TestFilter(t *testing.T) {
	block := []string{"127.0.0.0-127.0.0.255", "9.0.0.0/8", "9.1.0.0/16", "8.8.8.8", "2001:db9::/32"}
	private, err := newFilter(peers.Reach{Private: true}, block)
	if err != nil {
		t.Fatal(err)
	}
	public, err := newFilter(peers.Reach{}, block)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ip              string
		private, public bool
	}{
		{"127.0.0.1", false, false}, {"127.0.1.1", true, false}, {"9.0.0.0", false, false}, {"9.255.255.255", false, false}, {"9.2.0.0", false, false},
		{"10.0.0.0", true, false}, {"8.8.8.8", false, false}, {"8.8.8.7", true, true}, {"8.8.8.9", true, true}, {"::1", true, false},
		{"2001:db9::1", false, false}, {"2606:4700::1", true, true}, {"169.254.169.254", true, false},
	} {
		for f, want := range map[*filter]bool{private: c.private, public: c.public} {
			for _, ip := range []net.IP{net.ParseIP(c.ip), net.ParseIP(c.ip).To16(), net.IP(netip.MustParseAddr(c.ip).AsSlice())} {
				if _, blocked := f.Lookup(ip); blocked == want {
					t.Errorf("%s (%d bytes), private %v: blocked %v", c.ip, len(ip), f == private, blocked)
				}
			}
		}
	}
	if !private.ban("4.4.4.4:6881") || private.ban("[::ffff:4.4.4.4]:1") || !private.banned("4.4.4.4:99") || private.banned("4.4.4.5:6881") {
		t.Error("bans are not by address")
	}
	if _, blocked := private.Lookup(net.ParseIP("4.4.4.4")); !blocked {
		t.Error("a banned peer is spoken to")
	}
	if _, err := newFilter(peers.Reach{}, []string{"nonsense"}); err == nil {
		t.Error("nonsense is a range")
	}
}

func TestReachOfTrackers(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, c := range []struct {
		reach peers.Reach
		want  bool
	}{{peers.Reach{}, false}, {peers.Reach{Private: true}, true}, {peers.Reach{Trusted: []string{"127.0.0.1"}}, true}} {
		f, err := newFilter(c.reach, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := f.dialTracker(t.Context(), "tcp", l.Addr().String())
		if (err == nil) != c.want {
			t.Errorf("%+v: HTTP: %v", c.reach, err)
		}
		if err == nil {
			conn.Close()
		}
		u, err := f.packets(t.Context(), "udp://"+pc.LocalAddr().String()+"/announce", nil)("udp4", "")
		if (err == nil) != c.want {
			t.Errorf("%+v: UDP: %v", c.reach, err)
		}
		if err == nil {
			u.Close()
		}
	}
}

// Where nobody listens is known at once, and a block list is of trackers too.
func TestTrackersThatAreNotThere(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "udp://" + pc.LocalAddr().String()
	pc.Close()
	f, err := newFilter(peers.Reach{Private: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{}, 8)
	c, err := f.packets(t.Context(), at, func() { refused <- struct{}{} })("udp4", "")
	if err != nil {
		t.Fatal(err)
	}
	go c.ReadFrom(make([]byte, 10))
	if _, err := c.WriteTo([]byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-refused:
	case <-time.After(time.Minute):
		t.Error("nothing is told of a port that is closed")
	}
	c.Close()
	if f, err = newFilter(peers.Reach{Private: true}, []string{"127.0.0.0/8"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.packets(t.Context(), at, nil)("udp4", ""); !errors.Is(err, errBlocked) {
		t.Errorf("%v of a tracker that is on the block list", err)
	}
}
