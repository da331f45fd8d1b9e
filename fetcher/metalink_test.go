package fetcher

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metalink"
)

// described is what a metalink says of the file: its size and digest, and pieces of so many bytes (0: none) of a kind.
func (w *world) described(pieceLength int, kind string) *metalink.File {
	sum := sha256.Sum256(w.data)
	f := &metalink.File{Name: testName, Size: int64(len(w.data)), SHA256: sum[:]}
	for off := 0; pieceLength > 0 && off < len(w.data); off += pieceLength {
		piece := w.data[off:min(off+pieceLength, len(w.data))]
		f.Pieces.Length, f.Pieces.Kind = int64(pieceLength), kind
		if kind == metalink.SHA1 {
			sum := sha1.Sum(piece)
			f.Pieces.Hashes = append(f.Pieces.Hashes, sum[:]...)
		} else {
			sum := sha256.Sum256(piece)
			f.Pieces.Hashes = append(f.Pieces.Hashes, sum[:]...)
		}
	}
	return f
}

func naming(f *metalink.File, mirrors ...*mirrortest.Server) *metalink.File {
	for i, m := range mirrors {
		f.URLs = append(f.URLs, metalink.URL{URL: m.URL(testPath), Priority: i + 1})
	}
	return f
}

func written(files ...*metalink.File) []byte {
	var d metalink.Document
	for _, f := range files {
		d.Files = append(d.Files, *f)
	}
	var b bytes.Buffer
	if err := metalink.Write(&b, &d); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// A metalink that the user names, as a file or by its URL, brings mirrors, pieces and a digest.
func TestNamedMetalink(t *testing.T) {
	for _, kind := range []string{metalink.SHA1, metalink.SHA256, "no pieces", "odd pieces"} {
		for _, byURL := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, byURL), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 8<<20+5)
				rate := mirrortest.Config{Rate: 8 << 20}
				liar := w.elsewhere(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.WrongBytes}}})
				var f *metalink.File
				switch kind {
				case "no pieces":
					f = w.described(0, "")
				case "odd pieces":
					f = w.described(100_000, metalink.SHA1)
				default:
					f = w.described(256<<10, kind)
				}
				naming(f, w.elsewhere(rate), liar, w.elsewhere(rate))
				w.mirror(rate)
				if byURL {
					other := &metalink.File{Name: "other", Size: 5}
					m := w.elsewhere(mirrortest.Config{Files: map[string]mirrortest.File{"/m": mirrortest.Bytes(written(other, f))}})
					w.request.Torrent.MetainfoURL = mustURL(m.URL("/m"))
				} else {
					w.request.Torrent.Metalink = f
				}
				res := w.mustFetch()
				if res.Verified != "sha256" || len(res.Sources) < 3 || !res.Metalink || res.InfoHash != "" {
					t.Errorf("metalink %v: %s", res.Metalink, w.describe(res))
				}
			})
		}
	}
}

// A metalink of the user's own may name http beside https if it says how to verify what comes.
func TestNamedMetalinkOfBothSchemes(t *testing.T) {
	t.Parallel()
	for _, verifiable := range []bool{true, false} {
		w := newWorld(t, 4<<20)
		plain := w.elsewhere(mirrortest.Config{Rate: 4 << 20})
		f := naming(w.described(0, ""), plain)
		if !verifiable {
			f.SHA256 = nil
		}
		w.request.Torrent.Metalink = f
		secure := w.mirror(mirrortest.Config{Rate: 4 << 20, TLS: true})
		w.fetcher.Transport = trusting(secure)
		if res := w.mustFetch(); verifiable != (plain.Stats().Connections > 0) {
			t.Errorf("verifiable %v: %s", verifiable, w.describe(res))
		}
	}
}

// Pieces alone verify as well.
func TestNamedMetalinkWithoutDigest(t *testing.T) {
	w := newWorld(t, 4<<20)
	f := w.described(64<<10, metalink.SHA256)
	f.SHA256 = nil
	w.request.Torrent.Metalink = f
	w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.FlipBit, At: strikeAt, Count: 1}}})
	w.mirror(mirrortest.Config{})
	if res := w.mustFetch(); res.Verified != "metalink" || !res.Metalink {
		t.Error(w.describe(res))
	}
}

