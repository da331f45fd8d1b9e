package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
)

// mostPeers are connections of peers, of the worker's 1,024 descriptors: files, trackers and names need the others.
const mostPeers = 700

// gate is where connections of peers come in and go out. It counts them: one address has no more than a quarter of the places. It
// wakes the torrent that an unencrypted handshake names before the client reads it.
type gate struct {
	client *torrent.Client
	filter *filter
	wake   func(hash [20]byte) // nil: no torrent sleeps
	most   int
	doors  []net.Listener

	mu   sync.Mutex
	open int
	from map[netip.Addr]int // how many of them; of IPv6 by network
}

var errFull = errors.New("as many peers as may be are connected")

// openGate has the client listen, at the same port for both kinds of addresses, and dial.
func openGate(client *torrent.Client, cfg *torrent.ClientConfig, f *filter, port, most int, wake func([20]byte)) (*gate, error) {
	g := &gate{client: client, filter: f, wake: wake, most: most, from: map[netip.Addr]int{}}
	any := port == 0
	for try := 0; ; try++ {
		err := g.listen(cfg, port)
		if err == nil {
			break
		}
		g.close()
		if g.doors = nil; !any || try == 10 {
			return nil, err
		}
	}
	for _, d := range g.doors {
		client.AddListener(door{d, g})
	}
	for network, off := range map[string]bool{"tcp4": cfg.DisableIPv4, "tcp6": cfg.DisableIPv6} {
		if !off {
			client.AddDialer(torrent.NetworkDialer{Network: network, Dialer: g})
		}
	}
	return g, nil
}

func (g *gate) listen(cfg *torrent.ClientConfig, port int) error {
	for _, n := range []struct {
		network string
		off     bool
	}{{"tcp4", cfg.DisableIPv4}, {"tcp6", cfg.DisableIPv6}} {
		if n.off {
			continue
		}
		l, err := net.Listen(n.network, net.JoinHostPort(cfg.ListenHost(n.network), strconv.Itoa(port)))
		if err != nil {
			if n.network == "tcp6" && len(g.doors) > 0 && !strings.Contains(err.Error(), "in use") {
				continue // a machine without IPv6
			}
			return err
		}
		g.doors = append(g.doors, l)
		port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

func (g *gate) close() {
	for _, d := range g.doors {
		d.Close()
	}
}

// peers counts those who are connected.
func (g *gate) peers() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// enter counts a connection, if it may be.
func (g *gate) enter(c net.Conn) (*visit, error) {
	var ip netip.Addr
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ip = at.AddrPort().Addr().Unmap()
	}
	whose := ip
	if ip.Is6() {
		whose = netip.PrefixFrom(ip, 64).Masked().Addr()
	}
	g.mu.Lock()
	full := g.open >= g.most || g.from[whose] >= (g.most+3)/4 && !ip.IsLoopback()
	if !full {
		g.open++
		g.from[whose]++
	}
	g.mu.Unlock()
	if full {
		c.Close()
		return nil, errFull
	}
	return &visit{Conn: c, g: g, whose: whose, known: g.wake == nil}, nil
}

// exit counts it no more.
func (g *gate) exit(whose netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.from[whose]--; g.from[whose] == 0 {
		delete(g.from, whose)
	}
}

// DialContext dials peers.
func (g *gate) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if g.peers() >= g.most {
		return nil, errFull
	}
	c, err := g.filter.dial(ctx, net.Dialer{KeepAlive: -1}, network, address)
	if err != nil {
		return nil, err
	}
	v, err := g.enter(c)
	if err != nil {
		return nil, err
	}
	v.known = true
	return v, nil
}

// door is a listener.
type door struct {
	net.Listener
	g *gate
}

// Accept returns an error only when there will be no more: the client would ask again at once.
func (d door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			<-d.g.client.Closed()
			return nil, err
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // no descriptors left, perhaps
			continue
		}
		if v, err := d.g.enter(c); err == nil {
			return v, nil
		}
	}
}

// visit is a connection.
type visit struct {
	net.Conn
	g     *gate
	whose netip.Addr
	head  []byte // what has come of a handshake
	known bool   // whom they want
	once  sync.Once
}

const (
	protocol  = "\x13BitTorrent protocol"
	hashBegin = len(protocol) + 8 // after the extension bits (BEP 3)
	hashEnd   = hashBegin + 20
)

// Read wakes the torrent that an unencrypted handshake names.
func (v *visit) Read(p []byte) (int, error) {
	n, err := v.Conn.Read(p)
	if !v.known {
		v.head = append(v.head, p[:min(n, hashEnd-len(v.head))]...)
		switch have := min(len(v.head), len(protocol)); {
		case string(v.head[:have]) != protocol[:have]:
			v.known = true // it is encrypted
		case len(v.head) == hashEnd:
			v.known = true
			v.g.wake([20]byte(v.head[hashBegin:]))
		}
		if v.known {
			v.head = nil
		}
	}
	return n, err
}

func (v *visit) Close() error {
	v.once.Do(func() { v.g.exit(v.whose) })
	return v.Conn.Close()
}
