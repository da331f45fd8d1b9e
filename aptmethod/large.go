package aptmethod

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// An Engine fetches one large file from wherever its bytes come fastest.
type Engine interface {
	// Fetch lets file.Path grow in order, from what is there already, until it is whole and has file's digest. Path may be
	// a symbolic link. Whenever Fetch or the process ends, Path holds a prefix of the file and bears the server's date.
	// An error that wraps ErrWrong says that every copy differs from what was expected; after any other the file is
	// fetched the plain way. resumed is the number of bytes that need not be fetched, known when Fetch returns.
	Fetch(ctx context.Context, file File) (resumed int64, err error)
}

// ErrWrong is what an Engine's error wraps if no mirror has what the index promises.
var ErrWrong = errors.New("every copy was wrong")

// File is what an Engine is asked for.
type File struct {
	URL            *url.URL   // http or https
	Mirrors        []*url.URL // the same bytes elsewhere, best first
	Repository     string     // where URL's repository begins; "": not known
	Path           string
	Size           int64 // bytes
	SHA256, SHA512 []byte
	LimitRate      int64         // bytes/s; 0: no limit
	Timeout        time.Duration // of silence and of connecting; 0: the Engine's own
	Transport      *http.Transport
	Network        string // as net.Dial has it
	Proxied        bool   // URL is asked for through a proxy
	UserAgent      string
	Credentials    func(*url.URL) (user, password string, ok bool)
	// Started is called once, when content arrives, with the bytes that were there before.
	Started func(resumed int64)
	// Peers is told, whenever there are more than before, how many peers are connected.
	Peers func(n int)
	// Lied is told of a mirror that sent wrong bytes.
	Lied func(mirror, what string)
}

// fetchLarge hands an item to the Engine. Whatever keeps that from bringing it, the plain way remains.
func (m *Method) fetchLarge(ctx context.Context, it *item) error {
	it.large = false
	file, t := m.file(ctx, it)
	if t != nil {
		return nil
	}
	m.hangUp() // it would be idle for too long
	who := it.at.host
	if n := 1 + len(file.Mirrors); n > 1 {
		who = fmt.Sprintf("%d mirrors", n)
	}
	m.status("Connecting to " + who)
	file.Peers = func(n int) {
		text := "1 peer"
		if n != 1 {
			text = fmt.Sprintf("%d peers", n)
		}
		m.status("Connecting to " + who + ", " + text)
	}
	file.Started = func(resumed int64) {
		if !it.started {
			it.started = true
			m.send(it.startMessage(it.expect.size, time.Time{}, resumed))
		}
	}
	file.Lied = func(mirror, what string) { m.warning(it.uri, mirror+" "+what) }
	resumed, err := m.Engine.Fetch(ctx, file)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrWrong):
		os.Remove(it.filename)
		return m.fail(it, permanent("Hash Sum mismatch: %v", err).with("HashSumMismatch"))
	case err != nil:
		return nil
	}
	found, err := sum(ctx, it.filename, it.expect)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || !it.expect.matches(found):
		os.Remove(it.filename) // somebody else has written to it
		return nil
	}
	file.Started(resumed)
	o := outcome{filename: it.filename, size: found.size, resumed: resumed, found: found}
	if info, err := os.Stat(it.filename); err == nil {
		o.modified = info.ModTime()
	}
	return m.done(it, o)
}

// file describes an item for the Engine.
func (m *Method) file(ctx context.Context, it *item) (File, *trouble) {
	plain := it.at
	plain.scheme, plain.spoken = plain.wire(), ""
	plain.path = strings.ReplaceAll(plain.path, "/./", "/") // as flat repositories have it (RFC 3986, section 5.2.4)
	u, err := url.Parse(plain.String())
	if err != nil {
		return File{}, permanent("%v", err)
	}
	if it.at.user != "" || it.at.password != "" {
		u.User = url.UserPassword(it.at.user, it.at.password)
	}
	mirrors, repository := m.neighbors.of(it, u)
	d := &dialler{config: &m.config, logins: m.logins, env: m.Env, detect: m.Detect}
	proxy, t := d.proxyFor(ctx, it.at, it.proxy)
	if t == nil && proxy == nil && strings.HasSuffix(strings.ToLower(it.at.host), ".onion") {
		t = permanent("nobody is to be asked where that is")
	}
	if t == nil && proxy != nil && len(mirrors) == 0 {
		t = permanent("nothing is gained by asking a proxy for parts of a file")
	}
	if t != nil {
		return File{}, t
	}
	settings, t := tlsConfig(&m.config, it.at.host)
	if t != nil {
		return File{}, t
	}
	settings.ServerName, settings.NextProtos = "", nil
	f := File{URL: u, Mirrors: mirrors, Repository: repository, Path: it.filename, Size: it.expect.size,
		SHA256: it.expect.binary("SHA256"), SHA512: it.expect.binary("SHA512"),
		Transport: m.transport(d, it, settings), Network: m.config.network(), Proxied: proxy != nil, UserAgent: agent(&m.config, it.at.host)}
	if m.limit != nil {
		f.LimitRate = int64(m.limit.Limit())
	}
	if n := m.config.ourInt(it.at.host, "Timeout", 0); n > 0 {
		f.Timeout = time.Duration(n) * time.Second
	}
	f.Credentials = func(u *url.URL) (string, string, bool) {
		at, err := parseURI(u.String())
		if err != nil {
			return "", "", false
		}
		if at.host == it.at.host { // the file may name the scheme as apt has it
			at.scheme = it.at.scheme
		}
		user, password, _ := credentials(m.logins, at)
		return user, password, user != "" || password != ""
	}
	return f, nil
}

// transport reaches servers as the plain way does.
func (m *Method) transport(d *dialler, it *item, settings *tls.Config) *http.Transport {
	return &http.Transport{TLSClientConfig: settings, Proxy: func(r *http.Request) (*url.URL, error) {
		at, err := parseURI(r.URL.String())
		if err != nil {
			return nil, err
		}
		told := ""
		if at.host == it.at.host {
			told = it.proxy
		}
		p, t := d.proxyFor(r.Context(), at, told)
		if t != nil || p == nil {
			return nil, asError(t)
		}
		u := &url.URL{Scheme: p.wire(), Host: p.hostHeader()}
		if p.port == "" && p.wire() == "http" {
			u.Host += ":80"
		}
		if p.user != "" || p.password != "" {
			u.User = url.UserPassword(p.user, p.password)
		}
		return u, nil
	}}
}

func asError(t *trouble) error {
	if t == nil {
		return nil
	}
	return t
}
