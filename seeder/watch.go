package seeder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"torrent-xfer/metainfo"
)

const (
	lookEvery     = time.Minute
	torrentSuffix = ".torrent"
	findAgain     = 24 * time.Hour // what has no torrent may get one
	failedAgain   = 10 * time.Minute
)

// ErrNoTorrent is what a Daemon's Find wraps if there is no torrent of a file.
var ErrNoTorrent = errors.New("there is no torrent of it")

// looked is a watched file that is not offered.
type looked struct {
	identity
	again time.Time // to look for its torrent; zero: not before it changes
}

// twin is a watched file that is in the library otherwise.
type twin struct {
	identity
	id ID
}

// watch looks at the watched directories every minute, and whenever the configuration is read.
func (d *Daemon) watch(ctx context.Context) {
	known := map[string]looked{}
	for {
		d.look(ctx, known)
		select {
		case <-ctx.Done():
			return
		case <-d.relook:
		case <-time.After(lookEvery):
		}
	}
}

// look offers what has come and drops what has changed or gone.
func (d *Daemon) look(ctx context.Context, known map[string]looked) {
	d.mu.Lock()
	dirs := d.config.Watch
	d.mu.Unlock()
	here := map[string]ID{}
	for _, e := range d.Library.Entries() {
		if e.Path == "" || ctx.Err() != nil {
			continue
		}
		info, err := os.Lstat(e.Path)
		d.mu.Lock()
		_, doubted := d.doubts[e.ID] // it is verified in time
		d.mu.Unlock()
		switch {
		case !slices.Contains(dirs, filepath.Dir(e.Path)):
			d.forget(e, "its directory is not watched any more")
		case err != nil:
			d.forget(e, err.Error())
		case identityOf(info) != e.Seen && !doubted:
			d.recheck(ctx, e.ID)
		}
		if e, ok := d.Library.Entry(e.ID); ok {
			here[e.Path] = e.ID
		}
	}
	there := map[string]bool{}
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if err != nil {
			d.once(known, dir, "cannot be watched: "+err.Error())
			continue
		}
		for _, f := range list {
			path := filepath.Join(dir, f.Name())
			if ctx.Err() != nil {
				return
			}
			if there[path] = true; here[path] == (ID{}) && f.Type().IsRegular() && f.Name()[0] != '.' && !strings.HasSuffix(f.Name(), torrentSuffix) {
				d.lookAt(ctx, known, path)
			}
		}
	}
	for path := range known {
		if !there[path] && !slices.Contains(dirs, path) {
			delete(known, path)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.twins, func(path string, _ twin) bool { return !there[path] })
}

// once tells of a problem that lasts.
func (d *Daemon) once(known map[string]looked, path, what string) {
	if _, told := known[path]; !told {
		known[path] = looked{}
		d.blame(path, what)
	}
}

func (d *Daemon) lookAt(ctx context.Context, known map[string]looked, path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	is, now := identityOf(info), time.Now()
	if k, ok := known[path]; ok && k.identity == is && (k.again.IsZero() || now.Before(k.again)) {
		return
	}
	d.mu.Lock()
	left := d.state.Left[path] == is
	clock := d.state.Clock
	t := d.twins[path]
	d.mu.Unlock()
	if _, there := d.Library.Entry(t.id); left || there && t.identity == is {
		return
	}
	o, err := d.torrentOf(ctx, path, info.Size())
	var e Entry
	if err == nil {
		o.Since = clock
		if e, err = d.Library.Link(ctx, o, path); err == nil {
			delete(known, path)
			d.Log.Info("found", "name", e.Name, "torrent", e.ID)
			d.offer(e)
			return
		}
	}
	k := looked{identity: is}
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, ErrKnown):
		k.again = now.Add(failedAgain) // should the library lose it
		d.mu.Lock()
		d.twins[path] = twin{is, e.ID}
		d.mu.Unlock()
	case errors.Is(err, ErrNoTorrent):
		k.again = now.Add(findAgain)
	case errors.Is(err, ErrWrong), errors.Is(err, ErrChanged), errors.Is(err, metainfo.ErrUnusable):
		d.blame(path, "not offered: "+err.Error())
	default:
		k.again = now.Add(failedAgain)
		d.Log.Info("not offered", "file", path, "why", err)
	}
	known[path] = k
}

// torrentOf finds the torrent of a watched file: beside it, or where Find does.
func (d *Daemon) torrentOf(ctx context.Context, path string, size int64) (o Offer, err error) {
	f, err := os.OpenFile(path+torrentSuffix, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		defer f.Close()
		if info, serr := f.Stat(); serr == nil && info.Mode().IsRegular() {
			o.Metainfo, err = io.ReadAll(io.LimitReader(f, metainfo.MaxSize+1))
			return o, err
		}
	}
	if d.Find == nil {
		return o, ErrNoTorrent
	}
	return d.Find(ctx, filepath.Base(path), size)
}

// Link makes a file outside of the library an entry, if it fits o, without a copy. o.Content is not used.
func (l *Library) Link(ctx context.Context, o Offer, path string) (e Entry, err error) {
	m, err := metainfo.Parse(o.Metainfo, "")
	if err != nil {
		return e, err
	}
	e = newEntry(m, o)
	e.Path = path
	l.adding.Lock()
	defer l.adding.Unlock()
	if _, known := l.Entry(e.ID); known {
		return e, ErrKnown
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return e, err
	}
	defer f.Close()
	if e.Seen, err = verify(ctx, m, f); err != nil {
		return e, err
	}
	temp, err := os.MkdirTemp(l.dir, unfinished)
	if err != nil {
		return e, err
	}
	defer os.RemoveAll(temp)
	return e, l.commit(temp, e, o.Metainfo)
}

// commit makes what is in temp an entry, and writes what is known of it there before.
func (l *Library) commit(temp string, e Entry, torrent []byte) error {
	text, err := json.Marshal(e)
	if err == nil {
		err = writeSynced(filepath.Join(temp, recordFile), text)
	}
	if err == nil {
		err = writeSynced(filepath.Join(temp, torrentFile), torrent)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(l.dir, e.ID.String())); err != nil {
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("library: %w", err)
		}
		return ErrKnown
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[e.ID] = e
	return nil
}
