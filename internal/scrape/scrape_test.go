package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"torrent-xfer/internal/trackertest"
)

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestScrape(t *testing.T) {
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	var hashes []Hash
	for i := range 100 { // more than one request
		h := Hash{byte(i), '&', '%', 0, 0xff}
		hashes = append(hashes, h)
		for peer := range i % 4 {
			left := peer % 2 // peers 0 and 2 have all of it
			res, err := http.Get(fmt.Sprintf("%s?info_hash=%s&port=%d&left=%d&event=completed", tracker.HTTP, url.QueryEscape(string(h[:])), 1000+peer, left))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
		}
	}
	for _, at := range []string{tracker.HTTP, tracker.UDP} {
		counts, err := Do(t.Context(), nil, mustURL(t, at), hashes)
		if err != nil || len(counts) != len(hashes) {
			t.Fatalf("%s: %d, %v", at, len(counts), err)
		}
		for i, got := range counts {
			n := int64(i % 4)
			want := Counts{Seeders: (n + 1) / 2, Leechers: n / 2, Completed: n, Known: n > 0 || strings.HasPrefix(at, "udp")}
			if got != want {
				t.Errorf("%s: %d: %+v instead of %+v", at, i, got, want)
			}
		}
	}
}

func TestScrapeURL(t *testing.T) {
	for text, want := range map[string]string{ // BEP 48
		"http://example.com/announce":          "http://example.com/scrape",
		"http://example.com/x/announce":        "http://example.com/x/scrape",
		"http://example.com/announce.php":      "http://example.com/scrape.php",
		"http://example.com/announce?x2%0644":  "http://example.com/scrape?x2%0644",
		"http://example.com/a":                 "",
		"http://example.com/announce?x=2/4":    "http://example.com/scrape?x=2/4",
		"http://example.com/x%064announce":     "",
		"http://example.com/announce/announce": "http://example.com/announce/scrape",
	} {
		got, err := scrapeURL(mustURL(t, text))
		if want == "" && !errors.Is(err, ErrNoScrape) || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestBadAnswers(t *testing.T) {
	for answer, want := range map[string]string{
		"":                                  "none to a scrape",
		"<html>":                            "none to a scrape",
		"de":                                "none to a scrape",
		"d5:filesi1ee":                      "none to a scrape",
		"d14:failure reason4:busye":         "says: busy",
		strings.Repeat("d", 1<<20+1):        "more than",
		"d5:filesd1:ai1eee":                 "none to a scrape",
		"d5:files" + strings.Repeat("d", 9): "none to a scrape",
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
		_, err := Do(t.Context(), nil, mustURL(t, srv.URL+"/announce"), []Hash{{1}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", answer, err)
		}
		srv.Close()
	}
}

func TestSilentUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Do(ctx, nil, mustURL(t, "udp://"+pc.LocalAddr().String()), []Hash{{1}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e10:incompletei3eeee"))
	f.Add([]byte("d14:failure reason4:busye"))
	f.Add([]byte("d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei-1eeee"))
	f.Fuzz(func(t *testing.T, data []byte) {
		counts, err := readAnswer(data, []Hash{Hash([]byte("aaaaaaaaaaaaaaaaaaaa")), {}})
		if err != nil {
			return
		}
		for _, c := range counts {
			if c.Seeders < 0 || c.Leechers < 0 || c.Completed < 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}
