package publisher

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A folder is an open directory. Its methods take names of what is right in it and follow no links, so that nobody who
// may write into the tree can lead them out of it.
type folder struct{ file *os.File }

// fd is -1 if there is no such directory.
func (d folder) fd() int {
	if d.file == nil {
		return -1
	}
	return int(d.file.Fd())
}

func (d folder) close() {
	if d.file != nil {
		d.file.Close()
	}
}

// again calls do until no signal interrupts it.
func again(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

func (d folder) open(name string, flags int, mode uint32) (f *os.File, err error) {
	if d.file == nil {
		return nil, fs.ErrNotExist
	}
	fd := -1
	err = again(func() error {
		fd, err = unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d folder) folder(name string) (folder, error) {
	f, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return folder{f}, err
}

// below opens the directory of this path. like: if it is not there, it is made, and whoever may enter one of that mode may
// enter it; 0: it is not made.
func (d folder) below(dir string, like fs.FileMode) (folder, error) {
	at, err := d.folder(".")
	if err != nil || dir == "." {
		return at, err
	}
	for name := range strings.SplitSeq(dir, "/") {
		next, err := at.folder(name)
		if like != 0 && errors.Is(err, fs.ErrNotExist) {
			err = again(func() error { return unix.Mkdirat(at.fd(), name, 0o777) })
			made := err == nil
			if made || errors.Is(err, fs.ErrExist) {
				next, err = at.folder(name)
			}
			if info, e := next.file.Stat(); made && err == nil && e == nil && like&0o555&^info.Mode() != 0 {
				err = next.file.Chmod(info.Mode().Perm() | like&0o555)
			}
		}
		at.close()
		if err != nil {
			return folder{}, err
		}
		at = next
	}
	return at, nil
}

// look returns what stands there, and whether it is a regular file.
func (d folder) look(name string) (found, bool, error) {
	if d.file == nil {
		return found{}, false, fs.ErrNotExist
	}
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	f := found{stamp: stamp{st.Size, st.Mtim.Nano(), st.Ino}, device: uint64(st.Dev), mode: fs.FileMode(st.Mode & 0o777)}
	return f, st.Mode&unix.S_IFMT == unix.S_IFREG, err
}

// owner is the number of the user who has what stands there.
func (d folder) owner(name string) (uint32, error) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st.Uid, err
}

// read reads a regular file, and not more of it than most bytes and one.
func (d folder) read(name string, most int64) ([]byte, error) {
	f, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errNotRegular
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errNotRegular, err)
	}
	return io.ReadAll(io.LimitReader(f, most+1))
}

func (d folder) id() (identity, error) {
	f, _, err := d.look(".")
	return f.id(), err
}

func (d folder) rename(from, to string) error {
	return again(func() error { return unix.Renameat(d.fd(), from, d.fd(), to) })
}

func (d folder) remove(name string) error {
	return again(func() error { return unix.Unlinkat(d.fd(), name, 0) })
}

func (d folder) removeFolder(name string) error {
	return again(func() error { return unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR) })
}

// dirent is a name in a directory.
type dirent struct {
	name string
	kind fs.FileMode // the type bits
}

// list returns all names, sorted.
func (d folder) list() (list []dirent, err error) {
	for {
		some, err := d.file.ReadDir(1024)
		for _, e := range some {
			list = append(list, dirent{e.Name(), e.Type()})
		}
		if err == io.EOF {
			slices.SortFunc(list, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
			return list, nil
		}
		if err != nil {
			return list, err
		}
	}
}

// find returns the entry of this name in a sorted list.
func find(list []dirent, name string) (dirent, bool) {
	i, ok := slices.BinarySearchFunc(list, name, func(e dirent, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return dirent{}, false
	}
	return list[i], true
}

var errNotRegular = errors.New("not a regular file")

// split gives the directory of a path, "." for none, and the name in it.
func split(file string) (dir, name string) { return path.Dir(file), path.Base(file) }

// folders keeps the output directory that was used last open.
type folders struct {
	root folder
	dir  string // "": none
	last folder
}

func (c *folders) get(dir string) (folder, error) {
	if c.dir == dir {
		return c.last, nil
	}
	c.close()
	d, err := c.root.below(dir, 0)
	if err == nil {
		c.dir, c.last = dir, d
	}
	return d, err
}

func (c *folders) close() {
	c.last.close()
	c.dir, c.last = "", folder{}
}
