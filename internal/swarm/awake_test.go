package swarm

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anacrolix/torrent"

	"torrent-xfer/internal/peers"
	ours "torrent-xfer/metainfo"
)

// However many torrents strangers ask for, and however long their metainfo is, the client knows few at a time: the last ones.
func TestFewAwake(t *testing.T) {
	hashes, err := ours.Hash(context.Background(), strings.NewReader("content"), 7, ours.HashOptions{Version: ours.V1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ torrents, comment, awake int }{{mostAwake + 10, 0, mostAwake}, {12, mostMetainfo / 8, 7}} {
		f, err := newFilter(peers.Reach{Private: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := clientConfig(peers.Options{Interface: "127.0.0.1"}, f)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultStorage = nowhere{}
		client, err := torrent.NewClient(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		s := &seeder{client: client, files: &shelf{}, known: map[[20]byte]*content{}, active: map[*content]bool{}, changed: map[*content]bool{}}
		var all []*content
		for i := range c.torrents {
			data, err := ours.Build("name", hashes, ours.BuildOptions{Source: fmt.Sprint(i), Comment: strings.Repeat("c", c.comment)})
			if err != nil {
				t.Fatal(err)
			}
			one, err := peers.TorrentOf(data)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, &content{id: one.ID, busy: time.Now()})
			if err := s.enter(all[i], data); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(client.Torrents()); got != c.awake || len(s.active) != got {
			t.Errorf("%d torrents are awake, %d are known", got, len(s.active))
		}
		for i, one := range all {
			if awake := one.torrent != nil; awake != (i >= c.torrents-c.awake) {
				t.Errorf("torrent %d is awake: %v", i, awake)
			}
		}
		if s.makeRoom(mostMetainfo+1) || len(client.Torrents()) > 0 {
			t.Error("there is room for more than there may be")
		}
	}
}
