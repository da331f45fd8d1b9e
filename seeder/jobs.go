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
	jobRecord  = "order.json"
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
	order  Order
	dir    string
	cancel context.CancelCauseFunc // nil: it has ended in an earlier daemon
	ended  chan struct{}
	err    error // once it has ended
	size   int64 // bytes of its file; 0: unknown. The daemon's jobs.mu is held.

	mu   sync.Mutex
	last []byte // what it told last
}

func (j *job) running() bool {
	select {
	case <-j.ended:
		return false
	default:
		return true
	}
}

// save has a later daemon go on with the order, or know that its file is there.
func (j *job) save(done bool) error {
	text, err := json.Marshal(savedJob{j.order, done})
	if err != nil {
		return err
	}
	return replaceSynced(filepath.Join(j.dir, jobRecord), text)
}

// savedJob is a job on the disk.
type savedJob struct {
	Order Order `json:"order"`
	Done  bool  `json:"done"`
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
	if j := d.jobs.list[key]; j != nil {
		return j, nil
	}
	running := 0
	for _, j := range d.jobs.list {
		if j.running() {
			running++
		}
	}
	if running >= manyJobs {
		return nil, errManyJobs
	}
	j := &job{order: o, dir: filepath.Join(d.Library.dir, jobsDir, key), ended: make(chan struct{}), size: max(0, o.Size)}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, err
	}
	this, cancel := context.WithCancelCause(ctx)
	j.cancel = cancel
	d.jobs.put(key, j)
	err := d.jobsFit()
	if err == nil {
		err = j.save(false)
	}
	if err != nil {
		cancel(nil)
		d.jobs.drop(j)
		return nil, err
	}
	d.jobs.all.Go(func() {
		defer cancel(nil)
		err := d.run(this, j)
		if cause := context.Cause(this); err != nil && cause != nil {
			err = cause
		}
		d.jobs.mu.Lock()
		defer d.jobs.mu.Unlock()
		if j.err = err; err != nil && ctx.Err() == nil { // whoever asks again has it tried again, from what is there
			d.Log.Info("not downloaded", "url", o.URL, "why", err)
			d.jobs.drop(j)
		}
		close(j.ended)
	})
	return j, nil
}

// run downloads what j is of.
func (d *Daemon) run(ctx context.Context, j *job) error {
	d.Log.Info("downloads", "url", j.order.URL)
	path := filepath.Join(j.dir, jobFile)
	err := d.Download(ctx, j.order, path, func(line []byte) {
		j.mu.Lock()
		j.last = slices.Clone(line)
		j.mu.Unlock()
		var told struct{ Size int64 }
		if json.Unmarshal(line, &told) == nil {
			d.sized(j, told.Size)
		}
	})
	if err == nil {
		err = syncFile(path)
	}
	if err == nil {
		err = j.save(true)
	}
	return err
}

// sized is told how long the file of j is.
func (d *Daemon) sized(j *job, size int64) {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	if size <= j.size {
		return
	}
	j.size = size
	if err := d.jobsFit(); err != nil {
		j.cancel(err)
	}
}

// goOn takes up the downloads of earlier daemons.
func (d *Daemon) goOn(ctx context.Context) {
	for _, k := range d.keptJobs() {
		dir := filepath.Join(d.Library.dir, jobsDir, k.key)
		text, err := os.ReadFile(filepath.Join(dir, jobRecord))
		var s savedJob
		if err != nil || json.Unmarshal(text, &s) != nil || s.Order.key() != k.key {
			continue // nobody waits for it
		}
		if !s.Done {
			if _, err := d.order(ctx, s.Order); err != nil {
				d.Log.Info("not downloaded", "url", s.Order.URL, "why", err)
			}
			continue
		}
		j := &job{order: s.Order, dir: dir, ended: make(chan struct{})}
		close(j.ended)
		if info, err := os.Lstat(filepath.Join(dir, jobFile)); err == nil {
			j.size = info.Size()
		}
		d.jobs.mu.Lock()
		d.jobs.put(k.key, j)
		d.jobs.mu.Unlock()
	}
}

