package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	firstPause  = time.Second // before a crashed worker is started again; doubled with each crash
	longestRest = time.Minute
	calm        = 5 * time.Minute // without a crash: the pauses begin anew
	addAtOnce   = 500             // torrents in a frame
)

// Seeding gives finished files to peers, through a worker that it starts and, if it crashes, starts again with all that was
// added. Set the fields before Run; nothing is listening before. All methods may be called at any time, by several goroutines.
type Seeding struct {
	Worker  string  // path of the worker's program
	Options Options // Port, Interface and Block are of all torrents, as MaxPeers is (<= 0: 200) and LimitUpload, until Limit
	Reach   Reach   // of all torrents

	// Open opens content for reading, because peers want it; file is its number among the files of the torrent that are no
	// padding, the only one being 0. It is called by several goroutines. The worker gets the descriptor; it is closed here. After an
	// error that says something of the file, and not only of this machine at present, the torrent is dropped.
	Open    func(id [20]byte, file int) (*os.File, error)
	Dropped func(id [20]byte, why error) // told of content that cannot be read or has changed, once; may be nil
	Log     *slog.Logger                 // nil: silent

	mu       sync.Mutex
	torrents map[[20]byte]*offered
	limit    *int64 // nil: as Options say
	paused   bool
	orders   []order       // not yet sent; nil while there is no worker
	asked    []*offered    // whose metainfo the worker waits for
	wake     chan struct{} // there are orders; nil: there is no worker
	last     Report        // of this worker, without its torrents
	before   int64         // bytes uploaded by earlier ones
	restarts int
}

// offered is a torrent that was added.
type offered struct {
	Torrent
	status TorrentStatus
	before int64 // bytes uploaded by earlier workers
	asked  bool  // it is among Seeding.asked
}

// order is a frame to be sent.
type order struct {
	kind    byte
	payload []byte
}

// Seed is a Torrent as the worker is told of it.
type Seed struct {
	ID       []byte     `json:"id"`
	V2       []byte     `json:"v2,omitempty"`
	Trackers [][]string `json:"trackers,omitempty"`
	Hosts    []string   `json:"hosts,omitempty"`
	Private  bool       `json:"private,omitempty"`
}

// Report is how things stand at the worker. Torrents are those of which something has changed.
type Report struct {
	Port     int          `json:"port"`
	Peers    int          `json:"peers"`
	Uploaded int64        `json:"uploaded"` // bytes, by this worker
	Torrents []SeedReport `json:"torrents,omitempty"`
}

// SeedReport is how one torrent stands at the worker.
type SeedReport struct {
	ID       []byte `json:"id"`
	Peers    int    `json:"peers"`
	Uploaded int64  `json:"uploaded"` // bytes, by this worker
	Problem  string `json:"problem,omitempty"`
}

