package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One URL is enough: what nginx says in its headers leads to the other mirrors, and to what the bytes are verified with.
func TestHeadersOfNginx(t *testing.T) {
	const name = "1:foo+b~c d%-1.0-1-x86_64.pkg.tar.zst"
	content := noise(80, 12_000_000)
	sum := sha256.Sum256(content)
	path := (&url.URL{Path: "/" + name}).EscapedPath()
	digest := base64.StdEncoding.EncodeToString(sum[:])
	duplicates := "location = \"/" + name + "\" {\nadd_header Link '<@SERVER2@" + path + ">; rel=duplicate; pri=1, " +
		"<@SERVER3@" + path + ">; rel=duplicate; pri=2';\n"
	for _, c := range []struct {
		name     string
		lines    string
		make     []string // flags of create; nil: no torrent, no metalink
		remove   string   // what create made besides
		verified string
	}{
		{name: "the shipped snippet and a torrent that names no mirrors", lines: snippet(t), make: []string{}, verified: "torrent"},
		{name: "the shipped snippet and a metalink alone", lines: snippet(t), remove: ".torrent", verified: "metalink",
			make: []string{"--metalink", "--mirror", "@SERVER2@" + path, "--mirror", "@SERVER3@" + path}},
		{name: "Digest", lines: duplicates + "add_header Digest SHA-256=" + digest + ";\n}", verified: "sha256"},
		{name: "Repr-Digest", lines: duplicates + "add_header Repr-Digest sha-256=:" + digest + ":;\n}", verified: "sha256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, home := openDir(t), openDir(t)
			file, dest, last := filepath.Join(root, name), filepath.Join(home, name), filepath.Join(home, "report.json")
			write(t, file, content)
			servers, _ := startNginx(t, root, site{rate3: "4m", lines: c.lines})
			if c.make != nil {
				args := []string{"create"}
				for _, a := range c.make {
					args = append(args, strings.NewReplacer("@SERVER2@", servers[1], "@SERVER3@", servers[2]).Replace(a))
				}
				must(t, command(t, home, binary, append(args, file)...))
			}
			if c.remove != "" {
				if err := os.Remove(file + c.remove); err != nil {
					t.Fatal(err)
				}
			}
			must(t, command(t, home, binary, "--report", last, servers[0]+path, dest))
			same(t, dest, content)
			r := readReport(t, last)
			gave := map[string]bool{}
			for _, s := range r.Sources {
				if s.Bytes > 0 {
					u, err := url.Parse(s.Name)
					if err != nil {
						t.Fatal(err)
					}
					gave["http://"+u.Host] = true
				}
			}
			for _, s := range servers {
				if !gave[s] {
					t.Errorf("%s gave nothing: %+v", s, r.Sources)
				}
			}
			if r.Verified != c.verified {
				t.Errorf("verified by %q instead of %q", r.Verified, c.verified)
			}
		})
	}
}
