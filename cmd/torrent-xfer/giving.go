package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"torrent-xfer/internal/peers"
)

const (
	seedLook  = 50 * time.Millisecond // how often it is looked whether an end is reached
	lastBlock = 5 * time.Second       // for what is on its way to peers when the ratio is reached
)

// offer is a torrent whose content is here, whole and verified.
type offer struct {
	torrent peers.Torrent
	name    string
	size    int64                            // bytes
	open    func(file int) (*os.File, error) // see peers.Seeding.Open
	enough  time.Time                        // when the ratio was reached; zero: it is not
	gone    bool                             // not given any more
}

// asItWas opens a file for peers unless it is another one than when it was verified.
func asItWas(path string, was os.FileInfo) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	now, err := f.Stat()
	if err == nil && (!os.SameFile(was, now) || now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime())) {
		err = errors.New("it has been changed since")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// seedJob gives what is offered to peers until a signal comes, the time is over, or the ratio of each is reached.
type seedJob struct {
	env      Env
	settings settings
	worker   string
	options  peers.Options
	reach    peers.Reach
	offers   []*offer
	// patience is for a port that a worker of ours has only just left.
	patience  time.Duration
	onListen  func(port int) // may be nil
	log       *slog.Logger
	terminal  bool // the status line is drawn there
	columns   func() int
	drawn     string
	lastGiven int64
	lastLook  time.Time
	rate      float64
}

// run returns nil if all went as the user wants it, a signal included.
func (j *seedJob) run() error {
	byID := map[[20]byte]*offer{}
	lost := make(chan string, len(j.offers))
	s := &peers.Seeding{Worker: j.worker, Options: j.options, Reach: j.reach, Log: j.log,
		Open: func(id [20]byte, file int) (*os.File, error) { return byID[id].open(file) },
		Dropped: func(id [20]byte, why error) {
			select {
			case lost <- byID[id].name + ": not given to peers any more: " + why.Error():
			default:
			}
		}}
	for _, o := range j.offers {
		byID[o.torrent.ID] = o
		if err := s.Add(o.torrent); err != nil {
			return err
		}
	}
	ctx, stop := (&download{settings: settings{}}).lifetime()
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		for began := time.Now(); ; time.Sleep(seedLook) {
			if err := s.Run(ctx); err == nil || time.Since(began) > j.patience {
				ended <- err
				return
			}
		}
	}()
	var over <-chan time.Time
	left, port := len(j.offers), 0
	listens := func(st peers.SeedingStatus) {
		if port != 0 || st.Port == 0 {
			return
		}
		port = st.Port
		if j.onListen != nil {
			j.onListen(port)
		}
		if d := j.settings.give.time; d > 0 {
			over = time.After(d)
		}
	}
	tick := time.NewTicker(seedLook)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			listens(s.Status())
			j.erase()
			if err == nil && left == 0 && !j.anyGiven(s) {
				err = errors.New("nothing is left to be given to peers")
			}
			return err
		case text := <-lost:
			j.erase()
			warn(j.env.Stderr, "%s", text)
		case <-over:
			cancel()
			over = nil
		case now := <-tick.C:
			st := s.Status()
			listens(st)
			if left = j.settle(s, st); left == 0 {
				cancel()
			} else if port != 0 {
				j.draw(st, left, now)
			}
		}
	}
}

// settle takes leave of what has reached the ratio, and counts what is still given.
func (j *seedJob) settle(s *peers.Seeding, st peers.SeedingStatus) (left int) {
	for _, o := range j.offers {
		if o.gone {
			continue
		}
		t := st.Torrent(o.torrent.ID)
		if j.settings.give.ratio > 0 && float64(t.Uploaded) >= j.settings.give.ratio*float64(o.size) && o.enough.IsZero() {
			o.enough = time.Now()
		}
		over := !o.enough.IsZero() && (t.Peers == 0 || time.Since(o.enough) > lastBlock)
		if over {
			s.Remove(o.torrent.ID)
		}
		if o.gone = over || t.Dropped; !o.gone {
			left++
		}
	}
	return left
}

// anyGiven reports whether something was not dropped.
func (j *seedJob) anyGiven(s *peers.Seeding) bool {
	st := s.Status()
	for _, o := range j.offers {
		if !st.Torrent(o.torrent.ID).Dropped {
			return true
		}
	}
	return false
}

// draw has the terminal's line say how things stand.
func (j *seedJob) draw(st peers.SeedingStatus, left int, now time.Time) {
	if !j.terminal {
		return
	}
	if d := now.Sub(j.lastLook); d >= time.Second {
		if !j.lastLook.IsZero() {
			j.rate = float64(st.Uploaded-j.lastGiven) / d.Seconds()
		}
		j.lastGiven, j.lastLook = st.Uploaded, now
	}
	name := plural(left, "torrent")
	if left == 1 && len(j.offers) == 1 {
		name = printable(j.offers[0].name)
	}
	text := line(j.columns(), name, plural(st.Peers, "peer"), formatBytes(float64(st.Uploaded))+" given", formatRate(j.rate))
	if text != j.drawn {
		io.WriteString(j.env.Stderr, "\r\x1b[K"+text)
		j.drawn = text
	}
}

func (j *seedJob) erase() {
	if j.drawn != "" {
		io.WriteString(j.env.Stderr, "\r\x1b[K")
		j.drawn = ""
	}
}

// newSeedJob is ready but for what is offered, which is taken to be the user's own: peers may be anywhere.
func newSeedJob(env Env, s settings, with *company) *seedJob {
	show := newDisplay(env, s, "")
	return &seedJob{env: env, settings: s, worker: with.worker, options: with.options, reach: peers.Reach{Private: true},
		log: show.log(), terminal: show.how == "bar", columns: show.columns}
}

// noWorker is the failure of who cannot seed since nobody speaks to peers.
func noWorker(file string, err error) error {
	return &failure{status: exitFailed, file: file, err: fmt.Errorf("no peers: %w", err), next: "install " + workerName + " beside torrent-xfer"}
}
