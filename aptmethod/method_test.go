package aptmethod

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// talker stands for apt.
type talker struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Reader
	done chan error
}

func serve(t *testing.T, m *Method, config ...string) *talker {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	m.In, m.Out = inR, outW
	if m.Name == "" {
		m.Name = "torrent+http"
	}
	a := &talker{t, inW, bufio.NewReader(outR), make(chan error, 1)}
	go func() { a.done <- m.Serve(t.Context()); outW.Close() }()
	if c := a.next(); c == nil || c.code != 100 {
		t.Fatalf("no capabilities but %v", c)
	}
	text := "601 Configuration\nConfig-Item: Acquire::Send-URI-Encoded=1\n"
	for _, c := range config {
		text += "Config-Item: " + c + "\n"
	}
	a.say(text)
	return a
}

func (a *talker) say(text string) {
	if _, err := io.WriteString(a.in, text+"\n"); err != nil {
		a.t.Error(err)
	}
}

// next is the next message but 102. nil: there are no more.
func (a *talker) next() *message {
	for {
		m, err := readMessage(a.out)
		if err != nil {
			return nil
		}
		if m.code != 102 {
			return m
		}
	}
}

func (a *talker) want(code int) *message {
	a.t.Helper()
	m := a.next()
	if m == nil || m.code != code {
		a.t.Fatalf("not a %d but %+v", code, m)
	}
	return m
}

func (a *talker) end() error {
	a.in.Close()
	go io.Copy(io.Discard, a.out)
	return <-a.done
}

func ask(uri, file string, content string) string {
	return fmt.Sprintf("600 URI Acquire\nURI: %s\nFilename: %s\nExpected-SHA256: %x\nExpected-Checksum-FileSize: %d\n",
		uri, file, sha256.Sum256([]byte(content)), len(content))
}

func contentOf(name string) string { return strings.Repeat(name+"\n", 1000) }

// Requests are sent ahead on one connection, files come in order, and of one at a time apt is told.
func TestManySmallFiles(t *testing.T) {
	const files = 60
	var connections atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, contentOf(r.URL.Path))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	dir := t.TempDir()
	a := serve(t, &Method{})
	base := "torrent+" + srv.URL
	var sender sync.WaitGroup
	window := make(chan bool, 10) // as apt has it
	sender.Go(func() {
		for i := range files {
			window <- true
			name := fmt.Sprintf("/f%d", i)
			a.say(ask(base+name, filepath.Join(dir, name), contentOf(name)))
		}
	})
	for i := range files {
		name := fmt.Sprintf("/f%d", i)
		for _, code := range []int{200, 201} {
			if m := a.want(code); m.get("URI") != base+name {
				t.Fatalf("%d of %s instead of %s", code, m.get("URI"), name)
			}
		}
		if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != contentOf(name) {
			t.Errorf("%s is wrong", name)
		}
		<-window
	}
	sender.Wait()
	if err := a.end(); err != nil {
		t.Error(err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

type engine func(ctx context.Context, f File) (int64, error)

func (e engine) Fetch(ctx context.Context, f File) (int64, error) { return e(ctx, f) }

// Whatever the engine does, apt gets the right file or the truth.
func TestEngine(t *testing.T) {
	content := strings.Repeat("x", 3<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }))
	defer srv.Close()
	put := func(f File, text string) { os.WriteFile(f.Path, []byte(text), 0o600) }
	for name, c := range map[string]struct {
		do   engine
		last int
	}{
		"right": {func(_ context.Context, f File) (int64, error) { f.Started(0); put(f, content); return 0, nil }, 201},
		"wrong": {func(_ context.Context, f File) (int64, error) {
			f.Started(0)
			put(f, strings.Repeat("y", 3<<20))
			return 0, nil
		}, 201},
		"short":   {func(_ context.Context, f File) (int64, error) { put(f, content[:5]); return 0, nil }, 201},
		"fails":   {func(_ context.Context, f File) (int64, error) { return 0, errors.New("no") }, 201},
		"nowhere": {func(_ context.Context, f File) (int64, error) { return 0, fmt.Errorf("%w: a, b", ErrWrong) }, 400},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			a := serve(t, &Method{Engine: c.do}, "Acquire::torrent::Mirrors::="+srv.URL)
			a.say(ask("torrent+"+srv.URL+"/f", path, content))
			m := a.next()
			if m.code == 200 {
				m = a.next()
			}
			if m.code != c.last {
				t.Fatalf("%+v", m)
			}
			if c.last == 400 {
				if m.get("FailReason") != "HashSumMismatch" || m.get("Transient-Failure") != "" {
					t.Errorf("%+v", m)
				}
			} else if got, _ := os.ReadFile(path); string(got) != content || m.get("SHA256-Hash") != fmt.Sprintf("%x", sha256.Sum256([]byte(content))) {
				t.Errorf("the file is wrong, or what was told of it: %+v", m)
			}
			if err := a.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A small file that a mirror spoils comes from another one; each liar is named once.
func TestSmallFileFromAnotherMirror(t *testing.T) {
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, contentOf("bad!")) }))
	defer bad.Close()
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, contentOf("good")) }))
	defer good.Close()
	for _, both := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "f")
		second := good.URL
		if !both {
			second = "http://localhost" + bad.URL[strings.LastIndexByte(bad.URL, ':'):] // the liar once more
		}
		a := serve(t, &Method{}, "Acquire::torrent::Mirrors::="+bad.URL, "Acquire::torrent::Mirrors::="+second)
		uri := "torrent+" + bad.URL + "/f"
		a.say(ask(uri, path, contentOf("good")))
		a.want(200)
		if m := a.want(104); !strings.Contains(m.get("Message"), "sent wrong bytes") {
			t.Errorf("%+v", m)
		}
		if both {
			if m := a.want(201); m.get("URI") != uri {
				t.Errorf("%+v", m)
			}
			if got, _ := os.ReadFile(path); string(got) != contentOf("good") {
				t.Errorf("the file is wrong")
			}
		} else {
			a.want(104)
			if m := a.want(400); m.get("FailReason") != "HashSumMismatch" || !strings.Contains(m.get("Message"), "Hashes of expected file") {
				t.Errorf("%+v", m)
			}
		}
		if err := a.end(); err != nil {
			t.Error(err)
		}
	}
}

func TestEndsAtOnce(t *testing.T) {
	hang := make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	a := serve(t, &Method{})
	a.say(ask("torrent+"+srv.URL+"/f", filepath.Join(t.TempDir(), "f"), "x"))
	time.Sleep(50 * time.Millisecond)
	a.in.Close()
	go io.Copy(io.Discard, a.out)
	select {
	case err := <-a.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on though apt has hung up")
	}
}
