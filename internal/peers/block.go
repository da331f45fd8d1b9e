package peers

import (
	"fmt"
	"net/netip"
	"strings"
)

// Range is a range of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// ParseRange reads an address, a prefix, or FIRST-LAST.
func ParseRange(text string) (r Range, err error) {
	first, last, pair := strings.Cut(strings.TrimSpace(text), "-")
	if prefix, err := netip.ParsePrefix(first); err == nil && !pair {
		prefix = prefix.Masked()
		end := prefix.Addr().AsSlice()
		for bit := prefix.Bits(); bit < len(end)*8; bit++ {
			end[bit/8] |= 0x80 >> (bit % 8)
		}
		last, _ := netip.AddrFromSlice(end)
		return Range{prefix.Addr(), last}, nil
	}
	if !pair {
		last = first
	}
	if r.First, err = netip.ParseAddr(strings.TrimSpace(first)); err == nil {
		r.Last, err = netip.ParseAddr(strings.TrimSpace(last))
	}
	if err != nil || r.First.BitLen() != r.Last.BitLen() || r.Last.Less(r.First) || r.First.Zone()+r.Last.Zone() != "" {
		return r, fmt.Errorf("%q is no address, prefix or range", text)
	}
	return r, nil
}

// Contains reports whether ip, which is not an IPv4 address in IPv6 form, is in the range.
func (r Range) Contains(ip netip.Addr) bool {
	return ip.BitLen() == r.First.BitLen() && !ip.Less(r.First) && !r.Last.Less(ip)
}
