package mirrortest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type connKey struct{}

// listen listens so that the port can be reserved at the same time.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	return lc.Listen(ctx, "tcp", addr)
}

// reservation is a socket that is bound but does not listen: connections are refused, and the port stays ours.
type reservation struct{ fd int }

func reserve(addr *net.TCPAddr) (*reservation, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr
	if ip := addr.IP.To4(); ip != nil {
		sa = &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip)}
	} else {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: addr.Port, Addr: [16]byte(addr.IP.To16())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &reservation{fd}, nil
}

func (r *reservation) release() { unix.Close(r.fd) }

// overflow lets l answer no SYN for d (d <= 0: for good): its queue has room for one connection, and that one is taken.
func (s *Server) overflow(l net.Listener, d time.Duration) error {
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return err
	}
	backlog := func(n int) (err error) {
		if cerr := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), n) }); cerr != nil {
			return cerr
		}
		return err
	}
	if err := backlog(0); err != nil {
		return err
	}
	filler, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.listener = l
	s.mu.Unlock()
	s.wg.Go(func() {
		<-s.ctx.Done()
		filler.Close()
	})
	s.after(d, func() {
		filler.Close()
		if backlog(unix.SOMAXCONN) == nil {
			s.serve(l)
		}
	})
	return nil
}

// listener counts and wraps what it accepts.
type listener struct {
	net.Listener
	s *Server
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.s.adopt(nc.(*net.TCPConn)); c != nil {
			return c, nil
		}
	}
}

// adopt wraps an accepted connection. nil: the mirror is closed already.
func (s *Server) adopt(tcp *net.TCPConn) *conn {
	c := &conn{TCPConn: tcp, s: s}
	ready := time.Now().Add(s.cfg.Delay)
	slow := false
	for f := range s.struck(stageConnection, "", nil) {
		ready = ready.Add(f.Dur)
		slow = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		tcp.Close()
		return nil
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1) // until ConnState says that net/http is done with it
	s.stats.connection()
	if s.cfg.Delay > 0 || slow {
		c.in = newInbox(tcp, ready, s.cfg.Delay)
		s.wg.Go(c.in.pump)
	}
	return c
}

// conn is an accepted connection whose bytes from the client may be late.
type conn struct {
	*net.TCPConn // its ReadFrom lets the kernel send files
	s            *Server
	in           *inbox // nil: no delay
}

func (c *conn) Read(p []byte) (int, error) {
	if c.in == nil {
		return c.TCPConn.Read(p)
	}
	return c.in.read(p)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	if c.in == nil {
		return c.TCPConn.SetReadDeadline(t)
	}
	c.in.deadline.set(t)
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

func (c *conn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	if c.in != nil {
		c.in.close()
	}
	return c.TCPConn.Close()
}

// reset ends the connection with RST. What was written before it has to be drained first.
func (c *conn) reset() {
	c.SetLinger(0)
	c.Close()
}

// drain waits until the client's kernel has everything that was written: an RST throws away what is still queued here.
func (c *conn) drain(ctx context.Context) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for {
		queued := 0
		if raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }) != nil {
			return
		}
		if err != nil || queued == 0 || sleep(ctx, time.Millisecond) != nil {
			return
		}
	}
}

// unwrap finds the accepted connection below TLS.
func unwrap(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

// inbox holds what the client sent until it is due: one delay after it arrived, and after the handshake that the
// client's kernel did in no time.
type inbox struct {
	src      *net.TCPConn
	ready    time.Time // when the handshake is over
	delay    time.Duration
	items    chan parcel
	done     chan struct{}
	closing  sync.Once
	deadline deadline

	mu  sync.Mutex // held by the reader
	cur parcel
}

type parcel struct {
	due  time.Time
	data []byte
	err  error
}

func newInbox(src *net.TCPConn, ready time.Time, delay time.Duration) *inbox {
	return &inbox{src: src, ready: ready, delay: delay, items: make(chan parcel, 256), done: make(chan struct{}),
		deadline: deadline{passed: make(chan struct{})}}
}

// pump moves what arrives into the inbox until the connection ends.
func (in *inbox) pump() {
	buf := make([]byte, 16<<10)
	for {
		n, err := in.src.Read(buf)
		at := time.Now()
		if at.Before(in.ready) {
			at = in.ready
		}
		p := parcel{due: at.Add(in.delay), data: append([]byte(nil), buf[:n]...), err: err}
		select {
		case in.items <- p:
		case <-in.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (in *inbox) read(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.cur.data) == 0 && in.cur.err == nil {
		select {
		case <-in.deadline.wait():
			return 0, os.ErrDeadlineExceeded
		case <-in.done:
			return 0, net.ErrClosed
		case in.cur = <-in.items:
		}
	}
	t := time.NewTimer(time.Until(in.cur.due))
	defer t.Stop()
	select {
	case <-in.deadline.wait():
		return 0, os.ErrDeadlineExceeded
	case <-in.done:
		return 0, net.ErrClosed
	case <-t.C:
	}
	n := copy(p, in.cur.data)
	in.cur.data = in.cur.data[n:]
	if n == 0 && len(p) > 0 {
		return 0, in.cur.err
	}
	return n, nil
}

func (in *inbox) close() { in.closing.Do(func() { close(in.done) }) }

// deadline is a read deadline that wakes a reader, as in net.Pipe.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when the deadline has passed
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // the timer fires right now; it must not hit the channel made below
	}
	d.timer = nil
	closed := false
	select {
	case <-d.passed:
		closed = true
	default:
	}
	if closed {
		d.passed = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	passed := d.passed
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(passed) })
		return
	}
	close(passed)
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

// makeCertificate makes a certificate for this machine's loopback names, and the pool that trusts it.
func makeCertificate() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "mirrortest"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool, nil
}
