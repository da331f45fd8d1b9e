package mirrortest

import (
	"maps"
	"net/http"
	"sync"
	"time"
)

// Stats is what a mirror has seen and given.
type Stats struct {
	BodyBytes   int64            `json:"body_bytes"` // handed to the kernel, over all responses
	Paths       map[string]int64 `json:"paths"`      // body bytes by URL path, every requested path being there
	Requests    int              `json:"requests"`   // all that were read; those for /.stats are left out everywhere
	Connections int              `json:"connections"`
	Log         []Entry          `json:"log"` // in the order in which requests were read
}

// Entry is one request and what became of it.
type Entry struct {
	Time      time.Time     `json:"time"` // when the request was read
	Elapsed   time.Duration `json:"elapsed_ns"`
	Done      bool          `json:"done"` // false: still being answered, Elapsed is 0
	Proto     string        `json:"proto"`
	Method    string        `json:"method"`
	Path      string        `json:"path"`
	Range     string        `json:"range,omitempty"`
	UserAgent string        `json:"user_agent,omitempty"`
	Header    http.Header   `json:"header,omitempty"` // of the request: those that matter to a mirror; nil: none
	Status    int           `json:"status"`           // 0: nothing was answered
	BodyBytes int64         `json:"body_bytes"`
	Faults    []string      `json:"faults,omitempty"` // the kinds that struck
}

// kept are the request headers that the log keeps besides Range and User-Agent.
var kept = []string{"Accept-Encoding", "Authorization", "Cache-Control", "Cookie", "If-Modified-Since", "If-None-Match",
	"If-Range", "Referer"}

type recorder struct {
	mu    sync.Mutex
	total Stats
	log   []*Entry
}

func (r *recorder) connection() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Connections++
}

func (r *recorder) begin(req *http.Request) *Entry {
	e := &Entry{Time: time.Now(), Proto: req.Proto, Method: req.Method, Path: req.URL.Path,
		Range: req.Header.Get("Range"), UserAgent: req.UserAgent()}
	for _, name := range kept {
		if v := req.Header.Values(name); v != nil {
			if e.Header == nil {
				e.Header = http.Header{}
			}
			e.Header[name] = v
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total.Paths == nil {
		r.total.Paths = map[string]int64{}
	}
	r.total.Paths[e.Path] += 0
	r.total.Requests++
	r.log = append(r.log, e)
	return e
}

// update changes e under the lock.
func (r *recorder) update(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *recorder) sent(e *Entry, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.BodyBytes += n
	r.total.BodyBytes += n
	r.total.Paths[e.Path] += n
}

func (r *recorder) snapshot() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.total
	out.Paths = maps.Clone(r.total.Paths)
	out.Log = make([]Entry, len(r.log))
	for i, e := range r.log {
		out.Log[i] = *e
		out.Log[i].Faults = append([]string(nil), e.Faults...)
	}
	return out
}
