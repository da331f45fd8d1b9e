package mirrorlist

import (
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// checkList holds for every list that was parsed.
func checkList(t *testing.T, l *List, err error) {
	if err != nil {
		if l != nil {
			t.Fatalf("a list and an error: %v", err)
		}
		return
	}
	if len(l.Repositories) == 0 {
		t.Fatal("neither a repository nor an error")
	}
	for _, w := range l.Warnings {
		if strings.ContainsFunc(w, unicode.IsControl) {
			t.Fatalf("control character in the warning %q", w)
		}
	}
	for _, r := range l.Repositories {
		if len(r.Servers) == 0 {
			t.Fatalf("repository %q has no server", r.Name)
		}
		for _, s := range r.Servers {
			if _, err := parseRoot(s.URL); err != nil || strings.HasSuffix(s.URL, "/") || strings.ContainsFunc(s.URL, unicode.IsControl) {
				t.Fatalf("server %q: %v", s.URL, err)
			}
		}
	}
	s := l.Repositories[0].Servers[0]
	u, err := url.Parse(variables{"core", "x86_64"}.expand(s.URL) + "/f")
	if err != nil {
		t.Fatalf("below %q: %v", s.URL, err)
	}
	checkAlternates(t, l, u)
	if _, key := l.Alternates(u); key == "" {
		t.Fatalf("the list does not know %q", u)
	}
}

// checkAlternates holds for every list and URL.
func checkAlternates(t *testing.T, l *List, u *url.URL) {
	mirrors, key := l.Alternates(u)
	if key == "" {
		if len(mirrors) > 0 {
			t.Fatalf("mirrors of no repository: %v", mirrors)
		}
		return
	}
	// Below which repositories' servers is the URL, and is its key?
	owners := func(u *url.URL) (found []int, vars []variables) {
		at, ok := locate(u)
		for i, r := range l.Repositories {
			for _, s := range r.Servers {
				if root, err := parseRoot(s.URL); ok && err == nil {
					if v, ok := root.match(at); ok {
						found, vars = append(found, i), append(vars, v)
					}
				}
			}
		}
		return found, vars
	}
	mine, values := owners(u)
	for _, m := range mirrors {
		if m.String() == u.String() {
			t.Fatalf("%q is its own mirror", m)
		}
		if got, want := path.Base(m.EscapedPath()), path.Base(u.EscapedPath()); got != want {
			t.Fatalf("%q has a mirror %q", u, m)
		}
		theirs, others := owners(m)
		shared := false
		for i, a := range mine {
			for j, b := range theirs {
				shared = shared || a == b && values[i] == others[j]
			}
		}
		if !shared {
			t.Fatalf("%q and its mirror %q share no repository", u, m)
		}
	}
}

func FuzzAlternates(f *testing.F) {
	for _, seed := range [][2]string{
		{"http://a/x\nhttp://b/y\n\nhttp://a/x/z\nhttps://c", "http://a/x/z/f.pkg.tar.zst"},
		{"https://a/$repo/os/$arch\nhttps://b/$arch/p-$repo.s\nhttp://c/core", "https://a/core/os/x86_64/1:2+3~%7e.db.sig"},
		{"file:///srv\nhttp://[::1]:8080/a%20b/\nhttp://u:p@h/$repo/$repo", "http://[::1]:8080/a b//../f?x#y"},
		{"http://a//x/\nHTTP://A:80//x\nhttp://%61//x\nhttp://b", "torrent+http://A//x//%2e"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, text, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		l := &List{}
		for repo := range strings.SplitSeq(text, "\n\n") {
			l.Repositories = append(l.Repositories, servers(strings.Split(repo, "\n")...))
		}
		checkAlternates(t, l, u)
	})
}

// seed adds the samples of testdata, and texts.
func seed(f *testing.F, texts ...string) {
	for _, name := range []string{"etc/pacman.conf", "etc/pacman.d/mirrorlist", "etc/apt/sources.list", "etc/apt/sources.list.d/debian.sources",
		"etc/apt/mirrors/debian.list", "etc/apt/mirrors/security.list", "urls.txt"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, text := range texts {
		f.Add(text)
	}
}

// few are the files that a fuzzed list may name.
var few = Options{Arch: "x86_64", FS: fstest.MapFS{
	"etc/pacman.d/mirrorlist":      {Data: []byte("Server = https://m/$repo/os/$arch\n")},
	"etc/apt/mirrors/debian.list":  {Data: []byte("http://p2\tpriority:2\nhttp://p1\tpriority:1\n")},
	"etc/apt/mirrors/.hidden.list": {Data: []byte("Include = /etc/*/*/*\n")},
}}

func fuzzParser(f *testing.F, parse func(io.Reader, Options) (*List, error), texts ...string) {
	seed(f, texts...)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parse(strings.NewReader(text), few)
		checkList(t, l, err)
	})
}

func FuzzParseMirrorlist(f *testing.F) {
	fuzzParser(f, ParseMirrorlist, "Server=https://h/$repo\nInclude=/etc/pacman.d/*", "Include = [\nServer", "Architecture")
}

func FuzzParseSourcesList(f *testing.F) {
	fuzzParser(f, ParseSourcesList, "deb [a=#] mirror+file:/etc/apt/mirrors/debian.list x", "deb [", "deb torrent+http://h#x")
}

func FuzzParseDeb822(f *testing.F) {
	fuzzParser(f, ParseDeb822, "URIs:\n mirror+file:///etc/apt/mirrors/debian.list", ":\n x\n\n:", "URIs:http://h\nEnabled:0")
}

func FuzzParseURLs(f *testing.F) {
	fuzzParser(f, ParseURLs, "https://h//d", "http://h\tpriority:18446744073709551615\ttype: arch", "\xef\xbb\xbfhttp://h", "\x1f\x8b\x08")
}

func FuzzLoad(f *testing.F) {
	seed(f, "[a]\nInclude=/list\n", "[options]\nArchitecture=\u00a0\n[a]\nServer=http://$arch", "[a]\nServer=http://h//\n[]")
	f.Fuzz(func(t *testing.T, text string) {
		files := fstest.MapFS{"list": {Data: []byte(text)}}
		for name, file := range few.FS.(fstest.MapFS) {
			files[name] = file
		}
		l, err := Load("/list", Options{FS: files})
		checkList(t, l, err)
	})
}

func FuzzFromPacmanConf(f *testing.F) {
	f.Add("core\nextra\n", "https://h/$repo/$arch\nhttps://i\n", "http://lan:80/\n")
	f.Add("core", "", "\x1b[2J")
	f.Add("$arch\n\n-r\n", "file:///$repo//", "")
	f.Fuzz(func(t *testing.T, names, urls, caches string) {
		l, err := FromPacmanConf(func(args ...string) ([]byte, error) {
			switch args[len(args)-1] {
			case "Server":
				return []byte(urls), nil
			case "CacheServer":
				return []byte(caches), nil
			}
			return []byte(names), nil
		})
		checkList(t, l, err)
	})
}
