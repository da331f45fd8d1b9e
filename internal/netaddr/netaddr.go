// Package netaddr tells addresses on the internet from those of this machine and of private networks.
package netaddr

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Addresses that do not belong to one host on the internet (IANA special-purpose address registries).
var (
	specialIPv4 = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4")
	globalIPv6  = netip.MustParsePrefix("2000::/3")
	specialIPv6 = prefixes("2001::/23", "2001:db8::/32", "3fff::/20")
	nat64       = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: ends in an IPv4 address
	sixToFour   = netip.MustParsePrefix("2002::/16")    // RFC 3056: an IPv4 address follows
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Public reports whether ip is an address on the internet: not this host, this link, a private or shared network,
// multicast, or reserved, nor an IPv6 form of such an IPv4 address. One with a zone is not.
func Public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return !inAny(ip, specialIPv4)
	}
	raw := ip.As16()
	switch {
	case nat64.Contains(ip):
		return Public(netip.AddrFrom4([4]byte(raw[12:16])))
	case sixToFour.Contains(ip):
		return Public(netip.AddrFrom4([4]byte(raw[2:6])))
	}
	return globalIPv6.Contains(ip) && !inAny(ip, specialIPv6)
}

func inAny(ip netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// PublicHost reports whether a URL's host, without port, may be on the internet as far as its text tells. A literal
// address has to be public and in its usual spelling. What a name resolves to is for Public to judge.
func PublicHost(host string) bool {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return Public(ip)
	}
	host = strings.ToLower(host)
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		// net/http does so too, and it makes ASCII digits and dots of others.
		var err error
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return false
		}
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if label == "" {
			return false
		}
	}
	switch last := labels[len(labels)-1]; {
	case last == "localhost" || last == "local" || last == "internal" || len(labels) == 1:
		return false
	case last[0] >= '0' && last[0] <= '9':
		// No top-level domain begins with a digit: 127.1, 0177.0.0.1, 1.2.3.0x4 and what else inet_aton takes.
		ip, err := netip.ParseAddr(strings.Join(labels, "."))
		return err == nil && Public(ip)
	}
	return true
}