// A metalink without pieces names a torrent, which may bear any name.
func TestTorrentOfAMetalink(t *testing.T) {
	w := newWorld(t, 4<<20)
	torrent := v1Torrent("another name", w.data, 64<<10, "")
	m := w.mirror(mirrortest.Config{Rate: 4 << 20, Files: map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data), "/t": mirrortest.Bytes(torrent)}})
	f := w.described(0, "")
	f.Torrents = []metalink.URL{{URL: m.URL("/t")}}
	w.request.Torrent.Metalink = f
	if res := w.mustFetch(); res.InfoHash == "" || res.Verified != "sha256" {
		t.Error(w.describe(res))
	}
}

// The user's metalink is his word: what contradicts it is not the file.
func TestNamedMetalinkOfAnotherFile(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, f *metalink.File)
		want   error
	}{
		"size":           {func(w *world, f *metalink.File) { f.Size++ }, ErrWrong},
		"digest":         {func(w *world, f *metalink.File) { f.SHA256[0] ^= 1 }, ErrWrong},
		"caller's size":  {func(w *world, f *metalink.File) { w.request.Expect.Size = 5 }, ErrRequest},
		"caller's":       {func(w *world, f *metalink.File) { w.request.Expect.SHA256 = make([]byte, 32) }, ErrRequest},
		"wrong pieces":   {func(w *world, f *metalink.File) { *f = *w.described(64<<10, metalink.SHA1); f.Pieces.Hashes[0] ^= 1 }, ErrWrong},
		"nobody's piece": {func(w *world, f *metalink.File) { *f = *w.described(64<<10, metalink.SHA256); clear(f.Pieces.Hashes) }, ErrWrong},
	} {
		for _, byURL := range []bool{false, true} {
			t.Run(fmt.Sprint(name, byURL), func(t *testing.T) {
				w := newWorld(t, 2<<20)
				f := w.described(0, "")
				c.change(w, f)
				w.mirror(mirrortest.Config{Rate: 8 << 20})
				w.mirror(mirrortest.Config{Rate: 8 << 20})
				if byURL {
					m := w.elsewhere(mirrortest.Config{Files: map[string]mirrortest.File{"/m": mirrortest.Bytes(written(f))}})
					w.request.Torrent.MetainfoURL = mustURL(m.URL("/m"))
				} else {
					w.request.Torrent.Metalink = f
				}
				res, err := w.fetch()
				if !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v\n%s", err, c.want, w.describe(res))
				}
			})
		}
	}
}

// describing header lines name a metalink on the mirror itself.
const describedBy = `Link: <m.meta4>; rel=describedby; type="application/metalink4+xml"`

var metalinkPath = testPath[:strings.LastIndex(testPath, "/")+1] + "m.meta4"

// The URL's own host names a metalink. It is asked for only where a torrent would be, and if there is none.
func TestMetalinkOfALinkHeader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size            int
		torrent, wanted bool
		verified        string
		asked           int
	}{
		"used":           {8 << 20, false, true, "metalink", 1},
		"not wanted":     {8 << 20, false, false, "", 0},
		"has a torrent":  {8 << 20, true, true, "torrent", 0},
		"a small file":   {100_000, false, true, "", 0},
		"no use of size": {0, false, true, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.size)
			rate := mirrortest.Config{Rate: 8 << 20}
			f := naming(w.described(256<<10, metalink.SHA1), w.elsewhere(rate), w.elsewhere(rate))
			own := saying(rate, describedBy)
			own.Files = map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data), metalinkPath: mirrortest.Bytes(written(f))}
			if c.torrent {
				own.Files[testPath+".torrent"] = mirrortest.Bytes(v1Torrent(testName, w.data, 64<<10, ""))
			}
			m := w.mirror(own)
			req := w.prepare()
			if !c.wanted {
				req.Torrent = TorrentHint{}
			}
			res, err := w.fetching(req)
			if err != nil {
				t.Fatal(err)
			}
			w.checkRight(res)
			if res.Verified != c.verified || len(requests(m, metalinkPath)) != c.asked || (len(res.Sources) > 1) != (c.verified == "metalink") {
				t.Errorf("asked %d times: %s", len(requests(m, metalinkPath)), w.describe(res))
			}
		})
	}
}

