// Package trackertest is a BitTorrent tracker for tests: just enough of HTTP (BEP 3, 23, 48) and UDP (BEP 15).
package trackertest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Announce is one that was heard.
type Announce struct {
	Event      string // "started", "completed", "stopped", or ""
	InfoHash   string // 20 bytes
	PeerID     string
	Peer       netip.AddrPort
	Left       uint64
	Downloaded uint64
	Uploaded   uint64
	At         time.Time // when it was heard
}

// Tracker is one that runs. Addresses of its peers are IPv4.
type Tracker struct {
	HTTP string // announce URL
	UDP  string // announce URL

	Interval time.Duration // until peers are to announce again, by HTTP; set it before the first comes; 0: a minute

	mu    sync.Mutex
	peers map[string][]netip.AddrPort // by info hash
	fixed []netip.AddrPort
	log   []Announce
	srv   *http.Server
	pc    net.PacketConn
}

// Start starts a tracker at 127.0.0.1.
func Start() (*Tracker, error) { return StartAt("127.0.0.1:0") }

// StartAt starts one at an IPv4 address and port.
func StartAt(address string) (*Tracker, error) {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return nil, err
	}
	pc, err := net.ListenPacket("udp4", address)
	if err != nil {
		l.Close()
		return nil, err
	}
	t := &Tracker{HTTP: "http://" + l.Addr().String() + "/announce", UDP: "udp://" + pc.LocalAddr().String() + "/announce",
		peers: map[string][]netip.AddrPort{}, pc: pc}
	t.srv = &http.Server{Handler: http.HandlerFunc(t.serveHTTP)}
	go t.srv.Serve(l)
	go t.serveUDP()
	return t, nil
}

// Close stops it.
func (t *Tracker) Close() {
	t.srv.Close()
	t.pc.Close()
}

// Add makes a peer known that does not announce itself, for all torrents.
func (t *Tracker) Add(peer netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fixed = append(t.fixed, peer)
}

// Log returns what was heard so far.
func (t *Tracker) Log() []Announce {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Announce(nil), t.log...)
}

// Started counts those who have announced that they begin. Of a hybrid torrent each does so twice.
func (t *Tracker) Started() int {
	seen := map[string]bool{}
	for _, a := range t.Log() {
		if a.Event == "started" {
			seen[a.PeerID] = true
		}
	}
	return len(seen)
}

// heard notes an announce and returns the other peers, compact.
func (t *Tracker) heard(a Announce) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.At = time.Now()
	t.log = append(t.log, a)
	var others []byte
	kept := slices.DeleteFunc(t.peers[a.InfoHash], func(p netip.AddrPort) bool { return p == a.Peer })
	for _, p := range slices.Concat(kept, t.fixed) {
		ip := p.Addr().As4()
		others = binary.BigEndian.AppendUint16(append(others, ip[:]...), p.Port())
	}
	if a.Event != "stopped" && a.Peer.Port() != 0 {
		kept = append(kept, a.Peer)
	}
	t.peers[a.InfoHash] = kept
	return others
}

// counts are the seeders and leechers of a torrent, and how often it was completed.
func (t *Tracker) counts(infoHash string) (seeders, completed, leechers int, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := map[netip.AddrPort]uint64{}
	for _, a := range t.log {
		if a.InfoHash == infoHash {
			known = true
			left[a.Peer] = a.Left
			if a.Event == "completed" {
				completed++
			}
		}
	}
	for _, p := range t.peers[infoHash] {
		if left[p] == 0 {
			seeders++
		} else {
			leechers++
		}
	}
	return seeders, completed, leechers, known
}

func (t *Tracker) serveHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if strings.HasSuffix(r.URL.Path, "/scrape") {
		list := q["info_hash"]
		slices.Sort(list)
		fmt.Fprint(w, "d5:filesd")
		for _, h := range list {
			if s, c, l, known := t.counts(h); known {
				fmt.Fprintf(w, "%d:%sd8:completei%de10:downloadedi%de10:incompletei%dee", len(h), h, s, c, l)
			}
		}
		fmt.Fprint(w, "ee")
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/announce") {
		http.NotFound(w, r)
		return
	}
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(q.Get(name), 10, 64)
		return n
	}
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	a := Announce{Event: q.Get("event"), InfoHash: q.Get("info_hash"), PeerID: q.Get("peer_id"), Left: number("left"),
		Downloaded: number("downloaded"), Uploaded: number("uploaded"), Peer: netip.AddrPortFrom(from.Addr().Unmap(), uint16(number("port")))}
	others := t.heard(a)
	fmt.Fprintf(w, "d8:completei0e10:incompletei0e8:intervali%de5:peers%d:%se", int(cmp.Or(t.Interval, time.Minute).Seconds()), len(others), others)
}

// The magic number and the actions of BEP 15.
const (
	protocol       = 0x41727101980
	actionConnect  = 0
	actionAnnounce = 1
	actionScrape   = 2
)

var events = []string{"", "completed", "started", "stopped"}

func (t *Tracker) serveUDP() {
	buf := make([]byte, 2048)
	be := binary.BigEndian
	for {
		n, from, err := t.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		p := buf[:n]
		if n < 16 {
			continue
		}
		action, transaction := be.Uint32(p[8:]), be.Uint32(p[12:])
		head := be.AppendUint32(be.AppendUint32(nil, action), transaction)
		switch {
		case action == actionConnect && be.Uint64(p) == protocol:
			t.pc.WriteTo(be.AppendUint64(head, 1), from)
		case action == actionAnnounce && n >= 98:
			at, _ := netip.ParseAddrPort(from.String())
			a := Announce{InfoHash: string(p[16:36]), PeerID: string(p[36:56]), Downloaded: be.Uint64(p[56:]), Left: be.Uint64(p[64:]),
				Uploaded: be.Uint64(p[72:]), Event: events[be.Uint32(p[80:])%4], Peer: netip.AddrPortFrom(at.Addr().Unmap(), be.Uint16(p[96:]))}
			others := t.heard(a)
			head = be.AppendUint32(be.AppendUint32(be.AppendUint32(head, 60), 0), 0)
			t.pc.WriteTo(append(head, others...), from)
		case action == actionScrape:
			for list := p[16:]; len(list) >= 20; list = list[20:] {
				s, c, l, _ := t.counts(string(list[:20]))
				head = be.AppendUint32(be.AppendUint32(be.AppendUint32(head, uint32(s)), uint32(c)), uint32(l))
			}
			t.pc.WriteTo(head, from)
		}
	}
}
