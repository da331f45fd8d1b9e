package publisher

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"torrent-xfer/metainfo"
)

// A content is one file, whatever its names.
type content struct {
	stamp
	names []string // in order, those that share it
}

// A task is what has to be done together: the contents that share an output. That is more than one only in flat layout.
type task struct {
	contents []*content
	bytes    int64 // to be hashed, as far as can be told
}

// large files are hashed by all processors at once, one after the other.
const large = 32 << 20

var errChanged = errors.New("it was changed while it was read")

func (p *publication) publish(ctx context.Context) (err error) {
	dir, name, err := p.openStateDir()
	if err != nil {
		return err
	}
	defer dir.Close()
	if p.state, err = openState(dir, name, p.layout(), !p.o.DryRun); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.state.close()) }()
	if p.state.spoilt > 0 {
		p.note(name, "the state is damaged or not ours; what is not known is read again")
	}
	t, err := p.walk(ctx)
	if err != nil {
		return err
	}
	if len(t.files) == 0 && len(t.unread) == 0 && len(p.state.entries) > 0 && !p.o.Prune {
		return ErrVanished
	}
	p.report.Files = len(t.files)
	tasks := p.plan(t)
	if err := p.work(ctx, tasks); err != nil {
		return err
	}
	if err := p.forget(ctx, t); err != nil {
		return err
	}
	if p.wrote && !p.o.DryRun {
		return p.sync()
	}
	return nil
}

// plan finds out what is to be done.
func (p *publication) plan(t *tree) (tasks []*task) {
	stale := map[identity]bool{}
	shared := map[string]bool{} // outputs that are stale
	for _, f := range t.files {
		if e := p.state.entries[f.path]; e != nil {
			e.seen = true
		}
		p.made[p.o.output(f.path)] = true
		if p.fresh(f) {
			p.report.Unchanged++
		} else {
			stale[f.id] = true
			shared[p.o.output(f.path)] = true
		}
	}
	contents := map[identity]*content{}
	of := map[string]*task{} // by output
	var total int64
	for _, f := range t.files {
		output := p.o.output(f.path)
		if !stale[f.id] && !shared[output] {
			continue
		}
		c := contents[f.id]
		if c == nil {
			c = &content{stamp: f.stamp}
			contents[f.id] = c
			if of[output] == nil {
				tasks = append(tasks, &task{})
				of[output] = tasks[len(tasks)-1]
			}
			of[output].contents = append(of[output].contents, c)
		}
		c.names = append(c.names, f.path)
	}
	for _, t := range tasks {
		for _, c := range t.contents {
			if h, _ := p.known(c); h == nil {
				t.bytes += c.size
			}
		}
		total += t.bytes
	}
	p.event(Event{Kind: Planned, Bytes: total})
	return tasks
}

// fresh reports whether nothing is to be done for f, from the state and from what the outputs look like.
func (p *publication) fresh(f found) bool {
	e := p.state.entries[f.path]
	if e == nil || e.settings != p.settings || !e.still(f.stamp) {
		return false
	}
	if p.beside() {
		return f.torrent == e.torrent.stamp && (!p.o.Metalink || f.metalink == e.metalink.stamp)
	}
	output := p.o.output(f.path)
	return p.is(output+torrentSuffix, e.torrent) && (!p.o.Metalink || p.is(output+metalinkSuffix, e.metalink))
}

// is reports whether the output looks as it was left.
func (p *publication) is(name string, left product) bool {
	info, err := p.out.Lstat(name)
	return err == nil && info.Mode().IsRegular() && stampOf(info) == left.stamp
}

func (p *publication) work(ctx context.Context, tasks []*task) error {
	slices.SortStableFunc(tasks, func(a, b *task) int { return cmp.Compare(b.bytes, a.bytes) })
	n := 0
	for n < len(tasks) && tasks[n].bytes >= large {
		p.do(ctx, tasks[n], p.o.Jobs)
		n++
	}
	queue := make(chan *task)
	var workers sync.WaitGroup
	for range p.o.Jobs {
		workers.Go(func() {
			for t := range queue {
				p.do(ctx, t, 1)
			}
		})
	}
	for _, t := range tasks[n:] {
		queue <- t
	}
	close(queue)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return p.state.err
}

// do makes the outputs of a task.
func (p *publication) do(ctx context.Context, t *task, workers int) {
	var first *metainfo.Hashes // of the output that they share
	for _, c := range t.contents {
		if ctx.Err() != nil {
			return
		}
		if p.o.DryRun {
			for _, name := range c.names {
				p.event(Event{Kind: Wrote, Path: p.o.output(name) + torrentSuffix})
			}
			continue
		}
		began := time.Now().UnixNano()
		h, at := p.known(c)
		if h == nil {
			var err error
			at = began
			if h, err = p.hash(ctx, c, workers); err != nil {
				if ctx.Err() == nil {
					p.problem(c.names[0], err)
				}
				continue // whatever is there stays until the file can be read
			}
		}
		if first == nil {
			first = h
		} else if !sameContent(first, h) {
			p.problem(c.names[0], errors.New("another file of this name has the torrent: "+t.contents[0].names[0]))
			continue
		}
		for _, name := range c.names {
			p.make(ctx, name, c, h, at)
		}
	}
}

