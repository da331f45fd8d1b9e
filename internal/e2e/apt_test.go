package e2e

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deb is a package of the repository "demo" for apt. It installs one file, /opt/NAME/data.
type deb struct {
	name    string
	content []byte
}

func (d deb) file() string { return d.name + "_1.0+b1~x_all.deb" }

var (
	smallDeb  = deb{"small", noise(11, 20_000)}
	mediumDeb = deb{"medium", noise(12, 700_000)}
	bigDeb    = deb{"big", noise(13, 12_000_000)}
)

// aptSite is a signed repository on four mirrors of one nginx: two that are good, one that sends wrong packages, and one
// that lags: it has yesterday's release, validly signed, without the big package.
type aptSite struct {
	t       *testing.T
	dir     string
	servers []string // the two good ones, the liar, the late one
	stop    func() []access
}

// newAptSite builds the repository and serves it. rate is what nginx sends at most on one connection.
// more packages come with the big one.
func newAptSite(t *testing.T, rate string, torrents bool, more ...deb) *aptSite {
	t.Helper()
	need(t, "apt-get", "apt-ftparchive", "dpkg-deb", "gpg", "nginx")
	if err := makeKey(); err != nil {
		t.Fatal(err)
	}
	s := &aptSite{t: t, dir: openDir(t)}
	out, err := command(t, s.dir, "gpg", "--homedir", gpgDir(), "--batch", "--export").Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.dir, "key.gpg"), out)
	good := filepath.Join(s.dir, "good")
	pool := filepath.Join(good, "pool")
	if err := os.MkdirAll(pool, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []deb{smallDeb, mediumDeb} {
		buildDeb(t, d, filepath.Join(pool, d.file()))
	}
	s.release(good, time.Now().Add(-24*time.Hour), "")
	late := filepath.Join(s.dir, "late")
	must(t, command(t, s.dir, "cp", "-a", good, late))
	for _, d := range append(more, bigDeb) {
		buildDeb(t, d, filepath.Join(pool, d.file()))
	}
	if err := os.RemoveAll(filepath.Join(good, "dists")); err != nil {
		t.Fatal(err)
	}
	s.release(good, time.Now().Add(-time.Hour), late)
	liar := filepath.Join(s.dir, "liar")
	must(t, command(t, s.dir, "cp", "-a", good, liar))
	spoil(t, filepath.Join(liar, "pool", mediumDeb.file()))
	spoil(t, filepath.Join(liar, "pool", bigDeb.file()))
	if torrents {
		must(t, command(t, s.dir, binary, "create", filepath.Join(pool, bigDeb.file())))
	}
	s.serve(rate)
	return s
}

// release writes the indexes of tree and signs them. If there is an older tree, they come with what has changed since.
func (s *aptSite) release(tree string, date time.Time, older string) {
	t := s.t
	t.Helper()
	index, i18n := "dists/stable/main/binary-all", "dists/stable/main/i18n"
	for _, d := range []string{index, i18n} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ftparchive := func(args ...string) []byte {
		cmd := command(t, s.dir, "apt-ftparchive", args...)
		cmd.Dir = tree
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("apt-ftparchive %v: %v", args, err)
		}
		return out
	}
	packages, translations := ftparchive("packages", "pool"), ""
	for i := range 100 { // of what has not changed there is more
		packages = fmt.Appendf(packages, "\nPackage: other%d\nVersion: 1\nArchitecture: all\nMaintainer: Demo <demo@example.invalid>\n"+
			"Filename: pool/other%d.deb\nSize: 1\nSHA256: %x\nDescription: demo\n", i, i, sha256.Sum256([]byte{byte(i)}))
		translations += fmt.Sprintf("Package: other%d\nDescription-md5: %x\nDescription-en: demo\n\n", i, md5.Sum([]byte{byte(i)}))
	}
	translations += "Package: small\nDescription-md5: 0123456789abcdef0123456789abcdef\nDescription-en: demo of " + date.Format(time.DateOnly) + "\n"
	write(t, filepath.Join(tree, index, "Packages"), packages)
	write(t, filepath.Join(tree, i18n, "Translation-en"), []byte(translations))
	for _, f := range []string{index + "/Packages", i18n + "/Translation-en"} {
		path := filepath.Join(tree, f)
		must(t, command(t, s.dir, "gzip", "-9nk", path))
		byHash(t, path)
		byHash(t, path+".gz")
		if older != "" {
			pdiff(t, filepath.Join(older, f), path)
			byHash(t, path+".diff/Index")
		}
	}
	release := filepath.Join(tree, "dists/stable")
	plain := filepath.Join(s.dir, "Release")
	write(t, plain, ftparchive("-o", "APT::FTPArchive::Release::Codename=stable", "-o", "APT::FTPArchive::Release::Date="+date.UTC().Format(time.RFC1123),
		"-o", "APT::FTPArchive::Release::Suite=stable", "-o", "APT::FTPArchive::Release::Components=main",
		"-o", "APT::FTPArchive::Release::Architectures=all amd64", "-o", "APT::FTPArchive::Release::Acquire-By-Hash=yes",
		"release", "dists/stable"))
	must(t, command(t, s.dir, "gpg", "--homedir", gpgDir(), "--batch", "--quiet", "--yes", "--clearsign", "-o",
		filepath.Join(release, "InRelease"), plain))
	if err := os.Chtimes(filepath.Join(release, "InRelease"), date, date); err != nil {
		t.Fatal(err)
	}
}

