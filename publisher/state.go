package publisher

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// product is a torrent or metalink as it was left.
type product struct {
	stamp
	digest  [16]byte // the first half of its SHA-256
	foreign bool     // others made it
}

func digestOf(data []byte) [16]byte {
	sum := sha256.Sum256(data)
	return [16]byte(sum[:16])
}

// entry is what is remembered of one name.
type entry struct {
	file     stamp
	hashed   int64    // when the hashing began, in nanoseconds since 1970
	settings uint64   // under which the products were made
	hashes   [16]byte // digest of what they say of the content
	sha256   string   // of the content, raw; "": not known
	torrent  product
	metalink product // zero: there is none
	seen     bool    // in this run; not kept
}

// Clocks of file systems are coarse: a file changed this soon after it was read may bear the same time.
const (
	clockCoarse = 2 * time.Second
	clockFine   = 100 * time.Millisecond
)

// still reports whether the content is surely the one that was hashed, if the file looks like now.
func (e *entry) still(now stamp) bool {
	tick := clockFine
	if now.mtime%int64(time.Second) == 0 {
		tick = clockCoarse
	}
	age := e.hashed - now.mtime
	return e.file == now && (age > int64(tick) || age < -int64(tick))
}

const (
	stateMagic  = "torrent-xfer publish "
	stateHeader = stateMagic + "2 "
)

// state is the state file: lines that are only appended to while a run goes on, the last one of a name counts. Each has a
// checksum, so that what a crash left is skipped. What is in it only spares work; a wrong one can at worst
// have a torrent of ours removed or left as it is.
type state struct {
	dir    folder
	name   string
	layout string
	file   *os.File // locked; nil: nothing is to be written
	spoilt int      // lines that are not ours, or damaged
	alien  bool     // the file looks like one that somebody else needs

	mu      sync.Mutex // of all below
	entries map[string]*entry
	lines   int // in the file
	err     error
}

func (s *state) get(path string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[path]
}

// openState reads the state, which is dir's file called name, and locks it if it is to be written. A state of another layout is begun anew.
func openState(dir folder, name, layout string, write bool) (*state, error) {
	s := &state{dir: dir, name: name, layout: layout, entries: map[string]*entry{}}
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR | unix.O_CREAT
	}
	for {
		f, err := dir.open(name, flags|unix.O_NONBLOCK, 0o666)
		if !write && errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) {
			err = errNotRegular
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = errNotRegular
		}
		if err == nil && write && errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
			err = ErrBusy // another error: a file system without locks
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if there, _, err := dir.look(name); err != nil || there.id() != inodeOf(info) {
			f.Close() // another run has just ended
			continue
		}
		return s, s.load(f, write)
	}
}

func (s *state) load(f *os.File, write bool) error {
	same, err := s.read(f)
	if err == nil && s.alien && s.name != StateName {
		err = fmt.Errorf("%w: %s is there and is not a state", ErrOptions, s.name)
	}
	if err == nil && write {
		s.file = f
		if !same {
			err = s.rewrite()
		} else {
			_, err = f.Seek(0, io.SeekEnd)
		}
		return err
	}
	f.Close()
	return err
}

// read reads the lines. same: the file is one of ours, and of this layout.
func (s *state) read(r io.Reader) (same bool, err error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for first := true; ; first = false {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
			line = []byte("?") // longer than any of ours
		}
		if err != nil && err != io.EOF {
			return false, err
		}
		switch text := bytes.TrimSuffix(line, []byte("\n")); {
		case first && string(text) != stateHeader+s.layout:
			if len(text) > 0 {
				s.spoilt++
			}
			// A crash leaves the beginning of a file, or NULs.
			s.alien = len(bytes.Trim(text, "\x00")) > 0 && !bytes.HasPrefix(text, []byte(stateMagic)) && !strings.HasPrefix(stateMagic, string(text))
			return false, nil
		case first:
		case err == io.EOF && len(line) == 0:
			return true, nil
		default:
			s.lines++
			if !s.take(string(text)) {
				s.spoilt++
			}
		}
		if err == io.EOF {
			return len(line) > 0 && line[len(line)-1] == '\n', nil // else the next line would be joined to this one
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *state) take(line string) bool {
	sum, rest, ok := strings.Cut(line, " ")
	want, err := strconv.ParseUint(sum, 16, 32)
	if !ok || err != nil || uint32(want) != crc32.Checksum([]byte(rest), castagnoli) {
		return false
	}
	path, e, ok := parseEntry(rest)
	if !ok || path == "." || strings.ContainsRune(path, 0) || !filepath.IsLocal(path) || filepath.Clean(path) != path {
		return false
	}
	if e == nil {
		delete(s.entries, path)
	} else {
		s.entries[strings.Clone(path)] = e // not a part of the line
	}
	return true
}

// parseEntry reads what formatEntry wrote. e is nil if path was forgotten.
func parseEntry(text string) (path string, e *entry, ok bool) {
	quoted, rest, ok := cutQuoted(text)
	path, err := strconv.Unquote(quoted)
	if !ok || err != nil {
		return "", nil, false
	}
	if rest == "" {
		return path, nil, true
	}
	f := fields{rest: rest}
	e = &entry{file: f.stamp(), hashed: f.number(), settings: uint64(f.number())}
	flags := f.number()
	e.hashes = f.digest()
	e.sha256 = string(f.bytes())
	e.torrent = f.product()
	if f.rest != "" {
		e.metalink = f.product()
	}
	e.torrent.foreign, e.metalink.foreign = flags&1 != 0, flags&2 != 0
	return path, e, !f.bad && f.rest == "" && (e.sha256 == "" || len(e.sha256) == sha256.Size)
}

func cutQuoted(text string) (quoted, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", false
	}
	return quoted, strings.TrimPrefix(text[len(quoted):], " "), true
}

