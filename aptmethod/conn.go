package aptmethod

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readBuffer  = 64 << 10
	maxHeader   = 256 << 10 // bytes of an answer's header, with what was read ahead of it
	maxJunk     = 64 << 10  // bytes of an answer nobody wants; a longer one costs the connection
	attemptNext = 250 * time.Millisecond
)

// conn is one connection to a server, over which requests may be sent ahead of the answers.
type conn struct {
	server string // what it can be used for
	host   string
	net    net.Conn
	r      *bufio.Reader
	head   *headGuard

	absolute  bool   // requests to a proxy name the whole URI
	proxyAuth string // value of Proxy-Authorization; "": none

	pipeline bool // the server has shown that it may be sent requests ahead
	answers  int
	sent     []*item // that have been asked for and not been answered
}

// dialler knows how servers are to be reached.
type dialler struct {
	config  *Config
	logins  []login
	env     func(string) string
	detect  func(ctx context.Context, command, uri string) (string, error)
	status  func(string)
	address func(string) // told the address that is being connected to, for error messages
}

func (d *dialler) timeout(host string) time.Duration {
	return time.Duration(max(d.config.ourInt(host, "Timeout", 30), 1)) * time.Second
}

// open connects to the server of u.
func (d *dialler) open(ctx context.Context, u uri, told string) (*conn, *trouble) {
	proxy, t := d.proxyFor(ctx, u, told)
	if t != nil {
		return nil, t
	}
	c := &conn{server: u.server(), host: u.host}
	to := u
	if proxy != nil {
		to = *proxy
		if proxy.user != "" || proxy.password != "" {
			c.proxyAuth = basic(proxy.user, proxy.password)
		}
	}
	if c.net, t = d.connect(ctx, to, d.timeout(u.host)); t != nil {
		return nil, t
	}
	stop := context.AfterFunc(ctx, func() { c.net.Close() })
	if t = d.wrap(ctx, c, u, proxy); t != nil {
		stop()
		c.net.Close()
		return nil, t
	}
	c.head = &headGuard{r: &patient{c.net, d.timeout(u.host)}}
	c.r = bufio.NewReaderSize(c.head, readBuffer)
	return c, nil
}

// wrap puts proxies and TLS on a connection.
func (d *dialler) wrap(ctx context.Context, c *conn, u uri, proxy *uri) *trouble {
	if proxy != nil {
		if proxy.wire() == "https" {
			if t := d.secure(ctx, c, *proxy, d.config.forNames("https", "http")); t != nil {
				return t
			}
		}
		switch {
		case proxy.wire() == "socks5h":
			d.status(fmt.Sprintf("Connecting to SOCKS5h proxy (%s)", proxy.site()))
			if t := d.socks(ctx, c, u, *proxy); t != nil {
				return t
			}
		case u.secure():
			d.status(fmt.Sprintf("Connecting to HTTP proxy (%s)", proxy.site()))
			if t := d.tunnel(c, u, *proxy); t != nil {
				return t
			}
		default:
			c.absolute = true
		}
	}
	if u.secure() {
		return d.secure(ctx, c, u, d.config)
	}
	return nil
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// connect makes the TCP connection.
func (d *dialler) connect(ctx context.Context, to uri, timeout time.Duration) (net.Conn, *trouble) {
	if strings.HasSuffix(strings.ToLower(to.host), ".onion") && d.config.Bool("Acquire::BlockDotOnion", true) {
		t := permanent("Direct connection to .onion domains is blocked by default.")
		if to.wire() == "http" {
			t.text += " If you meant to use Tor remember to use tor+http instead of http."
		}
		return nil, t
	}
	network := cmp.Or(d.config.network(), "tcp")
	d.status("Connecting to " + to.host)
	var last atomic.Value
	dial := &net.Dialer{Timeout: timeout, FallbackDelay: attemptNext,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			last.Store(address)
			return nil
		}}
	n, err := dial.DialContext(ctx, network, net.JoinHostPort(to.host, to.dial()))
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound && to.port == "" {
		if services, serr := d.services(ctx, to); serr == nil {
			for _, s := range services {
				if n, err = dial.DialContext(ctx, network, s); err == nil {
					break
				}
			}
		}
	}
	name, port := to.host, to.dial()
	if address, ok := last.Load().(string); ok {
		if h, p, err := net.SplitHostPort(address); err == nil {
			name, port = h, p
		}
		d.address(fmt.Sprintf("[IP: %s %s]", name, port))
	}
	if err == nil {
		if h, p, err := net.SplitHostPort(n.RemoteAddr().String()); err == nil {
			d.address(fmt.Sprintf("[IP: %s %s]", h, p))
			name = h
		}
		d.status(fmt.Sprintf("Connected to %s (%s)", to.host, name))
		return n, nil
	}
	var number syscall.Errno
	var slow net.Error
	switch {
	case errors.As(err, &dns) && (dns.IsTemporary || dns.IsTimeout):
		return nil, transient("Temporary failure resolving '%s'", to.host).with("TmpResolveFailure")
	case errors.As(err, &dns):
		return nil, transient("Could not resolve '%s'", to.host).with("ResolveFailure")
	case errors.As(err, &number):
		t := transient("Could not connect to %s:%s (%s). - connect (%s)", to.host, port, name, numbered(number))
		switch number {
		case syscall.ECONNREFUSED:
			t.reason = "ConnectionRefused"
		case syscall.ETIMEDOUT:
			t.reason = "ConnectionTimedOut"
		}
		return nil, t
	case errors.As(err, &slow) && slow.Timeout():
		return nil, transient("Could not connect to %s:%s (%s), connection timed out", to.host, port, name).with("Timeout")
	}
	return nil, transient("Unable to connect to %s:%s: %v", to.host, port, err)
}

