package mirrorlist

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// sample is how the machine of testdata is read.
var sample = Options{FS: os.DirFS("testdata"), Arch: "riscv64"}

// text writes a list in short: a line for each repository, then one for each warning.
func text(l *List) string {
	var b strings.Builder
	for _, r := range l.Repositories {
		fmt.Fprintf(&b, "%s:", r.Name)
		for _, s := range r.Servers {
			b.WriteString(" ")
			if s.Cache {
				b.WriteString("cache=")
			}
			b.WriteString(s.URL)
			if s.Priority != 0 {
				fmt.Fprintf(&b, ",%d", s.Priority)
			}
			for _, t := range append(s.Types, s.Archs...) {
				b.WriteString("," + t)
			}
		}
		b.WriteString("\n")
	}
	for _, w := range l.Warnings {
		b.WriteString("! " + w + "\n")
	}
	return b.String()
}

func TestLoadSamples(t *testing.T) {
	for name, want := range map[string]string{
		"/etc/pacman.conf": `
core: https://mirror.one.example/archlinux/core/os/x86_64_v3 http://ftp.two.example/pub/Linux/archlinux/core/os/x86_64_v3 https://three.example:8443/core/x86_64_v3
extra: cache=http://cache.lan.example:8080/extra https://mirror.one.example/archlinux/extra/os/x86_64_v3 http://ftp.two.example/pub/Linux/archlinux/extra/os/x86_64_v3 https://three.example:8443/extra/x86_64_v3 file:///srv/mirror/extra/os/x86_64_v3
home-made: https://user:secret@packages.example.org/~me/%7Ehome=made/x86_64_v3
more: https://more.example/more
! /etc/pacman.conf:28: the scheme "rsync" is not http, https or file
! /etc/pacman.conf:29: a query, fragment or trailing comment in the URL
`,
		"/etc/pacman.d/mirrorlist": `
: https://mirror.one.example/archlinux/$repo/os/riscv64 http://ftp.two.example/pub/Linux/archlinux/$repo/os/riscv64 https://three.example:8443/$repo/riscv64
`,
		"/etc/apt/sources.list": `
http://deb.example.org/debian: http://deb.example.org/debian
https://apt.vendor.example/linux/: https://apt.vendor.example/linux
http://[2001:db8::1]:3142/debian: http://[2001:db8::1]:3142/debian
torrent+http://torrent.example.org/debian: http://torrent.example.org/debian
torrent+mirror+file:/etc/apt/mirrors/debian.list: http://first.example.org/debian,1,deb http://second.example.org/debian,2,amd64,all https://index.example.org/debian,2,index http://late.example.org/debian
! /etc/apt/mirrors/debian.list:6: a file URL has no place in this list
! /etc/apt/sources.list:10: the scheme "tor+https" is not http, https or file
`,
		"etc/apt/sources.list.d/debian.sources": `
https://deb.example.org/debian: https://deb.example.org/debian https://mirror.uni.example/debian http://debian.lan.example/debian
https://security.example.org/debian-security: https://security.example.org/debian-security https://security.one.example/debian-security
`,
		"/etc/apt/mirrors/debian.list": `
: http://first.example.org/debian,1,deb http://second.example.org/debian,2,amd64,all https://index.example.org/debian,2,index http://late.example.org/debian
! /etc/apt/mirrors/debian.list:6: a file URL has no place in this list
`,
		"/etc/apt/mirrors/security.list": `
: https://security.one.example/debian-security
`,
		"/urls.txt": `
: https://a.example.org/pub/iso http://b.example.org/iso
! /urls.txt:5: the scheme "ftp" is not http, https or file
`,
	} {
		l, err := Load(name, sample)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := text(l); got != want[1:] {
			t.Errorf("%s:\n%swant:%s", name, got, want)
		}
	}
}

// load puts text into a file of the given name and loads that.
func load(name, text string, more fstest.MapFS) (*List, error) {
	files := fstest.MapFS{name: {Data: []byte(text)}}
	for n, f := range more {
		files[n] = f
	}
	return Load("/"+name, Options{FS: files, Arch: "x86_64"})
}

