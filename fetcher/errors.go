package fetcher

import "errors"

// What Fetch's errors wrap, for errors.Is.
var (
	// ErrNotFound: no mirror has the file (404, 410 everywhere that answered).
	ErrNotFound = errors.New("no mirror has the file")
	// ErrWrong: every copy that could be had differs from what the digest or torrent says.
	ErrWrong = errors.New("every copy was wrong")
	// ErrWrite: the destination cannot be written (permission, disk full, not a regular file, vanished directory).
	ErrWrite = errors.New("cannot write")
	// ErrTimeout: mirrors were silent for too long.
	ErrTimeout = errors.New("timed out")
	// ErrRequest: the request makes no sense (scheme, malformed digest or metainfo given by the user).
	ErrRequest = errors.New("bad request")
)
