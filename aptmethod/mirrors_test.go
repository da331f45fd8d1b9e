package aptmethod

import (
	"bytes"
	"compress/gzip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMirrorsOfAnItem(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := "http://a/debian/\tpriority:2\nhttp://b/debian\tpriority:1 type:deb\n# none\nhttps://c/debian type:index\nhttp://d/debian\tarch:i386\n" +
		"file:/srv/debian\nhttp://e/debian\tcodename:bookworm priority:9\n"
	mirrors := file("mirrors.txt", list)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(list))
	z.Close()
	gz := file("mirrors.gz", packed.String())
	file("lists/auxfiles/lists.example.org:81_my%5flist.txt", list)
	file("sources.d/x.sources", "Types: deb\nURIs: torrent+http://one/debian torrent+http://two/debian\nSuites: stable\nComponents: main\n\n"+
		"Types: deb\nURIs: torrent+https://safe/debian http://unsafe/debian\nSuites: stable\nComponents: main\n")
	var c Config
	c.load(parse(t, "601 Configuration\nConfig-Item: Dir="+dir+"\nConfig-Item: Dir::State=\nConfig-Item: Dir::State::lists=lists/\n"+
		"Config-Item: Dir::Etc=\nConfig-Item: Dir::Etc::sourceparts=sources.d\nConfig-Item: Dir::Etc::sourcelist=sources.list\n"+
		"Config-Item: Acquire::torrent::Mirrors::=http://x/debian\nConfig-Item: Acquire::torrent::Mirrors::=http://y/debian/\n\n"))
	c.named("torrent+http")
	var n neighbors
	n.load(&c)

	fromList := "http://b/debian/pool/f%2bo.deb http://a/debian/pool/f%2bo.deb http://e/debian/pool/f%2bo.deb"
	for _, q := range []struct{ repo, u, want string }{
		{"torrent+mirror+file:" + mirrors + "/", "http://a/debian/pool/f%2bo.deb", strings.Replace(fromList, "http://a/debian/pool/f%2bo.deb ", "", 1)},
		{"mirror+file://" + mirrors + "/", "http://b/debian/pool/f%2bo.deb", strings.Replace(fromList, "http://b/debian/pool/f%2bo.deb ", "", 1)},
		{"mirror+file:" + gz + "/", "http://b/debian/pool/f%2bo.deb", strings.Replace(fromList, "http://b/debian/pool/f%2bo.deb ", "", 1)},
		{"mirror+http://me:secret@lists.example.org:81/my_list.txt/", "http://e/debian/pool/f%2bo.deb", strings.Replace(fromList, " http://e/debian/pool/f%2bo.deb", "", 1)},
		{"mirror+file:" + mirrors + "/", "http://elsewhere/debian/pool/f.deb", ""},
		{"mirror+file:/no/such/list/", "http://x/debian/pool/f.deb", "http://y/debian/pool/f.deb"},
		{"torrent+http://x/debian/", "http://x/debian/pool/f.deb", "http://y/debian/pool/f.deb"},
		{"torrent+http://one/debian/", "http://one/debian/pool/f.deb", "http://two/debian/pool/f.deb"},
		{"torrent+https://safe/debian/", "https://safe/debian/pool/f.deb", ""}, // no step down to http
		{"", "http://two/debian/pool/f.deb", "http://one/debian/pool/f.deb"},
	} {
		u, err := url.Parse(q.u)
		if err != nil {
			t.Fatal(err)
		}
		it := &item{message: parse(t, "600 URI Acquire\nTarget-Type: deb\nTarget-Architecture: amd64\nTarget-Codename: bookworm\nTarget-Repo-URI: "+q.repo+"\n\n")}
		found, _ := n.of(it, u)
		var texts []string
		for _, m := range found {
			texts = append(texts, m.String())
		}
		if got := strings.Join(texts, " "); got != q.want {
			t.Errorf("%s of %s:\n got %s\nwant %s", q.u, q.repo, got, q.want)
		}
	}
}
