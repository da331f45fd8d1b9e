package main

import (
	"log/slog"
	"os"

	"torrent-xfer/internal/peers"
	"torrent-xfer/seeder"
)

// seeding is a seeder.Swarm by peers.Seeding.
type seeding struct{ peers.Seeding }

func newSeeding(d *seeder.Daemon, with *company, private bool, log *slog.Logger) *seeding {
	o := with.options
	o.LimitUpload = 0 // the daemon tells
	return &seeding{Seeding: peers.Seeding{Worker: with.worker, Options: o, Reach: peers.Reach{Private: private}, Log: log,
		Open:    func(id [20]byte, _ int) (*os.File, error) { return d.Open(id) },
		Dropped: func(id [20]byte, why error) { d.Dropped(id, why) }}}
}

func (s *seeding) Add(t seeder.Torrent) error {
	return s.Seeding.Add(peers.Torrent{ID: t.ID, V2: t.V2, Metainfo: t.Metainfo, Trackers: t.Trackers, Hosts: t.Hosts, Private: t.Private})
}

func (s *seeding) Remove(id seeder.ID) { s.Seeding.Remove(id) }

func (s *seeding) Status() seeder.SwarmStatus {
	st := s.Seeding.Status()
	list := make([]seeder.SwarmTorrent, len(st.Torrents))
	for i, t := range st.Torrents {
		list[i] = seeder.SwarmTorrent{ID: t.ID, Peers: t.Peers, Uploaded: t.Uploaded, Problem: t.Problem}
	}
	return seeder.SwarmStatus{Port: st.Port, Peers: st.Peers, Uploaded: st.Uploaded, Restarts: st.Restarts, Torrents: list}
}
