package metainfo

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	anacrolix "github.com/anacrolix/torrent/metainfo"
)

func TestMagnet(t *testing.T) {
	v1, v2 := strings.Repeat("1a", 20), strings.Repeat("2b", 32)
	for _, tt := range []struct {
		name  string
		parts MagnetParts
		want  string
	}{
		{"no info hash", MagnetParts{Name: "x"}, ""},
		{"v1", MagnetParts{InfoHashV1: v1}, "magnet:?xt=urn:btih:" + v1},
		{"v2", MagnetParts{InfoHashV2: v2}, "magnet:?xt=urn:btmh:1220" + v2},
		{
			"hybrid, with everything",
			MagnetParts{
				InfoHashV1: v1, InfoHashV2: v2, Name: "a b+c&d=é\xff.pkg", Size: 12,
				Trackers: []string{"udp://t.example:1/announce", "http://t.example/a?x=1&y=2"},
				WebSeeds: []string{"https://m.example/a%20b~c"},
			},
			"magnet:?xt=urn:btih:" + v1 + "&xt=urn:btmh:1220" + v2 + "&dn=a%20b%2Bc%26d%3D%C3%A9%FF.pkg&xl=12" +
				"&tr=udp%3A%2F%2Ft.example%3A1%2Fannounce&tr=http%3A%2F%2Ft.example%2Fa%3Fx%3D1%26y%3D2" +
				"&ws=https%3A%2F%2Fm.example%2Fa%2520b~c",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.parts.String(); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// Another implementation reads what was written.
func TestMagnetIsReadAlike(t *testing.T) {
	m := MagnetParts{
		InfoHashV1: strings.Repeat("1a", 20), InfoHashV2: strings.Repeat("2b", 32), Name: "a b+c&d.pkg", Size: 12,
		Trackers: []string{"http://t.example/a?x=1&y=2"}, WebSeeds: []string{"https://m.example/a%20b+c"},
	}
	got, err := anacrolix.ParseMagnetV2Uri(m.String())
	if err != nil {
		t.Fatal(err)
	}
	if got.InfoHash.Value.HexString() != m.InfoHashV1 || got.V2InfoHash.Value.HexString() != m.InfoHashV2 ||
		got.DisplayName != m.Name || !slices.Equal(got.Trackers, m.Trackers) ||
		!slices.Equal(got.Params["ws"], m.WebSeeds) || !slices.Equal(got.Params["xl"], []string{"12"}) {
		t.Errorf("read as %+v", got)
	}
	if u, err := url.Parse(m.String()); err != nil || u.Scheme != "magnet" {
		t.Errorf("no URL: %v", err)
	}
}
