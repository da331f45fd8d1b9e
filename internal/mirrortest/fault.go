package mirrortest

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"time"
)

// Fault is one way to misbehave.
type Fault struct {
	Kind FaultKind
	// Path selects what it strikes: a pattern of path.Match over the whole URL path, or "*" for everything. "": every
	// path that does not end in ".torrent"; for OldTorrent and HTMLTorrent those that do; for OwnTorrent everything.
	Path string
	// At is the byte of the file at which FlipBit, Stall, Reset, Truncate, Drip and Vanish strike. Responses without
	// that byte are left alone. 0: the first body byte of every response; negative: that many bytes further into the
	// body of every response. WrongLength and HugeHeader give it their own meaning.
	At int64
	// Count is how many responses it strikes (SlowConnect: connections). 0: all.
	Count int
	// After is how many responses that it could strike it lets pass first. For Changed 0 means 1.
	After int
	// Dur is the duration that the kind speaks of.
	Dur time.Duration
	// Chance is the probability of striking, drawn anew for each response. 0: always.
	Chance float64
	// Seed makes Chance repeatable.
	Seed uint64
	// Data is the other content that the kind speaks of. Zero: derived from the true file.
	Data File
	// Target is where Redirect points. Without a path it takes that of the request.
	Target string
}

// FaultKind names a way to misbehave.
type FaultKind int

const (
	NotFound        FaultKind = iota + 1 // status 404
	Forbidden                            // status 403
	ServerError                          // status 500
	Unavailable                          // status 503, Retry-After in seconds: Dur rounded up, at least 1
	UnavailableDate                      // status 503, Retry-After as an HTTP date, Dur (at least 1 s) from now
	TooMany                              // status 429, Retry-After like Unavailable
	Refuse                               // nothing listens
	Unreachable                          // SYNs are not answered for Dur; 0: for good
	SlowConnect                          // what a new connection says is read only after Dur
	Blackhole                            // the request is read and never answered
	Stall                                // silence from byte At on
	Reset                                // RST at byte At
	Truncate                             // the connection ends at byte At, the full Content-Length being announced
	Drip                                 // from byte At on one byte every Dur; 0: 50 ms
	Vanish                               // at byte At all connections are reset; new ones are refused for Dur; 0: for good
	WrongBytes                           // Data, or every byte inverted, under the true file's validators
	FlipBit                              // the lowest bit of byte At is flipped
	Older                                // an older version: Data, or other content, three quarters as long, 30 days older
	OlderSame                            // an older version of equal length: Data, or other content, 30 days older
	Changed                              // the first After responses are of the file, the later ones of a newer version: Data, or other content of equal length, an hour newer
	Login                                // a login page with status 200 and no validators
	IgnoreRange                          // status 200 and the whole file to a Range request
	RangeStart                           // a 206 with the bytes asked for, whose Content-Range names another start
	RangeTotal                           // a 206 with the bytes asked for, whose Content-Range names another total
	RangeElsewhere                       // a 206 that says honestly that it begins elsewhere than asked
	Gzip                                 // Content-Encoding: gzip though nobody asked, Range ignored
	NoLength                             // no Content-Length: chunked
	HTTP10                               // an HTTP/1.0 answer without length, ended by closing
	WrongLength                          // Content-Length is At more (or less, if negative) than the body; 0: half of it
	Endless                              // no length; zeros follow the body for ever
	EndlessChunked                       // chunked; zeros follow the body for ever
	EndlessHeaders                       // header lines for ever, one every Dur
	HugeHeader                           // one header line of At bytes; 0: 8 MiB
	ControlChars                         // ESC and BEL in ETag, Server and Content-Disposition; Go's client refuses such a header
	ControlC1                            // the same with C1 control characters in UTF-8, which Go's client lets pass
	ControlReason                        // status 404 with ESC and BEL in the reason phrase
	ControlRedirect                      // a redirect to a dead port, control characters and percent-encoded ESC in Location
	RedirectLoop                         // a redirect to itself
	Redirect                             // a redirect to Target
	OwnTorrent                           // wrong bytes like WrongBytes, and beside them a torrent made of those
	OldTorrent                           // a torrent of an older version: Data is the torrent, or it is made of what Older gives
	HTMLTorrent                          // the torrent is an HTML page with status 200
)

