package swarm

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/anacrolix/torrent/tracker"

	"torrent-xfer/internal/peers"
)

// A tracker that does not want a torrent is well, and no other has to wait for that; one that cannot be spoken to is given a rest, but
// not while another announce is under way.
func TestRoundsRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		io.WriteString(w, "d14:failure reason12:unregisterede")
	}))
	t.Cleanup(srv.Close)
	nobody, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	for url, refused := range map[string]bool{srv.URL + "/": true, refusingUDP(t): true, srv.URL + "/broken": false, "http://" + nobody.Addr().String(): false} {
		c, err := (&filter{reach: peers.Reach{Private: true}}).tracker(t.Context(), url, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err = c.Announce(ctx, tracker.AnnounceRequest{}, tracker.AnnounceOpt{})
		cancel()
		c.Close()
		if err == nil {
			t.Fatal("an answer from " + url)
		}
		a := newRounds(nil, "")
		open := &closes{}
		q := &queue{url: url, busy: 2 * trackerPatience, wake: make(chan struct{}, 1), client: open}
		for range trackerPatience {
			a.done(q, &stand{off: true}, 0, err)
		}
		if rests := !q.next.IsZero(); rests == refused {
			t.Errorf("%s: the tracker is given a rest: %v", url, rests)
		}
		if open.closed {
			t.Errorf("%s: closed under another announce", url)
		}
		for range trackerPatience {
			a.done(q, &stand{off: true}, 0, err)
		}
		if open.closed == refused {
			t.Errorf("%s: closed in the end: %v", url, open.closed)
		}
	}
}

// closes is a client that knows whether it was closed.
type closes struct {
	tracker.Client
	closed bool
}

func (c *closes) Close() error { c.closed = true; return nil }

// refusingUDP is a tracker that knows no torrent (BEP 15).
func refusingUDP(t *testing.T) (url string) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 16 {
				continue
			}
			answer := append([]byte{0, 0, 0, 0}, buf[12:16]...)
			if binary.BigEndian.Uint32(buf[8:]) == 0 { // connect
				answer = append(answer, 1, 2, 3, 4, 5, 6, 7, 8)
			} else {
				answer[3] = 3 // error
				answer = append(answer, "unregistered"...)
			}
			c.WriteTo(answer, from)
		}
	}()
	return "udp://" + c.LocalAddr().String()
}
