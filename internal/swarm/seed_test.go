package swarm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// seeding seeds the site's file from a copy on disk.
type seeding struct {
	*peers.Seeding
	t       peers.Torrent
	file    string
	opened  atomic.Int64
	dropped chan string
	stop    func()
}

// keep seeds with a worker of that kind until the test ends.
func (s *site) keep(t testing.TB, kind string, change func(*peers.Seeding)) *seeding {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := &seeding{file: filepath.Join(dir, name), dropped: make(chan string, 10)}
	if err := errors.Join(os.Symlink(self, filepath.Join(dir, kind)), os.WriteFile(k.file, s.content, 0o644)); err != nil {
		t.Fatal(err)
	}
	if k.t, err = peers.TorrentOf(s.torrent); err != nil {
		t.Fatal(err)
	}
	var log *slog.Logger
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	k.Seeding = &peers.Seeding{Worker: filepath.Join(dir, kind), Options: peers.Options{NoLPD: true, Linger: patience}, Reach: peers.Reach{Private: true}, Log: log,
		Open:    func([20]byte, int) (*os.File, error) { k.opened.Add(1); return os.Open(k.file) },
		Dropped: func(_ [20]byte, why error) { k.dropped <- why.Error() }}
	if change != nil {
		change(k.Seeding)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	k.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(k.stop)
	go func() { ended <- k.Run(ctx) }()
	return k
}

// announced waits until trackers know of somebody.
func announced(t testing.TB, tr *trackertest.Tracker) {
	t.Helper()
	eventually(t, "the seed is not announced", func() bool { return tr.Started() > 0 })
}

// A tracker on one of the user's own hosts, whatever its address, is gone to although the worker was told of that host with the torrent.
func TestSeedOwnHost(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", func(s *peers.Seeding) { s.Reach = peers.Reach{} })
	eventually(t, "the worker does not listen", func() bool { return k.Status().Port != 0 })
	port := k.Status().Port
	k.t.Hosts = []string{"127.0.0.1"}
	if err := k.Add(k.t); err != nil {
		t.Fatal(err)
	}
	announced(t, s.tracker)
	if now := k.Status().Port; now != port {
		t.Errorf("the worker at port %d became one at %d", port, now)
	}
}

func TestSeed(t *testing.T) {
	for kind, version := range map[string]metainfo.Version{"v1": metainfo.V1, "v2": metainfo.V2, "hybrid": metainfo.Hybrid} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 3<<20+12345, mirrortest.Config{}, version, 0)
			k := s.keep(t, "worker", nil)
			if err := k.Add(k.t); err != nil {
				t.Fatal(err)
			}
			announced(t, s.tracker)
			r, err := s.fetch(within(t), "worker", dead)
			if err != nil {
				t.Fatal(err)
			}
			if got := fromPeers(r); got < int64(len(s.content)) {
				t.Errorf("%d bytes from peers", got)
			}
			eventually(t, "what was uploaded is not told", func() bool {
				st := k.Status()
				return st.Uploaded >= int64(len(s.content)) && st.Torrent(k.t.ID).Uploaded == st.Uploaded
			})
			if n := k.opened.Load(); n != 1 {
				t.Errorf("opened %d times", n)
			}
			k.stop()
			var events []string
			for _, a := range s.tracker.Log() {
				if a.Peer.Port() != 0 && a.Left == 0 && a.Downloaded == 0 {
					events = append(events, a.Event)
				}
			}
			if !slices.Contains(events, "started") || !slices.Contains(events, "stopped") {
				t.Errorf("the seed announced %q", events)
			}
		})
	}
}

// What the client library of others fetches, encrypted or not. The v2 torrent ends with a whole block: libtorrent 2.0.8 takes the
// last block of any other for a whole one too, and asks for bytes that are none of the file.
func TestSeedLibtorrent(t *testing.T) {
	for kind, version := range map[string]metainfo.Version{"v1": metainfo.V1, "v2": metainfo.V2, "hybrid": metainfo.Hybrid} {
		for _, encryption := range []string{"", "require"} {
			t.Run(kind+encryption, func(t *testing.T) {
				t.Parallel()
				size := 1<<20 + 12345
				if version == metainfo.V2 {
					size = 1 << 20
				}
				s := newSite(t, size, mirrortest.Config{}, version, 0)
				k := s.keep(t, "worker", func(p *peers.Seeding) { p.Options.Encryption = encryption })
				k.Add(k.t)
				announced(t, s.tracker)
				if got := s.leech(t, k.Status, encryption); !bytes.Equal(got, s.content) {
					t.Errorf("%d bytes, not the file", len(got))
				}
			})
		}
	}
}

