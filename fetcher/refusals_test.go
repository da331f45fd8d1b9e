package fetcher

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const nobody = 65534

// plant puts something under a name at which the engine is going to write. There is always a file called victim beside the
// directory, which it may point at.
type plant struct {
	name    string
	root    bool // only root can plant it
	refused bool // at the destination: status 5, and what is planted stays
	put     func(path, victim string) error
}

func plants() []plant {
	return []plant{
		{name: "symlink to a file", put: func(path, victim string) error { return os.Symlink(victim, path) }},
		{name: "dangling symlink", put: func(path, victim string) error { return os.Symlink(victim+".absent", path) }},
		{name: "symlink to itself", put: func(path, _ string) error { return os.Symlink(path, path) }},
		{name: "hard link", put: func(path, victim string) error { return os.Link(victim, path) }},
		{name: "symlink to a directory", refused: true, put: func(path, victim string) error { return os.Symlink(filepath.Dir(victim), path) }},
		{name: "symlink to /dev/null", refused: true, put: func(path, _ string) error { return os.Symlink("/dev/null", path) }},
		{name: "FIFO", refused: true, put: func(path, _ string) error { return unix.Mkfifo(path, 0o666) }},
		{name: "socket", refused: true, put: func(path, _ string) error {
			return unix.Mknod(path, unix.S_IFSOCK|0o666, 0)
		}},
		{name: "device", root: true, refused: true, put: func(path, _ string) error {
			return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		}},
		{name: "file of another user", root: true, put: func(path, victim string) error {
			text, err := os.ReadFile(victim)
			if err != nil {
				return err
			}
			return errors.Join(os.WriteFile(path, text, 0o666), os.Chown(path, nobody, nobody))
		}},
		{name: "setuid file", put: func(path, victim string) error {
			return errors.Join(os.WriteFile(path, []byte("old"), 0o600), unix.Chmod(path, 0o4600))
		}},
	}
}

const victimText = "another file of the same user, that must not change"

// eachPlant runs f with each plant under the name that at makes of the destination.
func eachPlant(t *testing.T, at func(dest string) string, f func(w *world, p plant, path string)) {
	for _, mode := range modes {
		for _, p := range plants() {
			t.Run(mode+"/"+p.name, func(t *testing.T) {
				if p.root && os.Geteuid() != 0 {
					t.Skip("only root can plant this")
				}
				w := newWorld(t, 300_000).mode(mode)
				victim := filepath.Join(w.dir, "victim")
				if err := os.WriteFile(victim, []byte(victimText), 0o644); err != nil {
					t.Fatal(err)
				}
				w.dir = filepath.Join(w.dir, "in")
				if err := os.Mkdir(w.dir, 0o755); err != nil {
					t.Fatal(err)
				}
				path := at(filepath.Join(w.dir, testName))
				if err := p.put(path, victim); err != nil {
					t.Fatal(err)
				}
				w.mirror(mirrortest.Config{})
				f(w, p, path)
				if text, err := os.ReadFile(victim); err != nil || string(text) != victimText {
					t.Errorf("the victim now holds %d bytes, %v", len(text), err)
				}
				if _, err := os.Lstat(victim + ".absent"); err == nil {
					t.Error("the dangling symlink was followed")
				}
			})
		}
	}
}

// checkPlainFile checks that an ordinary new file stands at path.
func (w *world) checkPlainFile(path string) {
	w.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		w.Fatal(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || int(st.Uid) != os.Geteuid() || st.Mode&0o7111 != 0 {
		w.Errorf("at the destination: mode %o, %d names, user %d", st.Mode, st.Nlink, st.Uid)
	}
}

func TestPlantedAtTheDestination(t *testing.T) {
	eachPlant(t, func(dest string) string { return dest }, func(w *world, p plant, path string) {
		if !p.refused {
			w.mustFetch()
			w.checkPlainFile(path)
			return
		}
		before, _ := os.Lstat(path)
		_, err := w.fetch()
		if !errors.Is(err, ErrWrite) {
			w.Errorf("error %v, want %v", err, ErrWrite)
		}
		after, err := os.Lstat(path)
		if err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
			w.Errorf("what was planted changed: %v, %v", after, err)
		}
		w.checkOnly(testName)
		if n := w.mirrors[0].Stats().Requests; n != 0 {
			w.Errorf("the mirror was asked %d times for a file that cannot be written", n)
		}
	})
}

func TestDirectoryAtTheDestination(t *testing.T) {
	for _, full := range []bool{false, true} {
		w := newWorld(t, 1000)
		w.mirror(mirrortest.Config{})
		path := filepath.Join(w.dir, testName)
		os.Mkdir(path, 0o755)
		if full {
			os.WriteFile(filepath.Join(path, "kept"), nil, 0o644)
		}
		if _, err := w.fetch(); !errors.Is(err, ErrWrite) {
			t.Errorf("error %v, want %v", err, ErrWrite)
		}
		if info, err := os.Lstat(path); err != nil || !info.IsDir() {
			t.Errorf("the directory is gone: %v", err)
		}
		w.checkOnly(testName)
	}
}

func TestPlantedAtThePartialName(t *testing.T) {
	eachPlant(t, partialPath, func(w *world, p plant, path string) {
		res := w.mustFetch()
		w.checkPlainFile(filepath.Join(w.dir, testName))
		if res.Resumed != 0 {
			w.Errorf("went on from what was planted: %s", w.describe(res))
		}
	})
}

func TestPlantedAtTheJournalName(t *testing.T) {
	at := func(dest string) string { return partialPath(dest) + journalSuffix }
	eachPlant(t, at, func(w *world, p plant, path string) {
		if err := os.WriteFile(partialPath(filepath.Join(w.dir, testName)), []byte("something of our own"), 0o644); err != nil {
			w.Fatal(err)
		}
		w.mustFetch()
	})
}

