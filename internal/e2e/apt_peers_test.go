package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"torrent-xfer/internal/trackertest"
)

// TestAptPeers has two apts download a large package at the same time. Their methods, which have given up root's rights and
// are confined, start the worker all the same, and so give each other what they have.
func TestAptPeers(t *testing.T) {
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer tracker.Close()
	s := newAptSite(t, "500k", false)
	must(t, command(t, s.dir, binary, "create", "--tracker", tracker.HTTP, filepath.Join(s.dir, "good/pool", bigDeb.file())))
	dir := openDir(t)
	program := filepath.Join(dir, "torrent-xfer")
	write(t, program, read(t, binary))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "torrent-xfer/cmd/torrent-xfer-swarm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	must(t, build)

	var running []*exec.Cmd
	var roots []*aptRoot
	for range 2 {
		r := newAptRoot(t, s, "torrent+"+s.servers[0], nil)
		r.run("update")
		roots = append(roots, r)
	}
	for _, r := range roots {
		cmd := r.command("-o", "Dir::Bin::Methods::torrent+http="+program, "install", "-d", "big")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		same(t, roots[i].archive(bigDeb.file()), read(t, filepath.Join(s.dir, "good/pool", bigDeb.file())))
	}
	var sent int64
	for _, a := range s.stop() {
		if a.uri == "/pool/"+bigDeb.file() {
			sent += a.bytes
		}
	}
	t.Logf("the mirror sent %d bytes for two of %d; %d announces", sent, len(bigDeb.content), len(tracker.Log()))
	if sent > 2*int64(len(bigDeb.content))-1_000_000 {
		t.Error("peers gave nothing")
	}
}
