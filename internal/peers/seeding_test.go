package peers

import (
	"io"
	"sync/atomic"
	"testing"
)

// However often a worker asks for however many torrents, it is sent each once, and no more than one is in memory.
func TestSeedingAsk(t *testing.T) {
	const torrents = 50
	s := &Seeding{}
	var made atomic.Int64
	for i := range torrents {
		s.Add(Torrent{ID: [20]byte{1, byte(i)}, Metainfo: func() ([]byte, error) { made.Add(1); return make([]byte, 1<<20), nil }})
	}
	wake := s.begin()
	for range 3 {
		for i := range torrents + 1 { // one is unknown
			s.ask([20]byte{1, byte(i)})
		}
	}
	s.Remove([20]byte{1, 0})
	r, w := io.Pipe()
	defer r.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.tell(t.Context(), newFrames(pipe{nil, w}, 0), wake) }()
	in := newFrames(pipe{r, nil}, maxFrame)
	for sent := map[byte]bool{}; len(sent) < torrents-1; {
		kind, data, err := in.read(nil)
		if err != nil {
			t.Fatal(err)
		}
		if kind != kindInfo {
			continue
		}
		if n := data[1]; sent[n] || n == 0 {
			t.Errorf("torrent %d is sent, and was before: %v", n, sent[n])
		} else {
			sent[n] = true
		}
		if n := made.Load(); n > int64(len(sent))+1 {
			t.Fatalf("%d are in memory after %d were sent", n, len(sent))
		}
	}
	s.ask([20]byte{1, 1}) // again
	if kind, data, err := in.read(nil); err != nil || kind != kindInfo || data[1] != 1 {
		t.Errorf("%c, %v", kind, err)
	}
	r.Close()
	s.Limit(1)
	if err := <-ended; err == nil {
		t.Error("the end of the worker is no error")
	}
}
