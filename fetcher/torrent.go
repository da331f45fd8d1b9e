package fetcher

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"

	"golang.org/x/sys/unix"
)

const (
	torrentsAtOnce = 3
	torrentsMost   = 5 // hosts asked if some do not answer or disagree
	opinionsMost   = 6 // pieces fetched to find out whether a mirror or the torrent lies
	opinionBytes   = 8 << 20
	opinionTimeout = 3 * time.Second
	torrentTimeout = 10 * time.Second
	loadTimeout    = 30 * time.Second
	salvageTime    = time.Second // mirrors wait no longer for what may be on disk
	torrentMinimum = 1 << 20     // a smaller file says nothing about its repository
)

// torrents is what is known of a file's torrent while the download goes on.
type torrents struct {
	sworn      *metainfo.Manifest // named by the user; nil: none
	swears     bool               // the answer under way is what the user named
	queue      []place
	known      map[resource]bool // that were asked
	described  *url.URL          // a metalink that the URL's own host named and that was not asked for; nil: none
	asked      int
	pending    int
	refused    int // clear answers that there is none
	answers    chan torrentAnswer
	candidates []*candidate
	rejected   []*metainfo.Manifest
	timer      chan struct{}

	opinions chan opinion
	asking   int     // second opinions under way
	asks     int     // in all
	agreed   bool    // two mirrors gave one wrong copy of some piece
	dispute  []*Feed // mirrors that agree with each other against the torrent, while its other hosts are being asked
}

type candidate struct {
	manifest *metainfo.Manifest
	hosts    []string
	own      bool // the URL's own host serves it
}

// place is where a torrent may be.
type place struct {
	url *url.URL
	// vouched: the URL's own host, or a metalink that the user named, says that it is there. It counts as if that host
	// served it, and may bear any name.
	vouched bool
}

type torrentAnswer struct {
	url        *url.URL
	vouched    bool
	isMetalink bool // it was not a torrent that was asked for
	manifest   *metainfo.Manifest
	metalink   *metalink.File
	err        error
}

var (
	errNoTorrent = errors.New("no torrent there") // a clear answer that a host has none
	errTooLong   = errors.New("too long")
)

// seekTorrent starts asking for torrents beside the download.
func (j *job) seekTorrent(ctx context.Context) {
	t := &j.torrent
	t.answers = make(chan torrentAnswer, torrentsMost+2)
	t.opinions = make(chan opinion, opinionsMost)
	switch hint := j.req.Torrent; {
	case t.sworn != nil:
		return
	case hint.MetainfoURL != nil:
		t.queue, t.swears = []place{{url: hint.MetainfoURL}}, true
	case j.req.Volatile:
		return
	default:
		if !j.Hosts.barren(j.repository()) {
			for _, u := range hint.URLs {
				t.queue = append(t.queue, place{url: u})
			}
		}
		if hint.Metalink != nil {
			j.askTorrents(ctx, urlsOf(hint.Metalink.Torrents))
		}
	}
	for t.pending < torrentsAtOnce && j.askTorrent(ctx) {
	}
}

func (j *job) repository() string {
	if r := j.req.Torrent.Repository; r != "" {
		return r
	}
	dir := *j.req.URL.JoinPath("..")
	dir.User, dir.RawQuery, dir.Fragment = nil, "", ""
	return dir.String()
}

// askTorrent asks the next host, one request for each.
func (j *job) askTorrent(ctx context.Context) bool {
	t := &j.torrent
	for len(t.queue) > 0 && t.known[resourceOf(t.queue[0].url)] {
		t.queue = t.queue[1:]
	}
	if len(t.queue) == 0 || t.asked == torrentsMost {
		return false
	}
	at, swears, name := t.queue[0], t.swears, baseName(j.req.URL)
	t.queue = t.queue[1:]
	t.known[resourceOf(at.url)] = true
	t.asked++
	t.pending++
	j.workers.Go(func() {
		a := torrentAnswer{url: at.url, vouched: at.vouched}
		data, err := j.loadTorrent(ctx, at.url)
		switch {
		case err != nil:
		case swears && metalink.IsXML(data):
			a.metalink, err = describing(data, name)
		default:
			if a.manifest, err = metainfo.Parse(data, name); err != nil && (swears || at.vouched) {
				a.manifest, err = metainfo.Parse(data, "")
			}
			if err != nil {
				err = fmt.Errorf("%w: %w", errNoTorrent, err)
			}
		}
		a.err = err
		t.answers <- a
	})
	return true
}

