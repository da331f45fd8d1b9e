package swarm_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/int160"
	peerstore "github.com/anacrolix/dht/v2/peer-store"
	ametainfo "github.com/anacrolix/torrent/metainfo"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// Two torrents are seeded, one of them private (BEP 27). The DHT is told of the other alone, and peers of the other alone are
// exchanged. Nobody can announce peers to us over the DHT, of either: that takes a token, which we give to nobody.
func TestSeedPrivate(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	told := map[[20]byte]int{} // what the DHT was told: the port
	node, err := dht.NewServer(&dht.ServerConfig{Conn: conn, NoSecurity: true, PeerStore: &peerstore.InMemory{},
		StartingNodes: func() ([]dht.Addr, error) { return nil, nil },
		OnAnnouncePeer: func(id ametainfo.Hash, _ net.IP, port int, _ bool) {
			mu.Lock()
			defer mu.Unlock()
			told[id] = port
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", func(p *peers.Seeding) {
		p.Options.Interface, p.Options.DHT, p.Options.DHTNodes = "127.0.0.1", true, []string{conn.LocalAddr().String()}
	})
	var ids [2][20]byte
	var hellos [2]atomic.Pointer[[]byte] // extended handshakes (BEP 10) that peers got
	for i, private := range []bool{true, false} {
		tracker, err := trackertest.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tracker.Close)
		s.stranger(t, "127.0.0.41", tracker, func(_ net.Conn, hello []byte) { hellos[i].Store(new(slices.Clone(hello))) })
		s.buildAs(metainfo.V1, 0, metainfo.BuildOptions{Private: private, Trackers: [][]string{{tracker.HTTP}}})
		one, err := peers.TorrentOf(s.torrent)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = one.ID
		k.Add(one)
		eventually(t, "the peer of the tracker is not met", func() bool { return hellos[i].Load() != nil })
	}
	port := k.Status().Port
	eventually(t, "the DHT is not told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return told[ids[1]] == port
	})
	mu.Lock()
	if told[ids[0]] != 0 {
		t.Error("the DHT is told of the private torrent")
	}
	mu.Unlock()
	for _, id := range ids {
		eventually(t, "the worker does not answer", func() bool {
			got := node.GetPeers(context.Background(), dht.NewAddr(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}),
				int160.FromByteArray(id), false, dht.QueryRateLimiting{})
			if got.Err == nil && got.Reply.R.Token != nil {
				t.Error("others may announce peers")
			}
			return got.Err == nil
		})
	}
	for i := range hellos {
		hello := *hellos[i].Load()
		if private := i == 0; private == bytes.Contains(hello, []byte("6:ut_pex")) {
			t.Errorf("exchange of peers, private %v: %q", private, hello)
		}
	}
}
