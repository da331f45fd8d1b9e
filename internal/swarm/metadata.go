package swarm

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"github.com/anacrolix/torrent"
	"github.com/anacrolix/torrent/bencode"

	ours "torrent-xfer/metainfo"

	"torrent-xfer/internal/peers"
)

const (
	lookForLayers  = 100 * time.Millisecond
	layersPatience = 2 * time.Minute // for what verifies a v2 torrent, once the rest is there
	hybridPatience = time.Second     // for the same of a hybrid, which v1 verifies too
)

// findMetadata looks for peers who have the torrent that a magnet link is of, and asks them for what is in it.
func findMetadata(link *peers.Link, start peers.Start) error {
	m, err := ours.ParseMagnet(start.Magnet)
	if err != nil {
		return err
	}
	e := &engine{link: link}
	cfg, err := e.config(start.Options, start.Reach, false)
	if err != nil {
		return err
	}
	turns := newTurns(e, start.Peers)
	cfg.Callbacks.PeerConnAdded = append(cfg.Callbacks.PeerConnAdded, turns.met)
	if err := e.enter(cfg, start.Options, false); err != nil {
		return err
	}
	defer e.exit()
	opts := torrent.AddTorrentOpts{DeferStorageOpen: true, DisallowDataUpload: true, DisallowDataDownload: true}
	if m.InfoHashV1 != "" {
		hex.Decode(opts.InfoHash[:], []byte(m.InfoHashV1))
	}
	if m.InfoHashV2 != "" {
		opts.InfoHashV2.Ok = true
		hex.Decode(opts.InfoHashV2.Value[:], []byte(m.InfoHashV2))
	}
	t, _ := e.client.AddTorrentOpt(opts)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e.setOut(cfg, t, hashesOf(opts), start.Options.UserAgent)
	go e.announcer.follow(ctx, tiersOf(start.Trackers), false)
	go addPeers(t, start.Peers)
	over := make(chan error, 1)
	go func() { over <- link.Listen(peers.Orders{}) }()
	err = e.wait(turns, over)
	cancel()
	e.announcer.leave(false, cmp.Or(max(0, start.Options.Linger), peers.DefaultLinger))
	if errors.Is(err, io.EOF) {
		return nil // nobody waits for it any more
	}
	return err
}

// wait hands the torrent over once it is there, with the layers that verify it.
func (e *engine) wait(turns *turns, over <-chan error) error {
	link, t := e.link, e.torrent
	tick := time.NewTicker(lookForLayers)
	defer tick.Stop()
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	var patience time.Time
	for got := t.GotInfo(); ; {
		select {
		case err := <-over:
			return err
		case <-alive.C:
			if err := link.Alive(); err != nil {
				return nil
			}
			continue
		case <-got:
			if got, patience = nil, time.Now().Add(layersPatience); t.Info().HasV1() {
				patience = time.Now().Add(hybridPatience)
			}
		case now := <-tick.C:
			if got != nil {
				turns.look(now)
				continue
			}
		}
		mi := t.Metainfo()
		if !hasLayers(t, mi.PieceLayers) && time.Now().Before(patience) {
			continue
		}
		whole := map[string]any{"info": bencode.Bytes(mi.InfoBytes)}
		if hasLayers(t, mi.PieceLayers) && len(mi.PieceLayers) > 0 {
			whole["piece layers"] = mi.PieceLayers
		}
		data, err := bencode.Marshal(whole)
		if err != nil {
			return err
		}
		if err := link.Found(data); err != nil {
			return err
		}
		return <-over
	}
}

// hasLayers reports whether each file of a v2 torrent that is longer than a piece has its hashes.
func hasLayers(t *torrent.Torrent, layers map[string]string) bool {
	info := t.Info()
	if !info.HasV2() {
		return true
	}
	for _, f := range info.UpvertedFiles() {
		if f.Length > info.PieceLength && f.PiecesRoot.Ok {
			if _, ok := layers[string(f.PiecesRoot.Value[:])]; !ok {
				return false
			}
		}
	}
	return true
}
