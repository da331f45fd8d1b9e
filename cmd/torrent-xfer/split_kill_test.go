package main

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

// A download that is killed while it splits what it has into files is gone on with, without anybody to fetch from.
func TestKilledWhileSplitting(t *testing.T) {
	const files, size, pieceLength = 200, 100_000, 256 << 10
	all := make([]byte, files*size)
	rand.NewChaCha8([32]byte{3}).Read(all)
	served := map[string]mirrortest.File{}
	var list, pieces bytes.Buffer
	for i := range files {
		name := fmt.Sprintf("f%03d", i)
		served["/set/"+name] = mirrortest.Bytes(all[i*size : (i+1)*size])
		fmt.Fprintf(&list, "d6:lengthi%de4:pathl4:%see", size, name)
	}
	for off := 0; off < len(all); off += pieceLength {
		sum := sha1.Sum(all[off:min(off+pieceLength, len(all))])
		pieces.Write(sum[:])
	}
	m, err := mirrortest.Start(mirrortest.Config{Files: served})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dir := t.TempDir()
	torrent := filepath.Join(dir, "t")
	seed := m.URL("/")
	if err := os.WriteFile(torrent, fmt.Appendf(nil, "d4:infod5:filesl%se4:name3:set12:piece lengthi%de6:pieces%d:%se8:url-list%d:%se",
		list.Bytes(), pieceLength, pieces.Len(), pieces.Bytes(), len(seed), seed), 0o644); err != nil {
		t.Fatal(err)
	}
	download := func(to string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "torrent-xfer", "download", torrent, to, "--peers", "never", "--quiet")
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir, "GORACE="+noRaceSleep)
		return cmd
	}
	at := func(to string, i int) string { return filepath.Join(to, "set", fmt.Sprintf("f%03d", i)) }
	for try := range 30 { // it may be over before it is killed
		to := filepath.Join(dir, fmt.Sprint(try))
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := download(to)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		over := make(chan error, 1)
		go func() { over <- cmd.Wait() }()
		split := func() bool { _, err := os.Stat(at(to, files-1)); return err == nil } // the last one comes first
		for ended := false; !ended && !split(); {
			select {
			case err := <-over:
				if over <- err; err != nil {
					t.Fatal(err)
				}
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		cmd.Process.Kill()
		if err := <-over; err == nil {
			continue
		}
		if _, err := os.Stat(at(to, 0)); err == nil {
			continue
		}
		m.Close()
		if out, err := download(to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for i := range files {
			if got, err := os.ReadFile(at(to, i)); err != nil || !bytes.Equal(got, all[i*size:(i+1)*size]) {
				t.Fatalf("file %d: %d bytes, %v", i, len(got), err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(to, "set", ".*")); len(left) > 1 { // the one that was being written
			t.Errorf("%q were left behind", left)
		}
		if left, _ := filepath.Glob(filepath.Join(to, ".*")); len(left) > 0 {
			t.Errorf("%q were left behind", left)
		}
		return
	}
	t.Error("it was never killed in time")
}
