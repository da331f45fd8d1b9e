package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"torrent-xfer/internal/netaddr"
)

const (
	maxRedirects   = 10
	maxHeaderBytes = 64 << 10
	maxReason      = 300 // bytes
)

var (
	errReach    = errors.New("points at a private address")
	errRedirect = errors.New("redirects too often")
	errInsecure = errors.New("redirects from https to http")
	errScheme   = errors.New("redirects to something that is neither http nor https")
)

// client asks the user's own mirrors freely, and hosts that a torrent, metalink, header or redirect named only under the
// reach rules: if the file's URL is on a public host they may not be at a private address. That is checked on the address dialled.
type client struct {
	http   *http.Client
	free   *http.Transport
	narrow *http.Transport // dials by itself, public addresses only
	agent  string
	login  func(*url.URL) (user, password string, ok bool)

	origin  *url.URL // the file's, or that of the metalink from the network that named it
	trusted map[string]bool

	public func() bool // whether origin is on a public address
}

func newClient(f *Fetcher, req Request) *client {
	c := &client{agent: f.UserAgent, login: f.Credentials, origin: req.URL, trusted: map[string]bool{}}
	if req.Referrer != nil {
		c.origin = req.Referrer
	}
	if c.agent == "" {
		c.agent = "torrent-xfer"
	}
	c.trusted[hostKey(c.origin)] = true
	for _, u := range req.Mirrors {
		c.trusted[hostKey(u)] = true
	}
	for _, u := range req.Torrent.URLs {
		if req.Referrer == nil { // else they were made of a URL that the user has not named
			c.trusted[hostKey(u)] = true
		}
	}
	if u := req.Torrent.MetainfoURL; u != nil {
		c.trusted[hostKey(u)] = true
	}
	c.public = sync.OnceValue(c.originIsPublic)
	connect := f.ConnectTimeout
	if connect <= 0 {
		connect = 10 * time.Second
	}
	c.free = c.transport(f, connect, false)
	c.narrow = c.transport(f, connect, true)
	c.http = &http.Client{Transport: c, CheckRedirect: c.checkRedirect}
	return c
}

func (c *client) close() {
	c.free.CloseIdleConnections()
	c.narrow.CloseIdleConnections()
}

func (c *client) transport(f *Fetcher, connect time.Duration, narrow bool) *http.Transport {
	t := &http.Transport{}
	if f.Transport != nil {
		t = f.Transport.Clone()
	}
	dialer := &net.Dialer{Timeout: connect}
	if narrow {
		t.Proxy = nil
		dialer.Control = c.checkAddress
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, cmp.Or(f.Network, network), address)
	}
	t.DialTLSContext = nil // both win over the deprecated fields
	t.DialTLS = nil        //lint:ignore SA1019 it would go around the check
	t.TLSHandshakeTimeout = connect
	t.ForceAttemptHTTP2 = true
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = maxHeaderBytes
	t.MaxIdleConnsPerHost = 2
	return t
}

// checkAddress is a net.Dialer's Control: it sees the address that a name resolved to.
func (c *client) checkAddress(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !netaddr.Public(to.Addr().WithZone("")) && c.public() {
		return errReach
	}
	return nil
}

// RoundTrip implements http.RoundTripper. What a proxy would dial is judged by its text, since the proxy resolves names.
func (c *client) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.trusted[hostKey(r.URL)] {
		return c.free.RoundTrip(r)
	}
	if via := c.free.Proxy; via != nil {
		proxy, err := via(r)
		if err != nil {
			return nil, err
		}
		if proxy != nil && !netaddr.PublicHost(r.URL.Hostname()) && c.public() {
			return nil, errReach
		}
		if proxy != nil {
			return c.free.RoundTrip(r)
		}
	}
	return c.narrow.RoundTrip(r)
}

