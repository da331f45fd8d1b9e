package e2e

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script is what one run of a newer pacman does around its XferCommand; cf. _alpm_download in lib/libalpm/dload.c.
type script struct {
	Version string // 6.1, 7.0 or 7.1
	Binary  string
	Servers []string
	Dir     string   // CacheDir, or DBPath/sync
	Names   []string // packages or databases; the signature of each is asked too
	Force   bool     // -Syy
	User    *syscall.Credential
}

// done is what the script saw.
type done struct {
	Calls []transfer
	Work  []string // names in the download directory after the last call; directories end in "/"
	Error string   // of the script itself
}

// transfer is one call of the XferCommand.
type transfer struct {
	URL, Output string
	Status      int
	Owner       uint32 // of the file it left
}

// actAsPacman is the main function when this test program was started under the name pacman.
func actAsPacman(in io.Reader, out io.Writer) int {
	var s script
	var d done
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		d.Error = err.Error()
	} else if err := s.play(&d); err != nil {
		d.Error = err.Error()
	}
	if err := json.NewEncoder(out).Encode(d); err != nil {
		return 1
	}
	return 0
}

// ownsDirectory tells whether this version downloads in a directory of its own that belongs to DownloadUser.
func (s *script) ownsDirectory() bool { return s.Version != "6.1" }

func (s *script) play(d *done) error {
	work := s.Dir
	if s.ownsDirectory() {
		work = filepath.Join(s.Dir, "download-"+rand.Text()[:6]) // as mkdtemp names it
		if err := os.Mkdir(work, 0o700); err != nil {
			return err
		}
		if s.User != nil {
			if err := os.Chown(work, int(s.User.Uid), int(s.User.Gid)); err != nil {
				return err
			}
		}
	}
	var payload []string
	for _, name := range s.Names {
		for i, server := range s.Servers {
			if !s.transfer(d, server+"/"+name, filepath.Join(work, name)) {
				continue
			}
			payload = append(payload, name)
			// 6.1.0 asks for the signature at the servers that come after the one that answered.
			signers := s.Servers[i+1:]
			if s.ownsDirectory() {
				signers = []string{server}
			}
			for _, signer := range signers {
				if s.transfer(d, signer+"/"+name+".sig", filepath.Join(work, name+".sig")) {
					payload = append(payload, name+".sig")
					break
				}
			}
			break
		}
	}
	entries, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		d.Work = append(d.Work, name)
	}
	if !s.ownsDirectory() {
		return nil
	}
	for _, name := range payload {
		if err := os.Rename(filepath.Join(work, name), filepath.Join(s.Dir, name)); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(work, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Remove(work)
}

// transfer is download_with_xfercommand in src/pacman/conf.c.
func (s *script) transfer(d *done, url, dest string) bool {
	part := dest + ".part"
	if s.Force {
		_ = os.Remove(part)
		_ = os.Remove(dest)
	}
	argv := []string{s.Binary, url, part}
	if s.Version == "7.1" {
		argv = append([]string{"setpriv", "--no-new-privs", "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = filepath.Dir(dest)
	cmd.Env = append(os.Environ(), "HTTP_USER_AGENT=pacman/"+s.Version+".0 (Linux x86_64) libalpm/15.0.0")
	if s.ownsDirectory() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.User}
	}
	out, err := cmd.CombinedOutput()
	call := transfer{URL: url, Output: string(out), Status: cmd.ProcessState.ExitCode()}
	ok := err == nil
	if ok {
		if st, err := os.Lstat(part); err == nil {
			call.Owner = st.Sys().(*syscall.Stat_t).Uid
		}
		if err := os.Rename(part, dest); err != nil {
			call.Output += err.Error()
			ok = false
		}
	}
	d.Calls = append(d.Calls, call)
	return ok
}

// play runs the script in a process whose name and arguments are those of pacman.
func play(t *testing.T, s script, args ...string) done {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pacman := filepath.Join(openDir(t), "pacman")
	if err := os.Link(self, pacman); err != nil {
		must(t, command(t, base, "cp", self, pacman))
	}
	in, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), pacman, args...)
	cmd.Args[0] = "pacman"
	cmd.Env = bareEnv() // no HOME: DownloadUser has no place to remember anything
	if !s.ownsDirectory() {
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+filepath.Dir(pacman)) // else root's is the machine's
	}
	cmd.Stdin = strings.NewReader(string(in))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the script: %v", err)
	}
	var d done
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatalf("the script: %v\n%s", err, out)
	}
	if d.Error != "" {
		t.Errorf("the script stopped: %s", d.Error)
	}
	return d
}

// want fails the test unless the calls were these, in this order; a URL that starts with "!" has to have failed.
func (d done) want(t *testing.T, urls ...string) {
	t.Helper()
	var got []string
	for _, c := range d.Calls {
		u := c.URL
		if c.Status != 0 {
			u = "!" + u
		}
		got = append(got, u)
	}
	if slices.Equal(got, urls) {
		return
	}
	t.Errorf("calls (\"!\": failed):\n\t%s\nwanted:\n\t%s", strings.Join(got, "\n\t"), strings.Join(urls, "\n\t"))
	for _, c := range d.Calls {
		t.Logf("%s: status %d, %s", c.URL, c.Status, c.Output)
	}
}