func (j *job) loadTorrent(ctx context.Context, u *url.URL) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, torrentTimeout)
	defer cancel()
	data, err := j.client.load(ctx, u, metainfo.MaxSize)
	var status *statusError
	if errors.Is(err, errTooLong) || errors.As(err, &status) && status.code < 500 && status.code != http.StatusTooManyRequests {
		err = fmt.Errorf("%w: %w", errNoTorrent, err)
	}
	return data, err
}

// answered weighs what a host said.
func (j *job) answered(ctx context.Context, a torrentAnswer) error {
	t := &j.torrent
	t.pending--
	host := hostKey(a.url)
	switch {
	case a.err != nil:
		if errors.Is(a.err, errNoTorrent) && !a.isMetalink {
			t.refused++
		}
		if t.swears {
			ev := j.snapshot(Retried)
			ev.Source, ev.Message = "torrent "+redacted(a.url), reason(a.err)
			j.event(ev)
		}
		j.log.Debug("no torrent", "url", redacted(a.url), "why", reason(a.err))
	case t.swears && a.metalink != nil:
		return j.swearLate(ctx, a.metalink)
	case t.swears:
		t.sworn = a.manifest
		return j.adopt(ctx, a.manifest)
	case a.metalink != nil:
		j.believe(ctx, a.metalink)
	case a.vouched:
		j.addCandidate(a.manifest, hostKey(j.req.URL))
	default:
		j.addCandidate(a.manifest, host)
	}
	j.choose(ctx)
	if a.manifest != nil && j.uses(a.manifest) { // as an earlier run did already
		j.joinSwarm(ctx, a.manifest)
	}
	if d := t.dispute; d != nil && t.pending == 0 {
		t.dispute = nil
		return j.sideWith(ctx, d...)
	}
	if !j.hasTorrent() && (len(t.candidates) > 0 || t.refused < t.asked-t.pending) {
		j.askTorrent(ctx)
	}
	j.askDescribed(ctx)
	return nil
}

// addCandidate notes that host stands for m.
func (j *job) addCandidate(m *metainfo.Manifest, host string) {
	t := &j.torrent
	i := slices.IndexFunc(t.candidates, func(c *candidate) bool { return c.manifest.Equal(m) })
	if i < 0 {
		i = len(t.candidates)
		t.candidates = append(t.candidates, &candidate{manifest: m})
	}
	c := t.candidates[i]
	if !slices.Contains(c.hosts, host) {
		c.hosts = append(c.hosts, host)
	}
	c.own = c.own || host == hostKey(j.req.URL)
}

func (j *job) hasTorrent() bool {
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	return j.sink.manifest != nil && !j.sink.confirm
}

// choose adopts the first torrent that counts: the URL's own host serves it, or two hosts give the same one, or there is
// a digest that decides in the end anyway.
func (j *job) choose(ctx context.Context) {
	if j.hasTorrent() {
		return
	}
	for _, c := range j.torrent.candidates {
		if (c.own || len(c.hosts) >= 2 || j.expect.digest()) && !slices.ContainsFunc(j.torrent.rejected, c.manifest.Equal) {
			j.adoptCandidate(ctx, c)
			if j.hasTorrent() {
				return
			}
		}
	}
}

