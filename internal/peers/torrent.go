package peers

import (
	"encoding/hex"
	"errors"
	"slices"

	"torrent-xfer/metainfo"
)

// Torrent is finished content that is offered to peers: whoever adds it has verified it.
type Torrent struct {
	ID       [20]byte               // info hash as peers know it: v1, or truncated v2 (BEP 52)
	V2       [20]byte               // of a hybrid: the truncated v2 info hash, under which it is found too; zero: none
	Metainfo func() ([]byte, error) // complete; asked for when a peer comes, so that thousands of torrents need no memory
	Trackers [][]string             // tiers; others than http, https and udp are left out
	Hosts    []string               // of the user's own mirrors: trackers may stand on them, as on those that Reach trusts
	Private  bool                   // peers come from the trackers alone (BEP 27)
}

// TorrentOf offers what a torrent is of to the torrent's own trackers. data is kept. Torrents with empty files among several are an
// error: the BitTorrent library crashes on some.
func TorrentOf(data []byte) (t Torrent, err error) {
	m, err := metainfo.ParseAll(data)
	if err != nil {
		return t, err
	}
	if slices.ContainsFunc(m.Files(), func(f metainfo.File) bool { return f.Size == 0 }) {
		return t, errors.New("the BitTorrent library crashes on torrents with empty files")
	}
	t = Torrent{Metainfo: func() ([]byte, error) { return data, nil }, Trackers: m.Trackers, Private: m.Private}
	v1, v2 := m.InfoHashes()
	if v1 == "" {
		v1, v2 = v2[:40], ""
	}
	hex.Decode(t.ID[:], []byte(v1))
	if v2 != "" {
		hex.Decode(t.V2[:], []byte(v2[:40]))
	}
	return t, nil
}

// SeedingStatus is how things stand, a second ago at most while bytes flow.
type SeedingStatus struct {
	Port     int             // that peers connect to; 0: not listening yet, or the worker is being started again
	Peers    int             // connected now
	Uploaded int64           // bytes since the Seeding was made, of torrents too that were removed
	Restarts int             // how often the worker has crashed
	Torrents []TorrentStatus // in the order of their IDs; those are left out of which there is nothing to tell
}

// TorrentStatus is how one torrent stands.
type TorrentStatus struct {
	ID       [20]byte
	Peers    int    // connected now
	Uploaded int64  // bytes since it was added first
	Problem  string // what went wrong last: a tracker's answer, or why it was dropped; "": nothing
	Dropped  bool   // not offered any more, since its content cannot be read or has changed; Add offers it again
}

// Torrent returns the status of one of them; zero if it is unknown.
func (s SeedingStatus) Torrent(id [20]byte) TorrentStatus {
	i, found := slices.BinarySearchFunc(s.Torrents, id, func(t TorrentStatus, id [20]byte) int { return slices.Compare(t.ID[:], id[:]) })
	if !found {
		return TorrentStatus{}
	}
	return s.Torrents[i]
}
