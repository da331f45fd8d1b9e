package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site is what differs between servers of nginx. The zero site has two fast servers and a slow one.
type site struct {
	rate3 string // limit_rate of the third server; "": slow
	lines string // more of each server's configuration; @SERVERn@ is the URL of server n
}

// startNginx serves root at three ports, see testdata/pacman/nginx.conf. stop ends it and gives its access log.
func startNginx(t *testing.T, root string, s site) (servers []string, stop func() []access) {
	t.Helper()
	need(t, "nginx")
	if s.rate3 == "" {
		s.rate3 = "256k"
	}
	dir := openDir(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	// nginx cannot choose a free port itself; between our choosing and its binding somebody else may take one.
	for try := 0; ; try++ {
		ports := freePorts(t, 3)
		at := func(i int) string { return "http://127.0.0.1:" + ports[i] }
		write(t, filepath.Join(dir, "server.conf"),
			[]byte(strings.NewReplacer("@SERVER1@", at(0), "@SERVER2@", at(1), "@SERVER3@", at(2)).Replace(s.lines)))
		fill(t, "nginx.conf", filepath.Join(dir, "nginx.conf"), "@USER@", user, "@DIR@", dir, "@ROOT@", root,
			"@PORT1@", ports[0], "@PORT2@", ports[1], "@PORT3@", ports[2], "@RATE3@", s.rate3)
		cmd := exec.Command("nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", filepath.Join(dir, "nginx.conf"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if listens(ports, ended) {
			servers = []string{at(0), at(1), at(2)}
			quit := func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-ended
				ended <- nil
			}
			t.Cleanup(quit)
			return servers, func() []access {
				quit()
				return readAccess(t, filepath.Join(dir, "access.log"))
			}
		}
		if try == 3 {
			t.Fatalf("nginx does not start:\n%s", read(t, filepath.Join(dir, "error.log")))
		}
	}
}

// freePorts are some that nobody listens at, below those that the kernel gives to whoever asks for any.
func freePorts(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			continue
		}
		defer l.Close()
		pc, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			continue
		}
		defer pc.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("there are no free ports")
	return nil
}

// listens waits until all ports answer; false: the process ended.
func listens(ports []string, ended chan error) bool {
	for _, p := range ports {
		for {
			c, err := net.Dial("tcp", "127.0.0.1:"+p)
			if err == nil {
				_ = c.Close()
				break
			}
			select {
			case <-ended:
				return false
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return true
}

// access is one line of nginx's log.
type access struct {
	port, connection, uri, byteRange, agent string
	status                                  int
	bytes                                   int64
}

func readAccess(t *testing.T, path string) (log []access) {
	t.Helper()
	for line := range strings.Lines(string(read(t, path))) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 7 {
			t.Fatalf("odd line in nginx's log: %q", line)
		}
		a := access{port: f[0], connection: f[1], uri: f[4], byteRange: f[5], agent: f[6]}
		a.status, _ = strconv.Atoi(f[2])
		a.bytes, _ = strconv.ParseInt(f[3], 10, 64)
		log = append(log, a)
	}
	return log
}

func TestPacmanFromNginx(t *testing.T) {
	repo := newRepo(t)
	libtorrent(t, "hybrid", repo, big.file())
	servers, stop := startNginx(t, repo, site{})
	// The slow one first, as in a mirror list that nobody has sorted.
	in := newInstallation(t, servers[2], servers[0], servers[1])
	wantCalls(t, in.run("-Sy", "small", "big"), servers[2], "demo.db", small.file(), big.file())
	in.wantInstalled(small, big)
	holds(t, in.cache, small.file(), big.file())

	size := int64(len(read(t, filepath.Join(repo, big.file()))))
	bytes, requests, ranges, connections := map[string]int64{}, map[string]int{}, map[string]int{}, map[string]map[string]bool{}
	var total int64
	var lines []string
	for _, a := range stop() {
		if a.uri != "/"+big.file() {
			continue
		}
		lines = append(lines, fmt.Sprintf("%+v", a))
		if connections[a.port] == nil {
			connections[a.port] = map[string]bool{}
		}
		connections[a.port][a.connection] = true
		bytes[a.port] += a.bytes
		total += a.bytes
		requests[a.port]++
		if a.status == 206 {
			ranges[a.port]++
			if a.byteRange == "" || a.byteRange == "-" {
				t.Errorf("nginx answered 206 without a Range: %+v", a)
			}
		}
	}
	port := func(i int) string { return strings.TrimPrefix(servers[i], "http://127.0.0.1:") }
	for i := range 2 {
		if p := port(i); bytes[p] < size/20 {
			t.Errorf("the fast server %d gave only %d of %d bytes", i+1, bytes[p], size)
		}
		if p := port(i); ranges[p] == 0 {
			t.Errorf("the fast server %d was asked for no range", i+1)
		}
		if p := port(i); len(connections[p]) >= requests[p]/2+3 {
			t.Errorf("the fast server %d had %d connections for %d requests; one is kept alive", i+1, len(connections[p]), requests[p])
		}
	}
	if p := port(2); bytes[p] > size/3 {
		t.Errorf("the slow server gave %d of %d bytes", bytes[p], size)
	}
	if p := port(2); len(connections[p]) >= requests[p]/2+3 {
		t.Errorf("the slow server had %d connections for %d requests", len(connections[p]), requests[p])
	}
	if total > size*14/10 {
		t.Errorf("nginx sent %d bytes for a file of %d", total, size)
	}
	if t.Failed() {
		t.Logf("nginx's log of the package:\n%s", strings.Join(lines, "\n"))
	}
}
