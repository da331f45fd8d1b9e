package publisher

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

func (p *publication) check(ctx context.Context) error {
	t, err := p.walk(ctx)
	if err != nil {
		return err
	}
	p.report.Files = len(t.files)
	var total int64
	for _, f := range t.files {
		total += f.size
	}
	p.event(Event{Kind: Planned, Bytes: total})
	queue := make(chan found)
	var workers sync.WaitGroup
	for range p.o.Jobs {
		workers.Go(func() {
			for f := range queue {
				if ctx.Err() != nil {
					continue
				}
				if err := p.checkFile(ctx, f); err != nil && ctx.Err() == nil {
					p.problem(f.path, err)
				}
			}
		})
	}
	for _, f := range t.files {
		queue <- f
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

// checkFile compares one name with its torrent, and with its metalink if there is one.
func (p *publication) checkFile(ctx context.Context, f found) error {
	output := p.o.output(f.path)
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
	if m, err := metainfo.Parse(data, ""); err != nil || m.Name != path.Base(f.path) {
		return errors.New("its torrent is of a file of another name")
	}
	r, info, err := p.openContent(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	if info.Size() != want.Size {
		return fmt.Errorf("it has %d bytes, its torrent says %d", info.Size(), want.Size)
	}
	meta4, err := p.readOutput(output + metalinkSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its metalink: %w", err)
	}
	o := metainfo.HashOptions{Version: want.Version, PieceLength: want.PieceLength, Workers: 1, WholeSHA256: meta4 != nil,
		OnBytes: func(n int) { p.event(Event{Kind: Progress, Bytes: int64(n)}) }}
	now, err := metainfo.Hash(ctx, r, want.Size, o)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errChanged
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.report.Hashed++
	p.mu.Unlock()
	if wrong := differences(want, now); len(wrong) > 0 {
		return fmt.Errorf("it differs from its torrent: %s", strings.Join(wrong, ", "))
	}
	if meta4 != nil {
		d, err := metalink.Parse(meta4)
		if err != nil {
			return fmt.Errorf("its metalink: %w", err)
		}
		if !slices.ContainsFunc(d.Files, func(m metalink.File) bool {
			return m.Name == path.Base(f.path) && m.Size == want.Size && bytes.Equal(m.SHA256, now.SHA256)
		}) {
			return errors.New("its metalink is of another content")
		}
	}
	return nil
}

// differences tells, in words, which of the pieces of want are others in now. Both have one size, version and piece length.
func differences(want, now *metainfo.Hashes) (wrong []string) {
	const most = 5
	add := func(kind string, a, b []byte, n int) {
		var list []int
		for i := 0; i+n <= min(len(a), len(b)); i += n {
			if !bytes.Equal(a[i:i+n], b[i:i+n]) {
				list = append(list, i/n)
			}
		}
		switch {
		case len(list) > most:
			wrong = append(wrong, fmt.Sprintf("%s pieces %s and %d more", kind, joined(list[:most]), len(list)-most))
		case len(list) > 0:
			wrong = append(wrong, fmt.Sprintf("%s piece %s", kind, joined(list)))
		}
	}
	add("v1", want.Pieces, now.Pieces, sha1.Size)
	add("v2", want.Layer, now.Layer, sha256.Size)
	if want.Layer == nil {
		add("v2", want.Root[:], now.Root[:], sha256.Size)
	}
	return wrong
}

func joined(list []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(list), "[]"), " ", ", ")
}
