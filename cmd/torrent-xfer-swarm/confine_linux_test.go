package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

const confineTestEnv = "TEST_CONFINE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(confineTestEnv); dir != "" {
		os.Exit(confined(dir))
	}
	os.Exit(m.Run())
}

// confined confines itself and tries what must work and what must not.
func confined(dir string) int {
	daemon, _ := user.Lookup("torrent-xfer")
	inherited, err := os.Open(filepath.Join(dir, "partial"))
	if err != nil {
		println(err.Error())
		return 1
	}
	if err := confine(); err != nil {
		println("confine:", err.Error())
		return 1
	}
	status := 0
	if uid := strconv.Itoa(os.Getuid()); daemon != nil && uid == daemon.Uid {
		println("the daemon's user")
		status = 1
	}
	works := func(what string, err error) {
		if err != nil {
			println("refused:", what, err.Error())
			status = 1
		}
	}
	refused := func(what string, err error) {
		if !errors.Is(err, fs.ErrPermission) {
			println("not refused:", what)
			status = 1
		}
	}
	if os.Getuid() == 0 || syscall.Geteuid() == 0 || syscall.Getegid() == 0 {
		println("still root")
		status = 1
	}
	if syscall.Setuid(0) == nil {
		println("root again")
		status = 1
	}
	_, err = inherited.ReadAt(make([]byte, 1), 0)
	works("read the partial", err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	works("listen", err)
	if err == nil {
		c, err := net.Dial("tcp", l.Addr().String())
		works("connect", err)
		if err == nil {
			c.Close()
		}
		l.Close()
	}
	_, err = net.Dial("unix", filepath.Join(dir, "socket"))
	refused("connect to a unix socket", err)
	_, err = syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	refused("have a pair of unix sockets", err)
	refused("write the partial", os.WriteFile(filepath.Join(dir, "partial"), nil, 0o600))
	_, err = os.OpenFile("/proc/self/fd/3", os.O_RDWR, 0)
	refused("open a descriptor again for writing", err)
	refused("write elsewhere", os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
	data, err := os.ReadFile("/proc/self/status")
	if err == nil && !strings.Contains(string(data), "NoNewPrivs:\t1") {
		println("new privileges are possible")
		status = 1
	}
	_, err = os.ReadFile("/etc/passwd")
	refused("read what is neither names nor certificates", err)
	_, err = os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	refused("run a program", err)
	return status
}

func TestConfine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root has rights to give up")
	}
	if abi, err := ll.LandlockGetABIVersion(); err != nil || abi < 1 {
		t.Skip("this kernel has no Landlock")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		os.Chmod(p, 0o777) // what is refused is not refused for its directory's sake
	}
	if err := os.WriteFile(filepath.Join(dir, "partial"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(dir, "partial"), 0o666)
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	os.Chmod(filepath.Join(dir, "socket"), 0o666)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), confineTestEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
