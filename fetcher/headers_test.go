package fetcher

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

func TestParseLinks(t *testing.T) {
	for _, c := range []struct {
		line string
		want []link
	}{
		{``, nil},
		{`<http://a/x>; rel=duplicate; pri=1; geo=de`, []link{{"http://a/x", map[string]string{"rel": "duplicate", "pri": "1", "geo": "de"}}}},
		{`<http://a/x,y;z>;rel="duplicate describedby" , , <b>; REL = "a \"b, c\"; d" ; rel=second;type=x`, []link{
			{"http://a/x,y;z", map[string]string{"rel": "duplicate describedby"}},
			{"b", map[string]string{"rel": `a "b, c"; d`, "type": "x"}}}},
		{`<a>,<b>;,<c>;;=x;flag;pref ,<d>`, []link{{"a", map[string]string{}}, {"b", map[string]string{}},
			{"c", map[string]string{"flag": "", "pref": ""}}, {"d", map[string]string{}}}},
		{`<a>; rel="never ended`, []link{{"a", map[string]string{"rel": "never ended"}}}},
		{`<a>; rel="ends in \`, []link{{"a", map[string]string{"rel": `ends in \`}}}},
		{`no link, <a>`, nil},
		{`<a`, nil},
		{`<a>, b`, []link{{"a", map[string]string{}}}},
	} {
		if got := parseLinks([]string{c.line}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.line, got, c.want)
		}
	}
	if n := len(parseLinks([]string{strings.Repeat("<a>,", 40), strings.Repeat("<a>,", 40)})); n != linksMost {
		t.Errorf("%d links were read", n)
	}
}

func FuzzParseLinks(f *testing.F) {
	f.Add(`<http://a/x>; rel=duplicate; pri=1; geo=de, <b>; rel="a \"b, c\"; d"`)
	f.Add(`<a>;;=x;flag,<`)
	f.Fuzz(func(t *testing.T, line string) {
		for _, l := range parseLinks([]string{line}) {
			if strings.Contains(l.target, ">") || !strings.Contains(line, "<"+l.target+">") {
				t.Errorf("%q: target %q", line, l.target)
			}
			for name := range l.params {
				if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, "=;,") {
					t.Errorf("%q: parameter %q", line, name)
				}
			}
		}
	})
}

func FuzzParseDigests(f *testing.F) {
	sum := base64.StdEncoding.EncodeToString(make([]byte, 32))
	f.Add("SHA-256="+sum+",MD5=HUXZLQLMuI/KZ5KDcJPcOA==", "")
	f.Add("sha-256=:"+sum+":;a=1, sha-512=::, x", ":")
	f.Fuzz(func(t *testing.T, line, wrap string) {
		if e := parseDigests([]string{line}, wrap, wrap); !e.valid() || e.Size != 0 {
			t.Errorf("%q: %+v", line, e)
		}
	})
}

// sums are the headers that tell the digest of data.
func sum256(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func sum512(data []byte) string {
	sum := sha512.Sum512(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// saying is a mirror of the file that sends these header lines with it.
func saying(cfg mirrortest.Config, lines ...string) mirrortest.Config {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value)
	}
	cfg.Headers = map[string]http.Header{testPath: h}
	return cfg
}

// elsewhere starts a mirror that nobody knows yet.
func (w *world) elsewhere(cfg mirrortest.Config) *mirrortest.Server {
	w.Helper()
	s := w.mirror(cfg)
	w.mirrors = w.mirrors[:len(w.mirrors)-1]
	return s
}

func duplicate(m *mirrortest.Server, rank int) string {
	return fmt.Sprintf("Link: <%s>; rel=duplicate; pri=%d; geo=de", m.URL(testPath), rank)
}

// Mirrors and a digest that the server tells, with the file or on a redirect, make several mirrors give it at once.
func TestLinkAndDigestHeaders(t *testing.T) {
	for _, redirect := range []bool{false, true} {
		t.Run(fmt.Sprint(redirect), func(t *testing.T) {
			w := newWorld(t, 8<<20)
			rate := mirrortest.Config{Rate: 8 << 20}
			lines := []string{"Digest: SHA-256=" + sum256(w.data)}
			var others []*mirrortest.Server
			for i := range 3 {
				others = append(others, w.elsewhere(rate))
				lines = append(lines, duplicate(others[i], 3-i))
			}
			own := saying(rate, lines...)
			if redirect {
				own.Faults = []mirrortest.Fault{{Kind: mirrortest.Redirect, Target: others[0].URL("")}}
				own.Faults[0].Target = strings.TrimSuffix(own.Faults[0].Target, "/")
			}
			w.mirror(own)
			res := w.mustFetch()
			if res.Verified != "sha256" || len(res.Sources) < 3 || res.Duplicate > res.Size/4 {
				t.Error(w.describe(res))
			}
		})
	}
}

// A redirect to a dead mirror names others.
func TestLinkHeadersOfARedirectToNowhere(t *testing.T) {
	w := newWorld(t, 300_000)
	dead, good := w.elsewhere(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.Refuse}}}), w.elsewhere(mirrortest.Config{})
	w.mirror(saying(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.Redirect, Target: dead.URL(testPath)}}}, duplicate(good, 1)))
	w.mustFetch()
}

