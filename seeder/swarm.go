package seeder

import "context"

// Torrent is content that a Swarm offers.
type Torrent struct {
	ID, V2   ID                     // see Entry
	Metainfo func() ([]byte, error) // read when a peer comes
	Trackers [][]string
	Hosts    []string // see Offer
	Private  bool
}

// Swarm speaks to peers. It asks for content by Daemon.Open, and tells by Daemon.Dropped what it could not go on with. All but Run
// may be called at any time, by several goroutines.
type Swarm interface {
	Add(t Torrent) error        // or changes, or offers again what was dropped
	Remove(id ID)               //
	Limit(bytesPerSecond int64) // all that is given, together; <= 0: no limit
	Pause(on bool)              // nobody is served
	Status() SwarmStatus
	Run(ctx context.Context) error // until ctx ends; an error: there is no port, or nobody who speaks to peers
}

// SwarmStatus is how things stand at a Swarm.
type SwarmStatus struct {
	Port     int   // that peers connect to; 0: none now
	Peers    int   // connected now
	Uploaded int64 // bytes, since the Swarm was made
	Restarts int   // after crashes
	Torrents []SwarmTorrent
}

// SwarmTorrent is how one torrent stands there.
type SwarmTorrent struct {
	ID       ID
	Peers    int
	Uploaded int64  // bytes, since it was added first
	Problem  string // "": none
}
