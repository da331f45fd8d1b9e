package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The distribution's Python has the distribution's libtorrent; another one may stand before it in PATH.
const python = "/usr/bin/python3"

func needLibtorrent(t *testing.T) {
	t.Helper()
	if exec.Command(python, "-c", "import libtorrent").Run() != nil {
		missing(t, "python3-libtorrent is not installed; this test asks it")
	}
}

// scriptFor is a program of testdata/publish.
func scriptFor(name string) string {
	return filepath.Join(filepath.Dir(data), "publish", name)
}

// publish publishes the tree and gives what was said.
func publish(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	return must(t, command(t, openDir(t), binary, append(append([]string{"publish"}, flags...), dir)...))
}

// torrentsIn are the paths of the torrents below a directory.
func torrentsIn(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".torrent") {
			paths = append(paths, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// seen is what another program makes of a torrent.
type seen struct {
	Torrent     string
	Name        string
	V1, V2      string
	Size        int64
	PieceLength int64 `json:"piece_length"`
	Pieces      int64
	Seeds       []string // as libtorrent shows them
	Keys        []string // of the outermost dictionary
	Complete    bool     // the file satisfies it
}

// byLibtorrent looks at torrents below root, and at their files below data.
func byLibtorrent(t *testing.T, root, data string, torrents ...string) map[string]seen {
	t.Helper()
	needLibtorrent(t)
	cmd := command(t, root, python, scriptFor("look.py"), root, data)
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8") // libtorrent writes names as the locale has them
	cmd.Stdin = strings.NewReader(strings.Join(torrents, "\n") + "\n")
	all := map[string]seen{}
	for line := range strings.Lines(must(t, cmd)) {
		var s seen
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("look.py: %v: %s", err, line)
		}
		all[s.Torrent] = s
	}
	if len(all) != len(torrents) {
		t.Fatalf("libtorrent looked at %d torrents of %d", len(all), len(torrents))
	}
	return all
}

// byAria looks at torrents below root.
func byAria(t *testing.T, root string, torrents ...string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	var s seen
	cmd := command(t, root, "aria2c", append([]string{"--no-conf", "--show-files"}, torrents...)...)
	cmd.Dir = root
	for line := range strings.Lines(must(t, cmd)) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, ">>> Printing the contents of file '"):
			s = seen{Torrent: strings.TrimSuffix(strings.SplitN(line, "'", 2)[1], "'...")}
		case key == "Info Hash":
			s.V1 = value
		case key == "Piece Length":
			s.PieceLength = binaryUnits(t, value)
		case key == "The Number of Pieces":
			s.Pieces = number(t, value)
		case key == "Total Length": // 2.8MiB (3,000,001), or 999B
			if _, exact, ok := strings.Cut(value, "("); ok {
				value = exact
			}
			s.Size = number(t, strings.NewReplacer(",", "", ")", "", "B", "").Replace(value))
		case key == "Name":
			s.Name = value
			all[s.Torrent] = s
		}
	}
	return all
}

// byTransmission looks at one torrent.
func byTransmission(t *testing.T, path string) (s seen) {
	t.Helper()
	for line := range strings.Lines(must(t, command(t, "/nonexistent", "transmission-show", path))) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Hash", "Hash v1":
			s.V1 = value
		case "Hash v2":
			s.V2 = value
		case "Piece Count":
			s.Pieces = number(t, value)
		case "Piece Size":
			s.PieceLength = binaryUnits(t, value)
		case "Name":
			s.Name = value
		}
	}
	return s
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// binaryUnits reads 32KiB, 1.0MiB and 64.00 KiB.
func binaryUnits(t *testing.T, s string) int64 {
	t.Helper()
	unit := int64(1)
	for name, n := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if v, ok := strings.CutSuffix(s, name); ok {
			s, unit = strings.TrimSpace(v), n
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(f * float64(unit))
}

// versionOf is the first number in what a program says of itself.
func versionOf(t *testing.T, program, flag string) (v float64) {
	t.Helper()
	for _, word := range strings.Fields(must(t, command(t, "/nonexistent", program, flag))) {
		if f := strings.SplitN(word, ".", 3); len(f) >= 2 {
			if v, err := strconv.ParseFloat(f[0]+"."+f[1], 64); err == nil {
				return v
			}
		}
	}
	t.Fatalf("%s %s tells no version", program, flag)
	return 0
}

// packageTree makes a tree of files of many sizes around those of pieces, under names that are not easy.
func packageTree(t *testing.T) string {
	t.Helper()
	dir := openDir(t)
	const k, m = 1 << 10, 1 << 20
	sizes := []int{256 * k, 256*k + 1, 300_000, 512*k - 1, 512 * k, 512*k + 1, m - 1, m, m + 1, 3_000_000, 4*m - 1, 4*m + 1,
		8 * m, 16*m - 1, 16*m + 1, 30_000_000}
	names := []string{"%d-1.0-1-x86_64.pkg.tar.zst", "1:%d+git~1-1.deb", "a b %d%%41.rpm", "ünï-%d.apk", "%d.iso"}
	for i, size := range sizes {
		path := filepath.Join(dir, "pool", string(rune('a'+i%3)), fmt.Sprintf(names[i%len(names)], size))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, noise(uint64(i), size))
	}
	return dir
}

