package swarm

import (
	"reflect"
	"testing"
)

// A tracker is announced to once, whether the torrent names it twice or its own host is known for it.
func TestTrackersOnce(t *testing.T) {
	for _, test := range []struct{ tiers, want [][]string }{
		{nil, nil},
		{[][]string{{"http://a", "udp://b"}, {"https://c"}}, [][]string{{"http://a", "udp://b"}, {"https://c"}}},
		{[][]string{{"http://a"}, {"http://a"}}, [][]string{{"http://a"}}},
		{[][]string{{"udp://b", "udp://b"}, {"http://a", "udp://b"}, {}, {"wss://d"}, {"http://c", "http://a"}},
			[][]string{{"udp://b"}, {"http://a"}, {"http://c"}}},
	} {
		if got := tiersOf(test.tiers); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %q", test.tiers, got)
		}
	}
}
