package publisher

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	maxDepth    = 64                       // of directories within each other
	longestName = 255 - len(torrentSuffix) // bytes of a file's name, so that its torrent has one that file systems take
)

// found is one name of a file that is to be published.
type found struct {
	path string // below DIR
	stamp
	device uint64
	mode   fs.FileMode // permissions
	fresh  bool        // its outputs are up to date
}

// identity tells files from each other.
type identity struct{ device, inode uint64 }

func (f found) id() identity { return identity{f.device, f.inode} }

func stampOf(info fs.FileInfo) stamp {
	return stamp{info.Size(), info.ModTime().UnixNano(), inodeOf(info).inode}
}

func foundOf(info fs.FileInfo) found {
	return found{stamp: stampOf(info), device: inodeOf(info).device, mode: info.Mode().Perm()}
}

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
	unseen  []string // files and directories that could not be looked at
}

// covers reports whether the walk could not see whether there is a file of this path.
func (t *tree) covers(file string) bool {
	return slices.ContainsFunc(t.unseen, func(at string) bool {
		return at == "." || at == file || strings.HasPrefix(file, at+"/")
	})
}

// walk goes through DIR.
func (p *publication) walk(ctx context.Context) (*tree, error) {
	t := &tree{}
	dir, err := p.in.folder(".")
	if err != nil {
		return nil, err
	}
	err = p.walkFolder(ctx, t, dir, ".", 0)
	if err == nil && slices.Contains(t.unseen, ".") {
		err = errors.New("the directory cannot be read")
	}
	for _, pattern := range p.choice.include {
		if err == nil && !p.choice.used[pattern] {
			p.note(pattern, "no file has such a name, or only such that are never published")
		}
	}
	return t, err
}

// walkFolder goes through one directory, which it closes.
func (p *publication) walkFolder(ctx context.Context, t *tree, dir folder, at string, depth int) error {
	defer dir.close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	list, err := dir.list()
	if depth > maxDepth {
		err = errors.New("nested too deeply")
	}
	if err != nil {
		t.unseen = append(t.unseen, at)
		p.problem(at, err)
		return nil
	}
	if _, there := find(list, StateName); there && at != "." {
		defer func(known []string) { t.orphans = known }(slices.Clip(t.orphans)) // those below are known to another run
	}
	for _, e := range list {
		file := path.Join(at, e.name)
		of, output := isOutput(e.name)
		switch {
		case isTemp(e.name) && p.beside():
			p.clean(dir, e.name)
		case hidden(e.name):
		case e.kind.IsDir():
			if err := p.descend(ctx, t, dir, file, depth); err != nil {
				return err
			}
		case output:
			if _, there := find(list, of); !there && p.beside() && e.kind.IsRegular() {
				t.orphans = append(t.orphans, file)
			}
		case p.choice.takes(file):
			p.take(t, dir, list, e, file)
		}
	}
	return nil
}

func (p *publication) descend(ctx context.Context, t *tree, dir folder, file string, depth int) error {
	if p.choice.excludes(file) {
		return nil
	}
	sub, err := dir.folder(path.Base(file))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			t.unseen = append(t.unseen, file)
			p.problem(file, err)
		}
		return nil
	}
	return p.walkFolder(ctx, t, sub, file, depth+1)
}

// take looks at the file that e of a directory is.
func (p *publication) take(t *tree, dir folder, list []dirent, e dirent, file string) {
	f, regular, err := dir.look(e.name)
	if e.kind&fs.ModeSymlink != 0 {
		var info fs.FileInfo
		if info, err = p.top.Stat(file); err != nil {
			err = p.linkError(file, err)
		} else if f = foundOf(info); info.IsDir() {
			return
		} else {
			regular = info.Mode().IsRegular()
		}
	}
	var of badLink
	switch {
	case errors.As(err, &of):
		p.note(file, of.Error())
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		t.unseen = append(t.unseen, file)
		p.problem(file, err)
	case !regular:
		p.note(file, errNotRegular.Error())
	case f.size < p.choice.minSize:
	case !utf8.ValidString(e.name) || strings.ContainsFunc(e.name, unicode.IsControl):
		p.problem(file, errors.New("its name is not UTF-8, or has control characters in it"))
	case len(e.name) > longestName:
		p.problem(file, errors.New("its name is too long for a torrent's to be made of it"))
	default:
		f.path = file
		f.fresh = p.state != nil && p.isFresh(f, dir, list, e.name)
		t.files = append(t.files, f)
	}
}

