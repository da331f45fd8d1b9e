package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

// installation is a private root with its own databases, cache, keys and configuration.
type installation struct {
	t                          *testing.T
	root, sync, cache, dir, db string
	args                       []string
}

// newInstallation has the repository "demo" on the servers, in this order.
func newInstallation(t *testing.T, servers ...string) *installation {
	t.Helper()
	need(t, "pacman", "gpg")
	if os.Geteuid() != 0 {
		need(t, "fakeroot")
	}
	dir := openDir(t)
	in := &installation{t: t, dir: dir, root: filepath.Join(dir, "root"), cache: filepath.Join(dir, "cache"),
		db: filepath.Join(dir, "db"), sync: filepath.Join(dir, "db", "sync")}
	for _, d := range []string{in.root, in.cache, in.sync} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	xfer := fmt.Sprintf("%s %s %s %%u %%o", filepath.Join(data, "calls"), filepath.Join(dir, "calls"), binary)
	writeConf(t, filepath.Join(dir, "pacman.conf"), xfer, servers...)
	in.args = []string{"--root", in.root, "--dbpath", in.db, "--cachedir", in.cache, "--gpgdir", gpgDir(),
		"--config", filepath.Join(dir, "pacman.conf"), "--logfile", filepath.Join(dir, "log"),
		"--hookdir", filepath.Join(dir, "hooks"), "--noconfirm", "--noscriptlet", "--noprogressbar"}
	return in
}

// writeConf writes a pacman.conf whose servers stand in a mirrorlist beside it, as most have it.
func writeConf(t *testing.T, file, xfer string, servers ...string) {
	t.Helper()
	list := "## Somewhere\n"
	for _, s := range servers {
		list += "Server = " + s + "\n"
	}
	dir := filepath.Dir(file)
	write(t, filepath.Join(dir, "mirrorlist"), []byte(list))
	write(t, file, []byte("[options]\nArchitecture = auto\nSigLevel = Required DatabaseOptional\nXferCommand = "+xfer+
		"\n\n[demo]\nInclude = "+filepath.Join(dir, "mirror*")+"\n"))
}

func (in *installation) pacman(args ...string) *exec.Cmd {
	argv := append(append([]string{"pacman"}, in.args...), args...)
	if os.Geteuid() != 0 {
		argv = append([]string{"fakeroot", "--"}, argv...)
	}
	return command(in.t, in.dir, argv[0], argv[1:]...)
}

// run runs pacman, fails the test unless it succeeds, and gives the calls it made of the transfer command.
func (in *installation) run(args ...string) []call {
	in.t.Helper()
	before := len(in.calls())
	out, status := finish(in.t, in.pacman(args...))
	if status != 0 {
		in.t.Fatalf("pacman %s: exit status %d\n%s", strings.Join(args, " "), status, out)
	}
	return in.calls()[before:]
}

type call struct {
	pid      int
	url, out string
}

// calls are all calls of the transfer command so far.
func (in *installation) calls() []call {
	in.t.Helper()
	b, err := os.ReadFile(filepath.Join(in.dir, "calls"))
	if err != nil {
		return nil
	}
	var calls []call
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			in.t.Fatalf("odd line in the list of calls: %q", line)
		}
		pid, _ := strconv.Atoi(f[0])
		calls = append(calls, call{pid, f[1], f[2]})
	}
	return calls
}

// wantCalls fails the test unless each name was asked for exactly once, at server. More calls mean that the transfer
// command failed and that pacman slept two seconds.
func wantCalls(t *testing.T, got []call, server string, names ...string) {
	t.Helper()
	want := map[string]int{}
	for _, n := range names {
		want[server+"/"+n]++
	}
	for _, c := range got {
		if want[c.url] == 0 {
			t.Errorf("pacman asked for %s more often than expected, or at another server", c.url)
		}
		want[c.url]--
	}
	for u, n := range want {
		if n > 0 {
			t.Errorf("pacman did not ask for %s", u)
		}
	}
}

func (in *installation) wantInstalled(packages ...pkg) {
	in.t.Helper()
	for _, p := range packages {
		same(in.t, p.installed(in.root), p.content)
	}
}

