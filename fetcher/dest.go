package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	partialSuffix = ".torrent-xfer"
	journalSuffix = ".journal"
	lockPatience  = 2 * time.Minute
	partialMaxAge = 7 * 24 * time.Hour
)

// destination is where the file is going to appear, and the partial file that waits there.
type destination struct {
	path    string
	partial string
	file    *os.File
	mtime   time.Time // of the content; zero: now
	before  os.FileInfo
}

// checkDest refuses what a file must not replace.
func checkDest(path string) (os.FileInfo, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: no destination", ErrRequest)
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%w: %s is a directory", ErrWrite, path)
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrWrite, path)
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if !dir.IsDir() {
		return nil, fmt.Errorf("%w: %s is not a directory", ErrWrite, filepath.Dir(path))
	}
	return info, nil
}

// partialPath names the hidden file beside dest in which unfinished bytes wait.
func partialPath(dest string) string {
	dir, base := filepath.Split(dest)
	if n := 255 - len(partialSuffix) - max(len(journalSuffix), len(".4294967295")) - 1; len(base) > n {
		base = base[:n]
	}
	return dir + "." + base + partialSuffix
}

// openDest opens, and locks, the partial file. It waits for another process that has it. done: that process has put the
// file at path meanwhile.
func openDest(ctx context.Context, path, partial string) (d *destination, done bool, err error) {
	before, err := checkDest(path)
	if err != nil {
		return nil, false, err
	}
	if partial == "" {
		partial = partialPath(path)
	}
	d = &destination{path: path, partial: partial, before: before}
	for {
		f, err := openOwn(partial)
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrWrite, err)
		}
		waited, err := lock(ctx, f)
		if errors.Is(err, errIdle) {
			f.Close()
			d, err := openVolatile(path)
			return d, false, err
		}
		if err != nil {
			f.Close()
			return nil, false, err
		}
		if waited {
			if now, err := os.Stat(path); err == nil && now.Mode().IsRegular() && (before == nil || !os.SameFile(before, now) || !before.ModTime().Equal(now.ModTime())) {
				f.Close()
				return d, true, nil
			}
		}
		d.file = f
		if d.inPlace() {
			return d, false, nil
		}
		f.Close() // renamed or removed while we waited
	}
}

// openOwn opens path, which must be a regular file of our own with one name. Anything else under that name is removed.
// A file created here is our own, whomever a network file system says it belongs to.
func openOwn(path string) (*os.File, error) {
	for range 10 {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		foreign := true
		switch {
		case err == nil && ours(f):
			return f, nil
		case err == nil:
			foreign = links(f) > 0 // else somebody has removed it just now, and it is not what bears the name
			f.Close()
		case errors.Is(err, fs.ErrNotExist):
			foreign = false
		case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, fs.ErrPermission):
		default:
			return nil, err
		}
		// What bears the name by now may be another process's, so only what was seen to be foreign is removed.
		if foreign {
			if rm := unix.Unlink(path); rm != nil && !errors.Is(rm, unix.ENOENT) {
				return nil, &fs.PathError{Op: "unlink", Path: path, Err: rm}
			}
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s keeps changing", path)
}

func ours(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&(unix.S_IFMT|unix.S_ISUID|unix.S_ISGID) == unix.S_IFREG && st.Nlink == 1 &&
		int(st.Uid) == os.Geteuid()
}

// links returns the number of names that f has.
func links(f *os.File) uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return uint64(st.Nlink)
}

// errIdle: whoever has the lock does nothing with it.
var errIdle = errors.New("the partial file is locked, and nobody writes to it")

// lock waits for f's lock as long as f changes: anybody who can read the file can lock it, and a holder may be stopped.
func lock(ctx context.Context, f *os.File) (waited bool, err error) {
	var changed time.Time
	var size int64
	since := time.Now()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return waited, nil // err: a file system without locks, where two processes do the work twice
		}
		waited = true
		if info, err := f.Stat(); err == nil && (!info.ModTime().Equal(changed) || info.Size() != size) {
			changed, size, since = info.ModTime(), info.Size(), time.Now()
		}
		if time.Since(since) > lockPatience {
			return waited, errIdle
		}
		select {
		case <-ctx.Done():
			return waited, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// openVolatile opens a partial file that nobody else has and of which nothing is kept.
func openVolatile(path string) (*destination, error) {
	before, err := checkDest(path)
	if err != nil {
		return nil, err
	}
	for range 100 {
		partial := fmt.Sprintf("%s.%d", partialPath(path), rand.Uint32())
		f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case err == nil:
			return &destination{path: path, partial: partial, before: before, file: f}, nil
		case !errors.Is(err, fs.ErrExist):
			return nil, fmt.Errorf("%w: %w", ErrWrite, err)
		}
	}
	return nil, fmt.Errorf("%w: no free name beside %s", ErrWrite, path)
}

// openJournal opens what an earlier run wrote, nil if there is nothing of our own.
func (d *destination) openJournal() *os.File {
	f, err := os.OpenFile(d.partial+journalSuffix, os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if !ours(f) {
		f.Close()
		return nil
	}
	return f
}

// commit makes the file appear, whole, in one step.
func (d *destination) commit(size int64) error {
	if err := d.file.Truncate(size); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if !d.mtime.IsZero() {
		tv := unix.NsecToTimeval(d.mtime.UnixNano())
		unix.Futimes(int(d.file.Fd()), []unix.Timeval{tv, tv}) // a wrong date is better than no file
	}
	if _, err := checkDest(d.path); err != nil {
		return err
	}
	if !d.inPlace() { // removed by hand, or another user's process took it for a stranger's
		return fmt.Errorf("%w: %s was removed or replaced meanwhile", ErrWrite, d.partial)
	}
	if err := os.Rename(d.partial, d.path); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// abandon removes a partial file that is of no use to a later run.
func (d *destination) abandon() {
	if d.inPlace() {
		os.Remove(d.partial)
	}
}

// inPlace reports whether the partial file still bears its name.
func (d *destination) inPlace() bool {
	mine, err1 := d.file.Stat()
	there, err2 := os.Lstat(d.partial)
	return err1 == nil && err2 == nil && os.SameFile(mine, there)
}

// sweep removes partial files of our own in dir that nobody has touched for seven days.
func sweep(dir string, now time.Time) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	for _, name := range names {
		stem := strings.TrimSuffix(name, journalSuffix)
		if i := strings.LastIndexByte(stem, '.'); i > 0 && strings.Trim(stem[i:], ".0123456789") == "" {
			stem = stem[:i] // of a volatile file
		}
		if !strings.HasPrefix(stem, ".") || !strings.HasSuffix(stem, partialSuffix) {
			continue
		}
		path := filepath.Join(dir, name)
		old, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		info, err := old.Stat()
		if err == nil && ours(old) && now.Sub(info.ModTime()) > partialMaxAge && unix.Flock(int(old.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(path)
		}
		old.Close()
	}
}
