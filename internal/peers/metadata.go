package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"torrent-xfer/metainfo"
)

// Metadata fetches the torrent that a magnet link is of from peers (BEP 9), by a worker that does nothing else.
type Metadata struct {
	Worker  string // path of the worker's program
	Options Options
	Reach   Reach
	Log     *slog.Logger // nil: silent
}

// Fetch looks for peers until ctx ends. What it returns has the link's info hash and nothing else that is known to be right: it
// is still to be parsed. Of a v2 torrent it has the piece layers.
func (m *Metadata) Fetch(ctx context.Context, link metainfo.Magnet) ([]byte, error) {
	nothing, w, err := os.Pipe() // a worker expects a file, and this one has none
	if err != nil {
		return nil, err
	}
	defer nothing.Close()
	w.Close()
	p, err := launch(m.Worker, nothing)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", m.Worker, err)
	}
	p.conn.SetWriteDeadline(time.Now().Add(startPatience))
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Now()) })
	defer stop()
	f := newFrames(p.conn, metainfo.MaxSize)
	defer p.leave(f)
	var tiers [][]string
	for _, t := range link.Trackers {
		tiers = append(tiers, []string{t})
	}
	if err := f.writeJSON(kindStart, Start{Magnet: link.String(), Trackers: tiers, Peers: link.Peers, Options: m.Options, Reach: m.Reach}); err != nil {
		p.kill()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, p.why(err)
	}
	for {
		p.conn.SetReadDeadline(time.Now().Add(leastSilence))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		kind, data, err := f.read(nil)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.kill()
			return nil, errors.New("the worker stalled")
		case errors.Is(err, errFrame):
			p.kill()
			return nil, err
		case err != nil:
			return nil, p.why(err)
		case kind == kindFound:
			return link.Complete(data)
		case kind == kindAlive:
		case kind == kindNote && len(data) <= maxText:
			if m.Log != nil {
				m.Log.Info("peers", "said", string(data))
			}
		default:
			p.kill()
			return nil, errFrame
		}
	}
}
