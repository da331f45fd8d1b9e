package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/trackertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(confineTestEnv) != "" {
		os.Exit(confinedMain())
	}
	testscript.Main(m, map[string]func(){
		"torrent-xfer":       main,
		"torrent-xfer-swarm": worker,
		"pacman":             fakePacman,
		"pacman-conf":        fakePacmanConf,
		"apt":                fakeApt,
	})
}

// fakePacman calls the program as pacman does: "pacman PACMAN_FLAGS -- URL DEST". With --version it is as old as
// PACMAN_VERSION says.
func fakePacman() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Printf(" .--.                  Pacman v%s - libalpm v13.0.2\n", os.Getenv("PACMAN_VERSION"))
		return
	}
	i := slices.Index(os.Args, "--")
	cmd := exec.Command("torrent-xfer", os.Args[i+1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// fakePacmanConf answers "-r REPO Server" with PACMAN_CONF_SERVERS and fails at all else, as pacman-conf of pacman 6.0 does
// when it is asked for CacheServer.
func fakePacmanConf() {
	servers := os.Getenv("PACMAN_CONF_SERVERS")
	if servers == "" || os.Args[len(os.Args)-1] != "Server" {
		os.Exit(1)
	}
	fmt.Println(strings.ReplaceAll(servers, " ", "\n"))
}

// noRaceSleep spares the second that each process of the race detector sleeps at its end.
const noRaceSleep = "atexit_sleep_ms=0"

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "home/.cache"))
			env.Setenv("GORACE", noRaceSleep)
			mirrors := &mirrorSet{servers: map[string]*mirrortest.Server{}, trackers: map[string]*trackertest.Tracker{}}
			env.Values[mirrorKey{}] = mirrors
			env.Defer(mirrors.close)
			running := &daemons{}
			env.Values[daemonKey{}] = running
			env.Defer(running.stop)
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o755)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mirror":    startMirror,
			"requests":  printRequests,
			"random":    makeRandom,
			"status":    wantStatus,
			"tracker":   startTracker,
			"announces": printAnnounces,
			"seeder":    startSeeder,
			"mktorrent": makeTorrent,
			"daemon":    runDaemon,
			"await":     awaitStatus,
			"logged":    awaitLog,
			"get":       getByUnix,
		},
	})
}

type mirrorKey struct{}

type mirrorSet struct {
	mu       sync.Mutex
	servers  map[string]*mirrortest.Server
	trackers map[string]*trackertest.Tracker
	stop     []func()
}

func (m *mirrorSet) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, stop := range m.stop {
		stop()
	}
	for s := range maps.Values(m.servers) {
		s.Close()
	}
}

// startMirror is "mirror NAME KEY=VALUE...": it starts a mirror as internal/mirrortest describes it, of the directory srv
// unless dir= names another, and sets $NAME to its URL without a slash at the end. With until=TRACKER:N, which comes last, it
// gives no more than the first MiB of a file before N downloads have announced themselves to that tracker.
func startMirror(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: mirror NAME [KEY=VALUE...]")
	}
	spec, until, held := strings.Cut(strings.Join(args[1:], ","), "until=")
	cfg, err := mirrortest.ParseConfig(strings.TrimSuffix(spec, ","))
	ts.Check(err)
	if cfg.Dir == "" {
		cfg.Dir = "srv"
	}
	cfg.Dir = ts.MkAbs(cfg.Dir)
	if held {
		holdBack(ts, &cfg, until)
	}
	s, err := mirrortest.Start(cfg)
	ts.Check(err)
	m := ts.Value(mirrorKey{}).(*mirrorSet)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers[args[0]] = s
	ts.Setenv(args[0], strings.TrimSuffix(s.URL("/"), "/"))
	ts.Setenv(args[0]+"_HOST", strings.TrimPrefix(strings.TrimSuffix(s.URL("/"), "/"), "http://"))
}

// holdBack has a mirror give its files only once there are peers.
func holdBack(ts *testscript.TestScript, cfg *mirrortest.Config, until string) {
	name, number, _ := strings.Cut(until, ":")
	n, err := strconv.Atoi(number)
	ts.Check(err)
	m := ts.Value(mirrorKey{}).(*mirrorSet)
	tracker := m.trackers[name]
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
	ts.Check(err)
	cfg.Files = map[string]mirrortest.File{}
	var held []*mirrortest.Held
	for _, file := range files {
		data, err := os.ReadFile(file)
		ts.Check(err)
		f := mirrortest.Bytes(data)
		h := mirrortest.Hold(f.Data, 1<<20)
		f.Data = h
		held = append(held, h)
		cfg.Files["/"+filepath.Base(file)] = f
	}
	over := make(chan struct{})
	release := func() {
		for _, h := range held {
			h.Release()
		}
	}
	m.stop = append(m.stop, func() { close(over); release() })
	go func() {
		for tracker.Started() < n {
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
		release()
	}()
}

// printRequests is "requests NAME FILE": it writes what a mirror was asked for, one request a line, with those headers
// that matter.
func printRequests(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: requests NAME FILE")
	}
	m := ts.Value(mirrorKey{}).(*mirrorSet)
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, e := range m.servers[args[0]].Stats().Log {
		fmt.Fprintf(&b, "%s %s %d agent=%q", e.Method, e.Path, e.Status, e.UserAgent)
		for _, name := range []string{"Authorization", "If-Modified-Since"} {
			if v := http.Header(e.Header).Get(name); v != "" {
				fmt.Fprintf(&b, " %s=%q", name, v)
			}
		}
		b.WriteByte('\n')
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o666))
}

// makeRandom is "random FILE SIZE": bytes that look random and are always the same.
func makeRandom(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: random FILE SIZE")
	}
	var size int64
	ts.Check(parseBytes(args[1], &size))
	b := make([]byte, size)
	x := uint64(len(args[0])) + 88172645463325252
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o777))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o666))
}

// wantStatus is "status N PROGRAM ARG...": it runs the program, which has to end with this status.
func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARG...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("status %d instead of %s", got, args[0])
	}
}
