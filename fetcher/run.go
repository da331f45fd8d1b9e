package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// How many mirrors work on one file.
const (
	bytesPerMirror = 1 << 20                // below this much work a further mirror is not worth its request
	firstCrew      = 4                      // until speeds are known
	shortWork      = 500 * time.Millisecond // no more mirrors for what ends sooner
	farOff         = 20 * time.Second       // an end so far away is no matter of start-up
	settle         = 100 * time.Millisecond // after which newcomers are judged, besides two first-byte times
	holdGrowth     = 3 * time.Second        // after newcomers added nothing
	lateUnknown    = 400 * time.Millisecond // first byte of a plain download from a host nobody knows
	latePlain      = 3                      // plain requests racing at most
	idleTooLong    = 3 * time.Second        // silence of one mirror while others could do its work
	maxShared      = 64 << 30               // bytes; the books of a larger file would cost too much memory: it comes from one mirror
	longestWait    = time.Minute            // for a mirror that asks for patience, if there is no other
)

var (
	errSilent  = &stalled{"stalled"}
	errUseless = &badAnswer{"can give nothing that is still missing"}
	errSlow    = &stalled{"was too slow"}
)

// crew is how many mirrors are wanted, and how that was found out.
type crew struct {
	want    int
	grown   time.Time
	before  float64 // bytes/s when it last grew
	hold    time.Time
	planned bool
	hedged  time.Time
	rotated time.Time
}

// muster lists the mirrors, best first: those that failed lately last, those known to be quick before the unknown.
func (j *job) muster() {
	var urls []*urlRank
	if j.req.URL.Host != "" {
		urls = append(urls, &urlRank{url: j.req.URL})
	}
	for _, u := range j.req.Mirrors {
		if u != nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			urls = append(urls, &urlRank{url: u})
		}
	}
	best := 0.0
	for _, r := range urls {
		r.stat = j.Hosts.get(hostKey(r.url))
		best = max(best, r.stat.Speed)
	}
	for _, r := range urls {
		switch {
		case r.stat.Failures > 0:
			r.class = 3
		case r.stat.Speed > 0 && r.stat.Speed < best/4:
			r.class = 2
		case r.stat.Speed == 0 && r.url != j.req.URL:
			r.class = 1
		}
	}
	if !j.req.Volatile {
		slices.SortStableFunc(urls, func(a, b *urlRank) int { return a.class - b.class })
	} else { // copies of a volatile file differ: the caller's order counts, but for dead hosts
		slices.SortStableFunc(urls, func(a, b *urlRank) int { return a.class/3 - b.class/3 })
	}
	for _, r := range urls {
		j.addMirror(r)
	}
	j.crew.want = 1
}

type urlRank struct {
	url   *url.URL
	stat  hostStat
	class int
}

func (j *job) addMirror(r *urlRank) {
	for _, m := range j.mirrors {
		if resourceOf(m.url) == resourceOf(r.url) {
			return
		}
	}
	m := &mirror{url: r.url, job: j, feed: j.sink.open(redacted(r.url), hostKey(r.url))}
	m.feed.prior, m.feed.usual = r.stat.Speed, r.stat.FirstByte
	j.mirrors = append(j.mirrors, m)
}

// run fills the Sink. It returns nil when all is in place and verified as far as can be.
func (j *job) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		j.settleUp(err)
	}()
	if j.resumed == 0 || !j.sink.shared() || j.torrent.sworn != nil {
		if err := j.begin(ctx); err != nil {
			return err
		}
	}
	if err := j.staff(ctx); err != nil {
		return err
	}
	j.seekTorrent(ctx)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		full, complete := j.sink.Full(), false
		select {
		case <-full:
			complete = true
			if j.waitsForTorrent() {
				full = j.grace()
			}
		default:
		}
		if j.torrent.asking > 0 || j.torrent.dispute != nil {
			full = nil
		}
		select {
		case <-full:
			if !complete && j.waitsForTorrent() {
				continue
			}
			done, err := j.whole(ctx)
			if done || err != nil {
				return err
			}
		case e := <-j.ended:
			if e.epoch != j.epoch && (isWrong(e.err) || isStale(e.err)) {
				e.err = errLost // it speaks of what has been given up since
			}
			if err := j.left(e); err != nil {
				return err
			}
			if err := j.weighSize(ctx, e); err != nil {
				return err
			}
			j.askOpinion(ctx, e)
		case h := <-j.said:
			if err := j.heed(ctx, h); err != nil {
				return err
			}
		case a := <-j.torrent.answers:
			if err := j.answered(ctx, a); err != nil {
				return err
			}
		case o := <-j.torrent.opinions:
			if err := j.heard(ctx, o); err != nil {
				return err
			}
		case err := <-j.company.ended:
			j.parted(err)
		case <-j.sink.doubted:
			if err := j.doubt(ctx); err != nil {
				return err
			}
		case <-tick.C:
			j.look(time.Now())
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := j.staff(ctx); err != nil {
			return err
		}
	}
}

