package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// packaged gives a file of packaging/ with the lines that an admin would switch on switched on.
func packaged(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	text := string(read(t, filepath.Join("..", "..", "packaging", name)))
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s does not hold %q any more", name, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// snippet is the shipped nginx configuration with two mirrors.
func snippet(t *testing.T) string {
	t.Helper()
	return packaged(t, "nginx/torrent-xfer.conf", "#set $xfer_mirror", "set $xfer_mirror",
		"https://mirror1.example.org", "@SERVER2@", "https://mirror2.example.org", "@SERVER3@")
}

// startApache serves root at one port with the shipped configuration, whose mirrors are the two given.
func startApache(t *testing.T, root, mirror1, mirror2 string) (server string) {
	t.Helper()
	need(t, "apache2")
	dir := openDir(t)
	conf := filepath.Join(dir, "apache.conf")
	write(t, filepath.Join(dir, "torrent-xfer.conf"), []byte(packaged(t, "apache/torrent-xfer.conf", "#Header", "Header",
		"https://mirror1.example.org", mirror1, "https://mirror2.example.org", mirror2)))
	for try := 0; ; try++ {
		port := freePorts(t, 1)
		text := fmt.Sprintf("ServerName localhost\nServerRoot %s\nPidFile %[1]s/pid\nErrorLog %[1]s/error.log\nMutex file:%[1]s\n"+
			"Listen 127.0.0.1:%s\nTypesConfig /dev/null\n", dir, port[0])
		for _, m := range []string{"mpm_event", "authz_core", "mime", "setenvif", "headers"} {
			text += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", m)
		}
		write(t, conf, []byte(text+"<VirtualHost *>\nDocumentRoot "+root+"\nInclude "+dir+"/torrent-xfer.conf\n</VirtualHost>\n"))
		must(t, command(t, dir, "apache2", "-t", "-f", conf))
		cmd := exec.Command("apache2", "-X", "-f", conf)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if listens(port, ended) {
			t.Cleanup(func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-ended
			})
			return "http://127.0.0.1:" + port[0]
		}
		if try == 3 {
			t.Fatalf("apache2 does not start:\n%s", read(t, filepath.Join(dir, "error.log")))
		}
	}
}

// Types and Link headers name what is there, encoded as the client asked for it, and nothing else.
func TestServedTypesAndLinks(t *testing.T) {
	root := openDir(t)
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "pool a")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1:foo+b~c%.deb", "1:foo+b~c%.deb.torrent", "1:foo+b~c%.deb.meta4", "torrent.deb", "torrent.deb.torrent",
		"none.deb"} {
		write(t, filepath.Join(dir, name), []byte("content\n"))
	}
	nginx, _ := startNginx(t, root, site{lines: snippet(t)})
	servers := map[string]string{"nginx": nginx[0], "apache": startApache(t, root, nginx[1], nginx[2])}
	describedBy := func(path, kind, suffix string) string {
		return fmt.Sprintf(`<%s.%s>; rel=describedby; type="application/%s"`, path, suffix, kind)
	}
	all := func(path string) []string {
		return []string{describedBy(path, "x-bittorrent", "torrent"), describedBy(path, "metalink4+xml", "meta4"),
			"<" + nginx[1] + path + ">; rel=duplicate; pri=1", "<" + nginx[2] + path + ">; rel=duplicate; pri=2"}
	}
	for _, c := range []struct {
		path   string
		status int
		kind   string // "": of no matter
		links  []string
	}{
		{path: "/pool%20a/1:foo+b~c%25.deb", links: all("/pool%20a/1:foo+b~c%25.deb")},
		{path: "/pool%20a/1%3Afoo%2Bb~c%25.deb?query", links: all("/pool%20a/1%3Afoo%2Bb~c%25.deb")},
		{path: "/pool%20a/torrent.deb", links: []string{describedBy("/pool%20a/torrent.deb", "x-bittorrent", "torrent"),
			"<" + nginx[1] + "/pool%20a/torrent.deb>; rel=duplicate; pri=1", "<" + nginx[2] + "/pool%20a/torrent.deb>; rel=duplicate; pri=2"}},
		{path: "/pool%20a/none.deb"},
		{path: "/pool%20a/1:foo+b~c%25.deb.torrent", kind: "application/x-bittorrent"},
		{path: "/pool%20a/1:foo+b~c%25.deb.meta4", kind: "application/metalink4+xml"},
		{path: "/pool%20a/gone.deb", status: http.StatusNotFound},
		{path: "/pool%20a/x%0d%0aLink:%20%3Cevil%3E", status: http.StatusNotFound},
	} {
		for name, server := range servers {
			res, err := http.Get(server + c.path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if c.status == 0 {
				c.status = http.StatusOK
			}
			if res.StatusCode != c.status {
				t.Errorf("%s: %s: status %d instead of %d", name, c.path, res.StatusCode, c.status)
			}
			if got := res.Header.Get("Content-Type"); c.kind != "" && got != c.kind {
				t.Errorf("%s: %s: type %q instead of %q", name, c.path, got, c.kind)
			}
			got := res.Header.Values("Link")
			slices.Sort(got)
			slices.Sort(c.links)
			if !slices.Equal(got, c.links) {
				t.Errorf("%s: %s: links\n%s\ninstead of\n%s", name, c.path, strings.Join(got, "\n"), strings.Join(c.links, "\n"))
			}
		}
	}
}

