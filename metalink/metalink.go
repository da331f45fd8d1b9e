// Package metalink reads Metalink 3 (metalinker.org) and Metalink 4 (RFC 5854) documents, and writes Metalink 4: what a
// publisher says of files, with their sizes, digests, hashes of pieces, mirrors and torrents.
package metalink

import (
	"bytes"
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the largest document that Parse accepts, in bytes.
const MaxSize = 16 << 20

// ErrUnusable is wrapped by every error of Parse.
var ErrUnusable = errors.New("not a usable metalink")

const (
	maxFiles    = 4096
	maxElements = 1 << 18
	maxURLs     = 256  // of one file; the best are kept
	maxURLsRead = 2048 // of one file
	maxURL      = 2048 // bytes
	maxName     = 4096 // bytes
	maxPriority = 999999

	namespace3 = "http://www.metalinker.org/"
	namespace4 = "urn:ietf:params:xml:ns:metalink"
)

// The hash functions of pieces, as the IANA registry of hash function textual names spells them.
const (
	SHA1   = "sha-1"
	SHA256 = "sha-256"
)

// Document is what stands in a metalink, as far as it is of use here.
type Document struct {
	Files []File
}

// File is one file that a metalink describes.
type File struct {
	// Name is the file's name, as the document has it: it may hold slashes or be absolute, and must not be used as a path.
	Name string
	// Size is in bytes; -1: unknown.
	Size int64
	// SHA1, SHA256 and SHA512 are digests of the whole file: 20, 32 and 64 bytes. nil: unknown.
	SHA1, SHA256, SHA512 []byte
	// Pieces are hashes of its parts. Zero: none.
	Pieces Pieces
	// URLs of the file, http and https only, best first. Parse returns 256 at most, no two alike, none with userinfo.
	URLs []URL
	// Torrents are URLs of torrents of the file, in the same way.
	Torrents []URL
}

// Pieces are hashes of consecutive parts of a file.
type Pieces struct {
	Length int64  // bytes of each but the last
	Kind   string // SHA1 or SHA256
	Hashes []byte // 20 or 32 bytes for each piece
}

// URL is one place.
type URL struct {
	URL      string
	Priority int    // 1 is the best, 999999 the worst; 0: not told, which is worse than all
	Location string // ISO 3166-1 alpha-2 country code in lower case; "": unknown
}

// IsXML reports whether data may be a metalink, as opposed to a torrent: it begins as XML does.
func IsXML(data []byte) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n")
	return bytes.HasPrefix(data, []byte("<"))
}

func (p Pieces) hashLength() int {
	switch p.Kind {
	case SHA1:
		return 20
	case SHA256:
		return 32
	}
	return 0
}

// fits reports whether p can be the pieces of a file of size bytes (-1: unknown).
func (p Pieces) fits(size int64) bool {
	n := p.hashLength()
	if n == 0 || p.Length <= 0 || len(p.Hashes) == 0 || len(p.Hashes)%n != 0 {
		return false
	}
	count := size / p.Length
	if size%p.Length != 0 {
		count++
	}
	return size < 0 || int64(len(p.Hashes)/n) == count
}

// usableURL returns text in the form in which it is kept.
func usableURL(text string) (string, bool) {
	text = strings.TrimSpace(text)
	if len(text) > maxURL || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", false
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || u.Hostname() == "" {
		return "", false
	}
	u.Fragment, u.RawFragment = "", ""
	clean := u.String()
	again, err := url.Parse(clean)
	return clean, err == nil && again.String() == clean && len(clean) <= maxURL
}

// best sorts list, best first, and keeps what is wanted of it.
func best(list []URL) []URL {
	rank := func(u URL) int {
		if u.Priority == 0 {
			return maxPriority + 1
		}
		return u.Priority
	}
	slices.SortStableFunc(list, func(a, b URL) int { return cmp.Compare(rank(a), rank(b)) })
	seen := map[string]bool{}
	list = slices.DeleteFunc(list, func(u URL) bool {
		known := seen[u.URL]
		seen[u.URL] = true
		return known
	})
	return slices.Clip(list[:min(len(list), maxURLs)])
}
