package mirrortest

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// sample returns n bytes that look random and are the same every time.
func sample(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// start starts a mirror that ends with the test.
func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// client returns a client of its own connections. It follows no redirects and asks for identity encoding.
func client(t testing.TB, s *Server) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// get asks for a path with header lines given in pairs.
func get(t testing.TB, c *http.Client, s *Server, path string, header ...string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.Do(req)
}

// fetch is get with the body.
func fetch(t testing.TB, c *http.Client, s *Server, path string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	resp, err := get(t, c, s, path, header...)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

func TestGoodMirror(t *testing.T) {
	data := sample(1 << 20)
	s := start(t, Config{Files: map[string]File{"/a": Bytes(data)}})
	c := client(t, s)
	resp, body, err := fetch(t, c, s, "/a")
	if err != nil || resp.StatusCode != 200 || !bytes.Equal(body, data) {
		t.Fatal(resp, err)
	}
	resp, body, err = fetch(t, c, s, "/a", "Range", "bytes=1000-1999")
	if err != nil || resp.StatusCode != 206 || !bytes.Equal(body, data[1000:2000]) ||
		resp.Header.Get("Content-Range") != "bytes 1000-1999/1048576" {
		t.Fatal(resp, err)
	}
	st := s.Stats()
	if st.BodyBytes != 1<<20+1000 || st.Paths["/a"] != 1<<20+1000 || st.Requests != 2 || st.Connections != 1 {
		t.Fatal(st)
	}
	if e := st.Log[1]; e.Range != "bytes=1000-1999" || e.Status != 206 || e.BodyBytes != 1000 {
		t.Fatal(e)
	}
}

func TestDelay(t *testing.T) {
	const d = 60 * time.Millisecond
	s := start(t, Config{Files: map[string]File{"/a": Bytes(sample(1000))}, Delay: d})
	c := client(t, s)
	for _, least := range []time.Duration{2 * d, d, d} {
		begin := time.Now()
		if _, body, err := fetch(t, c, s, "/a"); err != nil || len(body) != 1000 {
			t.Fatal(err)
		}
		took := time.Since(begin)
		t.Log(took)
		if took < least {
			t.Errorf("took %v, less than %v", took, least)
		}
	}
}
