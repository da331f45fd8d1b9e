package swarm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// attacks are what strangers may do to the port of a worker.
var attacks = map[string]func(s *site, dial func() net.Conn){
	"10,000 connections": func(_ *site, dial func() net.Conn) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				var open []net.Conn
				for range 500 {
					if c := dial(); c != nil {
						open = append(open, c)
					}
					if len(open) > 40 {
						open[0].Close()
						open = open[1:]
					}
				}
				for _, c := range open {
					c.Close()
				}
			})
		}
		all.Wait()
	},
	"endless handshakes": func(s *site, dial func() net.Conn) {
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				c := dial()
				if c == nil {
					return
				}
				defer c.Close()
				for _, b := range s.hello(0) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		all.Wait()
	},
	"a bitfield of 2 GB": func(s *site, dial func() net.Conn) {
		if c := dial(); c != nil {
			defer c.Close()
			c.Write(append(s.hello(0), 0x7f, 0xff, 0xff, 0xff, 5))
			for chunk := make([]byte, 1<<20); ; {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		}
	},
	"metadata of 2 GB": func(s *site, dial func() net.Conn) {
		if c := dial(); c != nil {
			defer c.Close()
			c.Write(s.hello(0x10))
			c.Write(extended(0, "d1:md11:ut_metadatai1e6:ut_pexi2ee13:metadata_sizei2147483647ee"))
			for i := range 1000 {
				c.Write(extended(1, fmt.Sprintf("d8:msg_typei1e5:piecei%de10:total_sizei2147483647ee", i)+strings.Repeat("x", 16<<10)))
			}
		}
	},
	"peers without end by PEX": func(s *site, dial func() net.Conn) {
		if c := dial(); c != nil {
			defer c.Close()
			c.Write(s.hello(0x10))
			c.Write(extended(0, "d1:md6:ut_pexi1eee"))
			list := bytes.Repeat([]byte{127, 0, 0, 9, 0, 1}, 5000)
			for i := range 100 {
				binary.BigEndian.PutUint16(list[6*i+4:], uint16(i))
				c.Write(extended(1, fmt.Sprintf("d5:added%d:%se", len(list), list)))
			}
		}
	},
	"requests without end, and nothing read": func(s *site, dial func() net.Conn) {
		if c := dial(); c != nil {
			defer c.Close()
			c.SetWriteDeadline(time.Now().Add(2 * time.Second))
			c.Write(s.hello(0))
			c.Write([]byte{0, 0, 0, 1, 2}) // interested
			request := []byte{0, 0, 0, 13, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0}
			for batch := bytes.Repeat(request, 1000); ; {
				if _, err := c.Write(batch); err != nil {
					return
				}
			}
		}
	},
}

// hello is a handshake (BEP 3); 0x10 is extensions (BEP 10).
func (s *site) hello(extensions byte) []byte {
	h := append([]byte("\x13BitTorrent protocol"), 0, 0, 0, 0, 0, extensions, 0, 0)
	h = append(h, s.tracker.Log()[0].InfoHash...)
	return append(h, "-HO0001-hostilehosti"...)
}

func extended(kind byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(2+len(text))), append([]byte{20, kind}, text...)...)
}

// Whatever strangers do to it, the worker takes little memory and the download ends right.
func TestHostilePeers(t *testing.T) {
	for kind, attack := range attacks {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t, 6<<20, mirrortest.Config{}, metainfo.V1, 0)
			var over atomic.Bool
			memory := 0
			go func() {
				for end := time.Now().Add(patience); !s.announces(1)() && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				at := s.tracker.Log()[0].Peer.String()
				attack(s, func() net.Conn {
					c, err := net.DialTimeout("tcp", at, 5*time.Second)
					if err != nil {
						return nil
					}
					return c
				})
				memory = workerMemory(t)
				over.Store(true)
			}()
			s.hold(1<<20, over.Load)
			if _, err := s.fetch(within(t), "worker", nil); err != nil {
				t.Error(err)
			}
			if t.Logf("%d MiB", memory>>20); memory == 0 || memory > mostWorkerMemory {
				t.Errorf("the worker took %d MiB", memory>>20)
			}
		})
	}
}

// workerMemory is the most memory that the worker, which is a child of this process, had at any time.
func workerMemory(t *testing.T) (most int) {
	lists, _ := os.ReadDir("/proc/self/task")
	for _, task := range lists {
		children, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, pid := range strings.Fields(string(children)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			_, rest, _ := strings.Cut(string(status), "VmHWM:")
			if words := strings.Fields(rest); len(words) > 0 {
				kb, err := strconv.Atoi(words[0])
				if err != nil {
					t.Error(err)
				}
				most = max(most, kb<<10)
			}
		}
	}
	return most
}

// A tracker on one of the user's own hosts does not lead the worker to a private address by a redirect.
func TestTrackerRedirectsInside(t *testing.T) {
	t.Parallel()
	inside, err := trackertest.StartAt("127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.Close)
	var asked atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.HTTP+"?"+r.URL.RawQuery, http.StatusFound)
		asked.Store(true)
	}))
	t.Cleanup(srv.Close)
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.buildFor(metainfo.V1, 0, []string{srv.URL + "/announce"}, []string{s.tracker.HTTP})
	s.hold(1<<20, func() bool { return asked.Load() && s.announces(1)() })
	_, err = s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
		f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) {
			p.Reach = func(context.Context) peers.Reach { return peers.Reach{Trusted: []string{"127.0.0.1"}} }
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(inside.Log()) > 0 {
		t.Error("a private address was asked")
	}
}