func TestDigestHeaders(t *testing.T) {
	w := newWorld(t, 20_000)
	wrong := sum256([]byte("other"))
	for _, c := range []struct{ name, line, want string }{
		{"RFC 3230", "Digest: SHA-256=" + sum256(w.data), "sha256"},
		{"lower case, with others", "Digest: md5=HUXZLQLMuI/KZ5KDcJPcOA==, sha-256=" + sum256(w.data), "sha256"},
		{"SHA-512", "Digest: SHA-512=" + sum512(w.data), "sha512"},
		{"RFC 9530", "Repr-Digest: sha-256=:" + sum256(w.data) + ":", "sha256"},
		{"RFC 9530, parameters", "Repr-Digest: unknown=\"a,b\", sha-512=:" + sum512(w.data) + ":;x=1", "sha512"},
		{"RFC 9530, content", "Content-Digest: sha-256=:" + sum256(w.data) + ":", "sha256"},
		{"no colons", "Repr-Digest: sha-256=" + sum256(w.data), ""},
		{"hexadecimal", "Digest: SHA-256=" + strings.Repeat("0", 64), ""},
		{"short", "Digest: SHA-256=AAAA", ""},
		{"wrong", "Digest: SHA-256=" + wrong, ""},
		{"wrong, RFC 9530", "Repr-Digest: sha-256=:" + wrong + ":", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, len(w.data))
			w.mirror(saying(mirrortest.Config{}, c.line))
			res := w.mustFetch()
			if res.Verified != c.want || res.Received != res.Size || len(requests(w.mirrors[0], testPath)) != 1 {
				t.Errorf("verified %q, want %q\n%s", res.Verified, c.want, w.describe(res))
			}
		})
	}
}

// Only the URL's own host has a word: not whom it redirects to, and no mirror.
func TestDigestHeadersOfOthers(t *testing.T) {
	for name, code := range map[string]mirrortest.FaultKind{"redirect": mirrortest.Redirect, "mirror": mirrortest.NotFound} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 20_000)
			other := w.elsewhere(saying(mirrortest.Config{}, "Digest: SHA-256="+sum256(w.data)))
			w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: code, Target: other.URL(testPath)}}})
			w.mirrors = append(w.mirrors, other)
			if res := w.mustFetch(); res.Verified != "" {
				t.Error(w.describe(res))
			}
		})
	}
}

// A digest that nothing fits gives way: the file arrives as without it.
func TestWrongDigestHeaderGivesWay(t *testing.T) {
	for n := 1; n <= 4; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t, 4<<20)
			w.mirror(saying(mirrortest.Config{Rate: 16 << 20}, "Digest: SHA-256="+sum256([]byte("stale"))))
			for range n - 1 {
				w.mirror(mirrortest.Config{Rate: 16 << 20})
			}
			res := w.mustFetch()
			if res.Verified != "" || n == 1 && res.Received != res.Size || res.Received > res.Size*25/10 {
				t.Error(w.describe(res))
			}
			if !slices.ContainsFunc(w.events, func(e Event) bool { return strings.HasPrefix(e.Source, "digest told by ") }) {
				t.Error("nobody said so")
			}
			for _, s := range res.Sources {
				if s.Blame != "" {
					t.Errorf("%s is blamed: %s", s.Name, s.Blame)
				}
			}
		})
	}
}