func TestDetect(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       format
	}{
		{"x", "#Server = a\n[options]\n", pacmanConf},
		{"x", "Server = a\n[core]\n", pacmanConf},
		{"x", "[core]\nServer = a\n", pacmanConf},
		{"pacman.conf", "  Server=a\n", pacmanMirrorlist},
		{"x", "CacheServer = a", pacmanMirrorlist},
		{"x", "Include = /etc/pacman.d/mirrorlist", pacmanMirrorlist},
		{"x", "\n# deb\n deb [arch=a] http://h/d ./", aptSourcesList},
		{"x", "deb-src\thttp://h/d ./", aptSourcesList},
		{"x", "Types: deb\nURIs: http://h/d\nX:\n [core]", aptDeb822},
		{"x", "uris: http://h/d", aptDeb822},
		{"x.sources", "", aptDeb822},
		{"x.sources.gz", "", aptDeb822},
		{"sources.list", "http://h/d\tpriority:1", urls},
		{"x", "https://h/d", urls},
		{"x", "http://deb.example.org/deb /", urls},
		{"x", "#URIs: http://h/d", urls},
	} {
		if got := detect(test.name, strings.Split(test.text, "\n")); got != test.want {
			t.Errorf("%s %q: format %d, want %d", test.name, test.text, got, test.want)
		}
	}
}

