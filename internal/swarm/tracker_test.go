package swarm

import (
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/anacrolix/torrent/tracker"

	"torrent-xfer/internal/peers"
)

// A tracker over https has to have a certificate that is believed, and sends nobody back to http.
func TestTrackerOverTLS(t *testing.T) {
	var query atomic.Value // what was asked last
	answer := func(w http.ResponseWriter, r *http.Request) {
		query.Store(r.URL.RawQuery)
		io.WriteString(w, "d8:intervali1800e5:peers6:\x7f\x00\x00\x01\x1a\xe1e")
	}
	plain := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(plain.Close)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return
		}
		answer(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	srv.StartTLS()
	t.Cleanup(srv.Close)
	f, err := newFilter(peers.Reach{Private: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	announce := func(path string, believe bool) (r tracker.AnnounceResponse, asked string, err error) {
		query.Store("")
		c, err := f.tracker(t.Context(), srv.URL+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if believe {
			h := c.(httpTracker)
			h.client.Transport.(*http.Transport).TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig
		}
		r, err = c.Announce(t.Context(), tracker.AnnounceRequest{InfoHash: [20]byte{' ', '+'}, Port: 1, Event: tracker.Started}, tracker.AnnounceOpt{UserAgent: "x"})
		return r, query.Load().(string), err
	}
	if _, asked, err := announce("/?who=me", false); !errors.As(err, new(x509.UnknownAuthorityError)) || asked != "" {
		t.Errorf("%v, asked %q", err, asked)
	}
	if _, asked, err := announce("/away", true); err == nil || asked != "" {
		t.Errorf("%v, asked %q", err, asked)
	}
	r, asked, err := announce("/?who=me", true)
	if err != nil || r.Interval != 1800 || len(r.Peers) != 1 || r.Peers[0].String() != "127.0.0.1:6881" {
		t.Errorf("%+v, %v", r, err)
	}
	if want := "who=me&compact=1&downloaded=0&event=started&info_hash=%20%2B%00%00"; len(asked) < len(want) || asked[:len(want)] != want {
		t.Errorf("asked %q", asked)
	}
}

func FuzzParseAnnounce(f *testing.F) {
	for _, seed := range []string{"d8:completei1e10:incompletei2e8:intervali1800e5:peers6:\x7f\x00\x00\x01\x1a\xe1e", "d14:failure reason12:unregisterede",
		"d5:peersld2:ip9:127.0.0.14:porti6881eee6:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1e", "<html>", "d5:peers7:1234567e"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseAnnounce(data); err != nil && len(r.Peers) > 0 {
			t.Errorf("%v, and peers", err)
		} else if len(r.Peers) > len(data) {
			t.Errorf("%d peers out of %d bytes", len(r.Peers), len(data))
		}
	})
}