// adoptCandidate adopts a torrent unless what is known of the size speaks against it.
func (j *job) adoptCandidate(ctx context.Context, c *candidate) {
	size := j.knownSize()
	fixed := j.expect.Size > 0 && j.expect.Size != c.manifest.Size
	if c.manifest.Size > maxShared {
		return
	}
	if fixed || size >= 0 && size != c.manifest.Size && len(c.hosts) < 2 {
		j.log.Info("torrent not used: it is of a file of another size", "what", nameOf(c.manifest), "torrent", c.manifest.Size, "file", size)
		return
	}
	j.adopt(ctx, c.manifest)
}

// adopt verifies against m from now on, with what its web seeds hold as well.
func (j *job) adopt(ctx context.Context, m *metainfo.Manifest) error {
	s := j.sink
	s.mu.Lock()
	size, old := s.size, s.manifest
	s.confirm = s.confirm && !(old != nil && old.Equal(m))
	s.mu.Unlock()
	if j.expect.Size > 0 && j.expect.Size != m.Size {
		return fmt.Errorf("%w: the torrent is of a file of %d bytes, not %d", ErrRequest, m.Size, j.expect.Size)
	}
	if old != nil && old.Equal(m) {
		j.addWebSeeds(m)
		j.joinSwarm(ctx, m)
		return nil
	}
	if old != nil || size >= 0 && size != m.Size {
		j.resumed = 0
		j.restart(m.Size)
		j.forgive(func(m *mirror) bool { return isWrong(m.last) || isStale(m.last) })
	}
	j.log.Info(nameOf(m)+" found", "pieces", m.Pieces(), "web_seeds", len(m.WebSeeds))
	if j.local {
		s.salvage(true)
	}
	s.share(m)
	j.crew.planned = false
	j.addWebSeeds(m)
	j.salvage(ctx)
	j.joinSwarm(ctx, m)
	return nil
}

// uses reports whether m is what verifies the file.
func (j *job) uses(m *metainfo.Manifest) bool {
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	return j.sink.manifest != nil && j.sink.manifest.Equal(m)
}

func (j *job) addWebSeeds(m *metainfo.Manifest) {
	for _, text := range m.WebSeeds {
		u, err := url.Parse(text)
		if err == nil {
			j.addNamed([]*url.URL{u}, false)
		}
	}
}

// nameOf is what people know m by.
func nameOf(m *metainfo.Manifest) string {
	if m.InfoHash == "" {
		return "metalink"
	}
	return "torrent " + m.InfoHash
}

// rememberTorrents tells the memory of hosts whether this repository has torrents.
func (j *job) rememberTorrents() {
	t := &j.torrent
	j.sink.mu.Lock()
	m := j.sink.manifest
	j.sink.mu.Unlock()
	switch {
	case j.hasTorrent() && t.sworn == nil && m.InfoHash != "":
		j.Hosts.torrentFound(j.repository())
	case t.asked > 0 && !t.swears && t.refused == t.asked && j.knownSize() >= torrentMinimum:
		j.Hosts.torrentMissed(j.repository())
	}
}

// waitsForTorrent reports whether a plain download that is whole should wait for an answer.
func (j *job) waitsForTorrent() bool { return j.torrent.pending > 0 && !j.sink.shared() }

// grace is closed when the wait for a torrent is over. For one that the user named it is never.
func (j *job) grace() <-chan struct{} {
	t := &j.torrent
	if t.swears {
		return nil
	}
	if t.timer == nil {
		t.timer = make(chan struct{})
		time.AfterFunc(cmp.Or(j.torrentGrace, torrentGrace), func() { close(t.timer) })
	}
	return t.timer
}

// doubt is called when two mirrors agree with each other against the torrent: it is dropped, not they.
func (j *job) doubt(ctx context.Context) error {
	if j.torrent.sworn != nil {
		return nil
	}
	agree := j.sink.against()
	if len(agree) == 0 {
		return nil
	}
	return j.sideWith(ctx, agree...)
}