// After "publish --out" the torrents lie elsewhere, and are served as if they lay beside the files.
func TestServedFromAnotherTree(t *testing.T) {
	root, out := openDir(t), openDir(t)
	write(t, filepath.Join(root, "a.deb"), []byte("content\n"))
	write(t, filepath.Join(out, "a.deb.torrent"), []byte("torrent\n"))
	nginx, _ := startNginx(t, root, site{lines: strings.Replace(snippet(t), "$document_root", out, 1)})
	for path, want := range map[string]int{"/a.deb": 3, "/a.deb.torrent": 0} {
		res, err := http.Get(nginx[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Values("Link"); res.StatusCode != http.StatusOK || len(got) != want {
			t.Errorf("%s: status %d, links %q instead of %d", path, res.StatusCode, got, want)
		}
	}
}

// The units are what systemd understands, and as closed as the comments in them say.
func TestSystemdUnits(t *testing.T) {
	need(t, "systemd-analyze", "systemd-sysusers")
	for _, list := range [][]string{
		{"torrent-xfer-publish@.service", "torrent-xfer-publish@.timer"},
		{"torrent-xfer.service", "torrent-xfer.socket"},
	} {
		dir := openDir(t)
		var paths []string
		for _, name := range list {
			text := string(read(t, filepath.Join("..", "..", "packaging", "systemd", name)))
			text = strings.NewReplacer("/usr/bin/torrent-xfer", binary, "User=torrent-xfer", "User=daemon").Replace(text)
			path := filepath.Join(dir, strings.Replace(name, "@", "@srv-mirror", 1))
			write(t, path, []byte(text))
			paths = append(paths, path)
		}
		verify := command(t, dir, "systemd-analyze", append([]string{"verify", "--man=no"}, paths...)...)
		if out := must(t, verify); strings.Contains(out, "torrent-xfer") {
			t.Errorf("systemd-analyze verify: %s", out)
		}
		must(t, command(t, dir, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", paths[0]))
	}
	root := openDir(t)
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	config, err := filepath.Abs(filepath.Join("..", "..", "packaging", "sysusers", "torrent-xfer.conf"))
	if err != nil {
		t.Fatal(err)
	}
	must(t, command(t, root, "systemd-sysusers", "--root="+root, config))
	if users := string(read(t, filepath.Join(root, "etc", "passwd"))); !strings.Contains(users, "torrent-xfer:") {
		t.Errorf("no user: %q", users)
	}
}

// What the Debian package runs when it comes and goes makes the users and nothing else where systemd does not run, and has a daemon
// end with its program where it does.
func TestMaintainerScripts(t *testing.T) {
	dir := openDir(t)
	log := filepath.Join(dir, "log")
	for _, name := range []string{"systemctl", "systemd-sysusers", "rm"} {
		path := filepath.Join(dir, name)
		write(t, path, []byte("#!/bin/sh\necho "+name+" \"$@\" >>"+log+"\n"))
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(script, arg string) string {
		t.Helper()
		write(t, log, nil)
		text := string(read(t, filepath.Join("..", "..", "packaging", "debian", script)))
		path := filepath.Join(dir, script)
		write(t, path, []byte(strings.ReplaceAll(text, "/run/systemd/system", filepath.Join(dir, "booted"))))
		cmd := command(t, dir, "/bin/sh", path, arg)
		cmd.Env = []string{"PATH=" + dir}
		must(t, cmd)
		return string(read(t, log))
	}
	const gone = "rm -rf /var/lib/torrent-xfer /var/cache/torrent-xfer\n"
	for _, booted := range []bool{false, true} {
		want := map[string]string{"postinst configure": "systemd-sysusers torrent-xfer.conf\n", "prerm remove": "", "prerm upgrade": "",
			"postrm remove": "", "postrm purge": gone}
		if booted {
			if err := os.Mkdir(filepath.Join(dir, "booted"), 0o755); err != nil {
				t.Fatal(err)
			}
			want["postinst configure"] += "systemctl daemon-reload\nsystemctl try-restart torrent-xfer.socket torrent-xfer.service\n"
			want["prerm remove"] = "systemctl --quiet disable --now torrent-xfer.socket torrent-xfer.service\nsystemctl stop torrent-xfer-publish@*.timer\n"
			want["postrm remove"], want["postrm purge"] = "systemctl daemon-reload\n", "systemctl daemon-reload\n"+gone
		}
		for call, said := range want {
			script, arg, _ := strings.Cut(call, " ")
			if got := run(script, arg); got != said {
				t.Errorf("%s, booted %v: %q instead of %q", call, booted, got, said)
			}
		}
	}
}
