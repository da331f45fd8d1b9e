package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestAptSiblings: the URIs of one stanza are mirrors of each other. apt itself would have every package from the first.
func TestAptSiblings(t *testing.T) {
	eachUser(t, func(t *testing.T, user *syscall.Credential) {
		s := newAptSite(t, "2m", false)
		r := newAptRoot(t, s, "torrent+"+s.servers[0], user)
		r.only()
		if err := os.Remove(filepath.Join(r.dir, "etc/apt/sources.list")); err != nil {
			t.Fatal(err)
		}
		parts := filepath.Join(r.dir, "etc/apt/sources.list.d")
		if err := os.Mkdir(parts, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(parts, "demo.sources"), fmt.Appendf(nil, "Types: deb\nURIs: torrent+%s torrent+%s torrent+%s\n"+
			"Suites: stable\nComponents: main\nSigned-By: %s/key.gpg\n", s.servers[0], s.servers[1], s.servers[2], s.dir))
		if said := r.run("update"); strings.Contains(said, "Err:") || strings.Contains(said, "W:") {
			t.Errorf("update:\n%s", said)
		}
		said := r.run("install", "-d", "small", "medium", "big")
		for _, d := range []deb{smallDeb, mediumDeb, bigDeb} {
			same(t, r.archive(d.file()), read(t, filepath.Join(s.dir, "good/pool", d.file())))
		}
		s.warned(said)
		sent := map[string]int64{}
		for _, a := range s.stop() {
			if a.uri == "/pool/"+bigDeb.file() {
				sent["http://127.0.0.1:"+a.port] += a.bytes
			}
		}
		for i := range 3 {
			if sent[s.servers[i]] == 0 {
				t.Errorf("mirror %d gave nothing of the big package", i+1)
			}
		}
	})
}

// TestAptBadMirrorsFirst has a dead mirror, one that lies and one that lags stand before the good one in the list.
func TestAptBadMirrorsFirst(t *testing.T) {
	eachUser(t, func(t *testing.T, user *syscall.Credential) {
		s := newAptSite(t, "6m", false)
		r := newAptRoot(t, s, mirrorList(t, s), user)
		r.only()
		r.run("update")
		write(t, filepath.Join(s.dir, "mirrors.txt"), fmt.Appendf(nil, "%s/\tpriority:1\n%s/\tpriority:2\n%s/\tpriority:3 type:deb\n%s/\tpriority:4\n",
			s.servers[3], dead(t), s.servers[2], s.servers[0]))
		if said := r.run("update"); strings.Contains(said, "Err:") || strings.Contains(said, "W:") {
			t.Errorf("update from the mirror that lags:\n%s", said)
		}
		write(t, filepath.Join(s.dir, "mirrors.txt"), fmt.Appendf(nil, "%s/\tpriority:1\n%s/\tpriority:2 type:deb\n%s/\tpriority:3\n%s/\tpriority:4\n",
			dead(t), s.servers[2], s.servers[3], s.servers[0]))
		said := r.run("install", "-d", "small", "medium", "big")
		for _, d := range []deb{smallDeb, mediumDeb, bigDeb} {
			same(t, r.archive(d.file()), read(t, filepath.Join(s.dir, "good/pool", d.file())))
		}
		if strings.Contains(said, "Err:") || strings.Contains(said, "E:") {
			t.Errorf("install:\n%s", said)
		}
		s.warned(said)
	})
}

// TestAptProgress reads what apt tells of a large download to whoever draws a bar of his own.
func TestAptProgress(t *testing.T) {
	huge := deb{"huge", noise(14, 24_000_000)}
	s := newAptSite(t, "4m", false, huge)
	r := newAptRoot(t, s, mirrorList(t, s), nil)
	r.run("update")
	told, err := os.Create(filepath.Join(r.dir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	cmd := r.command("-o", "APT::Status-Fd=3", "install", "-d", "small", "medium", "huge")
	cmd.ExtraFiles = []*os.File{told}
	must(t, cmd)
	same(t, r.archive(huge.file()), read(t, filepath.Join(s.dir, "good/pool", huge.file())))
	last, between := 0.0, 0
	text := string(read(t, told.Name()))
	for line := range strings.Lines(text) {
		f := strings.Split(line, ":")
		if f[0] != "dlstatus" {
			continue
		}
		percent, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			t.Fatal(line)
		}
		if percent < last {
			t.Errorf("back from %v %% to %v %%", last, percent)
		}
		if percent > last && percent < 99 {
			between++
		}
		last = percent
	}
	if between < 2 || last < 99 || t.Failed() {
		t.Errorf("progress:\n%s", text)
	}
}