// Add offers t from now on. One that is known gets t's trackers, and is offered again if it was dropped.
func (s *Seeding) Add(t Torrent) error {
	if t.ID == [20]byte{} || t.Metainfo == nil {
		return errors.New("a torrent without info hash or metainfo")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.torrents == nil {
		s.torrents = map[[20]byte]*offered{}
	}
	o := s.torrents[t.ID]
	if o == nil {
		o = &offered{status: TorrentStatus{ID: t.ID}}
		s.torrents[t.ID] = o
	}
	o.Torrent = t
	if o.status.Dropped {
		o.status.Dropped, o.status.Problem = false, ""
	}
	s.send(kindAdd, marshal([]Seed{o.seed()}))
	return nil
}

func (o *offered) seed() Seed {
	s := Seed{ID: o.ID[:], Trackers: o.Trackers, Hosts: o.Hosts, Private: o.Private}
	if o.V2 != [20]byte{} {
		s.V2 = o.V2[:]
	}
	return s
}

// Remove takes leave of the torrent's peers and trackers. Its uploaded bytes are forgotten, but for the sum.
func (s *Seeding) Remove(id [20]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.torrents[id]; known {
		delete(s.torrents, id)
		s.send(kindRemove, id[:])
	}
}

// Limit bounds all uploads together; <= 0: no limit.
func (s *Seeding) Limit(bytesPerSecond int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = &bytesPerSecond
	s.send(kindLimit, strconv.AppendInt(nil, bytesPerSecond, 10))
}

// Pause has nobody served, and nothing announced but that we leave, until Pause(false).
func (s *Seeding) Pause(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused != on {
		s.paused = on
		s.send(kindPause, pauseWord(on))
	}
}

func pauseWord(on bool) []byte {
	if on {
		return []byte("1")
	}
	return []byte("0")
}

// Status tells how things stand.
func (s *Seeding) Status() SeedingStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SeedingStatus{Port: s.last.Port, Peers: s.last.Peers, Uploaded: s.before + s.last.Uploaded, Restarts: s.restarts,
		Torrents: []TorrentStatus{}}
	for _, o := range s.torrents {
		if o.status != (TorrentStatus{ID: o.status.ID}) {
			st.Torrents = append(st.Torrents, o.status)
		}
	}
	slices.SortFunc(st.Torrents, func(a, b TorrentStatus) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return st
}

// Run seeds until ctx ends and trackers were told so, and returns nil then; it may be called again. It is an error if the first worker ends before it
// listens: a port is in use, or there is no such program. After that a worker that ends is started again.
func (s *Seeding) Run(ctx context.Context) error {
	pause, listened := firstPause, false
	for {
		began := time.Now()
		err := s.work(ctx)
		over := ctx.Err() != nil
		s.mu.Lock()
		listened = listened || s.last.Port != 0
		if !over {
			s.restarts++
		}
		s.before += s.last.Uploaded
		s.last = Report{}
		for _, o := range s.torrents {
			o.before, o.status.Peers = o.status.Uploaded, 0
		}
		s.mu.Unlock()
		if over {
			return nil
		}
		if !listened {
			return err
		}
		if time.Since(began) > calm {
			pause = firstPause
		}
		if s.Log != nil {
			s.Log.Warn("the worker is started again", "in", pause, "why", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestRest)
	}
}

// work starts a worker and serves it until it is gone or no more wanted.
func (s *Seeding) work(wanted context.Context) error {
	mine, theirs, err := socketPair(packets)
	if err != nil {
		return err
	}
	files, err := newDesk(mine)
	if err != nil {
		theirs.Close()
		return err
	}
	defer files.close()
	p, err := launch(s.Worker, theirs)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", s.Worker, err)
	}
	go files.serve(s.open)
	out := newFrames(p.conn, maxFromPeers)
	ctx, cancel := context.WithCancelCause(wanted)
	defer cancel(nil)
	go func() {
		<-ctx.Done()
		p.conn.SetDeadline(time.Now()) // those who read and write below stop: a worker that hangs does neither
	}()
	var told sync.WaitGroup
	wake := s.begin()
	told.Go(func() {
		if err := out.writeJSON(kindStart, Start{Seed: true, Options: s.Options, Reach: s.Reach}); err != nil {
			cancel(fmt.Errorf("%w: %w", errWorkerGone, err))
			return
		}
		cancel(s.tell(ctx, out, wake))
	})
	err = s.listen(ctx, p, out)
	cancel(err)
	told.Wait()
	s.mu.Lock()
	for _, o := range s.asked {
		o.asked = false
	}
	s.orders, s.asked, s.wake = nil, nil, nil
	s.mu.Unlock()
	p.leave(out)
	if cause := context.Cause(ctx); wanted.Err() == nil && !errors.Is(cause, errWorkerGone) {
		p.kill() // it does not do as it should
		<-p.ended
		return cause
	}
	select {
	case <-p.ended:
	case <-time.After(s.Options.linger() + time.Second):
		p.kill()
		<-p.ended
	}
	return p.why(err)
}

// begin has all that was added told to a new worker.
func (s *Seeding) begin() (wake chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake = make(chan struct{}, 1)
	s.send(kindPause, pauseWord(s.paused))
	if s.limit != nil {
		s.send(kindLimit, strconv.AppendInt(nil, *s.limit, 10))
	}
	list := make([]Seed, 0, min(len(s.torrents), addAtOnce))
	for _, o := range s.torrents {
		if !o.status.Dropped {
			list = append(list, o.seed())
		}
		if len(list) == addAtOnce {
			s.send(kindAdd, marshal(list))
			list = list[:0]
		}
	}
	s.send(kindAdd, marshal(list))
	return s.wake
}

// send has an order sent soon, if there is a worker. mu is held.
func (s *Seeding) send(kind byte, payload []byte) {
	if s.wake == nil {
		return
	}
	s.orders = append(s.orders, order{kind, payload})
	s.poke()
}

// poke has tell look for what is to be sent. mu is held, and there is a worker.
func (s *Seeding) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell sends orders and, once there are none, one metainfo that was asked for: however many are wanted, one at a time is in memory.
func (s *Seeding) tell(ctx context.Context, out *frames, wake <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		}
		s.mu.Lock()
		orders := s.orders
		s.orders = nil
		var wanted *offered
		if len(s.asked) > 0 {
			wanted, s.asked = s.asked[0], s.asked[1:]
			wanted.asked = false
			s.poke() // there may be more
		}
		s.mu.Unlock()
		for _, o := range orders {
			if err := out.write(o.kind, o.payload); err != nil {
				return fmt.Errorf("%w: %w", errWorkerGone, err)
			}
		}
		if wanted != nil {
			if err := s.inform(out, wanted); err != nil {
				return fmt.Errorf("%w: %w", errWorkerGone, err)
			}
		}
	}
}

