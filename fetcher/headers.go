package fetcher

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	linksMost  = 64     // links read of one answer
	lowestRank = 999999 // RFC 6249 section 3.1
)

// hearing is what the URL's own host says of the file in the headers of an answer, or of a redirect on the way to it:
// mirrors and descriptions (RFC 6249), digests (RFC 3230, RFC 9530). A nil hearing hears nothing.
type hearing struct {
	job      *job
	away     bool // another host has been reached
	told     Expect
	mirrors  []*url.URL // best first
	torrent  *url.URL   // nil: none named
	metalink *url.URL   // nil: none named
}

type hearingKey struct{}

// listen returns where to note what comes with m's answer; nil: it is of no interest.
func (j *job) listen(m *mirror) *hearing {
	if j.req.Volatile || j.hasHeard.Load() || hostKey(m.url) != hostKey(j.req.URL) {
		return nil
	}
	return &hearing{job: j}
}

// during lets h hear redirects too.
func (h *hearing) during(ctx context.Context) context.Context {
	if h == nil {
		return ctx
	}
	return context.WithValue(ctx, hearingKey{}, h)
}

// take notes what res, which came from a URL, says.
func (h *hearing) take(res *http.Response, from *url.URL) {
	if h == nil || h.away {
		return
	}
	if own := h.job.req.URL; hostKey(from) != hostKey(own) &&
		!(from.Scheme == "https" && strings.EqualFold(from.Hostname(), own.Hostname()) && port(from) == "443") {
		h.away = true
		return
	}
	if lines := res.Header.Values("Link"); lines != nil {
		h.takeLinks(lines, from)
	}
	if res.Header.Get("Content-Encoding") != "" {
		return
	}
	h.told = parseDigests(res.Header.Values("Digest"), "", "").merge(h.told)
	switch res.StatusCode {
	case http.StatusOK: // all others of these speak of other bytes than the file's
		h.told = parseDigests(res.Header.Values("Content-Digest"), ":", ":").merge(h.told)
		fallthrough
	case http.StatusPartialContent:
		h.told = parseDigests(res.Header.Values("Repr-Digest"), ":", ":").merge(h.told)
	}
}

