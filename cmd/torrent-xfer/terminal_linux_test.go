package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrent-xfer/internal/mirrortest"
)

// terminal is a pseudo-terminal and what was written to it.
type terminal struct {
	master, slave *os.File
	mu            sync.Mutex
	seen          bytes.Buffer
	done          chan struct{}
}

func openTerminal(t *testing.T, width uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master, slave: slave, done: make(chan struct{})}
	go func() {
		defer close(term.done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return term
}

// text is all that was written. No process may have the terminal any more.
func (term *terminal) text() string {
	term.slave.Close()
	<-term.done
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.String()
}

// program prepares a run of the program, or of the pacman of main_test.go.
func program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, n := range []string{"torrent-xfer", "pacman"} {
		if err := os.Symlink(self, filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "XDG_CACHE_HOME=" + dir, "TERM=xterm", "NO_COLOR=1", "GORACE=" + noRaceSleep}
	cmd.Dir = dir
	return cmd
}

func startMirrorOf(t *testing.T, content []byte, rate int64, faults ...mirrortest.Fault) string {
	t.Helper()
	s, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/wide-日本\x1b[2J.pkg": mirrortest.Bytes(content)},
		Rate: rate, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.URL("/wide-日本\x1b[2J.pkg")
}

// screen plays what was written to a terminal of one line at a time: the lines that remain, and the widest that was there.
func screen(text string) (remains []string, widest int) {
	lineNow := ""
	for _, part := range regexp.MustCompile(`\r\n|\r\x1b\[K|\r|[^\r]+`).FindAllString(text, -1) {
		switch part {
		case "\r\n":
			remains = append(remains, lineNow)
			lineNow = ""
		case "\r\x1b[K":
			lineNow = ""
		default:
			lineNow += part
			widest = max(widest, columns(lineNow))
		}
	}
	if lineNow != "" {
		remains = append(remains, lineNow)
	}
	return remains, widest
}

func TestBarOnTerminal(t *testing.T) {
	for _, width := range []uint16{120, 60, 39, 20, 5} {
		t.Run(strconv.Itoa(int(width)), func(t *testing.T) {
			t.Parallel() // a second for each
			url := startMirrorOf(t, make([]byte, 2<<20), 1<<20)
			term := openTerminal(t, width)
			cmd := program(t, "torrent-xfer", url, "out")
			cmd.Stderr = term.slave
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %q", err, term.text())
			}
			text := term.text()
			remains, widest := screen(text)
			if widest >= int(width) {
				t.Errorf("a line of %d columns on a terminal of %d", widest, width)
			}
			if len(remains) != 1 {
				t.Fatalf("what remains is not one line: %q", remains)
			}
			if strings.Contains(strings.ReplaceAll(text, "\r\x1b[K", ""), "\x1b") {
				t.Errorf("escapes reached the terminal: %q", text)
			}
			want := map[uint16]string{120: `^wide-日本\\x1b\[2J\.pkg  2\.0 MiB  .*iB/s  00:\d\d  1 mirror$`, 60: `^wide.*  2\.0 MiB  .*iB/s  00:\d\d  1 mirror$`}[width]
			if !regexp.MustCompile(want).MatchString(remains[0]) {
				t.Errorf("what remains: %q", remains[0])
			}
			if width == 120 && !strings.Contains(text, "1 of 1 mirror") {
				t.Errorf("mirrors are not counted: %q", text)
			}
		})
	}
}

// Lines of --verbose stand above the bar, whole.
func TestVerboseAboveBar(t *testing.T) {
	good := startMirrorOf(t, make([]byte, 1<<20), 2<<20)
	bad := startMirrorOf(t, make([]byte, 1<<20), 0, mirrortest.Fault{Kind: mirrortest.Truncate, At: 100 << 10, Count: 3})
	term := openTerminal(t, 200)
	cmd := program(t, "torrent-xfer", bad, "--mirror", good, "--verbose", "out")
	cmd.Stderr = term.slave
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %q", err, term.text())
	}
	remains, _ := screen(term.text())
	setAside := 0
	for _, l := range remains {
		if strings.Contains(l, "set aside http://") && strings.HasPrefix(l, "torrent-xfer: ") {
			setAside++
		} else if strings.Contains(l, "[=") {
			t.Errorf("a bar remains: %q", l)
		}
	}
	if setAside == 0 {
		t.Errorf("nobody is set aside: %q", remains)
	}
}