// known returns the hashes of c out of the torrent of one of its names, if the state tells that it is ours, and when
// they were made; nil: it has to be read.
func (p *publication) known(c *content) (h *metainfo.Hashes, hashed int64) {
	for _, name := range c.names {
		e := p.state.get(name)
		if e == nil || e.foreign || !e.still(c.stamp) || p.o.Metalink && e.sha256 == "" {
			continue
		}
		data, err := p.readOutput(p.o.output(name) + torrentSuffix)
		if err != nil || digestOf(data) != e.torrent.digest {
			continue
		}
		h, err := metainfo.HashesOf(data)
		if err != nil || h.Size != c.size || h.Version != p.o.Version || h.PieceLength != p.pieceLength(c.size) {
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
	return a != nil && a.Size == b.Size && a.Root == b.Root && slices.Equal(a.Pieces, b.Pieces)
}

// hash reads c, which it corrects if it has changed since the walk.
func (p *publication) hash(ctx context.Context, c *content, workers int) (*metainfo.Hashes, error) {
	f, info, err := p.openContent(c.names[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.stamp = stampOf(info)
	h, err := metainfo.Hash(ctx, f, c.size, metainfo.HashOptions{Version: p.o.Version, PieceLength: p.pieceLength(c.size),
		Workers: workers, WholeSHA256: p.o.Metalink, OnBytes: func(n int) { p.event(Event{Kind: Progress, Bytes: int64(n)}) }})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errChanged
	}
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if stampOf(info) != c.stamp {
		return nil, errChanged
	}
	p.mu.Lock()
	p.report.Hashed++
	p.mu.Unlock()
	return h, nil
}

func (p *publication) openContent(name string) (*os.File, fs.FileInfo, error) {
	f, err := p.top.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil && info.Size() == 0 {
		err = errors.New("it is empty now")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// make writes the outputs of one name, unless they are as they should be, and remembers them.
func (p *publication) make(ctx context.Context, name string, c *content, h *metainfo.Hashes, hashed int64) {
	data, err := p.build(name, c, h)
	if err != nil {
		p.problem(name, err)
		return
	}
	old := p.state.get(name)
	if old == nil {
		old = &entry{}
	}
	e := &entry{file: c.stamp, hashed: hashed, settings: p.settings, sha256: string(h.SHA256)}
	output := p.o.output(name)
	e.torrent, e.foreign, err = p.put(output+torrentSuffix, data, old.torrent, func(there []byte) verdict {
		return p.judge(ctx, there, data, name, c)
	})
	if err == nil && p.o.Metalink {
		var meta4 []byte
		if meta4, err = p.metalink(name, data, h); err == nil {
			var foreign bool
			e.metalink, foreign, err = p.put(output+metalinkSuffix, meta4, old.metalink, func(there []byte) verdict {
				return judgeMetalink(there, path.Base(name))
			})
			e.foreign = e.foreign || foreign
		}
	}
	if err != nil {
		p.problem(output+torrentSuffix, err)
		return
	}
	if !p.o.Metalink && !old.foreign {
		p.drop(output+metalinkSuffix, old.metalink)
	}
	e.seen = true
	p.state.set(name, e)
}

func (p *publication) build(name string, c *content, h *metainfo.Hashes) ([]byte, error) {
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
	gone := map[string]bool{}
	for _, file := range vanished {
		e, output := p.state.entries[file], p.o.output(file)
		if !e.foreign && !p.made[output] && !gone[output] {
			gone[output] = p.drop(output+torrentSuffix, e.torrent)
			p.drop(output+metalinkSuffix, e.metalink)
		}
		if !p.o.DryRun {
			p.state.set(file, nil)
		}
	}
	orphans := t.orphans
	if !p.beside() {
		var err error
		if orphans, err = p.outputsIn(ctx); err != nil {
			return err
		}
	}
	for _, name := range orphans {
		of, _ := isOutput(name)
		switch {
		case p.made[of] || gone[of] || t.covers(of): // covers knows nothing of a flat layout
		case p.o.Prune:
			p.remove(name)
		default:
			p.note(name, "its file is not there, and it is not known here; --prune removes it")
		}
	}
	return nil
}

// drop removes an output if it is still as it was left. Otherwise it is an orphan from now on.
func (p *publication) drop(name string, left product) bool {
	if left == (product{}) {
		return false
	}
	if !p.is(name, left) {
		if data, err := p.readOutput(name); err != nil || digestOf(data) != left.digest {
			return false
		}
	}
	p.remove(name)
	return true
}

func (p *publication) remove(name string) {
	if !p.o.DryRun {
		if err := p.out.Remove(name); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				p.problem(name, err)
			}
			return
		}
		for dir := path.Dir(name); !p.beside() && dir != "." && p.out.Remove(dir) == nil; dir = path.Dir(dir) {
		}
	}
	p.event(Event{Kind: Removed, Path: name})
}
