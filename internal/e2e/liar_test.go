package e2e

import (
	"bufio"
	endian "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// liarName is what the test program is called when it is to be a peer that says it has everything and sends rubbish.
const liarName = "liar"

// actAsLiar takes the tracker's URL, the info hash in hex and the number of pieces.
func actAsLiar(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s TRACKER HASH PIECES", liarName)
	}
	hash, err := hex.DecodeString(args[1])
	if err != nil {
		return err
	}
	pieces, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		return err
	}
	query := url.Values{"info_hash": {string(hash)}, "peer_id": {"-LI0001-liarliarliar"}, "port": {strconv.Itoa(l.Addr().(*net.TCPAddr).Port)},
		"uploaded": {"0"}, "downloaded": {"0"}, "left": {"0"}, "compact": {"1"}, "event": {"started"}}
	answer, err := http.Get(args[0] + "?" + query.Encode())
	if err != nil {
		return err
	}
	answer.Body.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go lieTo(c, pieces)
	}
}

// lieTo answers each request of a peer with zeros (BEP 3).
func lieTo(c net.Conn, pieces int) {
	defer c.Close()
	r := bufio.NewReader(c)
	var hello [68]byte // length, protocol, 8 reserved bytes, info hash, peer id
	if _, err := io.ReadFull(r, hello[:]); err != nil || hello[0] != 19 {
		return // it tried encryption first
	}
	clear(hello[20:28])
	copy(hello[48:], "-LI0001-liarliarliar")
	_, _ = c.Write(hello[:])
	send := func(kind byte, payload ...byte) {
		_, _ = c.Write(append(endian.BigEndian.AppendUint32(nil, uint32(1+len(payload))), append([]byte{kind}, payload...)...))
	}
	field := make([]byte, (pieces+7)/8)
	for i := range pieces {
		field[i/8] |= 0x80 >> (i % 8)
	}
	send(5, field...) // bitfield
	send(1)           // unchoke
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		msg := make([]byte, endian.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(r, msg); err != nil {
			return
		}
		if len(msg) == 13 && msg[0] == 6 { // request: piece, begin, length
			send(7, append(msg[1:9:9], make([]byte, endian.BigEndian.Uint32(msg[9:]))...)...)
		}
	}
}

// One peer of a site sends rubbish: all files are right all the same, and the report names it and nobody else.
func TestSiteWithLiar(t *testing.T) {
	n := newNetwork(t, 4)
	need(t, "nginx", "opentracker", "pacman", "repo-add", "gpg", "zstd", "bsdtar")
	s := newSeededSite(t, n, withWorker(t), "500k", "limit-upload = \"2M\"\n", "http")
	var torrent struct {
		V1     string `json:"info_hash_v1"`
		Pieces int    `json:"piece_count"`
	}
	if err := json.Unmarshal([]byte(must(t, command(t, openDir(t), binary, "metainfo", "--json", s.torrent()))), &torrent); err != nil || torrent.Pieces == 0 {
		t.Fatalf("metainfo: %v, %+v", err, torrent)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	liar := filepath.Join(s.dir, liarName)
	if err := os.Symlink(self, liar); err != nil {
		t.Fatal(err)
	}
	tracker := "http://" + hubAddress + ":6969/announce"
	cmd := at(n.machine(3), exec.Command(liar, tracker, torrent.V1, strconv.Itoa(torrent.Pieces)))
	cmd.Stderr = os.Stderr
	background(t, cmd)
	eventually(t, "the tracker does not know two seeders", func() bool {
		out, code := finish(t, at(n.hub(), command(t, s.dir, binary, "scrape", "--json", "-t", tracker, "-i", torrent.V1)))
		var all []counts
		return code == 0 && json.Unmarshal([]byte(out), &all) == nil && len(all) == 1 && all[0].Seeders == 2
	})

	all := []*member{s.member(1), s.member(2)}
	for _, m := range all {
		m.install("big", "small")
	}
	named := false
	for _, m := range all {
		m.wait(big, small)
		for _, source := range m.report(big).Sources {
			if strings.HasPrefix(source.Name, "peer 10.77.0.5:") && strings.Contains(source.Blame, "wrong bytes") {
				named = true
			} else if source.Blame != "" {
				t.Errorf("machine %d blames %s: %s", m.i, source.Name, source.Blame)
			}
			t.Logf("machine %d: %+v", m.i, source)
		}
	}
	if !named {
		t.Error("nobody names the liar")
	}
}
