package swarm_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// leaveOut skips a test for want of a program; with CI=true it fails.
func leaveOut(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// seed starts another program, libtorrent, that has the file.
func (s *site) seed(t testing.TB) { s.seedAt(t, 0) }

// seedAt limits it to that many bytes/s; 0: no limit.
func (s *site) seedAt(t testing.TB, rate int) { s.libtorrent(t, true, rate) }

// libtorrent starts a client that has the file, or wants it, and returns its directory.
func (s *site) libtorrent(t testing.TB, seeds bool, rate int) (dir string) {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import libtorrent").Run() != nil {
		leaveOut(t, "python3-libtorrent is not installed")
	}
	flag := "update_subscribe"
	if seeds {
		flag = "seed_mode"
	}
	dir = s.others(t, seeds)
	cmd := exec.Command(python, "-c", `
import libtorrent as lt, sys
file, dir, rate, flag = sys.argv[1:]
s = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
                "allow_multiple_connections_per_ip": True, "enable_outgoing_utp": False, "enable_incoming_utp": False,
                "min_announce_interval": 5, "min_reconnect_time": 1})
local = s.get_peer_class(lt.session.local_peer_class_id)
local["upload_limit"] = int(rate)
s.set_peer_class(lt.session.local_peer_class_id, local)
p = lt.parse_magnet_uri(file) if file.startswith("magnet:") else lt.add_torrent_params()
if not file.startswith("magnet:"):
    p.ti = lt.torrent_info(file)
p.save_path, p.flags = dir, getattr(lt.torrent_flags, flag)
s.add_torrent(p)
print(s.listen_port(), flush=True)
sys.stdin.read()
`, s.given(t, dir), dir, fmt.Sprint(rate), flag)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	var port uint16
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	s.tracker.Add(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
	return dir
}

// given is what another client is given: the torrent that is in dir, or the link to it.
func (s *site) given(t testing.TB, dir string) string {
	t.Helper()
	if !s.byLink {
		return filepath.Join(dir, "t.torrent")
	}
	d, err := metainfo.Describe(s.torrent)
	if err != nil {
		t.Fatal(err)
	}
	return d.Magnet
}

// others is a directory for another client, with the torrent and perhaps the file in it.
func (s *site) others(t testing.TB, seeds bool) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string][]byte{"t.torrent": s.torrent}
	if seeds {
		files[name] = s.content
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// aria2 starts aria2c, which announces itself, and returns its directory.
func (s *site) aria2(t *testing.T, seeds bool) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("aria2c"); err != nil {
		leaveOut(t, "aria2c is not installed")
	}
	dir = s.others(t, seeds)
	cmd := exec.Command("aria2c", "--no-conf", "--quiet", "--dir", dir, "--listen-port", "10000-30000", "--enable-dht=false", "--bt-enable-lpd=false",
		"--check-integrity=true", "--allow-overwrite=true", "--seed-ratio=0", "--file-allocation=none", s.given(t, dir))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, "aria2c has not announced itself", s.announces(1))
	return dir
}

func eventually(t testing.TB, otherwise string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !met(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// dead has the file asked of a host that does not answer.
func dead(_ *fetcher.Fetcher, r *fetcher.Request) {
	r.URL = &url.URL{Scheme: "http", Host: "127.0.0.1:9", Path: "/" + name}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestPeersAlone(t *testing.T) {
	for kind, version := range map[string]metainfo.Version{"v1": metainfo.V1, "v2": metainfo.V2, "hybrid": metainfo.Hybrid} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t, 6<<20+12345, mirrortest.Config{}, version, 0)
			s.seed(t)
			r, err := s.fetch(within(t), "worker", dead)
			if err != nil {
				t.Fatal(err)
			}
			if got := fromPeers(r); got < int64(len(s.content)) {
				t.Errorf("%d bytes from peers", got)
			}
		})
	}
}

