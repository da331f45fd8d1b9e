package publisher

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"torrent-xfer/metainfo"
)

// publication is one run.
type publication struct {
	o          Options
	choice     choice
	settings   uint64   // stands for all options that the products depend on
	top        *os.Root // DIR, in which links to files are followed
	outPath    string   // of the directory of the outputs, as it was given
	in, out    folder   // DIR and the directory of the outputs; without a file: it is not there, and nothing is to be written
	inID       identity
	like       fs.FileMode // that of DIR, for directories of outputs; 0: none are made
	torrentsAt string      // where the outputs are, below DIR and below the mirrors; "": nowhere there
	folders    folders
	state      *state           // nil: Check
	owners     map[string]found // Flat: by output, the first file of that name
	write      bool             // not DryRun, not Check
	abort      context.CancelCauseFunc

	mu     sync.Mutex // of all below, and of OnEvent
	report Report
	wrote  bool
}

func run(ctx context.Context, dir string, o Options, write bool, do func(*publication, context.Context) error) (*Report, error) {
	p := &publication{o: o, write: write}
	err := p.open(dir)
	if err == nil {
		err = do(p, ctx)
	}
	p.folders.close()
	if !p.beside() {
		p.out.close()
	}
	p.in.close()
	if p.top != nil {
		p.top.Close()
	}
	return &p.report, err
}

func (p *publication) beside() bool { return p.o.Out == "" && !p.o.Flat }

// layout names where the outputs are, for the state: what is known of one layout says nothing of another.
func (p *publication) layout() string {
	switch {
	case p.o.Flat:
		return "flat"
	case p.o.Out != "":
		return "tree"
	}
	return "beside"
}

func (p *publication) open(dir string) (err error) {
	if p.o.Jobs <= 0 {
		p.o.Jobs = runtime.GOMAXPROCS(0)
	}
	if p.choice, err = newChoice(p.o); err != nil {
		return err
	}
	if p.o.Metalink && len(p.o.Mirrors) == 0 {
		return fmt.Errorf("%w: a metalink needs a mirror", ErrOptions)
	}
	if p.top, err = os.OpenRoot(dir); err != nil {
		return err
	}
	f, err := p.top.Open(".")
	if err != nil {
		return err
	}
	p.in = folder{f}
	at, _, err := p.in.look(".")
	if err != nil {
		return err
	}
	p.inID = at.id()
	if p.write && !p.beside() {
		p.like = at.mode | 0o700
	}
	if p.out, p.outPath, p.torrentsAt = p.in, dir, "."; !p.beside() {
		if err := p.openOut(dir); err != nil {
			return err
		}
	}
	p.folders.root = p.out
	p.settings = p.fingerprint()
	return nil
}

func (p *publication) openOut(dir string) error {
	out := p.o.Out
	if out == "" {
		out = filepath.Join(dir, "torrents")
	}
	p.out, p.outPath, p.torrentsAt = folder{}, out, ""
	if within, err := filepath.Rel(dir, out); err == nil && filepath.IsLocal(within) {
		p.torrentsAt = filepath.ToSlash(within)
	} else if !p.o.Flat {
		p.torrentsAt = "." // a tree of the same shape is served as if it lay there
	}
	var err error
	if p.o.Out == "" {
		p.out, err = p.in.below("torrents", p.like) // a link there is not the caller's
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			return cannotWrite(out, err)
		}
	} else {
		if p.write {
			err = os.MkdirAll(out, 0o777)
		}
		if err == nil {
			p.out.file, err = os.Open(out)
		}
	}
	if !p.write && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	id, err := p.out.id()
	if err == nil && id == p.inID && !p.o.Flat {
		err = fmt.Errorf("%w: Out is DIR itself", ErrOptions)
	}
	return err
}

func (p *publication) fingerprint() uint64 {
	b := p.o.Build
	date := []any{b.CreationDate.IsZero(), b.CreationDate.Unix()} // JSON knows no dates after 9999
	b.WebSeeds, b.CreationDate = nil, time.Time{}
	text, err := json.Marshal([]any{p.o.Mirrors, p.o.Version, p.o.PieceLength, b, date, p.o.DateOfFile, p.o.Metalink, p.torrentsAt})
	if err != nil {
		panic(err) // strings and numbers: cannot happen
	}
	sum := digestOf(text)
	return binary.BigEndian.Uint64(sum[:]) >> 1
}

func (p *publication) event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case Wrote:
		p.report.Written++
		p.wrote = true
	case Removed:
		p.report.Removed++
		p.wrote = true
	case Problem:
		p.report.Problems++
	}
	if p.o.OnEvent != nil {
		p.o.OnEvent(e)
	}
}

// problem tells what is wrong with file, without the name of the system call and the path, which err may hold.
func (p *publication) problem(file string, err error) {
	p.event(Event{Kind: Problem, Path: file, Message: bare(err).Error()})
}

func bare(err error) error {
	var in *fs.PathError
	if errors.As(err, &in) {
		return in.Err
	}
	return err
}

func (p *publication) note(file, message string) {
	p.event(Event{Kind: Note, Path: file, Message: message})
}

// Temporary files bear a name that no later run takes for anything else.
const (
	tempMark   = ".tmp."
	tempPrefix = StateName + tempMark
)

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// replace makes data appear in dir under name, in one step. Whoever may read mode may read it, whatever the umask is.
func (d folder) replace(name string, data []byte, mode fs.FileMode) (stamp, error) {
	temp := tempPrefix + rand.Text()
	f, err := d.open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
	if err != nil {
		return stamp{}, err
	}
	_, err = f.Write(data)
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if err == nil && mode&readable&^info.Mode() != 0 {
		err = f.Chmod(info.Mode().Perm() | mode&readable)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.rename(temp, name)
	}
	if err != nil {
		d.remove(temp)
		return stamp{}, bare(err)
	}
	return stampOf(info), nil
}

// webSeeds are the URLs of the file of this path.
func (p *publication) webSeeds(file string) (list []string) {
	for _, root := range p.o.Mirrors {
		list = append(list, metainfo.WebSeedURL(root, file))
	}
	return list
}

// each calls do for 0 to n-1, several at the same time.
func (p *publication) each(ctx context.Context, n int, do func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(p.o.Jobs, n) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				do(i)
			}
		})
	}
	workers.Wait()
}
