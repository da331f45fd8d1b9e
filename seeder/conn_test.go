package seeder

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"torrent-xfer/metainfo"
)

func pair(t *testing.T) (a, b *conn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mine, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mine.Close(); theirs.Close() })
	return &conn{UnixConn: mine}, &conn{UnixConn: theirs}
}

func TestADescriptorComesWithItsLine(t *testing.T) {
	a, b := pair(t)
	f := offer(t, "a", 'a', 10_000).Content
	if _, _, err := a.WriteMsgUnix([]byte("line\n01234"), syscall.UnixRights(int(f.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	line, err := b.line()
	if err != nil || string(line) != "line" {
		t.Fatalf("%q %v", line, err)
	}
	if data, err := b.take(5); err != nil || string(data) != "01234" {
		t.Fatalf("%q %v", data, err)
	}
	one, _ := f.Stat()
	got := b.file()
	if got == nil {
		t.Fatal("no descriptor")
	}
	defer got.Close()
	two, err := got.Stat()
	if err != nil || !os.SameFile(one, two) {
		t.Error("another file", err)
	}
}

func TestALineHasAnEnd(t *testing.T) {
	a, b := pair(t)
	go a.Write([]byte(strings.Repeat("x", 2*maxLine)))
	if _, err := b.line(); !errors.Is(err, errProtocol) {
		t.Error(err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"do":"status"}`))
	f.Add([]byte(`{"version":1,"do":"seed","url":"http://a/b","trackers":[["udp://t:1"]],"metainfo":100}`))
	f.Add([]byte(`{"version":1,"do":"limit","rate":-1}`))
	f.Add([]byte(`{"version":1}{"version":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err == nil && (r.Version != protocolVersion || r.Metainfo < 0 || r.Metainfo > 16<<20 || r.Rate < 0) {
			t.Errorf("%+v", r)
		}
		if err != nil && !errors.Is(err, errProtocol) {
			t.Error(err)
		}
	})
}

// Torrents that wait take so much memory and no more; one that does not come takes none.
func TestTorrentsWaitForRoom(t *testing.T) {
	d, _ := still(t, Config{})
	f := offer(t, "a", 'a', 10_000).Content
	receive := func(ctx context.Context, whole bool) error {
		a, b := pair(t)
		if _, _, err := a.WriteMsgUnix([]byte("\n"), syscall.UnixRights(int(f.Fd())), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := b.line(); err != nil {
			t.Fatal(err)
		}
		go func() {
			if whole {
				a.Write(make([]byte, metainfo.MaxSize))
			}
			a.CloseWrite()
		}()
		return d.receive(ctx, b, Request{Metainfo: metainfo.MaxSize})
	}
	for range 5 {
		if err := receive(t.Context(), false); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	for range maxMetainfo / metainfo.MaxSize {
		if err := receive(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := receive(ended, true); !errors.Is(err, context.Canceled) {
		t.Error("there is room for more:", err)
	}
	working, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		d.work(working)
		close(done)
	}()
	if err := receive(t.Context(), true); err != nil { // once one is taken
		t.Error(err)
	}
	stop()
	<-done
}
