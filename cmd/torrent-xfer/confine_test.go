package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const confineTestEnv = "TEST_CONFINE"

// confinedMain confines itself and then tries what must work and what must not. Its environment says where.
func confinedMain() int {
	inside, outside, source, url := os.Getenv("TEST_INSIDE"), os.Getenv("TEST_OUTSIDE"), os.Getenv("TEST_SOURCE"), os.Getenv("TEST_URL")
	text, err := confine(Env{}, reach{read: []string{source}, write: []string{inside, "/does/not/exist"}})
	if err != nil {
		println("confine:", err.Error())
		return 1
	}
	println(text)
	if !strings.HasPrefix(text, "Landlock") {
		return 77
	}
	status := 0
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
	works("write", os.WriteFile(inside+"/a", []byte("a"), 0o600))
	works("overwrite", os.WriteFile(inside+"/a", []byte("b"), 0o600))
	works("rename", os.Rename(inside+"/a", inside+"/b"))
	works("remove", os.Remove(inside+"/b"))
	_, err = os.ReadFile(source)
	works("read the source", err)
	_, err = os.ReadFile("/etc/passwd")
	works("read /etc", err)
	res, err := http.Get(url)
	works("connect", err)
	if err == nil {
		res.Body.Close()
	}

	refused("write elsewhere", os.WriteFile(outside+"/a", nil, 0o600))
	refused("overwrite elsewhere", os.WriteFile(outside+"/there", nil, 0o600))
	refused("remove elsewhere", os.Remove(outside+"/there"))
	refused("make a directory elsewhere", os.Mkdir(outside+"/d", 0o700))
	refused("write the source", os.WriteFile(source, nil, 0o600))
	refused("make a directory inside", os.Mkdir(inside+"/d", 0o700))
	refused("a link inside", os.Symlink("x", inside+"/link"))
	_, err = os.ReadFile(outside + "/there")
	refused("read elsewhere", err)
	refused("run a program", exec.Command("/bin/sh", "-c", ":").Run())
	if strings.Contains(text, "listening") {
		// Go listens with MPTCP where it can, which Landlock does not know.
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
		refused("listen", err)
		if err == nil {
			l.Close()
		}
	}
	status2, err := os.ReadFile("/proc/self/status")
	if err == nil && !strings.Contains(string(status2), "NoNewPrivs:\t1") {
		println("new privileges are possible")
		status = 1
	}
	return status
}

func TestConfine(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	inside, outside, source := filepath.Join(dir, "in"), filepath.Join(dir, "out"), filepath.Join(dir, "source")
	for _, d := range []string{inside, outside} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{source, filepath.Join(outside, "there")} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), confineTestEnv+"=1", "TEST_INSIDE="+inside, "TEST_OUTSIDE="+outside, "TEST_SOURCE="+source, "TEST_URL="+srv.URL)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("this kernel has no Landlock: %s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
