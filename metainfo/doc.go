// Package metainfo knows what stands in a .torrent file (BEP 3, 5, 12, 19, 27, 47, 52): it reads one strictly, for those
// who verify a file with it, and makes one.
package metainfo
