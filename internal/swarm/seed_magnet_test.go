package swarm_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/metainfo"
)

// Others who have only a magnet link take both the torrent and the file from what is seeded.
func TestSeedByMagnet(t *testing.T) {
	libtorrent := func(s *site, t *testing.T) string { return s.libtorrent(t, false, 0) }
	for kind, c := range map[string]struct {
		version metainfo.Version
		start   func(*site, *testing.T) string
	}{
		"libtorrent v1":     {metainfo.V1, libtorrent},
		"libtorrent hybrid": {metainfo.Hybrid, libtorrent},
		"aria2":             {metainfo.V1, func(s *site, t *testing.T) string { return s.aria2(t, false) }},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1<<20, mirrortest.Config{}, c.version, 0)
			s.byLink = true
			k := s.keep(t, "worker", nil)
			if err := k.Add(k.t); err != nil {
				t.Fatal(err)
			}
			announced(t, s.tracker)
			taken := filepath.Join(c.start(s, t), name)
			eventually(t, "the file was not taken", func() bool {
				got, err := os.ReadFile(taken)
				return err == nil && bytes.Equal(got, s.content)
			})
		})
	}
}
