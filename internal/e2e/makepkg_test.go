package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMakepkg(t *testing.T) {
	need(t, "makepkg", "fakeroot", "bsdtar", "zstd")
	served := openDir(t)
	plain, payload := noise(20, 40_000), noise(21, 3_000_000)
	write(t, filepath.Join(served, "plain.bin"), plain)
	write(t, filepath.Join(served, "payload-1.0.bin"), payload)
	mktorrent(t, served, "payload-1.0.bin")
	m := start(t, served, 0)

	dir := ownDir(t, 0o755)
	asNobody := &syscall.SysProcAttr{Credential: nobody()}
	mk := command(t, dir, "mkdir", "sources", "packages", "build")
	mk.Dir, mk.SysProcAttr = dir, asNobody
	must(t, mk)
	fill(t, "makepkg.conf", filepath.Join(dir, "makepkg.conf"), "@BINARY@", binary, "@DIR@", dir)
	fill(t, "PKGBUILD", filepath.Join(dir, "PKGBUILD"), "@URL@", m.url(), "@PLAIN@", sum(plain), "@PAYLOAD@", sum(payload))

	cmd := command(t, dir, "makepkg", "--config", filepath.Join(dir, "makepkg.conf"), "--nodeps", "--noconfirm", "--nocheck")
	cmd.Dir, cmd.SysProcAttr = dir, asNobody
	must(t, cmd)

	sources := filepath.Join(dir, "sources")
	same(t, filepath.Join(sources, "plain.bin"), plain)
	same(t, filepath.Join(sources, "renamed file.bin"), payload)
	holds(t, sources, "plain.bin", "renamed file.bin")
	if n := len(m.requests("payload-1.0.bin.torrent")); n == 0 {
		t.Error("the torrent was not looked for under the URL's name")
	}
	if _, err := os.Stat(filepath.Join(dir, "packages", "fetched-1.0-1-any.pkg.tar.zst")); err != nil {
		t.Errorf("makepkg made no package: %v", err)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