func TestNewerPacman(t *testing.T) {
	need(t, "setpriv")
	for _, version := range []string{"6.1", "7.0", "7.1"} {
		t.Run(version, func(t *testing.T) {
			repo := newRepo(t)
			mktorrent(t, repo, medium.file())
			one, two := start(t, repo, 0), start(t, repo, 0)
			mirrors := []*mirror{one, two}
			servers := []string{dead(t), one.url(), two.url()}
			dir := openDir(t)
			conf := filepath.Join(dir, "pacman.conf")
			writeConf(t, conf, binary+" %u %o", servers...)
			syncDir, cache := filepath.Join(dir, "sync"), filepath.Join(dir, "pkg")
			for _, d := range []string{syncDir, cache} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			s := script{Version: version, Binary: binary, Servers: servers, User: nobody()}
			signers := servers[1:] // where this version asks for a signature
			if s.ownsDirectory() {
				signers = servers[:1]
			}

			s.Dir, s.Names = syncDir, []string{"demo.db"}
			wantRefresh := []string{servers[0] + "/demo.db"}
			for _, u := range signers {
				wantRefresh = append(wantRefresh, "!"+u+"/demo.db.sig")
			}
			db := filepath.Join(syncDir, "demo.db")
			refresh := func(how string, wantStatus int) {
				t.Helper()
				before := [2]int{len(one.requests("demo.db")), len(two.requests("demo.db"))}
				signed := [2]int{len(one.requests("demo.db.sig")), len(two.requests("demo.db.sig"))}
				s.Force = how == "-Syy"
				d := play(t, s, "--config", conf, how)
				d.want(t, wantRefresh...)
				same(t, db, read(t, filepath.Join(repo, "demo.db")))
				holds(t, syncDir, "demo.db")
				if want := []string{"demo.db"}; !slices.Equal(d.Work, want) {
					t.Errorf("%s: the download directory held %q instead of %q", how, d.Work, want)
				}
				var got []int
				for i, m := range mirrors {
					for _, r := range m.requests("demo.db")[before[i]:] {
						got = append(got, r.Status)
					}
				}
				if want := []int{wantStatus}; !slices.Equal(got, want) {
					t.Errorf("%s: the mirrors answered %v for the database, wanted %v", how, got, want)
				}
				for _, c := range d.Calls {
					if !strings.HasSuffix(c.URL, ".sig") {
						continue
					}
					if strings.Count(strings.TrimSpace(c.Output), "\n") > 0 {
						t.Errorf("%s: a missing signature is more than one line:\n%s", how, c.Output)
					}
				}
				// At once means that a 404 is an answer: nobody is asked again.
				for i, m := range mirrors {
					if n := len(m.requests("demo.db.sig")) - signed[i]; n > len(signers) {
						t.Errorf("%s: a mirror was asked %d times for a missing signature in %d calls", how, n, len(signers))
					}
				}
			}
			refresh("-Sy", http.StatusOK)
			st, err := os.Stat(filepath.Join(repo, "demo.db"))
			if err != nil {
				t.Fatal(err)
			}
			published := st.ModTime().Truncate(time.Second)
			wantTime := func() {
				t.Helper()
				if st, err := os.Stat(db); err != nil || !st.ModTime().Equal(published) {
					t.Errorf("the database's time is not the server's Last-Modified %v: %v, %v", published, st.ModTime(), err)
				}
			}
			wantTime()
			refresh("-Sy", http.StatusNotModified)
			wantTime()
			refresh("-Syy", http.StatusOK)
			wantTime()

			s.Force, s.Dir, s.Names = false, cache, []string{small.file(), medium.file()}
			d := play(t, s, "--config", conf, "-S", "small", "medium")
			d.want(t, servers[0]+"/"+small.file(), signers[0]+"/"+small.file()+".sig",
				servers[0]+"/"+medium.file(), signers[0]+"/"+medium.file()+".sig")
			names := []string{medium.file(), medium.file() + ".sig", small.file(), small.file() + ".sig"}
			for _, n := range names {
				same(t, filepath.Join(cache, n), read(t, filepath.Join(repo, n)))
			}
			holds(t, cache, names...)
			if !slices.Equal(d.Work, names) {
				t.Errorf("the download directory held %q instead of %q", d.Work, names)
			}
			for _, c := range d.Calls {
				if s.ownsDirectory() && s.User != nil && c.Owner != s.User.Uid {
					t.Errorf("%s belongs to user %d, not to DownloadUser", c.URL, c.Owner)
				}
			}
			for _, m := range mirrors {
				for _, r := range m.all() {
					if !strings.HasPrefix(r.UserAgent, "pacman/"+version) {
						t.Errorf("%s was asked for as %q, not as pacman", r.Path, r.UserAgent)
					}
					if strings.Contains(r.Path, ".sig.torrent") || strings.Contains(r.Path, ".db.torrent") {
						t.Errorf("%s was asked for: signatures and databases have no torrents", r.Path)
					}
				}
			}
		})
	}
}

// A file that no server has fails at each of them, and leaves nothing that would keep pacman's download directory.
func TestNewerPacmanMissingPackage(t *testing.T) {
	need(t, "setpriv")
	repo := newRepo(t)
	servers := []string{start(t, repo, 0).url(), start(t, repo, 0).url()}
	dir := openDir(t)
	conf := filepath.Join(dir, "pacman.conf")
	writeConf(t, conf, binary+" %u %o", servers...)
	cache := filepath.Join(dir, "pkg")
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	d := play(t, script{Version: "7.1", Binary: binary, Servers: servers, Dir: cache,
		Names: []string{"gone-1.0-1-any.pkg.tar.zst"}, User: nobody()}, "--config", conf, "-S", "gone")
	d.want(t, fmt.Sprintf("!%s/gone-1.0-1-any.pkg.tar.zst", servers[0]), fmt.Sprintf("!%s/gone-1.0-1-any.pkg.tar.zst", servers[1]))
	if len(d.Work) != 0 {
		t.Errorf("left in the download directory: %q", d.Work)
	}
	holds(t, cache)
	for _, c := range d.Calls {
		if c.Status != 3 {
			t.Errorf("status %d instead of 3 (no mirror has the file): %s", c.Status, c.Output)
		}
	}
}
