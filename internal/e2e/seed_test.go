package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// seededSite is a site whose first machine has installed the big package, has seed = "yes", and has cleaned its cache since then.
type seededSite struct {
	t       *testing.T
	n       *network
	program string
	repo    string
	dir     string       // of the first machine's daemon
	sent    func() int64 // see serveSite
	first   *member
	daemon  *exec.Cmd
}

// seedSpace is what the first machine's daemon may keep: the big package, or the medium one and little else.
const seedSpace = 21_000_000

// newSeededSite has nginx limit each connection of the others to rate; limit is more of the first machine's configuration. Without
// trackers, machines have nothing but local discovery.
func newSeededSite(t *testing.T, n *network, program, rate, limit string, trackers ...string) *seededSite {
	t.Helper()
	s := &seededSite{t: t, n: n, program: program, repo: newRepo(t), dir: openDir(t)}
	flags := []string{"--mirror", "http://" + hubAddress + "/"}
	for _, scheme := range trackers {
		flags = append(flags, "--tracker", scheme+"://"+hubAddress+":6969/announce")
	}
	publish(t, s.repo, flags...)
	if len(trackers) > 0 {
		whitelisted(t, n, s.torrent())
	}
	s.sent = serveSite(t, n, s.repo, "0", rate)
	write(t, s.config(), fmt.Appendf(nil, "seed = \"yes\"\ncontrol = %q\nlibrary = %q\nuser = \"nobody\"\nprivate = true\nseed-space = %d\n%s",
		filepath.Join(s.dir, "control.sock"), s.library(), seedSpace, limit))
	s.daemon = at(n.machine(0), exec.Command(program, "daemon", "--config", s.config()))
	s.daemon.Env, s.daemon.Stderr = append(bareEnv(), "HOME="+s.dir), os.Stderr
	background(t, s.daemon)
	eventually(t, "the daemon does not start", func() bool {
		_, code := finish(t, s.ask())
		return code == 0
	})

	s.first = s.member(0, "--config", s.config())
	s.first.install("big", "small")
	s.first.wait(big, small)
	eventually(t, "the daemon did not get the package", func() bool { return s.status().has(big) })
	clean := s.first.in.pacman("-Scc", "--confirm")
	clean.Stdin = strings.NewReader("y\ny\n")
	must(t, clean)
	holds(t, s.first.in.cache)
	return s
}

func (s *seededSite) torrent() string { return filepath.Join(s.repo, big.file()+".torrent") }
func (s *seededSite) config() string  { return filepath.Join(s.dir, "config.toml") }
func (s *seededSite) library() string { return filepath.Join(s.dir, "state/library") }

// seeding is what torrent-xfer status tells.
type seeding struct {
	Uploaded int64
	Space    struct{ Used, Most int64 }
	Torrents []struct{ Name string }
}

func (s seeding) has(p pkg) bool {
	for _, t := range s.Torrents {
		if t.Name == p.file() {
			return true
		}
	}
	return false
}

func (s *seededSite) ask() *exec.Cmd {
	return command(s.t, s.dir, binary, "status", "--json", "--config", s.config())
}

func (s *seededSite) status() (now seeding) {
	s.t.Helper()
	out := must(s.t, s.ask())
	if err := json.Unmarshal([]byte(out), &now); err != nil {
		s.t.Fatalf("status: %v\n%s", err, out)
	}
	return now
}

