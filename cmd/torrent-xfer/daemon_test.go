package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const longWait = time.Minute

type daemonKey struct{}

// runDaemon is "daemon start [FLAG...]": it starts the program's daemon, with control.sock and library in the working directory, as one
// that may speak to this machine, and waits until it listens. "daemon kill", "end" and "reload" send it a signal; after the first two
// it is waited for, and has to have ended well after "end". It writes to daemon.log.
func runDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: daemon start [FLAG...] | kill | end | reload")
	}
	running := ts.Value(daemonKey{}).(*daemons)
	if args[0] != "start" {
		p := running.last
		if p == nil {
			ts.Fatalf("there is no daemon")
		}
		sig, ok := map[string]syscall.Signal{"kill": syscall.SIGKILL, "end": syscall.SIGTERM, "reload": syscall.SIGHUP}[args[0]]
		if !ok {
			ts.Fatalf("no signal for %q", args[0])
		}
		ts.Check(p.cmd.Process.Signal(sig))
		if sig == syscall.SIGHUP {
			return
		}
		running.last = nil
		if err := <-p.ended; err != nil && sig == syscall.SIGTERM {
			ts.Fatalf("the daemon ended with %v", err)
		}
		return
	}
	cmd := exec.Command("torrent-xfer", append([]string{"daemon", "--control", ts.MkAbs("control.sock"), "--library", ts.MkAbs("library"), "--private",
		"--user", "root", "--no-lpd", "--verbose"}, args[1:]...)...)
	path, err := exec.LookPath("torrent-xfer")
	ts.Check(err)
	cmd.Path, cmd.Dir = path, ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "GORACE="+noRaceSleep)
	log, err := os.OpenFile(ts.MkAbs("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	log.Close()
	p := &daemonProcess{cmd, make(chan error, 1)}
	go func() { p.ended <- cmd.Wait() }()
	running.last = p
	ts.Setenv("TORRENT_XFER_CONTROL", ts.MkAbs("control.sock"))
	for end := time.Now().Add(longWait); ; time.Sleep(10 * time.Millisecond) {
		if exec.Command(path, "status", "--control", ts.MkAbs("control.sock")).Run() == nil {
			return
		}
		select {
		case err := <-p.ended:
			running.last = nil
			text, _ := os.ReadFile(ts.MkAbs("daemon.log"))
			ts.Fatalf("the daemon ended with %v: %s", err, text)
		default:
		}
		if time.Now().After(end) {
			ts.Fatalf("the daemon does not answer")
		}
	}
}

type daemons struct{ last *daemonProcess }

type daemonProcess struct {
	cmd   *exec.Cmd
	ended chan error
}

func (d *daemons) stop() {
	if d.last != nil {
		d.last.cmd.Process.Signal(syscall.SIGTERM)
		<-d.last.ended
		d.last = nil
	}
}

// awaitStatus is "await PATTERN": it waits until the daemon's status, as indented JSON, holds what the expression says. With "!" until
// it does not.
func awaitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: await PATTERN")
	}
	want := regexp.MustCompile(args[0])
	for end := time.Now().Add(longWait); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("torrent-xfer", "status", "--json", "--control", ts.MkAbs("control.sock")).Output()
		ts.Check(err)
		var all any
		ts.Check(json.Unmarshal(out, &all))
		text, err := json.MarshalIndent(all, "", " ")
		ts.Check(err)
		if want.Match(text) != neg {
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(ts.MkAbs("daemon.log"))
			ts.Fatalf("the status is\n%s\n%s", text, strings.TrimSpace(string(log)))
		}
	}
}

// awaitLog is "logged PATTERN": it waits until the daemon has logged what the expression says.
func awaitLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: logged PATTERN")
	}
	want := regexp.MustCompile(args[0])
	for end := time.Now().Add(longWait); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(ts.MkAbs("daemon.log"))
		ts.Check(err)
		if want.Match(text) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("the log is\n%s", text)
		}
	}
}

// getByUnix is "get SOCKET PATH": the answer of the HTTP server at a unix socket is what follows is about, a failure if it is not 200.
func getByUnix(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: get SOCKET PATH")
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", ts.MkAbs(args[0]))
	}}}
	res, err := client.Get("http://localhost" + args[1])
	ts.Check(err)
	defer res.Body.Close()
	_, err = io.Copy(ts.Stdout(), res.Body)
	ts.Check(err)
	if right := res.StatusCode == http.StatusOK; right == neg {
		ts.Fatalf("status %d", res.StatusCode)
	}
}

// Everybody may connect to the control socket, whatever files of ours are otherwise.
func TestEverybodyMayConnect(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Error(info, err)
	}
	if mask := syscall.Umask(0o077); mask != 0o077 {
		t.Errorf("the mask is %o", mask)
	}
}
