package aptmethod

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	xproxy "golang.org/x/net/proxy"
)

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
