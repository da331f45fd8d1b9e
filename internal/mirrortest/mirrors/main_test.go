package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"torrent-xfer/internal/mirrortest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "as-mirrors" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		main()
		return
	}
	os.Exit(m.Run())
}

// command runs this test binary as the program.
func command(args ...string) *exec.Cmd {
	return exec.Command(os.Args[0], append([]string{"as-mirrors"}, args...)...)
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(dir, "stats.json")
	cmd := command("-dir", dir, "-stats", report, "-mirror", "", "-mirror", "rate=5M,delay=1ms,fault=404")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	var urls []string
	for len(urls) < 2 && lines.Scan() {
		urls = append(urls, lines.Text())
	}
	for i, want := range []int{200, 404} {
		resp, err := http.Get(urls[i] + "f")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want || want == 200 && string(body) != "content" {
			t.Errorf("mirror %d: %d %q %v", i, resp.StatusCode, body, err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var reports []struct {
		URL   string
		Stats mirrortest.Stats
	}
	if err := json.Unmarshal(b, &reports); err != nil {
		t.Fatal(err)
	}
	if len(reports) != 2 || reports[0].URL != urls[0] || reports[0].Stats.Paths["/f"] != 7 ||
		reports[1].Stats.Log[0].Status != 404 {
		t.Errorf("%s", b)
	}
}

func TestProgramList(t *testing.T) {
	out, err := command("-list").Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "\n"); n != len(mirrortest.Kinds()) || !strings.Contains(string(out), "stall") {
		t.Errorf("%s", out)
	}
}

func TestProgramRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"-mirror", "x"}, {"-mirror", "fault=redirect"}, {"argument"}, {"-dir", "/nonexistent"},
		{"-addr", "nonsense"}} {
		if err := command(args...).Run(); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