func TestFromAria2(t *testing.T) {
	s := newSite(t, 6<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.aria2(t, true)
	r, err := s.fetch(within(t), "worker", dead)
	if err != nil {
		t.Fatal(err)
	}
	if got := fromPeers(r); got < int64(len(s.content)) {
		t.Errorf("%d bytes from peers", got)
	}
}

// Other clients get pieces from a download that is under way.
func TestOthersTakeFromUs(t *testing.T) {
	libtorrent := func(s *site, t *testing.T) string { return s.libtorrent(t, false, 0) }
	aria2 := func(s *site, t *testing.T) string { return s.aria2(t, false) }
	for _, c := range []struct {
		kind    string
		version metainfo.Version
		start   func(*site, *testing.T) string
		byLink  bool
	}{
		{"libtorrent v1", metainfo.V1, libtorrent, false},
		{"libtorrent v2", metainfo.V2, libtorrent, false},
		{"libtorrent hybrid", metainfo.Hybrid, libtorrent, false},
		{"aria2 v1", metainfo.V1, aria2, false},
		{"libtorrent v1 by magnet", metainfo.V1, libtorrent, true},
		{"libtorrent v2 by magnet", metainfo.V2, libtorrent, true},
		{"libtorrent hybrid by magnet", metainfo.Hybrid, libtorrent, true},
		{"aria2 v1 by magnet", metainfo.V1, aria2, true},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 8<<20+12345, mirrortest.Config{}, c.version, 0)
			s.byLink = c.byLink
			s.tracker.Interval = 10 * time.Second // libtorrent may need a second try, see leech
			taken := filepath.Join(c.start(s, t), name)
			s.hold(4<<20, func() bool {
				info, err := os.Stat(taken)
				return err == nil && info.Sys().(*syscall.Stat_t).Blocks*512 >= 1<<20
			})
			_, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
				f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) { p.Options.Linger = patience })
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the tracker is not told what was given", func() bool {
				return slices.ContainsFunc(s.tracker.Log(), func(a trackertest.Announce) bool {
					return strings.HasPrefix(a.PeerID, "-TX") && a.Event == "stopped" && a.Uploaded >= 1<<20
				})
			})
		})
	}
}

func TestMirrorsAndPeers(t *testing.T) {
	s := newSite(t, 12<<20, mirrortest.Config{}, metainfo.Hybrid, 0)
	s.seedAt(t, 4<<20)
	s.hold(6<<20, s.has(8<<20)) // so two of them came from peers
	r, err := s.fetch(within(t), "worker", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := fromPeers(r); got < 1<<20 || r.Received-got < 100<<10 {
		t.Errorf("%d bytes from peers, %d from the mirror", got, r.Received-got)
	}
}

func TestAnnounces(t *testing.T) {
	for kind := range map[string]bool{"http": true, "udp": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
			if kind == "udp" {
				s.build(metainfo.V1, 0, s.tracker.UDP)
			}
			s.hold(1<<20, s.announces(1))
			_, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
				f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) { p.Options.Linger = patience })
			})
			if err != nil {
				t.Fatal(err)
			}
			var events []string
			eventually(t, "the worker has not taken leave", func() bool {
				events = nil
				for _, a := range s.tracker.Log() {
					events = append(events, a.Event)
					if !strings.HasPrefix(a.PeerID, "-TX") {
						t.Errorf("peer id %q", a.PeerID)
					}
				}
				return slices.Contains(events, "stopped")
			})
			if got := strings.Join(events, " "); got != "started completed stopped" {
				t.Errorf("announced: %s", got)
			}
			at := s.tracker.Log()[0].Peer
			eventually(t, "the worker still listens", func() bool {
				c, err := net.Dial("tcp", at.String())
				if err == nil {
					c.Close()
				}
				return err != nil
			})
		})
	}
}

// A tracker that has not answered yet when the download ends hears that we leave all the same.
func TestLeavesSlowTracker(t *testing.T) {
	t.Parallel()
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	var begun, left atomic.Bool
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("event") {
		case "started":
			begun.Store(true)
			<-r.Context().Done()
		case "stopped":
			left.Store(true)
		}
	}))
	t.Cleanup(slow.Close)
	s.build(metainfo.V1, 0, slow.URL)
	s.hold(1<<20, begun.Load)
	if _, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
		f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) { p.Options.Linger = patience })
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tracker is left without a word", left.Load)
}

// A tracker that does not answer holds up the others of its tier for a moment only. Of a private torrent's trackers one at a time is
// announced to.
func TestTiers(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for _, private := range []bool{false, true} {
		t.Run(fmt.Sprint(private), func(t *testing.T) {
			s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
			other, err := trackertest.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(other.Close)
			tiers := [][]string{{silent.URL, s.tracker.HTTP}, {other.HTTP}}
			if private {
				tiers[0][0] = gone.URL
			}
			s.buildAs(metainfo.V1, 0, metainfo.BuildOptions{Trackers: tiers, Private: private})
			s.hold(1<<20, func() bool { return s.tracker.Started() > 0 && (private || other.Started() > 0) })
			if _, err := s.fetch(within(t), "worker", nil); err != nil {
				t.Fatal(err)
			}
			if private && len(other.Log()) > 0 {
				t.Error("two trackers of a private torrent are announced to")
			}
		})
	}
}

func TestNoTorrentNoPeers(t *testing.T) {
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	joined := false
	_, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, r *fetcher.Request) {
		r.Torrent = fetcher.TorrentHint{}
		f.JoinSwarm = func(*metainfo.Manifest) (fetcher.Source, error) { joined = true; return nil, nil }
	})
	if err != nil || joined {
		t.Errorf("joined %v, %v", joined, err)
	}
}

