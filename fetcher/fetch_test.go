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
	told    bool   // mirrors tell the digest in a header
	mirrors []*mirrortest.Server
	dir     string
	gate    *gate
	fetcher Fetcher
	request Request
	events  []Event
}

func newWorld(t *testing.T, size int) *world {
	w := &world{T: t, data: randomBytes(size), dir: t.TempDir(), gate: newGate()}
	// A busy machine takes longer.
	w.fetcher.StallTimeout, w.fetcher.leastDoubt, w.fetcher.torrentGrace = 30*time.Second, 20*time.Second, 3*time.Second
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
	w.behindGate(cfg.Files)
	if w.told {
		cfg = saying(cfg, "Digest: SHA-256="+sum256(w.data))
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

func (w *world) fetch() (*Result, error) { return w.fetching(w.prepare()) }

func (w *world) fetching(req Request) (*Result, error) {
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	return w.fetcher.Fetch(ctx, req)
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
	for _, size := range []int{0, 1, blockSize - 1, blockSize, blockSize + 1, 3 << 20} {
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
		w.mirror(mirrortest.Config{Rate: 5 << 20, Delay: 10 * time.Millisecond})
	}
	res := w.mustFetch()
	t.Log(res.Elapsed, w.describe(res))
	if res.Verified != "torrent" {
		t.Errorf("verified by %q", res.Verified)
	}
	for _, s := range res.Sources {
		if s.Bytes == 0 {
			t.Errorf("%s gave nothing", s.Name)
		}
	}
	if res.Duplicate > int64(len(w.data))/4 {
		t.Errorf("fetched twice: %d bytes", res.Duplicate)
	}
}

func TestSharedByDigest(t *testing.T) {
	w := newWorld(t, 20<<20).withDigest()
	for range 4 {
		w.mirror(mirrortest.Config{Rate: 6 << 20, Delay: 10 * time.Millisecond})
	}
	res := w.mustFetch()
	t.Log(res.Elapsed, w.describe(res))
	if len(res.Sources) != 4 || res.Verified != "sha256" {
		t.Error(w.describe(res))
	}
}

// fault is one kind of mirror, tried alone beside a good one.
type fault struct {
	name string
	mirrortest.Config
}

const strikeAt = 300_000 // a byte in the middle of the test file

func faults() []fault {
	k := func(name string, fs ...mirrortest.Fault) fault {
		return fault{name, mirrortest.Config{Rate: 8 << 20, Faults: fs}}
	}
	f := func(kind mirrortest.FaultKind) mirrortest.Fault { return mirrortest.Fault{Kind: kind} }
	at := func(kind mirrortest.FaultKind) mirrortest.Fault { return mirrortest.Fault{Kind: kind, At: strikeAt} }
	all := []fault{
		k("404", f(mirrortest.NotFound)), k("403", f(mirrortest.Forbidden)), k("500", f(mirrortest.ServerError)),
		k("503", f(mirrortest.Unavailable)), k("503-date", f(mirrortest.UnavailableDate)), k("429", f(mirrortest.TooMany)),
		k("refuse", f(mirrortest.Refuse)), k("blackhole", f(mirrortest.Blackhole)),
		k("slow-connect", mirrortest.Fault{Kind: mirrortest.SlowConnect, Dur: time.Second}),
		k("stall", at(mirrortest.Stall)), k("reset", at(mirrortest.Reset)), k("truncate", at(mirrortest.Truncate)),
		k("drip", at(mirrortest.Drip)), k("vanish", mirrortest.Fault{Kind: mirrortest.Vanish, At: strikeAt, Dur: 500 * time.Millisecond}),
		k("wrong-bytes", f(mirrortest.WrongBytes)), k("flip-bit", at(mirrortest.FlipBit)),
		k("flip-bit-once", mirrortest.Fault{Kind: mirrortest.FlipBit, At: strikeAt, Count: 1}),
		k("older", f(mirrortest.Older)), k("older-same-size", f(mirrortest.OlderSame)), k("changed", f(mirrortest.Changed)),
		k("login", f(mirrortest.Login)), k("ignore-range", f(mirrortest.IgnoreRange)),
		k("range-start", f(mirrortest.RangeStart)), k("range-total", f(mirrortest.RangeTotal)), k("range-elsewhere", f(mirrortest.RangeElsewhere)),
		k("gzip", f(mirrortest.Gzip)), k("no-length", f(mirrortest.NoLength)), k("http10", f(mirrortest.HTTP10)),
		k("wrong-length", f(mirrortest.WrongLength)), k("wrong-length-short", mirrortest.Fault{Kind: mirrortest.WrongLength, At: -5000}),
		k("endless", f(mirrortest.Endless)), k("endless-chunked", f(mirrortest.EndlessChunked)),
		k("endless-headers", f(mirrortest.EndlessHeaders)), k("huge-header", f(mirrortest.HugeHeader)),
		k("control-chars", f(mirrortest.ControlChars)), k("control-c1", f(mirrortest.ControlC1)), k("control-reason", f(mirrortest.ControlReason)),
		k("control-redirect", f(mirrortest.ControlRedirect)), k("redirect-loop", f(mirrortest.RedirectLoop)),
	}
	return all
}

// torrentFaults lie about the torrent as well.
func torrentFaults() []fault {
	k := func(name string, fs ...mirrortest.Fault) fault {
		return fault{name, mirrortest.Config{Rate: 8 << 20, Faults: fs}}
	}
	return []fault{
		k("old-torrent", mirrortest.Fault{Kind: mirrortest.OldTorrent}),
		k("html-torrent", mirrortest.Fault{Kind: mirrortest.HTMLTorrent}),
		k("login-everywhere", mirrortest.Fault{Kind: mirrortest.Login, Path: "*"}),
		k("blackhole-everywhere", mirrortest.Fault{Kind: mirrortest.Blackhole, Path: "*"}),
		k("404-everywhere", mirrortest.Fault{Kind: mirrortest.NotFound, Path: "*"}),
	}
}

const faultSize = 1<<20 + 12345

// Every fault, in the place of the URL itself and of a further mirror, ends with the right file if one good mirror is there.
func TestFaultsBesideOneGoodMirror(t *testing.T) {
	for _, mode := range []string{"torrent", "digest", "told"} {
		list := faults()
		if mode == "torrent" {
			list = append(list, torrentFaults()...)
		}
		for _, fault := range list {
			for _, first := range []bool{true, false} {
				if mode == "told" && first && strings.HasPrefix(fault.name, "endless") {
					continue // as curl would, it waits for the end
				}
				t.Run(fmt.Sprintf("%s/%s/first=%v", mode, fault.name, first), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, faultSize)
					w.mode(mode)
					good := mirrortest.Config{Rate: 8 << 20}
					if first {
						w.mirror(fault.Config)
						w.mirror(good)
					} else {
						w.mirror(good)
						w.mirror(fault.Config)
					}
					res := w.mustFetch()
					most := int64(3)
					if mode == "told" { // nothing but the copies themselves says how long the right one is
						most = 4
					}
					if res.Received > most*int64(len(w.data)) {
						t.Error(w.describe(res))
					}
				})
			}
		}
	}
}