func (h *hearing) takeLinks(lines []string, from *url.URL) {
	type ranked struct {
		url  *url.URL
		rank int
	}
	var mirrors []ranked
	for _, l := range parseLinks(lines) {
		u, err := from.Parse(l.target)
		if _, other := l.params["anchor"]; other || err != nil || !namable(u) {
			continue
		}
		u.Fragment, u.RawFragment = "", ""
		for rel := range strings.FieldsSeq(strings.ToLower(l.params["rel"])) {
			switch kind, _, _ := mime.ParseMediaType(l.params["type"]); {
			case rel == "duplicate":
				rank, err := strconv.Atoi(l.params["pri"])
				if err != nil || rank < 1 {
					rank = lowestRank
				}
				mirrors = append(mirrors, ranked{u, rank})
			case rel != "describedby":
			case kind == "application/x-bittorrent" && h.torrent == nil:
				h.torrent = u
			case (kind == "application/metalink4+xml" || kind == "application/metalink+xml") && h.metalink == nil:
				h.metalink = u
			}
		}
	}
	slices.SortStableFunc(mirrors, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	for _, m := range mirrors {
		h.mirrors = append(h.mirrors, m.url)
	}
}

// post hands over what was heard. The first answer that says anything counts.
func (h *hearing) post() {
	if h == nil || !h.told.digest() && h.mirrors == nil && h.torrent == nil && h.metalink == nil {
		return
	}
	if h.job.hasHeard.CompareAndSwap(false, true) {
		h.job.said <- h
	}
}

// hear heeds what the URL's own host has said, if that has not been done.
func (j *job) hear(ctx context.Context) (news bool, err error) {
	select {
	case h := <-j.said:
		return true, j.heed(ctx, h)
	default:
		return false, nil
	}
}

// heed acts on what was heard.
func (j *job) heed(ctx context.Context, h *hearing) error {
	again := false
	if h.told.digest() && !j.expect.digest() {
		j.log.Info("the server tells a digest", "kind", h.told.kind())
		again = j.told.digest() && !j.told.agrees(h.told) // what an earlier run was told: the file has changed
		s := j.sink
		s.mu.Lock()
		switch {
		case s.manifest != nil:
		case !s.many:
			s.confirm = j.resumed > 0 // the digest says nothing of what is on disk
		case j.told.digest():
			s.confirm = false
		}
		s.mu.Unlock()
		j.toldNow = true
		j.tell(h.told)
	}
	if len(h.mirrors) > 0 {
		j.log.Info("the server names mirrors", "number", len(h.mirrors))
		j.addNamed(h.mirrors, false)
	}
	j.heedDescriptions(ctx, h.torrent, h.metalink)
	if again {
		j.resumed, j.expect = 0, j.req.Expect
		return j.startAgain(ctx, func(m *mirror) bool { return isWrong(m.last) || isStale(m.last) })
	}
	return nil
}

// tell notes a digest that only the URL's own host told, or with the zero value that there is none any more.
func (j *job) tell(told Expect) {
	j.told = told
	s := j.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal != nil {
		s.journal.told = told
		s.journal.header(s)
	}
}

// deciding is what the whole file is checked against: what the caller knows, else what the URL's own host told.
func (j *job) deciding() Expect {
	if j.expect.digest() {
		return j.expect
	}
	return j.told
}

// distrust gives up a digest that only the URL's own host told, since the file that the mirrors have does not fit it.
func (j *job) distrust() {
	j.log.Info("the digest that the server told does not fit the file; going on without it")
	ev := j.snapshot(Retried)
	ev.Source, ev.Message = "digest told by "+clean(j.req.URL.Host), "does not fit the file"
	j.event(ev)
	j.tell(Expect{})
}

// namable reports whether u is of a kind that a header or a metalink may name.
func namable(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.Opaque == ""
}

// addNamed adds mirrors that somebody else than the user named, under the rules of reach. sworn: a file of the user's names
// them, with what verifies them, so http is as good as https.
func (j *job) addNamed(list []*url.URL, sworn bool) {
	for _, u := range list {
		if !j.req.Only && namable(u) && (j.client.allows(u) || sworn && j.client.reaches(u)) {
			j.addMirror(&urlRank{url: u, stat: j.Hosts.get(hostKey(u))})
		}
	}
}

// link is one of a Link header. The names of its parameters are in lower case; the first of a name counts.
type link struct {
	target string
	params map[string]string
}

// parseLinks reads Link headers (RFC 8288 section 3), 64 links at most. What is malformed ends its line.
func parseLinks(lines []string) (list []link) {
	for _, text := range lines {
		for len(list) < linksMost {
			text = strings.TrimLeft(text, " \t,")
			end := strings.IndexByte(text, '>')
			if end < 0 || text[0] != '<' {
				break
			}
			l := link{target: text[1:end]}
			l.params, text = parseParameters(text[end+1:])
			list = append(list, l)
		}
	}
	return list
}

// parseParameters reads ";name=value" as often as it stands there, values quoted or not, up to the comma behind.
func parseParameters(text string) (params map[string]string, rest string) {
	params = map[string]string{}
	for {
		i := strings.IndexAny(text, ";,")
		if i < 0 {
			return params, ""
		}
		if text[i] == ',' {
			return params, text[i:]
		}
		text = text[i+1:]
		i = strings.IndexAny(text, "=;,")
		name, value := text, ""
		switch {
		case i < 0:
			text = ""
		case text[i] != '=':
			name, text = text[:i], text[i:]
		default:
			name = text[:i]
			value, text = parseValue(strings.TrimLeft(text[i+1:], " \t"))
		}
		name = strings.ToLower(strings.Trim(name, " \t"))
		if _, known := params[name]; !known && name != "" {
			params[name] = value
		}
	}
}

// parseValue reads a token or a quoted string (RFC 9110 section 5.6.4).
func parseValue(text string) (value, rest string) {
	if !strings.HasPrefix(text, `"`) {
		i := strings.IndexAny(text, ";,")
		if i < 0 {
			i = len(text)
		}
		return strings.TrimRight(text[:i], " \t"), text[i:]
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:]
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return b.String(), ""
}

// parseDigests reads a list of ALGORITHM=BASE64, in which the text stands between open and end: Digest (RFC 3230,
// RFC 5843) has nothing there, Repr-Digest and Content-Digest (RFC 9530, RFC 8941) have colons. Of an algorithm that is
// told twice the last counts; what is malformed is passed over.
func parseDigests(lines []string, open, end string) (e Expect) {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.Trim(item, " \t"), "=")
			value, _, _ = strings.Cut(value, ";")
			value, opened := strings.CutPrefix(strings.Trim(value, " \t"), open)
			value, ended := strings.CutSuffix(value, end)
			sum, err := base64.StdEncoding.DecodeString(value)
			switch name = strings.ToLower(name); {
			case !opened || !ended || err != nil:
			case name == "sha-256" && len(sum) == sha256.Size:
				e.SHA256 = sum
			case name == "sha-512" && len(sum) == sha512.Size:
				e.SHA512 = sum
			}
		}
	}
	return e
}
