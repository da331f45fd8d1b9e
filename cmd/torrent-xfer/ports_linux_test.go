package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/trackertest"
	"torrent-xfer/metainfo"
)

// Nothing listens before a torrent was found, so never if there is none; and nothing a moment after the file is done.
func TestPorts(t *testing.T) {
	tracker, err := trackertest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracker.Close)
	data := make([]byte, 5<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	h, err := metainfo.Hash(t.Context(), bytes.NewReader(data), int64(len(data)), metainfo.HashOptions{})
	if err != nil {
		t.Fatal(err)
	}
	torrent, err := metainfo.Build("big.bin", h, metainfo.BuildOptions{Trackers: [][]string{{tracker.HTTP}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, published := range []bool{false, true} {
		file := mirrortest.Bytes(data)
		held := mirrortest.Hold(file.Data, 1<<20)
		file.Data = held
		files := map[string]mirrortest.File{"/big.bin": file}
		if published {
			files["/big.bin.torrent"] = mirrortest.Bytes(torrent)
		}
		m, err := mirrortest.Start(mirrortest.Config{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		defer held.Release()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		dir := t.TempDir()
		cmd := exec.CommandContext(ctx, "torrent-xfer", "--no-lpd", m.URL("/big.bin"), filepath.Join(dir, "out"))
		cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CACHE_HOME="+dir, "GORACE="+noRaceSleep)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		asked := func() bool {
			return tracker.Started() > 0 || !published && slices.ContainsFunc(m.Stats().Log, func(e mirrortest.Entry) bool {
				return strings.HasSuffix(e.Path, ".torrent") && e.Status == 404
			})
		}
		for !asked() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if !published {
			time.Sleep(200 * time.Millisecond) // what would it do now?
		}
		if n := listening(t, cmd.Process.Pid); (n > 0) != published {
			t.Errorf("torrent %v: %d sockets listen", published, n)
		}
		held.Release()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// listening counts the sockets that a process and its children listen at.
func listening(t *testing.T, pid int) (n int) {
	inodes := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, err := os.ReadFile("/proc/self/net/" + table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) > 9 && (f[3] == "0A" || strings.HasPrefix(table, "udp") && f[3] == "07") {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	processes := []string{strconv.Itoa(pid)}
	for i := 0; i < len(processes); i++ {
		base := "/proc/" + processes[i]
		list, _ := os.ReadDir(base + "/fd")
		for _, fd := range list {
			if to, _ := os.Readlink(base + "/fd/" + fd.Name()); inodes[to] {
				n++
			}
		}
		tasks, _ := os.ReadDir(base + "/task")
		for _, task := range tasks {
			children, _ := os.ReadFile(base + "/task/" + task.Name() + "/children")
			processes = append(processes, strings.Fields(string(children))...)
		}
	}
	return n
}