func formatEntry(path string, e *entry) string {
	b := strconv.AppendQuote(nil, path)
	if e == nil {
		return string(b)
	}
	number := func(list ...int64) {
		for _, n := range list {
			b = strconv.AppendInt(append(b, ' '), n, 36)
		}
	}
	flags := int64(0)
	if e.torrent.foreign {
		flags |= 1
	}
	if e.metalink.foreign {
		flags |= 2
	}
	number(e.file.size, e.file.mtime, int64(e.file.inode), e.hashed, int64(e.settings), flags)
	raw := func(data []byte) { b = base64.RawStdEncoding.AppendEncode(append(b, " ."...), data) }
	raw(e.hashes[:])
	raw([]byte(e.sha256))
	for i, p := range []product{e.torrent, e.metalink} {
		if i > 0 && p == (product{}) {
			break
		}
		number(p.size, p.mtime, int64(p.inode))
		raw(p.digest[:])
	}
	return string(b)
}

// fields reads the values of a line.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) next() (text string) {
	text, f.rest, _ = strings.Cut(f.rest, " ")
	return text
}

func (f *fields) number() int64 {
	n, err := strconv.ParseInt(f.next(), 36, 64)
	f.bad = f.bad || err != nil
	return n
}

func (f *fields) bytes() []byte {
	text, ok := strings.CutPrefix(f.next(), ".")
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	f.bad = f.bad || err != nil || !ok
	return b
}

func (f *fields) stamp() stamp {
	return stamp{f.number(), f.number(), uint64(f.number())}
}

func (f *fields) product() product {
	return product{stamp: f.stamp(), digest: f.digest()}
}

func (f *fields) digest() (d [16]byte) {
	b := f.bytes()
	f.bad = f.bad || len(b) != len(d)
	copy(d[:], b)
	return d
}

// set remembers, or forgets if e is nil, and appends it to the file. What failed once is not tried again.
func (s *state) set(path string, e *entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e == nil {
		delete(s.entries, path)
	} else {
		s.entries[path] = e
	}
	if s.file != nil && s.err == nil {
		s.lines++
		_, s.err = s.file.WriteString(stateLine(path, e))
	}
	return s.err
}

func stateLine(path string, e *entry) string {
	text := formatEntry(path, e)
	return fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text)
}

// rewrite replaces the file by one without anything superfluous.
func (s *state) rewrite() error {
	temp := s.name + tempMark + rand.Text()
	f, err := s.dir.open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // nobody else knows its name
	w := bufio.NewWriterSize(f, 256<<10)
	w.WriteString(stateHeader + s.layout + "\n")
	for _, path := range slices.Sorted(maps.Keys(s.entries)) {
		w.WriteString(stateLine(path, s.entries[path]))
	}
	err = w.Flush()
	if err == nil {
		err = f.Sync() // to lose it would cost a reading of the whole tree
	}
	if err == nil {
		err = s.dir.rename(temp, s.name)
	}
	if err != nil {
		f.Close()
		s.dir.remove(temp)
		return err
	}
	s.file.Close()
	s.file, s.lines = f, len(s.entries)
	return nil
}

// close leaves a file with one line for each name.
func (s *state) close() error {
	if s.file == nil {
		return nil
	}
	if s.err == nil && s.lines != len(s.entries) {
		s.err = s.rewrite()
	}
	s.file.Close()
	return s.err
}

// clean removes what a killed run has left beside the state.
func (s *state) clean() {
	list, err := s.dir.list()
	for _, e := range list {
		if err == nil && strings.HasPrefix(e.name, s.name+tempMark) {
			s.dir.remove(e.name)
		}
	}
}
