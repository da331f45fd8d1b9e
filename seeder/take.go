package seeder

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"time"

	"torrent-xfer/metainfo"
)

const copyStep = 4 << 20 // bytes, between which a copy may be ended

// Offer is a finished file that is handed over.
type Offer struct {
	Metainfo []byte     // of a single-file torrent
	Trackers [][]string // beside those in it
	URL      string
	Hosts    []string // of the user's own mirrors: their trackers may be at private addresses
	Since    int64    // the seeding clock, in seconds
	Content  *os.File // open for reading; it is not closed
}

// Take copies what is offered into the library (a reflink where the file system has them), verifies the copy and makes it an
// entry. Nothing but the copy is believed. Entries that least, the first of them first, has to name give way until all content
// takes max bytes at most, before there are more on the disk; max <= 0: no limit.
func (l *Library) Take(ctx context.Context, o Offer, max int64, least func([]Entry) []Entry) (e Entry, removed []ID, err error) {
	m, err := metainfo.Parse(o.Metainfo, "")
	if err != nil {
		return e, nil, err
	}
	e = newEntry(m, o)
	l.adding.Lock()
	defer l.adding.Unlock()
	old, known := l.Entry(e.ID)
	info, err := o.Content.Stat()
	switch {
	case known && old.Path == "":
		return e, nil, ErrKnown
	case err != nil:
		return e, nil, err
	case !info.Mode().IsRegular() || info.Size() != m.Size:
		return e, nil, ErrWrong
	case max > 0 && m.Size > max:
		return e, nil, ErrRoom
	}
	temp, err := os.MkdirTemp(l.dir, unfinished)
	if err != nil {
		return e, nil, err
	}
	defer os.RemoveAll(temp)
	to, err := os.OpenFile(filepath.Join(temp, contentFile), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return e, nil, err
	}
	defer to.Close()
	cloned := clone(to, o.Content)
	if !cloned { // nothing gives way to what is wrong
		if _, err := verify(ctx, m, o.Content); err != nil {
			return e, nil, err
		}
		removed = l.giveWay(m.Size, max, least)
		if err := copyContent(ctx, to, o.Content, m.Size); err != nil {
			return e, removed, err
		}
	}
	if e.Seen, err = verify(ctx, m, to); err != nil {
		return e, removed, err
	}
	if err := to.Sync(); err != nil {
		return e, removed, err
	}
	if cloned {
		removed = l.giveWay(m.Size, max, least)
	}
	if known {
		l.Remove(e.ID) // what was outside is now here
	}
	return e, removed, l.commit(temp, e, o.Metainfo)
}

// giveWay removes entries until n more bytes fit.
func (l *Library) giveWay(n, max int64, least func([]Entry) []Entry) (removed []ID) {
	if max <= 0 {
		return nil
	}
	for _, old := range least(l.Entries()) {
		if l.Size()+n <= max {
			break
		}
		if old.Path == "" {
			l.Remove(old.ID)
			removed = append(removed, old.ID)
		}
	}
	return removed
}

// newEntry is what is known of an offer before its content is looked at.
func newEntry(m *metainfo.Manifest, o Offer) Entry {
	id, v2 := idsOf(m)
	return Entry{ID: id, V2: v2, Name: m.Name, Size: m.Size, URL: o.URL, Trackers: append(o.Trackers, m.Trackers...), Hosts: o.Hosts, Private: m.Private,
		Added: time.Now(), Since: o.Since}
}

// idsOf returns the info hashes that peers know m by; v2 is zero unless it is a hybrid.
func idsOf(m *metainfo.Manifest) (id, v2 ID) {
	first, second := m.InfoHashes()
	if first == "" {
		first, second = second, ""
	}
	hex.Decode(id[:], []byte(first)[:2*len(id)])
	if second != "" {
		hex.Decode(v2[:], []byte(second)[:2*len(v2)])
	}
	return id, v2
}

// copyContent copies the first n bytes, whatever the position of from is: whoever passed the descriptor shares it.
func copyContent(ctx context.Context, to, from *os.File, n int64) error {
	r := io.NewSectionReader(from, 0, n)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(to, r, copyStep); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
