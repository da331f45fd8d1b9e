package swarm_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"torrent-xfer/internal/peers"
)

// ask asks a peer for the first block of piece 0, as BEP 3 has it. nil: it gave none.
func ask(t testing.TB, at netip.AddrPort, hash [20]byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		return nil
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	hello := append([]byte("\x13BitTorrent protocol\x00\x00\x00\x00\x00\x00\x00\x00"), hash[:]...)
	c.Write(append(hello, ("-TE0001-" + strconv.FormatInt(time.Now().UnixNano()+1e12, 10))[:20]...))
	if _, err := io.ReadFull(c, make([]byte, 68)); err != nil {
		return nil
	}
	c.Write([]byte{0, 0, 0, 1, 2}) // interested
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil
		}
		msg := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, msg); err != nil {
			return nil
		}
		switch {
		case len(msg) == 1 && msg[0] == 1: // unchoke
			c.Write([]byte{0, 0, 0, 13, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0})
		case len(msg) > 9 && msg[0] == 7:
			return msg[9:]
		}
	}
}

// offers tells whether a peer gives the site's file.
func (s *site) offers(t testing.TB, at netip.AddrPort) bool {
	one, err := peers.TorrentOf(s.torrent)
	if err != nil {
		t.Fatal(err)
	}
	got := ask(t, at, one.ID)
	return got != nil && string(got) == string(s.content[:len(got)])
}

// leech has another client, libtorrent, fetch the file from the seeding alone. It may need a second try: of a hybrid torrent it
// takes a peer for one of the other swarm if the tracker's second answer comes during the handshake.
func (s *site) leech(t testing.TB, status func() peers.SeedingStatus, encryption string) []byte {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import libtorrent").Run() != nil {
		leaveOut(t, "python3-libtorrent is not installed")
	}
	eventually(t, "it does not listen", func() bool { return status().Port != 0 })
	policy := "2" // plain
	if encryption == "require" {
		policy = "0" // encrypted
	}
	dir := s.others(t, false)
	cmd := exec.Command(python, "-c", `
import libtorrent as lt, sys, time
file, dir, port, policy = sys.argv[1:]
s = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
                "allow_multiple_connections_per_ip": True, "enable_outgoing_utp": False, "enable_incoming_utp": False,
                "out_enc_policy": int(policy), "in_enc_policy": int(policy), "prefer_rc4": policy == "0", "min_reconnect_time": 1})
h = s.add_torrent({"ti": lt.torrent_info(file), "save_path": dir})
end = time.time() + 110
while not h.status().is_seeding and time.time() < end:
    h.connect_peer(("127.0.0.1", int(port)))
    time.sleep(0.1)
sys.exit(not h.status().is_seeding)
`, filepath.Join(dir, "t.torrent"), dir, strconv.Itoa(status().Port), policy)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// openFiles counts the descriptors of a file in this process's children.
func openFiles(t testing.TB, file string) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && to == file {
			n++
		}
	}
	return n
}
