package peers

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
)

const (
	startPatience = 30 * time.Second // for the worker's first word
	leastSilence  = 20 * time.Second // a worker that says nothing for so long hangs
)

// DefaultHeadStart is what Options.HeadStart is by default.
const DefaultHeadStart = 100 * time.Millisecond

// Source is the swarm of one torrent as a fetcher.Source. Set the fields before Fill.
type Source struct {
	Worker  string // path of the worker's program
	Options Options
	Peers   []string                    // "host:port" of some to begin with
	Reach   func(context.Context) Reach // asked once, beside the download; nil: the zero Reach
	Host    *Host                       // whose trackers are announced to first, unless the torrent is private; nil: nobody's
	Log     *slog.Logger                // nil: silent

	first atomic.Pointer[[]string] // of Host, once they are known
}

func (s *Source) String() string { return "peers" }

// Fill implements fetcher.Source. It returns as soon as ctx ends or the file is whole; the worker takes leave of its trackers
// by itself and is gone a moment later.
func (s *Source) Fill(ctx context.Context, dst *fetcher.Sink) error {
	w := dst.JoinSwarm()
	if w == nil {
		return errors.New("there is no torrent to join the swarm of")
	}
	defer w.Leave()
	reach := Reach{}
	if s.Reach != nil {
		reach = s.Reach(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := s.lookUp(ctx, w.Manifest())
	file, err := w.OpenPartial()
	if err != nil {
		return err
	}
	defer file.Close()
	p, err := launch(s.Worker, file)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", s.Worker, err)
	}
	go func() {
		<-ctx.Done()
		p.conn.SetReadDeadline(time.Now()) // the reader below stops
	}()
	start := Start{Metainfo: w.Manifest().Metainfo(), Trackers: w.Manifest().Trackers, Peers: s.Peers, Options: s.Options, Reach: reach}
	select {
	case start.First = <-first:
	case <-time.After(cmp.Or(max(0, s.Options.HeadStart), DefaultHeadStart)):
	}
	out := newFrames(p.conn, maxFromPeers)
	var told sync.WaitGroup
	told.Go(func() {
		if err := out.writeJSON(kindStart, start); err != nil {
			cancel(fmt.Errorf("%w: %w", errWorkerGone, err))
			return
		}
		told.Go(func() {
			select {
			case late := <-first:
				if len(late) > 0 {
					out.writeJSON(kindFirst, late) // an error is for the others to see
				}
			case <-ctx.Done():
			}
		})
		cancel(s.tell(ctx, out, w))
	})
	err = s.listen(ctx, p, out, w)
	cancel(err)
	p.conn.SetWriteDeadline(time.Now().Add(lastOrders)) // a worker that hangs reads nothing
	told.Wait()
	p.leave(out)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errWorkerGone):
		return p.why(cause)
	case errors.Is(cause, io.EOF):
		return nil // the file is whole
	case errors.Is(cause, context.Canceled):
		return cause
	default: // it does not do as it should: nobody knows what it would do next
		p.kill()
		return cause
	}
}

// lastOrders is how long it may take to tell a worker what is whole by then.
const lastOrders = 5 * time.Second

// errWorkerGone: the worker has closed its end.
var errWorkerGone = errors.New("the worker is gone")

// lookUp finds the trackers of the torrent's own host. It sends them once and then closes.
func (s *Source) lookUp(ctx context.Context, m *metainfo.Manifest) <-chan []string {
	found := make(chan []string, 1)
	if s.Host == nil || m.Private {
		close(found)
		return found
	}
	go func() {
		list := s.Host.Trackers(ctx)
		s.first.Store(&list)
		found <- list
		close(found)
	}()
	return found
}

// tell passes orders on.
func (s *Source) tell(ctx context.Context, out *frames, w *fetcher.Swarm) error {
	for {
		o, done := w.Next(ctx)
		var err error
		send := func(kind byte, list ...int) {
			if err == nil && len(list) > 0 {
				err = out.writeNumbers(kind, list...)
			}
		}
		send(kindLeave, o.Leave...)
		send(kindHave, o.Have...)
		send(kindWant, o.Want...)
		for _, v := range o.Verdicts {
			alone := 0
			if v.Alone {
				alone = 1
			}
			send(kindVerdict, v.Piece, v.Attempt, alone)
		}
		for _, x := range o.Wrong {
			send(kindWrong, append([]int{x.Piece, x.Attempt}, x.Blocks...)...)
		}
		switch {
		case done != nil:
			return done
		case err != nil:
			return fmt.Errorf("%w: %w", errWorkerGone, err)
		}
	}
}

// listen takes what the worker sends.
func (s *Source) listen(ctx context.Context, p *process, in *frames, w *fetcher.Swarm) error {
	n := w.Manifest().Pieces()
	bits := (n + 7) / 8
	buf := make([]byte, metainfo.BlockSize+4)
	patience := startPatience
	for {
		p.conn.SetReadDeadline(time.Now().Add(patience))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		kind, data, err := in.read(buf)
		patience = leastSilence
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("the worker stalled")
		case errors.Is(err, errFrame):
			return err
		case err != nil:
			return fmt.Errorf("%w: %w", errWorkerGone, err)
		}
		switch kind {
		case kindData:
			if len(data) < 4 {
				return errFrame
			}
			err = w.Put(ctx, int(binary.LittleEndian.Uint32(data)), data[4:])
		case kindCheck:
			var list []int
			if list, err = numbers(data, 1); err == nil {
				w.Check(list[0])
			}
		case kindOffer:
			if len(data) != 12+3*bits {
				return errFrame
			}
			w.Offer(fetcher.Offer{Peers: int(binary.LittleEndian.Uint32(data)), Uploaded: max(0, int64(binary.LittleEndian.Uint64(data[4:]))),
				Had: unpackBits(data[12:], n), Asked: unpackBits(data[12+bits:], n), Mine: unpackBits(data[12+2*bits:], n)})
		case kindBlame:
			if len(data) > maxText {
				return errFrame
			}
			peer, what, _ := strings.Cut(string(data), "\n")
			w.Blame(peer, what)
			s.note("peer blamed", "peer", peer, "why", what)
		case kindHeard:
			if first := s.first.Load(); first != nil && slices.Contains(*first, string(data)) {
				s.Host.Answered(string(data))
				s.note("the torrent's own host has a tracker", "tracker", string(data))
			}
		case kindNote:
			if len(data) > maxText {
				return errFrame
			}
			s.note("peers", "said", string(data))
		default:
			return errFrame
		}
		if err != nil {
			return err
		}
	}
}

func (s *Source) note(text string, args ...any) {
	if s.Log != nil {
		s.Log.Info(text, args...)
	}
}