func TestPacmanConfRules(t *testing.T) {
	conf := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for _, test := range []struct {
		name, text string
		files      fstest.MapFS
		want       string // the list, or part of the error if it begins with "error: "
	}{
		{"the value begins at the first equals sign", "[a]\nServer=https://h/x=y=z", nil, "a: https://h/x=y=z\n"},
		{"architecture after its use", "[a]\nServer=https://h/$arch\n[options]\nArchitecture = i686 i486", nil, "a: https://h/i686\n"},
		{"auto", "[options]\nArchitecture = auto\n[a]\nServer=https://h/$arch", nil, "a: https://h/x86_64\n"},
		{"no architecture", "[a]\nServer=https://h/$arch", nil, "a: https://h/x86_64\n"},
		{"odd space in architecture", "[options]\nArchitecture = \u00a0\n[a]\nServer=https://h/", nil, "a: https://h\n"},
		{"variables as prefixes", "[a]\nServer=https://h/$repository/$arch64", nil, "a: https://h/asitory/x86_6464\n"},
		{"CRLF", "[a]\r\nServer = https://h/\r\n", nil, "a: https://h\n"},
		{"same name twice", "[a]\nServer=https://h/1\n[a]\nServer=https://h/2", nil, "a: https://h/1\na: https://h/2\n"},
		{"caches first", "[a]\nServer=https://h/1\nCacheServer=https://h/2\nServer=https://h/3\nCacheServer=https://h/4", nil,
			"a: cache=https://h/2 cache=https://h/4 https://h/1 https://h/3\n"},
		{"server in options", "[options]\nServer=https://h\n[a]\nServer=https://i", nil,
			"a: https://i\n! /x.conf:2: Server has no place in this section\n"},
		{"empty value", "[a]\nServer=\nServer = https://i", nil, "a: https://i\n! /x.conf:2: the scheme \"\" is not http, https or file\n"},
		{"the section of an included file stays open", "[a]\nInclude=/s\nServer=https://after/$repo", fstest.MapFS{"s": conf("[b]\nServer=https://in/$repo")},
			"b: https://in/b https://after/b\n"},
		{"glob in order, without dot files", "[a]\nInclude=/d/*", fstest.MapFS{"d/2": conf("Server=https://2"), "d/1": conf("Server=https://1"),
			"d/.0": conf("Server=https://0")}, "a: https://1 https://2\n"},
		{"glob over directories", "[a]\nInclude=/*/m", fstest.MapFS{"d/m": conf("Server=https://1"), ".e/m": conf("Server=https://0")}, "a: https://1\n"},
		{"glob with a negated class", "[a]\nInclude=/d/[!1]", fstest.MapFS{"d/2": conf("Server=https://2"), "d/1": conf("Server=https://1")}, "a: https://2\n"},
		{"ten files deep", "[a]\nInclude=/1", chain(10), "a: https://10\n"},
		{"eleven files deep", "[a]\nInclude=/1", chain(11), "error: deeper than 10"},
		{"a cycle", "[a]\nInclude=/x.conf", nil, "error: deeper than 10"},
		{"too many files", "[a]\n" + strings.Repeat("Include=/s\n", 1001), fstest.MapFS{"s": conf("#")}, "error: more than 1000 files"},
		{"too many bytes", "[a]\n" + strings.Repeat("Include=/s\n", 6), fstest.MapFS{"s": conf(strings.Repeat("#\n", 3<<19))}, "error: more than 16777216 bytes"},
		{"missing file", "[a]\nServer=https://h\nInclude=/nowhere", nil, "error: /x.conf:3: Include: open nowhere: file does not exist"},
		{"glob without match", "[a]\nServer=https://h\nInclude=/nowhere/*", nil, "error: file does not exist"},
		{"no section", "Include=/s\n[a]", fstest.MapFS{"s": conf("Server=https://h")}, "error: /s:1: a directive outside of all sections"},
		{"section without name", "[a]\nServer=https://h\n[]", nil, "error: /x.conf:3: a section without a name"},
		{"no value", "[a]\nServer", nil, "error: Server needs a value"},
		{"nothing", "[options]\n[a]\n#Server=https://h", nil, "error: /x.conf names no usable server"},
		{"nothing usable", "[a]\nServer=https://h/?x", nil, "error: /x.conf names no usable server (/x.conf:2: a query"},
		{"section in a mirrorlist", "Include=/s\nServer=https://h", fstest.MapFS{"s": conf("[b]")}, "error: /s:1: a section in a mirrorlist"},
	} {
		l, err := load("x.conf", test.text, test.files)
		if want, isError := strings.CutPrefix(test.want, "error: "); isError {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %s", test.name, err, want)
			}
		} else if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if got := text(l); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// chain is n files of which each includes the next.
func chain(n int) fstest.MapFS {
	files := fstest.MapFS{}
	for i := 1; i < n; i++ {
		files[fmt.Sprint(i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "Include=/%d", i+1)}
	}
	files[fmt.Sprint(n)] = &fstest.MapFile{Data: fmt.Appendf(nil, "Server=https://%d", n)}
	return files
}

func TestAptRules(t *testing.T) {
	for _, test := range []struct{ name, file, text, want string }{
		{"the same URI in several entries", "l", "deb http://h/d a main\ndeb-src http://h/d/ a main\ndeb http://h/d b main", "http://h/d: http://h/d\n"},
		{"equal suites are no mirrors", "l", "deb http://h/d a main\ndeb http://i/d a main", "http://h/d: http://h/d\nhttp://i/d: http://i/d\n"},
		{"broken entries", "l", "deb [arch=x http://h/d a\nrpm http://h/d a\ndeb\ndeb [a=b]\ndeb http://h/$(ARCH) ./\ndeb http://i/d ./",
			"http://i/d: http://i/d\n! /l:1: the options have no end\n! /l:2: the entry is neither deb nor deb-src\n" +
				"! /l:3: the entry has no URI\n! /l:4: the entry has no URI\n! /l:5: a variable in the URI\n"},
		{"missing mirror list", "l", "deb http://h/d ./\ndeb mirror+file:/nowhere ./\ndeb mirror+file:rel ./",
			"http://h/d: http://h/d\n! /l:2: open nowhere: file does not exist\n! /l:3: the path of the mirror list is not absolute\n"},
		{"a mirror list in a mirror list", "l", "deb http://h/d ./\ndeb mirror+file:/l ./", "http://h/d: http://h/d\n" +
			"! /l:1: the scheme \"\" is not http, https or file\n! /l:2: the scheme \"\" is not http, https or file\n"},
		{"one stanza, a list among its URIs", "x.sources", "URIs: http://h/d\n mirror+file:/m\n\thttp://i/d\n",
			"http://h/d: http://h/d http://p1,1 http://p2,2 http://i/d\n"},
		{"enabled", "x.sources", "Enabled: yes\nURIs: http://h\n \t \nENABLED: No\nURIs: http://i\n\n\nEnabled: 0\nURIs: http://j", "http://h: http://h\n"},
		{"stanza without URIs", "x.sources", "URIs: http://h\n\n# a\nTypes: deb\n", "http://h: http://h\n! /x.sources:4: the stanza has no URIs\n"},
		{"missing empty line", "x.sources", "URIs: http://h\nURIs: http://i", "error: /x.sources:2: the field is there twice"},
		{"continued nothing", "x.sources", "URIs: http://h\n\n http://i", "error: /x.sources:3: a continuation line of no field"},
		{"no field", "x.sources", "URIs: http://h\nSuites", "error: /x.sources:2: not a field"},
		{"no stanza", "x.sources", "# nothing\n", "error: /x.sources names no usable server"},
		{"priorities", "x", "http://n1\nhttp://p9\tpriority:9\nhttp://p0 priority:0\nhttp://bad\tpriority:-1\nhttp://q9\tpriority:9\nhttp://n2",
			": http://p0 http://p9,9 http://q9,9 http://n1 http://bad http://n2\n! /x:4: the priority is not a number; taken as none\n"},
	} {
		l, err := load(test.file, test.text, fstest.MapFS{"m": {Data: []byte("http://p2\tpriority:2\nhttp://p1\tpriority:1\n")}})
		if want, isError := strings.CutPrefix(test.want, "error: "); isError {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %s", test.name, err, want)
			}
		} else if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if got := text(l); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestBounds(t *testing.T) {
	long := "https://h/" + strings.Repeat("x", maxLine)
	for name, test := range map[string]struct{ text, want string }{
		"file":              {strings.Repeat("#\n", maxFile/2) + "#", "larger than 4194304 bytes"},
		"line":              {"https://h\n" + long, "/x:2: line longer than"},
		"comment":           {"https://h\n#" + long, "/x:2: line longer than"},
		"escape":            {"https://h\nhttps://i/\x1b[2J", "/x:2: control character"},
		"NUL":               {"https://h\x00", "/x:1: control character"},
		"C1":                {"https://h/\u009b", "/x:1: control character"},
		"carriage return":   {"https://h/\rhttps://i/", "/x:1: control character"},
		"HTML":              {"<html><body>\n<a href='https://h/'>", "/x names no usable server (/x:1: "},
		"nothing":           {"", "/x names no usable server"},
		"gzip of a bomb":    {bomb(t), "larger than 4194304 bytes"},
		"truncated gzip":    {bomb(t)[:100], "unexpected EOF"},
		"passwords unnamed": {"https://user:secret@h/?q", "names no usable server"},
	} {
		_, err := load("x", test.text, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %.200v, want %s", name, err, test.want)
		}
	}
	if _, err := load("x", "", nil); !errors.Is(err, ErrNoServers) {
		t.Errorf("an empty list: %v, want ErrNoServers", err)
	}
	if _, err := load("x", "https://h\n# \x1b[2J \xff", nil); err != nil {
		t.Errorf("a control character in a comment: %v", err)
	}
	l, err := load("x", "https://h\n"+strings.Repeat("gopher://h\n", 1000), nil)
	if err != nil || len(l.Warnings) != 65 || l.Warnings[64] != "more entries were left out" {
		t.Errorf("1000 bad lines: %v, %d warnings", err, len(l.Warnings))
	}
}

func TestParseFunctions(t *testing.T) {
	for name, test := range map[string]struct {
		parse      func(io.Reader, Options) (*List, error)
		text, want string
	}{
		"ParseMirrorlist":  {ParseMirrorlist, "Server = https://h/$repo/$arch\nInclude = /etc/pacman.d/extra/none\n", "core: https://h/core/$arch https://i\n"},
		"ParseSourcesList": {ParseSourcesList, "deb http://h/d ./\nrpm", "http://h/d: http://h/d\n! line 2: the entry is neither deb nor deb-src\n"},
		"ParseDeb822":      {ParseDeb822, "URIs: http://h/d http://i/d", "http://h/d: http://h/d http://i/d\n"},
		"ParseURLs":        {ParseURLs, "http://h/d/\nhttp://i/d", ": http://h/d http://i/d\n"},
	} {
		opts := Options{Repo: "core", FS: fstest.MapFS{"etc/pacman.d/extra/none": {Data: []byte("Server=https://i")}}}
		l, err := test.parse(strings.NewReader(test.text), opts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := text(l); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		broken := errors.New("broken")
		if _, err := test.parse(iotestErr{broken}, opts); !errors.Is(err, broken) {
			t.Errorf("%s of a broken reader: %v", name, err)
		}
	}
}

type iotestErr struct{ err error }

func (r iotestErr) Read([]byte) (int, error) { return 0, r.err }

func TestLoadFromTheMachine(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "m", "Server = https://h/$repo/$arch\n")
	write(t, dir, "pacman.conf", "[options]\nArchitecture = auto\n[core]\nInclude = "+dir+"/[m]\nInclude = relative/*\n")
	write(t, dir, "relative/r", "Server = https://i/$repo")
	t.Chdir(dir)
	l, err := Load("pacman.conf", Options{})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := exec.Command("uname", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := text(l), "core: https://h/core/"+strings.TrimSpace(string(machine))+" https://i/core\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := Load("nowhere", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	if _, err := Load(dir, Options{}); err == nil {
		t.Error("a directory was read as a list")
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestFromPacmanConf(t *testing.T) {
	answers := map[string]string{
		"--repo-list":         "core\nextra\ncore\nempty\n",
		"-r core Server":      "https://h/core/os/x86_64\nftp://h/core\nhttps://i/core/\n",
		"-r core CacheServer": "http://cache.lan:80/\n",
		"-r extra Server":     "https://h/extra/os/x86_64\n",
		"-r empty Server":     "",
		// Older versions leave variables as they are.
		"-r extra CacheServer": "http://cache.lan/$repo\n",
		"-r empty CacheServer": "",
	}
	var asked []string
	run := func(args ...string) ([]byte, error) {
		key := strings.Join(args, " ")
		asked = append(asked, key)
		if out, ok := answers[key]; ok {
			return []byte(out), nil
		}
		return nil, errors.New("exit status 1")
	}
	l, err := FromPacmanConf(run)
	if err != nil {
		t.Fatal(err)
	}
	const want = `core: cache=http://cache.lan:80 https://h/core/os/x86_64 https://i/core
extra: cache=http://cache.lan/extra https://h/extra/os/x86_64
! pacman-conf: the scheme "ftp" is not http, https or file
`
	if got := text(l); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}

	for key := range answers {
		if strings.HasSuffix(key, "CacheServer") {
			delete(answers, key)
		}
	}
	asked = nil
	if l, err = FromPacmanConf(run); err != nil || len(l.Repositories) != 2 || l.Repositories[0].Servers[0].Cache {
		t.Errorf("without CacheServer: %v, %v", l, err)
	}
	if got, want := asked, []string{"--repo-list", "-r core Server", "-r core CacheServer", "-r extra Server", "-r empty Server"}; !reflect.DeepEqual(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}

	delete(answers, "-r extra Server")
	if _, err = FromPacmanConf(run); err == nil || !strings.Contains(err.Error(), "pacman-conf -r extra Server: exit status 1") {
		t.Errorf("a failed question: %v", err)
	}
	answers["--repo-list"] = ""
	if _, err = FromPacmanConf(run); !errors.Is(err, ErrNoServers) {
		t.Errorf("no repositories: %v", err)
	}
	delete(answers, "--repo-list")
	if _, err = FromPacmanConf(run); err == nil || errors.Is(err, ErrNoServers) {
		t.Errorf("no pacman-conf: %v", err)
	}
}

// The parser has to find in a pacman.conf what pacman itself finds.
func TestPacmanConfAgrees(t *testing.T) {
	program, err := exec.LookPath("pacman-conf")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("pacman-conf is not installed")
		}
		t.Skip("pacman-conf is not installed")
	}
	dir := t.TempDir()
	write(t, dir, "etc/mirrorlist", "#Server = https://no/$repo\nServer = https://one/$repo/os/$arch\nServer=http://two:8080/$arch/$repo/\n")
	write(t, dir, "etc/d/1", "Server = https://d1/a=b")
	write(t, dir, "etc/d/.2", "Server = https://d2/")
	write(t, dir, "etc/s", "[inner]\nServer = https://inner/$repository")
	conf := filepath.Join(dir, "pacman.conf")
	write(t, dir, "pacman.conf", strings.ReplaceAll(`[options]
Architecture = auto
[core]
Include = DIR/etc/mirrorlist
[extra]
   Include   =   DIR/etc/mirrorlist
Include = DIR/etc/d/*
[outer]
Server = file:///srv/x
Include = DIR/etc/s
Server = https://after/$repo
`, "DIR", dir))
	want, err := FromPacmanConf(func(args ...string) ([]byte, error) {
		return exec.Command(program, append([]string{"--config", conf}, args...)...).Output()
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(conf, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if text(got) != text(want) || len(got.Repositories) != 4 {
		t.Errorf("parsed:\n%spacman-conf says:\n%s", text(got), text(want))
	}
}
