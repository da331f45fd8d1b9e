package mirrorlist

import (
	"bytes"
	"compress/gzip"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// bomb is many spaces, packed.
func bomb(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(bytes.Repeat([]byte("#\n"), maxFile)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// servers makes a repository of URLs; "cache=" before one marks a CacheServer.
func servers(urls ...string) Repository {
	var r Repository
	for _, u := range urls {
		raw, cache := strings.CutPrefix(u, "cache=")
		r.Servers = append(r.Servers, Server{URL: raw, Cache: cache})
	}
	return r
}

func TestAlternates(t *testing.T) {
	pacman := []Repository{
		servers("https://a/arch/core/os/x86_64", "https://b:8443/core/x86_64", "http://c/pub/core/os/x86_64"),
		servers("cache=http://lan/extra", "https://a/arch/extra/os/x86_64", "https://user:pw@b:8443/extra/x86_64", "file:///srv/extra"),
		servers("https://a/arch/core"),
	}
	templates := []Repository{servers("https://a/arch/$repo/os/$arch", "http://b/$arch/x-$repo.d", "https://c/$repo/os/x86_64", "https://d/core/x86_64",
		"https://e/$repo/$repo/$arch")}
	apt := []Repository{
		servers("http://deb/debian", "http://mirror/debian", "http://[2001:db8::1]/debian"),
		servers("http://deb/debian-security", "http://mirror/security"),
		{Servers: []Server{{URL: "http://all/d"}, {URL: "http://index/d", Types: []string{"index"}}, {URL: "http://deb/d", Types: []string{"deb"}},
			{URL: "http://amd64/d", Archs: []string{"amd64", "all"}}}},
	}
	for _, test := range []struct {
		name  string
		repos []Repository
		url   string
		key   string
		want  []string
	}{
		{"first server", pacman, "https://a/arch/core/os/x86_64/glibc-2.42-1-x86_64.pkg.tar.zst", "https://a/arch/core/os/x86_64",
			[]string{"https://b:8443/core/x86_64/glibc-2.42-1-x86_64.pkg.tar.zst", "http://c/pub/core/os/x86_64/glibc-2.42-1-x86_64.pkg.tar.zst"}},
		{"best first, from the middle", pacman, "https://b:8443/core/x86_64/f", "https://b:8443/core/x86_64",
			[]string{"https://a/arch/core/os/x86_64/f", "http://c/pub/core/os/x86_64/f"}},
		{"epoch and plus stay literal", pacman, "http://c/pub/core/os/x86_64/gtk+-1:2.0+1-any.pkg.tar.zst", "http://c/pub/core/os/x86_64",
			[]string{"https://a/arch/core/os/x86_64/gtk+-1:2.0+1-any.pkg.tar.zst", "https://b:8443/core/x86_64/gtk+-1:2.0+1-any.pkg.tar.zst"}},
		{"escapes stay as they are", pacman, "http://c/pub/core/os/x86_64/a%2fb/1%3a2%2B~%7E%20%C3%A9", "http://c/pub/core/os/x86_64",
			[]string{"https://a/arch/core/os/x86_64/a%2fb/1%3a2%2B~%7E%20%C3%A9", "https://b:8443/core/x86_64/a%2fb/1%3a2%2B~%7E%20%C3%A9"}},
		{"scheme, host and default port", pacman, "HTTP://C:80/pub/core/os/x86_64/f", "http://c/pub/core/os/x86_64",
			[]string{"https://a/arch/core/os/x86_64/f", "https://b:8443/core/x86_64/f"}},
		{"escaped root", pacman, "http://c/pub/%63ore/os/x86%5f64/f", "http://c/pub/core/os/x86_64",
			[]string{"https://a/arch/core/os/x86_64/f", "https://b:8443/core/x86_64/f"}},
		{"doubled slash after the root", pacman, "http://c/pub/core/os/x86_64//f", "http://c/pub/core/os/x86_64",
			[]string{"https://a/arch/core/os/x86_64/f", "https://b:8443/core/x86_64/f"}},
		{"whole segments", pacman, "https://a/arch/core/os/x86_64_v3/f", "https://a/arch/core", nil},
		{"another scheme", pacman, "http://a/arch/core/os/x86_64/f", "", nil},
		{"another port", pacman, "https://b/core/x86_64/f", "", nil},
		{"path in another case", pacman, "https://b:8443/CORE/x86_64/f", "", nil},
		{"package from the cache first", pacman, "https://a/arch/extra/os/x86_64/p.pkg.tar.zst.sig", "https://a/arch/extra/os/x86_64",
			[]string{"http://lan/extra/p.pkg.tar.zst.sig", "https://user:pw@b:8443/extra/x86_64/p.pkg.tar.zst.sig", "file:///srv/extra/p.pkg.tar.zst.sig"}},
		{"database not from the cache", pacman, "https://a/arch/extra/os/x86_64/extra.db", "https://a/arch/extra/os/x86_64",
			[]string{"https://user:pw@b:8443/extra/x86_64/extra.db", "file:///srv/extra/extra.db"}},
		{"signature of a database", pacman, "file:///srv/extra/extra.files.sig", "file:///srv/extra",
			[]string{"https://a/arch/extra/os/x86_64/extra.files.sig", "https://user:pw@b:8443/extra/x86_64/extra.files.sig"}},
		{"packed database", pacman, "file://localhost/srv/extra/extra.db.tar.gz", "file:///srv/extra",
			[]string{"https://a/arch/extra/os/x86_64/extra.db.tar.gz", "https://user:pw@b:8443/extra/x86_64/extra.db.tar.gz"}},
		{"asked of the cache", pacman, "http://lan/extra/p", "http://lan/extra",
			[]string{"https://a/arch/extra/os/x86_64/p", "https://user:pw@b:8443/extra/x86_64/p", "file:///srv/extra/p"}},
		{"credentials do not count", pacman, "https://b:8443/extra/x86_64/p", "https://b:8443/extra/x86_64",
			[]string{"http://lan/extra/p", "https://a/arch/extra/os/x86_64/p", "file:///srv/extra/p"}},
		{"credentials do not travel", pacman, "https://me:mine@a/arch/core/os/x86_64/f#x", "https://a/arch/core/os/x86_64",
			[]string{"https://b:8443/core/x86_64/f", "http://c/pub/core/os/x86_64/f"}},
		{"query", pacman, "https://a/arch/core/os/x86_64/f?token=x", "https://a/arch/core/os/x86_64", nil},
		{"empty query", pacman, "https://a/arch/core/os/x86_64/f?", "https://a/arch/core/os/x86_64", nil},
		{"the root itself", pacman, "http://c/pub/core/os/x86_64", "", nil},
		{"directory", pacman, "http://c/pub/core/os/x86_64/d/", "", nil},
		{"out of the root", pacman, "http://c/pub/core/os/x86_64/../../../extra/f", "", nil},
		{"out of the root, escaped", pacman, "http://c/pub/core/os/x86_64/%2e%2E/f", "", nil},
		{"out of the root within a segment", pacman, "http://c/pub/core/os/x86_64/a%2f..%2ff", "", nil},
		{"out of the root with backslashes", pacman, "http://c/pub/core/os/x86_64/..%5cf", "", nil},
		{"opaque", pacman, "http:c/pub/core/os/x86_64/f", "", nil},
		{"another host's file", pacman, "file://c/srv/extra/f", "", nil},

		// c and d hold one part of the tree only, whatever the variables are.
		{"template", templates, "https://a/arch/extra/os/aarch64/f", "https://a/arch/extra/os/aarch64",
			[]string{"http://b/aarch64/x-extra.d/f", "https://e/extra/extra/aarch64/f"}},
		{"variable within a segment", templates, "http://b/x86_64/x-my.repo.d/f", "http://b/x86_64/x-my.repo.d",
			[]string{"https://a/arch/my.repo/os/x86_64/f", "https://e/my.repo/my.repo/x86_64/f"}},
		{"fewer variables", templates, "https://c/extra/os/x86_64/f", "https://c/extra/os/x86_64", nil},
		{"no variables", templates, "https://d/core/x86_64/f", "https://d/core/x86_64", nil},
		{"one variable, two values", templates, "https://e/core/extra/x86_64/f", "", nil},
		{"no value", templates, "http://b/x86_64/x-.d/f", "", nil},
		{"odd value", templates, "https://a/arch/$repo/os/aarch64/f", "", nil},
		{"value with a slash", templates, "https://a/arch/a%2fb/os/aarch64/f", "", nil},
		{"dots as value", templates, "http://b/x86_64/x-...d/f", "", nil},

		{"apt", apt, "http://deb/debian/pool/main/f/foo/foo_1.0%2bb1%7ex_amd64.deb", "http://deb/debian",
			[]string{"http://mirror/debian/pool/main/f/foo/foo_1.0%2bb1%7ex_amd64.deb", "http://[2001:db8::1]/debian/pool/main/f/foo/foo_1.0%2bb1%7ex_amd64.deb"}},
		{"sibling directory", apt, "http://deb/debian-security/pool/f.deb", "http://deb/debian-security", []string{"http://mirror/security/pool/f.deb"}},
		{"IPv6 host, torrent+", apt, "torrent+http://[2001:DB8::1]:80/debian/f.deb", "http://[2001:db8::1]/debian",
			[]string{"http://deb/debian/f.deb", "http://mirror/debian/f.deb"}},
		{"type deb", apt, "http://all/d/pool/f_1_arm64.deb", "http://all/d", []string{"http://deb/d/pool/f_1_arm64.deb"}},
		{"type deb, the right architecture", apt, "http://all/d/pool/f_1_all.deb", "http://all/d", []string{"http://deb/d/pool/f_1_all.deb", "http://amd64/d/pool/f_1_all.deb"}},
		{"type index", apt, "http://deb/d/dists/stable/InRelease", "http://deb/d",
			[]string{"http://all/d/dists/stable/InRelease", "http://index/d/dists/stable/InRelease", "http://amd64/d/dists/stable/InRelease"}},

		{"longest root", []Repository{servers("http://h", "http://x"), servers("http://h/a/b", "http://y"), servers("http://h/a", "http://z")},
			"http://h/a/b/c", "http://h/a/b", []string{"http://y/c"}},
		{"space in a root", []Repository{servers("http://h/d", "http://x/a b")}, "http://h/d/f!(1)", "http://h/d", []string{"http://x/a%20b/f!(1)"}},
		{"doubled slash in the root", []Repository{servers("http://h//d", "http://x//")}, "http://h//d/f", "http://h//d", []string{"http://x/f"}},
		{"root without path", []Repository{servers("http://h", "http://x")}, "http://h/a", "http://h", []string{"http://x/a"}},
		{"literal before template", []Repository{servers("http://h/$repo", "http://x/$repo"), servers("http://h/core", "http://y")},
			"http://h/core/f", "http://h/core", []string{"http://y/f"}},
		{"first of equals", []Repository{servers("http://h/d", "http://x"), servers("http://h/d", "http://y")}, "http://h/d/f", "http://h/d", []string{"http://x/f"}},
		{"said twice", []Repository{servers("http://h/d", "http://x/", "HTTP://H:80/d/", "http://X", "http://%78")}, "http://h/d/f", "http://h/d", []string{"http://x/f"}},
		{"variable in a password", []Repository{servers("http://h/$repo", "http://u:$arch@x/$repo")}, "http://h/a/f", "http://h/a", []string{"http://u:$arch@x/a/f"}},
	} {
		list := &List{Repositories: test.repos}
		mirrors, key := list.Alternates(parse(t, test.url))
		var got []string
		for _, m := range mirrors {
			got = append(got, m.String())
		}
		if !reflect.DeepEqual(got, test.want) || key != test.key {
			t.Errorf("%s: %s:\n got %q %q\nwant %q %q", test.name, test.url, key, got, test.key, test.want)
		}
	}
	if m, key := (*List)(nil).Alternates(parse(t, "http://h/f")); m != nil || key != "" {
		t.Errorf("a nil list knows %v %q", m, key)
	}
	if m, key := (&List{}).Alternates(nil); m != nil || key != "" {
		t.Errorf("a nil URL has %v %q", m, key)
	}
}

func TestAlternatesLeavesTheURLAlone(t *testing.T) {
	u := parse(t, "torrent+http://u:p@h/d/a%2fb?#x")
	before := *u
	(&List{Repositories: []Repository{servers("http://h/d", "http://x")}}).Alternates(u)
	if !reflect.DeepEqual(*u, before) {
		t.Errorf("%v became %v", before, *u)
	}
}

func TestMerge(t *testing.T) {
	a := &List{Repositories: []Repository{servers("http://a", "http://x")}, Warnings: []string{"1"}}
	b := &List{Repositories: []Repository{servers("http://a", "http://y"), servers("http://b", "http://z")}, Warnings: []string{"2"}}
	l := Merge(nil, a, b)
	if !reflect.DeepEqual(l.Warnings, []string{"1", "2"}) || len(l.Repositories) != 3 {
		t.Errorf("merged: %v", l)
	}
	if m, _ := l.Alternates(parse(t, "http://a/f")); len(m) != 1 || m[0].Host != "x" {
		t.Errorf("alternates %v, want those of the first list", m)
	}
	if m, _ := l.Alternates(parse(t, "http://b/f")); len(m) != 1 || m[0].Host != "z" {
		t.Errorf("alternates %v, want those of the second list", m)
	}
	if len(a.Repositories) != 1 {
		t.Error("Merge changed its argument")
	}
}

func TestBadRoots(t *testing.T) {
	for _, raw := range []string{"", "/srv", "srv", "https:", "https://", "https:///x", "https:x", "ftp://h/x", "https://h/?x", "https://h/x?", "https://h/#",
		"https://h/a/../b", "https://h/%2e%2e", "https://$repo.h/x", "https://h/$repo-$arch", "https://h/$repo$repo", "https://h:port/", "http://h/%zz",
		"file://h/x", "http://a b/", "tor+http://h/x", "https://h/x # mine", "https://h/..%2f$repo"} {
		if r, err := parseRoot(raw); err == nil {
			t.Errorf("%q is a root: %v", raw, r)
		}
	}
}
