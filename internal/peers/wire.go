package peers

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"torrent-xfer/metainfo"
)

// The two processes speak in frames over a stream socket: kind (one byte), length of the payload (uint32, little endian),
// payload. Numbers in payloads are uint32, little endian. What comes from the worker is foreign: it may have been taken over.
const (
	// To the worker.
	kindStart   = 'S' // Start as JSON
	kindHave    = 'H' // pieces
	kindWant    = 'W' // pieces
	kindLeave   = 'L' // pieces
	kindVerdict = 'V' // piece, attempt (2^32-1: none), 1 if peers alone gave it
	kindWrong   = 'X' // piece, attempt, blocks
	kindFirst   = 'E' // Start.First, if it is found later, as JSON
	kindStop    = 'Q'
	// To a worker that seeds, after kindStart.
	kindAdd    = '+' // list of Seed as JSON
	kindRemove = '-' // an ID
	kindLimit  = 'U' // bytes/s as decimal digits
	kindPause  = 'P' // "1" or "0"
	kindInfo   = 'I' // an ID, its metainfo; nothing: there is none
	// From the worker.
	kindData  = 'D' // block, its bytes
	kindCheck = 'C' // piece
	kindOffer = 'O' // peers, uploaded (two numbers, low one first), bits of had, of asked, of mine
	kindBlame = 'B' // a peer's address, a line feed, what it did
	kindNote  = 'N' // text for people
	kindHeard = 'J' // the first of kindFirst that answered
	// From a worker that looks for a torrent.
	kindFound = 'F' // metainfo
	kindAlive = 'A' // nothing: it is still looking
	// From a worker that seeds.
	kindReport = 'T' // Report as JSON
	kindAsk    = 'M' // the ID of a torrent whose metainfo is wanted
	kindDrop   = 'Z' // an ID, why it cannot be offered any more
)

const (
	maxFrame     = 2*metainfo.MaxSize + 1<<20 // the metainfo as base64
	maxFromPeers = 1 << 20                    // bits of 2.7 million pieces
	maxText      = 4 << 10
)

// Start tells the worker what to do. The zero value but for Seed: to seed what will be added.
type Start struct {
	Seed     bool       `json:"seed"`             // not a download but finished files; there is no metainfo, and no trackers
	Magnet   string     `json:"magnet,omitempty"` // not a download: the torrent of this link is looked for
	Metainfo []byte     `json:"metainfo"`         // of a torrent that was checked
	Trackers [][]string `json:"trackers"`         // in tiers
	Peers    []string   `json:"peers,omitempty"`  // "host:port" of some to begin with
	First    []string   `json:"first,omitempty"`  // on the torrent's own host: announced to before the others
	Options  Options    `json:"options"`
	Reach    Reach      `json:"reach"`
}

// Options are the user's wishes. The zero value: any port, no DHT, local discovery, no limits but the usual ones.
type Options struct {
	Port        int           `json:"port"`         // to listen at; 0: any
	Interface   string        `json:"interface"`    // name or address that peers and trackers are spoken to from; "": any
	LimitUpload int64         `json:"limit_upload"` // bytes/s; <= 0: no limit
	MaxPeers    int           `json:"max_peers"`    // connected at once; <= 0: 50
	DHT         bool          `json:"dht"`          //
	DHTNodes    []string      `json:"dht_nodes"`    // "host:port", in place of the usual ones
	NoLPD       bool          `json:"no_lpd"`       // no local discovery (BEP 14)
	Encryption  string        `json:"encryption"`   // "allow" ("": the same), "prefer", "require" or "never"
	Block       []string      `json:"block"`        // addresses and prefixes never to speak to
	UserAgent   string        `json:"user_agent"`   // for HTTP trackers
	Linger      time.Duration `json:"linger"`       // for the last announce; <= 0: 1 s
	HeadStart   time.Duration `json:"head_start"`   // of the trackers on the torrent's own host, and to find them; <= 0: 100 ms
}

// DefaultLinger is what Options.Linger is by default, for the announces that the file is complete and that we leave.
const DefaultLinger = time.Second

func (o Options) linger() time.Duration {
	if o.Linger <= 0 {
		return DefaultLinger
	}
	return o.Linger
}

// Reach says which addresses of others may be spoken to. The zero value: public ones only.
type Reach struct {
	Private bool     `json:"private"` // the file's own host is no public one: any address
	Trusted []string `json:"trusted"` // host names of the user's own mirrors, that trackers may stand on
}

// frames reads and writes frames. Writing may be done by several goroutines.
type frames struct {
	r   *bufio.Reader
	max uint32

	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func newFrames(c io.ReadWriter, max uint32) *frames {
	return &frames{r: bufio.NewReaderSize(c, 256<<10), w: c, max: max}
}

// read returns the next frame. buf is used if it is large enough.
func (f *frames) read(buf []byte) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > f.max {
		return 0, nil, fmt.Errorf("%w of %d bytes", errFrame, n)
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	payload = buf[:n]
	if _, err := io.ReadFull(f.r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return head[0], payload, nil
}

func (f *frames) write(kind byte, parts ...[]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	f.buf = append(f.buf[:0], kind)
	f.buf = binary.LittleEndian.AppendUint32(f.buf, uint32(n))
	for _, p := range parts {
		f.buf = append(f.buf, p...)
	}
	_, err := f.w.Write(f.buf)
	if cap(f.buf) > 1<<20 {
		f.buf = nil
	}
	return err
}

func (f *frames) writeJSON(kind byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, text)
}

func (f *frames) writeNumbers(kind byte, numbers ...int) error {
	return f.write(kind, putNumbers(numbers...))
}

func putNumbers(numbers ...int) []byte {
	b := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

var errFrame = errors.New("malformed frame")

// numbers reads as many as there are, at least that many.
func numbers(p []byte, least int) ([]int, error) {
	if len(p)%4 != 0 || len(p) < 4*least {
		return nil, errFrame
	}
	list := make([]int, 0, len(p)/4)
	for ; len(p) > 0; p = p[4:] {
		list = append(list, int(int32(binary.LittleEndian.Uint32(p))))
	}
	return list, nil
}

func packBits(list []bool) []byte {
	b := make([]byte, (len(list)+7)/8)
	for i, on := range list {
		if on {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func unpackBits(b []byte, n int) []bool {
	list := make([]bool, n)
	for i := range list {
		list[i] = b[i/8]&(1<<(i%8)) != 0
	}
	return list
}