// Every torrent of a tree means the same to the other clients, and libtorrent finds the files to satisfy it. The tree is one
// of our own making, or the one that TORRENT_XFER_TREE names (scripts/real-publish).
func TestPublishedTorrentsInOtherClients(t *testing.T) {
	need(t, "aria2c", "transmission-show")
	needLibtorrent(t)
	tree := os.Getenv("TORRENT_XFER_TREE")
	if tree == "" {
		tree = packageTree(t)
	}
	// Before 1.37 aria2 hashes a hybrid's info wrongly (aria2/aria2#1905) and reads the rest; before 4.0 Transmission reads no
	// hybrids (transmission/transmission#1964).
	oldAria, oldTransmission := versionOf(t, "aria2c", "--version") < 1.37, versionOf(t, "transmission-show", "--version") < 4
	const mirror = "https://mirror.example.org/some path/"
	for _, version := range []string{"1", "2", "hybrid"} {
		t.Run(version, func(t *testing.T) {
			out := openDir(t)
			publish(t, tree, "--metalink", "--meta-version", version, "--mirror", mirror, "--out", out)
			torrents := torrentsIn(t, out)
			if len(torrents) == 0 {
				t.Fatal("there are no torrents")
			}
			libtorrent, aria := byLibtorrent(t, out, tree, torrents...), map[string]seen{}
			if version != "2" {
				aria = byAria(t, out, torrents...)
			}
			for _, path := range torrents {
				file := strings.TrimSuffix(path, ".torrent")
				st, err := os.Stat(filepath.Join(tree, file))
				if err != nil {
					t.Fatal(err)
				}
				l := libtorrent[path]
				if !l.Complete || l.Name != filepath.Base(file) || l.Size != st.Size() {
					t.Errorf("libtorrent is not content with %s: %+v", path, l)
				}
				if (l.V1 != "") != (version != "2") || (l.V2 != "") != (version != "1") {
					t.Errorf("%s is not of version %s: %+v", path, version, l)
				}
				for _, k := range l.Keys {
					if !slices.Contains([]string{"info", "piece layers", "url-list"}, k) {
						t.Errorf("%s holds %q, which nobody asked for", path, k)
					}
				}
				seed := mirror + file
				// libtorrent takes a v2 file that does not fill its last piece for two, with padding, and its URL for a directory's.
				if len(l.Seeds) != 1 || strings.TrimSuffix(decoded(t, l.Seeds[0]), "/") != seed {
					t.Errorf("%s: web seeds %q instead of %q", path, l.Seeds, seed)
				}
				if limit := st.Size()/500 + 1024 + int64(3*len(seed)); int64(len(read(t, filepath.Join(out, path)))) > limit {
					t.Errorf("%s is longer than %d bytes", path, limit)
				}
				if l.PieceLength < 16<<10 || l.PieceLength > 4<<20 || l.Pieces != (l.Size+l.PieceLength-1)/l.PieceLength {
					t.Errorf("%s: %d pieces of %d bytes for %d", path, l.Pieces, l.PieceLength, l.Size)
				}
				if version == "2" {
					continue
				}
				a := aria[path]
				if version == "hybrid" && oldAria {
					a.V1 = l.V1
				}
				if a.V1 != l.V1 || a.Size != l.Size || a.PieceLength != l.PieceLength || a.Pieces != l.Pieces || a.Name != l.Name {
					t.Errorf("%s: aria2c sees %+v, libtorrent %+v", path, a, l)
				}
				if version == "hybrid" && oldTransmission {
					continue
				}
				tr := byTransmission(t, filepath.Join(out, path))
				if tr.V1 != l.V1 || tr.PieceLength != l.PieceLength || tr.Pieces != l.Pieces || tr.Name != l.Name {
					t.Errorf("%s: transmission-show sees %+v, libtorrent %+v", path, tr, l)
				}
			}
			t.Logf("%d torrents", len(torrents))
		})
	}
}

