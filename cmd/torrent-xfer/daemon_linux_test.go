package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"torrent-xfer/seeder"
)

// openPlace is a directory that every user may enter.
func openPlace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	open(t, dir)
	return dir
}

// open lets every user enter a temporary directory.
func open(t *testing.T, dir string) {
	t.Helper()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// shellDaemon runs the program's daemon, with dir/control.sock and dir/library, at the end of a shell's script until the test ends. The
// script finds it, with its flags, in "$@".
func shellDaemon(t *testing.T, dir, script string, change func(*exec.Cmd), flags ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("torrent-xfer")
	if err != nil {
		t.Fatal(err)
	}
	open(t, filepath.Dir(program))
	said := &bytes.Buffer{}
	args := append([]string{"-c", script, "sh", program, "daemon", "--private", "--no-lpd", "--library", filepath.Join(dir, "library")}, flags...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=" + noRaceSleep}
	cmd.Stdout, cmd.Stderr = said, said
	if change != nil {
		change(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with %v: %s", err, said)
		}
	})
	return cmd
}

// ask waits until the daemon at a socket answers, and returns its status.
func ask(t *testing.T, path string) *seeder.Status {
	t.Helper()
	for end := time.Now().Add(longWait); ; time.Sleep(10 * time.Millisecond) {
		if c, err := seeder.Dial(path); err == nil {
			st, _, err := c.Ask(seeder.Request{Do: "status"})
			c.Close()
			if err == nil {
				return st
			}
		}
		if time.Now().After(end) {
			t.Fatal("the daemon does not answer")
		}
	}
}

// A daemon is there before there is any network, as at boot.
func TestDaemonWithoutNetwork(t *testing.T) {
	dir := t.TempDir()
	control := filepath.Join(dir, "control.sock")
	shellDaemon(t, dir, `exec "$@"`, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		}
	}, "--control", control, "--user", "root")
	ask(t, control)
}

// systemd listens, tells the daemon by which descriptor, and is told when it is ready.
func TestDaemonOfSystemd(t *testing.T) {
	dir := t.TempDir()
	control, ready := filepath.Join(dir, "given.sock"), filepath.Join(dir, "ready.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: control, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	passed, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	shellDaemon(t, dir, `export LISTEN_PID=$$ && exec "$@"`, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "NOTIFY_SOCKET="+ready)
		cmd.ExtraFiles = []*os.File{passed}
	}, "--user", "root")
	told.SetReadDeadline(time.Now().Add(longWait))
	text := make([]byte, 100)
	if n, err := told.Read(text); err != nil || string(text[:n]) != "READY=1" {
		t.Errorf("%q, %v", text[:n], err)
	}
	ask(t, control)
}

// Root's daemon becomes the user torrent-xfer, whose the library is then, unless it is told of another.
func TestDaemonUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := openPlace(t)
	control, users := filepath.Join(dir, "control.sock"), filepath.Join(dir, "passwd")
	if err := os.WriteFile(users, []byte("root:x:0:0::/:/bin/sh\n"+daemonUser+":x:64321:64321::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := shellDaemon(t, dir, `mount --bind `+users+` /etc/passwd && exec "$@"`, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // Go makes its mounts private
	}, "--control", control)
	ask(t, control)
	for _, path := range []string{filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid)), filepath.Join(dir, "library")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 64321 {
			t.Errorf("%s is of user %d", path, uid)
		}
	}
}

// Members of --control-group may change what is done, and nobody else but root and the daemon's own user.
func TestControlGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	const nobody, group = 65534, 1 // daemon's
	dir := openPlace(t)
	control := filepath.Join(dir, "control.sock")
	shellDaemon(t, dir, `exec "$@"`, nil, "--control", control, "--user", "root", "--control-group", "daemon")
	ask(t, control)
	for _, test := range []struct {
		what    string
		gid     int
		groups  []uint32
		allowed bool
	}{{"a stranger", nobody, []uint32{nobody}, false}, {"its own group", group, nil, true}, {"one of its groups", nobody, []uint32{2, group}, true}} {
		c, err := dialAs(control, nobody, test.gid, test.groups)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Ask(seeder.Request{Do: "pause"})
		c.Close()
		if (err == nil) != test.allowed {
			t.Errorf("%s: %v", test.what, err)
		}
	}
}

// dialAs connects as another user: a thread of its own becomes him, and ends.
func dialAs(path string, uid, gid int, groups []uint32) (c *seeder.Client, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		list := append(groups, 0) // not nil
		_, _, e1 := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0)
		_, _, e2 := syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid))
		_, _, e3 := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid))
		if e1|e2|e3 != 0 {
			err = errors.Join(e1, e2, e3)
			return
		}
		c, err = seeder.Dial(path)
	}()
	<-done
	return c, err
}

func TestMetricsAtPort(t *testing.T) {
	library, stale, err := seeder.OpenLibrary(filepath.Join(t.TempDir(), "library"))
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close()
	l, err := openMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	d := &seeder.Daemon{Library: library, Stale: stale, Log: log}
	d.Swarm = newSeeding(d, &company{}, false, log)
	go d.ServeMetrics(t.Context(), l)
	res, err := http.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), "\ntorrent_xfer_torrents 0\n") {
		t.Errorf("%s, %v: %s", res.Status, err, text)
	}
}
