package swarm

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anacrolix/torrent/iplist"

	"torrent-xfer/internal/netaddr"
	"torrent-xfer/internal/peers"
)

var (
	errReach   = errors.New("points at a private address")
	errBlocked = errors.New("is on the block list")
)

// filter decides to whom this process speaks. If the file's own host is on the internet, a tracker may be at a private address
// only if it stands on one of the user's own hosts, and a peer only if it is on a network that this machine is connected to:
// that is where local discovery finds them. Peers who lied, and whom the user blocks, are never spoken to.
type filter struct {
	reach   peers.Reach
	blocked []peers.Range // sorted, none within another
	homes   []netip.Addr  // where all connections come from, one address of a kind; nil: it does not matter

	mu      sync.Mutex
	liars   map[netip.Addr]bool
	trusted map[string]bool // hosts, beside those of reach
}

func newFilter(reach peers.Reach, block []string) (*filter, error) {
	f := &filter{reach: reach, liars: map[netip.Addr]bool{}, trusted: map[string]bool{}}
	for _, text := range block {
		r, err := peers.ParseRange(text)
		if err != nil {
			return nil, err
		}
		f.blocked = append(f.blocked, r)
	}
	slices.SortFunc(f.blocked, func(a, b peers.Range) int { return cmp.Or(a.First.Compare(b.First), b.Last.Compare(a.Last)) })
	kept := f.blocked[:0]
	for _, r := range f.blocked {
		if n := len(kept); n == 0 || !kept[n-1].Contains(r.Last) {
			kept = append(kept, r)
		}
	}
	f.blocked = kept
	return f, nil
}

// Lookup implements iplist.Ranger: it is asked about each peer, whichever way it came.
func (f *filter) Lookup(ip net.IP) (r iplist.Range, ok bool) {
	addr, valid := netip.AddrFromSlice(ip)
	if !valid {
		return r, true
	}
	return r, !f.mayBePeer(addr.Unmap())
}

// NumRanges implements iplist.Ranger.
func (f *filter) NumRanges() int { return len(f.blocked) }

func (f *filter) mayBePeer(ip netip.Addr) bool {
	f.mu.Lock()
	liar := f.liars[ip]
	f.mu.Unlock()
	if liar || f.isBlocked(ip) {
		return false
	}
	return f.reach.Private || netaddr.Public(ip) || onLink(ip)
}

// isBlocked looks from the last range that begins at or before ip; those before it end sooner.
func (f *filter) isBlocked(ip netip.Addr) bool {
	i, found := slices.BinarySearchFunc(f.blocked, ip, func(r peers.Range, ip netip.Addr) int { return r.First.Compare(ip) })
	return found || i > 0 && f.blocked[i-1].Contains(ip)
}

// onLink reports whether ip is on a network that this machine is connected to; its own addresses there are, loopback is not.
func onLink(ip netip.Addr) bool {
	return !ip.IsLoopback() && slices.ContainsFunc(networks(), func(n netip.Prefix) bool { return n.Contains(ip.WithZone("")) })
}

// networks are this machine's addresses, each with the network that it is in.
func networks() (list []netip.Prefix) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, netip.PrefixFrom(n.Addr().Unmap(), n.Bits()))
		}
	}
	return list
}

// ban reports whether the peer at "host:port" was not banned before.
func (f *filter) ban(peer string) bool {
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ip := at.Addr().Unmap()
	before := f.liars[ip]
	f.liars[ip] = true
	return !before
}

// pardon lifts all bans.
func (f *filter) pardon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.liars)
}

func (f *filter) banned(peer string) bool {
	at, err := netip.ParseAddrPort(peer)
	f.mu.Lock()
	defer f.mu.Unlock()
	return err == nil && f.liars[at.Addr().Unmap()]
}

// trust lets trackers stand on more of the user's own hosts.
func (f *filter) trust(hosts []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range hosts {
		f.trusted[strings.ToLower(h)] = true
	}
}

func (f *filter) own(host string) bool {
	f.mu.Lock()
	own := f.trusted[strings.ToLower(host)]
	f.mu.Unlock()
	return own || slices.ContainsFunc(f.reach.Trusted, func(t string) bool { return strings.EqualFold(t, host) })
}

// dialTracker dials trackers, over TCP or UDP.
func (f *filter) dialTracker(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	anywhere := f.reach.Private || f.own(host)
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, to string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(to)
		switch ip := at.Addr().Unmap(); {
		case err != nil:
			return err
		case f.isBlocked(ip):
			return errBlocked
		case !anywhere && !netaddr.Public(ip):
			return errReach
		}
		return nil
	}}
	return f.dial(ctx, d, network, address)
}

// dial dials from where connections are to come from.
func (f *filter) dial(ctx context.Context, d net.Dialer, network, address string) (c net.Conn, err error) {
	if f.homes == nil {
		return d.DialContext(ctx, network, address)
	}
	kinds := strings.TrimRight(network, "46")
	err = net.UnknownNetworkError(network)
	for _, home := range f.homes {
		kind := kinds + kindOf(home)
		if network != kinds && network != kind {
			continue
		}
		if d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(home, 0)); kinds == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(home, 0))
		}
		if c, err = d.DialContext(ctx, kind, address); err == nil {
			break
		}
	}
	return c, err
}

// packets returns what opens the socket to a UDP tracker. refused, unless it is nil, is called when the tracker's machine says that
// there is none.
func (f *filter) packets(ctx context.Context, tracker string, refused func()) func(network, _ string) (net.PacketConn, error) {
	return func(network, _ string) (net.PacketConn, error) {
		u, err := url.Parse(tracker)
		if err != nil {
			return nil, err
		}
		c, err := f.dialTracker(ctx, network, u.Host)
		if err != nil {
			return nil, err
		}
		return trackerConn{c.(*net.UDPConn), refused}, nil
	}
}

// trackerConn is a socket that is connected to a UDP tracker: that tells at once where nobody listens.
type trackerConn struct {
	*net.UDPConn
	refused func()
}

func (c trackerConn) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

func (c trackerConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(p)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return n, from, err
		}
		if c.refused != nil {
			c.refused()
		}
	}
}
