package metainfo

import (
	"encoding/base32"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseMagnet(t *testing.T) {
	v1, v2 := strings.Repeat("1a", 20), strings.Repeat("2b", 32)
	raw, _ := hex.DecodeString(v1)
	full := Magnet{MagnetParts: MagnetParts{InfoHashV1: v1, InfoHashV2: v2, Name: "a b+c&d", Size: 12,
		Trackers: []string{"udp://t.example:1/announce", "http://t.example/a?x=1&y=2"}, WebSeeds: []string{"https://m.example/a%20b~c"}}}
	rest := full
	rest.Sources, rest.Peers, rest.Select = []string{"http://m.example/t.torrent"}, []string{"10.0.0.1:7", "[::1]:8", "peer.example:9"}, []Span{{0, 0}, {2, 2}, {4, 6}}
	for name, tt := range map[string]struct {
		text string
		want Magnet
	}{
		"its own":  {full.String(), full},
		"the rest": {full.String() + "&xs=http%3A%2F%2Fm.example%2Ft.torrent&x.pe=10.0.0.1:7&x.pe=[::1]:8&x.pe=peer.example:9&so=0,2,4-6", rest},
		"base32":   {"magnet:?xt=urn:btih:" + strings.ToLower(base32.StdEncoding.EncodeToString(raw)), Magnet{MagnetParts: MagnetParts{InfoHashV1: v1}}},
		"numbered": {"magnet:?xt.1=urn:btih:" + strings.ToUpper(v1) + "&xt.2=urn:sha1:ABC&tr.2=http://b/&tr.10=http://c/&tr.1=http://a/",
			Magnet{MagnetParts: MagnetParts{InfoHashV1: v1, Trackers: []string{"http://a/", "http://b/", "http://c/"}}}},
		"rubbish beside it": {"magnet:?xt=urn:btih:" + v1 + "&tr=file:///etc&ws=ftp://x/&xs=magnet:?x&x.pe=1.2.3.4&x.pe=1.2.3.4:0&xl=-1",
			Magnet{MagnetParts: MagnetParts{InfoHashV1: v1}}},
	} {
		got, err := ParseMagnet(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "magnet:?", "magnet:?dn=x", "http://x/?xt=urn:btih:" + v1, "magnet:?xt=urn:btih:1234", "magnet:?xt=urn:btmh:1220" + v1,
		"magnet:?xt=urn:btih:" + v1 + "&xt=urn:btih:" + v2[:40], "magnet:?xt=urn:btih:" + v1 + "&so=a", "magnet:?xt=urn:btih:" + v1 + "&so=3-1",
		"magnet:?xt=urn:btih:" + v1 + "&dn=%zz"} {
		if m, err := ParseMagnet(bad); err == nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

func TestCompleteMagnet(t *testing.T) {
	data := []byte("d8:announce9:http://b/4:infod6:lengthi1e4:name1:x12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae8:url-list9:http://s/e")
	own, err := Parse(data, "")
	if err != nil {
		t.Fatal(err)
	}
	m := Magnet{MagnetParts: MagnetParts{InfoHashV1: own.InfoHash, Trackers: []string{"http://a/"}, WebSeeds: []string{"http://w/x"}}}
	whole, err := m.Complete(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(whole, "")
	if err != nil || got.InfoHash != own.InfoHash || !reflect.DeepEqual(got.Trackers, [][]string{{"http://a/"}, {"http://b/"}}) ||
		!slices.Equal(got.WebSeeds, []string{"http://w/x", "http://s/x"}) {
		t.Errorf("%+v, %v", got, err)
	}
	m.InfoHashV1 = strings.Repeat("0", 40)
	if _, err := m.Complete(data); err == nil {
		t.Error("another torrent is taken")
	}
	m = Magnet{MagnetParts: MagnetParts{InfoHashV2: strings.Repeat("0", 64)}}
	if _, err := m.Complete(data); err == nil {
		t.Error("another torrent of v2 is taken")
	}
	if _, err := m.Complete([]byte("d4:infoi1e")); err == nil {
		t.Error("half a torrent is taken")
	}
}

// FuzzParseMagnet: what is read of a link is in the link that is written of it.
func FuzzParseMagnet(f *testing.F) {
	f.Add("magnet:?xt=urn:btih:" + strings.Repeat("1a", 20) + "&dn=a%20b&tr=http://t/&ws=http://w/&xs=http://x/&x.pe=h:1&so=1-2&xl=3")
	f.Add("magnet:?xt=urn:btmh:1220" + strings.Repeat("2b", 32) + "&xt.1=urn:btih:" + strings.Repeat("A", 32))
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMagnet(text)
		if err != nil {
			return
		}
		again, err := ParseMagnet(m.String())
		if err != nil || !reflect.DeepEqual(again.MagnetParts, m.MagnetParts) {
			t.Errorf("%+v became %+v, %v", m.MagnetParts, again.MagnetParts, err)
		}
	})
}
