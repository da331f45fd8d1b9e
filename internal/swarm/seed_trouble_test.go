package swarm_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"torrent-xfer/internal/mirrortest"
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
