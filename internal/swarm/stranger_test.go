package swarm_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
)

const plainHello = "\x13BitTorrent protocol" // BEP 3

// stranger is a peer that has nothing and wants nothing. It does not encrypt and exchanges peers (BEP 11).
type stranger struct {
	at          netip.AddrPort
	plain, dark atomic.Int64                   // connections that began so, or with something else
	open        atomic.Int64                   // connections that are open
	whence      atomic.Pointer[netip.Addr]     // the last one came from
	extended    func(c net.Conn, hello []byte) // what it does about an extended handshake (BEP 10); nil: nothing
}

// stranger starts one at an address, which the tracker knows.
func (s *site) stranger(t testing.TB, ip string, known *trackertest.Tracker, extended func(net.Conn, []byte)) *stranger {
	t.Helper()
	l, err := net.Listen("tcp4", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &stranger{at: netip.MustParseAddrPort(l.Addr().String()), extended: extended}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.meet(c)
		}
	}()
	known.Add(p.at)
	return p
}

func (p *stranger) meet(c net.Conn) {
	defer c.Close()
	p.whence.Store(new(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()))
	r := bufio.NewReader(c)
	var hello [68]byte
	if _, err := io.ReadFull(r, hello[:len(plainHello)]); err != nil {
		return
	}
	if string(hello[:len(plainHello)]) != plainHello {
		p.dark.Add(1)
		return
	}
	p.plain.Add(1)
	if _, err := io.ReadFull(r, hello[len(plainHello):]); err != nil {
		return
	}
	p.open.Add(1)
	defer p.open.Add(-1)
	clear(hello[20:28])
	hello[25] = 0x10 // extensions
	copy(hello[48:], fmt.Sprintf("-ST0001-%012d", p.at.Port()))
	c.Write(hello[:])
	extend(c, 0, "d1:md6:ut_pexi7eee")
	for {
		msg, err := message(r)
		if err != nil {
			return
		}
		if len(msg) > 2 && msg[0] == 20 && msg[1] == 0 && p.extended != nil {
			p.extended(c, msg[2:])
		}
	}
}

// message reads what follows a handshake (BEP 3): a length, a kind and its payload; nothing keeps the connection alive.
func message(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// extend sends a message of an extension.
func extend(c net.Conn, id byte, payload string) {
	c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(2+len(payload))), "\x14"+string([]byte{id})+payload...))
}

// during checks something while a download is under way; worker is where peers connect to, at 127.0.0.1 if nothing else is said.
func (s *site) during(t *testing.T, change func(*fetcher.Fetcher, *peers.Options), check func(worker netip.AddrPort)) {
	t.Helper()
	var over atomic.Bool
	s.hold(1<<20, over.Load)
	var all sync.WaitGroup
	defer all.Wait()
	defer over.Store(true)
	ctx := within(t)
	all.Go(func() {
		_, err := s.fetch(ctx, "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
			f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) { change(f, &p.Options) })
		})
		if err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the download is not announced", s.announces(1))
	check(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.tracker.Log()[0].Peer.Port()))
}

// greets tells whether a peer answers a handshake that is not encrypted and comes from an address.
func (s *site) greets(t testing.TB, from string, to netip.AddrPort) bool {
	t.Helper()
	one, err := peers.TorrentOf(s.torrent)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return false
	}
	defer c.Close()
	hello := append([]byte(plainHello+"\x00\x00\x00\x00\x00\x00\x00\x00"), one.ID[:]...)
	// What follows are messages that keep the connection alive, or enough of what is not the beginning of encryption.
	c.Write(append(append(hello, "-ST0001-123456789012"...), make([]byte, 1200)...))
	answer := make([]byte, 68)
	_, err = io.ReadFull(c, answer)
	return err == nil && string(answer[28:48]) == string(one.ID[:])
}
