package seeder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"torrent-xfer/metainfo"
)

const (
	protocolVersion = 1
	maxLine         = 256 << 10
	mostPassed      = 8 // descriptors ahead of their requests
)

var errProtocol = errors.New("not what the control socket speaks")

// Request is one line of JSON to the daemon. Metainfo bytes of a torrent follow it.
type Request struct {
	Version  int        `json:"version"`
	Do       string     `json:"do"` // status, seed, download, pause, resume, remove or limit
	URL      string     `json:"url,omitempty"`
	Trackers [][]string `json:"trackers,omitempty"`
	Hosts    []string   `json:"hosts,omitempty"`    // seed: see Offer
	Metainfo int        `json:"metainfo,omitempty"` // seed: its length
	What     string     `json:"what,omitempty"`     // remove: an info hash or a name
	Order    *Order     `json:"order,omitempty"`    // download
	Rate     int64      `json:"rate,omitempty"`     // limit: bytes/s; 0: as configured
}

func parseRequest(line []byte) (r Request, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("%w: %w", errProtocol, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Request{}, fmt.Errorf("%w: more than one request in a line", errProtocol)
	}
	switch {
	case r.Version != protocolVersion:
		return Request{}, fmt.Errorf("%w: version %d", errProtocol, r.Version)
	case r.Metainfo < 0 || r.Metainfo > metainfo.MaxSize || r.Rate < 0:
		return Request{}, fmt.Errorf("%w: a number is out of range", errProtocol)
	}
	return r, nil
}

// conn is one side of the control socket: lines, bytes, and descriptors that come with them.
type conn struct {
	*net.UnixConn
	most  int        // bytes of a line; <= 0: as a request may have
	ahead []byte     // read, and not yet asked for
	files []*os.File // that were passed and not asked for, in their order
}

// line reads up to a newline, which is left out.
func (c *conn) line() ([]byte, error) {
	for from := 0; ; {
		if i := bytes.IndexByte(c.ahead[from:], '\n'); i >= 0 {
			line := c.ahead[: from+i : from+i]
			c.ahead = c.ahead[from+i+1:]
			return line, nil
		}
		if from = len(c.ahead); from > max(c.most, maxLine) {
			return nil, fmt.Errorf("%w: the line is too long", errProtocol)
		}
		if err := c.more(); err != nil {
			return nil, err
		}
	}
}

// take reads n bytes.
func (c *conn) take(n int) ([]byte, error) {
	for len(c.ahead) < n {
		if err := c.more(); err != nil {
			return nil, err
		}
	}
	data := c.ahead[:n:n]
	c.ahead = slices.Clone(c.ahead[n:]) // which does not hold on to data
	return data, nil
}

func (c *conn) more() error {
	buf, oob := make([]byte, 64<<10), make([]byte, syscall.CmsgSpace(4))
	n, m, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return err
	}
	if c.receive(oob[:m]); n == 0 {
		return io.EOF
	}
	c.ahead = append(c.ahead, buf[:n]...)
	return nil
}

// receive keeps descriptors that were passed. A read may bring the next request's with the end of the one before.
func (c *conn) receive(oob []byte) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range messages {
		list, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range list {
			f := os.NewFile(uintptr(fd), "passed")
			if len(c.files) == mostPassed {
				f.Close()
				continue
			}
			c.files = append(c.files, f)
		}
	}
}

// file is the first descriptor that was passed and not asked for; nil: there is none.
func (c *conn) file() *os.File {
	if len(c.files) == 0 {
		return nil
	}
	f := c.files[0]
	c.files = c.files[1:]
	return f
}

func (c *conn) drop() {
	for _, f := range c.files {
		f.Close()
	}
	c.files = nil
}
