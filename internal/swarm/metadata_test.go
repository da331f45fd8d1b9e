package swarm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

// lookFor asks for the torrent of a link.
func lookFor(t *testing.T, ctx context.Context, link metainfo.Magnet) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "worker")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	m := peers.Metadata{Worker: program, Options: peers.Options{NoLPD: true, Linger: time.Millisecond}, Reach: peers.Reach{Private: true}}
	return m.Fetch(ctx, link)
}

func TestMetadataFromLibtorrent(t *testing.T) {
	for kind, version := range map[string]metainfo.Version{"v1": metainfo.V1, "v2": metainfo.V2, "hybrid": metainfo.Hybrid} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 6<<20+12345, mirrortest.Config{}, version, 16<<10) // 385 pieces
			s.seed(t)
			d, err := metainfo.Describe(s.torrent)
			if err != nil {
				t.Fatal(err)
			}
			link, err := metainfo.ParseMagnet(d.Magnet)
			if err != nil {
				t.Fatal(err)
			}
			data, err := lookFor(t, within(t), link)
			if err != nil {
				t.Fatal(err)
			}
			got, err := metainfo.Parse(data, "")
			if err != nil || !got.Equal(s.manifest) || kind == "v2" && !bytes.Equal(got.Metainfo(), s.manifest.Metainfo()) {
				t.Errorf("another torrent, %v", err)
			}
		})
	}
}

// Nobody has it: whoever asks decides how long that takes.
func TestMetadataOfNobody(t *testing.T) {
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	link := metainfo.Magnet{MagnetParts: metainfo.MagnetParts{InfoHashV1: s.manifest.InfoHash}}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := lookFor(t, ctx, link); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
