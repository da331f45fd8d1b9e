// Package fetcher brings one file from wherever its bytes come fastest.
//
// A [Fetcher] asks the first mirror at once and looks for a torrent beside that. What is known of the content, a
// [metainfo.Manifest] with piece hashes or a digest from the caller, decides how many sources may work together: with
// neither, one mirror at a time. Each source pulls work from the [Sink] and pushes bytes into it. The Sink alone decides what is
// right, and only whole and right files appear at the destination.
package fetcher

import "torrent-xfer/metainfo"

// blockSize is the unit in which bytes are accounted for.
const blockSize = metainfo.BlockSize
