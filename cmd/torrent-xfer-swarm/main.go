// The resolver of libc would load libraries that the confinement does not let it read.
//go:debug netdns=go

// Command torrent-xfer-swarm speaks to peers: to those of one torrent for one download, to any who may have the torrent of a magnet
// link, or to all who want finished files. torrent-xfer starts it when it has something to say to them; it is a program of its own
// so that the BitTorrent library, whatever becomes of it, costs the peers and not the file, and so that torrent-xfer stays small
// without it. It takes no arguments: standard input is a socket to torrent-xfer, descriptor 3 the unfinished file, open for reading,
// or, for finished files, a socket over which they come.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/swarm"
)

const partial = 3

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGTERM) // the download decides, and tells through the socket
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("this program is run by torrent-xfer alone: %w", err)
	}
	defer conn.Close()
	if err := confine(); err != nil {
		return err
	}
	return swarm.Run(peers.NewLink(conn), os.NewFile(partial, "partial"))
}
