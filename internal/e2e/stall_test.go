package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/trackertest"
)

// trickle is content that a mirror has slowly until it is told otherwise.
type trickle struct {
	io.ReaderAt
	free chan struct{}
}

func (r trickle) ReadAt(p []byte, off int64) (int, error) {
	select {
	case <-r.free:
	default:
		time.Sleep(100 * time.Millisecond)
		p = p[:min(len(p), 2000)]
	}
	return r.ReaderAt.ReadAt(p, off)
}

// A worker that hangs costs the peers and not the file, and the report says so.
func TestStalledWorker(t *testing.T) {
	t.Parallel() // the worker is given 20 seconds
	dir, program := openDir(t), withWorker(t)
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	content := noise(43, 6<<20)
	path := filepath.Join(dir, "big.pkg")
	write(t, path, content)
	must(t, command(t, dir, binary, "create", "--tracker", tracker.HTTP, path))
	file, free := mirrortest.Bytes(content), make(chan struct{})
	file.Data = trickle{file.Data, free}
	m, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/big.pkg": file}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()

	home := openDir(t)
	dest := filepath.Join(home, "big.pkg")
	cmd := exec.Command(program, "--torrent", path+".torrent", "--no-lpd", "--report", home+"/report", m.URL("/big.pkg"), dest)
	cmd.Env = append(bareEnv(), "HOME="+home)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	eventually(t, "the worker does not announce itself", func() bool { return len(tracker.Log()) > 0 })
	worker := childOf(t, cmd.Process.Pid)
	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if childOf(t, cmd.Process.Pid) == worker {
			_ = syscall.Kill(worker, syscall.SIGKILL)
		}
	}()
	eventually(t, "the worker that hangs is kept", func() bool { return childOf(t, cmd.Process.Pid) == 0 })
	close(free)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	same(t, dest, content)
	blamed := false
	for _, s := range readReport(t, home+"/report").Sources {
		t.Logf("%+v", s)
		blamed = blamed || s.Name == "peers" && strings.Contains(s.Blame, "stalled")
	}
	if !blamed {
		t.Error("the worker is not blamed")
	}
}

// childOf is the process that another started; 0: none.
func childOf(t *testing.T, parent int) int {
	t.Helper()
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(parent) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		list, _ := os.ReadFile(task)
		if ids := strings.Fields(string(list)); len(ids) > 0 {
			id, err := strconv.Atoi(ids[0])
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
	}
	return 0
}