// sideWith drops the torrent in favour of mirrors that agree with each other, unless more than one host stands for it.
func (j *job) sideWith(ctx context.Context, agree ...*Feed) error {
	if j.torrent.pending > 0 {
		j.torrent.dispute = agree
		return nil
	}
	if len(j.standFor()) > 1 {
		return nil
	}
	j.log.Info("two mirrors agree against the torrent; going on without it", "mirrors", agree[0].name+", "+agree[1].name)
	slices.SortStableFunc(j.mirrors, func(a, b *mirror) int {
		return btoi(slices.Contains(agree, b.feed)) - btoi(slices.Contains(agree, a.feed))
	})
	return j.rejectTorrent(ctx)
}

// opinion is what a further host gave for a piece that did not fit the torrent.
type opinion struct {
	manifest *metainfo.Manifest
	accused  *mirror
	wrong    *wrongBytes
	asked    []*mirror // the last one gave this
	hash     [32]byte
	ok       bool
	err      error
}

// askOpinion is called when a mirror gave a wrong piece. If only one host stands for the torrent, another mirror is asked
// for the same piece: where that agrees with the accused, the torrent is wrong, not they. Nothing is finished before.
func (j *job) askOpinion(ctx context.Context, e exit) {
	var wrong *wrongBytes
	if errors.As(e.err, &wrong) && wrong.piece >= 0 {
		j.askFurther(ctx, opinion{accused: e.m, wrong: wrong})
	}
}

func (j *job) askFurther(ctx context.Context, o opinion) {
	t := &j.torrent
	j.sink.mu.Lock()
	m := j.sink.manifest
	j.sink.mu.Unlock()
	if m == nil || t.sworn != nil || j.expect.digest() || t.asks == opinionsMost || o.wrong.piece >= m.Pieces() || m.PieceSize(o.wrong.piece) > opinionBytes {
		return
	}
	known := append([]string{o.accused.feed.host}, j.standFor()...)
	if len(known) > 2 {
		known = known[:1]
	}
	o.manifest = m
	for _, a := range o.asked {
		known = append(known, a.feed.host)
	}
	i := slices.IndexFunc(j.mirrors, func(m *mirror) bool {
		return !slices.Contains(known, m.feed.host) && (m.state != setAside || isWrong(m.last)) && !m.whole
	})
	if i < 0 {
		return
	}
	by := j.mirrors[i]
	o.asked = append(o.asked, by)
	t.asks++
	t.asking++
	j.workers.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, opinionTimeout)
		defer cancel()
		off := int64(o.wrong.piece) * m.PieceLength
		data, err := by.read(ctx, off, off+m.PieceSize(o.wrong.piece))
		if err == nil {
			o.hash, o.ok, err = m.SumPiece(shifted{data, off}, o.wrong.piece, make([]byte, 64<<10))
		}
		o.err = err
		j.sink.mu.Lock()
		j.sink.duplicate += int64(len(data))
		j.sink.mu.Unlock()
		t.opinions <- o
	})
}

// standFor lists the hosts that serve the torrent in use.
func (j *job) standFor() []string {
	j.sink.mu.Lock()
	m := j.sink.manifest
	j.sink.mu.Unlock()
	for _, c := range j.torrent.candidates {
		if m != nil && c.manifest.Equal(m) {
			return c.hosts
		}
	}
	return nil
}

// torrentIsAlone reports whether the torrent that no mirror satisfies is what has to give way: mirrors agree against it, or
// nobody but the URL's own host stands for it, whose file is another one, or there is only one, which curl would have
// believed.
func (j *job) torrentIsAlone() bool {
	contradicts := func(m *mirror) bool { return j.isOwn(m) && isWrong(m.last) }
	if len(j.standFor()) == 1 && slices.ContainsFunc(j.mirrors, contradicts) {
		return true
	}
	asked := 0
	sizes := map[int64]bool{}
	for _, m := range j.mirrors {
		var other *otherVersion
		if isWrong(m.last) {
			asked++
			sizes[0] = true
		} else if errors.As(m.last, &other) {
			asked++
			sizes[other.size] = true
		}
	}
	return asked == 1 || j.torrent.agreed || len(j.sink.against()) > 0 || len(sizes) == 1 && !sizes[0]
}

