// The resolver of libc would load libraries that the confinement does not let it read.
//go:debug netdns=go

// Command torrent-xfer-swarm speaks to the peers of one torrent for one download. torrent-xfer starts it once a torrent was
// found; it is a program of its own so that the BitTorrent library, whatever becomes of it, costs the peers and not the file,
// and so that torrent-xfer stays small without it. It takes no arguments: standard input is a socket to the download,
// descriptor 3 the unfinished file, open for reading.
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
