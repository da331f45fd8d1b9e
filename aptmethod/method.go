package aptmethod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Method serves one apt. The zero value is not usable: Name, In and Out have to be set, all else may stay zero.
type Method struct {
	// Name is what apt calls the method: the base name of its path, such as "torrent+http".
	Name string
	In   io.Reader
	Out  io.Writer
	// Engine fetches large files. nil: they come as small ones do.
	Engine Engine
	// Smallest is the size in bytes from which on a file is large. <= 0: 1 MiB. Acquire::torrent::Minimum-Size
	// counts more.
	Smallest int64
	// Env looks up the environment. nil: it is empty.
	Env func(name string) string
	// Prepare is called once, with apt's configuration, before anything is fetched: to give up privileges. Its error ends
	// all. nil: there is nothing to do.
	Prepare func(*Config) error
	// Confine is called once, when the first file is asked for. The method is going to write below the directories write
	// only, and to read read too. nil: there is nothing to do.
	Confine func(c *Config, write, read []string)
	// Debug receives the requests that are sent, if apt is told to show them. nil: nobody wants them.
	Debug func(text string)
	// Detect runs apt's proxy detector for a URL and returns what it printed. nil: none is run.
	Detect func(ctx context.Context, command, url string) (string, error)

	config    Config
	logins    []login
	encoded   bool // URIs come, and are sent on, with their escapes
	ready     bool // a 601 was seen
	limit     *rate.Limiter
	neighbors neighbors

	writing sync.Mutex
	mu      sync.Mutex
	more    *sync.Cond // the queue has changed
	queue   []*item
	ended   bool // nothing more is going to be asked for
	conn    *conn
	address string
	shy     map[string]bool // servers that are not to be sent requests ahead
	noRange map[string]bool // servers whose ranges are not to be trusted
	broken  int             // connections lost, in a row, while waiting for a header
}

// lastMoment is how long the end waits for a file to be put in order: apt waits for it.
const lastMoment = 500 * time.Millisecond

// ErrProtocol is wrapped by the error of Serve if apt, or whatever is in its place, said something that makes no sense.
var ErrProtocol = errors.New("apt's protocol was not followed")

// Serve speaks the protocol until the input ends (nil), ctx ends, or what comes makes no sense.
func (m *Method) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.more = sync.NewCond(&m.mu)
	m.shy, m.noRange = map[string]bool{}, map[string]bool{}
	m.config.named(m.Name)
	if m.Env == nil {
		m.Env = func(string) string { return "" }
	}
	if err := m.send(capabilities()); err != nil {
		return err
	}
	heard, worked := make(chan error, 1), make(chan error, 1)
	go func() { heard <- m.listen(ctx) }()
	go func() { worked <- m.work(ctx) }()
	var err error
	select {
	case err = <-heard:
	case err = <-worked:
		worked <- nil
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	m.mu.Lock()
	m.ended = true
	m.more.Broadcast()
	m.mu.Unlock()
	select {
	case <-worked: // the file that was growing is in order
	case <-time.After(lastMoment):
	}
	if errors.Is(err, ErrProtocol) {
		general := &message{code: 401, text: "General Failure"}
		general.add("Message", err.Error())
		m.send(general)
	}
	return err
}

func capabilities() *message {
	m := &message{code: 100, text: "Capabilities"}
	m.add("Version", "1.2")
	m.add("Pipeline", "true")
	m.add("Send-Config", "true")
	m.add("Send-URI-Encoded", "true")
	return m
}

func (m *Method) send(msg *message) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	_, err := m.Out.Write(msg.encode())
	return err
}

// status tells apt what goes on. It is displayed only while nothing has started.
func (m *Method) status(text string) {
	m.mu.Lock()
	uri := ""
	if len(m.queue) > 0 {
		uri = m.queue[0].uri
	}
	m.mu.Unlock()
	m.send(talk(102, "Status", uri, text))
}

func (m *Method) warning(uri, text string) { m.send(talk(104, "Warning", uri, text)) }

// listen reads what apt says. Its end ends all: nobody waits for an answer any more.
func (m *Method) listen(ctx context.Context) error {
	r := bufio.NewReaderSize(m.In, 64<<10)
	for {
		msg, err := readMessage(r)
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errMalformed):
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		case err != nil:
			return err
		}
		switch msg.code {
		case 601:
			err = m.configure(msg)
		case 600:
			err = m.accept(msg)
		}
		if err != nil {
			return err
		}
	}
}