// A worker that crashes is started again and offers what it has offered before.
func TestSeedCrash(t *testing.T) {
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.Hybrid, 0)
	k := s.keep(t, "worker-panics-once", nil)
	k.Add(k.t)
	announced(t, s.tracker)
	if _, err := s.fetch(within(t), "worker", dead); err != nil {
		t.Error(err)
	}
	eventually(t, "the worker has not crashed, or is not there again", func() bool {
		st := k.Status()
		return st.Restarts == 1 && st.Port != 0
	})
	before := k.Status().Uploaded
	eventually(t, "the second worker does not offer the file", func() bool {
		return s.offers(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(k.Status().Port)))
	})
	eventually(t, "the second worker's bytes are not counted", func() bool { return k.Status().Uploaded > before })
}

func TestSeedPauseRemove(t *testing.T) {
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", nil)
	k.Pause(true)
	k.Add(k.t)
	eventually(t, "it does not listen", func() bool { return k.Status().Port != 0 })
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(k.Status().Port))
	s.tracker.Add(at)
	if s.offers(t, at) {
		t.Error("it serves though it is paused")
	}
	if s.tracker.Started() != 0 {
		t.Error("it is announced though it is paused")
	}
	k.Pause(false)
	announced(t, s.tracker)
	eventually(t, "it does not serve after a pause", func() bool { return s.offers(t, at) })
	k.Remove(k.t.ID)
	eventually(t, "it does not take leave", func() bool {
		return slices.ContainsFunc(s.tracker.Log(), func(a trackertest.Announce) bool { return a.Event == "stopped" })
	})
	eventually(t, "it serves what was removed", func() bool { return !s.offers(t, at) })
	if st := k.Status(); len(st.Torrents) != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSeedLimit(t *testing.T) {
	const size = 2 << 20
	s := newSite(t, size, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", nil)
	k.Add(k.t)
	k.Limit(1 << 20) // of which a burst may be used at once
	announced(t, s.tracker)
	began := time.Now()
	if _, err := s.fetch(within(t), "worker", dead); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("it took %v only", took)
	}
}

// A file that has another size, or is gone, or changes, is dropped: nobody gets what is not in the torrent.
func TestSeedChanged(t *testing.T) {
	for kind, change := range map[string]func(file string) error{
		"shrunk":   func(file string) error { return os.Truncate(file, 1<<20) },
		"grown":    func(file string) error { return os.Truncate(file, 3<<20) },
		"vanished": os.Remove,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 2<<20, mirrortest.Config{}, metainfo.V1, 0)
			k := s.keep(t, "worker", nil)
			k.Add(k.t)
			announced(t, s.tracker)
			if err := change(k.file); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var all sync.WaitGroup
			all.Go(func() { s.fetch(ctx, "worker", dead) })
			select {
			case why := <-k.dropped:
				t.Log(why)
			case <-time.After(patience):
				t.Error("it is still offered")
			}
			cancel()
			all.Wait()
			if st := k.Status().Torrent(k.t.ID); !st.Dropped || st.Problem == "" {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A file that changes while it is given away.
func TestSeedChanges(t *testing.T) {
	s := newSite(t, 8<<20, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", func(p *peers.Seeding) { p.Options.LimitUpload = 1 << 20 })
	k.Add(k.t)
	announced(t, s.tracker)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		s.fetch(ctx, "worker", dead)
	})
	eventually(t, "no bytes flow", func() bool { return k.Status().Uploaded > 0 })
	f, err := os.OpenFile(k.file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt(make([]byte, 1<<20), 4<<20)
	f.Close()
	eventually(t, "it is still offered", func() bool {
		s.offers(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(k.Status().Port)))
		return len(k.dropped) > 0
	})
	cancel()
	all.Wait()
}

func TestSeedPortInUse(t *testing.T) {
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", nil)
	eventually(t, "it does not listen", func() bool { return k.Status().Port != 0 })
	other := &peers.Seeding{Worker: k.Worker, Options: peers.Options{NoLPD: true, Port: k.Status().Port}, Open: k.Open}
	if err := other.Run(within(t)); err == nil {
		t.Error("two listen at one port")
	} else {
		t.Log(err)
	}
}

// However many files peers want, no more than 128 are open.
func TestSeedDescriptors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("descriptors are counted in /proc")
	}
	const torrents = 150
	s := newSite(t, 64<<10, mirrortest.Config{}, metainfo.V1, 0)
	k := s.keep(t, "worker", nil)
	var hashes [][20]byte
	for i := range torrents {
		h, err := metainfo.Hash(context.Background(), bytes.NewReader(s.content), int64(len(s.content)), metainfo.HashOptions{Version: metainfo.V1})
		if err != nil {
			t.Fatal(err)
		}
		data, err := metainfo.Build(name, h, metainfo.BuildOptions{Source: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		one, err := peers.TorrentOf(data)
		if err != nil {
			t.Fatal(err)
		}
		k.Add(one)
		hashes = append(hashes, one.ID)
	}
	eventually(t, "it does not listen", func() bool { return k.Status().Port != 0 })
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(k.Status().Port))
	for _, h := range hashes {
		eventually(t, fmt.Sprintf("nothing of %x", h), func() bool { return ask(t, at, h) != nil })
	}
	eventually(t, "too many descriptors of the file are open, or none", func() bool {
		n := openFiles(t, k.file)
		return n > 0 && n <= 128
	})
}
