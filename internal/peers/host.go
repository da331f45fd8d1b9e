package peers

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"torrent-xfer/fetcher"
)

const (
	trackerPort    = "6969" // of most trackers
	recordPatience = 5 * time.Second
	maxPorts       = 4 // of a record
)

// Host finds the trackers of the host that a torrent came from: those that its DNS record tells (BEP 34), or, where there is
// none, what answers at port 6969. What was found is remembered for a week, that nothing answers too.
type Host struct {
	Name     string             // name or address
	Memory   *fetcher.HostStats // nil: only the record is looked at
	Resolver Resolver           // nil: the system's
}

// Resolver looks up TXT records; *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Trackers returns the announce URLs to try, best first. The port is tried only once that is written down.
func (h *Host) Trackers(ctx context.Context) []string {
	if known, ok := h.Memory.Trackers(h.Name); ok {
		return known
	}
	if _, err := netip.ParseAddr(h.Name); err != nil { // addresses have no records
		resolver := h.Resolver
		if resolver == nil {
			resolver = net.DefaultResolver
		}
		ctx, cancel := context.WithTimeout(ctx, recordPatience)
		defer cancel()
		texts, err := resolver.LookupTXT(ctx, h.Name)
		var dns *net.DNSError
		if err != nil && !(errors.As(err, &dns) && dns.IsNotFound) {
			return nil // nobody knows
		}
		for _, text := range texts {
			if ports, ok := parseRecord(text); ok {
				var list []string
				for _, p := range ports {
					list = append(list, p.scheme+"://"+net.JoinHostPort(h.Name, p.number)+"/announce")
				}
				h.Memory.SetTrackers(h.Name, list)
				return list
			}
		}
	}
	if h.Memory == nil {
		return nil
	}
	h.Memory.SetTrackers(h.Name, nil)
	if h.Memory.Save() != nil {
		return nil
	}
	at := net.JoinHostPort(h.Name, trackerPort) + "/announce"
	return []string{"udp://" + at, "http://" + at}
}

// Answered notes the tracker that answered first.
func (h *Host) Answered(tracker string) {
	if known, ok := h.Memory.Trackers(h.Name); ok && !slices.Contains(known, tracker) {
		h.Memory.SetTrackers(h.Name, []string{tracker})
	}
}

// port is one of a record.
type port struct{ scheme, number string }

// parseRecord reads a TXT record as BEP 34 has it: "BITTORRENT", then "UDP:PORT" and "TCP:PORT" in the order of preference, and
// words that mean nothing. None of these: there is no tracker.
func parseRecord(text string) (ports []port, ok bool) {
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != "BITTORRENT" {
		return nil, false
	}
	for _, word := range words[1:] {
		kind, number, _ := strings.Cut(word, ":")
		scheme := map[string]string{"UDP": "udp", "TCP": "http"}[kind]
		n, err := strconv.ParseUint(number, 10, 16)
		if scheme == "" || err != nil || n == 0 {
			continue
		}
		if p := (port{scheme, strconv.FormatUint(n, 10)}); len(ports) < maxPorts && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports, true
}
