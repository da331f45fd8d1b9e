// Package publisher makes the torrents of a package repository, as static files beside the packages or in a tree of their
// own, and keeps them up to date: what has not changed since the last run is not read again.
package publisher

import (
	"context"
	"errors"

	"torrent-xfer/metainfo"
)

// Errors of Publish and Check, for errors.Is. Troubles with single files are events, not errors.
var (
	// ErrBusy: another run has the state.
	ErrBusy = errors.New("another run is under way")
	// ErrOptions: the options make no sense.
	ErrOptions = errors.New("bad options")
	// ErrState: the state belongs to another user, and may not be written.
	ErrState = errors.New("the state is another user's")
	// ErrVanished: the state knows files, and now there is not one. Perhaps the tree is not mounted.
	ErrVanished = errors.New("all files have vanished")
)

// DefaultMinSize is the size, in bytes, below which a file gets no torrent: to look for one would cost more than it gains.
const DefaultMinSize = 256 << 10

// StateName is the name of the state file in the directory that the torrents go to.
const StateName = ".torrent-xfer-publish"

// Options say what is to be published, and how. The zero value writes a hybrid torrent beside each package and image of
// 256 KiB or more.
type Options struct {
	// Out is the directory of a tree that is to be like DIR, with the torrents alone. "": beside the files.
	Out string
	// Flat puts all torrents into one directory: Out, or DIR/torrents if that is "".
	Flat bool
	// Include are patterns of the files to be published (see Select). nil: packages and images.
	Include []string
	// Exclude are patterns of files and directories that are left out.
	Exclude []string
	// MinSize is in bytes. 0: DefaultMinSize; < 0: no limit.
	MinSize int64

	// Mirrors are URLs that correspond to DIR, best first; each file's own become its web seeds.
	Mirrors []string
	// Version and PieceLength are as in metainfo.HashOptions.
	Version     metainfo.Version
	PieceLength int64
	// Build is what else the torrents say; its WebSeeds are not used.
	Build metainfo.BuildOptions
	// DateOfFile makes each torrent's creation date the modification time of its file, in place of Build's.
	DateOfFile bool
	// Metalink writes FILE.meta4 beside each torrent. It needs Mirrors.
	Metalink bool

	// State is the path of the state file. "": StateName where the torrents go.
	State string
	// Prune removes torrents and metalinks without a file that nobody knows, too. What lies below a directory with a state
	// of its own is another run's and stays.
	Prune bool
	// Force replaces torrents and metalinks that others made, and consents to ErrVanished.
	Force bool
	// DryRun tells what would be done and writes nothing.
	DryRun bool
	// Jobs is how many processors hash. <= 0: all.
	Jobs int
	// OnEvent hears what happens, one call at a time. nil: nobody.
	OnEvent func(Event)
}

// EventKind is what an Event tells.
type EventKind int

const (
	Planned  EventKind = iota // the tree was looked through; Bytes are to be hashed
	Progress                  // Bytes more were hashed
	Wrote                     // the torrent or metalink at Path was written, or would be
	Removed                   // the one at Path was removed, or would be
	Note                      // something at Path was left alone, and a person may want to know
	Problem                   // something at Path is wrong or could not be done
)

// Event is something that happened. Path is below DIR, or below Out for what stands there; the Path of a Note
// may be one of Include.
type Event struct {
	Kind    EventKind
	Path    string
	Bytes   int64
	Message string // Note, Problem: one line
}

// Report sums a run up.
type Report struct {
	Files       int   // that were selected, each name of it counted
	Unchanged   int   // of Files: not read, since nothing has changed
	Hashed      int   // contents that were hashed; a file with several names is one
	HashedBytes int64 // of them
	Written     int   // torrents and metalinks
	Removed     int   // torrents and metalinks
	Problems    int   // events of this kind
}

// Publish brings the torrents of the tree at dir up to date. A file that cannot be read, or vanishes or changes meanwhile,
// is a Problem event; the run goes on. The Report is never nil. The error is context.Cause(ctx), one of this package, or
// tells why nothing could be done at all, or no more: no space left, a read-only file system.
//
// Symbolic links to files are names of their own; the content is read once. Links that lead out of dir or nowhere, and what
// is no regular file, get a Note; links to directories are not followed, hidden names are skipped. Nothing outside of dir,
// Out and State is written, whatever links others put into them.
func Publish(ctx context.Context, dir string, o Options) (*Report, error) {
	return run(ctx, dir, o, !o.DryRun, (*publication).publish)
}

// Check reads all files and compares them with their torrents. What differs, piece by piece, is a Problem event. Nothing is
// written, and the state does not count.
func Check(ctx context.Context, dir string, o Options) (*Report, error) {
	return run(ctx, dir, o, false, (*publication).check)
}

// A stamp tells cheaply whether a file is the one that was read.
type stamp struct {
	size  int64
	mtime int64 // nanoseconds since 1970
	inode uint64
}
