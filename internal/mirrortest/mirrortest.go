// Package mirrortest starts HTTP mirrors that misbehave on request: slow ones, distant ones, dead ones and liars, on
// real sockets of this machine. A mirror without faults answers as nginx answers for a static file. It is for tests, the
// demo and the benchmark; no production code imports it.
package mirrortest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// File is one file that a mirror holds.
type File struct {
	Data io.ReaderAt // nil: an empty file
	Size int64       // bytes
	// ModTime is sent as Last-Modified. Zero: no Last-Modified is sent.
	ModTime time.Time
	// ETag is sent as it stands, so it needs its quotes. "": derived from ModTime and Size as nginx does; none if
	// ModTime is zero.
	ETag string
	// ContentType of the answer. "": application/octet-stream.
	ContentType string
}

// Bytes returns a File with content b. Its ModTime is the same for every call, so mirrors given the same bytes agree on
// all validators, as after an rsync.
func Bytes(b []byte) File {
	return File{Data: bytes.NewReader(b), Size: int64(len(b)), ModTime: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func (f File) etag() string {
	if f.ETag != "" || f.ModTime.IsZero() {
		return f.ETag
	}
	return fmt.Sprintf(`"%x-%x"`, f.ModTime.Unix(), f.Size)
}

// Config describes one mirror. The zero value is a good, unlimited mirror without files.
type Config struct {
	// Files are served by URL path with leading slash. nil: none.
	Files map[string]File
	// Dir is a directory whose regular files are served too, below "/"; Files come first. "": none.
	Dir string
	// Headers are sent with every answer to a request of a URL path, redirects and errors included. nil: none.
	Headers map[string]http.Header
	// Rate is the sum of body bytes/s over all connections. As on a wire, idle time earns no credit. 0: unlimited.
	Rate int64
	// Delay is one round trip. A new connection costs one, each request one more, each flight of a TLS handshake one.
	// It never limits throughput. 0: none.
	Delay time.Duration
	// Faults are tried in this order. Of those that answer in place of the file the first that strikes wins; the
	// others combine. nil: a good mirror.
	Faults []Fault
	// TLS serves https with a certificate made by the mirror itself; see Server.CertPool.
	TLS bool
	// HTTP2 offers HTTP/2 to TLS clients. Faults that need a broken HTTP/1 header reset the connection there.
	HTTP2 bool
	// Addr is where to listen, as host:port. "": 127.0.0.1 and a free port.
	Addr string
}

// Server is a running mirror.
type Server struct {
	cfg    Config
	faults []*faultState
	root   *os.Root // nil: no Dir
	addr   *net.TCPAddr
	port   *reservation
	srv    *http.Server
	pool   *x509.CertPool
	bucket *bucket // nil: unlimited
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // accepted connections, handlers, helpers
	stats  recorder
	// buffers holds *[128 << 10]byte for bodies that the kernel cannot copy by itself.
	buffers sync.Pool

	mu       sync.Mutex
	closed   bool
	listener net.Listener // nil: nothing listens
	conns    map[*conn]struct{}
	torrents map[string]File // made for OwnTorrent and OldTorrent, by kind and path
}

// Start starts a mirror. It listens when Start returns, unless a fault says otherwise. Close has to be called.
func Start(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, conns: map[*conn]struct{}{}, torrents: map[string]File{}}
	for i := range cfg.Faults {
		f, err := newFaultState(cfg.Faults[i], uint64(i))
		if err != nil {
			return nil, err
		}
		s.faults = append(s.faults, f)
	}
	if cfg.HTTP2 && !cfg.TLS {
		return nil, errors.New("mirrortest: HTTP2 needs TLS")
	}
	if cfg.Rate < 0 || cfg.Delay < 0 {
		return nil, errors.New("mirrortest: negative rate or delay")
	}
	if cfg.Rate > 0 {
		s.bucket = newBucket(cfg.Rate)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(cfg.HTTP2)
	s.srv = &http.Server{
		Handler:     http.HandlerFunc(s.serveHTTP),
		Protocols:   protocols,
		ErrorLog:    log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, unwrap(c))
		},
		ConnState: func(_ net.Conn, st http.ConnState) {
			if st == http.StateClosed || st == http.StateHijacked {
				s.wg.Done()
			}
		},
	}
	if cfg.TLS {
		cert, pool, err := makeCertificate()
		if err != nil {
			return nil, err
		}
		s.pool = pool
		s.srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	if cfg.Dir != "" {
		root, err := os.OpenRoot(cfg.Dir)
		if err != nil {
			return nil, err
		}
		s.root = root
	}
	if err := s.open(); err != nil {
		if s.root != nil {
			s.root.Close()
		}
		return nil, err
	}
	return s, nil
}

// open reserves the port and starts to serve, in the way the connection faults want it.
func (s *Server) open() error {
	addr := s.cfg.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := listen(s.ctx, addr)
	if err != nil {
		return err
	}
	s.addr = l.Addr().(*net.TCPAddr)
	if s.port, err = reserve(s.addr); err != nil {
		l.Close()
		return err
	}
	for _, f := range s.faults {
		switch f.Kind {
		case Refuse:
			return l.Close()
		case Unreachable:
			if err := s.overflow(l, f.Dur); err != nil {
				l.Close()
				s.port.release()
				return err
			}
			return nil
		}
	}
	s.serve(l)
	return nil
}

// serve accepts from l in the background until l or the mirror is closed.
func (s *Server) serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return
	}
	s.listener = l
	s.wg.Go(func() {
		wrapped := &listener{Listener: l, s: s}
		// Both return only when the listener is closed.
		if s.cfg.TLS {
			s.srv.ServeTLS(wrapped, "", "")
		} else {
			s.srv.Serve(wrapped)
		}
	})
}