// pdiff writes what leads from an older index to the present one, as the archive's software does: an ed script.
func pdiff(t *testing.T, older, index string) {
	t.Helper()
	dir := index + ".diff"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, dir, "diff", "--ed", older, index)
	script, status := finish(t, cmd)
	if status != 1 {
		t.Fatalf("diff: status %d\n%s", status, script)
	}
	patch := filepath.Join(dir, "2026-01-01-0000.00")
	write(t, patch, []byte(script))
	must(t, command(t, dir, "gzip", "-9nk", patch))
	line := func(of, name string) string {
		b := read(t, of)
		return strings.TrimRight(fmt.Sprintf(" %x %d %s", sha256.Sum256(b), len(b), name), " ") + "\n"
	}
	name := filepath.Base(patch)
	text := "SHA256-Current:" + line(index, "") + "SHA256-History:\n" + line(older, name) +
		"SHA256-Patches:\n" + line(patch, name) + "SHA256-Download:\n" + line(patch+".gz", name+".gz")
	write(t, filepath.Join(dir, "Index"), []byte(text))
	if err := os.Remove(patch); err != nil {
		t.Fatal(err)
	}
}

// spoil changes bytes all over a file, keeping its size and date.
func spoil(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b := read(t, path)
	for i := 1000; i < len(b); i += 10_000 {
		b[i] ^= 1
	}
	write(t, path, b)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

func buildDeb(t *testing.T, d deb, path string) {
	t.Helper()
	tree := openDir(t)
	for _, dir := range []string{"DEBIAN", "opt/" + d.name} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(tree, "DEBIAN/control"), []byte(fmt.Sprintf(
		"Package: %s\nVersion: 1.0+b1~x\nArchitecture: all\nMaintainer: Demo <demo@example.invalid>\nDescription: demo\n", d.name)))
	write(t, filepath.Join(tree, "opt", d.name, "data"), d.content)
	must(t, command(t, tree, "dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, path))
}

func byHash(t *testing.T, file string) {
	t.Helper()
	for _, kind := range []string{"SHA256", "SHA512"} {
		out := must(t, command(t, ".", strings.ToLower(kind)+"sum", file))
		dir := filepath.Join(filepath.Dir(file), "by-hash", kind)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(file, filepath.Join(dir, strings.Fields(out)[0])); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *aptSite) serve(rate string) {
	t := s.t
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	for try := 0; ; try++ {
		ports := freePorts(t, 4)
		conf, err := os.ReadFile("../../testdata/apt/nginx.conf")
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.dir, "nginx.conf"), []byte(strings.NewReplacer("@USER@", user, "@DIR@", s.dir, "@RATE@", rate,
			"@PORT1@", ports[0], "@PORT2@", ports[1], "@PORT3@", ports[2], "@PORT4@", ports[3]).Replace(string(conf))))
		cmd := exec.Command("nginx", "-p", s.dir, "-e", filepath.Join(s.dir, "error.log"), "-c", filepath.Join(s.dir, "nginx.conf"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if listens(ports, ended) {
			s.servers = nil
			for _, p := range ports {
				s.servers = append(s.servers, "http://127.0.0.1:"+p)
			}
			quit := func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-ended
				ended <- nil
			}
			t.Cleanup(quit)
			s.stop = func() []access {
				quit()
				return readAccess(t, filepath.Join(s.dir, "access.log"))
			}
			return
		}
		if try == 3 {
			t.Fatalf("nginx does not start:\n%s", read(t, filepath.Join(s.dir, "error.log")))
		}
	}
}

// aptRoot is a private tree of apt.
type aptRoot struct {
	t    *testing.T
	dir  string
	user *syscall.Credential // nil: whoever runs the test
}

// newAptRoot makes a tree whose one source is uri. It belongs to user.
func newAptRoot(t *testing.T, s *aptSite, uri string, user *syscall.Credential) *aptRoot {
	t.Helper()
	r := &aptRoot{t: t, dir: openDir(t), user: user}
	for _, d := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial",
		"var/cache/apt/archives/partial", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log/apt", "methods", "download", "inst"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"status", "available"} {
		write(t, filepath.Join(r.dir, "var/lib/dpkg", f), nil)
	}
	stock, err := os.ReadDir("/usr/lib/apt/methods")
	if err != nil {
		missing(t, "apt's methods are not in /usr/lib/apt/methods")
	}
	for _, m := range stock {
		r.link("/usr/lib/apt/methods/"+m.Name(), m.Name())
	}
	for _, m := range []string{"torrent", "torrent+http", "torrent+https"} {
		r.link(binary, m)
	}
	r.link("/usr/lib/apt/methods/mirror", "torrent+mirror+file")
	r.link("/usr/lib/apt/methods/file", "torrent+file")
	r.source(s, uri)
	write(t, filepath.Join(r.dir, "apt.conf"), []byte(fmt.Sprintf(`Dir %q;
Dir::Bin::methods %q;
Dir::State::status %q;
Dir::Log::Terminal "";
APT::Architecture "amd64";
APT::Get::Assume-Yes "1";
Acquire::Languages { "en"; };
Acquire::Retries "0";
Debug::NoLocking "1";
`, r.dir+"/", r.dir+"/methods/", r.dir+"/var/lib/dpkg/status")))
	if user != nil {
		must(t, command(t, r.dir, "chown", "-R", fmt.Sprintf("%d:%d", user.Uid, user.Gid), r.dir))
	}
	return r
}

func (r *aptRoot) link(to, name string) {
	r.t.Helper()
	if err := os.Symlink(to, filepath.Join(r.dir, "methods", name)); err != nil {
		r.t.Fatal(err)
	}
}

// only takes apt's own methods away.
func (r *aptRoot) only() {
	r.t.Helper()
	for _, m := range []string{"http", "https"} {
		if err := os.Remove(filepath.Join(r.dir, "methods", m)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *aptRoot) source(s *aptSite, uri string) {
	r.t.Helper()
	write(r.t, filepath.Join(r.dir, "etc/apt/sources.list"), []byte(fmt.Sprintf("deb [signed-by=%s/key.gpg] %s stable main\n", s.dir, uri)))
}

func (r *aptRoot) command(args ...string) *exec.Cmd {
	cmd := command(r.t, r.dir, "apt-get", args...)
	cmd.Env = append(cmd.Env, "APT_CONFIG="+filepath.Join(r.dir, "apt.conf"))
	cmd.Dir = filepath.Join(r.dir, "download")
	if r.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	}
	return cmd
}

func (r *aptRoot) run(args ...string) string {
	r.t.Helper()
	return must(r.t, r.command(args...))
}

// atWork tells whether any of apt's methods runs.
func (r *aptRoot) atWork() bool {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(process string) bool {
		line, _ := os.ReadFile(process) // they come and go
		return bytes.Contains(line, []byte(filepath.Join(r.dir, "methods")+"/"))
	})
}

func (r *aptRoot) archive(name string) string {
	return filepath.Join(r.dir, "var/cache/apt/archives", name)
}

func (r *aptRoot) partial(name string) string {
	return filepath.Join(r.dir, "var/cache/apt/archives/partial", name)
}

// mirrorList writes an apt mirror list, the late mirror in its last place, and returns the URI of a source for it.
func mirrorList(t *testing.T, s *aptSite) string {
	t.Helper()
	path := filepath.Join(s.dir, "mirrors.txt")
	write(t, path, []byte(fmt.Sprintf("%s/\tpriority:1\n%s/\tpriority:2\n%s/\tpriority:2\n%s/\tpriority:3 type:deb\n%s/\tpriority:4\n",
		s.servers[0], s.servers[1], dead(t), s.servers[2], s.servers[3])))
	return "torrent+mirror+file:" + path
}

// warned fails the test unless apt warns of the mirror that lies and of no other.
func (s *aptSite) warned(said string) {
	s.t.Helper()
	warnings := 0
	for line := range strings.Lines(said) {
		if strings.Contains(line, "sent wrong bytes") {
			warnings++
			if !strings.Contains(line, strings.TrimPrefix(s.servers[2], "http://")) {
				s.t.Errorf("an honest mirror is warned of: %s", line)
			}
		}
	}
	if warnings == 0 {
		s.t.Errorf("there is no warning of the mirror that lies:\n%s", said)
	}
}

// eachUser runs a test as root, who lets the method drop to _apt, and as an ordinary user.
func eachUser(t *testing.T, f func(t *testing.T, user *syscall.Credential)) {
	if os.Geteuid() != 0 {
		f(t, nil)
		return
	}
	t.Run("root", func(t *testing.T) { f(t, nil) })
	t.Run("nobody", func(t *testing.T) { f(t, nobody()) })
}

func TestAptFromAllMirrors(t *testing.T) {
	for _, torrents := range []bool{false, true} {
		t.Run(map[bool]string{false: "digest", true: "torrent"}[torrents], func(t *testing.T) {
			eachUser(t, func(t *testing.T, user *syscall.Credential) { aptFromAllMirrors(t, user, torrents) })
		})
	}
}

func aptFromAllMirrors(t *testing.T, user *syscall.Credential, torrents bool) {
	s := newAptSite(t, "2m", torrents)
	r := newAptRoot(t, s, mirrorList(t, s), user)
	r.only()
	write(t, filepath.Join(s.dir, "mirrors.txt"), []byte(s.servers[3]+"/\n"))
	if yesterday := r.run("update"); strings.Contains(yesterday, "Err:") || strings.Contains(yesterday, "W:") {
		t.Errorf("yesterday's update:\n%s", yesterday)
	}
	mirrorList(t, s)
	update := r.run("update")
	if strings.Contains(update, "Err:") || strings.Contains(update, "Ign:") || strings.Contains(update, "W:") {
		t.Errorf("update:\n%s", update)
	}
	if again := r.run("update"); !strings.Contains(again, "Hit:") || strings.Contains(again, "Get:2") {
		t.Errorf("the second update got something:\n%s", again)
	}
	install := r.run("install", "-d", "small", "medium", "big")
	for _, d := range []deb{smallDeb, mediumDeb, bigDeb} {
		got := read(t, r.archive(d.file()))
		if !bytes.Equal(got, read(t, filepath.Join(s.dir, "good/pool", d.file()))) {
			t.Errorf("%s is wrong", d.file())
		}
	}
	if !regexp.MustCompile(`Fetched 12\.\d MB in`).MatchString(install) {
		t.Errorf("apt does not tell what was fetched:\n%s", install)
	}
	s.warned(install)
	entries, _ := os.ReadDir(filepath.Dir(r.partial("x")))
	for _, e := range entries {
		if e.Name() != ".torrent-xfer.hosts.json" {
			t.Errorf("%s was left behind", e.Name())
		}
	}
	if os.Geteuid() == 0 && user == nil {
		r.run("-o", "DPkg::Options::=--force-not-root", "-o", "DPkg::Options::=--root="+r.dir+"/inst",
			"-o", "DPkg::Options::=--admindir="+r.dir+"/var/lib/dpkg", "-o", "DPkg::Options::=--log=/dev/null", "install", "small", "medium", "big")
		for _, d := range []deb{smallDeb, mediumDeb, bigDeb} {
			same(t, filepath.Join(r.dir, "inst/opt", d.name, "data"), d.content)
		}
	}
	r.run("download", "medium")
	same(t, filepath.Join(r.dir, "download", mediumDeb.file()), read(t, filepath.Join(s.dir, "good/pool", mediumDeb.file())))

	sent := map[string]int64{}
	var total int64
	indexes := map[string]int{}
	for _, a := range s.stop() {
		for _, index := range []string{"Packages", "Translation-en"} {
			if _, name, ok := strings.Cut(a.uri, "/"+index+".diff/"); ok && a.status == 200 {
				kind, _, _ := strings.Cut(name, "/")
				indexes[index+".diff/"+kind]++
			}
		}
		if a.uri == "/pool/"+bigDeb.file() && a.status/100 == 2 {
			sent[a.port] += a.bytes
			total += a.bytes
		}
		if strings.HasSuffix(a.uri, ".torrent") && a.uri != "/pool/"+bigDeb.file()+".torrent" {
			t.Errorf("asked for %s", a.uri)
		}
	}
	for i := range 2 {
		if p := strings.TrimPrefix(s.servers[i], "http://127.0.0.1:"); sent[p] == 0 {
			t.Errorf("the good mirror %d gave nothing of the big package", i+1)
		}
	}
	for _, want := range []string{"Packages.diff/by-hash", "Packages.diff/2026-01-01-0000.00.gz", "Translation-en.diff/by-hash", "Translation-en.diff/2026-01-01-0000.00.gz"} {
		if indexes[want] != 1 {
			t.Errorf("%s was fetched %d times", want, indexes[want])
		}
	}
	t.Logf("%d bytes sent for %d", total, len(bigDeb.content))
}

// TestAptInPlaceOfHTTP has apt run the program as its method http, by one line of configuration; sources stay as they are.
func TestAptInPlaceOfHTTP(t *testing.T) {
	eachUser(t, func(t *testing.T, user *syscall.Credential) {
		s := newAptSite(t, "2m", false)
		r := newAptRoot(t, s, s.servers[0], user)
		flags := []string{"-o", "Dir::Bin::Methods::http=" + binary, "-o", "Acquire::torrent::Mirrors::=" + s.servers[0],
			"-o", "Acquire::torrent::Mirrors::=" + s.servers[1]}
		r.run(append(flags, "update")...)
		r.run(append(flags, "install", "-d", "small", "big")...)
		for _, d := range []deb{smallDeb, bigDeb} {
			same(t, r.archive(d.file()), read(t, filepath.Join(s.dir, "good/pool", d.file())))
		}
		sent := map[string]int64{}
		for _, a := range s.stop() {
			if a.uri == "/pool/"+bigDeb.file() {
				sent["http://127.0.0.1:"+a.port] += a.bytes
			}
		}
		for i := range 2 {
			if sent[s.servers[i]] == 0 {
				t.Errorf("mirror %d gave nothing of the big package", i+1)
			}
		}
	})
}

// TestAptGoesOn interrupts a download by one method and lets the other go on: ours from http's part, and http from ours.
func TestAptGoesOn(t *testing.T) {
	eachUser(t, func(t *testing.T, user *syscall.Credential) {
		for _, c := range []struct{ first, second string }{{"torrent+http", "torrent+http"}, {"torrent+http", "http"}, {"http", "torrent+http"}} {
			t.Run(c.first+" then "+c.second, func(t *testing.T) { aptGoesOn(t, user, c.first, c.second) })
		}
	})
}

func aptGoesOn(t *testing.T, user *syscall.Credential, first, second string) {
	s := newAptSite(t, "1m", false)
	bare := func() string { return strings.TrimPrefix(s.servers[0], "http") }
	r := newAptRoot(t, s, first+bare(), user)
	r.run("update")
	cmd := r.command("install", "-d", "big")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	want := read(t, filepath.Join(s.dir, "good/pool", bigDeb.file()))
	part := r.partial(bigDeb.file())
	eventually(t, "the download does not get going", func() bool {
		info, err := os.Stat(part)
		return err == nil && info.Size() > 2_000_000
	})
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	eventually(t, "a method lives on", func() bool { return !r.atWork() }) // apt does not wait for them then
	s.stop()
	s.serve("0")
	got := read(t, part)
	if !bytes.HasPrefix(want, got) || len(got) == len(want) {
		t.Fatalf("%d bytes in the partial file, not a part of the right ones", len(got))
	}
	r.source(s, second+bare())
	r.run("update")
	r.run("install", "-d", "big")
	same(t, r.archive(bigDeb.file()), want)
	var after, ranges int64
	for _, a := range s.stop() {
		if a.uri != "/pool/"+bigDeb.file() {
			continue
		}
		if from, ok := strings.CutPrefix(a.byteRange, "bytes="); ok {
			from, _, _ = strings.Cut(from, "-")
			n, _ := strconv.ParseInt(from, 10, 64)
			if n >= int64(len(got))-64<<10 {
				ranges++
			}
		}
		after += a.bytes
	}
	if ranges == 0 {
		t.Errorf("nobody went on at byte %d", len(got))
	}
	if after > int64(len(want))*13/10 {
		t.Errorf("%d bytes sent for %d", after, len(want))
	}
}
