package aptmethod

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
)

// swapped finds the request that the file which came for it answers, and asks no more ahead of that server.
func (m *Method) swapped(ctx context.Context, c *conn, it *item) *item {
	m.mu.Lock()
	rest := slices.Clone(c.sent)
	m.mu.Unlock()
	for _, other := range rest {
		if other == it || !other.expect.usable() {
			continue
		}
		found, err := sum(ctx, it.filename, other.expect)
		if err != nil || !other.expect.matches(found) {
			continue
		}
		m.mu.Lock()
		told := m.shy[c.server]
		m.shy[c.server] = true
		m.mu.Unlock()
		if !told {
			m.warning(it.uri, "Automatically disabled Acquire::http::Pipeline-Depth due to incorrect response from server/proxy. (man 5 apt.conf)")
		}
		other.ready = &found
		return other
	}
	return nil
}

// wrong deals with a file that came whole but is not what the index says. Under its own name the method tries the other
// mirrors, and says itself that none is right: then apt tries its next source. Under the name of apt's own method it does
// as that: apt finds out, and tells in full.
func (m *Method) wrong(ctx context.Context, c *conn, it *item, o outcome) error {
	if !m.neighbors.own {
		m.taken(c, it)
		return m.done(it, o)
	}
	m.warning(it.uri, it.at.site()+" sent wrong bytes: the digests differ")
	os.Remove(it.filename)
	it.tried = append(it.tried, it.at.server())
	m.taken(c, it)
	if next, ok := m.another(it); ok {
		it.at = next
		m.mu.Lock()
		m.queue = slices.Insert(m.queue, 0, it)
		m.mu.Unlock()
		m.hangUp()
		return nil
	}
	return m.fail(it, permanent("Hash Sum mismatch\n%s", comparison(it.expect, o)).with("HashSumMismatch"))
}

// another finds a mirror of it's file that has not been tried.
func (m *Method) another(it *item) (uri, bool) {
	if len(it.tried) == 1 {
		it.first = it.at
	}
	plain := it.first
	plain.scheme, plain.spoken = plain.wire(), ""
	u, err := url.Parse(plain.String())
	if err != nil {
		return uri{}, false
	}
	mirrors, _ := m.neighbors.of(it, u)
	for _, o := range mirrors {
		at, err := parseURI(o.String())
		if err == nil && !slices.Contains(it.tried, at.server()) {
			at.scheme = ownScheme + "+" + at.scheme
			return at, true
		}
	}
	return uri{}, false
}

// comparison tells the digests as apt does.
func comparison(want hashes, o outcome) string {
	var b strings.Builder
	list := func(title string, h hashes) {
		b.WriteString(title + "\n")
		for _, k := range kinds {
			if sum := h.sums[k.name]; sum != "" {
				weak := ""
				if k.name == "SHA1" || k.name == "MD5Sum" {
					weak = " [weak]"
				}
				fmt.Fprintf(&b, " - %s:%s%s\n", k.name, sum, weak)
			}
		}
		if h.size >= 0 {
			fmt.Fprintf(&b, " - Filesize:%d [weak]\n", h.size)
		}
	}
	list("Hashes of expected file:", want)
	list("Hashes of received file:", o.found)
	return strings.TrimSuffix(b.String(), "\n")
}
