package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
	"torrent-xfer/seeder"
)

// A repository that has torrents is asked however many files are another's, or nobody's; one that has none is left alone.
func TestTorrentsBesideMirrors(t *testing.T) {
	const size = 100_000
	h, err := metainfo.Hash(t.Context(), bytes.NewReader(make([]byte, size)), size, metainfo.HashOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64 // of the repository without torrents
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repository, file := path.Split(r.URL.Path)
		name := strings.TrimSuffix(file, ".torrent")
		if repository == "/none/" {
			asked.Add(1)
		}
		if !strings.HasPrefix(name, strings.Trim(repository, "/")) {
			http.NotFound(w, r)
			return
		}
		data, err := metainfo.Build(name, h, metainfo.BuildOptions{})
		if err != nil {
			t.Error(err)
		}
		w.Write(data)
	}))
	defer server.Close()
	b := newBeside(Env{}, []string{server.URL + "/core", server.URL + "/extra/", server.URL + "/none/"})
	find := func(name string) error {
		o, err := b.find(t.Context(), name, size)
		if err == nil && path.Base(o.URL) != name {
			t.Errorf("%s is at %s", name, o.URL)
		}
		return err
	}
	for i := range 2 * barrenAfter {
		if err := find(fmt.Sprintf("extra-%d.pkg", i)); err != nil {
			t.Error(err)
		}
	}
	if err := find("core-1.pkg"); err != nil {
		t.Errorf("what others have made a repository barren: %v", err)
	}
	for i := range 2 * barrenAfter {
		if err := find(fmt.Sprintf("foreign-%d.pkg", i)); !errors.Is(err, seeder.ErrNoTorrent) {
			t.Error(err)
		}
	}
	for _, name := range []string{"core-2.pkg", "extra-x.pkg"} {
		if err := find(name); err != nil {
			t.Errorf("what nobody has made a repository barren: %v", err)
		}
	}
	if n := asked.Load(); n != barrenAfter {
		t.Errorf("a repository without torrents was asked %d times", n)
	}
}

// A mirror that does not answer is left alone for a while, and what may have a torrent there is looked for again.
func TestSilentMirrorsRest(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	}))
	defer server.Close()
	b := newBeside(Env{}, []string{server.URL})
	b.answered(b.roots[0], errors.New("refused"), time.Second)
	b.answered(b.roots[0], fetcher.ErrNotFound, time.Minute)
	if _, err := b.find(t.Context(), "a.pkg", 100_000); !errors.Is(err, seeder.ErrNoTorrent) || asked.Load() != 1 {
		t.Error(err, asked.Load())
	}
	b.answered(b.roots[0], fetcher.ErrTimeout, time.Minute)
	if _, err := b.find(t.Context(), "a.pkg", 100_000); err == nil || errors.Is(err, seeder.ErrNoTorrent) || asked.Load() != 1 {
		t.Error(err, asked.Load())
	}
}
