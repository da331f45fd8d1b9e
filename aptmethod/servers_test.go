package aptmethod

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bare is a server that answers each request for a path with the bytes given for it, whatever they are, and then, if they
// do not say otherwise, takes the next request. An answer that ends in hang stays open.
func bare(t *testing.T, answer func(n int, r *http.Request) (text string, last bool)) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					text, last := answer(int(n.Add(1)), req)
					whole, hangs := strings.CutSuffix(text, hang)
					io.WriteString(c, whole)
					if hangs {
						io.Copy(io.Discard, r)
					}
					if last {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

const hang = "\x00hang"

func full(content string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(content), content)
}

// What servers do wrong costs another request at most, or apt is told the truth.
func TestOddServers(t *testing.T) {
	content := contentOf("odd")
	chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(content), content)
	for name, c := range map[string]struct {
		part    string // what lies there before
		answer  func(n int, r *http.Request) (string, bool)
		code    int
		message string
		config  []string
	}{
		"closes after each answer without a word": {answer: func(int, *http.Request) (string, bool) { return full(content), true }, code: 201},
		"chunked":       {answer: func(int, *http.Request) (string, bool) { return chunked, false }, code: 201},
		"until the end": {answer: func(int, *http.Request) (string, bool) { return "HTTP/1.0 200 OK\r\n\r\n" + content, true }, code: 201},
		"416 of another size": {part: content[:99], answer: func(_ int, r *http.Request) (string, bool) {
			if r.Header.Get("Range") != "" {
				return "HTTP/1.1 416 No\r\nContent-Range: bytes */7\r\nContent-Length: 0\r\n\r\n", false
			}
			return full(content), false
		}, code: 201},
		"416 for ever": {part: content[:99], answer: func(int, *http.Request) (string, bool) {
			return "HTTP/1.1 416 No\r\nContent-Range: bytes */7\r\nContent-Length: 0\r\n\r\n", false
		}, code: 400, message: "416"},
		"206 of another place": {part: content[:99], answer: func(_ int, r *http.Request) (string, bool) {
			if r.Header.Get("Range") != "" {
				return fmt.Sprintf("HTTP/1.1 206 Part\r\nContent-Range: bytes 50-%d/%d\r\nContent-Length: %d\r\n\r\n%s", len(content)-1, len(content), len(content)-50, content[50:]), false
			}
			return full(content), false
		}, code: 201},
		"206 beyond what is there": {part: content[:99], answer: func(_ int, r *http.Request) (string, bool) {
			return fmt.Sprintf("HTTP/1.1 206 Part\r\nContent-Range: bytes 200-%d/%d\r\nContent-Length: %d\r\n\r\n%s", len(content)-1, len(content), len(content)-200, content[200:]), false
		}, code: 400, message: "Hash Sum mismatch"},
		"206 that nobody asked for": {answer: func(_ int, r *http.Request) (string, bool) {
			return "HTTP/1.1 206 Part\r\nContent-Length: 4\r\n\r\nabcd", false
		}, code: 400, message: "invalid Content-Range"},
		"hangs within the body": {config: []string{"Acquire::http::Timeout=1"}, answer: func(int, *http.Request) (string, bool) {
			return full(content)[:2000] + hang, true
		}, code: 400, message: "Connection timed out"},
		"hangs before the header": {config: []string{"Acquire::http::Timeout=1"}, answer: func(int, *http.Request) (string, bool) { return hang, true },
			code: 400, message: "Connection timed out"},
		"ends within the body": {answer: func(int, *http.Request) (string, bool) { return full(content)[:2000], true }, code: 400, message: "Remote end closed connection"},
		"a header without end": {answer: func(int, *http.Request) (string, bool) {
			return "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 1000)+"\r\n", 1000) + "\r\n", true
		}, code: 400, message: "Bad header data"},
		"another size": {answer: func(int, *http.Request) (string, bool) { return full(content + "more"), false }, code: 400, message: "File has unexpected size"},
		"chunks without end": {answer: func(int, *http.Request) (string, bool) {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 100), true
		}, code: 400, message: "File has unexpected size"},
		"rubbish": {answer: func(int, *http.Request) (string, bool) { return "SSH-2.0-OpenSSH\r\n\r\n", true }, code: 400, message: "Bad header data"},
		"a redirect to itself": {answer: func(_ int, r *http.Request) (string, bool) {
			return "HTTP/1.1 302 Found\r\nLocation: " + r.RequestURI + "\r\nContent-Length: 0\r\n\r\n", false
		}, code: 400, message: "Redirection loop"},
		"a redirect elsewhere": {answer: func(int, *http.Request) (string, bool) {
			return "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", false
		}, code: 103},
		"redirects are not allowed": {config: []string{"Acquire::http::AllowRedirect=false"}, answer: func(int, *http.Request) (string, bool) {
			return "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", false
		}, code: 400, message: "302"},
		"words for a terminal": {answer: func(int, *http.Request) (string, bool) {
			return "HTTP/1.1 404 \x1b[2Jgone\r\nContent-Length: 0\r\n\r\n", false
		}, code: 400, message: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := bare(t, c.answer)
			path := filepath.Join(t.TempDir(), "f")
			if c.part != "" {
				if err := os.WriteFile(path, []byte(c.part), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a := serve(t, &Method{}, c.config...)
			uri := "torrent+" + url + "/f%2b%7e.deb?" + strings.Repeat("x", 100_000)
			a.say(ask(uri, path, content))
			m := a.next()
			for m != nil && (m.code == 200 || m.code == 104) {
				m = a.next()
			}
			if m == nil || m.code != c.code || !strings.Contains(m.get("Message"), c.message) || m.get("URI") != uri {
				t.Fatalf("%.300q", fmt.Sprint(m))
			}
			if strings.Contains(m.get("Message"), "\x1b") {
				t.Errorf("%q", m.get("Message"))
			}
			if got, _ := os.ReadFile(path); c.code == 201 && string(got) != content {
				t.Errorf("the file is wrong: %d bytes", len(got))
			}
			if err := a.end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Ten files are asked of a server that closes the connection after each answer, having been sent requests ahead.
func TestClosedAfterEach(t *testing.T) {
	url := bare(t, func(_ int, r *http.Request) (string, bool) { return full(contentOf(r.URL.Path)), true })
	dir := t.TempDir()
	a := serve(t, &Method{})
	go func() {
		for i := range 10 {
			name := fmt.Sprintf("/f%d", i)
			a.say(ask("torrent+"+url+name, filepath.Join(dir, name), contentOf(name)))
		}
	}()
	for range 10 {
		a.want(200)
		a.want(201)
	}
	for i := range 10 {
		name := fmt.Sprintf("/f%d", i)
		if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != contentOf(name) {
			t.Errorf("%s is wrong", name)
		}
	}
	if err := a.end(); err != nil {
		t.Error(err)
	}
}

// apt's settings and apt_auth.conf(5) are seen by the server.
func TestWhatIsSent(t *testing.T) {
	var got atomic.Pointer[http.Request]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		w.WriteHeader(http.StatusNotModified)
	}))
	defer srv.Close()
	etc := t.TempDir()
	host := strings.TrimPrefix(srv.URL, "http://")
	if err := os.WriteFile(filepath.Join(etc, "auth.conf"), []byte("machine http://"+host+" login me password secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := serve(t, &Method{}, "Dir::Etc="+etc, "Dir::Etc::netrc=auth.conf", "Acquire::http::User-Agent=no", "Acquire::torrent::User-Agent=yes",
		"Acquire::http::Max-Age=7", "Acquire::http::Referer=here")
	uri := "torrent+" + srv.URL + "/a%2bb/InRelease"
	// Dates of the wrong form are no dates.
	for _, date := range []string{"Sat, 01 Jan 2000 00:00:00 +0000", "yesterday"} {
		a.say("600 URI Acquire\nURI: " + uri + "\nFilename: " + filepath.Join(etc, "f") + "\nIndex-File: true\nLast-Modified: " + date + "\n")
		if m := a.want(201); m.get("IMS-Hit") != "true" {
			t.Errorf("%+v", m)
		}
		r := got.Load()
		since := "Sat, 01 Jan 2000 00:00:00 GMT"
		if date == "yesterday" {
			since = ""
		}
		for name, want := range map[string]string{"User-Agent": "yes", "Cache-Control": "max-age=7", "Referer": "here", "Accept": "text/*",
			"Authorization": basic("me", "secret"), "If-Modified-Since": since} {
			if v := r.Header.Get(name); v != want {
				t.Errorf("%s: %q instead of %q", name, v, want)
			}
		}
		if r.RequestURI != "/a%2bb/InRelease" {
			t.Errorf("asked for %s", r.RequestURI)
		}
	}
	if err := a.end(); err != nil {
		t.Error(err)
	}
}

// Dl-Limit holds for both ways, and what the user forbids keeps the engine out.
func TestLimits(t *testing.T) {
	content := strings.Repeat("x", 2<<20)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }))
	defer srv.Close()
	for config, asked := range map[string]bool{"Acquire::ForceIPv4=true": true, "Acquire::http::AllowRanges=false": false, "Acquire::http::AllowRedirect=false": false,
		"Acquire::http::No-Cache=true": false, "Acquire::http::No-Store=true": false, "Acquire::torrent::Minimum-Size=3000000": false} {
		was := false
		a := serve(t, &Method{Engine: engine(func(_ context.Context, f File) (int64, error) {
			was = true
			if f.LimitRate != 4000<<10 || f.Network != "tcp4" {
				t.Errorf("%d bytes/s, network %q", f.LimitRate, f.Network)
			}
			return 0, io.ErrUnexpectedEOF
		})}, "Acquire::http::Dl-Limit=4000", config)
		path, began := filepath.Join(t.TempDir(), "f"), time.Now()
		a.say(ask("torrent+"+srv.URL+"/f", path, content))
		a.want(200)
		a.want(201)
		if was != asked {
			t.Errorf("%s: the engine was asked: %v", config, was)
		}
		if d := time.Since(began); d < 300*time.Millisecond {
			t.Errorf("%s: 2 MiB at 4000 KiB/s came within %v", config, d)
		}
		if err := a.end(); err != nil {
			t.Error(err)
		}
	}
}

// A Filename may be relative, and a link to where the file is to be.
func TestLinkedFilename(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, contentOf("x")) }))
	defer srv.Close()
	t.Chdir(t.TempDir())
	if err := os.Symlink("target", "link"); err != nil {
		t.Fatal(err)
	}
	a := serve(t, &Method{})
	a.say(ask("torrent+"+srv.URL+"/f", "link", contentOf("x")))
	a.want(200)
	if m := a.want(201); m.get("Filename") != "link" {
		t.Errorf("%+v", m)
	}
	if got, _ := os.ReadFile("target"); string(got) != contentOf("x") {
		t.Errorf("the target of the link holds %d bytes", len(got))
	}
	if err := a.end(); err != nil {
		t.Error(err)
	}
}
