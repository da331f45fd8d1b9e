package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"torrent-xfer/internal/mirrortest"
)

// method is a method of apt that the test talks to in apt's place.
type method struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string // messages
}

func startMethod(t *testing.T, program, name string, config ...string) *method {
	t.Helper()
	m := &method{cmd: exec.Command(program), out: make(chan string, 100)}
	m.cmd.Args = []string{"/usr/lib/apt/methods/" + name}
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Env = bareEnv()
	if dir := os.Getenv("TMPDIR"); dir != "" {
		m.cmd.Env = append(m.cmd.Env, "TMPDIR="+dir)
	}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(m.out)
		text := ""
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if text += line; line == "\n" {
				m.out <- text
				text = ""
			}
		}
	}()
	text := "601 Configuration\nConfig-Item: Acquire::Send-URI-Encoded=1\n"
	for _, c := range config {
		text += "Config-Item: " + c + "\n"
	}
	if _, err := io.WriteString(m.in, text+"\n"); err != nil {
		t.Fatal(err)
	}
	return m
}

// end gives what is awaited until the last message of an item, or the process's death ("").
func (m *method) end(within time.Duration) string {
	late := time.After(within)
	for {
		select {
		case text, ok := <-m.out:
			if !ok || strings.HasPrefix(text, "201") || strings.HasPrefix(text, "400") || strings.HasPrefix(text, "103") {
				return text
			}
		case <-late:
			return ""
		}
	}
}

func (m *method) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.in.Close()
	_ = m.cmd.Wait()
}

// TestAptKilled kills the method at random moments. What apt finds then is always a beginning of the file, and what is
// fetched again is little; apt's own method can go on with it too.
func TestAptKilled(t *testing.T) {
	need(t, "apt-get")
	kills := 12
	if n, err := strconv.Atoi(os.Getenv("TORRENT_XFER_KILLS")); err == nil {
		kills = n
	}
	data := noise(21, 6_000_000)
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	date := mirrortest.Bytes(nil).ModTime
	odd, files := 0, 0
	for done := 0; done < kills; files++ {
		var mirrors []*mirrortest.Server
		config := []string{}
		for range 3 {
			s, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/f.deb": mirrortest.Bytes(data)}, Rate: 3_000_000})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			mirrors = append(mirrors, s)
			config = append(config, "Acquire::torrent::Mirrors::="+strings.TrimSuffix(s.URL("/"), "/"))
		}
		path := filepath.Join(openDir(t), "f.deb")
		ask := func(scheme string) string {
			return fmt.Sprintf("600 URI Acquire\nURI: %s\nFilename: %s\nExpected-SHA256: %s\nExpected-Checksum-FileSize: %d\n\n",
				strings.Replace(mirrors[0].URL("/f.deb"), "http", scheme, 1), path, digest, len(data))
		}
		sent := func() (n int64) {
			for _, s := range mirrors {
				n += s.Stats().BodyBytes
			}
			return n
		}
		check := func() []byte {
			got, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(data, got) {
				t.Fatalf("after kill %d: %d bytes that are no beginning of the file", done, len(got))
			}
			return got
		}
		mine := 0
		for finished := false; !finished && done < kills && mine < 8; {
			m := startMethod(t, binary, "torrent+http", config...)
			_, _ = io.WriteString(m.in, ask("torrent+http"))
			text := m.end(time.Duration(rand.IntN(400)) * time.Millisecond)
			m.kill()
			if finished = strings.HasPrefix(text, "201"); !finished {
				done++
				mine++
				if strings.HasPrefix(text, "400") {
					t.Fatalf("kill %d: %s", done, text)
				}
			}
			check()
			if info, err := os.Stat(path); err == nil && info.Size() > 0 && !info.ModTime().Equal(date) {
				odd++
			}
		}
		eventually(t, "a mirror goes on after the kill", func() bool {
			return !slices.ContainsFunc(mirrors, func(s *mirrortest.Server) bool {
				return slices.ContainsFunc(s.Stats().Log, func(e mirrortest.Entry) bool { return !e.Done })
			})
		})
		before, have := sent(), len(check())
		program, name, scheme := binary, "torrent+http", "torrent+http"
		if files%2 == 1 {
			program, name, scheme = "/usr/lib/apt/methods/http", "http", "http"
		}
		m := startMethod(t, program, name, config...)
		_, _ = io.WriteString(m.in, ask(scheme))
		text := m.end(patience)
		m.kill()
		if !strings.HasPrefix(text, "201") || !strings.Contains(text, "SHA256-Hash: "+digest) || len(check()) != len(data) {
			t.Fatalf("%s does not finish after %d kills: %s", name, mine, text)
		}
		again := sent() - before
		if name == "http" && again > int64(len(data)-have)+256<<10 && odd == 0 {
			t.Errorf("http fetched %d bytes after %d of %d were there", again, have, len(data))
		}
		if most := int64(len(data)) + int64(mine+1)*3*1_100_000; sent() > most {
			t.Errorf("%d bytes sent for %d with %d kills", sent(), len(data), mine)
		}
	}
	t.Logf("%d files, %d kills, %d times the date was not the server's", files, kills, odd)
	// Killed within a write nobody can set the date any more.
	if odd > 1+kills/4 {
		t.Errorf("the date was not the server's after %d of %d kills", odd, kills)
	}
}

// TestAptGivesUpRights looks at the method that root has started, while it downloads.
func TestAptGivesUpRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who has rights to give up")
	}
	data := noise(22, 400_000)
	s, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/f": mirrortest.Bytes(data)}, Rate: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inside, outside := ownDir(t, 0o755), ownDir(t, 0o755)
	t.Setenv("TMPDIR", inside)
	m := startMethod(t, binary, "torrent+http", "APT::Sandbox::User=nobody")
	defer m.kill()
	ask := func(dir string) {
		fmt.Fprintf(m.in, "600 URI Acquire\nURI: %s\nFilename: %s/f\n\n", strings.Replace(s.URL("/f"), "http", "torrent+http", 1), dir)
	}
	ask(inside)
	for text := range m.out {
		if strings.HasPrefix(text, "200") {
			break
		}
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.cmd.Process.Pid))
	if err != nil || len(tasks) < 2 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		status := string(read(t, task))
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n", "Groups:\t65534 \n",
			"NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n"} {
			if !strings.Contains(status, want) {
				t.Errorf("a thread lacks %q:\n%s", want, status)
			}
		}
	}
	if text := m.end(patience); !strings.HasPrefix(text, "201") {
		t.Fatal(text)
	}
	same(t, filepath.Join(inside, "f"), data)
	ask(outside)
	// What it may not write any more apt's own method brings.
	text := m.end(patience)
	if !noLandlock() && !(strings.HasPrefix(text, "103") && strings.Contains(text, "New-URI: http://127.0.0.1")) {
		t.Errorf("asked to write elsewhere: %s", text)
	}
}

// noLandlock reports whether the kernel has no Landlock.
func noLandlock() bool {
	abi, err := ll.LandlockGetABIVersion()
	return err != nil || abi < 1
}

// TestAptProber: apt starts each method once to hear what it can do, and waits for it to end. It opens nothing meanwhile.
func TestAptProber(t *testing.T) {
	cmd := exec.Command(binary)
	cmd.Args, cmd.Env = []string{"/usr/lib/apt/methods/torrent+http"}, bareEnv()
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r := bufio.NewReader(out)
	for line := ""; line != "\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if to, _ := os.Readlink(f); strings.HasPrefix(to, "socket:") {
			t.Errorf("descriptor %s is a socket", filepath.Base(f))
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Error("it survives SIGINT")
	}
}
