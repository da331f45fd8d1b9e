// Package scrape asks trackers how many have a torrent: BEP 48 over HTTP, BEP 15 over UDP.
package scrape

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

const (
	perRequest  = 74 // info hashes; more do not fit into a UDP answer (BEP 15)
	maxAnswer   = 1 << 20
	maxReason   = 300
	firstWait   = 2 * time.Second // for an answer over UDP; doubled with each try
	protocol    = 0x41727101980   // BEP 15
	actConnect  = 0
	actScrape   = 2
	actError    = 3
	tokenExpiry = time.Minute
)

// ErrNoScrape: the tracker's URL is one that cannot be scraped.
var ErrNoScrape = errors.New("this tracker cannot be scraped")

// Hash is an info hash: the SHA-1 of v1, or the first 20 bytes of the SHA-256 of v2 (BEP 52).
type Hash [20]byte

// Counts are what a tracker knows of one torrent.
type Counts struct {
	Seeders   int64 // have all of it
	Leechers  int64 // have not
	Completed int64 // times it was downloaded
	Known     bool  // the tracker has heard of it; over UDP that is not told, and taken for granted
}

// Do asks the tracker at u (http, https, udp; its announce URL) about hashes, and returns as many Counts in their order. client
// is for http and https; nil: http.DefaultClient.
func Do(ctx context.Context, client *http.Client, u *url.URL, hashes []Hash) (all []Counts, err error) {
	for len(hashes) > 0 {
		part := hashes[:min(len(hashes), perRequest)]
		hashes = hashes[len(part):]
		var counts []Counts
		switch u.Scheme {
		case "http", "https":
			counts, err = overHTTP(ctx, client, u, part)
		case "udp":
			counts, err = overUDP(ctx, u.Host, part)
		default:
			err = fmt.Errorf("%w: its URL is neither http, https nor udp", ErrNoScrape)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, counts...)
	}
	return all, nil
}

// scrapeURL is the announce URL with "scrape" in the place of "announce", which has to follow the last slash (BEP 48).
func scrapeURL(u *url.URL) (*url.URL, error) {
	i := strings.LastIndexByte(u.Path, '/')
	if !strings.HasPrefix(u.Path[i+1:], "announce") {
		return nil, fmt.Errorf("%w: the last part of its URL does not begin with \"announce\"", ErrNoScrape)
	}
	s := *u
	s.Path, s.RawPath, s.Fragment, s.RawFragment = u.Path[:i+1]+"scrape"+u.Path[i+1+len("announce"):], "", "", ""
	return &s, nil
}

func overHTTP(ctx context.Context, client *http.Client, u *url.URL, hashes []Hash) ([]Counts, error) {
	s, err := scrapeURL(u)
	if err != nil {
		return nil, err
	}
	for _, h := range hashes {
		if s.RawQuery != "" {
			s.RawQuery += "&"
		}
		s.RawQuery += "info_hash=" + url.QueryEscape(string(h[:]))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.String(), nil)
	if err != nil {
		return nil, err
	}
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	counts, err := readAnswer(data, hashes)
	if err != nil && res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	return counts, err
}

// readAnswer reads what BEP 48 describes.
func readAnswer(data []byte, hashes []Hash) ([]Counts, error) {
	var answer struct {
		Failure string        `bencode:"failure reason"`
		Files   bencode.Bytes `bencode:"files"`
	}
	var files map[string]struct {
		Complete   int64 `bencode:"complete"`
		Downloaded int64 `bencode:"downloaded"`
		Incomplete int64 `bencode:"incomplete"`
	}
	err := bencode.Unmarshal(data, &answer)
	switch {
	case answer.Failure != "":
		return nil, fmt.Errorf("the tracker says: %s", answer.Failure[:min(len(answer.Failure), maxReason)])
	case err != nil || answer.Files == nil || bencode.Unmarshal(answer.Files, &files) != nil:
		return nil, errors.New("the answer is none to a scrape") // the library's own words quote keys of any length
	}
	counts := make([]Counts, len(hashes))
	for i, h := range hashes {
		if f, ok := files[string(h[:])]; ok {
			counts[i] = Counts{Seeders: max(f.Complete, 0), Leechers: max(f.Incomplete, 0), Completed: max(f.Downloaded, 0), Known: true}
		}
	}
	return counts, nil
}

func overUDP(ctx context.Context, host string, hashes []Hash) ([]Counts, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", host)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
	be := binary.BigEndian
	var token []byte
	var since time.Time
	for wait := firstWait; ; wait *= 2 {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		until := time.Now().Add(wait)
		if token == nil || time.Since(since) > tokenExpiry {
			body, err := ask(ctx, c, until, be.AppendUint64(nil, protocol), actConnect, nil)
			if errors.Is(err, errSilent) {
				continue
			}
			if err == nil && len(body) < 8 {
				err = errShort
			}
			if err != nil {
				return nil, err
			}
			token, since = body[:8], time.Now()
		}
		var list []byte
		for _, h := range hashes {
			list = append(list, h[:]...)
		}
		body, err := ask(ctx, c, until, token, actScrape, list)
		if errors.Is(err, errSilent) {
			continue
		}
		if err == nil && len(body) < 12*len(hashes) {
			err = errShort
		}
		if err != nil {
			return nil, err
		}
		counts := make([]Counts, len(hashes))
		for i := range counts {
			p := body[12*i:]
			counts[i] = Counts{Seeders: int64(be.Uint32(p)), Completed: int64(be.Uint32(p[4:])), Leechers: int64(be.Uint32(p[8:])), Known: true}
		}
		return counts, nil
	}
}

var (
	errSilent = errors.New("the tracker does not answer")
	errShort  = errors.New("the tracker's answer is too short")
)

// ask sends one datagram and returns the answer that belongs to it, without its head.
func ask(ctx context.Context, c net.Conn, until time.Time, head []byte, action uint32, body []byte) ([]byte, error) {
	be := binary.BigEndian
	transaction := rand.Uint32()
	packet := be.AppendUint32(be.AppendUint32(append([]byte(nil), head...), action), transaction)
	c.SetDeadline(until)
	if _, err := c.Write(append(packet, body...)); err != nil {
		return nil, err
	}
	buf := make([]byte, 2048)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := c.Read(buf)
		var timeout net.Error
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &timeout) && timeout.Timeout():
			return nil, errSilent
		case err != nil:
			return nil, err
		case n < 8 || be.Uint32(buf[4:]) != transaction:
			continue // not ours
		}
		switch be.Uint32(buf) {
		case action:
			return buf[8:n], nil
		case actError:
			return nil, fmt.Errorf("the tracker says: %s", buf[8:min(n, 8+maxReason)])
		}
	}
}