// A journal that is not the user's own is neither believed nor written to, though all that it says be true.
func TestForeignJournalIsNotBelieved(t *testing.T) {
	for _, how := range []string{"symlink", "hard link", "another user's"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2<<20)
			w.mirror(mirrortest.Config{Rate: 4 << 20})
			w.interruptAt(1 << 20)
			journal := partialPath(filepath.Join(w.dir, testName)) + journalSuffix
			away := filepath.Join(t.TempDir(), "journal")
			if err := os.Rename(journal, away); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(away)
			if err != nil {
				t.Fatal(err)
			}
			switch how {
			case "symlink":
				err = os.Symlink(away, journal)
			case "hard link":
				err = os.Link(away, journal)
			default:
				if os.Geteuid() != 0 {
					t.Skip("only root can give files away")
				}
				err = errors.Join(os.WriteFile(journal, before, 0o600), os.Chown(journal, nobody, nobody))
			}
			if err != nil {
				t.Fatal(err)
			}
			if res := w.mustFetch(); res.Resumed != 0 {
				t.Error(w.describe(res))
			}
			if after, err := os.ReadFile(away); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file behind the link changed: %v", err)
			}
		})
	}
}

// The same for the partial file, with an own journal that fits.
func TestForeignPartialIsNotBelieved(t *testing.T) {
	for _, how := range []string{"symlink", "hard link", "another user's"} {
		for _, mode := range modes {
			t.Run(how+"/"+mode, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 2<<20).mode(mode)
				w.mirror(mirrortest.Config{Rate: 4 << 20})
				w.interruptAt(1 << 20)
				partial := partialPath(filepath.Join(w.dir, testName))
				away := filepath.Join(t.TempDir(), "partial")
				if err := os.Rename(partial, away); err != nil {
					t.Fatal(err)
				}
				before, err := os.ReadFile(away)
				if err != nil {
					t.Fatal(err)
				}
				switch how {
				case "symlink":
					err = os.Symlink(away, partial)
				case "hard link":
					err = os.Link(away, partial)
				default:
					if os.Geteuid() != 0 {
						t.Skip("only root can give files away")
					}
					err = errors.Join(os.WriteFile(partial, before, 0o666), os.Chown(partial, nobody, nobody))
				}
				if err != nil {
					t.Fatal(err)
				}
				if res := w.mustFetch(); res.Resumed != 0 {
					t.Error(w.describe(res))
				}
				w.checkPlainFile(filepath.Join(w.dir, testName))
				if after, err := os.ReadFile(away); err != nil || !bytes.Equal(before, after) {
					t.Errorf("the file behind the link changed: %v", err)
				}
			})
		}
	}
}

func TestDirectoryAtThePartialAndJournalNames(t *testing.T) {
	w := newWorld(t, 1000)
	w.mirror(mirrortest.Config{})
	partial := partialPath(filepath.Join(w.dir, testName))
	os.MkdirAll(filepath.Join(partial, "kept"), 0o755)
	if _, err := w.fetch(); !errors.Is(err, ErrWrite) {
		t.Errorf("error %v, want %v", err, ErrWrite)
	}
	w.checkOnly(filepath.Base(partial))

	w = newWorld(t, 1000).withDigest()
	w.mirror(mirrortest.Config{})
	journal := partialPath(filepath.Join(w.dir, testName)) + journalSuffix
	os.MkdirAll(filepath.Join(journal, "kept"), 0o755)
	if res, err := w.fetch(); err != nil { // a journal is a convenience
		t.Errorf("%v\n%s", err, w.describe(res))
	}
	if got, _ := os.ReadFile(filepath.Join(w.dir, testName)); !bytes.Equal(got, w.data) {
		t.Errorf("wrong content: %d bytes", len(got))
	}
}

// In a directory like /tmp a partial file that another user planted can be neither trusted nor removed.
func TestStickyDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as two users")
	}
	w := newWorld(t, 300_000)
	w.mirror(mirrortest.Config{})
	for dir := w.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	// The test binary may lie where the other user cannot reach it.
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(w.dir, "program")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	w.dir = filepath.Join(w.dir, "sticky")
	os.Mkdir(w.dir, 0o755)
	os.Chmod(w.dir, 0o777|os.ModeSticky)
	partial := partialPath(filepath.Join(w.dir, testName))
	asNobody := func() (string, error) {
		cmd := w.child()
		cmd.Path, cmd.Dir, cmd.Stderr = copied, "/", nil
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	os.WriteFile(partial, []byte("planted"), 0o644)
	if out, err := asNobody(); err == nil || !strings.Contains(out, ErrWrite.Error()) {
		t.Errorf("as nobody: %v, %q", err, out)
	}
	if got, err := os.ReadFile(partial); err != nil || string(got) != "planted" {
		t.Errorf("what another user has there was changed: %q, %v", got, err)
	}
	w.checkOnly(filepath.Base(partial))
	os.Remove(partial)

	if out, err := asNobody(); err != nil {
		t.Errorf("as nobody, nothing planted: %v, %q", err, out)
	}
	w.checkOnly(testName)
	os.Remove(filepath.Join(w.dir, testName))

	os.WriteFile(partial, []byte("planted"), 0o666)
	os.Chmod(partial, 0o666)
	os.Chown(partial, nobody, nobody)
	w.mustFetch()
	w.checkPlainFile(filepath.Join(w.dir, testName))
}

// Whoever replaces the partial file while it is being filled must not see what he put there appear as the file.
func TestPartialReplacedMeanwhile(t *testing.T) {
	for _, mode := range append([]string{"volatile"}, modes...) {
		w := newWorld(t, 1<<20).mode(mode)
		w.mirror(mirrortest.Config{Rate: 4 << 20})
		partial := partialPath(filepath.Join(w.dir, testName))
		w.request.Volatile = mode == "volatile"
		w.meanwhile(1, func() {
			if names, _ := filepath.Glob(partial + ".[0-9]*"); mode == "volatile" && len(names) == 1 {
				partial = names[0]
			}
			os.Remove(partial)
			os.WriteFile(partial, []byte("half a file"), 0o644)
		})
		if _, err := w.fetch(); !errors.Is(err, ErrWrite) {
			t.Errorf("%s: error %v, want %v", mode, err, ErrWrite)
		}
		if got, err := os.ReadFile(filepath.Join(w.dir, testName)); err == nil {
			t.Errorf("%s: %d bytes appeared", mode, len(got))
		}
		if got, _ := os.ReadFile(partial); string(got) != "half a file" {
			t.Errorf("%s: the other one's partial file is gone", mode)
		}
	}
}