// shifted is data as if it stood at offset from.
type shifted struct {
	data []byte
	from int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.data).ReadAt(p, off-s.from)
}

// heard weighs a second opinion.
func (j *job) heard(ctx context.Context, o opinion) error {
	j.torrent.asking--
	j.sink.mu.Lock()
	same := j.sink.manifest == o.manifest
	j.sink.mu.Unlock()
	switch by := o.asked[len(o.asked)-1]; {
	case !same:
	case o.err != nil:
		j.askFurther(ctx, o)
	case !o.ok && o.hash == o.wrong.hash && j.torrent.sworn == nil:
		j.torrent.agreed = true
		return j.sideWith(ctx, o.accused.feed, by.feed)
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// rejectTorrent goes on without the present torrent, and forgives the mirrors that it accused.
func (j *job) rejectTorrent(ctx context.Context) error {
	s := j.sink
	s.mu.Lock()
	m := s.manifest
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	j.torrent.rejected = append(j.torrent.rejected, m)
	j.leaveSwarm()
	ev := j.snapshot(Retried)
	ev.Source, ev.Message = nameOf(m), "does not fit the file"
	j.event(ev)
	j.pardon()
	return j.startAgain(ctx, func(m *mirror) bool { return isWrong(m.last) || isStale(m.last) })
}

// pardon takes the blame off those who were accused of wrong bytes.
func (j *job) pardon() {
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	for _, m := range j.mirrors {
		if isWrong(m.last) {
			m.feed.blame = ""
		}
	}
}

// salvage verifies what other programs, or an earlier run, left on disk and takes the right pieces.
func (j *job) salvage(ctx context.Context) {
	if !j.local {
		return
	}
	j.local = false
	j.sink.mu.Lock()
	disk := j.sink.feeds[0]
	j.sink.mu.Unlock()
	var readers sync.WaitGroup
	if j.req.Local != nil {
		readers.Go(func() { j.sink.takeFrom(ctx, j.req.Local, math.MaxInt64, disk) })
	}
	for _, path := range []string{j.req.Dest, j.sink.file.Name()} {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		readers.Go(func() {
			defer f.Close()
			if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
				j.sink.takeFrom(ctx, f, info.Size(), disk)
			}
		})
	}
	patience := time.AfterFunc(salvageTime, func() { j.sink.salvage(false) })
	j.workers.Go(func() {
		readers.Wait()
		patience.Stop()
		j.sink.salvage(false)
	})
}

// salvage holds the mirrors back, or no more, while what is on disk is looked through.
func (s *Sink) salvage(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.salvaging = on
	s.wake()
}

// takeFrom copies the pieces that are right in f.
func (s *Sink) takeFrom(ctx context.Context, f io.ReaderAt, size int64, disk *Feed) {
	s.mu.Lock()
	m := s.manifest
	s.mu.Unlock()
	if m == nil {
		return
	}
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for p := range m.Pieces() {
		off, n := int64(p)*m.PieceLength, m.PieceSize(p)
		if ctx.Err() != nil || off+n > size {
			return
		}
		if _, ok, err := m.SumPiece(f, p, *buf); err != nil || !ok {
			continue
		}
		c := s.claimPiece(m, p, disk)
		if c == nil {
			continue
		}
		r := io.NewSectionReader(f, off, n)
		for {
			k, err := r.Read(*buf)
			if k > 0 {
				if _, werr := c.Write((*buf)[:k]); werr != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		c.Close()
	}
}

// claimPiece claims the whole of piece p for f; nil if somebody has or fetches a part of it.
func (s *Sink) claimPiece(m *metainfo.Manifest, p int, f *Feed) *Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifest != m {
		return nil
	}
	lo, hi := s.pieceBlocks(p)
	for b := lo; b < hi; b++ {
		if s.have[b] || s.taken(b) {
			return nil
		}
	}
	return s.claimRange(f, int64(lo)*blockSize, min(int64(hi)*blockSize, s.size), time.Now())
}
