package aptmethod

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	xproxy "golang.org/x/net/proxy"
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

// proxyFor finds the proxy for a server; nil: none is to be used.
func (d *dialler) proxyFor(ctx context.Context, u uri, told string) (*uri, *trouble) {
	c := d.config
	found := told
	if found == "" {
		for _, name := range c.names {
			if found = c.Find("Acquire::" + name + "::Proxy::" + u.host); found != "" {
				break
			}
		}
	}
	if found == "" && d.detect != nil {
		if command := c.Detector(); command != "" {
			out, err := d.detect(ctx, command, strings.TrimSuffix(u.wire()+strings.TrimPrefix(u.site(), u.scheme), "/")+"/")
			if err != nil {
				return nil, permanent("ProxyAutoDetect command '%s' failed!", command)
			}
			found = strings.TrimSpace(out)
		}
	}
	if found == "" {
		found = c.ours("", "Proxy")
	}
	if found == "" {
		found = d.env("http_proxy")
		if v := d.env("https_proxy"); u.secure() && v != "" {
			found = v
		}
	}
	if found == "" || found == "DIRECT" || found == "false" || domainIn(u.host, d.env("no_proxy")) {
		return nil, nil
	}
	p, err := parseURI(found)
	if err != nil || p.wire() != "http" && p.wire() != "https" && p.wire() != "socks5h" {
		return nil, permanent("Unsupported proxy configured: %s", strings.TrimSuffix(p.site(), "://"))
	}
	p.user, p.password, _ = credentials(d.logins, p)
	return &p, nil
}

// domainIn reports whether host is one of the domains in a comma-separated list, or below one that begins with a dot.
func domainIn(host, list string) bool {
	for domain := range strings.SplitSeq(list, ",") {
		domain = strings.TrimSpace(domain)
		if domain != "" && (strings.EqualFold(host, domain) || domain[0] == '.' && len(host) > len(domain) &&
			strings.EqualFold(host[len(host)-len(domain):], domain)) {
			return true
		}
	}
	return false
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
		return nil, permanent("Direct connection to .onion domains is blocked by default.\nIf you meant to use apt-transport-tor, remember to use tor+%s instead of %s.", to.wire(), to.wire())
	}
	network := "tcp"
	switch {
	case d.config.Bool("Acquire::ForceIPv4", false):
		network = "tcp4"
	case d.config.Bool("Acquire::ForceIPv6", false):
		network = "tcp6"
	}
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
		t := transient("Could not connect to %s:%s (%s). - connect (%d: %s)", to.host, port, name, int(number), sentence(number))
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

// socks asks a SOCKS5 proxy to connect, and to resolve the name.
func (d *dialler) socks(ctx context.Context, c *conn, u, proxy uri) *trouble {
	var auth *xproxy.Auth
	if proxy.user != "" {
		auth = &xproxy.Auth{User: proxy.user, Password: proxy.password}
	}
	s, err := xproxy.SOCKS5("tcp", "proxy", auth, onlyConn{c.net})
	if err != nil {
		return permanent("SOCKS proxy %s: %v", proxy.site(), err)
	}
	c.net.SetDeadline(time.Now().Add(d.timeout(u.host)))
	defer c.net.SetDeadline(time.Time{})
	if _, err := s.Dial("tcp", net.JoinHostPort(u.host, u.dial())); err != nil {
		t := permanent("SOCKS proxy %s could not connect to %s due to: %s", proxy.site(), u.host, cause(err)).with("SOCKS")
		for text, reason := range map[string]string{"network unreachable": "ConnectionTimedOut", "host unreachable": "ConnectionTimedOut",
			"connection refused": "ConnectionRefused", "TTL expired": "Timeout"} {
			if strings.Contains(err.Error(), text) {
				t.reason, t.transient = reason, true
			}
		}
		return t
	}
	return nil
}

// onlyConn is a dialler that has its connection already.
type onlyConn struct{ net.Conn }

func (o onlyConn) Dial(string, string) (net.Conn, error) { return o.Conn, nil }

