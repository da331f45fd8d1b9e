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

const resolvePatience = 3 * time.Second

var errReach = errors.New("points at a private address")

// filter decides to whom this process speaks. If the file's own host is on the internet, a tracker may be at a private address
// only if it stands on one of the user's own hosts, and a peer only if it is on a network that this machine is connected to:
// that is where local discovery finds them. Peers who lied, and whom the user blocks, are never spoken to.
type filter struct {
	reach   peers.Reach
	blocked []peers.Range // sorted, none within another

	mu      sync.Mutex
	liars   map[netip.Addr]bool
	trusted map[netip.Addr]bool // of UDP trackers on the user's own hosts
}

func newFilter(reach peers.Reach, block []string) (*filter, error) {
	f := &filter{reach: reach, liars: map[netip.Addr]bool{}, trusted: map[netip.Addr]bool{}}
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

// onLink reports whether ip is on a network that this machine is connected to, and not the machine itself.
func onLink(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, err := netip.ParsePrefix(a.String()); err == nil && n.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
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

// trust finds the addresses of UDP trackers on the user's own hosts.
func (f *filter) trust(tiers [][]string) {
	if f.reach.Private {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolvePatience)
	defer cancel()
	for _, tier := range tiers {
		for _, text := range tier {
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "udp" || !f.own(u.Hostname()) {
				continue
			}
			ips, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
			f.mu.Lock()
			for _, ip := range ips {
				f.trusted[ip.Unmap()] = true
			}
			f.mu.Unlock()
		}
	}
}

func (f *filter) own(host string) bool {
	return slices.ContainsFunc(f.reach.Trusted, func(t string) bool { return strings.EqualFold(t, host) })
}

// dialTracker dials HTTP trackers.
func (f *filter) dialTracker(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	if !f.reach.Private && !f.own(host) {
		d.Control = func(_, to string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(to)
			if err != nil {
				return err
			}
			if !netaddr.Public(at.Addr().Unmap()) {
				return errReach
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, address)
}

// listenPacket opens the socket for UDP trackers.
func (f *filter) listenPacket(network, address string) (net.PacketConn, error) {
	c, err := net.ListenPacket(network, address)
	if err != nil || f.reach.Private {
		return c, err
	}
	return narrowConn{c, f}, nil
}

// narrowConn sends to trackers only where they may be.
type narrowConn struct {
	net.PacketConn
	f *filter
}

func (c narrowConn) WriteTo(p []byte, to net.Addr) (int, error) {
	at, err := netip.ParseAddrPort(to.String())
	if err != nil {
		return 0, err
	}
	ip := at.Addr().Unmap()
	c.f.mu.Lock()
	trusted := c.f.trusted[ip]
	c.f.mu.Unlock()
	if !trusted && !netaddr.Public(ip) {
		return 0, errReach
	}
	return c.PacketConn.WriteTo(p, to)
}
