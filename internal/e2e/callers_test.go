package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Each caller's own line, from its source (pacman.md, section 4). They are run by sh as their users write them.
func TestOtherCallers(t *testing.T) {
	served := openDir(t)
	content := noise(30, 1_200_000)
	write(t, filepath.Join(served, "src-1.0.tar.gz"), content)
	mktorrent(t, served, "src-1.0.tar.gz")
	m := start(t, served, 0)
	url := m.url() + "/src-1.0.tar.gz"

	for _, c := range []struct {
		name, line string
		before     map[string]string // files that are there
		left       []string          // files that are there afterwards besides those; the first holds the content
	}{
		// gentoo/portage cnf/make.globals, pym/portage/package/ebuild/fetch.py
		{name: "Portage", line: `"$BIN" "${URI}" "${PWD}/src-1.0.tar.gz.__download__"`, left: []string{"src-1.0.tar.gz.__download__"}},
		{name: "Portage, resume", line: `"$BIN" "${URI}" "${PWD}/src-1.0.tar.gz.__download__"`,
			before: map[string]string{"src-1.0.tar.gz.__download__": "a wrong beginning"},
			left:   []string{"src-1.0.tar.gz.__download__"}},
		// freebsd-ports Mk/Scripts/do-fetch.sh
		{name: "FreeBSD ports", line: `"$BIN" "$URI"`, left: []string{"src-1.0.tar.gz"}},
		{name: "FreeBSD ports, with output", line: `"$BIN" -o out.tar.gz "$URI"`, left: []string{"out.tar.gz"}},
		{name: "FreeBSD ports, with size", line: `"$BIN" -S "$SIZE" -o out.tar.gz "$URI"`, left: []string{"out.tar.gz"}},
		{name: "FreeBSD ports, size alone", line: `"$BIN" -S "$SIZE" "$URI"`, left: []string{"src-1.0.tar.gz"}},
		// void-packages common/hooks/do-fetch/00-distfiles.sh: the .part is its lock, not ours
		{name: "xbps-src", line: `flock src-1.0.tar.gz.part "$BIN" "$URI"`, left: []string{"src-1.0.tar.gz", "src-1.0.tar.gz.part"}},
		{name: "xbps-src, renamed", line: `flock other.tar.gz.part "$BIN" "$URI>other.tar.gz"`,
			left: []string{"other.tar.gz", "other.tar.gz.part"}},
		// buildroot support/download/wget
		{name: "Buildroot", line: `"$BIN" -O "$PWD/output" "$URI"`, left: []string{"output"}},
		{name: "Buildroot, quiet", line: `"$BIN" -q -O "$PWD/output" "$URI"`, left: []string{"output"}},
		// pkgsrc mk/fetch/fetch.mk
		{name: "pkgsrc", line: `"$BIN" -o out.tar.gz "$URI"`, left: []string{"out.tar.gz"}},
		{name: "a file URL", line: `"$BIN" "file://$SERVED/src-1.0.tar.gz" "a b.part"`, left: []string{"a b.part"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := ownDir(t, 0o700)
			for name, text := range c.before {
				write(t, filepath.Join(dir, name), []byte(text))
				if u := nobody(); u != nil {
					if err := os.Chown(filepath.Join(dir, name), int(u.Uid), int(u.Gid)); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd := command(t, "/nonexistent", "sh", "-ec", c.line)
			cmd.Env = append(cmd.Env, "BIN="+binary, "URI="+url, "SIZE="+strconv.Itoa(len(content)), "SERVED="+served)
			cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: nobody()}
			out := must(t, cmd)
			same(t, filepath.Join(dir, c.left[0]), content)
			holds(t, dir, c.left...)
			for _, lock := range c.left[1:] {
				same(t, filepath.Join(dir, lock), nil)
			}
			if strings.Contains(c.line, "-q") && out != "" {
				t.Errorf("-q is not quiet: %q", out)
			}
			if strings.ContainsAny(out, "\r\x1b") {
				t.Errorf("a pipe got what is for a terminal: %q", out)
			}
		})
	}
}

// What the callers rely on when it does not work: a status, and no file.
func TestOtherCallersFailures(t *testing.T) {
	served := openDir(t)
	write(t, filepath.Join(served, "src-1.0.tar.gz"), noise(31, 1000))
	m := start(t, served, 0)
	for _, c := range []struct {
		name, line string
		status     int // -1: any but 0
	}{
		{"no such file", `"$BIN" -o out "$URI/gone.tar.gz"`, 3},
		{"dead mirror", `"$BIN" -o out "$DEAD/src-1.0.tar.gz"`, -1},
		{"another size", `"$BIN" -S 999 -o out "$URI/src-1.0.tar.gz"`, -1},
		{"no such directory", `"$BIN" "$URI/src-1.0.tar.gz" gone/out`, 5},
		{"no arguments", `"$BIN"`, 2},
		{"no such local file", `"$BIN" file:///nonexistent/src-1.0.tar.gz out`, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := ownDir(t, 0o700)
			cmd := command(t, "/nonexistent", "sh", "-c", c.line)
			cmd.Env = append(cmd.Env, "BIN="+binary, "URI="+m.url(), "DEAD="+dead(t))
			cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: nobody()}
			out, status := finish(t, cmd)
			if status == 0 || c.status > 0 && status != c.status {
				t.Errorf("status %d instead of %d: %s", status, c.status, out)
			}
			if out == "" {
				t.Error("it failed without a word")
			}
			holds(t, dir)
		})
	}
}
