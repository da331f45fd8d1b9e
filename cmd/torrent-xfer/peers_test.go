package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/swarm"
	"torrent-xfer/internal/trackertest"
)

// worker is cmd/torrent-xfer-swarm without its confinement.
func worker() {
	conn, err := net.FileConn(os.Stdin)
	if err == nil {
		err = swarm.Run(peers.NewLink(conn), os.NewFile(3, "partial"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startTracker is "tracker NAME [ADDRESS:PORT]": it starts a tracker and sets $NAME to its HTTP and $NAME_UDP to its UDP address, $NAME_PORT to a
// port that is free.
func startTracker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: tracker NAME [ADDRESS:PORT]")
	}
	t, err := trackertest.StartAt(append(args, "127.0.0.1:0")[1])
	ts.Check(err)
	ts.Defer(t.Close)
	ts.Setenv(args[0], t.HTTP)
	ts.Setenv(args[0]+"_UDP", t.UDP)
	ts.Setenv(args[0]+"_PORT", freePort(ts))
	ts.Value(mirrorKey{}).(*mirrorSet).trackers[args[0]] = t
}

// freePort is one that nobody listens at, below those that the kernel gives to whoever asks for any.
func freePort(ts *testscript.TestScript) string {
	for range 100 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			continue
		}
		defer l.Close()
		if pc, err := net.ListenPacket("udp", ":"+port); err == nil {
			pc.Close()
			return port
		}
	}
	ts.Fatalf("there are no free ports")
	return ""
}

// startSeeder is "seeder NAME TORRENT DIR [TRACKER]": it starts libtorrent, which has what TORRENT is of in DIR, sets $NAME to its
// address, and has the tracker know it.
func startSeeder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: seeder NAME TORRENT DIR [TRACKER]")
	}
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import libtorrent").Run() != nil {
		ts.Fatalf("python3-libtorrent is not installed; scripts/test installs it")
	}
	cmd := exec.Command(python, "-c", `
import libtorrent as lt, sys
s = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
                "allow_multiple_connections_per_ip": True, "enable_outgoing_utp": False, "enable_incoming_utp": False})
s.add_torrent({"ti": lt.torrent_info(sys.argv[1]), "save_path": sys.argv[2], "flags": lt.torrent_flags.seed_mode})
print(s.listen_port(), flush=True)
sys.stdin.read()
`, ts.MkAbs(args[1]), ts.MkAbs(args[2]))
	in, err := cmd.StdinPipe()
	ts.Check(err)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { in.Close(); cmd.Wait() })
	var port uint16
	_, err = fmt.Fscan(out, &port)
	ts.Check(err)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	ts.Setenv(args[0], at.String())
	if len(args) > 3 {
		ts.Value(mirrorKey{}).(*mirrorSet).trackers[args[3]].Add(at)
	}
}

// makeTorrent is "mktorrent v1|v2|hybrid PATH TORRENT [URL]": libtorrent makes a torrent of a directory, with a web seed, or a
// tracker if the URL ends in /announce.
func makeTorrent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: mktorrent v1|v2|hybrid PATH TORRENT [URL]")
	}
	out, err := exec.Command("/usr/bin/python3", append([]string{"-c", `
import libtorrent as lt, os, sys
kind, path, to = sys.argv[1:4]
fs = lt.file_storage()
lt.add_files(fs, path)
c = lt.create_torrent(fs, 32 * 1024, *{"v1": [lt.create_torrent.v1_only], "v2": [lt.create_torrent.v2_only], "hybrid": []}[kind])
for url in sys.argv[4:]:
    (c.add_tracker if url.endswith("/announce") else c.add_url_seed)(url)
lt.set_piece_hashes(c, os.path.dirname(path))
open(to, "wb").write(lt.bencode(c.generate()))
`, args[0], ts.MkAbs(args[1]), ts.MkAbs(args[2])}, args[3:]...)...).CombinedOutput()
	if err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
}

// printAnnounces is "announces NAME FILE": it writes what a tracker heard, one announce a line.
func printAnnounces(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: announces NAME FILE")
	}
	var b strings.Builder
	for _, a := range ts.Value(mirrorKey{}).(*mirrorSet).trackers[args[0]].Log() {
		fmt.Fprintf(&b, "event=%s port=%d id=%.8s left=%d\n", a.Event, a.Peer.Port(), a.PeerID, a.Left)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o666))
}

func TestParseBlocklist(t *testing.T) {
	list, err := parseBlocklist("# a comment\n\n10.0.0.0/8\n 1.2.3.4 \nSome: name:5.6.7.8-5.6.8.0\n2001:db8::/32\nzone:2001:db8::1-2001:db8::9\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "10.0.0.0/8 1.2.3.4 5.6.7.8-5.6.8.0 2001:db8::/32 2001:db8::1-2001:db8::9"
	if got := strings.Join(list, " "); got != want {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"nonsense", "5.6.8.0-5.6.7.8", "1.2.3.4-::1", "name:1.2.3"} {
		if _, err := parseBlocklist("1.1.1.1\n" + bad); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestProxied(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "mirror.example", Path: "/f"}
	for environ, want := range map[string]bool{"": false, "https_proxy=http://proxy.example:3128": true, "http_proxy=http://proxy.example:3128": false,
		"ALL_PROXY=socks5://proxy.example": true, "https_proxy=http://proxy.example no_proxy=.example": false} {
		if got := proxied(Env{Environ: strings.Fields(environ)}, u); got != want {
			t.Errorf("%s: %v", environ, got)
		}
	}
}

func TestOwnHost(t *testing.T) {
	req := fetcher.Request{URL: &url.URL{Scheme: "http", Host: "mirror.example:81"}}
	if h := ownHost(req, nil, false); h.Name != "mirror.example" {
		t.Errorf("%+v", h)
	}
	req.Torrent.MetainfoURL = &url.URL{Scheme: "https", Host: "[2001:db8::1]:1"}
	if h := ownHost(req, nil, false); h.Name != "2001:db8::1" {
		t.Errorf("%+v", h)
	}
	if h := ownHost(req, nil, true); h != nil {
		t.Errorf("behind a proxy: %+v", h)
	}
}

func FuzzParseBlocklist(f *testing.F) {
	f.Add("10.0.0.0/8\nname:1.2.3.4-1.2.3.5\n::1")
	f.Add("a:b:c:::1-::2\n-\n/\n#")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseBlocklist(text)
		if err != nil {
			return
		}
		for _, entry := range list {
			r, err := peers.ParseRange(entry)
			if err != nil || !r.Contains(r.First) || !r.Contains(r.Last) {
				t.Errorf("%q: %v, %v", entry, r, err)
			}
		}
	})
}
