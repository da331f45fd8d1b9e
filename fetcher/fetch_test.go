package fetcher

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

const testName = "foo-1.0-1-x86_64.pkg.tar.zst"
const testPath = "/core/os/x86_64/" + testName

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1, 2, 3})
	r.Read(b)
	return b
}

// v1Torrent is a minimal torrent of data.
func v1Torrent(name string, data []byte, pieceLength int, more string) []byte {
	var pieces []byte
	for off := 0; off < len(data); off += pieceLength {
		sum := sha1.Sum(data[off:min(off+pieceLength, len(data))])
		pieces = append(pieces, sum[:]...)
	}
	info := fmt.Sprintf("d6:lengthi%de4:name%d:%s12:piece lengthi%de6:pieces%d:%se", len(data), len(name), name, pieceLength, len(pieces), pieces)
	return []byte("d4:info" + info + more + "e")
}

// world is a set of mirrors and a place to download to.
type world struct {
	*testing.T
	data    []byte
	torrent []byte // nil: none
	mirrors []*mirrortest.Server
	dir     string
	fetcher Fetcher
	request Request
	events  []Event
}

func newWorld(t *testing.T, size int) *world {
	w := &world{T: t, data: randomBytes(size), dir: t.TempDir()}
	w.fetcher.StallTimeout = 2 * time.Second
	w.fetcher.OnEvent = func(e Event) { w.events = append(w.events, e) }
	return w
}

func (w *world) withTorrent(pieceLength int) *world {
	w.torrent = v1Torrent(testName, w.data, pieceLength, "")
	return w
}

func (w *world) withDigest() *world {
	sum := sha256.Sum256(w.data)
	w.request.Expect = Expect{Size: int64(len(w.data)), SHA256: sum[:]}
	return w
}

// mirror adds one that holds the file, and the torrent if there is one.
func (w *world) mirror(cfg mirrortest.Config) *mirrortest.Server {
	w.Helper()
	if cfg.Files == nil {
		cfg.Files = map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data)}
		if w.torrent != nil {
			cfg.Files[testPath+".torrent"] = mirrortest.Bytes(w.torrent)
		}
	}
	s, err := mirrortest.Start(cfg)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(s.Close)
	w.mirrors = append(w.mirrors, s)
	return s
}

func mustURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

func (w *world) prepare() Request {
	req := w.request
	req.Dest = filepath.Join(w.dir, testName)
	req.URL, req.Mirrors, req.Torrent.URLs = nil, nil, nil
	for _, m := range w.mirrors {
		u := mustURL(m.URL(testPath))
		if req.URL == nil {
			req.URL = u
		} else {
			req.Mirrors = append(req.Mirrors, u)
		}
		req.Torrent.URLs = append(req.Torrent.URLs, mustURL(m.URL(testPath+".torrent")))
	}
	return req
}

func (w *world) fetch() (*Result, error) {
	ctx, cancel := context.WithTimeout(w.Context(), 60*time.Second)
	defer cancel()
	return w.fetcher.Fetch(ctx, w.prepare())
}

// mustFetch fetches and checks that the file is right and nothing else was left.
func (w *world) mustFetch() *Result {
	w.Helper()
	res, err := w.fetch()
	if err != nil {
		w.Fatalf("Fetch: %v\n%s", err, w.describe(res))
	}
	w.checkRight(res)
	return res
}

func (w *world) checkRight(res *Result) {
	w.Helper()
	got, err := os.ReadFile(filepath.Join(w.dir, testName))
	if err != nil {
		w.Fatal(err)
	}
	if !bytes.Equal(got, w.data) {
		w.Fatalf("wrong content: %d bytes of %d\n%s", len(got), len(w.data), w.describe(res))
	}
	w.checkOnly(testName)
}

func (w *world) checkOnly(names ...string) {
	w.Helper()
	entries, _ := os.ReadDir(w.dir)
	var there []string
	for _, e := range entries {
		there = append(there, e.Name())
	}
	if strings.Join(there, " ") != strings.Join(names, " ") {
		w.Errorf("in the directory: %q, want %q", there, names)
	}
}

func (w *world) describe(res *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "received %d duplicate %d resumed %d verified %q\n", res.Received, res.Duplicate, res.Resumed, res.Verified)
	for _, s := range res.Sources {
		fmt.Fprintf(&b, "  %s: %d bytes, %d requests, first byte %v, blame %q\n", s.Name, s.Bytes, s.Requests, s.FirstByte, s.Blame)
	}
	return b.String()
}

func TestPlain(t *testing.T) {
	for _, size := range []int{0, 1, BlockSize - 1, BlockSize, BlockSize + 1, 3 << 20} {
		w := newWorld(t, size)
		w.mirror(mirrortest.Config{})
		res := w.mustFetch()
		if res.Size != int64(size) || res.Received != int64(size) || res.Sources[0].Requests != 1 {
			t.Errorf("size %d: %s", size, w.describe(res))
		}
		info, _ := os.Stat(filepath.Join(w.dir, testName))
		if want := mirrortest.Bytes(nil).ModTime; !info.ModTime().Equal(want) {
			t.Errorf("mtime %v, want %v", info.ModTime(), want)
		}
	}
}

func TestSharedByTorrent(t *testing.T) {
	w := newWorld(t, 20<<20).withTorrent(256 << 10)
	for range 4 {
		w.mirror(mirrortest.Config{Rate: 20 << 20, Delay: 10 * time.Millisecond})
	}
	res := w.mustFetch()
	t.Log(res.Elapsed, w.describe(res))
	if res.Verified != "torrent" {
		t.Errorf("verified by %q", res.Verified)
	}
	for _, s := range res.Sources {
		if s.Bytes < 1<<20 {
			t.Errorf("%s gave only %d bytes", s.Name, s.Bytes)
		}
	}
	if res.Duplicate > int64(len(w.data))/50 {
		t.Errorf("fetched twice: %d bytes", res.Duplicate)
	}
}

func TestSharedByDigest(t *testing.T) {
	w := newWorld(t, 20<<20).withDigest()
	for range 4 {
		w.mirror(mirrortest.Config{Rate: 20 << 20, Delay: 10 * time.Millisecond})
	}
	res := w.mustFetch()
	t.Log(res.Elapsed, w.describe(res))
	if len(res.Sources) != 4 || res.Verified != "sha256" {
		t.Error(w.describe(res))
	}
}

var _ = errors.Is