// badLink says what is wrong with a link that will not lead to a file of DIR.
type badLink string

func (b badLink) Error() string { return string(b) }

// linkError says in our words why a link is of no use.
func (p *publication) linkError(file string, err error) error {
	to, _ := p.top.Readlink(file)
	switch {
	case errors.Is(err, unix.ELOOP), strings.Contains(err.Error(), "too many"):
		return badLink("a link that leads in a circle")
	case errors.Is(err, fs.ErrNotExist):
		return badLink("points to " + to + ", which is not there")
	case !strings.Contains(err.Error(), "escapes"):
		return err
	case path.IsAbs(to):
		return badLink("points to " + to + "; of links only relative ones are followed")
	case filepath.IsLocal(path.Join(path.Dir(file), to)):
		return badLink("points to " + to + ", which leads out of DIR")
	}
	return badLink("points to " + to + ", outside of DIR")
}

// isFresh reports whether nothing is to be done for f, which bears the name in dir, from the state and from what the
// outputs look like.
func (p *publication) isFresh(f found, dir folder, list []dirent, name string) bool {
	e := p.state.entries[f.path]
	if e == nil || e.settings != p.settings || !e.still(f.stamp) {
		return false
	}
	is := func(suffix string, left product) bool {
		if left.foreign && p.o.Force {
			return false
		}
		if p.beside() {
			there, ok := find(list, name+suffix)
			return ok && there.kind.IsRegular() && p.is(dir, name+suffix, left, f.mode)
		}
		at, base := split(p.o.output(f.path) + suffix)
		d, err := p.folders.get(at)
		return err == nil && p.is(d, base, left, f.mode)
	}
	return is(torrentSuffix, e.torrent) && (!p.o.Metalink || is(metalinkSuffix, e.metalink))
}

// is reports whether what stands there looks as it was left.
func (d folder) is(name string, left product) bool {
	f, regular, err := d.look(name)
	return err == nil && regular && f.stamp == left.stamp
}

// is is that for an output of a file that has this mode.
func (p *publication) is(dir folder, name string, left product, file fs.FileMode) bool {
	f, regular, err := dir.look(name)
	if err != nil || !regular || f.stamp != left.stamp {
		return false
	}
	if !left.foreign {
		p.mend(dir, name, f.mode, file)
	}
	return true
}

// clean removes a temporary file that a killed run has left in a directory of the outputs: nobody else runs now.
func (p *publication) clean(dir folder, name string) {
	if p.state != nil && !p.o.DryRun {
		dir.remove(name)
	}
}

// outputs lists the outputs below the directory of the outputs, if that is not DIR.
func (p *publication) outputs(ctx context.Context) (names []string, err error) {
	var walk func(dir folder, at string, depth int) error
	walk = func(dir folder, at string, depth int) error {
		defer dir.close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		list, err := dir.list()
		if err != nil {
			p.problem(at, err)
		}
		if _, there := find(list, StateName); there && at != "." {
			return nil // another run's
		}
		for _, e := range list {
			file := path.Join(at, e.name)
			_, output := isOutput(e.name)
			switch {
			case isTemp(e.name):
				p.clean(dir, e.name)
			case hidden(e.name):
			case e.kind.IsDir() && !p.o.Flat && depth < maxDepth:
				sub, err := dir.folder(e.name)
				if err != nil {
					p.problem(file, err)
					continue
				}
				if id, err := sub.id(); err != nil || id == p.inID {
					sub.close()
					continue
				}
				if err := walk(sub, file, depth+1); err != nil {
					return err
				}
			case output && e.kind.IsRegular():
				names = append(names, file)
			}
		}
		return nil
	}
	if p.out.file == nil {
		return nil, nil
	}
	root, err := p.out.folder(".")
	if err == nil {
		err = walk(root, ".", 0)
	}
	return names, err
}
