package publisher

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

func (p *publication) check(ctx context.Context) error {
	t, err := p.walk(ctx)
	if err != nil {
		return err
	}
	p.report.Files = len(t.files)
	of := map[identity]*content{}
	var list []*content
	var total int64
	for _, f := range t.files {
		c := of[f.id()]
		if c == nil {
			c = &content{stamp: f.stamp, device: f.device}
			of[f.id()] = c
			total += f.size
			list = append(list, c)
		}
		c.names = append(c.names, f.path)
	}
	p.event(Event{Kind: Planned, Bytes: total})
	p.smallFirst(ctx, list, func(c *content, workers int) { p.checkContent(ctx, c, workers) })
	return context.Cause(ctx)
}

// checkContent compares c with the torrents and metalinks of all its names. It is read once if they are alike.
func (p *publication) checkContent(ctx context.Context, c *content, workers int) {
	type kind struct {
		version     metainfo.Version
		pieceLength int64
		whole       bool
	}
	known := map[kind]*metainfo.Hashes{}
	hash := func(of *metainfo.Hashes, whole bool) (*metainfo.Hashes, error) {
		k := kind{of.Version, of.PieceLength, whole}
		if known[k] != nil {
			return known[k], nil
		}
		f, now, err := p.openContent(c.names[0])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if now.size != of.Size {
			return nil, fmt.Errorf("it has %d bytes, its torrent says %d", now.size, of.Size)
		}
		known[k], err = p.hashOpen(ctx, f, now.stamp, metainfo.HashOptions{Version: k.version, PieceLength: k.pieceLength,
			Workers: workers, WholeSHA256: whole})
		return known[k], err
	}
	for _, name := range c.names {
		if err := p.checkName(name, hash); err != nil && ctx.Err() == nil {
			p.problem(name, err)
		}
	}
}

// checkName compares one name with its torrent, and with its metalink if there is one.
func (p *publication) checkName(name string, hash func(of *metainfo.Hashes, whole bool) (*metainfo.Hashes, error)) error {
	output := p.o.output(name)
	data, err := p.readOutput(output + torrentSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it has no torrent")
	}
	if err != nil {
		return fmt.Errorf("its torrent: %w", err)
	}
	want, err := metainfo.HashesOf(data)
	if err != nil {
		return fmt.Errorf("its torrent: %w", err)
	}
	if m, err := metainfo.Parse(data, ""); err != nil || m.Name != path.Base(name) {
		return errors.New("its torrent is of a file of another name")
	}
	meta4, err := p.readOutput(output + metalinkSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its metalink: %w", err)
	}
	now, err := hash(want, meta4 != nil)
	if err != nil {
		return err
	}
	if now.Size != want.Size {
		return fmt.Errorf("it has %d bytes, its torrent says %d", now.Size, want.Size)
	}
	if wrong := differences(want, now); len(wrong) > 0 {
		return fmt.Errorf("it differs from its torrent: %s", strings.Join(wrong, ", "))
	}
	if meta4 == nil {
		return nil
	}
	d, err := metalink.Parse(meta4)
	if err != nil {
		return fmt.Errorf("its metalink: %w", err)
	}
	if !slices.ContainsFunc(d.Files, func(m metalink.File) bool {
		return m.Name == path.Base(name) && m.Size == want.Size && bytes.Equal(m.SHA256, now.SHA256) && piecesFit(m.Pieces, now)
	}) {
		return errors.New("its metalink is of another content")
	}
	return nil
}

// piecesFit reports whether p says nothing else than h, as far as they can be compared.
func piecesFit(p metalink.Pieces, h *metainfo.Hashes) bool {
	return h.Pieces == nil || p.Kind != metalink.SHA1 || p.Length != h.PieceLength || bytes.Equal(p.Hashes, h.Pieces)
}

// differences tells, in words, which of the pieces of want are others in now. Both have one size, version and piece length.
func differences(want, now *metainfo.Hashes) (wrong []string) {
	add := func(kind string, a, b []byte, n int) {
		var list []int
		for i := 0; i+n <= min(len(a), len(b)); i += n {
			if !bytes.Equal(a[i:i+n], b[i:i+n]) {
				list = append(list, i/n)
			}
		}
		if len(list) == 1 {
			wrong = append(wrong, fmt.Sprintf("%s piece %d", kind, list[0]))
		} else if len(list) > 1 {
			wrong = append(wrong, fmt.Sprintf("%s pieces %s", kind, ranges(list)))
		}
	}
	add("v1", want.Pieces, now.Pieces, sha1.Size)
	add("v2", want.Layer, now.Layer, sha256.Size)
	if want.Layer == nil {
		add("v2", want.Root[:], now.Root[:], sha256.Size)
	}
	return wrong
}

// ranges writes an ascending list, the first of it at least: 1, 4-7 and 12 more.
func ranges(list []int) string {
	const most = 5
	var parts []string
	for i := 0; i < len(list); {
		n := 1
		for i+n < len(list) && list[i+n] == list[i]+n {
			n++
		}
		switch {
		case len(parts) == most:
			return fmt.Sprintf("%s and %d more", strings.Join(parts, ", "), len(list)-i)
		case n == 1:
			parts = append(parts, fmt.Sprint(list[i]))
		default:
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[i]+n-1))
		}
		i += n
	}
	return strings.Join(parts, ", ")
}