func decoded(t *testing.T, raw string) string {
	t.Helper()
	s, err := url.PathUnescape(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// aria2c and libtorrent download from the web seeds of a published torrent and from nobody else; torrent-xfer finds the
// torrent and uses all of them.
func TestWebSeedsOfPublishedTorrents(t *testing.T) {
	need(t, "aria2c")
	needLibtorrent(t)
	for _, version := range []string{"1", "hybrid", "2"} {
		t.Run(version, func(t *testing.T) {
			const file = "pool/1:foo+b~c d%-1.0-1-x86_64.pkg.tar.zst"
			size := 5_000_000
			if version == "2" {
				size = 5 << 20 // whole pieces; else libtorrent 2.0 asks for the URL with a slash behind it
			}
			tree, content := openDir(t), noise(60, size)
			if err := os.Mkdir(filepath.Join(tree, "pool"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(tree, file), content)
			servers, stop := startNginx(t, tree, site{rate3: "4m", lines: snippet(t)})
			publish(t, tree, "--metalink", "--meta-version", version, "--mirror", servers[0]+"/", "--mirror", servers[1], "--mirror", servers[2]+"/")
			torrent, name := filepath.Join(tree, file)+".torrent", filepath.Base(file)

			clients := []string{"libtorrent", "torrent-xfer"}
			home := openDir(t)
			must(t, command(t, home, python, scriptFor("get.py"), torrent, home))
			same(t, filepath.Join(home, name), content)
			if version != "2" {
				clients = append(clients, "aria2")
				home := openDir(t)
				ariaOnly(t, home, torrent)
				same(t, filepath.Join(home, name), content)
			}
			// aria2 would rather use the torrent that a metalink names; without one it uses the mirrors, and the pieces if there are any.
			home = openDir(t)
			meta4 := regexp.MustCompile(`<metaurl.*</metaurl>`).ReplaceAll(read(t, filepath.Join(tree, file)+".meta4"), nil)
			write(t, filepath.Join(home, "meta4"), meta4)
			ariaOnly(t, home, "--metalink-file="+filepath.Join(home, "meta4"))
			same(t, filepath.Join(home, name), content)
			home = openDir(t)
			escaped := (&url.URL{Path: "/" + file}).EscapedPath()
			must(t, command(t, home, binary, servers[0]+escaped, filepath.Join(home, name)))
			same(t, filepath.Join(home, name), content)

			given := map[string]map[string]int64{}
			for _, a := range stop() {
				client, _, _ := strings.Cut(a.agent, "/")
				if given[client] == nil {
					given[client] = map[string]int64{}
				}
				if a.uri == "/"+file {
					given[client][a.port] += a.bytes
				}
			}
			for _, c := range clients {
				if len(given[c]) == 0 {
					t.Errorf("%s asked nginx for nothing: %v", c, given)
				}
			}
			if len(given["torrent-xfer"]) != 3 {
				t.Errorf("torrent-xfer did not use every mirror: %v", given["torrent-xfer"])
			}
		})
	}
}

// ariaOnly lets aria2c download from a source, without peers.
func ariaOnly(t *testing.T, dir, source string) {
	t.Helper()
	must(t, command(t, dir, "aria2c", "--no-conf", "--quiet", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false",
		"--enable-peer-exchange=false", "--seed-time=0", "--file-allocation=none", "--check-integrity", "-d", dir, source))
}

// The life of a pacman repository: published, served, installed from; a package is replaced by a newer version, then rebuilt
// under the same name.
func TestPublishedRepository(t *testing.T) {
	repo := newRepo(t)
	servers, _ := startNginx(t, repo, site{rate3: "4m", lines: snippet(t)})
	in := newInstallation(t, servers...)
	last := filepath.Join(in.dir, "report.json")
	writeConf(t, filepath.Join(in.dir, "pacman.conf"), fmt.Sprintf("%s %s %s %%u %%o --report %s", filepath.Join(data, "calls"),
		filepath.Join(in.dir, "calls"), binary, last), servers...)
	release := func() {
		t.Helper()
		publish(t, repo, "--mirror", servers[0], "--mirror", servers[1], "--mirror", servers[2])
	}
	wantTorrents := func(packages ...pkg) map[string]seen {
		t.Helper()
		var want []string
		for _, p := range packages {
			want = append(want, p.file()+".torrent")
		}
		got := torrentsIn(t, repo)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("there are the torrents %q instead of %q", got, want)
		}
		return byLibtorrent(t, repo, repo, got...)
	}
	// installed fails the test unless the last transfer was of p, by its torrent, from every server.
	installed := func(p pkg, torrents map[string]seen) {
		t.Helper()
		in.wantInstalled(p)
		r, s := readReport(t, last), torrents[p.file()+".torrent"]
		if !s.Complete {
			t.Errorf("the torrent of %s does not fit it", p.file())
		}
		if r.InfoHash == "" || r.InfoHash != s.V1 && r.InfoHash != s.V2 || r.Size != s.Size {
			t.Errorf("%s was fetched with the torrent %q (verified %q) instead of %+v", p.file(), r.InfoHash, r.Verified, s)
		}
		gave := 0
		for _, source := range r.Sources {
			if source.Bytes > 0 {
				gave++
			}
		}
		if gave != len(servers) {
			t.Errorf("%d servers of %d gave %s: %+v", gave, len(servers), p.file(), r.Sources)
		}
	}

	release()
	torrents := wantTorrents(medium, big) // the third is too small
	in.run("-Sy", "big")
	installed(big, torrents)
	first := torrents[big.file()+".torrent"]

	newer := pkg{"big", "1.1-1", noise(61, 15_000_000)}
	if err := addPackage(repo, newer); err != nil {
		t.Fatal(err)
	}
	drop(t, repo, big.file(), big.file()+".sig")
	before := stat(t, filepath.Join(repo, medium.file()+".torrent"))
	release()
	if after := stat(t, filepath.Join(repo, medium.file()+".torrent")); !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("the torrent of a package that stayed was written again")
	}
	torrents = wantTorrents(medium, newer)
	in.run("-Syu")
	installed(newer, torrents)

	rebuilt := pkg{"big", "1.1-1", noise(62, 15_000_000)}
	drop(t, repo, newer.file(), newer.file()+".sig")
	if err := addPackage(repo, rebuilt); err != nil {
		t.Fatal(err)
	}
	release()
	torrents = wantTorrents(medium, rebuilt)
	drop(t, in.cache, newer.file())
	in.run("-Syy", "big")
	installed(rebuilt, torrents)
	if s := torrents[rebuilt.file()+".torrent"]; s.V2 == first.V2 {
		t.Error("two packages have one torrent")
	}

	said := publish(t, repo, "--check")
	if bytes.Contains([]byte(said), []byte("wrong")) {
		t.Errorf("--check is not content: %s", said)
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func drop(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever the layout, each name that users fetch has its torrent, whose web seed is the URL that they use.
func TestPublishedLayouts(t *testing.T) {
	const size = 700_000
	for _, c := range []struct {
		name     string
		files    []string
		links    map[string]string
		torrents []string
	}{
		{
			name: "Arch",
			files: []string{"pool/packages/foo-1:1.0+r1-1-x86_64.pkg.tar.zst", "pool/packages/foo-1:1.0+r1-1-x86_64.pkg.tar.zst.sig",
				"core/os/x86_64/core.db.tar.gz", "lastsync", "iso/2026.01.01/archlinux-x86_64.iso"},
			links: map[string]string{
				"core/os/x86_64/foo-1:1.0+r1-1-x86_64.pkg.tar.zst":         "../../../pool/packages/foo-1:1.0+r1-1-x86_64.pkg.tar.zst",
				"core/os/x86_64/foo-1:1.0+r1-1-x86_64.pkg.tar.zst.sig":     "../../../pool/packages/foo-1:1.0+r1-1-x86_64.pkg.tar.zst.sig",
				"core/os/x86_64/core.db":                                   "core.db.tar.gz",
				"core-testing/os/x86_64/foo-1:1.0+r1-1-x86_64.pkg.tar.zst": "../../../pool/packages/foo-1:1.0+r1-1-x86_64.pkg.tar.zst",
				"iso/latest": "2026.01.01",
			},
			torrents: []string{"core/os/x86_64/foo-1:1.0+r1-1-x86_64.pkg.tar.zst", "core-testing/os/x86_64/foo-1:1.0+r1-1-x86_64.pkg.tar.zst",
				"pool/packages/foo-1:1.0+r1-1-x86_64.pkg.tar.zst", "iso/2026.01.01/archlinux-x86_64.iso"},
		},
		{
			name: "Debian",
			files: []string{"pool/main/a/apt/apt_2.6.1+b~1_amd64.deb", "pool/main/a/apt/apt_2.6.1.tar.xz", "pool/main/a/apt/apt_2.6.1.dsc",
				"dists/bookworm/InRelease", "dists/bookworm/main/binary-amd64/Packages.xz", "dists/bookworm/Contents-amd64.gz",
				"dists/bookworm/main/dep11/icons-64x64.tar.gz", "pool/main/i/index-tool_1.0_amd64.deb", "project/trace/mirror.example.org"},
			torrents: []string{"pool/main/a/apt/apt_2.6.1+b~1_amd64.deb", "pool/main/a/apt/apt_2.6.1.tar.xz",
				"pool/main/i/index-tool_1.0_amd64.deb"},
		},
		{
			name: "flat, while rsync is at work",
			files: []string{"foo-1.0-1-any.pkg.tar.xz", "foo-1.0-1-any.pkg.tar.xz.sig", "foo.db.tar.gz", "foo.files.tar.gz",
				".bar-1.0-1-any.pkg.tar.xz.Xa12bC", ".~tmp~/bar-1.0-1-any.pkg.tar.xz", "foo-1.0.iso"},
			links:    map[string]string{"foo.db": "foo.db.tar.gz", "foo.files": "foo.files.tar.gz"},
			torrents: []string{"foo-1.0-1-any.pkg.tar.xz", "foo-1.0.iso"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := openDir(t)
			make := func(name string) string {
				path := filepath.Join(tree, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				return path
			}
			for i, f := range c.files {
				write(t, make(f), noise(uint64(70+i), size))
			}
			for name, target := range c.links {
				if err := os.Symlink(target, make(name)); err != nil {
					t.Fatal(err)
				}
			}
			servers, _ := startNginx(t, tree, site{rate3: "4m", lines: snippet(t)})
			publish(t, tree, "--mirror", servers[0]+"/", "--mirror", servers[1]+"/")

			var want []string
			for _, f := range c.torrents {
				want = append(want, f+".torrent")
			}
			got := torrentsIn(t, tree)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("torrents\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			looked := byLibtorrent(t, tree, tree, got...)
			for _, f := range c.torrents {
				s, ok := looked[f+".torrent"]
				if !ok || !s.Complete {
					t.Errorf("%s: %+v", f, s)
					continue
				}
				var seeds []string
				for _, u := range s.Seeds {
					seeds = append(seeds, decoded(t, u))
				}
				if !slices.Equal(seeds, []string{servers[0] + "/" + f, servers[1] + "/" + f}) {
					t.Errorf("%s: web seeds %q", f, s.Seeds)
				}
				home := openDir(t)
				dest, last := filepath.Join(home, "file"), filepath.Join(home, "report.json")
				must(t, command(t, home, binary, "--report", last, s.Seeds[0], dest))
				same(t, dest, read(t, filepath.Join(tree, f)))
				if r := readReport(t, last); r.InfoHash != s.V1 && r.InfoHash != s.V2 {
					t.Errorf("%s was fetched with the torrent %q", f, r.InfoHash)
				}
			}
		})
	}
}

// The README's three commands for mirror admins do what it says, the first of which builds the program.
func TestReadmeForMirrorAdmins(t *testing.T) {
	const file = "core/os/x86_64/foo-1.0-1-x86_64.pkg.tar.zst"
	_, section, _ := strings.Cut(string(read(t, filepath.Join("..", "..", "README.md"))), "\n## For mirror admins\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for line := range strings.Lines(section) {
		if line, ok := strings.CutPrefix(line, "    "); ok {
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	if len(commands) != 3 || commands[0] != "CGO_ENABLED=0 go build -o /usr/bin/torrent-xfer ./cmd/torrent-xfer" {
		t.Fatalf("the commands are %q", commands)
	}
	tree := openDir(t)
	if err := os.MkdirAll(filepath.Join(tree, filepath.Dir(file)), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, file), noise(90, 700_000))
	servers, _ := startNginx(t, tree, site{})
	script := strings.NewReplacer("\ntorrent-xfer ", "\n$BIN ", "/srv/mirror", tree, "https://mirror1.example.org", servers[0], "https://mirror2.example.org", servers[1]).
		Replace("\n" + strings.Join(commands[1:], "\n"))
	cmd := command(t, tree, "sh", "-ec", script)
	cmd.Env = append(cmd.Env, "BIN="+binary)
	if out := must(t, cmd); !strings.Contains(out, servers[1]+"/"+file) {
		t.Errorf("the torrent that is served does not tell of the second mirror:\n%s", out)
	}
}