// inform sends the metainfo of a torrent.
func (s *Seeding) inform(out *frames, o *offered) error {
	s.mu.Lock()
	get, gone := o.Metainfo, s.torrents[o.ID] != o
	s.mu.Unlock()
	if gone {
		return nil
	}
	data, err := get()
	if err != nil {
		s.dropped(o.ID, err.Error())
		data = nil
	}
	return out.write(kindInfo, o.ID[:], data)
}

// listen takes what the worker sends.
func (s *Seeding) listen(ctx context.Context, p *process, in *frames) error {
	patience := startPatience
	var buf []byte
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
		buf = data[:0]
		switch {
		case kind == kindReport:
			err = s.report(data)
		case kind == kindAsk && len(data) == 20:
			s.ask([20]byte(data))
		case kind == kindDrop && len(data) >= 20 && len(data) <= maxText:
			s.dropped([20]byte(data[:20]), string(data[20:]))
		case kind == kindNote && len(data) <= maxText:
			if s.Log != nil {
				s.Log.Info("peers", "said", string(data))
			}
		default:
			err = errFrame
		}
		if err != nil {
			return err
		}
	}
}

func (s *Seeding) report(data []byte) error {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range r.Torrents {
		if len(t.ID) != 20 {
			return errFrame
		}
		if o := s.torrents[[20]byte(t.ID)]; o != nil && !o.status.Dropped {
			o.status.Peers, o.status.Uploaded, o.status.Problem = max(0, t.Peers), max(o.status.Uploaded, o.before+max(0, t.Uploaded)), short(t.Problem)
		}
	}
	r.Peers, r.Uploaded, r.Torrents = max(0, r.Peers), max(r.Uploaded, s.last.Uploaded), nil
	s.last = r
	return nil
}

// ask has the metainfo of a torrent sent that somebody wants.
func (s *Seeding) ask(id [20]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.torrents[id]; o != nil && !o.asked && s.wake != nil { // else it was removed meanwhile, and the worker is being told
		o.asked = true
		s.asked = append(s.asked, o)
		s.poke()
	}
}

// open opens content for the worker, which may have been taken over.
func (s *Seeding) open(id [20]byte, file int) (*os.File, error) {
	s.mu.Lock()
	o := s.torrents[id]
	ok := o != nil && !o.status.Dropped
	s.mu.Unlock()
	if !ok {
		return nil, errors.New("not offered")
	}
	f, err := s.Open(id, file)
	if err != nil && !passes(err) {
		s.dropped(id, err.Error())
	}
	return f, err
}

// passes reports whether an error says nothing of the file: a later try may go well.
func passes(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO}, func(e error) bool { return errors.Is(err, e) })
}

// dropped has a torrent not offered any more.
func (s *Seeding) dropped(id [20]byte, why string) {
	s.mu.Lock()
	o := s.torrents[id]
	if o == nil || o.status.Dropped {
		s.mu.Unlock()
		return
	}
	o.status.Dropped, o.status.Peers, o.status.Problem = true, 0, why
	s.send(kindRemove, id[:])
	s.mu.Unlock()
	if s.Log != nil {
		s.Log.Warn("not offered any more", "torrent", fmt.Sprintf("%x", id), "why", why)
	}
	if s.Dropped != nil {
		s.Dropped(id, errors.New(why))
	}
}

// marshal is for what always can be.
func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