// Mixed sets, with two good mirrors somewhere among them.
func TestFaultsMixed(t *testing.T) {
	list := append(faults(), torrentFaults()...)
	r := rand.New(rand.NewPCG(7, 7))
	for round := range 24 {
		for _, mode := range []string{"torrent", "digest"} {
			var set []mirrortest.Config
			var names []string
			for range 4 {
				f := list[r.IntN(len(list))]
				set, names = append(set, f.Config), append(names, f.name)
			}
			good := mirrortest.Config{Rate: 4 << 20}
			for range 2 {
				i := r.IntN(len(set) + 1)
				set = append(set[:i], append([]mirrortest.Config{good}, set[i:]...)...)
			}
			t.Run(fmt.Sprintf("%d/%s/%s", round, mode, strings.Join(names, "+")), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, faultSize)
				if mode == "torrent" {
					w.withTorrent(64 << 10)
				} else {
					w.withDigest()
				}
				for _, cfg := range set {
					w.mirror(cfg)
				}
				w.mustFetch()
			})
		}
	}
}

// With nothing to verify against, what HTTP shows is noticed; the rest ends as curl's download would.
func TestFaultsPlain(t *testing.T) {
	like := map[string]bool{ // curl would be content with these
		"wrong-bytes": true, "flip-bit": true, "flip-bit-once": true, "older": true, "older-same-size": true, "changed": true,
	}
	for _, fault := range faults() {
		if strings.HasPrefix(fault.name, "endless") && fault.name != "endless-headers" {
			continue // a body that never ends and names no length has to fill the disk
		}
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, faultSize)
			w.mirror(fault.Config)
			w.mirror(mirrortest.Config{Rate: 8 << 20})
			if !like[fault.name] && !strings.HasPrefix(fault.name, "wrong-length") {
				w.mustFetch()
				return
			}
			if res, err := w.fetch(); err != nil {
				t.Fatalf("%v\n%s", err, w.describe(res))
			}
		})
	}
}

