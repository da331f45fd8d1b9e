package publisher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"torrent-xfer/metainfo"
)

// A content is one file, whatever its names.
type content struct {
	stamp
	device uint64
	mode   fs.FileMode
	names  []string // in order
	todo   []string // of these, whose outputs are to be made
}

// large files are hashed by all processors at once, one after the other.
const large = 32 << 20

var errChanged = errors.New("it was changed while it was read")

func (p *publication) publish(ctx context.Context) (err error) {
	dir, at, name := p.out, p.outPath, StateName
	if p.o.State != "" {
		at, name = filepath.Split(p.o.State)
		f, err := os.Open(filepath.Dir(p.o.State))
		if err != nil {
			return err
		}
		defer f.Close()
		dir = folder{f}
	}
	if p.state, err = openState(dir, name, p.layout(), p.write); err != nil {
		return stateError(dir, filepath.Clean(at), name, err)
	}
	defer func() {
		if e := p.state.close(); err == nil {
			err = e
		}
	}()
	if p.state.spoilt > 0 {
		p.note(name, "the state is damaged or not ours; what is not known is read again")
	}
	if p.write && p.o.State != "" {
		p.state.clean()
	}
	ctx, p.abort = context.WithCancelCause(ctx)
	defer p.abort(nil)
	t, err := p.walk(ctx)
	if err != nil {
		return err
	}
	if len(t.files) == 0 && len(t.unseen) == 0 && len(p.state.entries) > 0 && !p.o.Force {
		return ErrVanished
	}
	p.report.Files = len(t.files)
	first, later := p.plan(t.files)
	first, later = p.makeKnown(ctx, first), slices.Clip(later)
	var total int64
	for _, c := range slices.Concat(first, later) {
		total += c.size
	}
	p.event(Event{Kind: Planned, Bytes: total})
	p.makeNew(ctx, first)
	p.makeNew(ctx, p.makeKnown(ctx, later))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.state.err != nil {
		return p.state.err
	}
	if err := p.forget(ctx, t); err != nil {
		return err
	}
	if p.wrote && p.write {
		return p.out.sync()
	}
	return nil
}

// stateError tells why there is no state, and whom that is up to.
func stateError(dir folder, at, name string, err error) error {
	refused := errors.Is(err, fs.ErrPermission)
	switch uid, e := dir.owner(name); {
	case errors.Is(err, ErrBusy):
		return ErrBusy
	case refused && e == nil:
		return fmt.Errorf("%w: %s is user %d's", ErrState, filepath.Join(at, name), uid)
	case refused, errors.Is(err, unix.EROFS):
		return cannotWrite(at, err)
	}
	return fmt.Errorf("the state: %w", bare(err))
}

func cannotWrite(dir string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("cannot write into %s (%w)", dir, err)
}

// plan finds out what is to be done: first, and after that the files that have to be compared with the owner of their output.
func (p *publication) plan(files []found) (first, later []*content) {
	stale := map[identity]bool{}
	staleOutputs := map[string]bool{} // Flat
	if p.o.Flat {
		p.owners = map[string]found{}
	}
	for _, f := range files {
		if e := p.state.entries[f.path]; e != nil {
			e.seen = true
		}
		if p.o.Flat {
			if output := p.o.output(f.path); p.owners[output].path == "" {
				p.owners[output] = f
			}
		}
		if !f.fresh {
			stale[f.id()] = true
			if p.o.Flat {
				staleOutputs[p.o.output(f.path)] = true
			}
		}
	}
	names := map[identity][]string{}
	firsts, laters := map[identity]*content{}, map[identity]*content{}
	for _, f := range files {
		if stale[f.id()] {
			names[f.id()] = append(names[f.id()], f.path)
		}
		if f.fresh && !staleOutputs[p.o.output(f.path)] {
			p.report.Unchanged++
			continue
		}
		of, list := firsts, &first
		if !p.owns(f) {
			of, list = laters, &later
		}
		c := of[f.id()]
		if c == nil {
			c = &content{stamp: f.stamp, device: f.device, mode: f.mode}
			of[f.id()] = c
			*list = append(*list, c)
		}
		c.todo = append(c.todo, f.path)
	}
	for _, c := range slices.Concat(first, later) {
		if c.names = names[identity{c.device, c.inode}]; c.names == nil {
			c.names = c.todo
		}
	}
	return first, later
}

