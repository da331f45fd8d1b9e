package fetcher

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// Load reads what is at u into memory, most bytes at most: a metalink, for instance. A redirect is followed under the
// same rules as Fetch's. The error wraps ErrNotFound if the server says that nothing is there.
func (f *Fetcher) Load(ctx context.Context, u *url.URL, most int64) ([]byte, error) {
	c := newClient(f, Request{URL: u})
	defer c.close()
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, ErrTimeout)
	defer cancel()
	data, err := c.load(ctx, u, most)
	var status *statusError
	switch {
	case err == nil:
		return data, nil
	case errors.Is(context.Cause(ctx), ErrTimeout):
		return nil, fmt.Errorf("%w after %v", ErrTimeout, loadTimeout)
	case errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusGone):
		err = fmt.Errorf("%w: %s", ErrNotFound, reason(err))
	default:
		err = errors.New(reason(err))
	}
	return nil, fmt.Errorf("%s: %w", clean(u.Host), err)
}

// load reads what is at u. Anything but 200 is a statusError.
func (c *client) load(ctx context.Context, u *url.URL, most int64) ([]byte, error) {
	res, err := c.get(ctx, u, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, &statusError{code: res.StatusCode}
	}
	tooLong := fmt.Errorf("%w (more than %d bytes)", errTooLong, most)
	if res.ContentLength > most {
		return nil, tooLong
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err == nil && int64(len(data)) > most {
		err = tooLong
	}
	return data, err
}

// describing returns what a metalink says of the file called name: its only file, or the one of that name.
func describing(data []byte, name string) (*metalink.File, error) {
	doc, err := metalink.Parse(data)
	if err != nil {
		return nil, err
	}
	for i := range doc.Files {
		if f := &doc.Files[i]; len(doc.Files) == 1 || path.Base(f.Name) == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%w: none of its %d files is called %.100q", metalink.ErrUnusable, len(doc.Files), name)
}

// expectOf is what f says of the whole file.
func expectOf(f *metalink.File) Expect {
	return Expect{Size: max(f.Size, 0), SHA256: f.SHA256, SHA512: f.SHA512}
}

// manifestOf makes a manifest of the pieces of f. nil: they are of no use.
func manifestOf(f *metalink.File) *metainfo.Manifest {
	kind := crypto.SHA1
	if f.Pieces.Kind == metalink.SHA256 {
		kind = crypto.SHA256
	}
	m, err := metainfo.FromPieces(f.Size, f.Pieces.Length, kind, f.Pieces.Hashes)
	if err != nil || m.Pieces() == 0 || m.Size > maxShared {
		return nil
	}
	return m
}

// swear takes what a metalink that the user named says for the user's own word.
func (j *job) swear(f *metalink.File) error {
	e := expectOf(f)
	if !e.agrees(j.req.Expect) {
		return fmt.Errorf("%w: the metalink is of a file of another size or digest than the one asked for", ErrRequest)
	}
	j.req.Expect = j.req.Expect.merge(e)
	j.metalink = true
	if j.torrent.sworn == nil {
		j.torrent.sworn = manifestOf(f)
	}
	return nil
}

// swearLate does so while the download goes on already.
func (j *job) swearLate(ctx context.Context, f *metalink.File) error {
	if err := j.swear(f); err != nil {
		return err
	}
	j.torrent.swears = false
	again := !j.expect.agrees(j.req.Expect)
	if again {
		j.resumed, j.expect = 0, j.req.Expect
	}
	j.expect = j.expect.merge(j.req.Expect)
	j.noteExpect()
	j.addNamed(urlsOf(f.URLs), false)
	size := j.knownSize()
	switch {
	case j.torrent.sworn != nil:
		return j.adopt(ctx, j.torrent.sworn)
	case again || j.expect.Size > 0 && size >= 0 && size != j.expect.Size:
		if err := j.startAgain(ctx, func(m *mirror) bool { return isWrong(m.last) || isStale(m.last) }); err != nil {
			return err
		}
	case !j.sink.shared():
		if err := j.begin(ctx); err != nil {
			return err
		}
	}
	j.askTorrents(ctx, urlsOf(f.Torrents))
	return nil
}

// noteExpect lets a later run know what is known now.
func (j *job) noteExpect() {
	s := j.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		s.journal.expect = j.expect
		s.journal.header(s)
	}
}

// believe takes what a metalink that the URL's own host named says for that host's word.
func (j *job) believe(ctx context.Context, f *metalink.File) {
	e, size := expectOf(f), j.knownSize()
	if !e.agrees(j.expect) || !e.agrees(j.told) || size >= 0 && f.Size >= 0 && f.Size != size {
		j.log.Info("metalink not used: it is of another file")
		return
	}
	j.log.Info("metalink found", "mirrors", len(f.URLs), "pieces", f.Pieces.Kind)
	j.metalink = true
	j.addNamed(urlsOf(f.URLs), false)
	if e.digest() && !j.expect.digest() && !j.told.digest() {
		j.tell(Expect{SHA256: e.SHA256, SHA512: e.SHA512})
	}
	if m := manifestOf(f); m != nil {
		j.addCandidate(m, hostKey(j.req.URL))
		return
	}
	j.askTorrents(ctx, urlsOf(f.Torrents))
}

// heedDescriptions is told which torrent and metalink of the file the URL's own host named; nil: none.
func (j *job) heedDescriptions(ctx context.Context, torrent, described *url.URL) {
	t := &j.torrent
	if t.sworn != nil || t.swears || len(j.req.Torrent.URLs) == 0 {
		return
	}
	t.described = described
	if torrent != nil && !j.hasTorrent() {
		j.askTorrents(ctx, []*url.URL{torrent})
	}
	j.askDescribed(ctx)
}

// askTorrents asks for torrents that the URL's own host, or a metalink, named.
func (j *job) askTorrents(ctx context.Context, list []*url.URL) {
	t := &j.torrent
	var places []place
	for _, u := range list {
		if namable(u) && j.client.allows(u) && !t.known[resourceOf(u)] {
			places = append(places, place{u, true})
		}
	}
	t.queue = append(places, t.queue...)
	for range min(len(places), torrentsAtOnce) {
		j.askTorrent(ctx)
	}
}

// askDescribed asks for the metalink that the URL's own host named, if there is no torrent and enough to fetch.
func (j *job) askDescribed(ctx context.Context) {
	t := &j.torrent
	u := t.described
	if size := j.knownSize(); u == nil || t.pending > 0 || j.hasTorrent() || size >= 0 && size < bytesPerMirror || !j.client.allows(u) {
		return
	}
	t.described = nil
	t.pending++
	name := baseName(j.req.URL)
	j.workers.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, torrentTimeout)
		defer cancel()
		a := torrentAnswer{url: u, isMetalink: true}
		var data []byte
		if data, a.err = j.client.load(ctx, u, metalink.MaxSize); a.err == nil {
			a.metalink, a.err = describing(data, name)
		}
		t.answers <- a
	})
}

func urlsOf(list []metalink.URL) (urls []*url.URL) {
	for _, l := range list {
		if u, err := url.Parse(l.URL); err == nil {
			urls = append(urls, u)
		}
	}
	return urls
}
