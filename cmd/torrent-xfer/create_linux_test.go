package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file that takes long shows a bar; a signal, or a change of the file, ends the work and leaves nothing behind.
func TestCreateIsEnded(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    func(pid int, file string) error
		status int
		want   string
	}{
		{"signal", func(pid int, _ string) error { return syscall.Kill(pid, syscall.SIGTERM) }, exitInterrupted,
			"torrent-xfer: big.pkg: interrupted; no torrent was made"},
		{"change", func(_ int, file string) error { return os.Truncate(file, 1000) }, exitFailed,
			"torrent-xfer: big.pkg: it was changed while it was read; no torrent was made"},
	} {
		t.Run(test.name, func(t *testing.T) {
			term := openTerminal(t, 120)
			cmd := program(t, "torrent-xfer", "create", "--meta-version", "1", "big.pkg")
			file := filepath.Join(cmd.Dir, "big.pkg")
			if err := os.WriteFile(file, nil, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, 256<<30); err != nil { // a hole; to hash it takes minutes
				t.Fatal(err)
			}
			cmd.Stderr = term.slave
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			waitForText(t, term, "0% [")
			if err := test.end(cmd.Process.Pid, file); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != test.status {
				t.Errorf("status %d", code)
			}
			text := term.text()
			if remains, _ := screen(text); len(remains) != 1 || remains[0] != test.want {
				t.Errorf("what remains: %q", remains)
			}
			if !strings.Contains(text, "big.pkg  256.0 GiB") || strings.Contains(text, "mirror") {
				t.Errorf("the bar: %q", text)
			}
			if left, _ := filepath.Glob(filepath.Join(cmd.Dir, "*big.pkg*")); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