func (m *Method) configure(msg *message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready {
		return nil // apt says it once
	}
	m.ready = true
	m.config.load(msg)
	m.encoded = m.config.Bool("Acquire::Send-URI-Encoded", false)
	m.logins = readLogins(&m.config) // which only root may read
	if m.Prepare != nil {
		if err := m.Prepare(&m.config); err != nil {
			return err
		}
	}
	if n := m.config.ourInt("", "Dl-Limit", 0); n > 0 {
		m.limit = rate.NewLimiter(rate.Limit(n<<10), int(min(max(n<<10/20, 1<<10), 64<<10)))
	}
	return nil
}

// accept takes a 600, and asks the server for the file at once if it may be asked ahead.
func (m *Method) accept(msg *message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready {
		return fmt.Errorf("%w: files are asked for before the configuration has come", ErrProtocol)
	}
	it, err := newItem(msg, m.encoded, m.Name)
	if it == nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err != nil || it.at.wire() != "http" && it.at.wire() != "https" {
		return m.send(failMessage(it.uri, permanent("%v", errURI)))
	}
	it.large = m.isLarge(it)
	if m.neighbors.files == nil {
		m.neighbors.load(&m.config)
		read := m.neighbors.reads(&m.config, it)
		if m.Confine != nil {
			m.Confine(&m.config, m.places(it), read)
		}
	}
	m.queue = append(m.queue, it)
	m.fill()
	m.more.Broadcast()
	return nil
}

// places lists the directories that apt has files put into.
func (m *Method) places(it *item) []string {
	dirs := []string{"."}
	for _, dir := range []string{filepath.Dir(it.filename), m.config.Directory("Dir::State::lists"), m.config.Directory("Dir::Cache::archives")} {
		if dir != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if dir := m.Env("TMPDIR"); filepath.IsAbs(dir) {
		return append(dirs, dir)
	}
	return append(dirs, "/tmp")
}

func (m *Method) isLarge(it *item) bool {
	least := m.Smallest
	if least <= 0 {
		least = 1 << 20
	}
	if n, err := strconv.ParseInt(m.config.Find("Acquire::"+ownScheme+"::Minimum-Size"), 10, 64); err == nil && n >= 0 {
		least = n // under whatever name
	}
	// What the user forbids, or wants proxies to be told, only the plain way knows.
	c, host := &m.config, it.at.host
	if !c.ourBool(host, "AllowRanges", true) || !c.ourBool(host, "AllowRedirect", true) || c.ourBool(host, "No-Cache", false) || c.ourBool(host, "No-Store", false) {
		return false
	}
	return m.Engine != nil && !it.index && it.expect.usable() && it.expect.size >= least &&
		!strings.EqualFold(it.message.get("Target-Type"), "index")
}

// head waits for the item that is to be worked on. nil: there are to be no more.
func (m *Method) head() *item {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) == 0 && !m.ended {
		m.more.Wait()
	}
	if m.ended {
		return nil
	}
	return m.queue[0]
}

// work brings one file after the other, so that apt sees one of them grow at a time.
func (m *Method) work(ctx context.Context) error {
	for ctx.Err() == nil {
		it := m.head()
		if it == nil {
			return nil
		}
		var err error
		m.mu.Lock()
		there := m.isThere(ctx, it)
		m.mu.Unlock()
		switch {
		case there:
			m.send(it.startMessage(it.ready.size, time.Time{}, it.ready.size))
			err = m.done(it, outcome{filename: it.filename, resumed: it.ready.size, found: *it.ready})
		case it.large:
			err = m.fetchLarge(ctx, it)
		default:
			err = m.step(ctx, it)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// drop takes an item out of the queue.
func (m *Method) drop(it *item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = without(m.queue, it)
}

func (m *Method) done(it *item, o outcome) error {
	m.drop(it)
	return m.send(it.doneMessage(o))
}

func (m *Method) fail(it *item, t *trouble) error {
	m.drop(it)
	m.mu.Lock()
	if m.address != "" && m.config.Bool("Acquire::Failure::ShowIP", true) && t.reason != "HashSumMismatch" {
		t.text += " " + m.address
	}
	m.mu.Unlock()
	return m.send(failMessage(it.uri, t))
}
