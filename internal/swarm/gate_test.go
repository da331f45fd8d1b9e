package swarm

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// from is a connection from somewhere.
type from struct {
	net.Conn
	addr netip.Addr
}

func (c from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.addr, 1)) }

func callFrom(ip string) net.Conn {
	c, _ := net.Pipe()
	return from{c, netip.MustParseAddr(ip)}
}

// One address, of IPv6 one network, takes no more than a quarter of the places; this machine may take all.
func TestGate(t *testing.T) {
	g := &gate{most: 8, from: map[netip.Addr]int{}}
	var in []*visit
	come := func(ip string) bool {
		v, err := g.enter(callFrom(ip))
		if err == nil {
			in = append(in, v)
		}
		return err == nil
	}
	for i, try := range []struct {
		ip   string
		want bool
	}{
		{"192.0.2.1", true}, {"::ffff:192.0.2.1", true}, {"192.0.2.1", false}, {"192.0.2.2", true},
		{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::3", false}, {"2001:db8:0:1::3", true},
		{"127.0.0.1", true}, {"127.0.0.1", true}, {"127.0.0.1", false}, {"192.0.2.3", false},
	} {
		if got := come(try.ip); got != try.want {
			t.Errorf("%d: %s: %v", i, try.ip, got)
		}
	}
	for _, v := range in {
		v.Close()
		v.Close()
	}
	if g.peers() != 0 || len(g.from) != 0 {
		t.Errorf("%d left, %v", g.peers(), g.from)
	}
	for range 8 {
		if !come("127.0.0.1") {
			t.Error("this machine may not take all places")
		}
	}
}

// exhausted is a listener that has no descriptors left for a moment.
type exhausted struct {
	net.Listener
	left int
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return callFrom("192.0.2.1"), nil
}

// The client, which would ask again at once, does not hear that descriptors are used up.
func TestDoorWaits(t *testing.T) {
	d := door{&exhausted{left: 2}, &gate{most: 1, from: map[netip.Addr]int{}}}
	if c, err := d.Accept(); c == nil || err != nil {
		t.Error(err)
	}
}

func TestInterfaceOf(t *testing.T) {
	i := interfaceOf("127.0.0.1")
	if i == nil || i.Flags&net.FlagLoopback == 0 {
		t.Fatalf("%+v", i)
	}
	if same := interfaceOf(i.Name); same == nil || same.Index != i.Index {
		t.Errorf("%+v", same)
	}
	if none := interfaceOf(""); none != nil {
		t.Errorf("%+v", none)
	}
}

// dial leaves from the home of the right kind, or not at all.
func TestDialFromHome(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := &filter{homes: []netip.Addr{netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("::1")}}
	for _, network := range []string{"tcp", "tcp4", "udp", "udp4"} {
		c, err := f.dial(t.Context(), net.Dialer{}, network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if at, _ := netip.ParseAddrPort(c.LocalAddr().String()); at.Addr() != f.homes[0] {
			t.Errorf("%s: from %v", network, at)
		}
		c.Close()
	}
	f.homes = f.homes[:1]
	var unknown net.UnknownNetworkError
	if _, err := f.dial(t.Context(), net.Dialer{}, "tcp6", "[::1]:1"); !errors.As(err, &unknown) {
		t.Error(err)
	}
}