// Only the request says where to write. A torrent of another name is not that of the file.
func TestTorrentsThatNameOtherPaths(t *testing.T) {
	multi := func(data []byte, path ...string) []byte {
		one := string(v1Torrent("dir", data, 64<<10, ""))
		var list strings.Builder
		for _, p := range path {
			fmt.Fprintf(&list, "%d:%s", len(p), p)
		}
		old := fmt.Sprintf("6:lengthi%de4:name", len(data))
		return []byte(strings.Replace(one, old, fmt.Sprintf("5:filesld6:lengthi%de4:pathl%seee4:name", len(data), list.String()), 1))
	}
	single := func(name string) func([]byte) []byte {
		return func(data []byte) []byte { return v1Torrent(name, data, 64<<10, "") }
	}
	cases := []struct {
		name string
		make func(data []byte) []byte
		used bool
	}{
		{"as it should be", single(testName), true},
		{"parent", single("../" + testName), false},
		{"absolute", single("/etc/" + testName), false},
		{"dots", single(".."), false},
		{"dot", single("."), false},
		{"empty", single(""), false},
		{"below", single("sub/" + testName), false},
		{"backslash", single(`..\` + testName), false},
		{"NUL", single(testName + "\x00"), false},
		{"escape", single("\x1b[2J" + testName), false},
		{"other file", single("bar-1.0-1-x86_64.pkg.tar.zst"), false},
		{"long", single(strings.Repeat("x", 5000)), false},
		{"file in a directory", func(d []byte) []byte { return multi(d, "sub", testName) }, true},
		{"file in the parent", func(d []byte) []byte { return multi(d, "..", testName) }, false},
		{"absolute file", func(d []byte) []byte { return multi(d, "/", testName) }, false},
		{"path of dots", func(d []byte) []byte { return multi(d, testName, "..") }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 300_000)
			w.torrent = c.make(w.data)
			w.dir = filepath.Join(w.dir, "in")
			os.Mkdir(w.dir, 0o755)
			w.mirror(mirrortest.Config{Rate: 4 << 20, Delay: time.Millisecond})
			res := w.mustFetch()
			if used := res.InfoHash != ""; used != c.used {
				t.Errorf("torrent used: %v, want %v", used, c.used)
			}
			if list, _ := os.ReadDir(filepath.Dir(w.dir)); len(list) != 1 {
				t.Errorf("something appeared beside the directory: %v", list)
			}
		})
	}
}

// A torrent that the user named may call its file what it likes, within reason; the destination is what he said.
func TestNamedTorrentsDoNotSayWhereToWrite(t *testing.T) {
	w := newWorld(t, 300_000)
	w.mirror(mirrortest.Config{})
	w.request.Torrent.Metainfo = v1Torrent("renamed", w.data, 64<<10, "")
	if res := w.mustFetch(); res.Verified != "torrent" {
		t.Error(w.describe(res))
	}
	w = newWorld(t, 300_000)
	m := w.mirror(mirrortest.Config{})
	w.request.Torrent.Metainfo = v1Torrent("../renamed", w.data, 64<<10, "")
	if _, err := w.fetch(); !errors.Is(err, ErrRequest) {
		t.Errorf("error %v, want %v", err, ErrRequest)
	}
	w.checkOnly()
	if n := m.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Whatever stands in the place of the torrent, the file arrives as if there were none, and little of it is read.
func TestHostileTorrents(t *testing.T) {
	good := v1Torrent(testName, randomBytes(300_000), 64<<10, "")
	bodies := map[string]func(write func([]byte) bool){
		"endless": func(write func([]byte) bool) {
			for zeros := make([]byte, 64<<10); write(zeros); {
			}
		},
		"endless bencode": func(write func([]byte) bool) {
			write([]byte("l"))
			for more := []byte(strings.Repeat("4:spam", 10000)); write(more); {
			}
		},
		"17 MiB":        func(write func([]byte) bool) { write(append(good, make([]byte, 17<<20)...)) },
		"17 MiB string": func(write func([]byte) bool) { write(fmt.Appendf(nil, "d1:a%d:%se", 17<<20, make([]byte, 17<<20))) },
		"nested lists":  func(write func([]byte) bool) { write(bytes.Repeat([]byte("l"), 4<<20)) },
		"nested dicts":  func(write func([]byte) bool) { write(bytes.Repeat([]byte("d1:a"), 1<<20)) },
		"many integers": func(write func([]byte) bool) { write(append([]byte("l"), bytes.Repeat([]byte("i1e"), 5<<20)...)) },
		"huge length":   func(write func([]byte) bool) { write([]byte("d4:info99999999999999999999:")) },
		"huge file": func(write func([]byte) bool) {
			write(bytes.Replace(good, []byte("i300000e"), []byte("i9223372036854775807e"), 1))
		},
		"negative size":  func(write func([]byte) bool) { write(bytes.Replace(good, []byte("i300000e"), []byte("i-1e"), 1)) },
		"tiny pieces":    func(write func([]byte) bool) { write(bytes.Replace(good, []byte("i65536e"), []byte("i1e"), 1)) },
		"no pieces":      func(write func([]byte) bool) { write(bytes.Replace(good, []byte("i65536e"), []byte("i0e"), 1)) },
		"too few pieces": func(write func([]byte) bool) { write(bytes.Replace(good, []byte("i65536e"), []byte("i16384e"), 1)) },
		"cut off":        func(write func([]byte) bool) { write(good[:len(good)/2]) },
		"trailing":       func(write func([]byte) bool) { write(append(good[:len(good):len(good)], "spam"...)) },
		"empty":          func(func([]byte) bool) {},
		"not bencode":    func(write func([]byte) bool) { write(randomBytes(1 << 20)) },
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 300_000)
			var read atomic.Int64
			answered := make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, ".torrent") {
					rw.Header().Set("Content-Length", fmt.Sprint(len(w.data)))
					rw.Write(w.data[:100_000])
					http.NewResponseController(rw).Flush()
					<-answered // the rest comes when the torrent has been refused
					rw.Write(w.data[100_000:])
					return
				}
				defer time.AfterFunc(50*time.Millisecond, func() { close(answered) })
				body(func(p []byte) bool {
					n, err := rw.Write(p)
					read.Add(int64(n))
					return err == nil
				})
			}))
			defer s.Close()
			w.request = Request{URL: mustURL(s.URL + testPath), Dest: filepath.Join(w.dir, testName)}
			w.request.Torrent.URLs = []*url.URL{mustURL(s.URL + testPath + ".torrent")}
			res, err := w.fetcher.Fetch(t.Context(), w.request)
			if err != nil {
				t.Fatalf("%v\n%s", err, w.describe(res))
			}
			w.checkRight(res)
			if res.InfoHash != "" || res.Verified != "" {
				t.Errorf("used, info hash %s, verified %q", res.InfoHash, res.Verified)
			}
			if n := read.Load(); n > metainfo.MaxSize+16<<20 { // what lies in socket buffers was not read
				t.Errorf("%d bytes of the torrent were sent", n)
			}
		})
	}
}

// lines collects everything that a fetch says to a person: errors, events, reports, the log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(text ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, text...)
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.add(r.Message)
	r.Attrs(func(a slog.Attr) bool { l.add(a.Value.String()); return true })
	return nil
}

func (l *lines) listen(f *Fetcher) {
	f.Log = slog.New(l)
	f.OnEvent = func(e Event) {
		l.add(e.Source, e.Message)
		if e.Err != nil {
			l.add(e.Err.Error())
		}
	}
}

func (l *lines) check(t *testing.T, res *Result, err error) {
	t.Helper()
	if err != nil {
		l.add(err.Error())
	}
	for _, s := range res.Sources {
		l.add(s.Name, s.Blame)
	}
	for _, text := range l.all {
		if strings.ContainsFunc(text, unicode.IsControl) || strings.ContainsAny(text, "\u2028\u2029\u202e\u2066") || text != strings.ToValidUTF8(text, "") {
			t.Errorf("a person would read %q", text)
		}
		if len(text) > 1000 {
			t.Errorf("a person would read %d bytes", len(text))
		}
	}
}

// rawServer answers every request with the same bytes and closes the connection.
func rawServer(t *testing.T, answer string) *url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := c.Read(make([]byte, 4096)); err == nil {
					io.WriteString(c, answer)
					time.Sleep(10 * time.Millisecond) // a reset would overtake the answer
				}
			}()
		}
	}()
	return mustURL("http://" + l.Addr().String() + testPath)
}

// Nothing that a server says reaches a person with control characters in it.
func TestWordsFromTheNetwork(t *testing.T) {
	words := map[string]string{
		"escape": "\x1b[2J\x1b]0;owned\x07", "C1": "\u009b2J\u009d0;owned\u009c", "bare C1": "\x9b2J", "right to left": "a\u202egpj.exe",
		"line separator": "a\u2028b", "bell": "\a\b\x7f", "tab": "a\tb", "long": strings.Repeat("w", 50_000),
	}
	answers := map[string]string{
		"reason":              "HTTP/1.1 404 %s\r\nContent-Length: 0\r\n\r\n",
		"status line":         "HTTP/1.1 4%s4 X\r\n\r\n",
		"protocol":            "%s\r\n\r\n",
		"header name":         "HTTP/1.1 200 OK\r\nX-%s: 1\r\n\r\n",
		"content range":       "HTTP/1.1 206 Partial Content\r\nContent-Range: %s\r\nContent-Length: 5\r\n\r\nhello",
		"content encoding":    "HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 5\r\n\r\nhello",
		"content length":      "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nhello",
		"transfer encoding":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\nhello",
		"chunk":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
		"location":            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/%s\r\nContent-Length: 0\r\n\r\n",
		"location host":       "HTTP/1.1 302 Found\r\nLocation: http://%s.localhost/\r\nContent-Length: 0\r\n\r\n",
		"location scheme":     "HTTP/1.1 302 Found\r\nLocation: %s://x/\r\nContent-Length: 0\r\n\r\n",
		"retry after":         "HTTP/1.1 404 No\r\nRetry-After: 9999%s\r\nContent-Length: 0\r\n\r\n",
		"trailing connection": "HTTP/1.1 200 OK\r\nConnection: %s\r\nContent-Length: 9\r\n\r\nhello",
	}
	for kind, answer := range answers {
		for name, word := range words {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 300_000).withDigest()
				var said lines
				said.listen(&w.fetcher)
				req := w.request
				req.Dest = filepath.Join(w.dir, testName)
				req.URL = rawServer(t, fmt.Sprintf(answer, word))
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				res, err := w.fetcher.Fetch(ctx, req)
				if err == nil || ctx.Err() != nil {
					t.Errorf("error %v", err)
				}
				said.check(t, res, err)
				if _, err := os.Lstat(req.Dest); err == nil {
					t.Error("a destination appeared")
				}
			})
		}
	}
}

// The validators that a good mirror sends may hold anything; the report of a good download is clean as well.
func TestWordsInGoodAnswers(t *testing.T) {
	for _, kind := range []mirrortest.FaultKind{mirrortest.ControlC1, mirrortest.ControlReason, mirrortest.ControlRedirect} {
		w := newWorld(t, 300_000).withDigest()
		var said lines
		said.listen(&w.fetcher)
		w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: kind}}})
		w.mirror(mirrortest.Config{})
		said.check(t, w.mustFetch(), nil)
	}
}

func TestControlCharactersInTheURL(t *testing.T) {
	w := newWorld(t, 1000)
	const odd = "/core/\x1b[2J\u009b\u202e.zst"
	m := w.mirror(mirrortest.Config{Files: map[string]mirrortest.File{odd: mirrortest.Bytes(w.data)}})
	var said lines
	said.listen(&w.fetcher)
	res, err := w.fetcher.Fetch(t.Context(), Request{URL: mustURL(m.URL(odd)), Dest: filepath.Join(w.dir, testName)})
	if err != nil {
		t.Fatal(err)
	}
	w.checkRight(res)
	said.check(t, res, err)
	res, err = w.fetcher.Fetch(t.Context(), Request{URL: mustURL(m.URL(odd + "x")), Dest: filepath.Join(w.dir, testName)})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want %v", err, ErrNotFound)
	}
	said.check(t, res, err)
	for _, text := range []string{"ftp://x/\x1b[2J", "\x1b[2J://x/"} {
		u := &url.URL{}
		u.Scheme, u.Path, _ = strings.Cut(text, "://")
		res, err := w.fetcher.Fetch(t.Context(), Request{URL: u, Dest: filepath.Join(w.dir, "other")})
		if err == nil {
			t.Errorf("%q was fetched", text)
		}
		said.check(t, res, err)
	}
}

func redirectTo(t *testing.T, to string, count *atomic.Int64) *url.URL {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := count.Add(1)
		w.Header().Set("Location", strings.ReplaceAll(to, "COUNT", fmt.Sprint(n)))
		w.WriteHeader(http.StatusFound)
	}))
	t.Cleanup(s.Close)
	return mustURL(s.URL + testPath)
}

func TestRedirectsAreBounded(t *testing.T) {
	for _, to := range []string{testPath, "/elsewhere/COUNT"} {
		w := newWorld(t, 1000)
		var count atomic.Int64
		res, err := w.fetcher.Fetch(t.Context(), Request{URL: redirectTo(t, to, &count), Dest: filepath.Join(w.dir, testName)})
		if err == nil || !strings.Contains(err.Error(), errRedirect.Error()) {
			t.Errorf("to %s: error %v", to, err)
		}
		if n := count.Load(); n != maxRedirects+1 || res.Sources[0].Requests != 1 {
			t.Errorf("to %s: %d requests, %s", to, n, w.describe(res))
		}
		w.checkOnly()
	}
}

func TestRedirectsToOtherSchemes(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"file://" + secret, "file:" + secret, "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "data:,x", "javascript:1", "unix:/x", "http://", "http:", "HTTP:///x", ":", "http://[::1", "http://127.0.0.1:99999/"} {
		w := newWorld(t, 1000)
		var said lines
		said.listen(&w.fetcher)
		var count atomic.Int64
		res, err := w.fetcher.Fetch(t.Context(), Request{URL: redirectTo(t, to, &count), Dest: filepath.Join(w.dir, testName)})
		if err == nil {
			t.Errorf("%s: no error", to)
		}
		if n := count.Load(); n != 1 {
			t.Errorf("%s: %d requests", to, n)
		}
		said.check(t, res, err)
		w.checkOnly()
	}
}

func TestHeadersAreBounded(t *testing.T) {
	for _, fault := range []mirrortest.Fault{
		{Kind: mirrortest.HugeHeader}, {Kind: mirrortest.HugeHeader, At: maxHeaderBytes + 8<<10}, {Kind: mirrortest.EndlessHeaders},
	} {
		w := newWorld(t, 1000)
		w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{fault}})
		if _, err := w.fetch(); err == nil || !strings.Contains(err.Error(), "header") {
			t.Errorf("%v: error %v", fault.Kind, err)
		}
		w.checkOnly()
	}
}

// An error or a report never tells the password that a URL holds.
func TestNoPasswordsInReports(t *testing.T) {
	w := newWorld(t, 1000)
	m := w.mirror(mirrortest.Config{Faults: []mirrortest.Fault{{Kind: mirrortest.Forbidden}}})
	u := mustURL(m.URL(testPath))
	u.User = url.UserPassword("me", "s3cret")
	var said lines
	said.listen(&w.fetcher)
	res, err := w.fetcher.Fetch(t.Context(), Request{URL: u, Dest: filepath.Join(w.dir, testName)})
	if err == nil {
		t.Error("no error")
	}
	report, jerr := json.Marshal(res)
	if jerr != nil {
		t.Fatal(jerr)
	}
	said.add(err.Error(), string(report))
	for _, text := range said.all {
		if strings.Contains(text, "s3cret") {
			t.Errorf("a person would read %q", text)
		}
	}
}

// nameServer answers for all tests of this package, so that none asks a real one. It knows no names but those it is told.
type nameServer struct {
	mu    sync.Mutex
	hosts map[string]netip.Addr
}

// Set before anything runs, since dialling goes on for a while after a fetch has ended.
var testNames = func() *nameServer {
	n := &nameServer{hosts: map[string]netip.Addr{}}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go n.serve(ours)
		return theirs, nil
	}}
	return n
}()

// names lets host names resolve to these addresses.
func names(hosts map[string]string) {
	testNames.mu.Lock()
	defer testNames.mu.Unlock()
	for name, ip := range hosts {
		testNames.hosts[name] = netip.MustParseAddr(ip)
	}
}

func (n *nameServer) serve(c net.Conn) {
	defer c.Close()
	for {
		var length uint16 // RFC 1035 section 4.2.2
		if binary.Read(c, binary.BigEndian, &length) != nil {
			return
		}
		query := make([]byte, length)
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(query) != nil || len(m.Questions) != 1 {
			return
		}
		n.answer(&m)
		out, err := m.AppendPack([]byte{0, 0})
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (n *nameServer) answer(m *dnsmessage.Message) {
	q := m.Questions[0]
	n.mu.Lock()
	ip, ok := n.hosts[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	n.mu.Unlock()
	m.Response, m.Additionals, m.RCode = true, nil, dnsmessage.RCodeNameError
	if !ok {
		return
	}
	m.RCode = dnsmessage.RCodeSuccess
	head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	switch {
	case ip.Is4() && q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: ip.As4()}}}
	case ip.Is6() && q.Type == dnsmessage.TypeAAAA:
		m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}}}
	}
}

func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// publicClient is a client for a file that is on a public host, as far as it knows.
func publicClient(t *testing.T, f *Fetcher, mirrors ...*url.URL) *client {
	c := newClient(f, Request{URL: mustURL("http://93.184.216.34" + testPath), Mirrors: mirrors})
	c.public = func() bool { return true }
	t.Cleanup(c.close)
	return c
}

// ask asks for u as a mirror would be asked.
func ask(t *testing.T, c *client, u string) error {
	t.Helper()
	parsed, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := c.get(ctx, parsed, nil)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// victim is a server that nobody but the user may send anybody to.
func victim(t *testing.T, addr string) *mirrortest.Server {
	s, err := mirrortest.Start(mirrortest.Config{Addr: addr, Files: map[string]mirrortest.File{"/": mirrortest.Bytes(nil), testPath: mirrortest.Bytes(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func portOf(s *mirrortest.Server) string { return mustURL(s.URL("/")).Port() }

// What a torrent or a redirect names may not be at a private address if the file is on a public one. The address that is
// dialled counts.
func TestReach(t *testing.T) {
	names(map[string]string{"loop.test": "127.0.0.1", "loop6.test": "::1", "ten.test": "10.1.2.3", "meta.test": "169.254.169.254", "mapped.test": "::ffff:127.0.0.1"})
	v4 := victim(t, "127.0.0.1:0")
	victims := []*mirrortest.Server{v4}
	p := portOf(v4)
	private := []string{"127.0.0.1:" + p, "127.9.9.9:" + p, "localhost:" + p, "0.0.0.0:" + p, "[::ffff:127.0.0.1]:" + p, "[::]:" + p,
		"loop.test:" + p, "LOOP.TEST.:" + p, "mapped.test:" + p, "ten.test", "meta.test", "169.254.169.254", "10.1.2.3", "192.168.1.1", "172.16.0.1",
		"100.64.0.1", "192.0.2.2", "198.18.0.1", "224.0.0.1", "255.255.255.255", "[fe80::1]", "[fe80::1%25lo]", "[fd00::1]",
		"[ff02::1%25lo]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]:" + p, "[2001:db8::1]"}
	odd := []string{"LOCALHOST.:" + p, "127.1:" + p, "2130706433:" + p, "0x7f000001:" + p, "0177.0.0.1:" + p, "0x7f.1:" + p, "127.0.0.1.:" + p, "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:" + p}
	if hasIPv6() {
		v6 := victim(t, "[::1]:0")
		victims = append(victims, v6)
		private = append(private, "[::1]:"+portOf(v6), "loop6.test:"+portOf(v6), "localhost:"+portOf(v6), "[0:0::1]:"+portOf(v6))
	}
	for _, host := range append(private, odd...) {
		err := ask(t, publicClient(t, &Fetcher{}), "http://"+host+"/")
		if err == nil || slices.Contains(private, host) && !errors.Is(err, errReach) {
			t.Errorf("%s: error %v, want %v", host, err, errReach)
		}
		if err := ask(t, publicClient(t, &Fetcher{}), "https://"+host+"/"); err == nil {
			t.Errorf("https, %s: no error", host)
		}
	}
	for _, v := range victims {
		if n := v.Stats().Connections; n != 0 {
			t.Errorf("%s: %d connections", v.URL("/"), n)
		}
	}

	// The user himself may name them, and so may anybody if the file is on a private host as well.
	own := mustURL(v4.URL("/"))
	if err := ask(t, publicClient(t, &Fetcher{}, own), own.String()); err != nil {
		t.Errorf("the user's own mirror: %v", err)
	}
	c := publicClient(t, &Fetcher{}, own)
	if err := ask(t, c, "http://loop.test:"+p+"/"); !errors.Is(err, errReach) {
		t.Errorf("the user's own mirror by another name: error %v", err)
	}
	c = publicClient(t, &Fetcher{})
	c.public = func() bool { return false }
	if err := ask(t, c, "http://loop.test:"+p+"/"); err != nil {
		t.Errorf("a private file: %v", err)
	}
}

// A transport that dials TLS by itself would get round the check.
func TestReachWithADialerOfTheCaller(t *testing.T) {
	dialled := 0
	dial := func(context.Context, string, string) (net.Conn, error) {
		dialled++
		return nil, errors.New("not by this")
	}
	f := &Fetcher{Transport: &http.Transport{DialContext: dial, DialTLSContext: dial,
		//lint:ignore SA1019 it must not get round the check either
		DialTLS: func(string, string) (net.Conn, error) { return dial(context.Background(), "", "") }}}
	for _, u := range []string{"https://127.0.0.1:1/", "http://127.0.0.1:1/"} {
		if err := ask(t, publicClient(t, f), u); !errors.Is(err, errReach) || dialled != 0 {
			t.Errorf("%s: error %v, dialled %d times", u, err, dialled)
		}
	}
}

func TestReachAfterRedirects(t *testing.T) {
	names(map[string]string{"loop.test": "127.0.0.1"})
	v := victim(t, "127.0.0.1:0")
	for _, host := range []string{"127.0.0.1", "localhost", "loop.test", "[::ffff:127.0.0.1]"} {
		var count atomic.Int64
		from := redirectTo(t, "http://"+host+":"+portOf(v)+testPath, &count)
		if err := ask(t, publicClient(t, &Fetcher{}, from), from.String()); !errors.Is(err, errReach) {
			t.Errorf("to %s: error %v, want %v", host, err, errReach)
		}
		if count.Load() != 1 || v.Stats().Connections != 0 {
			t.Errorf("to %s: %d requests, then %d connections", host, count.Load(), v.Stats().Connections)
		}
	}
	var count atomic.Int64
	to := mustURL(v.URL(testPath))
	from := redirectTo(t, to.String(), &count)
	if err := ask(t, publicClient(t, &Fetcher{}, from, to), from.String()); err != nil {
		t.Errorf("from one of the user's own mirrors to another: %v", err)
	}
}

// A proxy resolves names by itself, so what it is asked for is judged by its text. The proxy is the user's own, for asking
// it to fetch; nobody may name it as a mirror.
func TestReachThroughAProxy(t *testing.T) {
	names(map[string]string{"proxy.test": "127.0.0.1", "rebind.test": "127.0.0.1"})
	p := startProxy(t)
	via := p.url
	via.Host = "proxy.test:" + via.Port()
	f := &Fetcher{Transport: &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		if h := r.URL.Hostname(); h == "127.0.0.1" || h == "proxy.test" { // as NO_PROXY would have it
			return nil, nil
		}
		return via, nil
	}}}
	c := publicClient(t, f)
	if err := ask(t, c, "http://files.example.org"+testPath); err != nil || p.requests() != 1 {
		t.Fatalf("through the proxy: %v, %d requests", err, p.requests())
	}
	for _, u := range []string{"http://10.0.0.1/", "http://127.9.9.9/", "http://localhost/", "http://[::1]/", "http://169.254.169.254/latest", "http://router/",
		"http://nas.local/", "http://2130706433/", "http://0x7f.1/", "https://10.0.0.1/", "https://localhost/", "http://127.0.0.1:" + p.url.Port() + "/", "http://proxy.test:" + p.url.Port() + "/"} {
		if err := ask(t, c, u); !errors.Is(err, errReach) {
			t.Errorf("%s: error %v, want %v", u, err, errReach)
		}
	}
	if n := p.requests(); n != 1 {
		t.Errorf("the proxy saw %d requests", n)
	}
	own := mustURL("http://10.0.0.1/")
	if err := ask(t, publicClient(t, f, own), own.String()); err != nil || p.requests() != 2 {
		t.Errorf("the user's own private mirror through the proxy: %v, %d requests", err, p.requests())
	}
}

// inNetwork runs the calling test, of that name, in a network of its own: true in there, where 127.0.0.1 and the given
// addresses are the only ones. It needs root or user namespaces.
func inNetwork(t *testing.T, addresses ...string) bool {
	if os.Getenv("FETCHER_TEST_NETWORK") != t.Name() {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), "FETCHER_TEST_NETWORK="+t.Name())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if id := os.Geteuid(); id != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err != nil && !errors.As(err, &exit) && os.Getenv("CI") != "true":
			t.Skip("no network namespaces here:", err)
		case err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
			t.Errorf("%v\n%s", err, out)
		}
		return false
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	set := func(name string, request uint, fill func(*unix.Ifreq) error) {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, request, r)
		}
		if err != nil {
			t.Fatal(name, err)
		}
	}
	set("lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP); return nil })
	for i, a := range addresses {
		set(fmt.Sprintf("lo:%d", i+1), unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(a).To4()) })
	}
	return true
}

const publicIP = "198.51.101.1"

// The same end to end: a public host of which the torrent and the redirects point into the user's network.
func TestReachEndToEnd(t *testing.T) {
	if !inNetwork(t, publicIP, "10.9.9.9", "169.254.7.7", "192.168.9.9") {
		return
	}
	names(map[string]string{"public.test": publicIP, "loop.test": "127.0.0.1", "ten.test": "10.9.9.9"})
	inside := []string{"127.0.0.1", "10.9.9.9", "169.254.7.7", "192.168.9.9"}
	for _, origin := range []string{publicIP, "public.test", "127.0.0.1"} {
		w := newWorld(t, 6<<20)
		var victims []*mirrortest.Server
		seeds := []string{}
		for _, ip := range inside {
			v, err := mirrortest.Start(mirrortest.Config{Addr: ip + ":0", Files: map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data)}})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			victims = append(victims, v)
			seeds = append(seeds, v.URL(testPath))
		}
		seeds = append(seeds, "http://loop.test:"+portOf(victims[0])+testPath, "http://ten.test:"+portOf(victims[1])+testPath)
		var list strings.Builder
		for _, s := range seeds {
			fmt.Fprintf(&list, "%d:%s", len(s), s)
		}
		w.torrent = v1Torrent(testName, w.data, 64<<10, "8:url-listl"+list.String()+"e")
		good := w.mirror(mirrortest.Config{Addr: strings.Replace(origin, "public.test", publicIP, 1) + ":0", Rate: 6 << 20})
		req := w.prepare()
		req.URL.Host = origin + ":" + portOf(good)
		req.Torrent.URLs = []*url.URL{mustURL(req.URL.String() + ".torrent")}
		res, err := w.fetcher.Fetch(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: %v\n%s", origin, err, w.describe(res))
		}
		w.checkRight(res)
		if res.InfoHash == "" {
			t.Errorf("%s: the torrent was not used", origin)
		}
		met := 0
		for _, v := range victims {
			met += v.Stats().Connections
		}
		if private := origin == "127.0.0.1"; private != (met > 0) {
			t.Errorf("%s: private hosts saw %d connections\n%s", origin, met, w.describe(res))
		}

		for _, to := range append(seeds, "http://localhost:"+portOf(victims[0])+testPath) {
			var count atomic.Int64
			from := redirectTo(t, to, &count)
			from.Host = origin + ":" + relay(t, origin, from.Host)
			before := met
			res, err := w.fetcher.Fetch(t.Context(), Request{URL: from, Dest: filepath.Join(t.TempDir(), "x")})
			met = 0
			for _, v := range victims {
				met += v.Stats().Connections
			}
			if private := origin == "127.0.0.1"; private != (err == nil) || private != (met > before) || count.Load() == 0 {
				t.Errorf("%s, redirect to %s: %v, private hosts saw %d connections more\n%s", origin, to, err, met-before, w.describe(res))
			}
		}
	}
}

// relay listens on the address of origin for what listens at to, and returns the port.
func relay(t *testing.T, origin, to string) string {
	l, err := net.Listen("tcp", strings.Replace(origin, "public.test", publicIP, 1)+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go splice(c, to)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func splice(c net.Conn, to string) {
	defer c.Close()
	d, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer d.Close()
	go func() {
		io.Copy(d, c)
		d.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, d)
}

// From https nobody is led to http: not by a redirect, at whatever hop, and not by a torrent.
func TestHTTPSIsNotLeft(t *testing.T) {
	for _, viaPlain := range []bool{false, true} {
		w := newWorld(t, 1000)
		plain := victim(t, "127.0.0.1:0")
		secure := w.mirror(mirrortest.Config{TLS: true, Faults: []mirrortest.Fault{{Kind: mirrortest.Redirect, Target: plain.URL(testPath)}}})
		w.fetcher.Transport = trusting(secure)
		req := Request{URL: mustURL(secure.URL(testPath)), Dest: filepath.Join(w.dir, testName)}
		if viaPlain { // http, https, http
			var count atomic.Int64
			req.URL = redirectTo(t, secure.URL(testPath), &count)
		}
		_, err := w.fetcher.Fetch(t.Context(), req)
		if err == nil || !strings.Contains(err.Error(), errInsecure.Error()) {
			t.Errorf("error %v, want %v", err, errInsecure)
		}
		if n := plain.Stats().Connections; n != 0 {
			t.Errorf("the plain host saw %d connections", n)
		}
		w.checkOnly()
	}
	w := newWorld(t, 6<<20)
	files := map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data)}
	plain := w.mirror(mirrortest.Config{Files: files})
	w.mirrors = nil
	seed := plain.URL(testPath)
	w.torrent = v1Torrent(testName, w.data, 64<<10, fmt.Sprintf("8:url-list%d:%s", len(seed), seed))
	secure := w.mirror(mirrortest.Config{TLS: true, Rate: 6 << 20})
	w.fetcher.Transport = trusting(secure)
	if res := w.mustFetch(); res.InfoHash == "" {
		t.Error("the torrent was not used")
	}
	if n := plain.Stats().Connections; n != 0 {
		t.Errorf("the plain web seed of an https file saw %d connections", n)
	}
}

// witness is a server that writes down whom it was taken for and what it was told.
type witness struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type seen struct{ host, uri, authorization, referer, cookie string }

func startWitness(t *testing.T, h http.HandlerFunc) *witness {
	v := &witness{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		v.seen = append(v.seen, seen{r.Host, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Referer"), r.Header.Get("Cookie")})
		v.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *witness) port() string { return mustURL(v.URL).Port() }

// Credentials go to the server they are for, and nowhere a redirect points.
func TestCredentialsStayAtHome(t *testing.T) {
	names(map[string]string{"host.test": "127.0.0.1", "sub.host.test": "127.0.0.1", "other.test": "127.0.0.1"})
	data := []byte("content")
	serve := func(w http.ResponseWriter, r *http.Request) { w.Write(data) }
	other := startWitness(t, serve)
	var target string
	home := startWitness(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/from" && target != "" {
			http.SetCookie(w, &http.Cookie{Name: "id", Value: "1", Domain: "host.test"})
			w.Header().Set("Location", target)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		serve(w, r)
	})
	targets := map[string]bool{ // whether credentials may go along
		"":   true,
		"to": true,
		"http://host.test:" + home.port() + "/to":          true,
		"http://sub.host.test:" + home.port() + "/to":      false,
		"http://other.test:" + home.port() + "/to":         false,
		"http://127.0.0.1:" + home.port() + "/to":          false,
		"http://host.test:" + other.port() + "/to":         false,
		"http://u:p@other.test:" + other.port() + "/to":    false,
		"http://me:s3cret@host.test:" + other.port() + "/": false,
	}
	for to, along := range targets {
		for _, netrc := range []bool{false, true} {
			target = to
			home.seen, other.seen = nil, nil
			f := Fetcher{}
			u := mustURL("http://host.test:" + home.port() + "/from?q=1#fragment")
			if netrc {
				f.Credentials = func(u *url.URL) (string, string, bool) { return "me", "s3cret", u.Hostname() == "host.test" }
			} else {
				u.User = url.UserPassword("me", "s3cret")
			}
			dest := filepath.Join(t.TempDir(), "x")
			if res, err := f.Fetch(t.Context(), Request{URL: u, Dest: dest}); err != nil || res.Size != int64(len(data)) {
				t.Fatalf("%s: %v", to, err)
			}
			all := append(home.seen, other.seen...)
			if want := 2; to != "" && len(all) != want {
				t.Fatalf("to %s: %d requests", to, len(all))
			}
			for i, r := range all {
				if has := r.authorization != ""; has != (i == 0 || along) {
					t.Errorf("to %s, netrc %v: %s%s was told %q", to, netrc, r.host, r.uri, r.authorization)
				}
				if r.referer != "" || r.cookie != "" || strings.Contains(r.uri, "#") || strings.Contains(r.uri, "fragment") {
					t.Errorf("to %s: %+v", to, r)
				}
			}
		}
	}
}

// Nor do they go to other mirrors, or to what a torrent names, though the user has some for that name.
func TestCredentialsAreNotForMirrorsAndSeeds(t *testing.T) {
	w := newWorld(t, 6<<20)
	files := map[string]mirrortest.File{testPath: mirrortest.Bytes(w.data)}
	seed := w.mirror(mirrortest.Config{Files: files, Rate: 6 << 20})
	w.mirrors = nil
	text := seed.URL(testPath)
	withUser := strings.Replace(text, "//", "//me:s3cret@", 1)
	w.torrent = v1Torrent(testName, w.data, 64<<10, fmt.Sprintf("8:url-listl%d:%s%d:%se", len(text), text, len(withUser), withUser))
	home := w.mirror(mirrortest.Config{Rate: 3 << 20})
	mirror := w.mirror(mirrortest.Config{Rate: 3 << 20})
	req := w.prepare()
	req.URL.User = url.UserPassword("me", "s3cret")
	ask := func(credentials func(*url.URL) (string, string, bool)) {
		w.fetcher.Credentials = credentials
		res, err := w.fetcher.Fetch(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		w.checkRight(res)
		if len(res.Sources) != 3 {
			t.Fatalf("not all were asked:\n%s", w.describe(res))
		}
		os.Remove(req.Dest)
	}
	told := func(s *mirrortest.Server) (n int) {
		for _, e := range s.Stats().Log {
			if e.Header.Get("Authorization") != "" {
				n++
			}
		}
		return n
	}
	ask(nil)
	if told(home) == 0 || told(mirror) != 0 || told(seed) != 0 {
		t.Errorf("URL with userinfo: told %d times at home, %d at the mirror, %d at the web seed", told(home), told(mirror), told(seed))
	}
	ask(func(*url.URL) (string, string, bool) { return "netrc", "knows the host, not the port", true })
	if told(mirror) == 0 || told(seed) != 0 {
		t.Errorf("netrc: told %d times at the mirror, %d at the web seed", told(mirror), told(seed))
	}
}
