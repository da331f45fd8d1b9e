package publisher

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// verdict is what is thought of something that bears the name of an output and differs from what would be written.
type verdict int

const (
	ours    verdict = iota // to be replaced
	foreign                // somebody else's, and right
	unknown                // neither a torrent nor a metalink, or not of this file
)

// put writes data unless it is there. What others made stays, with a note, unless Force is set.
func (p *publication) put(name string, data []byte, left product, judge func([]byte) verdict) (product, bool, error) {
	there, err := p.readOutput(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return product{}, false, err
	case bytes.Equal(there, data):
		info, err := p.out.Lstat(name)
		if err != nil {
			return product{}, false, err
		}
		return product{stampOf(info), digestOf(data)}, false, nil
	case p.o.Force || digestOf(there) == left.digest:
	default:
		what := judge(there)
		if what == ours {
			break
		}
		if what == unknown {
			return product{}, false, errors.New("there is something else of that name; --force replaces it")
		}
		info, err := p.out.Lstat(name)
		if err != nil {
			return product{}, false, err
		}
		p.note(name, "others made it, and it is right, so it stays; --force replaces it")
		return product{stampOf(info), digestOf(there)}, true, nil
	}
	made, err := p.replace(name, data)
	if err == nil {
		p.event(Event{Kind: Wrote, Path: name})
	}
	return made, false, err
}

// readOutput reads an output. Links are not followed.
func (p *publication) readOutput(name string) ([]byte, error) {
	info, err := p.out.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := p.out.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, metainfo.MaxSize+1))
}

// judge compares a torrent that is there with the one that would be written. One that does not fit the file is of no use
// to anybody, whoever made it.
func (p *publication) judge(ctx context.Context, there, data []byte, name string, c *content) verdict {
	m, err := metainfo.Parse(there, "")
	if err != nil || m.Name != path.Base(name) {
		return unknown
	}
	want, err := metainfo.Parse(data, "")
	if err != nil || m.InfoHash == want.InfoHash || m.Size != want.Size {
		return ours
	}
	h, err := metainfo.HashesOf(there)
	if err != nil {
		return unknown
	}
	f, _, err := p.openContent(name)
	if err != nil {
		return foreign
	}
	defer f.Close()
	now, err := metainfo.Hash(ctx, f, c.size, metainfo.HashOptions{Version: h.Version, PieceLength: h.PieceLength, Workers: 1})
	if err == nil && len(differences(h, now)) > 0 {
		return ours
	}
	return foreign
}

// judgeMetalink takes each metalink of the file for ours: a digest that differs is that of an earlier content.
func judgeMetalink(there []byte, name string) verdict {
	if d, err := metalink.Parse(there); err != nil || len(d.Files) != 1 || d.Files[0].Name != name {
		return unknown
	}
	return ours
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
		if p.beside() {
			f.Torrents = append(f.Torrents, metalink.URL{URL: seed + torrentSuffix, Priority: i + 1})
		}
	}
	var b bytes.Buffer
	err = metalink.Write(&b, &metalink.Document{Files: []metalink.File{f}})
	return b.Bytes(), err
}
