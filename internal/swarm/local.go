package swarm

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/torrent"
)

const (
	localGroup   = "239.192.152.143:6771" // BEP 14
	localEvery   = 5 * time.Minute
	localAtOnce  = 20 // info hashes in a datagram; who seeds more than that only listens
	dhtEvery     = 25 * time.Minute
	dhtPatience  = 30 * time.Second
	dhtPace      = 2 * time.Second
	localStarted = 2 * time.Second // after the start, when torrents have been added
)

// listenLocal speaks to those on the same network who look for what is seeded (BEP 14). Where that is not possible, nothing is lost.
func (s *seeder) listenLocal(name string) {
	group := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(localGroup))
	in, err := net.ListenMulticastUDP("udp4", interfaceOf(name), group)
	if err != nil {
		return
	}
	go func() {
		<-s.closed
		in.Close()
	}()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := in.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if port, hashes := parseLocal(buf[:n]); port != 0 {
				s.heard(netip.AddrPortFrom(from.Addr().Unmap(), port), hashes)
			}
		}
	}()
	go s.callLocal()
}

// callLocal says what is seeded, if that is not much. From its own address on, what it says goes out where that is.
func (s *seeder) callLocal() {
	out, err := s.filter.dial(context.Background(), net.Dialer{}, "udp4", localGroup)
	if err != nil {
		return
	}
	defer out.Close()
	for wait := localStarted; ; wait = localEvery {
		select {
		case <-s.closed:
			return
		case <-time.After(wait):
		}
		var b strings.Builder
		fmt.Fprintf(&b, "BT-SEARCH * HTTP/1.1\r\nHost: %s\r\nPort: %d\r\n", localGroup, s.client.LocalPort())
		n := 0
		s.mu.RLock()
		for id, c := range s.known {
			if !c.private && !s.paused {
				fmt.Fprintf(&b, "Infohash: %X\r\n", id)
				n++
			}
			if n > localAtOnce {
				break
			}
		}
		s.mu.RUnlock()
		if n > 0 && n <= localAtOnce {
			out.Write([]byte(b.String() + "\r\n\r\n"))
		}
	}
}

// parseLocal reads a datagram of BEP 14; port 0: it is none.
func parseLocal(data []byte) (port uint16, hashes [][20]byte) {
	lines := strings.Split(string(data), "\r\n")
	if lines[0] != "BT-SEARCH * HTTP/1.1" {
		return 0, nil
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "port":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return 0, nil
			}
			port = uint16(n)
		case "infohash":
			if b, err := hex.DecodeString(value); err == nil && len(b) == 20 {
				hashes = append(hashes, [20]byte(b))
			}
		}
	}
	return port, hashes
}

// heard has the client speak to somebody who wants these torrents.
func (s *seeder) heard(peer netip.AddrPort, hashes [][20]byte) {
	if int(peer.Port()) == s.client.LocalPort() && isOurs(peer.Addr()) || !s.filter.mayBePeer(peer.Addr()) {
		return
	}
	for _, id := range hashes {
		s.mu.RLock()
		c := s.known[id]
		s.mu.RUnlock()
		if c != nil && !c.private {
			go func() {
				if t := s.wake(id); t != nil {
					t.AddPeers([]torrent.PeerInfo{{Addr: net.TCPAddrFromAddrPort(peer), Source: torrent.PeerSourceLPD}})
				}
			}()
		}
	}
}

func isOurs(ip netip.Addr) bool {
	return slices.ContainsFunc(networks(), func(n netip.Prefix) bool { return n.Addr() == ip })
}

// announceDHT tells the DHT what is seeded, one torrent after the other.
func (s *seeder) announceDHT(server *dht.Server) {
	told := map[[20]byte]time.Time{}
	for {
		select {
		case <-s.closed:
			return
		case <-time.After(dhtPace):
		}
		var next [20]byte
		s.mu.RLock()
		for id, c := range s.known {
			if !c.private && !s.paused && time.Since(told[id]) > dhtEvery && (next == [20]byte{} || told[id].Before(told[next])) {
				next = id
			}
		}
		s.mu.RUnlock()
		if next == [20]byte{} {
			continue
		}
		told[next] = time.Now()
		a, err := server.AnnounceTraversal(next, dht.AnnouncePeer(dht.AnnouncePeerOpts{Port: s.client.LocalPort()}))
		if err != nil {
			continue
		}
		late := time.After(dhtPatience)
		for more := true; more; {
			select {
			case _, more = <-a.Peers:
			case <-late:
				more = false
			case <-s.closed:
				more = false
			}
		}
		a.Close()
	}
}
