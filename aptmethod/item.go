package aptmethod

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// item is one file that apt wants.
type item struct {
	uri      string // as apt wrote it
	at       uri
	message  *message
	filename string
	proxy    string // what apt found for it; "": it says nothing
	modified time.Time
	index    bool
	expect   hashes
	maximum  int64 // bytes; 0: no limit

	large   bool     // worth the engine, until that has failed
	ready   *hashes  // the file is on disk already, whole and right
	tries   int      // answers that led to another request
	tried   []string // servers that gave wrong bytes
	first   uri      // the first of them
	warned  bool
	started bool // 200 was sent
}

func newItem(m *message, encoded bool, method string) (*item, error) {
	it := &item{uri: m.get("URI"), message: m, filename: m.get("Filename"), proxy: m.get("Proxy"),
		index: parseBool(m.get("Index-File"), false), expect: expected(m)}
	if it.uri == "" || it.filename == "" {
		return nil, errors.New("a URI or a Filename is missing")
	}
	var err error
	if it.at, err = parseURI(it.uri); err != nil {
		return it, err
	}
	if s := it.at.scheme; strings.EqualFold(s, method) && !strings.Contains(s, "+") && s != "https" {
		it.at.spoken = "http"
	}
	if encoded {
		it.at.path = onlyVisible(it.at.path)
	}
	it.modified = parseTime(m.get("Last-Modified"))
	if it.maximum = it.expect.size; it.maximum <= 0 {
		it.maximum = m.number("Maximum-Size")
	}
	return it, nil
}

// parseTime reads the dates of HTTP and of apt's own messages, which may end in +0000. Zero: none of them.
func parseTime(text string) time.Time {
	if t, err := http.ParseTime(text); err == nil {
		return t
	}
	for _, layout := range []string{time.RFC1123Z, "Mon, 2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 MST"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}

// aptTime is a date as apt writes it in its messages.
func aptTime(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return ""
	}
	return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000")
}

// trouble is why an item has failed, in apt's terms.
type trouble struct {
	text      string
	reason    string // FailReason; "": none
	transient bool
}

func (t *trouble) Error() string { return t.text }

func (t *trouble) with(reason string) *trouble { t.reason = reason; return t }

func permanent(format string, args ...any) *trouble {
	return &trouble{text: fmt.Sprintf(format, args...)}
}

func transient(format string, args ...any) *trouble {
	return &trouble{text: fmt.Sprintf(format, args...), transient: true}
}

func unexpectedSize(got, want int64) *trouble {
	return permanent("File has unexpected size (%d != %d). Mirror sync in progress?", got, want).with("MaximumSizeExceeded")
}

func size(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// outcome is what a finished item is reported with.
type outcome struct {
	filename string
	size     int64 // <= 0: not told
	modified time.Time
	resumed  int64
	notNewer bool
	found    hashes
}

func (it *item) startMessage(size_ int64, modified time.Time, resumed int64) *message {
	m := &message{code: 200, text: "URI Start"}
	m.echo("URI", it.uri)
	m.add("Size", size(size_))
	m.add("Last-Modified", aptTime(modified))
	m.add("Resume-Point", size(resumed))
	return m
}

func (it *item) doneMessage(o outcome) *message {
	m := &message{code: 201, text: "URI Done"}
	m.echo("URI", it.uri)
	m.echo("Filename", o.filename)
	m.add("Size", size(o.size))
	m.add("Last-Modified", aptTime(o.modified))
	for _, k := range kinds {
		m.add(k.name+"-Hash", o.found.sums[k.name])
		if k.name == "MD5Sum" {
			m.add("MD5-Hash", o.found.sums[k.name])
		}
	}
	if len(o.found.sums) > 0 {
		m.add("Checksum-FileSize-Hash", strconv.FormatInt(o.found.size, 10))
	}
	m.add("Resume-Point", size(o.resumed))
	if o.notNewer {
		m.add("IMS-Hit", "true")
	}
	return m
}

func failMessage(uri string, t *trouble) *message {
	m := &message{code: 400, text: "URI Failure"}
	m.add("FailReason", t.reason)
	m.add("Message", strings.TrimSpace(t.text))
	if t.transient {
		m.add("Transient-Failure", "true")
	}
	m.echo("URI", uri)
	return m
}

func redirectMessage(uri, to string) *message {
	m := &message{code: 103, text: "Redirect"}
	m.echo("URI", uri)
	m.add("New-URI", to)
	return m
}

func talk(code int, text, uri, what string) *message {
	m := &message{code: code, text: text}
	if uri == "" {
		uri = "<UNKNOWN>"
	}
	m.echo("URI", uri)
	m.add("Message", what)
	return m
}