// Nor does it wait for mirrors that do not answer.
func TestWrongDigestHeaderBesideADeadMirror(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20_000, 3 << 20} {
		w := newWorld(t, size)
		w.fetcher.StallTimeout, w.fetcher.leastDoubt = 2*patience, 5*time.Second
		w.mirror(saying(mirrortest.Config{Rate: 8 << 20}, "Digest: SHA-256="+sum256([]byte("stale"))))
		w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.Blackhole}}})
		res, err := w.fetch()
		if err != nil {
			t.Fatal(err)
		}
		w.checkRight(res)
		if res.Verified != "" {
			t.Error(w.describe(res))
		}
	}
}

// Nor for those beside whom others lie.
func TestWrongDigestHeaderBesideDeadMirrorsAndLiars(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3<<20)
	w.fetcher.StallTimeout, w.fetcher.leastDoubt = 2*patience, 5*time.Second
	w.mirror(saying(mirrortest.Config{Rate: 16 << 20}, "Digest: SHA-256="+sum256([]byte("stale"))))
	for _, f := range []mirrortest.Fault{{Kind: mirrortest.Blackhole}, {Kind: mirrortest.FlipBit, At: 5}, {Kind: mirrortest.OlderSame}} {
		w.mirror(mirrortest.Config{Rate: 4 << 20, Faults: []mirrortest.Fault{f}})
	}
	res, err := w.fetch()
	if err != nil {
		t.Fatal(err)
	}
	w.checkRight(res)
}

// A torrent that only the URL's own host names, and that does not fit what that host gives, gives way whatever others have.
func TestLyingTorrentOfALinkHeaderBesideAStaleMirror(t *testing.T) {
	for _, kind := range []mirrortest.FaultKind{mirrortest.Older, mirrortest.OlderSame, mirrortest.IgnoreRange} {
		w := newWorld(t, 2<<20)
		other := bytes.Repeat([]byte("x"), len(w.data))
		own := saying(mirrortest.Config{Rate: 8 << 20}, `Link: </t>; rel=describedby; type="application/x-bittorrent"`)
		own.Files = map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data), "/t": mirrortest.Bytes(v1Torrent("x", other, 64<<10, ""))}
		w.mirror(own)
		w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: kind}}})
		if res := w.mustFetch(); res.Verified != "" {
			t.Error(w.describe(res))
		}
	}
}

// With a mirror of another version the URL's own host has the last word, as it would have with curl.
func TestWrongDigestHeaderBesideAnotherVersion(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20_000, 3 << 20} {
		for _, kind := range []mirrortest.FaultKind{mirrortest.Older, mirrortest.OlderSame} {
			w := newWorld(t, size)
			w.mirror(saying(mirrortest.Config{Rate: 8 << 20}, "Digest: SHA-256="+sum256([]byte("stale"))))
			w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: kind}}})
			if res := w.mustFetch(); res.Verified != "" {
				t.Error(w.describe(res))
			}
		}
	}
}

// Mirrors that disagree are told apart by a digest of the URL's own host, whoever of them lies.
func TestDigestHeaderFindsTheLiar(t *testing.T) {
	lies := map[string]mirrortest.Fault{
		"a bit":    {Kind: mirrortest.FlipBit, At: strikeAt},
		"all":      {Kind: mirrortest.WrongBytes},
		"outdated": {Kind: mirrortest.OlderSame},
	}
	for _, size := range []int{faultSize / 2, 4 << 20} {
		for _, name := range slices.Sorted(maps.Keys(lies)) {
			for _, honest := range []int{1, 2} {
				for _, first := range []bool{true, false} {
					t.Run(fmt.Sprintf("%d/%s/%d/%v", size, name, honest, first), func(t *testing.T) {
						t.Parallel()
						w := newWorld(t, size)
						w.fetcher.StallTimeout = time.Minute
						liar := mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{lies[name]}}
						good := mirrortest.Config{Rate: 8 << 20}
						digest := "Digest: SHA-256=" + sum256(w.data)
						if first {
							liar = saying(liar, digest)
							w.mirror(liar)
							w.mirror(good)
						} else {
							w.mirror(saying(good, digest))
							w.mirror(liar)
						}
						if honest == 2 {
							w.mirror(good)
						}
						if res := w.mustFetch(); res.Verified != "sha256" {
							t.Error(w.describe(res))
						}
					})
				}
			}
		}
	}
}

