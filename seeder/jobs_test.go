package seeder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A download goes on without whoever asked for it, and whoever asks again attaches to it or gets what is there.
func TestDownloadsGoOn(t *testing.T) {
	calls, goOn := make(chan Order, 10), make(chan error)
	download := func(ctx context.Context, o Order, dest string, tell func([]byte)) error {
		calls <- o
		tell([]byte(`{"done":1}`))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-goOn:
			if err == nil {
				err = os.WriteFile(dest, []byte("content"), 0o600)
			}
			return err
		}
	}
	r := startChanged(t, t.TempDir(), Config{}, func(d *Daemon) { d.Download = download })
	o := Order{URL: "http://host/a", Size: 7, SHA256: make([]byte, 32)}
	first, cancel := context.WithCancel(t.Context())
	if _, err := r.client.Download(first, o, func([]byte) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 2 { // under way, and done
		f, err := dial(t, r.socket).Download(t.Context(), o, func([]byte) {
			select {
			case goOn <- nil:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != "content" {
			t.Errorf("%q %v", data, err)
		}
		f.Close()
	}
	if len(calls) != 1 {
		t.Errorf("downloaded %d times", len(calls))
	}
	other := Order{URL: "http://host/b"}
	if _, err := dial(t, r.socket).Download(t.Context(), other, func([]byte) {
		select {
		case goOn <- errors.New("nobody has it"):
		default:
		}
	}); err == nil || err.Error() != "nobody has it" {
		t.Error(err)
	}
}

// Without a digest nothing tells that a file is what is at its URL now: it is given to those who wait for it, or to the first who asks
// once it is there, and only to those who would take it from the same places.
func TestDownloadsWithoutDigestAreFetchedAnew(t *testing.T) {
	calls, goOn := make(chan Order, 10), make(chan struct{}, 10)
	r := startChanged(t, t.TempDir(), Config{}, func(d *Daemon) {
		d.Download = func(ctx context.Context, o Order, dest string, tell func([]byte)) error {
			calls <- o
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-goOn:
				return os.WriteFile(dest, fmt.Appendf(nil, "%d %v", len(calls), o.Mirrors), 0o600)
			}
		}
	})
	get := func(o Order) string {
		f, err := dial(t, r.socket).Download(t.Context(), o, func([]byte) {})
		if err != nil {
			t.Error(err)
			return ""
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	o := Order{URL: "http://host/latest"}
	foreign := Order{URL: o.URL, Mirrors: []string{"http://evil/latest"}}
	r.do(t, Request{Do: "status"}) // it has begun
	for _, o := range []Order{foreign, o} {
		j, err := r.order(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		goOn <- struct{}{}
		<-j.ended
	}
	for i, want := range []string{"2 []", "3 []", "4 []"} { // the first gets what waits
		if i > 0 {
			goOn <- struct{}{}
		}
		if got := get(o); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	if got := get(foreign); got != "1 [http://evil/latest]" {
		t.Errorf("%q", got)
	}
}

// bringing is a Download that tells of its calls, and brings n bytes once it may.
type bringing struct {
	calls chan Order
	goOn  chan int // bytes; negative: it fails
	tells int64    // the size of what was ordered without one, if not 0
}

func newBringing() *bringing {
	return &bringing{calls: make(chan Order, 100), goOn: make(chan int, 100)}
}

func (b *bringing) download(ctx context.Context, o Order, dest string, tell func([]byte)) error {
	b.calls <- o
	if b.tells > 0 && o.Size == 0 {
		tell(fmt.Appendf(nil, `{"event":"progress","size":%d}`, b.tells))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case n := <-b.goOn:
		if n < 0 {
			return errors.New("nobody has it")
		}
		return os.WriteFile(dest, make([]byte, n), 0o600)
	}
}

func digested(name string, size int64) Order {
	sum := sha256.Sum256([]byte(name))
	return Order{URL: "http://host/" + name, Size: size, SHA256: sum[:]}
}

// What is ordered is brought although the daemon ends meanwhile, and what was brought is still given. What failed is not tried unasked.
func TestDownloadsOutliveTheDaemon(t *testing.T) {
	dir := t.TempDir()
	start := func() (*running, *bringing) {
		b := newBringing()
		return startChanged(t, dir, Config{}, func(d *Daemon) { d.Download = b.download }), b
	}
	o, latest, failed := digested("a", 5), Order{URL: "http://host/latest"}, digested("failed", 5)
	r, b := start()
	r.do(t, Request{Do: "status"}) // it has begun
	b.goOn <- -1
	j, err := r.order(t.Context(), failed)
	if err != nil {
		t.Fatal(err)
	}
	<-j.ended
	<-b.calls
	if _, err := dial(t, r.socket).Download(whenCalled(t, b), o, func([]byte) {}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.stop()

	r, b = start()
	if again := <-b.calls; again.URL != o.URL {
		t.Errorf("%+v", again)
	}
	b.goOn <- 5
	eventually(t, "it has not come", func() bool { return r.ended(o.URL) })
	b.goOn <- 5
	if _, err := r.order(t.Context(), latest); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has not come", func() bool { return r.ended(latest.URL) })
	r.stop()

	r, _ = start()
	for _, o := range []Order{o, o, latest} {
		f, err := dial(t, r.socket).Download(t.Context(), o, func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 5 {
			t.Error(info, err)
		}
		f.Close()
	}
	r.stop()

	r, b = start()
	list := r.do(t, Request{Do: "status"}).Downloads
	if len(b.calls) != 0 || len(list) != 1 || list[0] != (DownloadStatus{o.URL, 5, true}) {
		t.Errorf("%d were brought again; there is %+v", len(b.calls), list)
	}
}

// whenCalled is a context that ends when b is called.
func whenCalled(t *testing.T, b *bringing) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-b.calls
		cancel()
	}()
	return ctx
}

func (r *running) ended(url string) bool {
	return slices.ContainsFunc(r.Status().Downloads, func(s DownloadStatus) bool { return s.URL == url && s.Ended })
}

// Downloads take of the budget of disk: for one that fits by itself older ones that have ended give way, and files in the library.
func TestDownloadsKeepToTheBudget(t *testing.T) {
	d, swarm := still(t, Config{Space: 250_000}, "a", "b")
	b := newBringing()
	b.tells = 100_000
	d.Download = b.download
	ctx, cancel := context.WithCancel(t.Context())
	defer d.jobs.all.Wait()
	defer cancel()
	order := func(name string, size int64) *job {
		t.Helper()
		j, err := d.order(ctx, digested(name, size))
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	holds := func(files int, downloads ...string) {
		t.Helper()
		s, urls := d.Status(), []string(nil)
		for _, j := range s.Downloads {
			urls = append(urls, filepath.Base(j.URL))
		}
		if slices.Sort(urls); !slices.Equal(urls, downloads) || len(s.Torrents) != files || swarm.offered() != files || s.Space.Used > s.Space.Most {
			t.Errorf("%d files and %q: %+v", files, downloads, s)
		}
	}
	first := order("first", 100_000)
	holds(1, "first")
	b.goOn <- 100_000
	<-first.ended
	if d.take(t.Context(), offer(t, "c", 'c', 200_000)); len(d.Library.Entries()) != 1 {
		t.Error("it was taken over the budget")
	}
	order("second", 200_000)
	holds(0, "second")
	if _, err := d.order(ctx, digested("third", 100_000)); !errors.Is(err, ErrRoom) {
		t.Error(err)
	}
	holds(0, "second")
	if j := order("unknown", 0); func() bool { <-j.ended; return !errors.Is(j.err, ErrRoom) }() {
		t.Error(j.err)
	}
	holds(0, "second")
}

func TestDownloadsAreSwept(t *testing.T) {
	d, _ := still(t, Config{})
	b := newBringing()
	d.Download = b.download
	ctx, cancel := context.WithCancel(t.Context())
	defer d.jobs.all.Wait()
	defer cancel()
	for i := range manyJobs {
		if _, err := d.order(ctx, digested(fmt.Sprint(i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.order(ctx, digested("one more", 0)); !errors.Is(err, errManyJobs) {
		t.Error(err)
	}
	b.goOn <- 1
	ended := func() bool {
		return slices.ContainsFunc(d.Status().Downloads, func(s DownloadStatus) bool { return s.Ended })
	}
	eventually(t, "none has ended", ended)
	if d.sweepJobs(time.Now()); len(d.keptJobs()) != manyJobs {
		t.Error("swept too soon")
	}
	if d.sweepJobs(time.Now().Add(jobKept + time.Minute)); len(d.keptJobs()) != manyJobs-1 || ended() {
		t.Errorf("%+v", d.Status().Downloads)
	}
}

// Who has gone away when the file is there has not got it: it waits for the next.
func TestAFileThatNobodyGotWaits(t *testing.T) {
	d, _ := still(t, Config{})
	b := newBringing()
	d.Download = b.download
	o := Order{URL: "http://host/latest"}
	b.goOn <- 5
	j, err := d.order(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	<-j.ended
	gone, c := pair(t)
	gone.Close()
	if err := d.download(t.Context(), c, Request{Order: &o}); err == nil {
		t.Fatal("it was passed to nobody")
	}
	if again, err := d.order(t.Context(), o); err != nil || again != j {
		t.Error("it is downloaded anew", err)
	}
	text, err := os.ReadFile(filepath.Join(j.dir, jobRecord))
	if err != nil || !bytes.Contains(text, []byte(`"done":true`)) {
		t.Errorf("%s %v", text, err)
	}
}

// A download of which nobody knows how long it is ends when it is over the budget.
func TestDownloadsWithoutEndHaveOne(t *testing.T) {
	d, _ := still(t, Config{Space: 100_000})
	written := make(chan error, 1)
	d.Download = func(ctx context.Context, _ Order, dest string, _ func([]byte)) error {
		written <- os.WriteFile(dest+".part", make([]byte, 100_001), 0o600)
		<-ctx.Done()
		return ctx.Err()
	}
	j, err := d.order(t.Context(), Order{URL: "http://host/endless"})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	d.sweepJobs(time.Now())
	if <-j.ended; !errors.Is(j.err, ErrRoom) {
		t.Error(j.err)
	}
	if d.sweepJobs(time.Now()); d.Status().Space.Used > 100_000 {
		t.Error("what came of it is still there")
	}
}