func TestInstallFromDeadLyingAndGoodMirrors(t *testing.T) {
	for _, c := range []struct {
		name       string
		ownTorrent bool // the liar has a torrent of its own wrong file, else the right one
		liarFirst  bool // else the dead mirror is
	}{
		{name: "the liar has the right torrent"},
		{name: "the liar has its own torrent", ownTorrent: true},
		{name: "the liar is first and has its own torrent", ownTorrent: true, liarFirst: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := newRepo(t)
			mktorrent(t, good, big.file())
			libtorrent(t, "hybrid", good, medium.file())
			lying := copyRepo(t, good)
			lie(t, lying, big.file())
			if c.ownTorrent {
				if err := os.Remove(filepath.Join(lying, big.file()+".torrent")); err != nil {
					t.Fatal(err)
				}
				mktorrent(t, lying, big.file())
			}
			const rate = 5_000_000
			liar, one, two := start(t, lying, rate), start(t, good, rate), start(t, good, rate)
			servers := []string{dead(t), liar.url(), one.url(), two.url()}
			if c.liarFirst {
				servers[0], servers[1] = servers[1], servers[0]
			}
			in := newInstallation(t, servers...)

			calls := in.run("-Sy", "small", "medium", "big")

			wantCalls(t, calls, servers[0], "demo.db", small.file(), medium.file(), big.file())
			in.wantInstalled(small, medium, big)
			holds(t, in.cache, small.file(), medium.file(), big.file())
			holds(t, in.sync, "demo.db")
			for _, p := range []pkg{small, medium, big} {
				same(t, filepath.Join(in.cache, p.file()), read(t, filepath.Join(good, p.file())))
			}
			if liar.sent(big.file()) == 0 {
				t.Error("the liar was never asked for the file, so nothing was tried")
			}
			if one.sent(big.file()) == 0 || two.sent(big.file()) == 0 {
				t.Errorf("the good mirrors did not both give: %d and %d bytes", one.sent(big.file()), two.sent(big.file()))
			}
		})
	}
}

