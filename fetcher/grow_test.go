package fetcher_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/mirrortest"
)

// growing asks for a file that grows in order at dest, from all the mirrors.
func growing(t *testing.T, data []byte, dest string, mirrors ...*mirrortest.Server) fetcher.Request {
	t.Helper()
	digest := sha256.Sum256(data)
	req := fetcher.Request{Dest: dest, Grow: true, Expect: fetcher.Expect{Size: int64(len(data)), SHA256: digest[:]}}
	for i, m := range mirrors {
		u, err := url.Parse(m.URL("/f"))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			req.URL = u
		} else {
			req.Mirrors = append(req.Mirrors, u)
		}
	}
	return req
}

// watch looks at path until stop is closed and returns the largest step by which it grew; everything in it has to be like
// data at any time.
func watch(t *testing.T, path string, data []byte, stop chan struct{}) chan int {
	largest := make(chan int, 1)
	go func() {
		before, most := 0, 0
		for {
			got, err := os.ReadFile(path)
			if err == nil {
				if !bytes.HasPrefix(data, got) {
					t.Error("the destination held something else than a beginning of the file")
				}
				most = max(most, len(got)-before)
				before = len(got)
			}
			select {
			case <-stop:
				largest <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return largest
}

func TestGrowsInOrder(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	for i := range data {
		data[i] ^= byte(i >> 8)
	}
	var mirrors []*mirrortest.Server
	for _, rate := range []int64{2 << 20, 2 << 20, 1 << 20} {
		m, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/f": mirrortest.Bytes(data)}, Rate: rate})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		mirrors = append(mirrors, m)
	}
	dest := filepath.Join(t.TempDir(), "f")
	stop := make(chan struct{})
	largest := watch(t, dest, data, stop)
	result, err := (&fetcher.Fetcher{}).Fetch(context.Background(), growing(t, data, dest, mirrors...))
	close(stop)
	most := <-largest
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v, largest step %d%%, duplicate %d", result.Elapsed, most*100/len(data), result.Duplicate)
	if most > len(data)/4 {
		t.Errorf("the destination grew by %d of %d bytes at once", most, len(data))
	}
	info, err := os.Stat(dest)
	if err != nil || !info.ModTime().Equal(mirrortest.Bytes(nil).ModTime) {
		t.Errorf("the destination is not of the server's date: %v %v", info.ModTime(), err)
	}
	left, _ := os.ReadDir(filepath.Dir(dest))
	if len(left) != 1 || !bytes.Equal(mustRead(t, dest), data) {
		t.Errorf("left behind: %v", left)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