// Where no good copy exists there is no file, the error has the right kind, and one clean line says why.
func TestOnlyBadMirrors(t *testing.T) {
	kind := map[string]error{
		"404": ErrNotFound, "blackhole": ErrTimeout, "stall": ErrTimeout,
		"wrong-bytes": ErrWrong, "flip-bit": ErrWrong, "older": ErrWrong, "older-same-size": ErrWrong, "login": ErrWrong,
	}
	usable := map[string]bool{ // these hold the right bytes, if one is patient
		"503": true, "503-date": true, "429": true, "slow-connect": true, "vanish": true, "flip-bit-once": true,
		"no-length": true, "http10": true, "control-c1": true, "ignore-range": true, "range-start": true, "range-total": true,
		"range-elsewhere": true, "wrong-length": true, "wrong-length-short": true, "endless": true, "endless-chunked": true,
	}
	for _, fault := range faults() {
		for _, mode := range []string{"torrent", "digest"} {
			if usable[fault.name] || fault.name == "drip" || fault.name == "changed" || mode == "torrent" && fault.name == "older" {
				continue
			}
			t.Run(mode+"/"+fault.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, faultSize)
				if fault.name == "blackhole" || fault.name == "stall" {
					w.fetcher.StallTimeout = 500 * time.Millisecond
				}
				if mode == "torrent" {
					w.request.Torrent.Metainfo = v1Torrent(testName, w.data, 64<<10, "")
				} else {
					w.withDigest()
				}
				w.mirror(fault.Config)
				w.mirror(fault.Config)
				res, err := w.fetch()
				if fault.name == "reset" || fault.name == "truncate" {
					if err == nil { // ranges that end before the bad byte, or begin after it, may do
						w.checkRight(res)
						return
					}
				}
				if err == nil {
					t.Fatalf("no error\n%s", w.describe(res))
				}
				if want := kind[fault.name]; want != nil && !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
				if text := err.Error(); text != clean(text) || strings.Contains(text, "\n") {
					t.Errorf("error is not one clean line: %q", text)
				}
				if _, err := os.Lstat(filepath.Join(w.dir, testName)); err == nil {
					t.Error("a destination file appeared")
				}
			})
		}
	}
}

// The URL's own host lies and has a torrent of its lie: two honest mirrors that agree outweigh it.
func TestLiarWithItsOwnTorrent(t *testing.T) {
	t.Parallel()
	for range 8 {
		w := newWorld(t, 6<<20).withTorrent(64 << 10)
		w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.OwnTorrent}}})
		w.mirror(mirrortest.Config{Rate: 4 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.Refuse}}})
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		w.mirror(mirrortest.Config{Rate: 4 << 20})
		w.mustFetch()
	}
}

// A torrent that several hosts serve outweighs two mirrors that tell one lie.
func TestTwoLiarsWithOneLie(t *testing.T) {
	t.Parallel()
	for range 6 {
		w := newWorld(t, 4<<20).withTorrent(64 << 10)
		liar := mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.WrongBytes}}}
		w.mirror(liar)
		w.mirror(liar)
		w.mirror(mirrortest.Config{Rate: 8 << 20})
		if res := w.mustFetch(); res.Verified != "torrent" {
			t.Error(w.describe(res))
		}
	}
}