// The worker dies, hangs or cannot be started: the mirrors bring the file, and it is said why peers did not.
func TestBadWorkers(t *testing.T) {
	for kind, blame := range map[string]string{"worker-panic": "the library is wrong", "worker-stall": "stalled", "worker-killed": "stopped", "worker-rubbish": "malformed", "nothing": "cannot start"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 6<<20, mirrortest.Config{}, metainfo.V1, 0)
			var told atomic.Bool
			why := ""
			if kind != "worker-stall" {
				s.hold(1<<20, told.Load)
			}
			_, err := s.fetch(within(t), kind, func(f *fetcher.Fetcher, _ *fetcher.Request) {
				if kind == "nothing" {
					f.JoinSwarm = func(*metainfo.Manifest) (fetcher.Source, error) {
						return &peers.Source{Worker: filepath.Join(t.TempDir(), "nothing")}, nil
					}
				}
				f.OnEvent = func(e fetcher.Event) {
					if e.Source == "peers" {
						why = e.Message
						told.Store(true)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if kind != "worker-stall" && !strings.Contains(why, blame) {
				t.Errorf("peers are blamed: %q", why)
			}
		})
	}
}

// A worker that dies once peers have given something, in the middle of a download from peers alone: the next run goes on.
func TestPanicCostsNothing(t *testing.T) {
	s := newSite(t, 24<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.seed(t)
	var told atomic.Bool
	s.hold(4<<20, told.Load)
	r, err := s.fetch(within(t), "worker-panic-later", func(f *fetcher.Fetcher, _ *fetcher.Request) {
		f.OnEvent = func(e fetcher.Event) {
			if e.Source == "peers" {
				told.Store(true)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got := fromPeers(r)
	if got == 0 {
		t.Error("nothing came from peers before the panic")
	}
	if r.Received > int64(len(s.content))*12/10 {
		t.Errorf("%d bytes received: what peers gave was fetched again", r.Received)
	}
}

// liar is a peer at 127.0.0.2 that says it has everything and sends rubbish; it counts the bytes.
func (s *site) liar(t *testing.T) *atomic.Int64 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pieces := s.manifest.Pieces()
	var sent atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go lie(c, pieces, &sent)
		}
	}()
	s.tracker.Add(netip.MustParseAddrPort(l.Addr().String()))
	return &sent
}

func lie(c net.Conn, pieces int, sent *atomic.Int64) {
	defer c.Close()
	r := bufio.NewReader(c)
	var hello [68]byte // BEP 3: length, protocol, 8 reserved bytes, info hash, peer id
	if _, err := io.ReadFull(r, hello[:]); err != nil || hello[0] != 19 {
		return // it tried encryption first
	}
	clear(hello[20:28])
	copy(hello[48:], "-LI0001-liarliarliar")
	c.Write(hello[:])
	send := func(kind byte, payload ...byte) {
		c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(1+len(payload))), append([]byte{kind}, payload...)...))
	}
	field := make([]byte, (pieces+7)/8)
	for i := range pieces {
		field[i/8] |= 0x80 >> (i % 8)
	}
	send(5, field...) // bitfield
	send(1)           // unchoke
	for {
		msg, err := message(r)
		if err != nil {
			return
		}
		if len(msg) == 13 && msg[0] == 6 { // request: piece, begin, length
			n := binary.BigEndian.Uint32(msg[9:])
			send(7, append(msg[1:9:9], make([]byte, n)...)...)
			sent.Add(int64(n))
		}
	}
}

// heard is a log in which something is awaited.
type heard struct {
	text string
	told atomic.Bool
}

func (h *heard) Write(line []byte) (int, error) {
	if strings.Contains(string(line), h.text) {
		h.told.Store(true)
	}
	return len(line), nil
}

func TestLiar(t *testing.T) {
	for _, honest := range []bool{false, true} {
		t.Run(fmt.Sprintf("honest=%v", honest), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 8<<20, mirrortest.Config{Rate: 2 << 20}, metainfo.Hybrid, 0)
			lies := s.liar(t)
			if honest {
				s.seedAt(t, 256<<10)
			}
			caught := &heard{text: "peer blamed"}
			s.hold(1<<20, func() bool { return lies.Load() > 0 && caught.told.Load() })
			r, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
				f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) { p.Log = slog.New(slog.NewTextHandler(caught, nil)) })
			})
			if err != nil {
				t.Fatal(err)
			}
			named := slices.ContainsFunc(r.Sources, func(s fetcher.SourceReport) bool {
				return strings.HasPrefix(s.Name, "peer 127.0.0.2:") && strings.Contains(s.Blame, "wrong bytes")
			})
			if !named {
				t.Errorf("the liar is not named: %+v", r.Sources)
			}
			if slices.ContainsFunc(r.Sources, func(s fetcher.SourceReport) bool {
				return strings.HasPrefix(s.Name, "peer 127.0.0.1:") || strings.HasPrefix(s.Name, "http:") && s.Blame != ""
			}) {
				t.Errorf("an honest one is blamed: %+v", r.Sources)
			}
		})
	}
}

