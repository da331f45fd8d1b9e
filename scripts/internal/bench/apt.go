package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const aptMethods = "/usr/lib/apt/methods"

// archive is a repository for apt: some small packages and a large one.
type archive struct {
	dir   string
	small []string // names
	bytes int64    // of the small ones
}

const (
	aptSmall = 300
	aptLarge = 60 * mega
)

// archive builds the packages. Their sizes are spread as Debian's are: half of them below 60 kB.
func (b *bench) archive() (*archive, error) {
	a := &archive{}
	var err error
	if a.dir, err = os.MkdirTemp(b.memory, "archive-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(b.memory, 0o755); err != nil {
		return nil, err
	}
	os.Chmod(a.dir, 0o755)
	noise := rand.NewChaCha8([32]byte{9})
	sizes := []int64{6_000, 15_000, 30_000, 50_000, 70_000, 120_000, 250_000}
	for i := range aptSmall {
		name := fmt.Sprintf("small%d", i)
		a.small = append(a.small, name)
		a.bytes += sizes[i%len(sizes)]
		if err := b.deb(a.dir, name, io.LimitReader(noise, sizes[i%len(sizes)])); err != nil {
			return nil, err
		}
	}
	if err := b.deb(a.dir, "large", io.LimitReader(noise, aptLarge)); err != nil {
		return nil, err
	}
	index := exec.Command("apt-ftparchive", "packages", ".")
	index.Dir = a.dir
	out, err := index.Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(a.dir, "Packages"), out, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("apt-ftparchive: %w", err)
	}
	release := exec.Command("apt-ftparchive", "release", ".")
	release.Dir = a.dir
	if out, err = release.Output(); err == nil {
		err = os.WriteFile(filepath.Join(a.dir, "Release"), out, 0o644)
	}
	return a, err
}

func (b *bench) deb(dir, name string, content io.Reader) error {
	tree, err := os.MkdirTemp(b.memory, "deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	os.Chmod(tree, 0o755)
	if err := os.Mkdir(filepath.Join(tree, "DEBIAN"), 0o755); err != nil {
		return err
	}
	control := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: Bench <bench@example.invalid>\nDescription: bench\n", name)
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		return err
	}
	data, err := io.ReadAll(content)
	if err == nil {
		err = os.WriteFile(filepath.Join(tree, name), data, 0o644)
	}
	if err != nil {
		return err
	}
	return quiet(exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, filepath.Join(dir, name+"_1_all.deb")))
}

// aptRun lets apt download packages from a source in a tree of its own. The update before that is timed too.
func (b *bench) aptRun(source, config string, packages ...string) (update, install outcome, err error) {
	root, err := os.MkdirTemp(b.memory, "apt-")
	if err != nil {
		return update, install, err
	}
	defer os.RemoveAll(root)
	for _, d := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial",
		"var/lib/dpkg", "methods"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return update, install, err
		}
	}
	stock, err := os.ReadDir(aptMethods)
	if err != nil {
		return update, install, err
	}
	for _, m := range stock {
		os.Symlink(filepath.Join(aptMethods, m.Name()), filepath.Join(root, "methods", m.Name()))
	}
	os.Symlink(b.xfer, filepath.Join(root, "methods/torrent+http"))
	conf := fmt.Sprintf(`Dir "%s/"; Dir::Bin::methods "%s/methods/"; Dir::State::status "%s/var/lib/dpkg/status";
Acquire::Languages "none"; Debug::NoLocking "1"; APT::Sandbox::User "root"; APT::Get::Assume-Yes "1"; %s`, root, root, root, config)
	for name, text := range map[string]string{"apt.conf": conf, "var/lib/dpkg/status": "",
		"etc/apt/sources.list": "deb [trusted=yes] " + source + " ./\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return update, install, err
		}
	}
	apt := func(args ...string) (outcome, error) {
		return b.timed("env", append([]string{"APT_CONFIG=" + filepath.Join(root, "apt.conf"), "apt-get", "-qq"}, args...)...)
	}
	if update, err = apt("update"); err != nil {
		return update, install, err
	}
	if install, err = apt(append([]string{"install", "--download-only"}, packages...)...); err != nil {
		return update, install, err
	}
	got, err := filepath.Glob(filepath.Join(root, "var/cache/apt/archives/*.deb"))
	if err == nil && len(got) != len(packages) {
		err = fmt.Errorf("apt has %d of %d packages", len(got), len(packages))
	}
	return update, install, err
}

// apt measures the acquire method beside apt's own.
func (b *bench) apt() error {
	for _, program := range []string{"apt-get", "apt-ftparchive", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Println("Not installed:", program+": no row apt.")
			return nil
		}
	}
	a, err := b.archive()
	if err != nil {
		return err
	}
	defer os.RemoveAll(a.dir)
	s, err := b.serveUnlimited(a.dir)
	if err != nil {
		return err
	}
	defer s.stop()
	far, stop, err := distant(s.roots[0], 30*ms)
	if err != nil {
		return err
	}
	defer stop()
	updates, installs := map[string]outcomes{}, map[string]outcomes{}
	for range max(b.runs, 3) {
		for _, scheme := range []string{"torrent+http", "http"} {
			u, i, err := b.aptRun(strings.Replace(far, "http", scheme, 1), "", a.small...)
			if err != nil {
				return err
			}
			updates[scheme], installs[scheme] = append(updates[scheme], u), append(installs[scheme], i)
		}
	}
	for _, what := range []struct {
		name string
		all  map[string]outcomes
	}{{"apt update over 30 ms", updates}, {fmt.Sprintf("apt, %d packages, %.0f MB, over 30 ms", aptSmall, float64(a.bytes)/mega), installs}} {
		b.table.add(made(what.name, what.all["torrent+http"], what.all["http"].wall(), 1.05, "against apt's own http"))
	}

	mirrors := several(20*ms, 5*mega, 5*mega, 5*mega)
	three, err := b.serve(a.dir, mirrors)
	if err != nil {
		return err
	}
	defer three.stop()
	config := "Acquire::torrent::Mirrors {"
	for _, root := range three.roots {
		config += fmt.Sprintf(" %q;", root)
	}
	var large outcomes
	for range b.runs {
		_, o, err := b.aptRun(strings.Replace(three.roots[0], "http", "torrent+http", 1), config+" };", "large")
		if err != nil {
			return err
		}
		large = append(large, o)
	}
	b.table.add(made("apt, 60 MB from 3 mirrors of 5 MB/s", large, ideal(aptLarge, mirrors), 1.15, "against the ideal of three; apt's own start is in it"))
	return nil
}

// distant relays connections to the server of a URL over a line on which a round trip takes so long, and gives the URL to be
// used instead.
func distant(url string, roundTrip time.Duration) (far string, stop func(), err error) {
	host := strings.Trim(strings.TrimPrefix(url, "http://"), "/")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				time.Sleep(roundTrip) // the handshake
				server, err := net.Dial("tcp", host)
				if err != nil {
					return
				}
				defer server.Close()
				go later(server, near, roundTrip/2)
				later(near, server, roundTrip/2)
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/", func() { l.Close() }, nil
}

// later copies what comes, each piece after a while.
func later(to, from net.Conn, wait time.Duration) {
	type piece struct {
		at   time.Time
		data []byte
	}
	line := make(chan piece, 1<<12)
	go func() {
		defer close(line)
		for {
			data := make([]byte, 32<<10)
			n, err := from.Read(data)
			if n > 0 {
				line <- piece{time.Now().Add(wait), data[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range line {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
	to.(*net.TCPConn).CloseWrite()
}
