package swarm_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/anacrolix/torrent/bencode"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

// informant is a peer at an address of its own that speaks of the torrent alone (BEP 9, BEP 10).
type informant struct {
	size  int                     // of the metadata, as it says
	data  []byte                  // that it gives in pieces of 16 KiB; nil: nothing
	wait  <-chan struct{}         // before it gives anything; nil: at once
	then  func(send func([]byte)) // after it was asked
	asked chan struct{}           // closed once it was asked
	once  sync.Once
}

var (
	metadataID    = regexp.MustCompile(`11:ut_metadatai(\d+)e`)
	metadataPiece = regexp.MustCompile(`5:piecei(\d+)e`)
)

func (i *informant) start(t *testing.T, address string) (at string) {
	t.Helper()
	i.asked = make(chan struct{})
	l, err := net.Listen("tcp4", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go i.serve(c)
		}
	}()
	return l.Addr().String()
}

func (i *informant) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	var hello [68]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil || hello[0] != 19 {
		return // it tried encryption first
	}
	clear(hello[20:28])
	hello[25] = 0x10
	copy(hello[48:], "-IN0001-"+rand.Text())
	c.Write(hello[:])
	c.Write(extended(0, fmt.Sprintf("d1:md11:ut_metadatai3ee13:metadata_sizei%dee", i.size)))
	theirs := byte(0)
	for {
		msg, err := message(r)
		if err != nil {
			return
		}
		switch {
		case len(msg) < 2 || msg[0] != 20:
		case msg[1] == 0:
			if m := metadataID.FindSubmatch(msg); m != nil {
				n, _ := strconv.Atoi(string(m[1]))
				theirs = byte(n)
			}
		case msg[1] == 3:
			i.once.Do(func() { close(i.asked) })
			if i.then != nil {
				i.then(func(b []byte) { c.Write(b) })
				return
			}
			if i.wait != nil {
				<-i.wait
			}
			m := metadataPiece.FindSubmatch(msg)
			if i.data == nil || m == nil {
				continue
			}
			n, _ := strconv.Atoi(string(m[1]))
			from := n << 14
			if from >= len(i.data) {
				c.Write(extended(theirs, fmt.Sprintf("d8:msg_typei2e5:piecei%dee", n))) // it has no such piece
				continue
			}
			c.Write(extended(theirs, fmt.Sprintf("d8:msg_typei1e5:piecei%de10:total_sizei%dee", n, len(i.data))+
				string(i.data[from:min(from+1<<14, len(i.data))])))
		}
	}
}

// Whatever a peer says that the torrent is, the right one comes from an honest peer, who speaks once the other was asked.
func TestHostileMetadata(t *testing.T) {
	s := newSite(t, 24<<20, mirrortest.Config{}, metainfo.V1, 16<<10) // two pieces of metadata
	var whole struct {
		Info bencode.Bytes `bencode:"info"`
	}
	if err := bencode.Unmarshal(s.torrent, &whole); err != nil {
		t.Fatal(err)
	}
	info := []byte(whole.Info)
	wrong := bytes.Clone(info)
	wrong[len(wrong)-10]++
	for kind, liar := range map[string]*informant{
		"wrong bytes":             {size: len(info), data: wrong},
		"another size, silent":    {size: len(info) + 40<<10},
		"2 GB":                    {size: 1<<31 - 1},
		"rubbish without an end":  {size: len(info), then: endless},
		"other sizes, one by one": {size: len(info), then: sizes},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late=%v", kind, late), func(t *testing.T) {
				t.Parallel()
				liar := &informant{size: liar.size, data: liar.data, then: liar.then}
				honest := &informant{size: len(info), data: info}
				link := metainfo.Magnet{MagnetParts: metainfo.MagnetParts{InfoHashV1: s.manifest.InfoHash}}
				link.Peers = []string{liar.start(t, "127.0.0.3"), honest.start(t, "127.0.0.4")}
				if late {
					liar.wait = honest.asked // the liar answers who has asked both
				} else if liar.size > 0 && liar.size < 1<<30 {
					honest.wait = liar.asked
				}
				data, err := lookFor(t, within(t), link)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := metainfo.Parse(data, ""); err != nil || !got.Equal(s.manifest) {
					t.Errorf("another torrent, %v", err)
				}
			})
		}
	}
}

func endless(send func([]byte)) {
	for n := range 1000 {
		send(extended(1, fmt.Sprintf("d8:msg_typei1e5:piecei%dee", n)+string(make([]byte, 16<<10))))
	}
}

func sizes(send func([]byte)) {
	for n := range 1000 {
		send(extended(0, fmt.Sprintf("d1:md11:ut_metadatai3ee13:metadata_sizei%dee", 1000+n<<10)))
	}
}
