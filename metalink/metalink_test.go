package metalink

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func unhex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

func fixture(t testing.TB, name string) []byte {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var (
	sha1Sum   = unhex("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed")
	sha256Sum = unhex("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")
	sha512Sum = unhex("309ecc489c12d6eb4cc40f50c902f2b4d0ed77ee511a7c7a9bcd3ca86d4cd86f" +
		"989dd35bc5ff499670da34255b45b0cfd830e81f605dcf7dc5542e93ae9cd76f")
	threeSums = unhex("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed" + "da39a3ee5e6b4b0d3255bfef95601890afd80709" +
		"356a192b7913b04c54574d18c28d46e6395428ab")
)

func TestParseMetalink3(t *testing.T) {
	got, err := Parse(fixture(t, "fedora.metalink"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Document{Files: []File{{
		Name: "repomd.xml", Size: 4331, SHA1: sha1Sum, SHA256: sha256Sum, SHA512: sha512Sum,
		URLs: []URL{
			{"https://mirror.example.com/fedora/repodata/repomd.xml", 1, "us"},
			{"http://ftp.example.org/fedora/repodata/repomd.xml", 3, "de"},
		},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseMetalink4(t *testing.T) {
	got, err := Parse(fixture(t, "opensuse.meta4"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Document{Files: []File{{
		Name: "some.iso", Size: 600000, SHA1: sha1Sum, SHA256: sha256Sum,
		Pieces: Pieces{Length: 262144, Kind: SHA1, Hashes: threeSums},
		URLs: []URL{
			{"https://mirror.example.cz/opensuse/distribution/images/some.iso", 1, "cz"},
			{"http://ftp.example.de/opensuse/distribution/images/some.iso", 2, "de"},
			{"https://downloadcontent.example.org/distribution/images/some.iso", 0, ""},
		},
		Torrents: []URL{{"https://download.example.org/distribution/images/some.iso.torrent", 2, ""}},
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// in4 is a Metalink 4 with one file that holds text.
func in4(text string) string {
	return `<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a">` + text + `</file></metalink>`
}

func in3(text string) string {
	return `<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file name="a">` + text + `</file></files></metalink>`
}

func parseOne(t *testing.T, text string) File {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d.Files[0]
}

func TestOnlyHTTP(t *testing.T) {
	f := parseOne(t, in4(`<url>file:///etc/passwd</url><url>ftp://h/a</url><url>javascript:x</url><url>//h/a</url><url>/a</url>
		<url>http://user:pw@h/a</url><url>http:///a</url><url>http://h/a&#127;</url><url>http://h:x/a</url>
		<url priority="7">
			HTTP://h/a#part
		</url><url priority="8">http://h/a</url><url priority="-1" location="Germany">https://h/%2B%20b</url>
		<metaurl mediatype="torrent">magnet:?xt=urn:btih:00</metaurl><metaurl mediatype="torrent">http://h/a.torrent</metaurl>`))
	want := []URL{{"http://h/a", 7, ""}, {"https://h/%2B%20b", 0, ""}}
	if !reflect.DeepEqual(f.URLs, want) {
		t.Errorf("URLs %+v", f.URLs)
	}
	if want := []URL{{"http://h/a.torrent", 0, ""}}; !reflect.DeepEqual(f.Torrents, want) {
		t.Errorf("torrents %+v", f.Torrents)
	}
}

func TestMetalink3Torrents(t *testing.T) {
	f := parseOne(t, in3(`<resources><url type="bittorrent" preference="50">http://h/a.torrent</url><url type="http">http://h/a</url></resources>`))
	if want := []URL{{"http://h/a.torrent", 51, ""}}; !reflect.DeepEqual(f.Torrents, want) {
		t.Errorf("torrents %+v", f.Torrents)
	}
	if want := []URL{{"http://h/a", 0, ""}}; !reflect.DeepEqual(f.URLs, want) {
		t.Errorf("URLs %+v", f.URLs)
	}
}

func TestTheBestURLsAreKept(t *testing.T) {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, `<url priority="%d">http://h/%d</url>`, 300-i, i)
	}
	f := parseOne(t, in4(b.String()))
	if len(f.URLs) != 256 || f.URLs[0] != (URL{"http://h/299", 1, ""}) {
		t.Errorf("%d URLs, the first is %+v", len(f.URLs), f.URLs[0])
	}
}

func TestPiecesThatMakeNoSense(t *testing.T) {
	sum := "<hash>" + strings.Repeat("00", 20) + "</hash>"
	for name, text := range map[string]string{
		"no length":      `<pieces type="sha-1">` + sum + `</pieces>`,
		"negative":       `<pieces length="-1" type="sha-1">` + sum + `</pieces>`,
		"zero":           `<pieces length="0" type="sha-1">` + sum + `</pieces>`,
		"huge length":    `<pieces length="99999999999999999999" type="sha-1">` + sum + `</pieces>`,
		"unknown kind":   `<pieces length="20" type="md5">` + sum + `</pieces>`,
		"too few":        `<pieces length="10" type="sha-1">` + sum + `</pieces>`,
		"too many":       `<pieces length="20" type="sha-1">` + sum + sum + `</pieces>`,
		"short hash":     `<pieces length="20" type="sha-1"><hash>00</hash></pieces>`,
		"not hex":        `<pieces length="20" type="sha-1"><hash>` + strings.Repeat("zz", 20) + `</hash></pieces>`,
		"none":           `<pieces length="20" type="sha-1"/>`,
		"other order":    `<pieces length="10" type="sha-1">` + strings.Replace(sum, "hash", `hash piece="1"`, 1) + sum + `</pieces>`,
		"another's hash": `<pieces length="20" type="sha-256">` + sum + `</pieces>`,
	} {
		f := parseOne(t, in4("<size>20</size><hash type='sha-256'>"+hex.EncodeToString(sha256Sum)+"</hash><url>http://h/a</url>"+text))
		if !reflect.DeepEqual(f.Pieces, Pieces{}) || f.SHA256 == nil || len(f.URLs) != 1 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	better := `<pieces length="20" type="sha-256"><hash>` + strings.Repeat("00", 32) + `</hash></pieces>`
	worse := `<pieces length="20" type="sha-1">` + sum + `</pieces>`
	for _, text := range []string{better + worse, worse + better} {
		if f := parseOne(t, in4("<size>20</size>"+text)); f.Pieces.Kind != SHA256 || len(f.Pieces.Hashes) != 32 {
			t.Errorf("pieces %+v", f.Pieces)
		}
	}
}

func TestRefusals(t *testing.T) {
	deep := strings.Repeat("<x>", 40)
	for _, c := range []struct{ text, want string }{
		{"", "no metalink element"},
		{"d4:infode", "no metalink element"},
		{"<html><body>Sign in</body></html>", "neither Metalink 3 nor 4"},
		{"<metalink version='4.0'/>", "neither Metalink 3 nor 4"},
		{"<metalink xmlns='urn:ietf:params:xml:ns:metalink'/>", "no file"},
		{in4("")[:40], "EOF"},
		{in4("") + in4(""), "more than one"},
		{in4("<size>x</size>"), `file "a": size: not a number`},
		{in4("<size>-1</size>"), "size: not a number"},
		{in4("<size>1</size><size>2</size>"), "size: told twice"},
		{in4("<hash type='sha-256'>00</hash>"), "hash: not 64 hexadecimal digits of sha-256"},
		{in4("<hash type='sha-1'>" + strings.Repeat("0", 40) + "</hash><hash type='SHA1'>" + strings.Repeat("1", 40) + "</hash>"), "told twice"},
		{"<metalink xmlns='urn:ietf:params:xml:ns:metalink'><file/></metalink>", "without a name"},
		{in4(deep), "too deep"},
		{in4("<size>&lol;</size>"), "line 1: invalid character entity &lol;"},
		{`<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>` + in4("<size>&b;</size>"), "document type"},
		{`<?xml version="1.0" encoding="utf-16"?>` + in4(""), "encoding"},
		{in4("<size>" + strings.Repeat("1", 9000) + "</size>"), "a value of more than"},
		{in4("<x " + strings.Repeat(`a="" `, 100000) + "/>"), "a tag or text of more than"},
		{in4(strings.Repeat("<x/>", 300000)), "more than 262144 elements"},
		{strings.Repeat(" ", MaxSize+1), "longer than"},
	} {
		_, err := Parse([]byte(c.text))
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
			t.Errorf("%.60q: error %v, want %q", c.text, err, c.want)
		}
	}
}

func TestWrite(t *testing.T) {
	d := &Document{Files: []File{{
		Name: `some "odd" <name>`, Size: 600000, SHA1: sha1Sum, SHA256: sha256Sum, SHA512: sha512Sum,
		Pieces:   Pieces{Length: 262144, Kind: SHA1, Hashes: threeSums},
		URLs:     []URL{{"https://a.example/x?a=1&b=2", 1, "de"}, {"http://b.example/", 0, ""}},
		Torrents: []URL{{"https://a.example/x.torrent", 1, ""}},
	}, {Name: "dir/empty", Size: 0}, {Name: "unknown", Size: -1}}}
	var b bytes.Buffer
	if err := Write(&b, d); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<metalink xmlns="urn:ietf:params:xml:ns:metalink">`,
		`<url location="de" priority="1">https://a.example/x?a=1&amp;b=2</url>`,
		`<metaurl mediatype="torrent" priority="1">https://a.example/x.torrent</metaurl>`,
		`<pieces length="262144" type="sha-1">`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, &b)
		}
	}
	got, err := Parse(b.Bytes())
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("error %v\ngot  %+v\nwant %+v", err, got, d)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, f := range map[string]File{
		"no name":      {},
		"a bell":       {Name: "\a"},
		"not UTF-8":    {Name: "\xff"},
		"short digest": {Name: "a", SHA256: []byte{1}},
		"pieces":       {Name: "a", Size: 100, Pieces: Pieces{Length: 10, Kind: SHA1, Hashes: make([]byte, 20)}},
		"ftp":          {Name: "a", URLs: []URL{{URL: "ftp://h/a"}}},
		"priority":     {Name: "a", URLs: []URL{{URL: "http://h/a", Priority: 1 << 20}}},
		"country":      {Name: "a", URLs: []URL{{URL: "http://h/a", Location: `"><`}}},
	} {
		var b bytes.Buffer
		if err := Write(&b, &Document{Files: []File{f}}); err == nil || b.Len() > 0 {
			t.Errorf("%s: error %v, %d bytes", name, err, b.Len())
		}
	}
	if err := Write(&bytes.Buffer{}, &Document{}); err == nil {
		t.Error("a document without files was written")
	}
}

func TestIsXML(t *testing.T) {
	for text, want := range map[string]bool{"": false, "d4:info": false, "\ufeff \n<metalink": true, "<": true} {
		if IsXML([]byte(text)) != want {
			t.Errorf("%q: not %v", text, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fixture(f, "fedora.metalink"))
	f.Add(fixture(f, "opensuse.meta4"))
	f.Add([]byte(in4("<size>1</size><pieces length='1' type='sha-1'><hash>" + strings.Repeat("0", 40) + "</hash></pieces>")))
	f.Add([]byte(in3("<resources><url type='bittorrent' preference='0'>http://h/</url></resources>")))
	f.Add([]byte("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrUnusable) || len(err.Error()) > 2000 {
				t.Fatal(err)
			}
			return
		}
		var b bytes.Buffer
		if err := Write(&b, d); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if again, err := Parse(b.Bytes()); err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("error %v\ngot  %+v\nwant %+v", err, again, d)
		}
	})
}