// A metalink of the URL's own host that lies, or is none, costs nothing but itself.
func TestLyingMetalinks(t *testing.T) {
	lie := func(change func(*metalink.File)) func(w *world, f *metalink.File) []byte {
		return func(_ *world, f *metalink.File) []byte { change(f); return written(f) }
	}
	for name, make := range map[string]func(*world, *metalink.File) []byte{
		"pieces":        lie(func(f *metalink.File) { clear(f.Pieces.Hashes) }),
		"one piece":     lie(func(f *metalink.File) { f.Pieces.Hashes[45] ^= 1 }),
		"size":          lie(func(f *metalink.File) { f.Size--; f.Pieces = metalink.Pieces{} }),
		"digest":        lie(func(f *metalink.File) { f.SHA256[0] ^= 1; f.Pieces = metalink.Pieces{} }),
		"digest beside": lie(func(f *metalink.File) { f.SHA256[0] ^= 1 }),
		"of others":     func(w *world, f *metalink.File) []byte { f.Name = "a"; g := *f; g.Name = "b"; return written(f, &g) },
		"garbage":       func(*world, *metalink.File) []byte { return []byte("<html>Sign in") },
		"huge":          func(*world, *metalink.File) []byte { return bytes.Repeat([]byte(" "), metalink.MaxSize+1) },
		"bomb": func(*world, *metalink.File) []byte {
			return []byte(`<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">]><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="&a;"/></metalink>`)
		},
	} {
		for _, mirrors := range []int{1, 3} {
			if mirrors == 1 && name == "one piece" {
				continue // as with a torrent, the one mirror is blamed: most of what it gave fits
			}
			t.Run(fmt.Sprint(name, mirrors), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 3<<20)
				own := saying(mirrortest.Config{Rate: 6 << 20}, describedBy)
				own.Files = map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data),
					metalinkPath: mirrortest.Bytes(make(w, w.described(256<<10, metalink.SHA1)))}
				w.mirror(own)
				for range mirrors - 1 {
					w.mirror(mirrortest.Config{Rate: 6 << 20})
				}
				res := w.mustFetch()
				if name != "digest beside" && res.Verified != "" && res.Verified != "sha256" || res.Received > 3*res.Size {
					t.Error(w.describe(res))
				}
			})
		}
	}
}

// What is named as a description and is as long as a disk image is not read.
func TestDescribedByItself(t *testing.T) {
	w := newWorld(t, metalink.MaxSize+1)
	m := w.mirror(saying(mirrortest.Config{}, `Link: <?t>; rel=describedby; type="application/x-bittorrent"`,
		`Link: <?m>; rel=describedby; type="application/metalink4+xml"`))
	w.mustFetch()
	if n := len(requests(m, testPath)); n != 3 || m.Stats().Paths[testPath] > metalink.MaxSize*3/2 {
		t.Errorf("%d requests, %d bytes sent", n, m.Stats().Paths[testPath])
	}
}

// A resumed download goes on with the pieces of a metalink.
func TestResumeByMetalink(t *testing.T) {
	w := newWorld(t, 8<<20)
	f := w.described(256<<10, metalink.SHA256)
	f.SHA256 = nil
	w.request.Torrent.Metalink = f
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.mirror(mirrortest.Config{Rate: 4 << 20})
	w.interruptAt(3 << 20)
	res := w.mustFetch()
	if res.Resumed < 1<<20 || res.Verified != "metalink" || res.Received > res.Size-res.Resumed/2 {
		t.Error(w.describe(res))
	}
}

func TestLoad(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a":
			w.Write([]byte("12345"))
		case "/to-file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	load := func(path string, most int64) ([]byte, error) {
		u, err := url.Parse(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return new(Fetcher).Load(t.Context(), u, most)
	}
	if data, err := load("/a", 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := load("/none", 5); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, path := range []string{"/to-file", "/500"} {
		if _, err := load(path, 5); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := load("/a", 4); err == nil {
		t.Error("too long, and taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := new(Fetcher).Load(ctx, mustURL(s.URL), 5); err == nil {
		t.Error("cancelled, and done")
	}
}

// Repositories are not remembered for having torrents when it was a metalink that was found.
func TestMetalinkIsNoTorrentOfTheRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2<<20)
	w.fetcher.Hosts = LoadHostStats(filepath.Join(t.TempDir(), "hosts.json"))
	own := saying(mirrortest.Config{Rate: 4 << 20}, describedBy)
	own.Files = map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data), metalinkPath: mirrortest.Bytes(written(w.described(64<<10, metalink.SHA1)))}
	m := w.mirror(own)
	for range barrenMisses + 1 {
		w.dir = t.TempDir()
		if res := w.mustFetch(); res.Verified != "metalink" {
			t.Error(w.describe(res))
		}
	}
	if n := len(requests(m, testPath+".torrent")); n != barrenMisses {
		t.Errorf("%d requests for a torrent, want %d", n, barrenMisses)
	}
	if n := len(requests(m, metalinkPath)); n != barrenMisses+1 {
		t.Errorf("%d requests for the metalink", n)
	}
	if slices.ContainsFunc(w.events, func(e Event) bool { return e.Err != nil }) {
		t.Error("an error was told")
	}
}
