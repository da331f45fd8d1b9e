package seeder

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever is neither root nor of our user may change things only as a member of the group.
func TestWhoMayChange(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "peercred")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid, gid uint32
		groups   []uint32
		group    int
		want     bool
	}{
		{0, 0, nil, -1, true}, {65534, 65534, nil, -1, false}, {65534, 65534, nil, 4321, false},
		{65534, 4321, nil, 4321, true}, {65534, 65534, []uint32{4320, 4321}, 4321, true},
	} {
		if got := trusts(&unix.Ucred{Uid: c.uid, Gid: c.gid}, 1000, c.group); c.groups == nil && got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		cmd := exec.Command("perl", "-MIO::Socket::UNIX", "-e", "my $s = IO::Socket::UNIX->new($ARGV[0]) or die; <$s>", path)
		if os.Getuid() == 0 { // only root can be somebody else
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid, Groups: c.groups}}
		} else {
			c.want = true
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if got := mayChange(conn, c.group); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		conn.Close()
		cmd.Wait()
	}
}