func (s *jobs) put(key string, j *job) {
	if s.list == nil {
		s.list = map[string]*job{}
	}
	s.list[key] = j
}

// drop forgets j. What is there of its file stays for whoever waits for it, and for a while. mu is held.
func (s *jobs) drop(j *job) {
	if key := filepath.Base(j.dir); s.list[key] == j {
		delete(s.list, key)
		os.Remove(filepath.Join(j.dir, jobRecord))
	}
}

// keptJob is a directory of a job, whether or not the job is known.
type keptJob struct {
	key   string
	size  int64     // bytes on the disk
	asked time.Time // when somebody last wanted it
}

// keptJobs are all, those first that nobody has wanted for the longest time.
func (d *Daemon) keptJobs() (all []keptJob) {
	dir := filepath.Join(d.Library.dir, jobsDir)
	list, _ := os.ReadDir(dir) // most often it is not there
	for _, f := range list {
		info, err := f.Info()
		if raw, herr := hex.DecodeString(f.Name()); err != nil || herr != nil || len(raw) != keyLength || !info.IsDir() {
			continue // it is not ours
		}
		k := keptJob{key: f.Name(), asked: info.ModTime()}
		files, _ := os.ReadDir(filepath.Join(dir, k.key))
		for _, f := range files {
			if info, err := f.Info(); err == nil && info.Mode().IsRegular() {
				k.size += info.Size()
			}
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b keptJob) int { return a.asked.Compare(b.asked) })
	return all
}

// size is what downloads take of the budget in bytes, with what is known to come, and what of it is under way. mu is held.
func (s *jobs) size(kept []keptJob) (all, running int64) {
	for _, k := range kept {
		j := s.list[k.key]
		if j != nil && j.running() {
			k.size = max(k.size, j.size)
			running += k.size
		}
		all += k.size
	}
	return all, running
}

// jobsFit has downloads keep to the budget of disk: those that have ended give way to others, and files in the library to all.
// ErrRoom: what is under way does not fit even so. jobs.mu is held.
func (d *Daemon) jobsFit() error {
	d.mu.Lock()
	space := d.config.Space
	d.mu.Unlock()
	if space <= 0 {
		return nil
	}
	kept := d.keptJobs()
	all, running := d.jobs.size(kept)
	if running > space {
		return ErrRoom
	}
	for _, k := range kept {
		if j := d.jobs.list[k.key]; all > space && (j == nil || !j.running()) {
			d.removeJob(k.key)
			all -= k.size
		}
	}
	for _, e := range d.least(d.Library.Entries()) {
		if d.Library.Size()+all <= space {
			break
		}
		if e.Path == "" {
			d.forget(e, "it does not fit the budget of disk any more")
		}
	}
	return nil
}

// removeJob removes the file of one that has ended. jobs.mu is held.
func (d *Daemon) removeJob(key string) {
	delete(d.jobs.list, key)
	os.RemoveAll(filepath.Join(d.Library.dir, jobsDir, key))
}

// sweepJobs removes what nobody has asked for in a day, that of earlier daemons too.
func (d *Daemon) sweepJobs(now time.Time) {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	for _, k := range d.keptJobs() {
		if j := d.jobs.list[k.key]; (j == nil || !j.running()) && now.Sub(k.asked) > jobKept {
			d.removeJob(k.key)
		}
	}
	if d.jobsFit() == nil {
		return
	}
	for _, j := range d.jobs.list {
		if j.running() && j.size == 0 { // nobody knows when it ends
			j.cancel(ErrRoom)
		}
	}
}

// collected has who asks from now on get what is at the URL then, unless a digest proves that it is the same. Those who wait for j
// still get its file. on is false for one who did not get it after all.
func (d *Daemon) collected(j *job, on bool) {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	now := time.Now()
	switch key := filepath.Base(j.dir); {
	case on && !j.order.proven():
		d.jobs.drop(j)
	case on:
		os.Chtimes(j.dir, now, now)
	case !j.order.proven() && d.jobs.list[key] == nil:
		d.jobs.put(key, j)
		j.save(true)
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
			d.jobs.drop(j)
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
