package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process is a worker.
type process struct {
	conn   *os.File
	stderr *firstBytes
	killed chan struct{} // asks for it, see launch
	done   chan struct{} // there is nobody to ask: it was killed, or has ended
	ended  chan struct{}
}

// workerEnv is the whole environment of the worker: the BitTorrent library reads its tuning there. To hash a piece is to wait
// for our verdict, so many may do that at once.
var workerEnv = []string{"TORRENT_MAX_ACTIVE_PIECE_HASHERS=64"}

// launch starts a worker. It inherits nothing but its end of a socket pair, and file as descriptor 3.
func launch(worker string, file *os.File) (*process, error) {
	mine, theirs, err := socketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &process{conn: mine, stderr: &firstBytes{}, killed: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{})}
	cmd := &exec.Cmd{Path: worker, Args: []string{worker}, Env: workerEnv, Dir: "/", WaitDelay: 3 * time.Second,
		Stdin: theirs, Stdout: p.stderr, Stderr: p.stderr, ExtraFiles: []*os.File{file}} // nothing opens /dev/null
	keepToOurselves()
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Landlock confines each thread by itself: only the one that started the worker may kill it
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		if started <- err; err != nil {
			return
		}
		select {
		case <-p.killed:
			cmd.Process.Kill()
		case <-p.ended:
		}
	}()
	if err := <-started; err != nil {
		p.conn.Close()
		return nil, err
	}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// kill ends the worker whatever it does.
func (p *process) kill() {
	select {
	case p.killed <- struct{}{}:
	case <-p.done:
	}
	<-p.done
}

// leave lets the worker go. It ends when its socket does.
func (p *process) leave(out *frames) {
	p.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	out.write(kindStop)
	p.conn.Close()
}

// lastWords is how long a worker that has closed its end may take until it has ended.
const lastWords = 10 * time.Second

// why tells of a worker that is gone what it said last.
func (p *process) why(err error) error {
	select {
	case <-p.ended:
	case <-time.After(lastWords):
	}
	if text := p.stderr.line(); text != "" {
		return fmt.Errorf("stopped: %s", text)
	}
	return fmt.Errorf("stopped: %w", err)
}

// firstBytes keeps the beginning of what is written to it.
type firstBytes struct {
	mu   sync.Mutex
	text []byte
}

func (f *firstBytes) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text = append(f.text, p[:min(len(p), maxText-len(f.text))]...)
	return len(p), nil
}

func (f *firstBytes) line() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	line, _, _ := bytes.Cut(bytes.TrimSpace(f.text), []byte("\n"))
	return string(line)
}
