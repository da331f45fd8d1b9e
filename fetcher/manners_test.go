package fetcher

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"torrent-xfer/internal/mirrortest"
)

// trusting is a transport that knows the certificate of s.
func trusting(s *mirrortest.Server) *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}
}

// proxy answers http requests by asking itself, or with an empty page where the host does not exist, and relays CONNECT.
type proxy struct {
	url  *url.URL
	mu   sync.Mutex
	seen []string // method and target
}

func startProxy(t *testing.T) *proxy {
	p := &proxy{}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = mustURL(s.URL)
	return p
}

func (p *proxy) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	if r.Method == http.MethodConnect {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		if buf.Reader.Buffered() == 0 {
			splice(c, r.RequestURI)
		}
		c.Close()
		return
	}
	if ip := net.ParseIP(r.URL.Hostname()); ip == nil || !ip.IsLoopback() {
		return
	}
	ask, err := http.NewRequestWithContext(r.Context(), r.Method, r.RequestURI, nil)
	if err != nil {
		return
	}
	ask.Header = r.Header.Clone()
	res, err := http.DefaultTransport.RoundTrip(ask)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer res.Body.Close()
	for k, v := range res.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(res.StatusCode)
	io.Copy(w, res.Body)
}