// A tracker that never ends its answer, or never begins, costs neither the file nor memory.
func TestHostileTrackers(t *testing.T) {
	for kind, serve := range map[string]func(w http.ResponseWriter, sent *atomic.Int64){
		"endless": func(w http.ResponseWriter, sent *atomic.Int64) {
			io.WriteString(w, "d8:intervali60e5:peers9000000000:")
			for chunk := make([]byte, 1<<20); ; {
				n, err := w.Write(chunk)
				if sent.Add(int64(n)); err != nil || sent.Load() > 1<<30 {
					return
				}
			}
		},
		"silent":   func(http.ResponseWriter, *atomic.Int64) { time.Sleep(3 * time.Second) },
		"nonsense": func(w http.ResponseWriter, _ *atomic.Int64) { io.WriteString(w, strings.Repeat("d", 1<<20)) },
		"web page": func(w http.ResponseWriter, _ *atomic.Int64) { io.WriteString(w, "<html>") },
		"many peers": func(w http.ResponseWriter, _ *atomic.Int64) {
			fmt.Fprintf(w, "d5:peers600000:%se", make([]byte, 600000))
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 6<<20, mirrortest.Config{}, metainfo.V1, 0)
			var sent atomic.Int64
			var asked atomic.Bool
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Store(true)
				serve(w, &sent)
			}))
			t.Cleanup(srv.Close)
			s.build(metainfo.V1, 0, srv.URL+"/announce")
			s.hold(1<<20, asked.Load)
			if _, err := s.fetch(within(t), "worker", nil); err != nil {
				t.Error(err)
			}
			if n := sent.Load(); n > 64<<20 {
				t.Errorf("%d bytes of its answer were taken", n)
			}
		})
	}
}

// A torrent of a public host does not make the worker speak to private addresses.
func TestNoPrivateTrackers(t *testing.T) {
	t.Parallel()
	s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
	other, err := trackertest.StartAt("127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	s.buildFor(metainfo.V1, 0, []string{other.HTTP}, []string{other.UDP}, []string{s.tracker.HTTP})
	s.hold(1<<20, s.announces(1))
	_, err = s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) {
		f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) {
			p.Reach = func(context.Context) peers.Reach { return peers.Reach{Trusted: []string{"127.0.0.1"}} }
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(other.Log()) > 0 {
		t.Error("a tracker at a private address was asked")
	}
}

// dhtNode starts a node of the DHT that knows nobody, and returns its port.
func dhtNode(t *testing.T) (port int) {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import libtorrent").Run() != nil {
		leaveOut(t, "python3-libtorrent is not installed")
	}
	cmd := exec.Command(python, "-c", `
import libtorrent as lt, sys
s = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": True, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
                "dht_bootstrap_nodes": "", "dht_restrict_routing_ips": False, "dht_ignore_dark_internet": False,
                "dht_restrict_search_ips": False, "dht_enforce_node_id": False, "dht_prefer_verified_node_ids": False})
print(s.listen_port(), flush=True)
sys.stdin.read()
`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// together has two downloads run, one later than the other, until both are connected, and tells whether that happened before the time was over.
func (s *site) together(t *testing.T, apart, d time.Duration, change func(*peers.Source)) bool {
	end := time.Now().Add(d)
	s.hold(1<<20, func() bool { return s.joined.Load() == 2 || time.Now().After(end) })
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			time.Sleep(time.Duration(i) * apart) // who comes later finds who was there
			_, err := s.fetch(within(t), "worker", func(f *fetcher.Fetcher, _ *fetcher.Request) { f.JoinSwarm = s.with(f.JoinSwarm, change) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return s.joined.Load() == 2
}

// Without a tracker downloads find each other in the DHT.
func TestDHT(t *testing.T) {
	t.Parallel()
	for i := range 4 { // a node is asked once, which may be too soon
		s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
		s.build(metainfo.V1, 0, "")
		node := fmt.Sprintf("127.0.0.1:%d", dhtNode(t))
		if s.together(t, 500*time.Millisecond<<i, 10*time.Second<<i, func(p *peers.Source) {
			p.Options.Interface, p.Options.DHT, p.Options.DHTNodes = "127.0.0.1", true, []string{node}
		}) {
			return
		}
	}
	t.Error("they did not find each other")
}

// with changes the source that join returns.
func (s *site) with(join func(*metainfo.Manifest) (fetcher.Source, error), change func(*peers.Source)) func(*metainfo.Manifest) (fetcher.Source, error) {
	return func(m *metainfo.Manifest) (fetcher.Source, error) {
		source, err := join(m)
		change(source.(*peers.Source))
		return source, err
	}
}
