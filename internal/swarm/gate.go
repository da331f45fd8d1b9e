package swarm

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/torrent"
	"golang.org/x/time/rate"
)

// gate is where connections of peers come in and go out: it counts them, and wakes the torrent that an unencrypted handshake
// names before the client reads it.
type gate struct {
	s       *seeder
	most    int64
	open    atomic.Int64
	limiter *rate.Limiter // of uploads
	dialer  net.Dialer
	doors   []net.Listener
}

var errFull = errors.New("as many peers as may be are connected")

// openGate listens, at the same port for both kinds of addresses.
func openGate(s *seeder, cfg *torrent.ClientConfig, port, most int) (*gate, error) {
	g := &gate{s: s, most: int64(most), limiter: cfg.UploadRateLimiter, dialer: net.Dialer{KeepAlive: -1}}
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
		s.client.AddListener(door{d, g})
	}
	for network, off := range map[string]bool{"tcp4": cfg.DisableIPv4, "tcp6": cfg.DisableIPv6} {
		if !off {
			s.client.AddDialer(torrent.NetworkDialer{Network: network, Dialer: g})
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

// enter counts a connection, if it may be.
func (g *gate) enter(c net.Conn) (*visit, error) {
	if g.open.Add(1) > g.most {
		g.open.Add(-1)
		c.Close()
		return nil, errFull
	}
	return &visit{Conn: c, g: g}, nil
}

// DialContext dials peers.
func (g *gate) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if g.open.Load() >= g.most {
		return nil, errFull
	}
	c, err := g.dialer.DialContext(ctx, network, address)
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
			<-d.g.s.client.Closed()
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
			v.g.s.wake([20]byte(v.head[hashBegin:]))
		}
		if v.known {
			v.head = nil
		}
	}
	return n, err
}

func (v *visit) Close() error {
	v.once.Do(func() { v.g.open.Add(-1) })
	return v.Conn.Close()
}
