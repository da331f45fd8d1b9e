package e2e

import (
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

// TestDaemonGivesUpRights has the daemon started by root become another user, who takes what root downloads, keeps it when it is
// killed, and gives it to a machine whose mirror is dead.
func TestDaemonGivesUpRights(t *testing.T) {
	dir, binary := openDir(t), withWorker(t)
	srv, run := filepath.Join(dir, "srv"), filepath.Join(dir, "run")
	for _, d := range []string{srv, run} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	data := noise(41, 6_000_000)
	write(t, filepath.Join(srv, "big.pkg"), data)
	must(t, command(t, dir, binary, "create", filepath.Join(srv, "big.pkg"), "--tracker", tracker.HTTP))
	mirror, err := mirrortest.Start(mirrortest.Config{Dir: srv})
	if err != nil {
		t.Fatal(err)
	}
	defer mirror.Close()
	control := filepath.Join(run, "control.sock")
	daemon := func() *exec.Cmd {
		cmd := exec.Command(binary, "daemon", "--control", control, "--library", filepath.Join(dir, "state/library"), "--user", "nobody", "--private", "--no-lpd")
		cmd.Env, cmd.Stderr = append(bareEnv(), "HOME="+dir), os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd
	}
	holds := func(what string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			out, status := finish(t, command(t, dir, binary, "status", "--json", "--control", control))
			if status == 0 && strings.Contains(out, what) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no %s in the status:\n%s", what, out)
			}
		}
	}
	cmd := daemon()
	holds(`"torrents":[]`)
	if info, err := os.Stat("/proc/" + strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	} else if os.Getuid() == 0 && info.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Error("the daemon is root")
	}
	got := filepath.Join(dir, "got")
	must(t, command(t, dir, binary, "--seed", "--control", control, mirror.URL("/big.pkg"), got))
	if err := os.Remove(got); err != nil {
		t.Fatal(err)
	}
	holds(`"name":"big.pkg"`)
	mirror.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	daemon()
	holds(`"name":"big.pkg"`)
	must(t, command(t, dir, binary, "download", filepath.Join(srv, "big.pkg.torrent"), dir))
	same(t, filepath.Join(dir, "big.pkg"), data)
}
