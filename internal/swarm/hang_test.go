package swarm_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

// A worker that hangs before all was read that it is told, which is more than the socket holds, does not hold up the end of what it
// was started for.
func TestWorkerDoesNotRead(t *testing.T) {
	much := peers.Options{NoLPD: true, Block: slices.Repeat([]string{"192.0.2.0/24"}, 50_000)}
	for kind, run := range map[string]func(*site) error{
		"download": func(s *site) error {
			_, err := s.fetch(s.t.Context(), "worker-stall", func(f *fetcher.Fetcher, _ *fetcher.Request) {
				f.JoinSwarm = s.with(f.JoinSwarm, func(p *peers.Source) { p.Options = much })
			})
			return err
		},
		"magnet": func(s *site) error {
			d, err := metainfo.Describe(s.torrent)
			if err != nil {
				return err
			}
			link, err := metainfo.ParseMagnet(d.Magnet)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			m := peers.Metadata{Worker: s.program("worker-stall"), Options: much}
			if _, err := m.Fetch(ctx, link); err != context.DeadlineExceeded {
				return err
			}
			return nil
		},
		"seeding": func(s *site) error {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			return (&peers.Seeding{Worker: s.program("worker-stall"), Options: much}).Run(ctx)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 5<<20, mirrortest.Config{}, metainfo.V1, 0)
			ended := make(chan error, 1)
			go func() { ended <- run(s) }()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("it does not end")
			}
		})
	}
}

// program is a worker of that kind.
func (s *site) program(kind string) string {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	program := filepath.Join(s.t.TempDir(), kind)
	if err := os.Symlink(self, program); err != nil {
		s.t.Fatal(err)
	}
	return program
}