// stage is the part of an answer that a kind spoils.
type stage int

const (
	stageListen     stage = iota // whether anything listens
	stageConnection              // a new connection
	stageAnswer                  // the answer as a whole
	stageContent                 // which content the file has
	stageRange                   // whether Range is understood
	stageHead                    // the header of a 200 or 206
	stageFrame                   // how the body's end is told
	stageByte                    // the body at one byte
)

var kinds = map[FaultKind]struct {
	name  string
	stage stage
	text  string
}{
	NotFound:        {"404", stageAnswer, "status 404"},
	Forbidden:       {"403", stageAnswer, "status 403"},
	ServerError:     {"500", stageAnswer, "status 500"},
	Unavailable:     {"503", stageAnswer, "status 503 with Retry-After in seconds (dur)"},
	UnavailableDate: {"503-date", stageAnswer, "status 503 with Retry-After as a date (dur from now)"},
	TooMany:         {"429", stageAnswer, "status 429 with Retry-After in seconds (dur)"},
	Refuse:          {"refuse", stageListen, "nothing listens"},
	Unreachable:     {"unreachable", stageListen, "connecting gets no answer for dur (0: ever)"},
	SlowConnect:     {"slow-connect", stageConnection, "a new connection is read from only after dur"},
	Blackhole:       {"blackhole", stageAnswer, "the request is never answered"},
	Stall:           {"stall", stageByte, "silence from byte at on"},
	Reset:           {"reset", stageByte, "connection reset at byte at"},
	Truncate:        {"truncate", stageByte, "connection closed at byte at"},
	Drip:            {"drip", stageByte, "one byte every dur from byte at on"},
	Vanish:          {"vanish", stageByte, "at byte at all connections are reset and new ones refused for dur (0: ever)"},
	WrongBytes:      {"wrong", stageContent, "other content of the same length and validators"},
	FlipBit:         {"flip", stageByte, "one flipped bit at byte at"},
	Older:           {"older", stageContent, "an older, shorter version"},
	OlderSame:       {"older-same", stageContent, "an older version of equal length"},
	Changed:         {"changed", stageContent, "a newer version from response after+1 on"},
	Login:           {"login", stageAnswer, "a login page with status 200"},
	IgnoreRange:     {"ignore-range", stageRange, "the whole file with status 200 to a Range request"},
	RangeStart:      {"range-start", stageHead, "Content-Range with another start than the body has"},
	RangeTotal:      {"range-total", stageHead, "Content-Range with another total"},
	RangeElsewhere:  {"range-elsewhere", stageHead, "another range than asked for, honestly labelled"},
	Gzip:            {"gzip", stageFrame, "Content-Encoding: gzip unasked"},
	NoLength:        {"no-length", stageFrame, "chunked, no Content-Length"},
	HTTP10:          {"http10", stageFrame, "HTTP/1.0 without length"},
	WrongLength:     {"wrong-length", stageFrame, "Content-Length at bytes too large (0: half)"},
	Endless:         {"endless", stageFrame, "no length, and no end"},
	EndlessChunked:  {"endless-chunked", stageFrame, "chunked without an end"},
	EndlessHeaders:  {"endless-headers", stageAnswer, "header lines without an end, one every dur"},
	HugeHeader:      {"huge-header", stageAnswer, "one header line of at bytes (0: 8 MiB)"},
	ControlChars:    {"control", stageHead, "control characters in headers"},
	ControlC1:       {"control-c1", stageHead, "C1 control characters in headers"},
	ControlReason:   {"control-reason", stageAnswer, "status 404 with control characters in the reason phrase"},
	ControlRedirect: {"control-redirect", stageAnswer, "a redirect to a Location with control characters"},
	RedirectLoop:    {"redirect-loop", stageAnswer, "a redirect to itself"},
	Redirect:        {"redirect", stageAnswer, "a redirect to target"},
	OwnTorrent:      {"own-torrent", stageContent, "wrong bytes and a torrent that matches them"},
	OldTorrent:      {"old-torrent", stageContent, "a torrent of an older version"},
	HTMLTorrent:     {"html-torrent", stageAnswer, "an HTML page in place of the torrent"},
}

