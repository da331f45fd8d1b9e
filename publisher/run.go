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
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"torrent-xfer/metainfo"
)

// publication is one run.
type publication struct {
	o        Options
	choice   choice
	settings uint64 // stands for all options that the products depend on
	top, out *os.Root
	outID    identity        // of out, if it is not top
	state    *state          // nil: Check
	made     map[string]bool // outputs, without their suffixes, that are wanted
	wrote    bool

	mu     sync.Mutex // of all below, and of OnEvent
	report Report
}

func run(ctx context.Context, dir string, o Options, do func(*publication, context.Context) error) (*Report, error) {
	p := &publication{o: o, made: map[string]bool{}}
	err := p.open(dir)
	if err == nil {
		err = do(p, ctx)
	}
	if p.out != nil && p.out != p.top {
		p.out.Close()
	}
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
	p.settings = p.fingerprint()
	if p.top, err = os.OpenRoot(dir); err != nil {
		return err
	}
	p.out = p.top
	if p.beside() {
		return nil
	}
	out := p.o.Out
	if out == "" {
		out = filepath.Join(dir, "torrents")
	}
	if !p.o.DryRun {
		if err := os.MkdirAll(out, 0o777); err != nil {
			return err
		}
	}
	p.out = nil
	if p.out, err = os.OpenRoot(out); err != nil {
		return err
	}
	info, err := p.out.Stat(".")
	if err != nil {
		return err
	}
	p.outID = inodeOf(info)
	if top, err := p.top.Stat("."); err == nil && inodeOf(top) == p.outID && !p.o.Flat {
		return fmt.Errorf("%w: the torrents' tree is the files' own", ErrOptions)
	}
	return nil
}

func (p *publication) fingerprint() uint64 {
	b := p.o.Build
	b.WebSeeds = nil
	text, err := json.Marshal([]any{p.o.Mirrors, p.o.Version, p.o.PieceLength, b, p.o.DateOfFile, p.o.Metalink})
	if err != nil {
		panic(err) // strings, numbers and a date: cannot happen
	}
	sum := digestOf(text)
	return binary.BigEndian.Uint64(sum[:]) >> 1
}

func (p *publication) event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case Progress:
		p.report.HashedBytes += e.Bytes
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
	var in *fs.PathError
	if errors.As(err, &in) {
		err = in.Err
	}
	p.event(Event{Kind: Problem, Path: file, Message: err.Error()})
}

func (p *publication) note(file, message string) {
	p.event(Event{Kind: Note, Path: file, Message: message})
}

const tempPrefix = StateName + ".tmp."

func tempName() string { return tempPrefix + rand.Text() }

func isTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// replace makes data appear in the directory of the outputs under name, in one step.
func (p *publication) replace(name string, data []byte) (product, error) {
	dir := path.Dir(name)
	if dir != "." {
		if err := p.out.MkdirAll(dir, 0o777); err != nil {
			return product{}, err
		}
	}
	temp := path.Join(dir, tempName())
	f, err := p.out.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return product{}, err
	}
	_, err = f.Write(data)
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = p.out.Rename(temp, name)
	}
	if err != nil {
		p.out.Remove(temp)
		return product{}, err
	}
	return product{stampOf(info), digestOf(data)}, nil
}

// webSeeds are the URLs of the file of this path.
func (p *publication) webSeeds(file string) (list []string) {
	for _, root := range p.o.Mirrors {
		list = append(list, metainfo.WebSeedURL(root, file))
	}
	return list
}