// owns reports whether the output of f describes it, and not another file of that name.
func (p *publication) owns(f found) bool {
	return !p.o.Flat || p.owners[p.o.output(f.path)].id() == f.id()
}

// makeKnown makes the outputs of those contents that need not be read, and returns the others.
func (p *publication) makeKnown(ctx context.Context, list []*content) (rest []*content) {
	unknown := make([]bool, len(list))
	p.each(ctx, len(list), func(i int) {
		h, hashed := p.known(list[i])
		if unknown[i] = h == nil; h != nil {
			p.make(ctx, list[i], h, hashed)
		}
	})
	for i, c := range list {
		if unknown[i] {
			rest = append(rest, c)
		}
	}
	return rest
}

// makeNew reads the contents and makes their outputs.
func (p *publication) makeNew(ctx context.Context, list []*content) {
	if p.o.DryRun {
		for _, c := range list {
			p.report.Hashed++
			p.report.HashedBytes += c.size
			for _, name := range c.todo {
				if p.owns(found{path: name, stamp: c.stamp, device: c.device}) {
					p.announce(name, c)
				}
			}
		}
		return
	}
	p.smallFirst(ctx, list, func(c *content, workers int) { p.hashAndMake(ctx, c, workers) })
}

// smallFirst calls do for small files in parallel, and then for each large one with all workers.
func (p *publication) smallFirst(ctx context.Context, list []*content, do func(c *content, workers int)) {
	var small, big []*content
	for _, c := range list {
		if c.size < large {
			small = append(small, c)
		} else {
			big = append(big, c)
		}
	}
	p.each(ctx, len(small), func(i int) { do(small[i], 1) })
	for _, c := range big {
		if ctx.Err() == nil {
			do(c, p.o.Jobs)
		}
	}
}

// announce tells what becomes of the outputs of a file that is to be read.
func (p *publication) announce(name string, c *content) {
	output := p.o.output(name)
	if !p.mayStay(name, c) {
		p.event(Event{Kind: Wrote, Path: output + torrentSuffix})
	}
	if p.o.Metalink {
		p.event(Event{Kind: Wrote, Path: output + metalinkSuffix})
	} else if e := p.state.get(name); e != nil {
		p.drop(output+metalinkSuffix, e.metalink)
	}
}

// mayStay reports whether there is a torrent that looks right: to know it, the file would have to be read.
func (p *publication) mayStay(name string, c *content) bool {
	data, err := p.readOutput(p.o.output(name) + torrentSuffix)
	e := p.state.get(name)
	if err != nil || p.o.Force || e != nil && (e.file != c.stamp || !e.torrent.foreign && e.settings != p.settings) {
		return false
	}
	m, err := metainfo.Parse(data, "")
	return err == nil && m.Name == path.Base(name) && m.Size == c.size
}

func (p *publication) hashAndMake(ctx context.Context, c *content, workers int) {
	began := time.Now().UnixNano()
	h, err := p.hash(ctx, c, workers)
	if err == nil {
		p.make(ctx, c, h, began)
	} else if ctx.Err() == nil {
		p.problem(c.todo[0], err)
		if errors.Is(err, errChanged) { // else whatever is there stays until the file can be read
			p.dropStale(c)
		}
	}
}

// dropStale removes the outputs of ours that tell of what c was before it changed.
func (p *publication) dropStale(c *content) {
	info, err := p.top.Stat(c.todo[0])
	if err != nil {
		return
	}
	now := stampOf(info)
	for _, name := range c.todo {
		e, output := p.state.get(name), p.o.output(name)
		if e == nil || e.file.size == now.size && e.file.mtime == now.mtime ||
			!p.owns(found{path: name, stamp: c.stamp, device: c.device}) {
			continue
		}
		p.drop(output+metalinkSuffix, e.metalink)
		if p.drop(output+torrentSuffix, e.torrent) {
			p.state.set(name, nil)
		}
	}
}

// known returns the hashes of c out of the torrent of one of its names, if the state tells that they are right, and when
// they were made; nil: it has to be read.
func (p *publication) known(c *content) (h *metainfo.Hashes, hashed int64) {
	for _, name := range c.names {
		e := p.state.get(name)
		if e == nil || !e.still(c.stamp) || p.o.Metalink && e.sha256 == "" {
			continue
		}
		data, err := p.readOutput(p.o.output(name) + torrentSuffix)
		if err != nil {
			continue
		}
		h, err := metainfo.HashesOf(data) // whoever wrote it
		if err != nil || digestOfHashes(h) != e.hashes || h.Version != p.o.Version || h.PieceLength != p.pieceLength(c.size) {
			continue
		}
		h.SHA256 = []byte(e.sha256)
		return h, e.hashed
	}
	return nil, 0
}

