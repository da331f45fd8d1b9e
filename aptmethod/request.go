package aptmethod

import (
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
)

func (d *dialler) agent(host string) string { return agent(d.config, host) }

func agent(c *Config, host string) string {
	if a := c.ours(host, "User-Agent"); a != "" {
		return harmless(a)
	}
	return "Debian APT-HTTP/1.3 (torrent-xfer)"
}

// request is what is sent for an item, as apt's http method words it.
func (m *Method) request(c *conn, it *item) string {
	cfg, host := &m.config, it.at.host
	where := it.at.path
	if c.absolute {
		plain := it.at
		plain.scheme, plain.spoken = plain.wire(), ""
		where = plain.String()
	}
	if !m.encoded {
		where = quote(where, "+~ ")
	}
	var b strings.Builder
	line := func(format string, args ...any) {
		for i, a := range args {
			if s, ok := a.(string); ok {
				args[i] = strings.Map(func(r rune) rune {
					if r < ' ' || r == 0x7f {
						return '?'
					}
					return r
				}, s)
			}
		}
		fmt.Fprintf(&b, format+"\r\n", args...)
	}
	line("GET %s HTTP/1.1", where)
	line("Host: %s", it.at.hostHeader())
	switch {
	case cfg.ourBool(host, "No-Cache", false):
		line("Cache-Control: no-cache")
		line("Pragma: no-cache")
	case it.index:
		line("Cache-Control: max-age=%d", cfg.ourInt(host, "Max-Age", 0))
	case cfg.ourBool(host, "No-Store", false):
		line("Cache-Control: no-store")
	}
	if cfg.ourBool(host, "SendAccept", true) && path.Ext(path.Base(it.uri)) == "" {
		line("Accept: text/*")
	}
	info, err := os.Stat(it.filename)
	switch {
	case err == nil && info.Mode().IsRegular() && info.Size() > 0 && m.ranges(c, it):
		line("Range: bytes=%d-", info.Size())
		line("If-Range: %s", info.ModTime().UTC().Format(http.TimeFormat))
	case !it.modified.IsZero():
		line("If-Modified-Since: %s", it.modified.UTC().Format(http.TimeFormat))
	}
	if c.proxyAuth != "" {
		line("Proxy-Authorization: %s", c.proxyAuth)
	}
	user, password, warning := credentials(m.logins, it.at)
	if warning != "" && !it.warned {
		it.warned = true
		m.warning(it.uri, warning)
	}
	if user != "" || password != "" {
		line("Authorization: %s", basic(user, password))
	}
	line("User-Agent: %s", agent(cfg, host))
	if referer := cfg.ours(host, "Referer"); referer != "" {
		line("Referer: %s", referer)
	}
	b.WriteString("\r\n")
	m.debug(b.String())
	return b.String()
}

// debug shows what goes over the wire to who asked apt for it.
func (m *Method) debug(text string) {
	c := &m.config
	if m.Debug != nil && c.Bool("Debug::Acquire::"+m.Name, c.Bool("Debug::Acquire::http", false)) {
		m.Debug(text)
	}
}

func (m *Method) debugAnswer(it *item, res *http.Response) {
	var b strings.Builder
	fmt.Fprintf(&b, "Answer for: %s\n%s %s\n", it.uri, res.Proto, res.Status)
	for name, values := range res.Header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	if _, reason, _ := strings.Cut(res.Status, " "); strings.TrimSpace(reason) == "" {
		fmt.Fprintf(&b, "HTTP server doesn't give Reason-Phrase for %d\n", res.StatusCode)
	}
	text := b.String()
	for line := range strings.Lines(text) {
		m.debug(harmless(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

func (m *Method) ranges(c *conn, it *item) bool {
	return !m.noRange[c.server] && m.config.ourBool(it.at.host, "AllowRanges", true)
}