// inLibrary is how many bytes of files the daemon has on disk.
func (s *seededSite) inLibrary() (sum int64) {
	_ = filepath.WalkDir(s.library(), func(_ string, d fs.DirEntry, err error) error { // files come and go
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// member is a machine of a site.
type member struct {
	site *seededSite
	i    int
	in   *installation
	cmd  *exec.Cmd
	said bytes.Buffer
}

// member makes machine i; its transfers have these flags.
func (s *seededSite) member(i int, flags ...string) *member {
	s.t.Helper()
	m := &member{site: s, i: i, in: newInstallation(s.t, "http://"+hubAddress)}
	script := filepath.Join(m.in.dir, "xfer")
	write(s.t, script, fmt.Appendf(nil, "#!/bin/sh\nexec %s %s --report \"%s/report-$(basename \"$2\" .part)\" \"$1\" \"$2\"\n",
		s.program, strings.Join(flags, " "), m.in.dir))
	if err := os.Chmod(script, 0o755); err != nil {
		s.t.Fatal(err)
	}
	writeConf(s.t, filepath.Join(m.in.dir, "pacman.conf"), script+" %u %o", "http://"+hubAddress)
	return m
}

func (m *member) install(names ...string) {
	m.site.t.Helper()
	m.cmd = at(m.site.n.machine(m.i), m.in.pacman(append([]string{"-Sy"}, names...)...))
	m.cmd.Stdout, m.cmd.Stderr = &m.said, &m.said
	if err := m.cmd.Start(); err != nil {
		m.site.t.Fatal(err)
	}
}

func (m *member) wait(want ...pkg) {
	m.site.t.Helper()
	if err := m.cmd.Wait(); err != nil {
		m.site.t.Fatalf("pacman of machine %d: %v\n%s", m.i, err, m.said.String())
	}
	m.in.wantInstalled(want...)
	for _, p := range want {
		same(m.site.t, filepath.Join(m.in.cache, p.file()), read(m.site.t, filepath.Join(m.site.repo, p.file())))
	}
}

func (m *member) report(p pkg) report {
	m.site.t.Helper()
	return readReport(m.site.t, filepath.Join(m.in.dir, "report-"+p.file()))
}

// fromPeers is how much peers gave.
func (r report) fromPeers() (sum int64) {
	for _, s := range r.Sources {
		if s.Name == "peers" {
			sum += s.Bytes
		}
	}
	return sum
}

// One machine seeds: the others take most from it, after its package cache was cleaned, and it keeps no more than it may.
func TestSeededSite(t *testing.T) {
	n := newNetwork(t, 3)
	need(t, "nginx", "opentracker", "pacman", "repo-add", "gpg", "zstd", "bsdtar")
	program := withWorker(t)
	for _, c := range []struct {
		name     string
		trackers []string
		blocked  bool // UDP
	}{
		{name: "as it should be", trackers: []string{"udp", "http"}},
		{name: "UDP is blocked", trackers: []string{"udp", "http"}, blocked: true},
		{name: "no tracker, local discovery"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.blocked {
				n.blockUDP(true)
				defer n.blockUDP(false)
			}
			s := newSeededSite(t, n, program, "300k", "", c.trackers...)
			size := int64(len(read(t, filepath.Join(s.repo, big.file()))))
			for i := 1; i <= 2; i++ { // one after the other, so that there is nobody else to take it from
				m := s.member(i)
				m.install("big", "small")
				m.wait(big, small)
				got := m.report(big).fromPeers()
				if t.Logf("machine %d: %d of %d bytes from peers", i, got, size); got <= size/2 {
					t.Errorf("machine %d got %d of %d bytes from peers", i, got, size)
				}
			}
			eventually(t, "the daemon did not give most of it", func() bool { return s.status().Uploaded > size })
			now := s.status()
			if !now.has(big) || now.Space.Used < size || now.Space.Used > seedSpace || now.Space.Most != seedSpace || s.inLibrary() < size {
				t.Errorf("the library holds %d bytes: %+v", s.inLibrary(), now)
			}
			s.first.install("medium")
			s.first.wait(medium)
			eventually(t, "the medium package does not take the place of the big one", func() bool {
				now := s.status()
				return now.has(medium) && !now.has(big) && now.Space.Used <= seedSpace && s.inLibrary() <= seedSpace
			})
			sent := s.sent()
			if sent >= 2*size {
				t.Errorf("nginx sent %d bytes of a package of %d, which one machine seeds", sent, size)
			}
			t.Logf("nginx sent %.2f times the package, the daemon gave %.2f times", float64(sent)/float64(size), float64(now.Uploaded)/float64(size))
		})
	}
}

// The daemon of the machine that seeds is killed while others take from it: they go on without.
func TestSeedingMachineIsKilled(t *testing.T) {
	n := newNetwork(t, 3)
	need(t, "nginx", "opentracker", "pacman", "repo-add", "gpg", "zstd", "bsdtar")
	s := newSeededSite(t, n, withWorker(t), "1m", "limit-upload = \"1M\"\n", "udp", "http")
	all := []*member{s.member(1), s.member(2)}
	for _, m := range all {
		m.install("big", "small")
	}
	eventually(t, "the daemon gave nothing", func() bool { return s.status().Uploaded > 0 })
	if err := s.daemon.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		m.wait(big, small)
		t.Logf("machine %d: %d bytes from peers", m.i, m.report(big).fromPeers())
	}
}