// network is the kind of addresses that the user wants to be dialled, "tcp4" or "tcp6". "": any.
func (c *Config) network() string {
	switch {
	case c.Bool("Acquire::ForceIPv4", false):
		return "tcp4"
	case c.Bool("Acquire::ForceIPv6", false):
		return "tcp6"
	}
	return ""
}

// services looks up where a host's service is said to be by SRV records (RFC 2782).
func (d *dialler) services(ctx context.Context, to uri) (addresses []string, err error) {
	if !d.config.Bool("Acquire::EnableSrvRecords", true) {
		return nil, errors.New("not to be asked for")
	}
	_, records, err := net.DefaultResolver.LookupSRV(ctx, to.wire(), "tcp", to.host)
	for _, r := range records {
		addresses = append(addresses, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), fmt.Sprint(r.Port)))
	}
	return addresses, err
}

// sentence begins an error's text with a capital letter, as libc does.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// cause is the part of a network error that a person wants to read.
func cause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
		return sentence(number)
	case errors.As(err, &op) && op.Timeout():
		return "Connection timed out"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// numbered is an error of the system as apt words it: "28: No space left on device".
func numbered(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return fmt.Sprintf("%d: %s", int(number), sentence(number))
	}
	return cause(err)
}

// patient is a connection that gives up after a silence.
type patient struct {
	net.Conn
	silence time.Duration
}

func (p *patient) Read(b []byte) (int, error) {
	p.Conn.SetReadDeadline(time.Now().Add(p.silence))
	return p.Conn.Read(b)
}

// headGuard bounds what is read while the header of an answer is awaited.
type headGuard struct {
	r    io.Reader
	left int // bytes; < 0: no bound
}

var errLongHeader = errors.New("the header of the answer is too long")

func (g *headGuard) Read(b []byte) (int, error) {
	if g.left == 0 {
		return 0, errLongHeader
	}
	if g.left > 0 {
		b = b[:min(len(b), g.left)]
	}
	n, err := g.r.Read(b)
	if g.left > 0 {
		g.left -= n
	}
	return n, err
}

func (c *conn) close() { c.net.Close() }

// readHead reads the header of the next answer.
func (c *conn) readHead() (*http.Response, error) {
	c.head.left = maxHeader
	defer func() { c.head.left = -1 }()
	for {
		res, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodGet})
		if err != nil {
			return nil, err
		}
		if res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		c.answers++
		return res, nil
	}
}
