package swarm_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

// Peers of a private torrent (BEP 27) come from its tracker alone, whatever is allowed.
func TestPrivate(t *testing.T) {
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprint(private), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
			s.buildAs(metainfo.V1, 0, metainfo.BuildOptions{Private: private, Trackers: [][]string{{s.tracker.HTTP}}})
			node, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { node.Close() })
			var asked, called, met, pex atomic.Bool
			go func() {
				if _, _, err := node.ReadFrom(make([]byte, 1500)); err == nil {
					asked.Store(true)
				}
			}()
			one, err := peers.TorrentOf(s.torrent)
			if err != nil {
				t.Fatal(err)
			}
			if group, err := net.ListenMulticastUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("239.192.152.143:6771"))); err == nil {
				t.Cleanup(func() { group.Close() })
				go func() {
					for buf := make([]byte, 1500); ; {
						n, err := group.Read(buf)
						if err != nil {
							return
						}
						if strings.Contains(strings.ToLower(string(buf[:n])), hex.EncodeToString(one.ID[:])) {
							called.Store(true)
						}
					}
				}()
			}
			s.stranger(t, "127.0.0.40", s.tracker, func(_ net.Conn, hello []byte) {
				pex.Store(bytes.Contains(hello, []byte("6:ut_pex")))
				met.Store(true)
			})
			s.during(t, func(_ *fetcher.Fetcher, o *peers.Options) {
				o.NoLPD, o.Interface, o.DHT, o.DHTNodes = false, "127.0.0.1", true, []string{node.LocalAddr().String()}
			}, func(netip.AddrPort) {
				eventually(t, "the peer of the tracker is not met", met.Load)
				if !private {
					eventually(t, "the DHT is not asked", asked.Load)
				}
			})
			if pex.Load() == private {
				t.Errorf("exchange of peers: %v", pex.Load())
			}
			if private && (asked.Load() || called.Load()) {
				t.Errorf("DHT %v, local discovery %v", asked.Load(), called.Load())
			}
		})
	}
}