// While pacman waits it ignores Ctrl-C; the person has to be told.
func TestInterruptUnderPacman(t *testing.T) {
	url := startMirrorOf(t, make([]byte, 1<<20), 0, mirrortest.Fault{Kind: mirrortest.Stall, At: 1000})
	term := openTerminal(t, 120)
	cmd := program(t, "pacman", "-S", "--", url, "out")
	cmd.Stderr = term.slave
	child := startWithChild(t, cmd)
	waitForBar(t, term)
	if err := syscall.Kill(child, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("status %d", code)
	}
	if remains, _ := screen(term.text()); len(remains) != 1 || !strings.HasSuffix(remains[0], "interrupted; press Ctrl-C again to stop pacman") {
		t.Errorf("what remains: %q", remains)
	}
}

// pacman leaves its child behind when it is killed; the child has to go by itself.
func TestDieWithPacman(t *testing.T) {
	url := startMirrorOf(t, make([]byte, 1<<20), 0, mirrortest.Fault{Kind: mirrortest.Stall, At: 1000})
	term := openTerminal(t, 120)
	cmd := program(t, "pacman", "-S", "--", url, "out")
	cmd.Stderr = term.slave
	child := startWithChild(t, cmd)
	waitForBar(t, term)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-ctx.Done():
			syscall.Kill(child, syscall.SIGKILL)
			t.Fatal("the child lives on")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// startWithChild starts cmd and waits until it has a child.
func startWithChild(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cmd.Process.Pid))
		for _, f := range tasks {
			text, _ := os.ReadFile(f)
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			// Before its first child package os tries with a short-lived one what the kernel can do.
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.HasPrefix(string(line), "torrent-xfer\x00") {
				return pid
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	cmd.Process.Kill()
	t.Fatal("there is no child")
	return 0
}

// waitForBar waits until the download has begun.
func waitForBar(t *testing.T, term *terminal) {
	t.Helper()
	waitForText(t, term, "1 of 1 mirror")
}

func waitForText(t *testing.T, term *terminal, text string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		term.mu.Lock()
		begun := strings.Contains(term.seen.String(), text)
		term.mu.Unlock()
		if begun {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("no bar: %q", term.seen.String())
}

func TestBencodeSendsNoBytesToTheTerminal(t *testing.T) {
	term := openTerminal(t, 80)
	cmd := program(t, "torrent-xfer", "bencode", "--reverse")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(`"hex:1b5b324a"`), term.slave, term.slave
	err := cmd.Run()
	if text := term.text(); cmd.ProcessState.ExitCode() != exitUsage || strings.Contains(text, "\x1b") || !strings.Contains(text, "file or a pipe") {
		t.Errorf("%v: %q", err, text)
	}
}

// serve keeps one line that says how things stand, and leaves none behind.
func TestServeOnTerminal(t *testing.T) {
	term := openTerminal(t, 60)
	cmd := exec.Command("torrent-xfer", "serve", "--no-lpd", "file.bin")
	cmd.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(cmd.Dir, "file.bin"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_CACHE_HOME="+cmd.Dir, "TERM=xterm", "GORACE="+noRaceSleep)
	cmd.Stderr = term.slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Minute)
	for seen := false; !seen && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		term.mu.Lock()
		seen = strings.Contains(term.seen.String(), "file.bin  0 peers  0 B given")
		term.mu.Unlock()
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	text := term.text()
	remains, widest := screen(text)
	if len(remains) != 1 || !strings.Contains(remains[0], "giving 1 file at port") || widest >= 60 || !strings.Contains(text, "0 peers") {
		t.Errorf("%q remains of %q", remains, text)
	}
}
