package publisher

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxDepth = 64 // of directories within each other

// found is one name of a file that is to be published.
type found struct {
	path string // below DIR
	stamp
	id                identity
	torrent, metalink stamp // what lies beside it as such; zero: nothing, or it is not known
}

// identity tells files from each other.
type identity struct{ device, inode uint64 }

func inodeOf(info fs.FileInfo) identity {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}
	}
	return identity{uint64(st.Dev), st.Ino}
}

// tree is what a walk found.
type tree struct {
	files   []found
	orphans []string // outputs beside which their file is not
	unread  []string // directories and files that could not be looked at
}

// covers reports whether the walk could not see whether there is a file of this path.
func (t *tree) covers(file string) bool {
	return slices.ContainsFunc(t.unread, func(at string) bool {
		return at == "." || at == file || strings.HasPrefix(file, at+"/")
	})
}

// walk goes through DIR. The output directory, if it is another one within DIR, is left out.
func (p *publication) walk(ctx context.Context) (*tree, error) {
	t := &tree{}
	root, err := p.top.OpenRoot(".")
	if err != nil {
		return nil, err
	}
	err = p.walkDir(ctx, t, root, ".", 0)
	if err == nil && slices.Contains(t.unread, ".") {
		err = errors.New("the directory cannot be read")
	}
	return t, err
}

// walkDir goes through one directory, which it closes.
func (p *publication) walkDir(ctx context.Context, t *tree, dir *os.Root, at string, depth int) error {
	defer dir.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	list, err := readDir(dir)
	if err != nil || depth > maxDepth {
		if err == nil {
			err = errors.New("nested too deeply")
		}
		t.unread = append(t.unread, at)
		p.problem(at, err)
		return nil
	}
	present := map[string]fs.DirEntry{}
	for _, e := range list {
		present[e.Name()] = e
	}
	for _, e := range list {
		name, file := e.Name(), path.Join(at, e.Name())
		switch {
		case isTemp(name):
			p.clean(dir, name)
		case hidden(name):
		case e.IsDir():
			if p.choice.excludes(file) {
				continue
			}
			sub, err := dir.OpenRoot(name)
			if err == nil && p.isOut(sub) {
				sub.Close()
				continue
			}
			if err == nil {
				err = p.walkDir(ctx, t, sub, file, depth+1)
				if err != nil {
					return err
				}
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) {
				t.unread = append(t.unread, file)
				p.problem(file, err)
			}
		case p.choice.takes(file):
			p.look(t, present, e, file)
		default:
			if of, ok := isOutput(name); ok && p.beside() && present[of] == nil {
				t.orphans = append(t.orphans, file)
			}
		}
	}
	return nil
}

func readDir(dir *os.Root) ([]fs.DirEntry, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, err
}

// isOut reports whether dir is the directory of the outputs.
func (p *publication) isOut(dir *os.Root) bool {
	if p.beside() {
		return false
	}
	info, err := dir.Stat(".")
	return err == nil && inodeOf(info) == p.outID
}

// look looks at the file that e of a directory is, in which the others are present.
func (p *publication) look(t *tree, present map[string]fs.DirEntry, e fs.DirEntry, file string) {
	link := e.Type()&fs.ModeSymlink != 0
	stat := e.Info
	if link {
		stat = func() (fs.FileInfo, error) { return p.top.Stat(file) }
	}
	info, err := stat()
	switch {
	case err != nil && link:
		why, sure := linkError(err)
		p.problem(file, why)
		if !sure {
			t.unread = append(t.unread, file)
		}
	case errors.Is(err, fs.ErrNotExist): // vanished just now
	case err != nil:
		p.problem(file, err)
		t.unread = append(t.unread, file)
	case link && info.IsDir():
	case !info.Mode().IsRegular():
		p.problem(file, errors.New("not a regular file"))
	case info.Size() >= p.choice.minSize:
		f := found{path: file, stamp: stampOf(info), id: inodeOf(info)}
		if p.beside() {
			f.torrent, f.metalink = stampIn(present, e.Name()+torrentSuffix), stampIn(present, e.Name()+metalinkSuffix)
		}
		t.files = append(t.files, f)
	}
}

// stampIn is the stamp of the regular file of this name; zero: there is none.
func stampIn(present map[string]fs.DirEntry, name string) stamp {
	if e := present[name]; e != nil && e.Type().IsRegular() {
		if info, err := e.Info(); err == nil {
			return stampOf(info)
		}
	}
	return stamp{}
}

// linkError says in our words why a link is of no use. sure: there is no file behind it.
func linkError(err error) (why error, sure bool) {
	switch {
	case errors.Is(err, unix.ELOOP), strings.Contains(err.Error(), "too many"):
		return errors.New("a link that leads in a circle"), true
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("a link that leads nowhere"), true
	case strings.Contains(err.Error(), "escapes"): // package os has no name for this error
		return errors.New("a link that leads out of the tree"), true
	}
	return err, false
}

// clean removes a temporary file that a killed run has left: nobody else runs now.
func (p *publication) clean(dir *os.Root, name string) {
	if p.state != nil && !p.o.DryRun {
		dir.Remove(name)
	}
}

// outputsIn lists the outputs below the directory of the outputs, if that is not DIR.
func (p *publication) outputsIn(ctx context.Context) (names []string, err error) {
	var walk func(dir *os.Root, at string, depth int) error
	walk = func(dir *os.Root, at string, depth int) error {
		defer dir.Close()
		list, err := readDir(dir)
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		for _, e := range list {
			name := path.Join(at, e.Name())
			switch _, output := isOutput(e.Name()); {
			case isTemp(e.Name()):
				p.clean(dir, e.Name())
			case hidden(e.Name()):
			case e.IsDir() && !p.o.Flat && depth < maxDepth:
				sub, err := dir.OpenRoot(e.Name())
				if err == nil {
					err = walk(sub, name, depth+1)
				}
				if err != nil {
					return err
				}
			case output && e.Type().IsRegular():
				names = append(names, name)
			}
		}
		return nil
	}
	root, err := p.out.OpenRoot(".")
	if err == nil {
		err = walk(root, ".", 0)
	}
	return names, err
}
