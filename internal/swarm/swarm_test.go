package swarm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/internal/swarm"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// TestMain is the worker too: a link to this binary bears the name of what is to become of it.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case strings.HasPrefix(name, "worker"):
		os.Exit(worker(name))
	default:
		os.Exit(m.Run())
	}
}

func worker(kind string) int {
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return 1
	}
	link := io.ReadWriter(conn)
	switch kind {
	case "worker-panic":
		time.AfterFunc(300*time.Millisecond, func() { panic("the library is wrong") })
	case "worker-panic-later":
		link = &panicking{ReadWriter: conn}
	case "worker-panics-once":
		if f, err := os.OpenFile(os.Args[0]+"-was-here", os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			time.AfterFunc(1500*time.Millisecond, func() { panic("the library is wrong") })
		}
	case "worker-killed":
		time.AfterFunc(300*time.Millisecond, func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	case "worker-rubbish":
		for range 1000 {
			io.WriteString(conn, "nothing that anybody would understand")
		}
		return 0
	case "worker-stall":
		time.Sleep(2 * patience) // and not for ever, since nobody ends it once what it was started for is over
		return 1
	}
	if err := swarm.Run(peers.NewLink(link), os.NewFile(3, "partial")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// panicking does, in a goroutine of its own, once peers have given 2 MiB.
type panicking struct {
	io.ReadWriter
	written atomic.Int64
}

func (p *panicking) Write(b []byte) (int, error) {
	n, err := p.ReadWriter.Write(b)
	if p.written.Add(int64(n)) > 2<<20 {
		go panic("the library is wrong")
	}
	return n, err
}

// site is a file, its torrent, a mirror of both and a tracker.
type site struct {
	t        testing.TB
	dir      string
	content  []byte
	torrent  []byte
	manifest *metainfo.Manifest
	tracker  *trackertest.Tracker
	byLink   bool // other clients are given a magnet link, not the torrent
	mirror   *mirrortest.Server
	config   mirrortest.Config // of the mirror
	joined   atomic.Int32      // downloads that were connected with a peer
	done     atomic.Int64      // bytes in place, of the download that has most
}

const (
	name     = "big.pkg"
	patience = 2 * time.Minute // for what happens at once on a machine that is not busy
)

func newSite(t testing.TB, size int, mirror mirrortest.Config, version metainfo.Version, pieceLength int64) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), content: make([]byte, size)}
	r := rand.NewChaCha8([32]byte{1})
	r.Read(s.content)
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Close)
	s.tracker = tracker
	s.build(version, pieceLength, tracker.HTTP)
	srv := filepath.Join(s.dir, "srv")
	if err := os.Mkdir(srv, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{name: s.content, name + ".torrent": s.torrent} {
		if err := os.WriteFile(filepath.Join(srv, file), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.config = mirror
	s.config.Dir = srv
	s.start()
	return s
}

func (s *site) start() {
	s.t.Helper()
	m, err := mirrortest.Start(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(m.Close)
	s.mirror = m
}

// hold has the mirror keep the file back from byte at on until a condition is met: however long it takes until peers are
// found, the download is not over before.
func (s *site) hold(at int64, until func() bool) {
	s.t.Helper()
	file := mirrortest.Bytes(s.content)
	held := mirrortest.Hold(file.Data, at)
	file.Data = held
	s.config.Files = map[string]mirrortest.File{"/" + name: file}
	s.start()
	over := make(chan struct{})
	s.t.Cleanup(func() {
		close(over)
		held.Release()
	})
	go func() {
		for !until() {
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
		held.Release()
	}()
}

// joins is met when so many downloads were connected with a peer.
func (s *site) joins(n int) func() bool { return func() bool { return int(s.joined.Load()) >= n } }

// has is met when so many bytes are in place.
func (s *site) has(n int64) func() bool { return func() bool { return s.done.Load() >= n } }

// announces is met when so many downloads have announced that they begin.
func (s *site) announces(n int) func() bool {
	return func() bool { return s.tracker.Started() >= n }
}

// build makes the torrent, with a tracker or "".
func (s *site) build(version metainfo.Version, pieceLength int64, tracker string) {
	s.t.Helper()
	if tracker == "" {
		s.buildFor(version, pieceLength)
		return
	}
	s.buildFor(version, pieceLength, []string{tracker})
}

func (s *site) buildFor(version metainfo.Version, pieceLength int64, tiers ...[]string) {
	s.t.Helper()
	s.buildAs(version, pieceLength, metainfo.BuildOptions{Trackers: tiers})
}

func (s *site) buildAs(version metainfo.Version, pieceLength int64, o metainfo.BuildOptions) {
	s.t.Helper()
	h, err := metainfo.Hash(context.Background(), bytes.NewReader(s.content), int64(len(s.content)), metainfo.HashOptions{Version: version, PieceLength: pieceLength})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.torrent, err = metainfo.Build(name, h, o); err != nil {
		s.t.Fatal(err)
	}
	if s.manifest, err = metainfo.Parse(s.torrent, name); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) url(path string) *url.URL {
	u, err := url.Parse(s.mirror.URL("/" + path))
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// fetch downloads the file into a directory of its own, with a worker of that kind.
func (s *site) fetch(ctx context.Context, kind string, change func(*fetcher.Fetcher, *fetcher.Request)) (*fetcher.Result, error) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	program := filepath.Join(dir, kind)
	if err := os.Symlink(self, program); err != nil {
		s.t.Fatal(err)
	}
	var log *slog.Logger
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	f := &fetcher.Fetcher{Log: log, StallTimeout: patience, PeerPatience: patience, JoinSwarm: func(*metainfo.Manifest) (fetcher.Source, error) {
		return &peers.Source{Worker: program, Options: peers.Options{NoLPD: true}, Log: log,
			Reach: func(context.Context) peers.Reach { return peers.Reach{Private: true} }}, nil
	}}
	u := s.url(name)
	req := fetcher.Request{URL: u, Dest: filepath.Join(dir, name), Torrent: fetcher.TorrentHint{Metainfo: s.torrent}}
	if change != nil {
		change(f, &req)
	}
	var once sync.Once
	listen := f.OnEvent
	f.OnEvent = func(e fetcher.Event) {
		if e.Peers > 0 {
			once.Do(func() { s.joined.Add(1) })
		}
		for most := s.done.Load(); e.Done > most && !s.done.CompareAndSwap(most, e.Done); most = s.done.Load() {
		}
		if listen != nil {
			listen(e)
		}
	}
	result, err := f.Fetch(ctx, req)
	if err == nil {
		got, rerr := os.ReadFile(req.Dest)
		if rerr != nil || sha256.Sum256(got) != sha256.Sum256(s.content) {
			s.t.Errorf("the file is wrong: %d bytes, %v", len(got), rerr)
		}
	}
	return result, err
}

func fromPeers(r *fetcher.Result) int64 {
	for _, s := range r.Sources {
		if s.Name == "peers" {
			return s.Bytes
		}
	}
	return 0
}
