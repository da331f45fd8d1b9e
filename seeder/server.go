package seeder

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"torrent-xfer/metainfo"
)

const (
	manyFriends   = 512 // connections of those who may change things; they may be idle, since a download asks before it begins
	manyStrangers = 16
	stranger      = 10 * time.Second // for the request of anybody else
	answerTime    = 10 * time.Second
	maxMetainfo   = 4 * metainfo.MaxSize // bytes of torrents that wait, with their files, to be taken
)

var errRefused = errors.New("only root, the daemon's own user and the members of its control group may do that")

// answer is one line of JSON to whoever asked for anything but seed, which is not answered.
type answer struct {
	Error   string   `json:"error,omitempty"`
	Status  *Status  `json:"status,omitempty"`
	Removed []string `json:"removed,omitempty"` // names

	Progress json.RawMessage `json:"progress,omitempty"` // of a download
	Done     bool            `json:"done,omitempty"`     // it has ended well, and its file comes with this
}

// serve answers at the control socket until ctx ends.
func (d *Daemon) serve(ctx context.Context, l *net.UnixListener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	friends, strangers := make(chan struct{}, manyFriends), make(chan struct{}, manyStrangers)
	for {
		raw, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			d.Log.Warn("control socket", "why", err)
			select { // there may be no descriptors left for the moment
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue
		}
		d.mu.Lock()
		group := d.config.Group
		d.mu.Unlock()
		if group <= 0 {
			group = -1
		}
		friend, seats := mayChange(raw, group), strangers
		if friend {
			seats = friends
		}
		select {
		case seats <- struct{}{}:
		default:
			raw.Close()
			continue
		}
		all.Go(func() {
			defer func() { <-seats }()
			c := &conn{UnixConn: raw}
			defer c.drop()
			defer c.Close()
			end := context.AfterFunc(ctx, func() { c.Close() })
			defer end()
			if !friend {
				c.SetDeadline(time.Now().Add(stranger))
			}
			for d.answer(ctx, c, friend) == nil {
			}
		})
	}
}

// answer does what one request asks for. An error ends the connection.
func (d *Daemon) answer(ctx context.Context, c *conn, friend bool) error {
	line, err := c.line()
	if err != nil {
		return err
	}
	r, err := parseRequest(line)
	if err != nil {
		c.say(answer{Error: err.Error()})
		return err
	}
	if r.Do != "status" && !friend {
		c.say(answer{Error: errRefused.Error()})
		return errRefused
	}
	a := answer{}
	switch r.Do {
	case "status":
		a.Status = d.Status()
	case "seed":
		return d.receive(ctx, c, r)
	case "download":
		return d.download(ctx, c, r)
	case "pause", "resume":
		d.pause(r.Do == "pause")
	case "limit":
		d.setRate(r.Rate)
	case "remove":
		a.Removed, err = d.remove(r.What)
	default:
		err = errors.New("this daemon knows no " + r.Do)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return c.say(a)
}

// receive queues a file that is handed over. While there is no room for its torrent nothing more is read.
func (d *Daemon) receive(ctx context.Context, c *conn, r Request) (err error) {
	o := Offer{Trackers: r.Trackers, URL: r.URL, Hosts: r.Hosts, Content: c.file()}
	if o.Content == nil {
		return errProtocol
	}
	if err := d.metainfo.Acquire(ctx, int64(r.Metainfo)); err != nil {
		o.Content.Close()
		return err
	}
	defer func() {
		if err != nil {
			o.Content.Close()
			d.metainfo.Release(int64(r.Metainfo))
		}
	}()
	c.SetReadDeadline(time.Now().Add(answerTime))
	if o.Metainfo, err = c.take(r.Metainfo); err != nil {
		return err
	}
	c.SetReadDeadline(time.Time{})
	select {
	case d.offers <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) say(a answer) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	c.SetWriteDeadline(time.Now().Add(answerTime))
	_, err = c.Write(append(text, '\n'))
	return err
}
