package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// siteConf is nginx at the hub; the first machine's connections have a rate of their own. A rate of 0 is none.
const siteConf = `user root; daemon off; master_process off; pid @DIR@/pid; error_log @DIR@/error.log;
events {}
http {
	client_body_temp_path @DIR@; proxy_temp_path @DIR@; fastcgi_temp_path @DIR@; uwsgi_temp_path @DIR@; scgi_temp_path @DIR@;
	log_format e2e '$server_port|$connection|$status|$body_bytes_sent|$uri|$http_range|$http_user_agent';
	access_log @DIR@/access.log e2e;
	map $remote_addr $rate { 10.77.0.2 @FIRST@; default @RATE@; }
	server { listen 10.77.0.1:80; limit_rate $rate; root @ROOT@; }
}
`

// TestSite is what a site does: it publishes its repository and serves it by nginx, opentracker runs on the same host, and
// three machines install the same package with pacman, at the same time.
func TestSite(t *testing.T) {
	n := newNetwork(t, 3)
	need(t, "nginx", "opentracker", "pacman", "repo-add", "gpg", "zstd", "bsdtar")
	program := withWorker(t)
	for _, c := range []struct {
		name       string
		trackers   []string
		udpBlocked bool
	}{
		{name: "as it should be", trackers: []string{"udp", "http"}},
		{name: "UDP is blocked", trackers: []string{"udp", "http"}, udpBlocked: true},
		{name: "no tracker, local discovery"},
	} {
		t.Run(c.name, func(t *testing.T) {
			repo := newRepo(t)
			flags := []string{"--mirror", "http://" + hubAddress + "/"}
			for _, scheme := range c.trackers {
				flags = append(flags, "--tracker", scheme+"://"+hubAddress+":6969/announce")
			}
			publish(t, repo, flags...)
			torrent := filepath.Join(repo, big.file()+".torrent")
			if len(c.trackers) > 0 {
				whitelisted(t, n, torrent)
			}
			if c.udpBlocked {
				n.blockUDP(true)
				defer n.blockUDP(false)
			}
			sent := serveSite(t, n, repo, "1m", "1m")

			var machines []*installation
			var running []*exec.Cmd
			said := make([]bytes.Buffer, 3)
			for i := range said {
				in := newInstallation(t, "http://"+hubAddress)
				writeConf(t, filepath.Join(in.dir, "pacman.conf"), program+" %u %o", "http://"+hubAddress)
				cmd := at(n.machine(i), in.pacman("-Sy", "big", "small"))
				cmd.Stdout, cmd.Stderr = &said[i], &said[i]
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				machines, running = append(machines, in), append(running, cmd)
			}
			for i, cmd := range running {
				if err := cmd.Wait(); err != nil {
					t.Fatalf("pacman of machine %d: %v\n%s", i, err, said[i].String())
				}
				machines[i].wantInstalled(big, small)
				same(t, filepath.Join(machines[i].cache, big.file()), read(t, filepath.Join(repo, big.file())))
			}
			size := int64(len(big.content))
			got := sent()
			t.Logf("nginx sent %.2f times the package", float64(got)/float64(size))
			if got > 3*size-size/4 {
				t.Errorf("nginx sent %d bytes of a package of %d to three machines: they gave each other nothing", got, size)
			}
		})
	}
}

// whitelisted starts opentracker at the hub as README has it, for one torrent.
func whitelisted(t *testing.T, n *network, torrent string) {
	t.Helper()
	var hashes struct {
		V1 string `json:"info_hash_v1"`
		V2 string `json:"info_hash_v2"`
	}
	if err := json.Unmarshal([]byte(must(t, command(t, openDir(t), binary, "metainfo", "--json", torrent))), &hashes); err != nil {
		t.Fatal(err)
	}
	dir := openDir(t)
	write(t, filepath.Join(dir, "list"), []byte(hashes.V1+"\n"+hashes.V2[:40]+"\n"))
	write(t, filepath.Join(dir, "conf"), []byte("listen.tcp_udp "+hubAddress+":6969\naccess.whitelist "+dir+"/list\n"))
	cmd := at(n.hub(), exec.Command("opentracker", "-f", filepath.Join(dir, "conf")))
	cmd.Dir = dir
	background(t, cmd)
	eventually(t, "opentracker does not start", func() bool {
		_, status := finish(t, at(n.hub(), command(t, dir, binary, "scrape", "-t", "http://"+hubAddress+":6969/announce", "-i", torrent)))
		return status == 0
	})
}

// serveSite starts nginx at the hub, which gives each connection of the first machine, and of others, so many bytes/s. sent tells,
// and ends it, how much of the big package it gave.
func serveSite(t *testing.T, n *network, root, first, others string) (sent func() int64) {
	t.Helper()
	dir := openDir(t)
	write(t, filepath.Join(dir, "conf"), []byte(strings.NewReplacer("@DIR@", dir, "@ROOT@", root, "@FIRST@", first, "@RATE@", others).Replace(siteConf)))
	cmd := at(n.hub(), exec.Command("nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", filepath.Join(dir, "conf")))
	background(t, cmd)
	eventually(t, "nginx does not start", func() bool {
		_, status := finish(t, at(n.hub(), command(t, dir, binary, "--quiet", "http://"+hubAddress+"/demo.db", filepath.Join(dir, "db"))))
		return status == 0
	})
	return func() (sum int64) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		for _, a := range readAccess(t, filepath.Join(dir, "access.log")) {
			if a.uri == "/"+big.file() {
				sum += a.bytes
			}
		}
		return sum
	}
}
