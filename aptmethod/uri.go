package aptmethod

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// uri is a URI taken apart as apt does it. Unlike net/url it takes, and gives back, whatever escapes are in the path.
type uri struct {
	scheme         string // with the method's prefix, in lower case: "torrent+http"
	user, password string
	host, port     string // without brackets; "": the scheme's own
	path           string // with query, as it came
	spoken         string // the protocol, where the scheme is but the method's name; "": the scheme tells
}

// ownScheme is what this method's URIs begin with; the scheme that is spoken may follow after a plus sign.
const ownScheme = "torrent"

var errURI = errors.New("not a URI that this method can fetch")

func parseURI(text string) (uri, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, ":/@ ") {
		return uri{}, errURI
	}
	u := uri{scheme: strings.ToLower(scheme), path: "/"}
	authority := rest
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, u.path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		login := authority[:i]
		authority = authority[i+1:]
		user, password, _ := strings.Cut(login, ":")
		u.user, u.password = unquote(user), unquote(password)
	}
	u.host = authority
	forbidden := `\[]:/?#%@`
	if strings.HasPrefix(authority, "[") {
		forbidden = `\[]/?#@`
		end := strings.IndexByte(authority, ']')
		if end < 0 || !strings.Contains(authority[:end], ":") {
			return uri{}, errURI
		}
		u.host, authority = authority[1:end], authority[end+1:]
		if authority != "" && authority[0] != ':' {
			return uri{}, errURI
		}
		u.port = strings.TrimPrefix(authority, ":")
	} else if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		u.host, u.port = authority[:i], authority[i+1:]
	}
	if n, err := strconv.ParseUint(u.port, 10, 16); u.port != "" && (err != nil || n == 0) {
		return uri{}, errURI
	}
	if u.host == "" || strings.ContainsAny(u.host, forbidden) || strings.ContainsFunc(u.host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return uri{}, errURI
	}
	return u, nil
}

// wire is the scheme that is really spoken: "http" of "torrent+http".
func (u uri) wire() string {
	if u.spoken != "" {
		return u.spoken
	}
	_, scheme, found := strings.Cut(u.scheme, "+")
	if found {
		return scheme
	}
	return u.scheme
}

func (u uri) secure() bool { return u.wire() == "https" }

// dial is the port that is connected to.
func (u uri) dial() string {
	switch {
	case u.port != "":
		return u.port
	case u.secure():
		return "443"
	case strings.HasPrefix(u.wire(), "socks"):
		return "1080"
	}
	return "80"
}

// site is what stands before the path, without credentials.
func (u uri) site() string {
	host := u.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if u.port != "" {
		host += ":" + u.port
	}
	return u.scheme + "://" + host
}

// hostHeader is the value of the Host field.
func (u uri) hostHeader() string {
	_, host, _ := strings.Cut(u.site(), "://")
	return host
}

// String is the URI without credentials.
func (u uri) String() string { return u.site() + u.path }

// server identifies what one connection can be used for.
func (u uri) server() string {
	return u.wire() + "://" + u.user + ":" + u.password + "@" + net.JoinHostPort(strings.ToLower(u.host), u.dial())
}

// onlyVisible escapes what may not stand in a request line, and leaves what is escaped already.
func onlyVisible(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
