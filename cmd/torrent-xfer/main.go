// The resolver of libc would load libraries that the confinement of root does not let it read.
//go:debug netdns=go

// Command torrent-xfer brings one file from wherever its bytes come fastest: pacman and makepkg call it, and people.
//
// It parses, wires, prints and exits; the work is done by package fetcher.
package main

import "os"

func main() {
	os.Exit(run(systemEnv()))
}