func TestRefresh(t *testing.T) {
	repo := newRepo(t)
	published := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	publish := func(at time.Time) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(repo, "demo.db.tar.gz"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	publish(published)
	m := start(t, repo, 0)
	in := newInstallation(t, m.url())
	db := filepath.Join(in.sync, "demo.db")
	// refresh runs pacman and gives the mirror's view of it.
	refresh := func(how string) mirrortest.Entry {
		t.Helper()
		before := len(m.requests("demo.db"))
		wantCalls(t, in.run(how), m.url(), "demo.db")
		holds(t, in.sync, "demo.db")
		same(t, db, read(t, filepath.Join(repo, "demo.db")))
		asked := m.requests("demo.db")[before:]
		if len(asked) != 1 {
			t.Fatalf("%s: the mirror got %d requests for the database instead of one", how, len(asked))
		}
		if n := len(m.requests("demo.db.torrent")); n != 0 {
			t.Errorf("%s: a torrent of the database was looked for", how)
		}
		return asked[0]
	}
	wantTime := func(how string, want time.Time) {
		t.Helper()
		st, err := os.Stat(db)
		if err != nil {
			t.Fatal(err)
		}
		if !st.ModTime().Equal(want) {
			t.Errorf("after %s the database's time is %v, not the server's Last-Modified %v", how, st.ModTime().UTC(), want)
		}
	}

	if r := refresh("-Sy"); r.Status != http.StatusOK || r.Header.Get("If-Modified-Since") != "" {
		t.Errorf("first -Sy: status %d, If-Modified-Since %q", r.Status, r.Header.Get("If-Modified-Since"))
	}
	wantTime("the first -Sy", published)

	if r := refresh("-Sy"); r.Status != http.StatusNotModified || r.Header.Get("If-Modified-Since") != published.Format(http.TimeFormat) {
		t.Errorf("second -Sy: status %d instead of 304, If-Modified-Since %q", r.Status, r.Header.Get("If-Modified-Since"))
	}
	wantTime("a -Sy without news", published)

	if r := refresh("-Syy"); r.Status != http.StatusOK || r.Header.Get("If-Modified-Since") != "" {
		t.Errorf("-Syy: status %d, If-Modified-Since %q, wanted an unconditional request", r.Status, r.Header.Get("If-Modified-Since"))
	}
	wantTime("-Syy", published)

	if err := addPackage(repo, pkg{"extra", "1.0-1", noise(9, 1000)}); err != nil {
		t.Fatal(err)
	}
	published = published.Add(time.Hour)
	publish(published)
	// A part that another program left of the version before: pacman 6 hands it on.
	write(t, db+".part", read(t, db)[:100])
	if r := refresh("-Sy"); r.Status != http.StatusOK || r.Range != "" {
		t.Errorf("-Sy with news and an old part: status %d, Range %q, wanted the whole new database", r.Status, r.Range)
	}
	wantTime("a -Sy with news", published)

	write(t, db+".part", noise(8, 100_000))
	refresh("-Sy")
	wantTime("a -Sy with rubbish as part", published)
}

func TestUpgradeDownloadOnlyAndLocalFile(t *testing.T) {
	tree := openDir(t)
	layout := "/demo/os/" + strings.TrimSpace(must(t, command(t, tree, "uname", "-m")))
	repo := tree + layout
	if err := os.MkdirAll(filepath.Dir(repo), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(newRepo(t), repo); err != nil {
		t.Fatal(err)
	}
	mktorrent(t, repo, medium.file())
	m, deadHost := start(t, tree, 0), dead(t)
	in := newInstallation(t, deadHost+"/$repo/os/$arch", m.url()+"/$repo/os/$arch/")
	first := deadHost + layout

	wantCalls(t, in.run("-Sy", "small", "medium"), first, "demo.db", small.file(), medium.file())
	in.wantInstalled(small, medium)

	// An epoch, a plus and a tilde stay as they are in the file's name.
	newer := pkg{"medium", "1:1.1+git~2-1", noise(12, 1_500_000)}
	if err := addPackage(repo, newer); err != nil {
		t.Fatal(err)
	}
	libtorrent(t, "v2", repo, newer.file())
	wantCalls(t, in.run("-Sy"), first, "demo.db")
	wantCalls(t, in.run("-Su"), first, newer.file())
	in.wantInstalled(small, newer)
	holds(t, in.cache, small.file(), medium.file(), newer.file())

	wantCalls(t, in.run("-Sw", "big"), first, big.file())
	same(t, filepath.Join(in.cache, big.file()), read(t, filepath.Join(repo, big.file())))
	if _, err := os.Stat(big.installed(in.root)); err == nil {
		t.Error("-Sw installed the package")
	}
	// pacman 6.0 asks again for a package that is in the cache without its signature.
	wantCalls(t, in.run("-S", "big"), first, big.file())
	in.wantInstalled(big)

	wantCalls(t, in.run("-U", filepath.Join(repo, medium.file())), first)
	in.wantInstalled(medium)
	holds(t, in.cache, small.file(), medium.file(), newer.file(), big.file())
}

// What another program left under %o pacman keeps and hands on, whatever it holds.
func TestForeignPart(t *testing.T) {
	for _, withTorrent := range []bool{true, false} {
		for _, c := range []struct {
			name string
			part func(right []byte) []byte
		}{
			{"right prefix", func(b []byte) []byte { return b[:len(b)/3] }},
			{"wrong prefix", func(b []byte) []byte { return noise(50, len(b)/3) }},
			{"right length, wrong bytes", func(b []byte) []byte { return noise(51, len(b)) }},
			{"one wrong bit", func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 4; return b }},
			{"too long", func(b []byte) []byte { return append(bytes.Clone(b), noise(52, 5000)...) }},
			{"too long, wrong bytes", func(b []byte) []byte { return noise(53, len(b)+5000) }},
			{"complete and right", func(b []byte) []byte { return b }},
			{"empty", func(b []byte) []byte { return nil }},
		} {
			t.Run(fmt.Sprintf("%s, torrent %v", c.name, withTorrent), func(t *testing.T) {
				repo := newRepo(t)
				if withTorrent {
					mktorrent(t, repo, medium.file())
				}
				m := start(t, repo, 0)
				in := newInstallation(t, m.url())
				right := read(t, filepath.Join(repo, medium.file()))
				write(t, filepath.Join(in.cache, medium.file()+".part"), c.part(right))

				wantCalls(t, in.run("-Sy", "medium"), m.url(), "demo.db", medium.file())

				in.wantInstalled(medium)
				same(t, filepath.Join(in.cache, medium.file()), right)
				holds(t, in.cache, medium.file())
			})
		}
	}
}

// A killed transfer costs what was under way, not what was there.
func TestKilledTransferIsResumed(t *testing.T) {
	for _, c := range []struct {
		name                string
		withPacman, torrent bool
	}{
		{name: "the transfer alone, pacman goes on at its next server", torrent: true},
		{name: "with pacman, run again", torrent: true, withPacman: true},
		{name: "with pacman, run again, no torrent", withPacman: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			repo := newRepo(t)
			if c.torrent {
				mktorrent(t, repo, big.file())
			}
			packed := read(t, filepath.Join(repo, big.file()))
			size := int64(len(packed))
			file := mirrortest.Bytes(packed)
			held := mirrortest.Hold(file.Data, size*7/10)
			file.Data = held
			var mirrors []*mirror
			for range 2 {
				mirrors = append(mirrors, startWith(t, mirrortest.Config{Dir: repo, Rate: 8_000_000,
					Files: map[string]mirrortest.File{"/" + big.file(): file}}))
			}
			t.Cleanup(held.Release)
			in := newInstallation(t, mirrors[0].url(), mirrors[1].url())
			in.run("-Sy")
			sent := func() int64 { return mirrors[0].sent(big.file()) + mirrors[1].sent(big.file()) }

			cmd := in.pacman("-S", "big")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			for arrived(t, in.cache) < size*6/10 {
				select {
				case err := <-ended:
					t.Fatalf("pacman ended before it could be killed: %v\n%s", err, out.String())
				case <-time.After(5 * time.Millisecond):
				}
			}
			calls := in.calls()
			child := calls[len(calls)-1]
			victim := child.pid
			if c.withPacman {
				victim = -cmd.Process.Pid // all at once, as when the power fails
			}
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatalf("the transfer %d was gone: %v", victim, err)
			}
			held.Release()
			err := <-ended
			if c.withPacman {
				if err := os.Remove(filepath.Join(in.db, "db.lck")); err != nil {
					t.Error(err)
				}
				in.run("-S", "big")
			} else if err != nil {
				t.Fatalf("pacman failed after its transfer was killed: %v\n%s", err, out.String())
			}

			if n := len(in.calls()) - len(calls); n != 1 {
				t.Errorf("%d more calls of the transfer command instead of one", n)
			}
			in.wantInstalled(big)
			holds(t, in.cache, big.file())
			// Without resuming it would be 1.6 times the file and more.
			if got := sent(); got > size*3/2 {
				t.Errorf("the mirrors sent %d bytes for a file of %d; what was there was fetched again", got, size)
			}
		})
	}
}

// arrived is how much of unfinished files is on the disk.
func arrived(t *testing.T, dir string) (sum int64) {
	t.Helper()
	hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range hidden {
		if info, err := os.Stat(file); err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
	}
	return sum
}

// checkupdates of pacman-contrib refreshes a database of its own under fakeroot, as an ordinary user.
func TestCheckupdates(t *testing.T) {
	need(t, "fakeroot")
	repo := newRepo(t)
	m, first := start(t, repo, 0), dead(t)
	in := newInstallation(t, first, m.url())
	dir := ownDir(t, 0o755)
	cmd := command(t, "/nonexistent", "fakeroot", "--", "pacman", "-Sy", "--dbpath", dir, "--logfile", "/dev/null",
		"--config", filepath.Join(in.dir, "pacman.conf"), "--gpgdir", gpgDir(), "--noconfirm")
	write(t, filepath.Join(in.dir, "calls"), nil)
	if err := os.Chmod(filepath.Join(in.dir, "calls"), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody()}
	must(t, cmd)
	wantCalls(t, in.calls(), first, "demo.db")
	same(t, filepath.Join(dir, "sync", "demo.db"), read(t, filepath.Join(repo, "demo.db")))
	holds(t, filepath.Join(dir, "sync"), "demo.db")
}
