package swarm_test

import (
	"encoding/binary"
	"net"
	"regexp"
	"strconv"
	"testing"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// The file comes from somebody whom only another peer knows (BEP 11).
func TestPeerExchange(t *testing.T) {
	t.Parallel()
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.seed(t)
	eventually(t, "the seed is not announced", s.announces(1))
	seed := binary.BigEndian.AppendUint16([]byte{127, 0, 0, 1}, s.tracker.Log()[0].Peer.Port())
	other, err := trackertest.Start() // which does not know the seed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	s.build(metainfo.V1, 0, other.HTTP)
	number := regexp.MustCompile(`6:ut_pexi(\d+)e`)
	s.stranger(t, "127.0.0.50", other, func(c net.Conn, hello []byte) {
		if m := number.FindSubmatch(hello); m != nil {
			id, _ := strconv.Atoi(string(m[1]))
			extend(c, byte(id), "d5:added6:"+string(seed)+"7:added.f1:\x00e")
		}
	})
	r, err := s.fetch(within(t), "worker", dead)
	if err != nil {
		t.Fatal(err)
	}
	if got := fromPeers(r); got < int64(len(s.content)) {
		t.Errorf("%d bytes from peers", got)
	}
}