// whole is asked when the Sink is full: does the digest agree?
func (j *job) whole(ctx context.Context) (done bool, err error) {
	if news, err := j.hear(ctx); news || err != nil {
		return false, err
	}
	want := j.deciding()
	if !want.digest() || !j.expect.digest() && j.sink.verifies() { // the torrent says no less than that host
		return true, nil
	}
	ok, err := want.check(ctx, j.sink.file, j.knownSize())
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrWrite, err)
	case ok:
		return true, nil
	}
	j.mismatch = true
	return j.unmask(ctx)
}

// settleUp waits until nothing writes any more and tells the memory of hosts what was learned.
func (j *job) settleUp(err error) {
	go func() {
		for range j.ended {
		}
	}()
	j.workers.Wait()
	close(j.ended)
	j.sink.stopHashing()
	if errors.Is(err, context.Canceled) {
		return
	}
	j.rememberTorrents()
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	for _, m := range j.mirrors {
		host := hostKey(m.url)
		var status *statusError
		switch {
		case m.feed.requests == 0:
		case m.feed.blame == "" && m.feed.bytes > 0:
			speed := m.feed.rate
			if m.feed.bytes < probeBytes {
				speed = 0
			}
			j.Hosts.succeeded(host, speed, m.feed.firstByte)
		case errors.As(m.last, &status) && status.code < 500:
		case m.feed.blame != "" && m.feed.bytes == 0:
			j.Hosts.failed(host)
		}
	}
}

// working counts the mirrors in use.
func (j *job) working() (n int) {
	for _, m := range j.mirrors {
		if m.state == inUse {
			n++
		}
	}
	return n
}

// staff puts as many mirrors to work as are wanted. Its error is final: nothing is left to try.
func (j *job) staff(ctx context.Context) error {
	j.sink.mu.Lock()
	failed, shared, lead, size := j.sink.failed, j.sink.many, j.sink.lead != nil, j.sink.size
	full := j.sink.isFull()
	j.sink.mu.Unlock()
	if failed != nil {
		return failed
	}
	if full {
		return nil
	}
	if !shared && size >= 0 && j.deciding().digest() && len(j.mirrors) > 1 && size >= bytesPerMirror && size <= maxShared {
		j.sink.share(nil) // the first answer told the size
		shared = true
	}
	now := time.Now()
	want := 1
	if shared {
		want = j.crewSize(now)
	} else if n := j.working(); n > 0 && !lead && n < min(latePlain, j.maxMirrors()) && now.Sub(j.crew.hedged) > j.patience() {
		want = n + 1
	}
	for n := j.working(); n < want; n++ {
		m := j.next(now)
		if m == nil {
			break
		}
		j.hire(ctx, m, now)
	}
	if j.working() == 0 && !j.patient() && !j.countsOnPeers(now) {
		return j.exhausted(ctx)
	}
	return nil
}

// patience is how long a plain download waits for its first byte before another mirror is asked as well.
func (j *job) patience() time.Duration {
	longest := time.Duration(0)
	for _, m := range j.mirrors {
		if m.state == inUse {
			usual := m.feed.usual
			if usual == 0 {
				return lateUnknown
			}
			longest = max(longest, 2*usual)
		}
	}
	return max(longest, 20*time.Millisecond)
}

func (j *job) hire(ctx context.Context, m *mirror, now time.Time) {
	mctx, stop := context.WithCancel(ctx)
	m.state, m.stop, m.hired = inUse, stop, now
	if m.begun.IsZero() {
		m.begun = now
	}
	j.crew.hedged = now
	m.feed.join()
	epoch := j.epoch
	j.workers.Add(1)
	go func() {
		defer j.workers.Done()
		defer stop()
		err := m.Fill(mctx, j.sink)
		m.feed.leave(err)
		j.ended <- exit{m, err, epoch}
	}()
}

// available counts the mirrors that work or could.
func (j *job) available(now time.Time) (n int) {
	for _, m := range j.mirrors {
		if m.state == inUse || m.state == inReserve && !now.Before(m.until) {
			n++
		}
	}
	return n
}

