package swarm

import (
	"bytes"
	"testing"

	"github.com/anacrolix/torrent/metainfo"
	pp "github.com/anacrolix/torrent/peer_protocol"

	ours "torrent-xfer/metainfo"
)

// A block that reaches beyond a file's end, but not its piece's, is passed over; what nobody would ask for ends the connection.
func TestAsksForPadding(t *testing.T) {
	const size, pieceLength = 64<<10 + 100, 32 << 10
	for version, want := range map[ours.Version]bool{ours.V2: true, ours.Hybrid: false, ours.V1: false} {
		h, err := ours.Hash(t.Context(), bytes.NewReader(make([]byte, size)), size, ours.HashOptions{Version: version, PieceLength: pieceLength})
		if err != nil {
			t.Fatal(err)
		}
		data, err := ours.Build("f", h, ours.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mi, err := metainfo.Load(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		info, err := mi.UnmarshalInfo()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			index, begin, length pp.Integer
			padding              bool
		}{
			{2, 0, 16 << 10, want}, {2, 0, 100, false}, {0, 16 << 10, 16 << 10, false}, {2, 0, 32 << 10, false}, {3, 0, 16 << 10, false},
			{2, 24 << 10, 16 << 10, false}, {2, 1<<32 - 1, 16 << 10, false}, {1<<32 - 1, 0, 16 << 10, false},
		} {
			if got := asksForPadding(&info, &pp.Message{Type: pp.Request, Index: c.index, Begin: c.begin, Length: c.length}); got != c.padding {
				t.Errorf("version %v: piece %d, %d bytes from %d: %v", version, c.index, c.length, c.begin, got)
			}
		}
	}
}