func (c *client) originIsPublic() bool {
	origin := c.origin.Hostname()
	if origin == "" { // the user has the torrent, and it may name whom it likes
		return false
	}
	if ip, err := netip.ParseAddr(origin); err == nil {
		return netaddr.Public(ip)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", origin)
	if err != nil {
		return true // behind a proxy names need not resolve here: stay strict
	}
	for _, ip := range ips {
		if netaddr.Public(ip.Unmap()) {
			return true
		}
	}
	return false
}

// allows reports whether u may be asked because a torrent, a metalink or a header named it, as far as its text tells. The
// address is checked once more when it is dialled.
func (c *client) allows(u *url.URL) bool {
	return (u.Scheme == "https" || c.origin.Scheme != "https") && c.reaches(u)
}

// reaches is the part of that which is about addresses.
func (c *client) reaches(u *url.URL) bool {
	return c.trusted[hostKey(u)] || netaddr.PublicHost(u.Hostname()) || !netaddr.PublicHost(c.origin.Hostname())
}

func (c *client) checkRedirect(r *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	if h, ok := r.Context().Value(hearingKey{}).(*hearing); ok {
		h.take(r.Response, from)
	}
	switch {
	case len(via) > maxRedirects:
		return errRedirect
	case r.URL.Scheme != "http" && r.URL.Scheme != "https":
		return errScheme
	case from.Scheme == "https" && r.URL.Scheme == "http":
		return errInsecure
	}
	r.Header.Del("Referer")
	r.URL.User = nil
	if hostKey(r.URL) != hostKey(via[0].URL) {
		r.Header.Del("Authorization")
	}
	return nil
}

// get asks for u. set may add headers.
func (c *client) get(ctx context.Context, u *url.URL, set func(http.Header)) (*http.Response, error) {
	plain := *u
	plain.User, plain.Fragment = nil, ""
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", c.agent)
	r.Header.Set("Accept-Encoding", "identity")
	if u.User != nil {
		password, _ := u.User.Password()
		r.SetBasicAuth(u.User.Username(), password)
	} else if c.login != nil && c.trusted[hostKey(u)] { // a netrc knows hosts, not ports: a torrent could name another
		if user, password, ok := c.login(u); ok {
			r.SetBasicAuth(user, password)
		}
	}
	if set != nil {
		set(r.Header)
	}
	return c.http.Do(r)
}

// hostKey identifies a server: scheme, host and port.
func hostKey(u *url.URL) string {
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port(u))
}

// resource identifies what an http or https URL locates, however it is spelled: %2B and + in a path are one.
type resource struct{ host, path, query string }

func resourceOf(u *url.URL) resource {
	path := u.Path
	if strings.Contains(strings.ToUpper(u.RawPath), "%2F") { // this is not the same as a slash
		path = u.RawPath
	}
	return resource{hostKey(u), path, u.RawQuery}
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	switch u.Scheme {
	case "https":
		return "443"
	case "socks5", "socks5h":
		return "1080"
	}
	return "80"
}

// redacted is u for people: without credentials, query secrets left alone, control characters escaped.
func redacted(u *url.URL) string {
	plain := *u
	plain.User = nil
	return clean(plain.String())
}

// clean makes one printable line of text that may come from the network.
func clean(text string) string {
	text = strings.ToValidUTF8(text, "?")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, text)
}

// reason is the part of a network error that a person wants to read.
func reason(err error) string {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	text := err.Error()
	var dns *net.DNSError
	var op *net.OpError
	var sys syscall.Errno
	switch {
	case errors.As(err, &dns):
		text = fmt.Sprintf("cannot resolve %s: %s", dns.Name, dns.Err)
	case !errors.As(err, &op) || op.Err == nil:
	case errors.As(op.Err, &sys):
		text = sys.Error()
	case op.Timeout():
		text = "connection timed out"
	default:
		text = op.Err.Error()
	}
	if len(text) > maxReason {
		text = text[:maxReason] + "..."
	}
	return clean(text)
}
