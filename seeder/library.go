package seeder

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"torrent-xfer/metainfo"
)

// ID is an info hash as peers know it: v1, or truncated v2 (BEP 52).
type ID [20]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(id) {
		return fmt.Errorf("%q is no info hash", text)
	}
	*id = ID(raw)
	return nil
}

var (
	ErrKnown   = errors.New("it is in the library already")
	ErrRoom    = errors.New("it does not fit the budget of disk")
	ErrWrong   = errors.New("the content does not fit its torrent")
	ErrUnknown = errors.New("it is not in the library")
	ErrChanged = errors.New("the content has changed")
	ErrLocked  = errors.New("another process uses the library")
	ErrForeign = errors.New("the directory is not empty and no library; name another, or a new one in it")

	errRecord = errors.New("not a record of the library's")
)

const (
	torrentFile = "torrent"
	contentFile = "content"
	recordFile  = "record.json"
	lockFile    = "torrent-xfer.lock"     // tells a library from other directories too
	unfinished  = ".torrent-xfer-unused-" // prefix of directories that are none of the library yet, or not any more
	maxRecord   = 1 << 20
)

// Entry is what the library knows of one file.
type Entry struct {
	ID       ID         `json:"-"`
	V2       ID         `json:"v2,omitzero"` // of a hybrid: its truncated v2 info hash; zero: none
	Name     string     `json:"name"`        // as the torrent says; never used to write
	Size     int64      `json:"size"`        // bytes
	URL      string     `json:"url,omitempty"`
	Trackers [][]string `json:"trackers,omitempty"`
	Hosts    []string   `json:"hosts,omitempty"` // on which trackers may stand, see Offer
	Private  bool       `json:"private,omitempty"`
	Added    time.Time  `json:"added"`
	Path     string     `json:"path,omitempty"` // of content that is watched where it lies; "": it is a copy of the library's own
	Since    int64      `json:"since_s"`        // the seeding clock then, see state
	Seen     identity   `json:"seen"`           // the content when it was verified
}

// identity is what tells cheaply that content is still what was verified. There is no device number, since it changes with a
// reboot.
type identity struct {
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime_ns"`
	Inode   uint64 `json:"inode"`
}

func identityOf(info fs.FileInfo) identity {
	id := identity{Size: info.Size(), ModTime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Inode = st.Ino
	}
	return id
}

// Library is a directory of finished files, each in a directory of its own that appears and goes by one rename.
type Library struct {
	dir  string
	lock *os.File

	mu      sync.Mutex
	entries map[ID]Entry
	adding  sync.Mutex // one at a time, so that the budget holds
}

// CheckLibrary returns an error that wraps ErrForeign if OpenLibrary would refuse dir, since there is something in it that is not a
// library's. It may be empty, and may not be there.
func CheckLibrary(dir string) error {
	list, err := os.ReadDir(dir)
	ours := slices.ContainsFunc(list, func(f fs.DirEntry) bool { return f.Name() == lockFile && f.Type().IsRegular() })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && len(list) > 0 && !ours:
		err = fmt.Errorf("%s: %w", dir, ErrForeign)
	}
	return err
}

// OpenLibrary reads the library in dir, which is made if it is not there. What a crash has left behind is removed; no content
// is read. ErrForeign: see CheckLibrary. stale are entries whose content is not what was verified: they are not offered until Recheck.
func OpenLibrary(dir string) (l *Library, stale []ID, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	if err := CheckLibrary(dir); err != nil {
		return nil, nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, nil, fmt.Errorf("%s: %w", dir, ErrLocked)
	}
	l = &Library{dir: dir, lock: lock, entries: map[ID]Entry{}}
	names, err := os.ReadDir(dir)
	if err != nil {
		lock.Close()
		return nil, nil, err
	}
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		if strings.HasPrefix(n.Name(), unfinished) {
			os.RemoveAll(path)
			continue
		}
		raw, err := hex.DecodeString(n.Name())
		if err != nil || len(raw) != len(ID{}) || !n.IsDir() {
			continue
		}
		e, err := readEntry(path)
		if err != nil {
			if hopeless(err) {
				l.discard(path)
			}
			continue
		}
		e.ID = ID(raw)
		l.entries[e.ID] = e
		info, err := os.Lstat(l.content(e))
		switch {
		case err != nil && hopeless(err):
			l.Remove(e.ID)
		case err != nil || identityOf(info) != e.Seen:
			stale = append(stale, e.ID)
		}
	}
	return l, stale, nil
}

// Close lets another process use the library.
func (l *Library) Close() error { return l.lock.Close() }

