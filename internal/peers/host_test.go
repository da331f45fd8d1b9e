package peers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"torrent-xfer/fetcher"
)

// records are what a resolver knows; "" is a failure.
type records map[string]string

func (r records) LookupTXT(_ context.Context, name string) ([]string, error) {
	text, ok := r[name]
	switch {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case text == "":
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	}
	return []string{"v=spf1 -all", text}, nil
}

func TestHost(t *testing.T) {
	dns := records{"one.example": "BITTORRENT UDP:1337 TCP:80", "deny.example": "BITTORRENT DENY ALL", "none.example": "hello", "broken.example": ""}
	const tried = "udp://%[1]s:6969/announce http://%[1]s:6969/announce"
	for _, c := range []struct{ host, first, answers, second string }{
		{"one.example", "udp://one.example:1337/announce http://one.example:80/announce", "", "udp://one.example:1337/announce http://one.example:80/announce"},
		{"deny.example", "", "", ""},
		{"none.example", fmt.Sprintf(tried, "none.example"), "", ""},
		{"unknown.example", fmt.Sprintf(tried, "unknown.example"), "http://unknown.example:6969/announce", "http://unknown.example:6969/announce"},
		{"broken.example", "", "", ""},
		{"192.0.2.1", fmt.Sprintf(tried, "192.0.2.1"), "", ""},
		{"2001:db8::1", fmt.Sprintf(tried, "[2001:db8::1]"), "", ""},
	} {
		file := filepath.Join(t.TempDir(), "hosts.json")
		h := Host{Name: c.host, Memory: fetcher.LoadHostStats(file), Resolver: dns}
		if got := strings.Join(h.Trackers(t.Context()), " "); got != c.first {
			t.Errorf("%s: %q", c.host, got)
		}
		if c.answers != "" {
			h.Answered(c.answers)
		}
		if err := h.Memory.Save(); err != nil {
			t.Fatal(err)
		}
		h.Memory, h.Resolver = fetcher.LoadHostStats(file), records{}
		if c.host == "broken.example" {
			h.Resolver = dns // it is asked once more
		}
		if got := strings.Join(h.Trackers(t.Context()), " "); got != c.second {
			t.Errorf("%s, the second time: %q", c.host, got)
		}
		h.Memory, h.Resolver = nil, dns
		if got := strings.Join(h.Trackers(t.Context()), " "); strings.Contains(got, ":6969/") {
			t.Errorf("%s, without a memory: %q", c.host, got)
		}
	}
}

// FuzzParseRecord: whatever a record says, what comes of it are URLs of that host.
func FuzzParseRecord(f *testing.F) {
	for _, text := range []string{"BITTORRENT UDP:1337 TCP:80", "BITTORRENT", "BITTORRENT DENY ALL", "BITTORRENT UDP:0 TCP:65536 TCP:+1 UDP:00080 udp:1 UDP:", "v=spf1", "", " BITTORRENT\tTCP:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ports, ok := parseRecord(text)
		if !ok && ports != nil || len(ports) > maxPorts {
			t.Fatal(ports)
		}
		for _, p := range ports {
			u, err := url.Parse(p.scheme + "://h.example:" + p.number + "/announce")
			if err != nil || u.Hostname() != "h.example" || u.Port() == "0" {
				t.Errorf("%+v: %v", p, err)
			}
		}
	})
}
