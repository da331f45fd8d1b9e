package seeder

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

const (
	maxAnswer    = 256 << 20
	handOverTime = 2 * time.Second
)

// Client speaks to a daemon. It may not be used by several goroutines at once.
type Client struct{ c *conn }

// Dial connects to the daemon at a control socket, as whoever we are now: a process that gives up rights later keeps what it may
// ask for.
func Dial(path string) (*Client, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &Client{&conn{UnixConn: c, most: maxAnswer}}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.c.Close() }

// Seed hands o over. It does not wait until it was looked at, and for a daemon that does nothing only a moment.
func (c *Client) Seed(o Offer) error {
	line, err := json.Marshal(Request{Version: protocolVersion, Do: "seed", URL: o.URL, Trackers: o.Trackers, Hosts: o.Hosts, Metainfo: len(o.Metainfo)})
	if err == nil && len(line) > maxLine {
		err = fmt.Errorf("%w: the request is too long", errProtocol)
	}
	if err != nil {
		return err
	}
	raw, err := o.Content.SyscallConn() // not Fd, which makes it block
	if err != nil {
		return err
	}
	c.c.SetWriteDeadline(time.Now().Add(handOverTime))
	head := append(line, '\n')
	n := 0
	if cerr := raw.Control(func(fd uintptr) { n, _, err = c.c.WriteMsgUnix(head, syscall.UnixRights(int(fd)), nil) }); cerr != nil {
		return cerr
	}
	if err == nil {
		_, err = c.c.Write(append(head[n:], o.Metainfo...))
	}
	return err
}

// Ask has the daemon do what r says, and returns its status if that was asked for, or the names of what was removed.
func (c *Client) Ask(r Request) (*Status, []string, error) {
	r.Version = protocolVersion
	line, err := json.Marshal(r)
	if err != nil {
		return nil, nil, err
	}
	c.c.SetDeadline(time.Now().Add(answerTime))
	if _, err := c.c.Write(append(line, '\n')); err != nil {
		return nil, nil, err
	}
	if line, err = c.c.line(); err != nil {
		return nil, nil, err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	if a.Error != "" {
		err = errors.New(a.Error)
	}
	return a.Status, a.Removed, err
}
