package seeder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	jobsDir    = "jobs"
	jobFile    = "file"
	keyLength  = 16 // bytes, of which twice as many digits name a job's directory
	manyJobs   = 8  // downloads at once
	jobKept    = 24 * time.Hour
	tellEvery  = 200 * time.Millisecond
	silentMost = 30 * time.Second // between two answers to a download
)

var errManyJobs = errors.New("it downloads as much as it does at once")

// Order is a download that is handed to the daemon.
type Order struct {
	URL     string   `json:"url"`
	Mirrors []string `json:"mirrors,omitempty"`
	Size    int64    `json:"size,omitempty"`
	SHA256  []byte   `json:"sha256,omitempty"`
	SHA512  []byte   `json:"sha512,omitempty"`
	Seed    bool     `json:"seed,omitempty"` // it is handed to the daemon when it is here
}

// proven tells whether a digest says which content is meant, whoever brings it and whenever it was brought.
func (o Order) proven() bool { return len(o.SHA256)+len(o.SHA512) > 0 }

// key is the same for orders of the same file. Without a digest it matters where it comes from.
func (o Order) key() string {
	if o.proven() {
		o.Mirrors = nil
	}
	text, err := json.Marshal(o)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:keyLength])
}

// job is a download under way, or one that has ended.
type job struct {
	order Order
	dir   string
	ended chan struct{}
	err   error // once it has ended

	mu   sync.Mutex
	last []byte // what it told last
}

func (j *job) told() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.last)
}

// jobs are the downloads of a daemon.
type jobs struct {
	mu   sync.Mutex
	list map[string]*job
	all  sync.WaitGroup
}

// order returns the job for o, which goes on until ctx, the daemon's, ends, whoever waits for it.
func (d *Daemon) order(ctx context.Context, o Order) (*job, error) {
	if d.Download == nil {
		return nil, errors.New("it downloads nothing")
	}
	key := o.key()
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	running := 0
	for _, j := range d.jobs.list {
		select {
		case <-j.ended:
		default:
			running++
		}
	}
	if j := d.jobs.list[key]; j != nil {
		return j, nil
	}
	if running >= manyJobs {
		return nil, errManyJobs
	}
	j := &job{order: o, dir: filepath.Join(d.Library.dir, jobsDir, key), ended: make(chan struct{})}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, err
	}
	if d.jobs.list == nil {
		d.jobs.list = map[string]*job{}
	}
	d.jobs.list[key] = j
	d.jobs.all.Go(func() {
		d.Log.Info("downloads", "url", o.URL)
		j.err = d.Download(ctx, o, filepath.Join(j.dir, jobFile), func(line []byte) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.last = slices.Clone(line)
		})
		close(j.ended)
		if j.err != nil { // whoever asks again has it tried again, from what is there
			d.Log.Info("not downloaded", "url", o.URL, "why", j.err)
			d.jobs.mu.Lock()
			delete(d.jobs.list, key)
			d.jobs.mu.Unlock()
		}
	})
	return j, nil
}

// sweepJobs removes what nobody has asked for in a day, that of earlier daemons too.
func (d *Daemon) sweepJobs(now time.Time) {
	dir := filepath.Join(d.Library.dir, jobsDir)
	list, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	for _, f := range list {
		if raw, err := hex.DecodeString(f.Name()); err != nil || len(raw) != keyLength {
			continue // it is not ours
		}
		if j := d.jobs.list[f.Name()]; j != nil {
			select {
			case <-j.ended:
			default:
				continue
			}
		}
		if info, err := f.Info(); err == nil && now.Sub(info.ModTime()) > jobKept {
			delete(d.jobs.list, f.Name())
			os.RemoveAll(filepath.Join(dir, f.Name()))
		}
	}
}

// collected has who asks from now on get what is at the URL then, unless a digest proves that it is the same. Those who wait for j
// still get its file. on is false for one who did not get it after all.
func (d *Daemon) collected(j *job, on bool) {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	switch key := filepath.Base(j.dir); {
	case j.order.proven():
	case on && d.jobs.list[key] == j:
		delete(d.jobs.list, key)
	case !on && d.jobs.list[key] == nil:
		d.jobs.list[key] = j
	}
}

// download answers a request for one: how it goes, and in the end its file.
func (d *Daemon) download(ctx context.Context, c *conn, r Request) error {
	if r.Order == nil {
		return errProtocol
	}
	j, err := d.order(ctx, *r.Order)
	if err != nil {
		return c.say(answer{Error: err.Error()})
	}
	for {
		over := false
		select {
		case <-j.ended:
			over = true
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tellEvery):
		}
		if !over {
			if err := c.say(answer{Progress: j.told()}); err != nil {
				return err
			}
			continue
		}
		if j.err != nil {
			return c.say(answer{Error: j.err.Error()})
		}
		path := filepath.Join(j.dir, jobFile)
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			d.jobs.mu.Lock()
			delete(d.jobs.list, filepath.Base(j.dir))
			d.jobs.mu.Unlock()
			return c.say(answer{Error: err.Error()})
		}
		defer f.Close()
		if err := f.Chmod(0o644); err != nil { // no name leads there, but whoever gets it has to be able to open it anew
			return err
		}
		d.collected(j, true)
		err = c.pass(answer{Done: true}, f)
		if err != nil {
			d.collected(j, false)
		}
		return err
	}
}

// pass says a with a descriptor.
func (c *conn) pass(a answer, f *os.File) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	c.SetWriteDeadline(time.Now().Add(answerTime))
	_, _, err = c.WriteMsgUnix(append(text, '\n'), syscall.UnixRights(int(f.Fd())), nil)
	return err
}

// Download has the daemon download what o says, or waits for what it is downloading already, and returns the file, open for
// reading. tell is told how it goes, in the words of Daemon.Download. Whoever goes away leaves it going on.
func (c *Client) Download(ctx context.Context, o Order, tell func(line []byte)) (*os.File, error) {
	line, err := json.Marshal(Request{Version: protocolVersion, Do: "download", Order: &o})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.c.SetWriteDeadline(time.Now().Add(handOverTime))
	if _, err := c.c.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	for {
		c.c.SetReadDeadline(time.Now().Add(silentMost))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		line, err := c.c.line()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		switch {
		case a.Error != "":
			return nil, errors.New(a.Error)
		case a.Done:
			f := c.c.file()
			if f == nil {
				return nil, fmt.Errorf("%w: no file came", errProtocol)
			}
			return f, nil
		case len(a.Progress) > 0:
			tell(a.Progress)
		}
	}
}
