package netaddr

import (
	"net/netip"
	"testing"
)

func TestPublicAddr(t *testing.T) {
	for text, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.255.255": true, "172.32.0.0": true,
		"192.167.255.255": true, "192.169.0.0": true, "169.253.255.255": true, "198.17.255.255": true, "198.20.0.0": true,
		"11.0.0.0": true, "9.255.255.255": true, "126.255.255.255": true, "128.0.0.0": true, "223.255.255.255": true, "1.0.0.0": true,
		"192.0.1.0": true, "192.0.3.0": true, "191.255.255.255": true,
		"2606:4700:4700::1111": true, "2a00:1450::1": true, "2001:200::1": true, "2003::1": true, "3ffe::1": true, "2001:db7::1": true,
		"::ffff:1.1.1.1": true, "64:ff9b::1.1.1.1": true, "2002:101:101::1": true,

		"0.0.0.0": false, "0.255.255.255": false, "10.0.0.0": false, "10.255.255.255": false, "100.64.0.0": false, "100.127.255.255": false,
		"127.0.0.1": false, "127.255.255.255": false, "169.254.0.1": false, "169.254.169.254": false, "172.16.0.0": false,
		"172.31.255.255": false, "192.0.0.1": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.0.0": false, "192.168.255.255": false,
		"198.18.0.0": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false,
		"239.255.255.255": false, "240.0.0.0": false, "255.255.255.255": false,
		"::": false, "::1": false, "::7f00:1": false, "::1.1.1.1": false, "fe80::1": false, "febf::1": false, "fec0::1": false, "fc00::1": false,
		"fdff::1": false, "ff02::1": false, "ff0e::1": false, "100::1": false, "2001:db8::1": false, "2001::1": false, "2001:10::1": false,
		"2001:2::1": false, "3fff::1": false, "4000::1": false, "5f00::1": false, "fe80::1%eth0": false, "2a00:1450::1%eth0": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:0.0.0.0": false,
		"::ffff:192.168.0.1": false, "::ffff:100.64.0.1": false, "::ffff:127.0.0.1%eth0": false,
		"64:ff9b::127.0.0.1": false, "64:ff9b::10.0.0.1": false, "64:ff9b::192.168.1.1": false, "64:ff9b:1::1.1.1.1": false,
		"2002:7f00:1::": false, "2002:a00:1::1": false, "2002:c0a8:101::1": false, "2002:a9fe:a9fe::1": false,
	} {
		if got := Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("the zero address is public")
	}
}

func TestPublicHost(t *testing.T) {
	for host, want := range map[string]bool{
		"mirror.example": true, "mirror.example.": true, "MIRROR.EXAMPLE": true, "a_b.mirror.example": true, "1.example": true,
		"localhost.example": true, "local.example": true, "notlocalhost.org": true, "internal.org": true, "bücher.example": true,
		"10.0.0.1.example": true, "0x7f.example": true, "1.1.1.1": true, "1.1.1.1.": true, "2606:4700::1": true, "[2606:4700::1]": true,

		"": false, ".": false, "..": false, ".example": false, "a..example": false, "mirror.example..": false,
		"localhost": false, "LOCALHOST": false, "localhost.": false, "a.localhost": false, "printer.local": false, "Printer.LOCAL.": false,
		"metadata.google.internal": false, "router": false, "router.": false,
		"127.0.0.1": false, "127.0.0.1.": false, "10.1.2.3": false, "::1": false, "[::1]": false, "fe80::1%eth0": false, "::ffff:127.0.0.1": false,
		"127.1": false, "127.0.1": false, "0x7f000001": false, "0X7F.1": false, "0x7f.0.0.1": false, "2130706433": false, "017700000001": false,
		"0177.0.0.1": false, "127.0.0.01": false, "1.1.1.1.1": false, "1.1.1": false, "1.1.1.256": false, "1.1.1.0x1": false, "0": false,
		"１２７.０.０.１": false, "127。0。0。1": false, "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ": false, "printer.ｌocal": false, "bad\u202e.example": false,
	} {
		if got := PublicHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