// Kinds returns all kinds.
func Kinds() []FaultKind {
	all := make([]FaultKind, 0, len(kinds))
	for k := NotFound; k <= HTMLTorrent; k++ {
		all = append(all, k)
	}
	return all
}

// String returns the name by which ParseFault knows the kind.
func (k FaultKind) String() string {
	if d, ok := kinds[k]; ok {
		return d.name
	}
	return fmt.Sprintf("FaultKind(%d)", int(k))
}

// Describe says in a few words what the kind does.
func (k FaultKind) Describe() string { return kinds[k].text }

// ParseFaultKind is the inverse of String.
func ParseFaultKind(name string) (FaultKind, error) {
	for k, d := range kinds {
		if d.name == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("unknown fault %q", name)
}

// faultState is a Fault with its counts.
type faultState struct {
	Fault
	mu   sync.Mutex
	rng  *rand.Rand
	seen int
	hits int
}

func newFaultState(f Fault, index uint64) (*faultState, error) {
	if _, ok := kinds[f.Kind]; !ok {
		return nil, fmt.Errorf("mirrortest: unknown fault %v", f.Kind)
	}
	if _, err := path.Match(f.Path, "/"); err != nil {
		return nil, fmt.Errorf("mirrortest: fault %v: path %q: %w", f.Kind, f.Path, err)
	}
	if f.Kind == Redirect && f.Target == "" {
		return nil, errors.New("mirrortest: fault redirect needs a target")
	}
	if f.Chance < 0 || f.Chance > 1 || f.Dur < 0 || f.Count < 0 || f.After < 0 {
		return nil, fmt.Errorf("mirrortest: fault %v: number out of range", f.Kind)
	}
	if f.Kind == Changed && f.After == 0 {
		f.After = 1
	}
	return &faultState{Fault: f, rng: rand.New(rand.NewPCG(f.Seed, index))}, nil
}

func (f *faultState) matches(p string) bool {
	if f.Path == "" {
		torrent := strings.HasSuffix(p, ".torrent")
		switch f.Kind {
		case OwnTorrent:
			return true
		case OldTorrent, HTMLTorrent:
			return torrent
		}
		return !torrent
	}
	if f.Path == "*" {
		return true
	}
	ok, _ := path.Match(f.Path, p) // newFaultState has checked the pattern
	if !ok && f.Kind == OwnTorrent {
		ok, _ = path.Match(f.Path, strings.TrimSuffix(p, ".torrent"))
	}
	return ok
}

// draw counts one response that the fault could strike and says whether it does.
func (f *faultState) draw() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	if f.seen <= f.After || f.Count > 0 && f.hits >= f.Count {
		return false
	}
	if f.Chance > 0 && f.rng.Float64() >= f.Chance {
		return false
	}
	f.hits++
	return true
}

// struck yields the faults of one stage that strike now. It draws as it goes, so a caller that needs only one stops
// there. fits, unless nil, tells which faults could strike at all.
func (s *Server) struck(st stage, p string, fits func(*faultState) bool) iter.Seq[*faultState] {
	return func(yield func(*faultState) bool) {
		for _, f := range s.faults {
			if kinds[f.Kind].stage != st || st > stageConnection && !f.matches(p) || fits != nil && !fits(f) {
				continue
			}
			if f.draw() && !yield(f) {
				return
			}
		}
	}
}

// place returns the byte of the file at which f strikes a body of the bytes from to to (exclusive).
func (f *faultState) place(from, to int64) (pos int64, ok bool) {
	if f.At > 0 {
		return f.At, from <= f.At && f.At < to
	}
	pos = from - f.At
	return pos, pos < to || f.At == 0
}
