package publisher

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"path/filepath"
	"testing"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// Whoever is stopped while it looks whether another's torrent fits the file has not found that it does.
func TestInterruptedWhileJudging(t *testing.T) {
	dir := packageTree(t, "a.deb")
	torrent := filepath.Join(dir, "a.deb.torrent")
	write(t, torrent, torrentOf(t, "a.deb", bytesOf("stale", 300_000), metainfo.HashOptions{PieceLength: 64 << 10}, metainfo.BuildOptions{}))
	ctx, cancel := context.WithCancel(t.Context())
	hashed := int64(0)
	_, err := Publish(ctx, dir, Options{OnEvent: func(e Event) {
		if hashed += e.Bytes; e.Kind == Progress && hashed == 2*300_000 { // planned, and read
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	publish(t, dir, Options{})
	wantFits(t, torrent, "a.deb", bytesOf("a.deb", 300_000))
}

func TestMetalinkWithOtherDigestsStays(t *testing.T) {
	dir := packageTree(t, "a.deb")
	sum := sha1.Sum(bytesOf("a.deb", 300_000))
	var b bytes.Buffer
	err := metalink.Write(&b, &metalink.Document{Files: []metalink.File{{Name: "a.deb", Size: 300_000, SHA1: sum[:],
		URLs: []metalink.URL{{URL: "https://chosen.example/a.deb", Priority: 1, Location: "de"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a.deb.meta4"), b.Bytes())
	got := publish(t, dir, Options{Metalink: true, Mirrors: []string{"http://m.example/"}})
	wantLines(t, got.told(Note), "a.deb.meta4: others made it, and it is right, so it stays; --force replaces it")
	if !bytes.Equal(read(t, filepath.Join(dir, "a.deb.meta4")), b.Bytes()) {
		t.Error("it was replaced")
	}
}