// tunnel asks an HTTP proxy for a connection to u.
func (d *dialler) tunnel(c *conn, u, proxy uri) *trouble {
	host := u.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s:%s HTTP/1.1\r\n", u.host, u.dial())
	if proxy.port != "" {
		fmt.Fprintf(&b, "Host: %s:%s\r\n", host, u.dial())
	} else {
		fmt.Fprintf(&b, "Host: %s\r\n", host)
	}
	if c.proxyAuth != "" {
		fmt.Fprintf(&b, "Proxy-Authorization: %s\r\n", c.proxyAuth)
	}
	fmt.Fprintf(&b, "User-Agent: %s\r\n\r\n", d.agent(u.host))
	c.net.SetDeadline(time.Now().Add(d.timeout(u.host)))
	defer c.net.SetDeadline(time.Time{})
	if _, err := io.WriteString(c.net, b.String()); err != nil {
		return transient("Writing to proxy failed: %s", cause(err))
	}
	r := bufio.NewReader(&io.LimitedReader{R: c.net, N: maxHeader})
	res, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return transient("Reading from proxy failed: %s", cause(err))
	}
	if res.StatusCode != http.StatusOK {
		return transient("Invalid response from proxy: %s %s", res.Proto, res.Status)
	}
	if ahead, _ := r.Peek(r.Buffered()); len(ahead) > 0 {
		c.net = &prefixed{c.net, ahead}
	}
	c.proxyAuth = "" // it was for the proxy alone
	return nil
}

// prefixed is a connection of which some has been read ahead.
type prefixed struct {
	net.Conn
	ahead []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.ahead) > 0 {
		n := copy(b, p.ahead)
		p.ahead = p.ahead[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// secure speaks TLS from here on.
func (d *dialler) secure(ctx context.Context, c *conn, u uri, config *Config) *trouble {
	if !config.Bool("Acquire::AllowTLS", true) {
		return permanent("TLS support has been disabled: Acquire::AllowTLS is false.")
	}
	settings, t := tlsConfig(config, u.host)
	if t != nil {
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout(u.host))
	defer cancel()
	s := tls.Client(c.net, settings)
	if err := s.HandshakeContext(ctx); err != nil {
		var verify *tls.CertificateVerificationError
		if errors.As(err, &verify) {
			return transient("Certificate verification failed: %v. Could not handshake: Error in the certificate verification.", verify.Err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return transient("Could not wait for server fd - select (%d: %s)", int(syscall.EAGAIN), sentence(syscall.EAGAIN))
		}
		return transient("Could not handshake: %s", cause(err))
	}
	c.net = s
	return nil
}

// forNames is the configuration as methods of other names see it.
func (c *Config) forNames(names ...string) *Config {
	other := *c
	other.names = names
	return &other
}

// tlsConfig reads Acquire::https::* for a host.
func tlsConfig(c *Config, host string) (*tls.Config, *trouble) {
	for _, gone := range []string{"IssuerCert", "SslForceVersion"} {
		if c.ours(host, gone) != "" {
			return nil, permanent("The option '%s' is not supported anymore", gone)
		}
	}
	settings := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if file := c.ours(host, "CaInfo"); file != "" {
		pem, err := os.ReadFile(file)
		settings.RootCAs = x509.NewCertPool()
		if err != nil || !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, permanent("Could not load certificates from %s (CaInfo option)", file)
		}
	}
	if file := c.ours(host, "SslCert"); file != "" {
		key := c.ours(host, "SslKey")
		if key == "" {
			key = file
		}
		cert, err := tls.LoadX509KeyPair(file, key)
		if err != nil {
			return nil, permanent("Could not load client certificate (%s, SslCert option) or key (%s, SslKey option)", file, key)
		}
		settings.Certificates = []tls.Certificate{cert}
	}
	var revoked *x509.RevocationList
	if file := c.ours(host, "CrlFile"); file != "" {
		var err error
		if revoked, err = readCRL(file); err != nil {
			return nil, permanent("Could not load custom certificate revocation list %s (CrlFile option): %v", file, err)
		}
	}
	peer, name := c.ourBool(host, "Verify-Peer", true), c.ourBool(host, "Verify-Host", true)
	if peer && name && revoked == nil && settings.RootCAs == nil {
		return settings, nil
	}
	settings.InsecureSkipVerify = true // what follows does it
	if !peer {
		return settings, nil
	}
	settings.VerifyConnection = func(s tls.ConnectionState) error {
		how := x509.VerifyOptions{Roots: settings.RootCAs, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			how.Intermediates.AddCert(cert)
		}
		chains, err := s.PeerCertificates[0].Verify(how)
		if err == nil && name {
			err = checkName(s.PeerCertificates[0], cmp.Or(s.ServerName, host), settings.RootCAs != nil)
		}
		if err == nil {
			err = checkRevoked(chains, revoked)
		}
		if err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		return nil
	}
	return settings, nil
}

// checkName checks whom a certificate is for. Those of a private authority, which the user named, may say it in the
// common name alone, as GnuTLS and so apt accept it.
func checkName(cert *x509.Certificate, host string, private bool) error {
	named := len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) > 0
	if private && !named && strings.EqualFold(cert.Subject.CommonName, host) {
		return nil
	}
	return cert.VerifyHostname(host)
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
