package fetcher

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// Request says which file is wanted, where else its bytes are, and where it goes.
type Request struct {
	// URL is the file as the package manager named it. http, https or file. nil: there is no such URL, only a torrent, which
	// Torrent.Metainfo has to be; then the file comes from its web seeds, from Mirrors and from peers.
	URL *url.URL
	// Mirrors are other URLs of the same bytes, best first. nil: none. URL itself need not be among them.
	Mirrors []*url.URL
	// Dest is the path at which the file appears, whole, by one rename. A directory, FIFO or device is refused.
	Dest string
	// Grow lets Dest grow in order while the download goes on, instead of appearing at the end: at any time it holds the
	// first bytes of the file, verified where there are piece hashes, and bears the server's date, so that other programs
	// can watch it, or go on with it. What Dest holds already is gone on with if Expect has a digest and the size. Dest
	// may be a symbolic link. If Fetch fails Dest keeps what is good.
	Grow bool
	// InOrder has the file fetched from its beginning to its end, as far as several sources at once allow. It costs speed.
	InOrder bool
	// Partial is the path under which unfinished bytes wait between runs. It has to be on the file system of Dest.
	// "": a hidden name beside Dest. Next to it lies a journal, named like it with ".journal" appended.
	Partial string
	// Expect is what is known of the content. Zero: nothing.
	Expect Expect
	// Torrent says where to look for metainfo. Zero: do not look.
	Torrent TorrentHint
	// Whole takes a torrent of several files, which Torrent.Metainfo then has to be and URL nil, as one (metainfo.ParseAll): Dest
	// gets what they make together. Mirrors are URLs of directories, as its web seeds are.
	Whole bool
	// Wanted are the parts of that which are wanted; pieces without any stay holes. nil: all.
	Wanted []Range
	// Local may hold pieces of that already, and costs nothing to read. nil: nothing does.
	Local io.ReaderAt
	// Only leaves out the mirrors that torrents, metalinks and headers name: URL and Mirrors are all there is.
	Only bool
	// Referrer is the metalink that named URL, or the torrent if URL is nil, if it was got from the network: what stands in it
	// may reach no further than from there. nil: the user named URL, or has the torrent.
	Referrer *url.URL
	// Volatile marks a file that changes under one name (a repository database, a signature): taken from one mirror,
	// never resumed, never looked up as a torrent.
	Volatile bool
	// Cached is the path of an earlier copy of a Volatile file. If it exists the request is conditional on its
	// modification time (If-Modified-Since, RFC 9110 section 13.1.3); on 304 it is copied to Dest. "": none.
	Cached string
}

// Expect is what the caller knows of the content from elsewhere.
type Expect struct {
	Size   int64  // bytes; <= 0: unknown
	SHA256 []byte // 32 bytes; nil: unknown
	SHA512 []byte // 64 bytes; nil: unknown
}

// TorrentHint says where a file's metainfo may be found. The zero value: nowhere; then what headers say of torrents and
// metalinks is not heeded either.
type TorrentHint struct {
	// URLs are asked at once, as many as three at a time, in this order. The first has to be the one on the host of
	// Request.URL. They are not trusted more than that host (see ARCHITECTURE.md, "Which torrent counts").
	URLs []*url.URL
	// Metainfo is a torrent that the user named. It is trusted like a digest from the user. nil: none.
	Metainfo []byte
	// Metalink is what a metalink that the user named says of the file; trusted like Metainfo. Its URLs are further
	// mirrors; its torrents are asked for if it has no pieces of use. nil: none.
	Metalink *metalink.File
	// MetainfoURL is the location of a torrent or metalink that the user named; trusted like these. A metalink of several
	// files has to have one that bears the name of the last segment of Request.URL. nil: none.
	MetainfoURL *url.URL
	// Repository is the key under which "this repository has no torrents" is remembered. "": URL's directory.
	Repository string
}

