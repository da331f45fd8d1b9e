package fetcher

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"torrent-xfer/internal/mirrortest"
)

// gate is what all mirrors of a world send through: narrowed, they send so many bytes of the file together, and what is
// to happen before the rest comes happens however busy the machine is. It has to be opened before a mirror is closed.
type gate struct {
	mu     sync.Mutex
	opened sync.Cond
	shut   bool
	left   int64
}

func newGate() *gate {
	g := new(gate)
	g.opened.L = &g.mu
	return g
}

// narrow lets n more bytes pass.
func (g *gate) narrow(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.left = true, n
}

// open lets everything pass.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	g.opened.Broadcast()
}

// ask returns how many of n bytes may pass, at least one.
func (g *gate) ask(n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut && g.left == 0 {
		g.opened.Wait()
	}
	if g.shut {
		n = int(min(int64(n), g.left))
		g.left -= int64(n)
	}
	return n
}

// gated is content behind a gate.
type gated struct {
	data io.ReaderAt
	gate *gate
}

// ReadAt implements io.ReaderAt, but that it may give less than asked for.
func (g gated) ReadAt(p []byte, off int64) (int, error) {
	return g.data.ReadAt(p[:g.gate.ask(len(p))], off)
}

// behindGate has the file among files pass the world's gate.
func (w *world) behindGate(files map[string]mirrortest.File) {
	f, ok := files[testPath]
	if _, already := f.Data.(gated); ok && !already && f.Data != nil {
		f.Data = gated{f.Data, w.gate}
		files[testPath] = f
	}
}

const patience = 3 * time.Minute // a test that waits longer has failed

// interrupted fetches until done bytes more are in place, and when says so unless it is nil. The rest cannot come before
// that: of the file more than done+spare bytes have to be missing.
func (w *world) interrupted(done int64, when func(Event) bool) *Result {
	w.Helper()
	const spare = 768 << 10 // for what is lost on the way
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	late := time.AfterFunc(patience, func() {
		w.Errorf("%d bytes were never there", done)
		cancel()
	})
	defer late.Stop()
	w.gate.narrow(done + spare)
	defer w.gate.open()
	w.fetcher.OnEvent = func(e Event) {
		if e.Done-e.Resumed >= done && (when == nil || when(e)) {
			cancel()
		}
	}
	res, err := w.fetcher.Fetch(ctx, w.prepare())
	if !errors.Is(err, context.Canceled) {
		w.Fatalf("interrupted: %v", err)
	}
	w.fetcher.OnEvent = nil
	return res
}

func (w *world) interruptAt(done int64) {
	w.Helper()
	w.interrupted(done, nil)
	w.noPartial()
}

// meanwhile has act done once, when done bytes are in place and long before all are: more than spare bytes have to be missing.
func (w *world) meanwhile(done int64, act func()) {
	const spare = 256 << 10
	w.gate.narrow(done + spare)
	w.Cleanup(w.gate.open)
	acted := false
	w.fetcher.OnEvent = func(e Event) {
		if !acted && e.Done >= done && e.Kind != Finished {
			acted = true
			act()
			w.gate.open()
		}
	}
}