func (p *publication) pieceLength(size int64) int64 {
	if p.o.PieceLength > 0 {
		return p.o.PieceLength
	}
	return metainfo.PieceLength(size, p.o.Version)
}

func sameContent(a, b *metainfo.Hashes) bool {
	return a.Size == b.Size && a.Version == b.Version && a.PieceLength == b.PieceLength && a.Root == b.Root && slices.Equal(a.Pieces, b.Pieces)
}

// digestOfHashes is the same for the same content.
func digestOfHashes(h *metainfo.Hashes) [16]byte {
	return digestOf(fmt.Appendf(nil, "%d %d %d %x %x", h.Size, h.Version, h.PieceLength, h.Root, h.Pieces))
}

// hash reads c, and takes over what was changed since the walk.
func (p *publication) hash(ctx context.Context, c *content, workers int) (*metainfo.Hashes, error) {
	f, now, err := p.openContent(c.todo[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if now.device != c.device || now.inode != c.inode {
		return nil, errReplaced
	}
	c.stamp = now.stamp
	return p.hashOpen(ctx, f, c.stamp, metainfo.HashOptions{Version: p.o.Version, PieceLength: p.pieceLength(c.size),
		Workers: workers, WholeSHA256: p.o.Metalink})
}

var errReplaced = errors.New("it was replaced meanwhile")

// hashOpen hashes a file that looked like s when it was opened.
func (p *publication) hashOpen(ctx context.Context, f *os.File, s stamp, o metainfo.HashOptions) (*metainfo.Hashes, error) {
	o.OnBytes = func(n int) { p.event(Event{Kind: Progress, Bytes: int64(n)}) }
	h, err := metainfo.Hash(ctx, f, s.size, o)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errChanged
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if stampOf(info) != s {
		return nil, errChanged
	}
	p.mu.Lock()
	p.report.Hashed++
	p.report.HashedBytes += s.size
	p.mu.Unlock()
	return h, nil
}

// openContent opens a file of DIR. Links are followed, but not out of DIR.
func (p *publication) openContent(name string) (*os.File, found, error) {
	f, err := p.top.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, found{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err == nil && info.Size() == 0 {
		err = errors.New("it is empty now")
	}
	if err != nil {
		f.Close()
		return nil, found{}, err
	}
	return f, foundOf(info), nil
}

// make writes the outputs of c, unless they are as they should be, and remembers them.
func (p *publication) make(ctx context.Context, c *content, h *metainfo.Hashes, hashed int64) {
	for _, name := range c.todo {
		e := &entry{file: c.stamp, hashed: hashed, settings: p.settings, seen: true,
			hashes: digestOfHashes(h), sha256: string(h.SHA256)}
		var err error
		if p.owns(found{path: name, stamp: c.stamp, device: c.device}) {
			err = p.makeOne(ctx, name, c, h, e)
		} else {
			err = p.compare(name, h, e)
		}
		if err == nil && p.write {
			err = p.state.set(name, e)
		}
		switch {
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EROFS):
			p.abort(fmt.Errorf("%s: %w", name, err)) // the others would fail as well
			return
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			p.problem(name, err)
		}
	}
}

// makeOne makes the outputs of one name.
func (p *publication) makeOne(ctx context.Context, name string, c *content, h *metainfo.Hashes, e *entry) error {
	data, err := p.build(name, c, h)
	if err != nil {
		return err
	}
	old := p.state.get(name)
	if old == nil {
		old = &entry{}
	}
	output := p.o.output(name)
	out, err := p.out.below(path.Dir(output), p.like)
	if err != nil && !(p.o.DryRun && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	defer out.close()
	e.torrent, err = p.put(out, output+torrentSuffix, data, old.torrent, c.mode, func(there []byte) (verdict, error) {
		return p.judge(ctx, there, data, name, c)
	})
	if err != nil {
		return err
	}
	if !p.o.Metalink {
		p.drop(output+metalinkSuffix, old.metalink)
		return nil
	}
	meta4, err := p.metalink(name, data, h)
	if err == nil {
		e.metalink, err = p.put(out, output+metalinkSuffix, meta4, old.metalink, c.mode, func(there []byte) (verdict, error) {
			return judgeMetalink(there, meta4)
		})
	}
	return err
}

// compare has the file share the output of another one, if it has the same content.
func (p *publication) compare(name string, h *metainfo.Hashes, e *entry) error {
	output := p.o.output(name)
	owner := p.owners[output].path
	of := p.state.get(owner)
	if of == nil || of.settings != p.settings {
		return errors.New("its name is also that of " + owner + ", which has no torrent")
	}
	data, err := p.readOutput(output + torrentSuffix)
	if err != nil {
		return err
	}
	if there, err := metainfo.HashesOf(data); err != nil || !sameContent(there, h) {
		return errors.New("the torrent of this name is that of another file: " + owner)
	}
	e.torrent, e.metalink = of.torrent, of.metalink
	return nil
}

func (p *publication) build(name string, c *content, h *metainfo.Hashes) ([]byte, error) {
	if p.o.Flat {
		name = p.owners[p.o.output(name)].path
	}
	o := p.o.Build
	o.WebSeeds = p.webSeeds(name)
	if p.o.DateOfFile {
		o.CreationDate = time.Unix(0, c.mtime)
	}
	return metainfo.Build(path.Base(name), h, o)
}

// forget removes the outputs of what is no more.
func (p *publication) forget(ctx context.Context, t *tree) error {
	var vanished []string
	for file, e := range p.state.entries {
		if !e.seen && !t.covers(file) {
			vanished = append(vanished, file)
		}
	}
	slices.Sort(vanished)
	gone := map[string]bool{} // outputs
	drop := func(name string, left product) {
		gone[name] = gone[name] || p.drop(name, left)
	}
	for _, file := range vanished {
		e, output := p.state.entries[file], p.o.output(file)
		if p.owners[output].path == "" {
			drop(output+torrentSuffix, e.torrent)
			drop(output+metalinkSuffix, e.metalink)
		}
		if p.write {
			p.state.set(file, nil)
		}
	}
	orphans := t.orphans
	if !p.beside() {
		var err error
		if orphans, err = p.outputs(ctx); err != nil {
			return err
		}
		wanted := map[string]bool{}
		for _, f := range t.files {
			wanted[p.o.output(f.path)] = true
		}
		orphans = slices.DeleteFunc(orphans, func(name string) bool {
			of, _ := isOutput(name)
			return wanted[of]
		})
	}
	for _, name := range orphans {
		of, _ := isOutput(name)
		switch {
		case gone[name] || t.covers(of): // covers knows nothing of a flat layout
		case p.o.Flat && len(t.unseen) > 0:
		case p.o.Prune:
			p.remove(name)
		default:
			p.note(name, "no published file has this name, and it is not known here; --prune removes it")
		}
	}
	return nil
}

// drop removes an output of ours if it is still as it was left. Otherwise it is an orphan from now on.
func (p *publication) drop(name string, left product) bool {
	if left == (product{}) || left.foreign {
		return false
	}
	dir, base := split(name)
	d, err := p.out.below(dir, 0)
	if err != nil {
		return false
	}
	defer d.close()
	if !d.is(base, left) {
		if data, err := d.read(base, metainfo.MaxSize); err != nil || digestOf(data) != left.digest {
			return false
		}
	}
	p.remove(name)
	return true
}

func (p *publication) remove(name string) {
	if p.write {
		if err := p.removeOutput(name); errors.Is(err, fs.ErrNotExist) {
			return
		} else if err != nil {
			p.problem(name, err)
			return
		}
	}
	p.event(Event{Kind: Removed, Path: name})
}

// removeOutput removes an output, and the directories that are left empty in a tree of outputs.
func (p *publication) removeOutput(name string) error {
	dir, base := path.Split(name)
	d, err := p.out.below(path.Clean(dir), 0)
	if err != nil {
		return err
	}
	err = d.remove(base)
	d.close()
	for dir = path.Clean(dir); err == nil && !p.beside() && dir != "."; dir = path.Dir(dir) {
		d, e := p.out.below(path.Dir(dir), 0)
		if e != nil {
			break
		}
		e = d.removeFolder(path.Base(dir))
		d.close()
		if e != nil {
			break
		}
	}
	return err
}