// after runs f when d has passed, unless the mirror is closed before. d <= 0: never.
func (s *Server) after(d time.Duration, f func()) {
	if d <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.wg.Go(func() {
		if sleep(s.ctx, d) == nil {
			f()
		}
	})
}

// vanish resets every connection and refuses new ones for d. d <= 0: for good.
func (s *Server) vanish(d time.Duration) {
	s.mu.Lock()
	l := s.listener
	s.listener = nil
	if l == nil {
		s.mu.Unlock()
		return
	}
	l.Close()
	conns := s.snapshot()
	s.mu.Unlock()
	for _, c := range conns {
		c.reset()
	}
	s.after(d, func() {
		// Nobody else can hold the port, as it is reserved; an error means that the mirror stays away.
		if l, err := listen(s.ctx, s.addr.String()); err == nil {
			s.serve(l)
		}
	})
}

// snapshot returns the open connections. s.mu is held.
func (s *Server) snapshot() []*conn {
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// URL returns the absolute URL of path on this mirror. A missing leading slash is added; the path is escaped.
func (s *Server) URL(path string) string {
	u := url.URL{Scheme: "http", Host: s.addr.String(), Path: "/" + strings.TrimPrefix(path, "/")}
	if s.cfg.TLS {
		u.Scheme = "https"
	}
	return u.String()
}

// CertPool returns a pool with the mirror's own certificate. nil without TLS.
func (s *Server) CertPool() *x509.CertPool { return s.pool }

// Stats returns what has happened so far. Requests under way are in it with what they sent until now.
func (s *Server) Stats() Stats { return s.stats.snapshot() }

// Close ends the mirror with everything that hangs in it, and waits for that. It may be called twice.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return
	}
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
	conns := s.snapshot()
	s.mu.Unlock()
	s.cancel()
	for _, c := range conns {
		c.Close()
	}
	s.srv.Close()
	s.wg.Wait()
	s.port.release()
	if s.root != nil {
		s.root.Close()
	}
}

// sleep waits for d. It returns the context's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
