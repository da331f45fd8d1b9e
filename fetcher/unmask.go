package fetcher

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	compareBytes = 1 << 20
	leastDoubt   = time.Second // least time to compare what a digest that gives way does not fit, in all; else as long as the download took
)

// unmask is called when everything is in place and the digest says no. It finds out who lied and gives up what that
// mirror gave. done: the file has been put right.
//
// Three mirrors or more: what one gave is compared with what another gives, until two differ; a third decides. Two: each
// is tried alone.
func (j *job) unmask(ctx context.Context) (done bool, err error) {
	if err := j.callHome(); err != nil {
		return false, err
	}
	s := j.sink
	s.mu.Lock()
	manifest, owners := s.manifest, map[uint16]bool{}
	for _, o := range s.owner {
		owners[o] = true
	}
	s.mu.Unlock()
	if j.torrent.sworn != nil {
		return false, fmt.Errorf("%w: the torrent and the digest are of different files", ErrWrong)
	}
	if manifest != nil {
		j.log.Info("the torrent is of another file than the digest; going on without it")
		return false, j.rejectTorrent(ctx)
	}
	told := !j.expect.digest()
	if owners[0] || !told && !j.req.Expect.digest() { // what an earlier run left, or was told, does not hold any more
		j.forgetEarlier()
		return false, j.startAgain(ctx, func(*mirror) bool { return true })
	}
	if j.only != nil {
		j.accuse(j.only, "its digest differs")
		return false, j.nextAlone(ctx)
	}
	switch {
	case told && j.knownSize() > maxShared:
		j.distrust()
		return true, nil
	case told:
		if !s.shared() {
			s.share(nil) // what is given up is fetched by whoever is asked next
		}
		return j.compare(ctx)
	}
	if len(owners) == 1 {
		for _, m := range j.mirrors {
			if owners[m.feed.index] {
				j.accuse(m, "its digest differs")
			}
		}
		return false, j.startAgain(ctx, func(m *mirror) bool { return isStale(m.last) })
	}
	hosts := map[string]bool{}
	for _, m := range j.usable() {
		hosts[m.feed.host] = true
	}
	if len(hosts) < 3 {
		j.alone = j.suspects()
		return false, j.nextAlone(ctx)
	}
	return j.compare(ctx)
}

// callHome waits until no mirror is at work.
func (j *job) callHome() error {
	for _, m := range j.mirrors {
		if m.state == inUse {
			m.stop()
		}
	}
	for j.working() > 0 {
		if err := j.left(<-j.ended); err != nil {
			return err
		}
	}
	return nil
}

// usable lists the mirrors that may be asked for ranges.
func (j *job) usable() []*mirror {
	var list []*mirror
	for _, m := range j.mirrors {
		if m.state == inReserve && !m.whole {
			list = append(list, m)
		}
	}
	return list
}