// A Fetcher fetches files. The zero value works: plain HTTP, silent, nothing remembered. Set fields before first use;
// after that a Fetcher may be used by several goroutines.
type Fetcher struct {
	// Transport is cloned and given the engine's own limits and address checks. nil: HTTP/1.1 and HTTP/2, TLS
	// verified with the system's roots, no proxy.
	Transport *http.Transport
	// Network is what is dialled: "tcp4" or "tcp6" keep to one kind of address. "": "tcp".
	Network string
	// UserAgent is sent with every request. "": "torrent-xfer".
	UserAgent string
	// Credentials returns user and password for a URL whose own userinfo is empty, as from a netrc file. nil: none.
	Credentials func(*url.URL) (user, password string, ok bool)
	// JoinSwarm returns the peers of a torrent that is used from now on, as a Source that opens its line with
	// Sink.JoinSwarm; nil if they are not wanted. It is called once for each file at most, and an error costs only the
	// peers. nil: no peers.
	JoinSwarm func(*metainfo.Manifest) (Source, error)
	// PeerPatience is how long peers are waited for once no mirror is left. <= 0: 10 s.
	PeerPatience time.Duration
	// Hosts remembers hosts between files. nil: remember nothing.
	Hosts *HostStats
	// OnEvent is called from one goroutine at a time and has to return quickly. nil: nobody listens.
	OnEvent func(Event)
	// Log receives what a person debugging wants to know. nil: discard.
	Log *slog.Logger
	// MaxMirrors bounds the mirrors used at once for one file. <= 0: 16.
	MaxMirrors int
	// LimitRate bounds the bytes/s received over all sources together. <= 0: no limit.
	LimitRate int64
	// ConnectTimeout bounds dialling and the TLS handshake, each. <= 0: 10 s.
	ConnectTimeout time.Duration
	// StallTimeout is how long a source may be silent before it is set aside. <= 0: 10 s.
	StallTimeout time.Duration

	leastDoubt, torrentGrace time.Duration // 0: the constant of that name
}

// Result tells how a file came to be.
type Result struct {
	Size       int64          `json:"size"`
	Elapsed    time.Duration  `json:"elapsed_ns"`
	Received   int64          `json:"received"`    // bytes of content received from all sources in this run
	Duplicate  int64          `json:"duplicate"`   // of Received: bytes that were there already or had to be fetched again
	Resumed    int64          `json:"resumed"`     // bytes found right on disk from an earlier run
	Verified   string         `json:"verified"`    // "sha256", "sha512", "torrent", "metalink" (its pieces), "" when nothing to check against was known
	Uploaded   int64          `json:"uploaded"`    // bytes of content given to peers
	InfoHash   string         `json:"info_hash"`   // hex, of the torrent that was used; "": none
	Metalink   bool           `json:"metalink"`    // what a metalink says was used
	NotChanged bool           `json:"not_changed"` // the server answered 304 and Cached was copied
	Sources    []SourceReport `json:"sources"`     // in the order in which they were first used

	torrent *metainfo.Manifest
}

// Torrent is the one that the file was verified with; nil: none.
func (r *Result) Torrent() *metainfo.Manifest { return r.torrent }

// SourceReport is what one source gave.
type SourceReport struct {
	Name      string        `json:"name"`          // the URL without credentials; "peers": all peers together; "peer ADDRESS": one that lied
	Bytes     int64         `json:"bytes"`         // content bytes received from it
	Requests  int           `json:"requests"`      // HTTP requests for content
	FirstByte time.Duration `json:"first_byte_ns"` // from its first request to its first content byte; 0: none came
	Blame     string        `json:"blame"`         // why it was set aside; "": it was not
}

// EventKind is one of the four things that happen to a download (cf. alpm_download_event_type_t in pacman's alpm.h).
type EventKind int

const (
	Started  EventKind = iota // the first byte of content arrived, or the size became known
	Progress                  // some more arrived; about ten times a second
	Retried                   // a source was set aside; Source and Message say which and why
	Finished                  // Fetch is about to return; Err says how
)

// Event is a snapshot of one download.
type Event struct {
	Kind    EventKind
	Size    int64   // bytes; -1: unknown
	Done    int64   // bytes of content in place
	Resumed int64   // of these, what an earlier run had left
	Rate    float64 // bytes/s over the last seconds
	Mirrors int     // mirrors in use
	Peers   int     // peers connected
	Known   int     // mirrors known, in use or not
	Source  string  // Retried: the source
	Message string  // Retried: why, one line without control characters
	Err     error   // Finished
}

// Fetch brings req.URL to req.Dest. It returns nil exactly when Dest holds the whole file, and right as far as anything
// known can tell. Otherwise Dest is as it was before (but for Request.Grow), and the error wraps one of the errors of this package, a context
// error, or describes what the network said. The Result is never nil.
func (f *Fetcher) Fetch(ctx context.Context, req Request) (*Result, error) {
	return f.fetch(ctx, req)
}