// next is the best mirror that may be asked now.
func (j *job) next(now time.Time) *mirror {
	for _, m := range j.mirrors {
		if m.state == inReserve && !now.Before(m.until) && (j.only == nil || j.only == m) {
			return m
		}
	}
	return nil
}

// patient reports whether some mirror is going to be asked later.
func (j *job) patient() bool {
	for _, m := range j.mirrors {
		if m.state == inReserve && (j.only == nil || j.only == m) {
			return true
		}
	}
	return false
}

func (j *job) maxMirrors() int {
	if j.MaxMirrors > 0 {
		return j.MaxMirrors
	}
	return defaultMaxMirrors
}

// crewSize is how many mirrors should share the work now.
func (j *job) crewSize(now time.Time) int {
	limit := j.maxMirrors()
	s := j.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	remaining, _, total, n := s.outlook(now)
	c := &j.crew
	s.growing = c.want < limit && j.available(now) > c.want && !now.Before(c.hold)
	if !c.planned {
		c.planned = true
		c.want = min(max(int((remaining+bytesPerMirror-1)/bytesPerMirror), 1), firstCrew)
		if j.limit != nil {
			c.want = 1 // one may well do
		}
		c.grown = now
		s.growing = c.want < limit && j.available(now) > c.want
		return min(c.want, limit)
	}
	if c.want >= limit || n < min(c.want, limit) || now.Before(c.hold) || total <= 0 {
		return min(c.want, limit)
	}
	wait := time.Duration(0)
	for _, f := range s.feeds {
		if f.active {
			wait = max(wait, 2*f.delay())
		}
	}
	left := time.Duration(remaining / total * float64(time.Second))
	switch {
	case c.before > 0:
		wait += settle // newcomers have to show what they add
	case left > farOff:
		wait /= 4
	}
	if now.Sub(c.grown) < min(wait, time.Second) {
		return c.want
	}
	if left < shortWork || j.limit != nil && total > 0.9*float64(j.limit.Limit()) {
		return c.want
	}
	if c.before > 0 && total < 1.25*c.before {
		c.hold, c.before = now.Add(holdGrowth), 0
		return c.want
	}
	c.before, c.grown = total, now
	if left > 4*shortWork {
		c.want *= 4
	} else {
		c.want *= 2
	}
	return min(c.want, limit)
}

// look watches over the crew: it sends the silent and the hopelessly slow away if somebody else can do their work, and
// tells how far things are.
func (j *job) look(now time.Time) {
	s := j.sink
	reserve := j.next(now)
	s.mu.Lock()
	var busy, slowest *mirror
	remaining, mean, total, n := s.outlook(now)
	for _, m := range j.mirrors {
		f := m.feed
		if m.state != inUse || f.claim == nil || f.banned != nil {
			continue
		}
		quiet := f.claim.quiet(now)
		if quiet < time.Second && f.speed(now) > 0 {
			busy = m
		}
		if f.rate > 0 && now.Sub(m.hired) > 2*time.Second && (slowest == nil || f.speed(now) < slowest.feed.speed(now)) {
			slowest = m
		}
	}
	for _, m := range j.mirrors {
		f := m.feed
		if m.state != inUse || f.claim == nil || f.banned != nil {
			continue
		}
		quiet := f.claim.quiet(now)
		if quiet > idleTooLong && (busy != nil && busy != m || reserve != nil && reserve != m) {
			f.ban(errSilent)
		}
	}
	switch {
	case reserve == nil || slowest == nil || slowest.feed.banned != nil || j.limit != nil:
	case !s.many:
		if v := slowest.feed.speed(now); s.lead != nil && slowest.chances == 0 && v < 20<<10 && remaining > 30*v {
			slowest.feed.ban(errSlow)
		}
	case n >= j.crew.want && reserve.chances == 0 && slowest.feed.speed(now) < mean/4 && remaining > 5*total && now.Sub(j.crew.rotated) > time.Second:
		j.crew.rotated = now
		slowest.feed.ban(errSlow)
	}
	if s.many && n > 0 && len(s.claims) == 0 && s.pending == 0 && !s.isFull() && !s.salvaging && now.Sub(s.gotAt) > stuckAfter+j.stall {
		for _, m := range j.mirrors { // all wait for each other, or for what nobody else can give
			if m.state == inUse {
				m.feed.ban(errUseless)
			}
		}
	}
	size, received := s.size, s.received
	s.mu.Unlock()
	if !j.started && (size >= 0 || received > 0) {
		j.started = true
		j.event(j.snapshot(Started))
	}
	if now.Sub(j.reported) >= progressEvery && j.started {
		j.reported = now
		j.event(j.snapshot(Progress))
	}
}

