package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"

	"golang.org/x/sys/unix"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// verdict is what is thought of something that bears the name of an output.
type verdict int

const (
	ours    verdict = iota // or of no use: to be replaced
	same                   // what would be written
	foreign                // somebody else's, and right
	unknown                // neither a torrent nor a metalink, or not of this file
)

// put writes data in dir, which is that of the output name, unless it is there. What others made stays, with a note, unless
// Force is set. Whoever may read mode may read it.
func (p *publication) put(dir folder, name string, data []byte, left product, mode fs.FileMode,
	judge func([]byte) (verdict, error)) (product, error) {
	base := path.Base(name)
	f, _, _ := dir.look(base) // first: if it changes now, the next run sees it
	there, err := dir.read(base, metainfo.MaxSize)
	now := product{stamp: f.stamp, digest: digestOf(there)}
	known := left.digest != [16]byte{} && !left.foreign
	what := ours
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return product{}, fmt.Errorf("%s: %w", base, err)
	case bytes.Equal(there, data):
		what = same
	case p.o.Force, len(there) == 0, known && now.digest == left.digest:
	default:
		if what, err = judge(there); err != nil {
			return product{}, err
		}
		if what == unknown && known {
			what = ours // it was damaged
		}
	}
	switch what {
	case same:
		p.mend(dir, base, f.mode, mode)
		return now, nil
	case foreign:
		p.note(name, "others made it, and it is right, so it stays; --force replaces it")
		now.foreign = true
		return now, nil
	case unknown:
		return product{}, fmt.Errorf("there is something else called %s; --force replaces it", base)
	}
	now = product{digest: digestOf(data)}
	if p.write {
		if now.stamp, err = dir.replace(base, data, mode); err != nil {
			return product{}, fmt.Errorf("%s: %w", base, err)
		}
	}
	p.event(Event{Kind: Wrote, Path: name})
	return now, nil
}

// readable are the bits by which others may read.
const readable = 0o444

// mend lets those read an output of ours that may read its file.
func (p *publication) mend(dir folder, name string, is, file fs.FileMode) {
	if !p.write || file&readable&^is == 0 {
		return
	}
	if f, err := dir.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
		f.Chmod(is | file&readable) // unless it is another user's
		f.Close()
	}
}

// readOutput reads an output. Links are not followed.
func (p *publication) readOutput(name string) ([]byte, error) {
	dir, base := split(name)
	d, err := p.out.below(dir, 0)
	if err != nil {
		return nil, err
	}
	defer d.close()
	return d.read(base, metainfo.MaxSize)
}

// judge compares a torrent that is there with the one that would be written. One that does not fit the file is of no use
// to anybody, whoever made it.
func (p *publication) judge(ctx context.Context, there, data []byte, name string, c *content) (verdict, error) {
	m, err := metainfo.Parse(there, "")
	if err != nil || m.Name != path.Base(name) {
		return unknown, nil
	}
	want, err := metainfo.Parse(data, "")
	if err != nil || m.InfoHash == want.InfoHash || m.Size != want.Size {
		return ours, err
	}
	h, err := metainfo.HashesOf(there)
	if err != nil {
		return unknown, nil
	}
	f, now, err := p.openContent(name)
	if err != nil {
		return unknown, err
	}
	defer f.Close()
	if now.stamp != c.stamp {
		return unknown, errChanged
	}
	is, err := metainfo.Hash(ctx, f, c.size, metainfo.HashOptions{Version: h.Version, PieceLength: h.PieceLength, Workers: 1})
	if err == nil && len(differences(h, is)) == 0 {
		return foreign, nil
	}
	return ours, err
}

// judgeMetalink compares a metalink that is there with the one that would be written.
func judgeMetalink(there, data []byte) (verdict, error) {
	want, err := metalink.Parse(data)
	if err != nil {
		return unknown, err
	}
	d, err := metalink.Parse(there)
	if err != nil || len(d.Files) != 1 || d.Files[0].Name != want.Files[0].Name {
		return unknown, nil
	}
	is, should := d.Files[0], want.Files[0]
	right := is.Size == should.Size && (is.SHA256 == nil || bytes.Equal(is.SHA256, should.SHA256))
	if right && (is.SHA256 == nil || !reflect.DeepEqual(is.Pieces, should.Pieces)) {
		return foreign, nil
	}
	return ours, nil
}

// metalink describes the file of the torrent in data.
func (p *publication) metalink(name string, data []byte, h *metainfo.Hashes) ([]byte, error) {
	m, err := metainfo.Parse(data, "")
	if err != nil {
		return nil, err
	}
	f := metalink.File{Name: m.Name, Size: m.Size, SHA256: h.SHA256}
	if h.Pieces != nil {
		f.Pieces = metalink.Pieces{Length: h.PieceLength, Kind: metalink.SHA1, Hashes: h.Pieces}
	}
	for i, seed := range m.WebSeeds {
		f.URLs = append(f.URLs, metalink.URL{URL: seed, Priority: i + 1})
	}
	if p.torrentsAt != "" {
		all := p.webSeeds(path.Join(p.torrentsAt, p.o.output(name)+torrentSuffix))
		for i, at := range all[:min(len(all), metainfo.MaxWebSeeds)] {
			f.Torrents = append(f.Torrents, metalink.URL{URL: at, Priority: i + 1})
		}
	}
	var b bytes.Buffer
	err = metalink.Write(&b, &metalink.Document{Files: []metalink.File{f}})
	return b.Bytes(), err
}
