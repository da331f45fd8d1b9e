package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// pkg is a package of the repository "demo". It installs one file, /opt/NAME/data, that holds content.
type pkg struct {
	name, version string
	content       []byte
}

func (p pkg) file() string { return p.name + "-" + p.version + "-any.pkg.tar.zst" }

func (p pkg) installed(root string) string { return filepath.Join(root, "opt", p.name, "data") }

var (
	small  = pkg{"small", "1.0-1", noise(1, 3_000)}
	medium = pkg{"medium", "1.0-1", noise(2, 2_000_000)}
	big    = pkg{"big", "1.0-1", noise(3, 20_000_000)}
)

// noise is what no compressor shortens, the same in each run.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func gpgDir() string { return filepath.Join(base, "gpg") }

// makeKey makes the signing key of all tests, trusted ultimately because it is our own.
var makeKey = sync.OnceValue(func() error {
	if err := os.Mkdir(gpgDir(), 0o700); err != nil {
		return err
	}
	out, err := exec.Command("gpg", "--homedir", gpgDir(), "--batch", "--quiet", "--pinentry-mode", "loopback",
		"--passphrase", "", "--quick-gen-key", "Demo <demo@example.invalid>", "ed25519", "sign", "never").CombinedOutput()
	if err != nil {
		return fmt.Errorf("gpg: %w\n%s", err, out)
	}
	return nil
})

func stopAgent() {
	_ = exec.Command("gpgconf", "--homedir", gpgDir(), "--kill", "all").Run()
}

// repoOnce makes the repository that each test takes a copy of.
var repoOnce = sync.OnceValue(func() error {
	if err := makeKey(); err != nil {
		return err
	}
	dir := filepath.Join(base, "repo")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, p := range []pkg{small, medium, big} {
		if err := addPackage(dir, p); err != nil {
			return err
		}
	}
	return nil
})

// newRepo gives a directory of its own with the signed packages and the database of the repository "demo", without
// torrents.
func newRepo(t *testing.T) string {
	t.Helper()
	need(t, "bsdtar", "zstd", "gpg", "repo-add")
	if err := repoOnce(); err != nil {
		t.Fatal(err)
	}
	return copyRepo(t, filepath.Join(base, "repo"))
}

// copyRepo makes a second tree of the same files. They are hard links: replace them, never write into them.
func copyRepo(t *testing.T, from string) string {
	t.Helper()
	to := openDir(t)
	must(t, command(t, to, "cp", "-al", from+"/.", to))
	return to
}

// addPackage builds and signs a package and puts it into the database in dir.
func addPackage(dir string, p pkg) error {
	tree, err := os.MkdirTemp(base, "package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := os.MkdirAll(filepath.Join(tree, "opt", p.name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(p.installed(tree), p.content, 0o644); err != nil {
		return err
	}
	info := fmt.Sprintf("pkgname = %s\npkgbase = %s\npkgver = %s\npkgdesc = demo\nurl = http://example.invalid/\n"+
		"builddate = 1700000000\npackager = Demo <demo@example.invalid>\nsize = %d\narch = any\nlicense = none\n",
		p.name, p.name, p.version, len(p.content))
	if err := os.WriteFile(filepath.Join(tree, ".PKGINFO"), []byte(info), 0o644); err != nil {
		return err
	}
	path := filepath.Join(dir, p.file())
	for _, argv := range [][]string{
		{"bsdtar", "-C", tree, "--uid", "0", "--gid", "0", "--zstd", "-cf", path, ".PKGINFO", "opt"},
		{"gpg", "--homedir", gpgDir(), "--batch", "--quiet", "--detach-sign", path},
		{"repo-add", "--quiet", filepath.Join(dir, "demo.db.tar.gz"), path},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", argv[0], err, out)
		}
	}
	return nil
}

// mktorrent makes FILE.torrent beside the file.
func mktorrent(t *testing.T, dir, name string, seeds ...string) {
	t.Helper()
	need(t, "mktorrent")
	args := []string{"-l", "18", "-t", "1", "-o", filepath.Join(dir, name+".torrent")}
	for _, s := range seeds {
		args = append(args, "-w", s)
	}
	must(t, command(t, dir, "mktorrent", append(args, filepath.Join(dir, name))...))
}

// libtorrent makes FILE.torrent beside the file; kind is v1, hybrid or v2.
func libtorrent(t *testing.T, kind, dir, name string) {
	t.Helper()
	needLibtorrent(t)
	path := filepath.Join(dir, name)
	must(t, command(t, dir, python, filepath.Join(data, "torrent.py"), kind, path, path+".torrent"))
}

// lie replaces a file by one of the same length and other bytes.
func lie(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	wrong := noise(99, len(read(t, path)))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, wrong)
}

// dead gives the URL of a port that refuses connections, and that nobody else can get while the test runs.
func dead(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
}

func TestDeadMirrorRefuses(t *testing.T) {
	c, err := net.Dial("tcp", dead(t)[len("http://"):])
	if err == nil {
		_ = c.Close()
		t.Fatal("something answers at the dead mirror")
	}
	if bytes.Contains([]byte(err.Error()), []byte("timeout")) {
		t.Fatalf("the dead mirror does not refuse: %v", err)
	}
}