// left decides what becomes of a mirror that has stopped working, and why it did.
func (j *job) left(e exit) error {
	m, err := e.m, e.err
	now := time.Now()
	m.state = inReserve
	var (
		status  *statusError
		wrong   *wrongBytes
		other   *otherVersion
		bad     *badAnswer
		silent  *stalled
		dns     *net.DNSError
		network net.Error
	)
	switch {
	case err == nil, errors.Is(err, errLost), errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, errNotModified):
		return err
	case errors.Is(err, ErrWrite):
		return err
	}
	m.last = err
	gave := j.gave(m)
	again, pause := false, 100*time.Millisecond<<min(m.chances, 6)
	switch {
	case errors.As(err, &status) && j.req.Volatile: // whoever asked is told at once
	case errors.As(err, &status):
		switch status.code {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			again, pause = m.chances < 3, 500*time.Millisecond<<m.chances
			if wait := status.again.Sub(now); !status.again.IsZero() {
				pause = max(wait, 0)
				again = again && wait <= longestWait
			}
		}
	case errors.As(err, &wrong), errors.As(err, &other): // the same again would come
	case errors.As(err, &bad):
		switch {
		case errors.Is(err, errNoRanges) && !m.whole:
			m.whole = true
			j.sink.mu.Lock()
			m.feed.whole = true
			j.sink.mu.Unlock()
			again, pause = true, 0
		}
	case errors.As(err, &silent):
		again = m.chances < 2
	case errors.As(err, &dns):
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errShort):
		again = m.chances < 5
	case errors.As(err, &network):
		again = m.chances < 6 && gave > 0
	}
	text := reason(err)
	j.sink.mu.Lock()
	m.feed.blame = text
	j.sink.mu.Unlock()
	j.log.Debug("mirror set aside", "mirror", m.String(), "why", text, "again", again)
	if again {
		m.chances++
		m.until = now.Add(pause)
		j.last(m)
	} else {
		m.state = setAside
	}
	ev := j.snapshot(Retried)
	ev.Source, ev.Message = m.String(), text
	j.event(ev)
	return nil
}

// weighSize drops what the size was taken from, a torrent or the first answer, once two hosts agree on another size.
func (j *job) weighSize(ctx context.Context, e exit) error {
	var other *otherVersion
	if !errors.As(e.err, &other) || other.size == 0 || j.expect.Size > 0 || j.torrent.sworn != nil || j.knownSize() == other.size {
		return nil
	}
	if j.sizes[other.size] == nil {
		j.sizes[other.size] = map[string]bool{}
	}
	j.sizes[other.size][e.m.feed.host] = true
	if len(j.sizes[other.size]) < max(2, len(j.standFor())) {
		return nil
	}
	if j.sink.verifies() {
		return j.rejectTorrent(ctx)
	}
	return j.startAgain(ctx, func(m *mirror) bool {
		var o *otherVersion
		return errors.As(m.last, &o) && o.size == other.size
	})
}

// gave returns the bytes that m has delivered since it was last asked about; a mirror that delivers is forgiven.
func (j *job) gave(m *mirror) int64 {
	j.sink.mu.Lock()
	defer j.sink.mu.Unlock()
	n := m.feed.placed
	if n-m.forgiven >= probeBytes {
		m.chances = 0
	}
	m.forgiven = n
	return n
}

// last moves m behind the mirrors that have not failed yet.
func (j *job) last(m *mirror) {
	i := slices.Index(j.mirrors, m)
	j.mirrors = append(slices.Delete(j.mirrors, i, i+1), m)
}

