package swarm

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/anacrolix/torrent"
)

// addPeers introduces peers at "host:port", a host being an address or a name.
func addPeers(t *torrent.Torrent, list []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, text := range list {
		host, number, err := net.SplitHostPort(text)
		if err != nil {
			continue
		}
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		ips, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		for _, ip := range ips {
			t.AddPeers([]torrent.PeerInfo{{Addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port)))}})
		}
	}
}