// Nothing fits the digest, and no third mirror can say which of two copies is right: the URL's own host's, as with curl.
func TestWrongDigestHeaderBesideALiar(t *testing.T) {
	for _, size := range []int{20_000, 3 << 20} {
		w := newWorld(t, size)
		w.mirror(saying(mirrortest.Config{Rate: 8 << 20}, "Digest: SHA-256="+sum256([]byte("stale"))))
		w.mirror(mirrortest.Config{Rate: 8 << 20, Faults: []mirrortest.Fault{{Kind: mirrortest.WrongBytes}}})
		res, err := w.fetch()
		if err != nil {
			t.Fatal(err)
		}
		w.checkRight(res)
		for _, m := range w.mirrors {
			if n := len(requests(m, testPath)); n > 20 {
				t.Errorf("%d requests of one mirror", n)
			}
		}
	}
}

// Two mirrors that lie alike do not outvote the URL's own host and the digest that it tells.
func TestDigestHeaderAgainstTwins(t *testing.T) {
	for i := range 6 {
		for _, lies := range []int{1, 2} {
			t.Run(fmt.Sprint(i, lies), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 6<<20)
				w.fetcher.StallTimeout = time.Minute
				w.mirror(saying(mirrortest.Config{Rate: 8 << 20}, "Digest: SHA-256="+sum256(w.data)))
				twin := mirrortest.Config{Rate: 8 << 20}
				for k := range lies {
					twin.Faults = append(twin.Faults, mirrortest.Fault{Kind: mirrortest.FlipBit, At: int64(i+1+5*k)%7*(6<<20)/7 + 5})
				}
				w.mirror(twin)
				w.mirror(twin)
				if res := w.mustFetch(); lies == 1 && res.Verified != "sha256" {
					t.Error(w.describe(res))
				}
			})
		}
	}
}

// What the caller knows counts, whatever a header says.
func TestDigestHeaderAgainstTheCaller(t *testing.T) {
	w := newWorld(t, 2<<20).withDigest()
	w.mirror(saying(mirrortest.Config{}, "Digest: SHA-512="+sum512([]byte("other")), "Repr-Digest: sha-256=:"+sum256([]byte("other"))+":"))
	if res := w.mustFetch(); res.Verified != "sha256" || res.Received != res.Size {
		t.Error(w.describe(res))
	}
}

// A file that changes under one name comes from whom it was asked of, as it is.
func TestVolatileHearsNothing(t *testing.T) {
	w := newWorld(t, 3<<20)
	w.request.Volatile = true
	other := w.elsewhere(mirrortest.Config{})
	w.mirror(saying(mirrortest.Config{}, duplicate(other, 1), "Digest: SHA-256="+sum256(w.data),
		"Link: <x.meta4>; rel=describedby; type=\"application/metalink4+xml\""))
	res := w.mustFetch()
	if res.Verified != "" || len(res.Sources) != 1 || len(w.mirrors[0].Stats().Log) != 1 || other.Stats().Connections != 0 {
		t.Error(w.describe(res))
	}
}

// Only leaves out what a header names.
func TestOnly(t *testing.T) {
	w := newWorld(t, 6<<20)
	w.request.Only = true
	other := w.elsewhere(mirrortest.Config{})
	w.mirror(saying(mirrortest.Config{Rate: 6 << 20}, duplicate(other, 1), "Digest: SHA-256="+sum256(w.data)))
	if res := w.mustFetch(); res.Verified != "sha256" || other.Stats().Connections != 0 {
		t.Error(w.describe(res))
	}
}