func readEntry(dir string) (e Entry, err error) {
	f, err := os.Open(filepath.Join(dir, recordFile))
	if err != nil {
		return e, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, fmt.Errorf("%w: %w", errRecord, err)
	}
	return e, nil
}

// content is where an entry's content lies.
func (l *Library) content(e Entry) string {
	if e.Path != "" {
		return e.Path
	}
	return l.path(e.ID, contentFile)
}

func (l *Library) path(id ID, name string) string { return filepath.Join(l.dir, id.String(), name) }

// Entries are all entries, the oldest first.
func (l *Library) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Entry, 0, len(l.entries))
	for _, e := range l.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		if c := a.Added.Compare(b.Added); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	return list
}

// Entry returns one of them.
func (l *Library) Entry(id ID) (e Entry, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok = l.entries[id]
	return e, ok
}

// Size is the sum of all content of the library's own in bytes.
func (l *Library) Size() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.Path == "" {
			n += e.Size
		}
	}
	return n
}

// Metainfo reads the torrent of an entry.
func (l *Library) Metainfo(id ID) ([]byte, error) {
	f, err := os.Open(l.path(id, torrentFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, metainfo.MaxSize+1))
}

// Open opens the content of an entry for reading. ErrChanged: it is not what was verified.
func (l *Library) Open(id ID) (*os.File, error) {
	l.mu.Lock()
	e, ok := l.entries[id]
	l.mu.Unlock()
	if !ok {
		return nil, ErrUnknown
	}
	f, err := os.OpenFile(l.content(e), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || identityOf(info) != e.Seen) {
		err = ErrChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Recheck verifies the content of an entry anew, and removes the entry if it is wrong, gone or of no torrent. After any other error
// (ErrUnknown apart) the entry stays, for another try: who cannot read it now may be able to later.
func (l *Library) Recheck(ctx context.Context, id ID) error {
	l.adding.Lock()
	defer l.adding.Unlock()
	e, ok := l.Entry(id)
	if !ok {
		return ErrUnknown
	}
	err := func() error {
		data, err := l.Metainfo(id)
		if err != nil {
			return err
		}
		m, err := metainfo.Parse(data, "")
		if err != nil {
			return err
		}
		f, err := os.OpenFile(l.content(e), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		e.Seen, err = verify(ctx, m, f)
		return err
	}()
	if _, ok := l.Entry(id); !ok {
		return ErrUnknown // it was removed meanwhile
	}
	if err == nil {
		err = replaceEntry(l.path(id, ""), e)
	}
	if err != nil {
		if hopeless(err) {
			l.Remove(id)
		}
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.entries[id]; !ok {
		return ErrUnknown
	}
	l.entries[id] = e
	return nil
}

// hopeless tells whether what cannot be used because of err never can be again.
func hopeless(err error) bool {
	return errors.Is(err, ErrWrong) || errors.Is(err, errRecord) || errors.Is(err, metainfo.ErrUnusable) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, syscall.ELOOP)
}

// verify hashes all of f, and returns what it looked like before and after.
func verify(ctx context.Context, m *metainfo.Manifest, f *os.File) (identity, error) {
	before, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	if !before.Mode().IsRegular() || before.Size() != m.Size {
		return identity{}, ErrWrong
	}
	buf := make([]byte, 256<<10)
	for i := range m.Pieces() {
		if ctx.Err() != nil {
			return identity{}, ctx.Err()
		}
		if _, ok, err := m.SumPiece(f, i, buf); err != nil {
			return identity{}, err
		} else if !ok {
			return identity{}, ErrWrong
		}
	}
	after, err := f.Stat()
	if err == nil && identityOf(after) != identityOf(before) {
		err = ErrChanged
	}
	return identityOf(before), err
}

// Remove takes an entry out, with its content.
func (l *Library) Remove(id ID) {
	l.mu.Lock()
	delete(l.entries, id)
	l.mu.Unlock()
	l.discard(filepath.Join(l.dir, id.String()))
}

// discard removes a directory in two steps, so that no half entry is seen.
func (l *Library) discard(path string) {
	if gone, err := os.MkdirTemp(l.dir, unfinished); err == nil {
		os.Rename(path, filepath.Join(gone, "entry"))
		os.RemoveAll(gone)
	}
}

func replaceEntry(dir string, e Entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return replaceSynced(filepath.Join(dir, recordFile), text)
}

// replaceSynced writes a file that is whole at any moment.
func replaceSynced(path string, text []byte) error {
	if err := writeSynced(path+".new", text); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
