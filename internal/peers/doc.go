// Package peers is a BitTorrent swarm as a source of one file. The swarm is spoken to by a process of its own (the worker,
// cmd/torrent-xfer-swarm), since whatever speaks to peers may crash, stall or be taken over; that costs the peers, not the file.
//
// [Source] is the side of the download. It starts the worker, tells it what is wanted, and puts what it sends into the
// [fetcher.Sink], which verifies it as it does with bytes from mirrors. [Metadata] has it look for the
// torrent of a magnet link. [Seeding] gives finished files to others, thousands of them perhaps. [Link] is the worker's side.
package peers
