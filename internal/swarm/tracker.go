package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/tracker"
	trackerhttp "github.com/anacrolix/torrent/tracker/http"
)

const maxAnswer = 4 << 20 // bytes, of a tracker

// trackerClient announces to one tracker.
type trackerClient interface {
	Announce(context.Context, tracker.AnnounceRequest, tracker.AnnounceOpt) (tracker.AnnounceResponse, error)
	Close() error
}

// tracker makes the client of a tracker; ctx is for its address. udp: the network of UDP trackers, "": any. refused: see packets.
func (f *filter) tracker(ctx context.Context, text, udp string, refused func()) (trackerClient, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		return httpTracker{u, &http.Client{Transport: &http.Transport{DialContext: f.dialTracker}, CheckRedirect: stayEncrypted}}, nil
	}
	return tracker.NewClient(text, tracker.NewClientOpts{ListenPacket: f.packets(ctx, text, refused), UdpNetwork: udp,
		Slogger: slog.New(slog.DiscardHandler)})
}

// httpTracker announces over HTTP (BEP 3, 7, 23). The library's client believes any certificate.
type httpTracker struct {
	url    *url.URL
	client *http.Client
}

func (t httpTracker) Close() error {
	t.client.CloseIdleConnections()
	return nil
}

// Announce implements trackerClient.
func (t httpTracker) Announce(ctx context.Context, r tracker.AnnounceRequest, o tracker.AnnounceOpt) (answer tracker.AnnounceResponse, err error) {
	number := func(n int64) []string { return []string{strconv.FormatInt(n, 10)} }
	if r.Left < 0 {
		r.Left = math.MaxInt64
	}
	q := url.Values{"info_hash": {string(r.InfoHash[:])}, "peer_id": {string(r.PeerId[:])}, "port": number(int64(r.Port)), "key": number(int64(r.Key)),
		"uploaded": number(r.Uploaded), "downloaded": number(r.Downloaded), "left": number(r.Left), "numwant": number(int64(r.NumWant)),
		"compact": {"1"}, "supportcrypto": {"1"}}
	if r.Event != tracker.None {
		q.Set("event", r.Event.String())
	}
	u := *t.url
	if u.RawQuery != "" {
		u.RawQuery += "&" // what names the user comes first
	}
	u.RawQuery += strings.ReplaceAll(q.Encode(), "+", "%20") // which not all trackers understand
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return answer, err
	}
	req.Header.Set("User-Agent", o.UserAgent)
	resp, err := t.client.Do(req)
	if err != nil {
		var of *url.Error // it quotes all of the URL
		if errors.As(err, &of) {
			err = of.Err
		}
		return answer, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer, errors.New(resp.Status)
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxAnswer))
	if err != nil {
		return answer, err
	}
	return parseAnnounce(data)
}

// refusal is why a tracker does not want a torrent.
type refusal string

func (r refusal) Error() string { return fmt.Sprintf("tracker gave failure reason: %q", string(r)) }

// parseAnnounce reads an answer over HTTP.
func parseAnnounce(data []byte) (answer tracker.AnnounceResponse, err error) {
	var r trackerhttp.HttpResponse
	if err := bencode.Unmarshal(data, &r); err != nil && !errors.As(err, new(bencode.ErrUnusedTrailingBytes)) {
		return answer, errors.New("not the answer of a tracker")
	}
	if r.FailureReason != "" {
		return answer, refusal(r.FailureReason)
	}
	answer = tracker.AnnounceResponse{Interval: r.Interval, Leechers: r.Incomplete, Seeders: r.Complete, Peers: r.Peers.List}
	for _, p := range r.Peers6 {
		answer.Peers = append(answer.Peers, tracker.Peer{IP: p.IP, Port: p.Port})
	}
	return answer, nil
}

// stayEncrypted refuses to be sent from https to http, and on and on.
func stayEncrypted(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("too many redirects")
	}
	if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return errors.New("redirected from https to " + r.URL.Scheme)
	}
	return nil
}
