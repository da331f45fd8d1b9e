package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torrent-xfer/internal/mirrortest"
)

// smallDisk mounts an empty file system of the given size at dir. It skips the test for who is not root.
func smallDisk(t *testing.T, dir, size string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		missing(t, fmt.Sprintf("a small file system cannot be mounted: %v", err))
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// TestAptLittleRoom: there is room for the package once, as apt has made sure, and not for what waits beside it.
func TestAptLittleRoom(t *testing.T) {
	dir := openDir(t)
	smallDisk(t, dir, "14m")
	data := noise(23, 12_000_000)
	config := []string{}
	var url string
	for range 2 {
		s, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/f.deb": mirrortest.Bytes(data)}, Rate: 20_000_000})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		url = strings.Replace(s.URL("/f.deb"), "http", "torrent+http", 1)
		config = append(config, "Acquire::torrent::Mirrors::="+strings.TrimSuffix(s.URL("/"), "/"))
	}
	m := startMethod(t, binary, "torrent+http", config...)
	defer m.kill()
	path := filepath.Join(dir, "f.deb")
	fmt.Fprintf(m.in, "600 URI Acquire\nURI: %s\nFilename: %s\nExpected-SHA256: %x\nExpected-Checksum-FileSize: %d\n\n", url, path, sha256.Sum256(data), len(data))
	if text := m.end(patience); !strings.HasPrefix(text, "201") {
		t.Fatal(text)
	}
	same(t, path, data)
	holds(t, dir, "f.deb")
}

// TestAptDiskFull fills the disk while apt downloads, by the plain way and from several mirrors. It is told why that
// fails, and goes on from there when there is room.
func TestAptDiskFull(t *testing.T) {
	for _, way := range []string{"plain", "mirrors"} {
		t.Run(way, func(t *testing.T) { aptDiskFull(t, way == "plain") })
	}
}

func aptDiskFull(t *testing.T, plain bool) {
	s := newAptSite(t, "4m", false)
	r := newAptRoot(t, s, "torrent+"+s.servers[0], nil)
	smallDisk(t, filepath.Dir(r.archive("x")), "40m")
	if err := os.Mkdir(filepath.Dir(r.partial("x")), 0o755); err != nil {
		t.Fatal(err)
	}
	r.only()
	r.run("update")
	flags := []string{"-o", "Acquire::torrent::Mirrors::=" + s.servers[0], "-o", "Acquire::torrent::Mirrors::=" + s.servers[1], "install", "-d", "big"}
	if plain {
		flags = append(flags, "-o", "Acquire::torrent::Minimum-Size=1000000000")
	}
	want := read(t, filepath.Join(s.dir, "good/pool", bigDeb.file()))
	part, hog := r.partial(bigDeb.file()), r.archive("hog")
	for try := 0; ; try++ {
		var said bytes.Buffer
		cmd := r.command(flags...)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		for over := false; !over; {
			if info, statErr := os.Stat(part); statErr == nil && info.Size() > 0 {
				fillDisk(t, hog)
				err, over = <-ended, true
				break
			}
			select {
			case err = <-ended:
				over = true
			case <-time.After(5 * time.Millisecond):
			}
		}
		if err == nil && try < 5 { // it was faster than we
			os.Remove(hog)
			os.Remove(r.archive(bigDeb.file()))
			continue
		}
		if cmd.ProcessState.ExitCode() != 100 || !strings.Contains(said.String(), "Err:1 ") || !strings.Contains(said.String(), "No space left on device") {
			t.Fatalf("status %d:\n%s", cmd.ProcessState.ExitCode(), said.String())
		}
		break
	}
	got := read(t, part)
	if !bytes.HasPrefix(want, got) || len(got) == 0 || len(got) == len(want) {
		t.Fatalf("%d bytes in the partial file, not a part of the right ones", len(got))
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	r.run(flags...)
	same(t, r.archive(bigDeb.file()), want)
	wentOn := false
	for _, a := range s.stop() {
		from, ok := strings.CutPrefix(a.byteRange, "bytes=")
		if !ok || a.status != 206 || a.uri != "/pool/"+bigDeb.file() {
			continue
		}
		from, _, _ = strings.Cut(from, "-")
		n, _ := strconv.Atoi(from)
		wentOn = wentOn || n == len(got)
	}
	if plain && !wentOn {
		t.Errorf("nobody went on at byte %d", len(got))
	}
}

// fillDisk writes a file until there is no room for more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, chunk := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, chunk))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}
