// Package swarm speaks to the peers of one torrent. It is the only importer of the BitTorrent client
// (github.com/anacrolix/torrent), and it runs in a process of its own: see package peers.
package swarm
