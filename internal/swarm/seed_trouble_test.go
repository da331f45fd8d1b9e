package swarm_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"torrent-xfer/internal/mirrortest"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

// What a tracker says is told, and not more of it than anybody reads.
func TestSeedTrackerSaysMuch(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		w.Write(bytes.Repeat([]byte("no \xff"), 512<<10))
	}))
	t.Cleanup(srv.Close)
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	s.buildFor(metainfo.V1, 0, []string{srv.URL})
	k := s.keep(t, "worker", nil)
	k.Add(k.t)
	eventually(t, "nothing is told of the tracker", func() bool {
		st := k.Status()
		if st.Restarts > 0 {
			t.Fatal("the worker was started again")
		}
		return st.Torrent(k.t.ID).Problem != ""
	})
	if text := k.Status().Torrent(k.t.ID).Problem; len(text) > 300 {
		t.Errorf("%d bytes", len(text))
	}
}

// Errors that say nothing of the file, as when no more descriptors are to be had, pass; the others do not.
func TestSeedOpenFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1<<20, mirrortest.Config{}, metainfo.V1, 0)
	var fails atomic.Int64
	k := s.keep(t, "worker", func(p *peers.Seeding) {
		open := p.Open
		p.Open = func(id [20]byte, file int) (*os.File, error) {
			switch fails.Add(1) {
			case 1:
				return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
			case 2:
				return nil, &os.PathError{Op: "read", Path: name, Err: syscall.EIO}
			}
			return open(id, file)
		}
	})
	k.Add(k.t)
	announced(t, s.tracker)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(k.Status().Port))
	eventually(t, "it is not given after a while", func() bool { return s.offers(t, at) })
	if fails.Load() < 3 {
		t.Errorf("opened %d times", fails.Load())
	}
	if st := k.Status().Torrent(k.t.ID); st.Dropped {
		t.Errorf("%+v", st)
	}
}