// suspects lists the mirrors that have given something, the URL's own first: one of them may be right alone.
func (j *job) suspects() []*mirror {
	var list []*mirror
	for _, m := range j.mirrors {
		if m.feed.placed > 0 && (m.state == inReserve || isWrong(m.last)) {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, j.ownFirst)
	return list
}

// isOwn reports whether m is on the URL's own host.
func (j *job) isOwn(m *mirror) bool { return m.feed.host == hostKey(j.req.URL) }

func (j *job) ownFirst(a, b *mirror) int { return btoi(j.isOwn(b)) - btoi(j.isOwn(a)) }

// accuse sets m aside for what it sent.
func (j *job) accuse(m *mirror, what string) {
	err := &wrongBytes{what: "sent wrong bytes (" + what + ")", piece: -1}
	m.last, m.state = err, setAside
	j.sink.mu.Lock()
	m.feed.blame = err.Error()
	j.sink.mu.Unlock()
	ev := j.snapshot(Retried)
	ev.Source, ev.Message = m.String(), err.Error()
	j.event(ev)
}

// nextAlone tries the next mirror alone, keeping what it gave before.
func (j *job) nextAlone(ctx context.Context) error {
	j.only = nil
	for j.only == nil {
		if len(j.alone) == 0 {
			return j.undecided(ctx)
		}
		if m := j.alone[0]; !j.tried[m] {
			j.only = m
		}
		j.alone = j.alone[1:]
	}
	j.tried[j.only] = true
	j.only.state = inReserve
	for _, m := range j.mirrors {
		if m != j.only {
			j.sink.discard(m.feed, func(int) bool { return false })
		}
	}
	j.crew = crew{want: 1, planned: true}
	return nil
}

// span is a run of blocks that one mirror gave.
type span struct {
	lo, hi int
	owner  uint16
}

type disagreement struct {
	span  span
	by    *mirror
	block int    // the first that differs
	data  []byte // what by sent for the whole span
}

// compare asks other mirrors for what each gave until two differ, and lets a third decide.
func (j *job) compare(ctx context.Context) (done bool, err error) {
	s := j.sink
	if len(j.checked) != len(s.have) {
		j.checked = make([]bool, len(s.have))
	}
	limited, told := ctx, !j.expect.digest()
	if told {
		if j.toldEnds.IsZero() {
			j.toldEnds = time.Now().Add(max(cmp.Or(j.leastDoubt, leastDoubt), time.Since(j.begun)))
		}
		var cancel context.CancelFunc
		limited, cancel = context.WithDeadline(ctx, j.toldEnds)
		defer cancel()
	}
	d, err := j.findDisagreement(limited)
	switch {
	case told && d == nil && (err == nil || limited.Err() != nil && ctx.Err() == nil):
		return j.yield(ctx)
	case err != nil:
		return false, err
	}
	if d == nil { // everything was confirmed: whoever was outvoted may have been right
		for _, m := range j.suspects() {
			if isWrong(m.last) || j.isOwn(m) {
				j.alone = append(j.alone, m)
			}
		}
		return false, j.nextAlone(ctx)
	}
	owner := j.mirrorOf(d.span.owner)
	at := int64(d.block) * blockSize
	where := fmt.Sprintf("at byte %d", at)
	ours := make([]byte, len(d.data))
	from := int64(d.span.lo) * blockSize
	if _, err := s.file.ReadAt(ours, from); err != nil {
		return false, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	// One lie in one place is the usual case: then the other version makes the digest right, and nobody has to be asked.
	if err := j.replace(d.span, d.data, d.by.feed.index); err != nil {
		return false, err
	}
	if ok, err := j.deciding().check(ctx, s.file, s.size); err != nil || ok {
		if ok {
			j.accuse(owner, where)
		}
		return ok, err
	}
	if err := j.replace(d.span, ours, d.span.owner); err != nil {
		return false, err
	}
	n := s.blockLen(d.block)
	theirs, ours := d.data[at-from:][:n], ours[at-from:][:n]
	for _, third := range j.usable() {
		if third.feed.host == owner.feed.host || third.feed.host == d.by.feed.host {
			continue
		}
		data, err := third.read(limited, at, at+n)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			continue
		}
		switch {
		case bytes.Equal(data, theirs):
			j.accuse(owner, where)
			s.discard(owner.feed, func(b int) bool { return j.checked[b] })
			return false, nil
		case bytes.Equal(data, ours):
			j.accuse(d.by, where)
			s.discard(d.by.feed, func(b int) bool { return j.checked[b] })
			return false, nil
		}
	}
	if j.alone = j.suspects(); !slices.Contains(j.alone, d.by) {
		j.alone = append(j.alone, d.by)
	}
	return false, j.nextAlone(ctx)
}

// yield is called when mirrors agree with each other, as far as they could be asked, and not with a digest that only the
// URL's own host told: it gives way, unless somebody has another version, which is tried first. What that host neither
// gave nor confirmed is not taken: mirrors that lie alike do not make its digest wrong.
func (j *job) yield(ctx context.Context) (done bool, err error) {
	s, own := j.sink, slices.ContainsFunc(j.usable(), j.isOwn)
	s.mu.Lock()
	confirmed, owners := true, slices.Clone(s.owner)
	s.mu.Unlock()
	for b := range owners {
		confirmed = confirmed && (own && j.checked[b] || j.isOwn(j.mirrorOf(owners[b])))
	}
	stale := func(m *mirror) bool { return isStale(m.last) }
	if !j.turned && j.blamed(stale) { // what was taken for outdated may be what fits
		j.turned = true
		for _, m := range j.mirrors {
			if slices.Contains(owners, m.feed.index) {
				j.accuse(m, "its digest differs")
			}
		}
		return false, j.startAgain(ctx, stale)
	}
	j.distrust()
	if confirmed && !j.turned {
		return true, nil
	}
	return false, j.asCurlWould(ctx)
}

// asCurlWould starts again with nothing to verify with, at the URL's own host.
func (j *job) asCurlWould(ctx context.Context) error {
	j.pardon()
	slices.SortStableFunc(j.mirrors, j.ownFirst)
	j.only, j.alone = nil, nil
	return j.startAgain(ctx, func(m *mirror) bool { return isWrong(m.last) || isStale(m.last) })
}

// undecided is called when no copy fits what is known. A digest that only the URL's own host told gives way once more.
func (j *job) undecided(ctx context.Context) error {
	wrong := func(m *mirror) bool { return isWrong(m.last) }
	if j.expect.digest() || !j.told.digest() || !j.mismatch || !j.blamed(wrong) {
		return j.verdict()
	}
	j.distrust()
	return j.asCurlWould(ctx)
}

func (j *job) mirrorOf(feed uint16) *mirror {
	i := slices.IndexFunc(j.mirrors, func(m *mirror) bool { return m.feed.index == feed })
	return j.mirrors[i]
}

// replace puts data, which owner gave, into the file.
func (j *job) replace(sp span, data []byte, owner uint16) error {
	s := j.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.WriteAt(data, int64(sp.lo)*blockSize); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	for b := sp.lo; b < sp.hi; b++ {
		off := int64(b-sp.lo) * blockSize
		s.owner[b] = owner
		s.retract(b)
		s.sum[b] = crc32.Checksum(data[off:off+s.blockLen(b)], castagnoli)
		s.journal.blocks(b, s.sum[b:b+1])
	}
	return nil
}

// findDisagreement compares until two mirrors differ. nil: all that could be compared agrees. If only the URL's own host
// told the digest, everything is compared with what that host gives.
func (j *job) findDisagreement(ctx context.Context) (*disagreement, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var found *disagreement
	var failed error
	todo, usable := j.spans(), j.usable()
	slices.SortStableFunc(usable, j.ownFirst)
	withOwn := !j.expect.digest() && len(usable) > 0 && j.isOwn(usable[0])
	fits := func(m, owner *mirror) bool {
		return m.feed.host != owner.feed.host && (!withOwn || j.isOwn(m) || j.isOwn(owner))
	}
	var wg sync.WaitGroup
	for i, m := range usable {
		if i == max(j.maxMirrors(), 2) {
			break
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				mu.Lock()
				i := slices.IndexFunc(todo, func(sp span) bool { return fits(m, j.mirrorOf(sp.owner)) })
				if i < 0 || found != nil || failed != nil {
					mu.Unlock()
					return
				}
				sp := todo[i]
				todo = slices.Delete(todo, i, i+1)
				mu.Unlock()
				d, err := j.compareSpan(ctx, m, sp)
				mu.Lock()
				switch {
				case err != nil && errors.Is(err, ErrWrite):
					failed = err
				case err != nil:
					if isStale(err) && !j.expect.digest() {
						m.last, m.state = err, setAside // see yield
					}
					todo = append(todo, sp)
					mu.Unlock()
					return
				case d != nil && found == nil:
					found = d
					cancel()
				case d == nil:
					for b := sp.lo; b < sp.hi; b++ {
						j.checked[b] = true
					}
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if found == nil && failed == nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return found, failed
}

// spans lists what is to be compared, in random order.
func (j *job) spans() []span {
	s := j.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []span
	for b := 0; b < len(s.have); b++ {
		if j.checked[b] {
			continue
		}
		n := len(list)
		if n > 0 && list[n-1].hi == b && list[n-1].owner == s.owner[b] && b-list[n-1].lo < compareBytes/blockSize {
			list[n-1].hi = b + 1
			continue
		}
		list = append(list, span{b, b + 1, s.owner[b]})
	}
	rand.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
	return list
}

func (j *job) compareSpan(ctx context.Context, m *mirror, sp span) (*disagreement, error) {
	s := j.sink
	from, to := int64(sp.lo)*blockSize, min(int64(sp.hi)*blockSize, s.size)
	data, err := m.read(ctx, from, to)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.duplicate += int64(len(data))
	s.mu.Unlock()
	ours := make([]byte, len(data))
	if _, err := s.file.ReadAt(ours, from); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	for off := 0; off < len(data); off += blockSize {
		end := min(off+blockSize, len(data))
		if !bytes.Equal(ours[off:end], data[off:end]) {
			return &disagreement{sp, m, sp.lo + off/blockSize, data}, nil
		}
	}
	return nil, nil
}

// read fetches a range into memory, outside the Sink's books but counted in the mirror's.
func (m *mirror) read(ctx context.Context, from, to int64) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := time.AfterFunc(m.job.stall, cancel)
	defer watch.Stop()
	s := m.feed.s
	s.mu.Lock()
	m.feed.requests++
	s.mu.Unlock()
	res, err := m.job.client.get(ctx, m.url, func(h http.Header) { h.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1)) })
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	size, at, err := m.examine(res, true, from, to)
	if err != nil {
		return nil, err
	}
	if known := m.job.knownSize(); size >= 0 && size != known {
		return nil, anotherSize(size, known)
	}
	if at != from || res.StatusCode != http.StatusPartialContent {
		return nil, errNoRanges
	}
	data := make([]byte, to-from)
	for n := 0; n < len(data); {
		k, err := res.Body.Read(data[n:min(n+32<<10, len(data))])
		n += k
		s.mu.Lock()
		m.feed.bytes += int64(k)
		s.received += int64(k)
		s.mu.Unlock()
		if m.job.limit != nil && k > 0 {
			watch.Stop()
			for left := k; left > 0; left -= m.job.limit.Burst() {
				if err := m.job.limit.WaitN(ctx, min(left, m.job.limit.Burst())); err != nil {
					return nil, err
				}
			}
		}
		watch.Reset(m.job.stall)
		if err != nil && n < len(data) {
			if err == io.EOF {
				err = errShort
			}
			return nil, err
		}
	}
	return data, nil
}