// exhausted is called when no mirror is at work and none is left to try. It finds another way or returns the final error.
func (j *job) exhausted(ctx context.Context) error {
	if news, err := j.hear(ctx); news || err != nil {
		return err
	}
	if j.torrent.pending > 0 || j.torrent.asking > 0 {
		return nil // a torrent may name mirrors that work
	}
	if j.only != nil {
		return j.nextAlone(ctx)
	}
	j.sink.mu.Lock()
	none := j.sink.manifest != nil && j.sink.good == 0 && j.resumed == 0
	j.sink.mu.Unlock()
	doubtful := func(m *mirror) bool { return isWrong(m.last) || isStale(m.last) }
	if none && j.torrent.sworn == nil && j.blamed(doubtful) && j.torrentIsAlone() {
		j.log.Info("no mirror has the file of the torrent; going on without it")
		slices.SortStableFunc(j.mirrors, j.ownFirst)
		return j.rejectTorrent(ctx)
	}
	if j.resumed > 0 && j.blamed(doubtful) {
		j.log.Info("what an earlier run left does not fit; starting again")
		j.forgetEarlier()
		return j.startAgain(ctx, doubtful)
	}
	stale := func(m *mirror) bool { return isStale(m.last) }
	if !j.sink.shared() && j.sink.plainPos() > 0 && j.blamed(stale) {
		return j.startAgain(ctx, stale)
	}
	page := func(m *mirror) bool { return errors.Is(m.last, errWebPage) && !m.webPage }
	if j.blamed(page) { // nobody has anything better
		for _, m := range j.mirrors {
			if page(m) {
				m.webPage, m.state = true, inReserve
			}
		}
		return nil
	}
	return j.undecided(ctx)
}

// forgetEarlier gives up what an earlier run left and knew.
func (j *job) forgetEarlier() {
	j.resumed, j.expect = 0, j.req.Expect
	if !j.toldNow {
		j.tell(Expect{})
	}
}

func (s *Sink) plainPos() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plain
}

func isWrong(err error) bool { var w *wrongBytes; return errors.As(err, &w) }
func isStale(err error) bool { var o *otherVersion; return errors.As(err, &o) }

func (j *job) blamed(f func(*mirror) bool) bool { return slices.ContainsFunc(j.mirrors, f) }

// startAgain forgets all bytes and gives the mirrors that f picks another chance.
func (j *job) startAgain(ctx context.Context, f func(*mirror) bool) error {
	j.restart(j.startSize())
	j.crew, j.checked, j.torrent.agreed = crew{want: 1}, nil, false
	if jn := j.sink.journal; jn != nil {
		jn.expect = j.expect
	}
	j.forgive(f)
	return j.begin(ctx)
}

// forgive gives the mirrors that f picks another chance.
func (j *job) forgive(f func(*mirror) bool) {
	for _, m := range j.mirrors {
		if m.state == setAside && f(m) {
			m.state, m.last = inReserve, nil
		}
	}
}

func (j *job) restart(size int64) {
	j.epoch++
	j.sink.restart(size)
}

func (j *job) startSize() int64 {
	if j.expect.Size > 0 {
		return j.expect.Size
	}
	return -1
}

// begin shares the work if there is something to verify against from the start.
func (j *job) begin(ctx context.Context) error {
	j.sink.mu.Lock()
	if size := j.startSize(); size >= 0 && j.sink.size < 0 {
		j.sink.setSize(size)
	}
	j.sink.mu.Unlock()
	switch {
	case j.torrent.sworn != nil:
		return j.adopt(ctx, j.torrent.sworn)
	case j.expect.digest() && j.expect.Size > 0 && j.expect.Size <= maxShared:
		j.sink.share(nil)
	}
	j.choose(ctx)
	return nil
}

// verdict sums up why there is no file.
func (j *job) verdict() error {
	var missing, wrong, late, other int
	var first error
	for _, m := range j.mirrors {
		var status *statusError
		var version *otherVersion
		var silent *stalled
		var network net.Error
		err := m.last
		switch {
		case err == nil:
			continue
		case errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusGone):
			missing++
		case isWrong(err), errors.As(err, &version), errors.Is(err, errWebPage):
			wrong++
		case errors.As(err, &silent), errors.As(err, &network) && network.Timeout():
			late++
		default:
			other++
		}
		if first == nil || m.url == j.req.URL {
			first = fmt.Errorf("%s: %s", clean(m.url.Host), reason(err))
		}
	}
	asked := ""
	if n := missing + wrong + late + other; n > 1 {
		asked = fmt.Sprintf(" (and %d more mirrors asked)", n-1)
	}
	switch {
	case wrong > 0:
		return fmt.Errorf("%w: %w%s", ErrWrong, first, asked)
	case missing > 0:
		return fmt.Errorf("%w: %w%s", ErrNotFound, first, asked)
	case late > 0 && other == 0:
		return fmt.Errorf("%w: %w%s", ErrTimeout, first, asked)
	case j.mismatch:
		return fmt.Errorf("%w: the digest is of another file", ErrWrong)
	case first != nil:
		return fmt.Errorf("%w%s", first, asked)
	}
	if len(j.mirrors) == 0 {
		return fmt.Errorf("%w: no peer was found who has it", ErrNotFound)
	}
	return fmt.Errorf("%w: no mirror could be asked", ErrNotFound)
}
