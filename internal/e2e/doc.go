// Package e2e holds the end-to-end tests: the built torrent-xfer, called by the real pacman, makepkg and other callers'
// own lines, against mirrors on loopback, a real nginx and a real Apache; and what it publishes, read by other BitTorrent
// clients. It has no code of its own.
//
// A test whose program is not installed is skipped, unless CI is "true" or TORRENT_XFER_NEED_REAL is "1".
package e2e
