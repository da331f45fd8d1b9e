package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
)

// tree is where the files of a torrent go. Nothing outside of dir is touched, whatever the torrent or symbolic links say.
type tree struct {
	root  *os.Root // of the directory that the user named
	name  string   // of the torrent
	files []metainfo.File
	want  []bool // by file
}

func (t *tree) path(f metainfo.File) string { return path.Join(append([]string{t.name}, f.Path...)...) }

// ReadAt reads the files that are there already as one, with zeros for padding. What is missing is an error.
func (t *tree) ReadAt(p []byte, off int64) (n int, err error) {
	clear(p)
	end := off + int64(len(p))
	for _, f := range t.files {
		from, to := max(off, f.Offset), min(end, f.Offset+f.Size)
		if from >= to {
			continue
		}
		in, err := t.open(f)
		if err != nil {
			return 0, err
		}
		_, err = in.ReadAt(p[from-off:to-off], from-f.Offset)
		in.Close()
		if err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// open opens a file that is there, if it has the right size.
func (t *tree) open(f metainfo.File) (*os.File, error) {
	info, err := t.root.Lstat(t.path(f))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return nil, fs.ErrNotExist
	}
	return t.root.Open(t.path(f))
}

// isThere reports whether all that is wanted is there and right.
func (t *tree) isThere(ctx context.Context, m *metainfo.Manifest) bool {
	for i, f := range t.files {
		if !t.want[i] {
			continue
		}
		in, err := t.open(f)
		if err != nil {
			return false
		}
		in.Close()
	}
	return t.fits(ctx, m, t)
}

// fits reports whether all pieces with something wanted in them are right in r.
func (t *tree) fits(ctx context.Context, m *metainfo.Manifest, r io.ReaderAt) bool {
	wanted := t.ranges()
	buf := make([]byte, 256<<10)
	for p := range m.Pieces() {
		from := int64(p) * m.PieceLength
		touched := wanted == nil
		for _, w := range wanted {
			touched = touched || w.From < from+m.PieceSize(p) && from < w.To
		}
		if !touched {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		if _, ok, err := m.SumPiece(r, p, buf); !ok || err != nil {
			return false
		}
	}
	return true
}

// ranges are what is wanted of all files together; nil: everything.
func (t *tree) ranges() (list []fetcher.Range) {
	all := true
	list = []fetcher.Range{}
	for i, f := range t.files {
		all = all && t.want[i]
		if t.want[i] && f.Size > 0 {
			list = append(list, fetcher.Range{From: f.Offset, To: f.Offset + f.Size})
		}
	}
	if all {
		return nil
	}
	return list
}

// split makes files of what they are together, from the last one on: what has become a file is cut off, so that there is never
// more than one file twice, and a later run goes on wherever this one was killed.
func (t *tree) split(ctx context.Context, whole string) error {
	in, err := os.OpenFile(whole, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", fetcher.ErrWrite, err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", fetcher.ErrWrite, err)
	}
	size := info.Size()
	for i := len(t.files) - 1; i >= 0; i-- {
		f := t.files[i]
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.Offset+f.Size > size || !t.want[i] { // cut off already, or not wanted
			continue
		}
		if f.Size == 0 {
			if old, err := t.open(f); err == nil {
				old.Close()
				continue
			}
		}
		if err := t.place(f, in); err != nil {
			return fmt.Errorf("%w: %w", fetcher.ErrWrite, err)
		}
		if f.Size > 0 {
			if size = f.Offset; in.Truncate(size) != nil {
				return fmt.Errorf("%w: %s cannot be cut", fetcher.ErrWrite, whole)
			}
		}
	}
	if err := os.Remove(whole); err != nil {
		return fmt.Errorf("%w: %w", fetcher.ErrWrite, err)
	}
	return nil
}

// place makes one file appear, whole.
func (t *tree) place(f metainfo.File, in io.ReaderAt) error {
	at := t.path(f)
	if err := t.root.MkdirAll(path.Dir(at), 0o777); err != nil {
		return err
	}
	if info, err := t.root.Lstat(at); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", at)
	}
	temporary := path.Join(path.Dir(at), ".torrent-xfer."+rand.Text()[:8])
	out, err := t.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(in, f.Offset, f.Size))
	if err = errors.Join(err, out.Close()); err == nil {
		err = t.root.Rename(temporary, at)
	}
	if err != nil {
		t.root.Remove(temporary)
	}
	return err
}

// choose reads --select: numbers and ranges of files, which count from 0 as in a magnet link, and patterns of paths or names.
func (t *tree) choose(spans []metainfo.Span, patterns []string) error {
	all := spans == nil && patterns == nil
	some := all
	for i, f := range t.files {
		t.want[i] = all
		for _, s := range spans {
			t.want[i] = t.want[i] || s.First <= i && i <= s.Last
		}
		below := strings.Join(f.Path, "/")
		for _, p := range patterns {
			for _, name := range []string{below, path.Base(below), t.name + "/" + below} {
				ok, err := path.Match(p, name)
				if err != nil {
					return usageError("--select: %q is no pattern", p)
				}
				t.want[i] = t.want[i] || ok
			}
		}
		some = some || t.want[i]
	}
	if !some {
		return usageError("--select: the torrent has no such file; torrent-xfer metainfo lists them")
	}
	return nil
}

// gathered is where the files of a torrent are gathered; each choice of files has its own.
func (t *tree) gathered(dir string, m *metainfo.Manifest) string {
	name := "." + m.InfoHash[:40]
	if t.ranges() != nil {
		name += fmt.Sprintf("-%08x", crc32.ChecksumIEEE(fmt.Append(nil, t.want)))
	}
	return filepath.Join(dir, name+".files")
}

// halfSplit is what an earlier run was killed at: the first files are in whole, the others have their places.
type halfSplit struct {
	whole *os.File
	size  int64
	tree  *tree
}

func (h halfSplit) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < h.size {
		var err error
		if n, err = h.whole.ReadAt(p[:min(int64(len(p)), h.size-off)], off); err != nil {
			return n, err
		}
	}
	k, err := h.tree.ReadAt(p[n:], off+int64(n))
	return n + k, err
}

// goOn reports whether an earlier run was killed while it split what it had, and whether that is still right.
func (t *tree) goOn(ctx context.Context, m *metainfo.Manifest, whole string) bool {
	f, err := os.OpenFile(whole, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() <= m.Size && t.fits(ctx, m, halfSplit{f, info.Size(), t})
}
