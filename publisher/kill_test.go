package publisher

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"torrent-xfer/metainfo"
)

const (
	childDir  = "TEST_PUBLISH_DIR"
	childSeed = "TEST_PUBLISH_MIRROR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Println("begun")
		o := killedOptions
		o.Mirrors = []string{os.Getenv(childSeed)}
		report, err := Publish(context.Background(), dir, o)
		if err != nil || report.Problems > 0 {
			fmt.Println(err, report)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Without Prune what a lost state knew would stay.
var killedOptions = Options{MinSize: -1, Metalink: true, Jobs: 2, Prune: true}

// living is a tree whose files come, change and go.
type living struct {
	dir   string
	now   map[string][32]byte          // the root of each file
	roots map[string]map[[32]byte]bool // those that it ever had
	seen  map[string]*metainfo.Hashes  // of torrents
	turn  int
}

func (l *living) put(t *testing.T, name string) {
	t.Helper()
	l.turn++
	content := bytesOf(fmt.Sprint(name, l.turn), 20_000+l.turn)
	h, err := metainfo.HashesOf(torrentOf(t, "x", content, metainfo.HashOptions{}, metainfo.BuildOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(l.dir, name), content)
	touch(t, filepath.Join(l.dir, name), longAgo.Add(time.Duration(l.turn)))
	if l.roots[name] == nil {
		l.roots[name] = map[[32]byte]bool{}
	}
	l.now[name] = h.Root
	l.roots[name][h.Root] = true
}

// change changes much of the tree, and loses the state at times.
func (l *living) change(t *testing.T) {
	t.Helper()
	names := slices.Sorted(maps.Keys(l.now))
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:40] {
		l.put(t, name)
	}
	for _, name := range names[40:50] {
		remove(t, filepath.Join(l.dir, name))
		delete(l.now, name)
	}
	for i := range 10 {
		l.put(t, fmt.Sprintf("new/%d-%d.deb", l.turn, i))
	}
	if rand.IntN(4) == 0 {
		os.Remove(filepath.Join(l.dir, StateName))
	}
}

// start begins a run in a process of its own, and returns when its work begins.
func (l *living) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+l.dir, fmt.Sprintf("%s=http://m%d.example", childSeed, l.turn), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go io.Copy(os.Stderr, r)
	return cmd
}

// look reads all torrents. complete: there is one of each file, and no other.
func (l *living) look(t *testing.T, complete bool) {
	t.Helper()
	all := outputs(t, l.dir)
	for name, data := range all {
		file, ok := strings.CutSuffix(name, torrentSuffix)
		if !ok {
			if !strings.HasSuffix(data, "</metalink>\n") {
				t.Errorf("%s is torn", name)
			}
			continue
		}
		h := l.seen[data]
		if h == nil {
			var err error
			if h, err = metainfo.HashesOf([]byte(data)); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			l.seen[data] = h
		}
		if !l.roots[file][h.Root] || complete && l.now[file] != h.Root {
			t.Errorf("%s is not of its file", name)
		}
	}
	if !complete {
		return
	}
	if len(all) != 2*len(l.now) {
		t.Errorf("%d outputs of %d files", len(all), len(l.now))
	}
	for _, path := range below(t, l.dir) {
		if isTemp(filepath.Base(path)) {
			t.Errorf("%s is left", path)
		}
	}
}

// memoryDir is a directory whose file system has nothing to sync, where there is one: moments are to be those of the work.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "publisher")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A run that is killed leaves whole torrents only, and the next one goes on.
func TestKilled(t *testing.T) {
	l := &living{dir: memoryDir(t), now: map[string][32]byte{}, roots: map[string]map[[32]byte]bool{}, seen: map[string]*metainfo.Hashes{}}
	for i := range 200 {
		l.put(t, fmt.Sprintf("pool/%d/%d.deb", i%7, i))
	}
	began := time.Now()
	if err := l.start(t).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	l.look(t, true)
	killed := 0
	for round := 0; killed < 50; round++ {
		if round%10 == 5 { // else what is killed often would never come to its end
			if err := l.start(t).Wait(); err != nil {
				t.Fatal(err)
			}
			l.look(t, true)
		}
		l.change(t)
		cmd := l.start(t)
		time.Sleep(rand.N(whole))
		cmd.Process.Kill()
		if cmd.Wait(); cmd.ProcessState.ExitCode() > 0 {
			t.Fatal("a run failed")
		} else if !cmd.ProcessState.Success() {
			killed++
			whole += whole / 16
		} else {
			whole -= whole / 4 // it was too fast
		}
		l.look(t, false)
	}
	cmd := l.start(t)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	l.look(t, true)
	o := killedOptions
	o.Mirrors = []string{fmt.Sprintf("http://m%d.example", l.turn)}
	publish(t, l.dir, o).want(t, len(l.now), 0, 0, 0, 0)
}
