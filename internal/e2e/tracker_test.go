package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"torrent-xfer/internal/mirrortest"
)

// withWorker is the program in a directory of its own, with the worker beside it.
func withWorker(t *testing.T) (program string) {
	t.Helper()
	dir := openDir(t)
	program = filepath.Join(dir, "torrent-xfer")
	write(t, program, read(t, binary))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir, "torrent-xfer/cmd/torrent-xfer-swarm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	must(t, build)
	return program
}

// background starts a program that ends with the test.
func background(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		ended := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ended.Stop()
	})
}

// patience is for what happens at once on a machine that is not busy.
const patience = 2 * time.Minute

func eventually(t *testing.T, otherwise string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !met(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// startOpentracker starts Debian's, which knows only the torrents of its list, at 127.0.0.1; it speaks HTTP and UDP at one port.
func startOpentracker(t *testing.T, port string, torrents ...string) {
	t.Helper()
	need(t, "opentracker")
	dir := openDir(t)
	list := filepath.Join(dir, "whitelist.txt")
	write(t, list, []byte(strings.Join(torrents, "\n")+"\n"))
	conf := filepath.Join(dir, "opentracker.conf")
	write(t, conf, []byte(fmt.Sprintf("listen.tcp_udp 127.0.0.1:%s\naccess.whitelist %s\n", port, list)))
	cmd := exec.Command("opentracker", "-f", conf)
	cmd.Dir = dir
	background(t, cmd)
	eventually(t, "opentracker does not start", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// counts are what a tracker says of a torrent.
type counts struct {
	Seeders, Leechers, Completed int
	Error                        string
}

func scrape(t *testing.T, tracker, torrent string) (c counts) {
	t.Helper()
	out := must(t, command(t, openDir(t), binary, "scrape", "--json", "-t", tracker, "-i", torrent))
	var all []counts
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Fatalf("scrape: %v\n%s", err, out)
	}
	return all[0]
}

// transmission is a running transmission-daemon with one torrent.
type transmission struct {
	dir, port string // of its files, of its remote control
}

func startTransmission(t *testing.T, dir, torrent string) transmission {
	t.Helper()
	need(t, "transmission-daemon", "transmission-remote")
	home, ports := openDir(t), freePorts(t, 2)
	write(t, filepath.Join(home, "settings.json"), []byte(`{"lpd-enabled": false, "dht-enabled": false, "utp-enabled": false}`))
	cmd := exec.Command("transmission-daemon", "-f", "-g", home, "-w", dir, "-p", ports[0], "-P", ports[1], "-T", "-C", "-M", "-O")
	cmd.Env = append(bareEnv(), "HOME="+home)
	background(t, cmd)
	r := transmission{dir, ports[0]}
	eventually(t, "transmission-daemon does not start", func() bool {
		_, status := finish(t, r.remote(t, "-l"))
		return status == 0
	})
	must(t, r.remote(t, "-a", torrent))
	return r
}

func (r transmission) remote(t *testing.T, args ...string) *exec.Cmd {
	return command(t, openDir(t), "transmission-remote", append([]string{r.port}, args...)...)
}

// Peers find each other through opentracker, over HTTP and UDP, and exchange the file with transmission in both directions.
// What opentracker counts is what took place.
func TestOpentrackerAndTransmission(t *testing.T) {
	program := withWorker(t)
	for _, scheme := range []string{"http", "udp"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel() // transmission lets ten seconds pass before it gives anything to anybody
			need(t, "opentracker", "transmission-daemon", "transmission-remote")
			content := noise(41, 8<<20)
			repo, port := openDir(t), freePorts(t, 1)[0]
			tracker := fmt.Sprintf("%s://127.0.0.1:%s/announce", scheme, port)
			file := filepath.Join(repo, "big.pkg")
			write(t, file, content)
			must(t, command(t, repo, binary, "create", "--meta-version", "1", "--tracker", tracker, file))
			torrent := file + ".torrent"
			hash := infoHash(t, torrent)
			startOpentracker(t, port, hash)
			startTransmission(t, repo, torrent)
			eventually(t, "opentracker knows no seeder", func() bool { return scrape(t, tracker, torrent).Seeders == 1 })

			// The worker takes leave within a second after the download has ended, or not at all.
			for range 5 {
				before := scrape(t, tracker, torrent)
				home := openDir(t)
				dest := filepath.Join(home, "big.pkg")
				must(t, command(t, home, program, "--torrent", torrent, "--peers", "always", "--no-lpd", dead(t)+"/big.pkg", dest))
				same(t, dest, content)
				for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					if scrape(t, tracker, torrent) == (counts{Seeders: 1, Leechers: before.Leechers, Completed: before.Completed + 1}) {
						return
					}
				}
			}
			t.Errorf("opentracker does not count one seeder and a download that has taken leave: %+v", scrape(t, tracker, torrent))
		})
	}
}

// transmission gets pieces from a download that is under way.
func TestTransmissionTakesFromUs(t *testing.T) {
	t.Parallel()
	need(t, "opentracker", "transmission-daemon", "transmission-remote")
	program := withWorker(t)
	content := noise(42, 8<<20)
	repo, port := openDir(t), freePorts(t, 1)[0]
	tracker := "udp://127.0.0.1:" + port + "/announce"
	path := filepath.Join(repo, "big.pkg")
	write(t, path, content)
	must(t, command(t, repo, binary, "create", "--meta-version", "1", "--tracker", tracker, path))
	torrent := path + ".torrent"
	startOpentracker(t, port, infoHash(t, torrent))
	file := mirrortest.Bytes(content)
	held := mirrortest.Hold(file.Data, 6<<20)
	file.Data = held
	m, err := mirrortest.Start(mirrortest.Config{Files: map[string]mirrortest.File{"/big.pkg": file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	t.Cleanup(held.Release)
	other := startTransmission(t, openDir(t), torrent)
	eventually(t, "opentracker knows no leecher", func() bool { return scrape(t, tracker, torrent).Leechers == 1 })

	home := openDir(t)
	dest := filepath.Join(home, "big.pkg")
	cmd := command(t, home, program, "--torrent", torrent, "--no-lpd", m.URL("/big.pkg"), dest)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "transmission got nothing", func() bool {
		out := must(t, other.remote(t, "-t", "1", "-i"))
		for line := range strings.Lines(out) {
			if what, n, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && what == "Downloaded" {
				return n != "None"
			}
		}
		return false
	})
	held.Release()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	same(t, dest, content)
}

// infoHash is what a whitelist names the torrent by.
func infoHash(t *testing.T, torrent string) string {
	t.Helper()
	var said struct {
		Hash string `json:"info_hash"`
	}
	if err := json.Unmarshal([]byte(must(t, command(t, openDir(t), binary, "metainfo", "--json", torrent))), &said); err != nil {
		t.Fatal(err)
	}
	return said.Hash
}