// A torrent that a header names counts as if it lay beside the file. It is not looked for if none is wanted.
func TestTorrentOfALinkHeader(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{true, false} {
		w := newWorld(t, 4<<20)
		torrent := v1Torrent("another name", w.data, 64<<10, "")
		other := w.elsewhere(mirrortest.Config{Files: map[string]mirrortest.File{"/t": mirrortest.Bytes(torrent)}})
		w.mirror(saying(mirrortest.Config{Rate: 4 << 20}, fmt.Sprintf(`Link: <%s>; rel="describedby"; type="application/x-bittorrent"`, other.URL("/t"))))
		req := w.prepare()
		if !wanted {
			req.Torrent = TorrentHint{}
		}
		res, err := w.fetching(req)
		if err != nil {
			t.Fatal(err)
		}
		w.checkRight(res)
		if wanted != (res.Verified == "torrent") || wanted != (len(requests(other, "/t")) == 1) {
			t.Errorf("wanted %v: %s", wanted, w.describe(res))
		}
	}
}

// From https no header leads to http.
func TestLinkHeadersKeepToHTTPS(t *testing.T) {
	w := newWorld(t, 6<<20)
	plain := w.elsewhere(mirrortest.Config{Files: map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data), "/t": mirrortest.Bytes(nil)}})
	own := w.mirror(saying(mirrortest.Config{TLS: true, Rate: 6 << 20}, duplicate(plain, 1), "Digest: SHA-256="+sum256(w.data),
		"Link: <"+plain.URL("/t")+">; rel=describedby; type=application/x-bittorrent",
		"Link: <"+plain.URL("/t")+">; rel=describedby; type=application/metalink4+xml"))
	w.fetcher.Transport = trusting(own)
	if res := w.mustFetch(); res.Verified != "sha256" || plain.Stats().Connections != 0 {
		t.Errorf("the plain host saw %d connections\n%s", plain.Stats().Connections, w.describe(res))
	}
}

func TestNamable(t *testing.T) {
	for text, want := range map[string]bool{"http://h/a": true, "https://h/": true, "ftp://h/a": false, "file:///etc/passwd": false, "file://h/a": false,
		"http:///a": false, "http:a": false, "http://user@h/a": false, "/a": false, "": false} {
		if namable(mustURL(text)) != want {
			t.Errorf("%q: not %v", text, want)
		}
	}
}

// A public host's headers and metalinks do not lead into the user's network.
func TestReachOfHeaders(t *testing.T) {
	if !inNetwork(t, publicIP, "10.9.9.9") {
		return
	}
	names(map[string]string{"ten.test": "10.9.9.9"})
	for _, origin := range []string{publicIP, "127.0.0.1"} {
		w := newWorld(t, 6<<20)
		inside := w.elsewhere(mirrortest.Config{Addr: "10.9.9.9:0"})
		lines := []string{"Digest: SHA-256=" + sum256(w.data)}
		for _, host := range []string{"10.9.9.9", "ten.test"} {
			u := "http://" + host + ":" + portOf(inside) + testPath
			lines = append(lines, "Link: <"+u+">; rel=duplicate", "Link: <"+u+".torrent>; rel=describedby; type=application/x-bittorrent",
				"Link: <"+u+".meta4>; rel=describedby; type=application/metalink4+xml")
		}
		w.mirror(saying(mirrortest.Config{Addr: origin + ":0", Rate: 6 << 20}, lines...))
		res := w.mustFetch()
		if private := origin == "127.0.0.1"; res.Verified != "sha256" || private != (inside.Stats().Connections > 0) {
			t.Errorf("%s: the private host saw %d connections\n%s", origin, inside.Stats().Connections, w.describe(res))
		}

		// What a metalink from that host names is bound to it.
		ctx := t.Context()
		req := Request{URL: mustURL(inside.URL(testPath)), Referrer: mustURL("http://" + origin + "/a.meta4"), Dest: filepath.Join(t.TempDir(), "x")}
		req.Torrent.URLs = []*url.URL{mustURL(inside.URL(testPath + ".torrent"))}
		before := inside.Stats().Connections
		if _, err := new(Fetcher).Fetch(ctx, req); (err == nil) != (origin == "127.0.0.1") || (err == nil) != (inside.Stats().Connections > before) {
			t.Errorf("named by %s: %v", origin, err)
		}
	}
}

