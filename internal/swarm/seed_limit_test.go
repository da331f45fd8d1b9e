package swarm_test

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// Requests that are longer than usual, and that wait while a limit comes below their length.
func TestSeedLimitBelowRequests(t *testing.T) {
	t.Parallel()
	const size, length = 32 << 20, 256 << 10
	s := newSite(t, size, mirrortest.Config{}, metainfo.V1, 1<<20)
	k := s.keep(t, "worker", nil)
	k.Add(k.t)
	announced(t, s.tracker)
	c, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(k.Status().Port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(64 << 10)
	c.SetDeadline(time.Now().Add(patience))
	c.Write(s.hello(0))
	c.Write([]byte{0, 0, 0, 1, 2}) // interested
	if _, err := io.ReadFull(c, make([]byte, 68)); err != nil {
		t.Fatal(err)
	}
	message := func() []byte {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatalf("%v; %+v", err, k.Status())
		}
		msg := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, msg); err != nil {
			t.Fatalf("%v; %+v", err, k.Status())
		}
		return msg
	}
	for msg := []byte(nil); len(msg) != 1 || msg[0] != 1; { // unchoke
		msg = message()
	}
	for at := uint32(0); at < size; at += length {
		c.Write(slices.Concat([]byte{0, 0, 0, 13, 6}, binary.BigEndian.AppendUint32(nil, at>>20), binary.BigEndian.AppendUint32(nil, at&(1<<20-1)),
			binary.BigEndian.AppendUint32(nil, length)))
	}
	got := 0
	take := func(most int) {
		for got < most {
			if msg := message(); len(msg) > 9 && msg[0] == 7 {
				got += len(msg) - 9
			}
		}
	}
	take(1 << 20)
	k.Limit(200 << 10)
	s.afterOrders(t, k)
	take(2 << 20)
	k.Limit(0)
	take(size)
	if n := k.Status().Restarts; n > 0 {
		t.Errorf("the worker crashed %d times", n)
	}
}

// afterOrders waits until the worker has carried out what it was told: then a torrent that was added last is announced.
func (s *site) afterOrders(t testing.TB, k *seeding) {
	t.Helper()
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Close)
	k.Add(peers.Torrent{ID: [20]byte{1}, Metainfo: k.t.Metainfo, Trackers: [][]string{{tracker.HTTP}}})
	announced(t, tracker)
	k.Remove([20]byte{1})
}
