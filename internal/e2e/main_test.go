package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Set once by TestMain.
var (
	base   string // directory that every user may enter; holds all that the tests write
	binary string // the program under test
	data   string // testdata/pacman
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "pacman" {
		os.Exit(actAsPacman(os.Stdin, os.Stdout))
	}
	if filepath.Base(os.Args[0]) == liarName {
		fmt.Fprintln(os.Stderr, actAsLiar(os.Args[1:]))
		os.Exit(1)
	}
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (code int, err error) {
	if data, err = filepath.Abs("../../testdata/pacman"); err != nil {
		return 1, err
	}
	// Not under t.TempDir: its parent is closed to the other users that package managers download as.
	if base, err = os.MkdirTemp("", "e2e-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o755); err != nil {
		return 1, err
	}
	binary = filepath.Join(base, "torrent-xfer")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "torrent-xfer/cmd/torrent-xfer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	defer stopAgent()
	return m.Run(), nil
}

// need skips the test where one of the programs is missing. Where everything has to be installed it fails instead.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, p+" is not installed; this test runs the real one")
		}
	}
}

func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" || os.Getenv("TORRENT_XFER_NEED_REAL") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// openDir makes a directory that other users may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(base, strings.ReplaceAll(t.Name(), "/", "-")+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nobody is the user that stands for pacman's DownloadUser and for a person who runs makepkg. It is nil when the tests do
// not run as root: then they are such a user already.
func nobody() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// ownDir makes a directory that belongs to nobody.
func ownDir(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir := openDir(t)
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	if c := nobody(); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command prepares a program with a bare environment, so that nothing of the machine's configuration or memory counts.
func command(t *testing.T, home, program string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(bareEnv(), "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, ".cache"))
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

func bareEnv() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "LANG=C", "LC_ALL=C"}
}

// finish runs cmd and gives everything it wrote, and its exit status; -1 is death by a signal.
func finish(t *testing.T, cmd *exec.Cmd) (output string, status int) {
	t.Helper()
	var buf bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &buf
	}
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", cmd.Path, err, buf.String())
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

// must runs cmd and fails the test unless it exits with 0.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, status := finish(t, cmd)
	if status != 0 {
		t.Fatalf("%s: exit status %d\n%s", strings.Join(cmd.Args, " "), status, out)
	}
	return out
}

// fill copies a file of testdata/pacman to path with each @NAME@ replaced.
func fill(t *testing.T, name, path string, pairs ...string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte(strings.NewReplacer(pairs...).Replace(string(b))))
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same fails the test unless the file holds want.
func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("the file is not there: %v", err)
		return
	}
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s is wrong: %d bytes instead of %d, first difference at byte %d", path, len(got), len(want), at)
}

// holds fails the test unless the directory holds exactly the names, hidden ones included.
func holds(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
		return
	}
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("%s was left behind in %s", e.Name(), dir)
		}
		delete(want, e.Name())
	}
	for n := range want {
		t.Errorf("%s is missing in %s", n, dir)
	}
}

// report is what torrent-xfer writes with --report.
type report struct {
	Size     int64
	Verified string
	InfoHash string `json:"info_hash"`
	Sources  []struct {
		Name  string
		Bytes int64
		Blame string
	}
}

func readReport(t *testing.T, path string) (r report) {
	t.Helper()
	if err := json.Unmarshal(read(t, path), &r); err != nil {
		t.Fatal(err)
	}
	return r
}