// A later run does not take for the caller's word what a header told, and goes on from what is there.
func TestResumeByDigestHeader(t *testing.T) {
	for _, changed := range []bool{false, true} {
		t.Run(fmt.Sprint(changed), func(t *testing.T) {
			w := newWorld(t, 8<<20)
			limited := mirrortest.Config{Rate: 4 << 20}
			digest := "Digest: SHA-256=" + sum256(w.data)
			w.mirror(saying(limited, digest))
			w.mirror(limited)
			w.interrupted(2<<20, func(e Event) bool { return e.Mirrors == 2 }) // by the digest
			journals, _ := filepath.Glob(filepath.Join(w.dir, ".*"+journalSuffix))
			if len(journals) != 1 {
				t.Fatal("no journal: ", journals)
			}
			data, err := os.ReadFile(journals[0])
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := readJournal(data)
			if head == nil || !head.Shared || head.Expect.digest() || !head.Told.digest() {
				t.Fatalf("in the journal: %+v", head)
			}
			for _, m := range w.mirrors {
				m.Close()
			}
			w.mirrors = nil
			date := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
			if changed {
				w.data = bytes.Clone(w.data)
				w.data[5<<20] ^= 1
				date = date.Add(time.Hour)
			}
			f := mirrortest.Bytes(w.data)
			f.ModTime = date
			for i := range 2 {
				cfg := mirrortest.Config{Files: map[string]mirrortest.File{testPath: f}}
				if i == 0 {
					cfg = saying(cfg, "Digest: SHA-256="+sum256(w.data))
				}
				w.mirror(cfg)
			}
			res := w.mustFetch()
			if res.Verified != "sha256" || changed != (res.Resumed == 0) {
				t.Error(w.describe(res))
			}
		})
	}
}

// A plain part of an earlier run is not taken for a part of what a header tells of now.
func TestResumeIntoADigestHeader(t *testing.T) {
	for _, changed := range []bool{false, true} {
		t.Run(fmt.Sprint(changed), func(t *testing.T) {
			w := newWorld(t, 4<<20)
			w.mirror(mirrortest.Config{Rate: 4 << 20})
			w.interruptAt(1 << 20)
			w.mirrors[0].Close()
			f := mirrortest.Bytes(w.data)
			if changed {
				w.data = bytes.Clone(w.data)
				w.data[100] ^= 1
				f = mirrortest.Bytes(w.data)
				f.ModTime = f.ModTime.Add(time.Hour)
			}
			w.mirrors = nil
			for range 2 {
				w.mirror(saying(mirrortest.Config{Files: map[string]mirrortest.File{testPath: f}}, "Digest: SHA-256="+sum256(w.data)))
			}
			if res := w.mustFetch(); res.Verified != "sha256" || changed != (res.Resumed == 0) {
				t.Error(w.describe(res))
			}
		})
	}
}

func TestLinksAreResolvedAndBounded(t *testing.T) {
	own := mustURL("http://h/dir/file")
	j := &job{req: Request{URL: own}}
	j.said = make(chan *hearing, 1)
	h := j.listen(&mirror{url: own})
	h.take(&http.Response{StatusCode: 200, Header: http.Header{"Link": {
		`<../b>; rel=duplicate; pri=2, <ftp://f/a>; rel=duplicate, <http://c/>; rel="other duplicate"; pri=x, <http://d/>; rel=duplicate; pri=1`,
		`<http://e/>; rel=duplicate; anchor="#part", <x.torrent#f>; rel=describedby; type="application/x-bittorrent; a=b"`,
		`<file:///etc/shadow>; rel=describedby; type=application/metalink4+xml, <m>; rel=DescribedBy; type="application/metalink4+xml"`,
		`<http://u:p@g/>; rel=duplicate`}}}, own)
	var got []string
	for _, u := range append(h.mirrors, h.torrent, h.metalink) {
		got = append(got, u.String())
	}
	want := []string{"http://d/", "http://h/b", "http://c/", "http://h/dir/x.torrent", "http://h/dir/m"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	h.post()
	if j.listen(&mirror{url: own}) != nil || <-j.said != h {
		t.Error("the first answer does not count alone")
	}
	if j.listen(&mirror{url: &url.URL{Scheme: "http", Host: "x"}}) != nil {
		t.Error("another host is listened to")
	}
}
