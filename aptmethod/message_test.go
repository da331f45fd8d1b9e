package aptmethod

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func parse(t *testing.T, text string) *message {
	t.Helper()
	m, err := readMessage(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return m
}

func TestReadMessage(t *testing.T) {
	m := parse(t, "\n600 URI Acquire\nURI: http://a/b%20c\nfilename:/x\nAlternate-URIs: one\n two\n\n601 next\n\n")
	if m.code != 600 || m.text != "URI Acquire" {
		t.Errorf("head: %d %q", m.code, m.text)
	}
	for key, want := range map[string]string{"uri": "http://a/b%20c", "FileName": "/x", "Alternate-URIs": "one\ntwo", "no": ""} {
		if got := m.get(key); got != want {
			t.Errorf("%s: %q instead of %q", key, got, want)
		}
	}
}

func TestReadRubbish(t *testing.T) {
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "6000 x\n\n", "600 x\n y\n\n", "600 x\nno colon\n\n", "-12 x\n\n", "\x00\xff\n\n"} {
		if _, err := readMessage(bufio.NewReader(strings.NewReader(text))); !errors.Is(err, errMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := readMessage(bufio.NewReader(strings.NewReader("600 x\nURI: y\n"))); err != io.ErrUnexpectedEOF {
		t.Errorf("a torn message: %v", err)
	}
	if _, err := readMessage(bufio.NewReader(strings.NewReader("\n"))); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
	endless := io.MultiReader(strings.NewReader("600 x\nURI: "), &repeat{'a'})
	if _, err := readMessage(bufio.NewReader(endless)); !errors.Is(err, errMalformed) {
		t.Errorf("an endless line: %v", err)
	}
}

type repeat struct{ c byte }

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.c
	}
	return len(p), nil
}

// What apt is told reads back as what was meant, whatever mirrors put into it.
func FuzzEncode(f *testing.F) {
	f.Add("404 Not Found", "x")
	f.Add("a\n\n201 URI Done\nURI: http://evil/\n\n", "\x1b[2J")
	f.Add("\r\n\r\n", "\u202e\x00\x7f\u0085")
	f.Add("é\xff", " \n ")
	f.Fuzz(func(t *testing.T, text, other string) {
		m := &message{code: 400, text: "URI Failure"}
		m.echo("URI", "http://a/b")
		m.add("Message", text)
		m.add("FailReason", other)
		out := m.encode()
		if !utf8.Valid(out) {
			t.Fatalf("not UTF-8: %q", out)
		}
		for _, c := range string(out) {
			if c != '\n' && (c < ' ' || c >= 0x7f && c < 0xa0) {
				t.Fatalf("a control character reached apt: %q", out)
			}
		}
		r := bufio.NewReader(bytes.NewReader(out))
		back, err := readMessage(r)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		var keys []string
		for _, f := range back.fields {
			keys = append(keys, f.key)
		}
		want := []string{"URI"}
		if text != "" {
			want = append(want, "Message")
		}
		if other != "" {
			want = append(want, "FailReason")
		}
		if back.code != 400 || !reflect.DeepEqual(keys, want) || back.get("URI") != "http://a/b" {
			t.Fatalf("reads back as %d %v from %q", back.code, keys, out)
		}
		if _, err := readMessage(r); err != io.EOF {
			t.Fatalf("something follows the message: %v in %q", err, out)
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("600 URI Acquire\nURI: http://a/b\nFilename: /x\n\n"))
	f.Add([]byte("601 Configuration\nConfig-Item: A::B=c%20d\n\n"))
	f.Add([]byte("\n\n\n999 x\n :\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		for {
			m, err := readMessage(r)
			if err != nil {
				return
			}
			if m.code < 100 || m.code > 999 {
				t.Fatalf("code %d", m.code)
			}
			it, err := newItem(m, true, "torrent")
			if err == nil && strings.ContainsAny(it.at.path, "\r\n \x00") {
				t.Fatalf("the request line would be broken: %q", it.at.path)
			}
			(&Config{}).load(m)
		}
	})
}

func TestQuote(t *testing.T) {
	for plain, quoted := range map[string]string{"a b%": "a%20b%25", "x+y~z": "x%2by%7ez", "\n\x7fé": "%0a%7f%c3%a9"} {
		if got := quote(plain, "+~ "); got != quoted {
			t.Errorf("%q: %q instead of %q", plain, got, quoted)
		}
		if got := unquote(quoted); got != plain {
			t.Errorf("%q: back %q", quoted, got)
		}
	}
	for _, s := range []string{"%", "%4", "%zz", "100%"} {
		if got := unquote(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestConfig(t *testing.T) {
	var c Config
	c.load(parse(t, "601 Configuration\n"+
		"Config-Item: Acquire::http::Timeout=5\nConfig-Item: Acquire::torrent::Timeout=6\nConfig-Item: acquire::HTTP::example.org::timeout=7\n"+
		"Config-Item: Binary::torrent+http::APT::Sandbox::User=nobody\nConfig-Item: APT::Sandbox::User=_apt\n"+
		"Config-Item: Acquire::torrent::Mirrors::=http://a/%3db\nConfig-Item: Acquire::torrent::Mirrors::=http://c\n"+
		"Config-Item: Dir=/root\nConfig-Item: Dir::State=var/lib/apt\nConfig-Item: Dir::State::lists=lists/\nConfig-Item: Dir::Etc=/etc/apt\n\n"))
	c.named("torrent+http")
	if got := c.ourInt("", "Timeout", 0); got != 6 {
		t.Errorf("torrent counts more than http: %d", got)
	}
	if got := c.ourInt("example.org", "Timeout", 0); got != 7 {
		t.Errorf("the host counts more: %d", got)
	}
	if got := c.Find("APT::Sandbox::User"); got != "nobody" {
		t.Errorf("Binary:: counts more: %s", got)
	}
	if got := c.List("Acquire::torrent::Mirrors"); !reflect.DeepEqual(got, []string{"http://a/=b", "http://c"}) {
		t.Errorf("the list: %q", got)
	}
	if got := c.Directory("Dir::State::lists"); got != "/root/var/lib/apt/lists" {
		t.Errorf("the directory: %s", got)
	}
	if got := c.Directory("Dir::Etc"); got != "/etc/apt" {
		t.Errorf("an absolute directory: %s", got)
	}
}

func TestURI(t *testing.T) {
	u, err := parseURI("torrent+https://me%40home:s%3acret@[2001:db8::1]:8443/a%2bb?c=d")
	want := uri{"torrent+https", "me@home", "s:cret", "2001:db8::1", "8443", "/a%2bb?c=d", ""}
	if err != nil || u != want {
		t.Errorf("%+v %v", u, err)
	}
	if u.wire() != "https" || !u.secure() || u.String() != "torrent+https://[2001:db8::1]:8443/a%2bb?c=d" {
		t.Errorf("%s %s", u.wire(), u)
	}
	for _, bad := range []string{"", "/a", "http:/a", "http:///a", "http://a:0/", "http://a:x/", "http://[::1/", "http://a b/", "http://a\nb/"} {
		if u, err := parseURI(bad); err == nil {
			t.Errorf("%q: %+v", bad, u)
		}
	}
	for scheme, spoken := range map[string]string{"http": "http", "torrent+https": "https", "foo+http": "http"} {
		if got := (uri{scheme: scheme}).wire(); got != spoken {
			t.Errorf("%s is spoken as %s", scheme, got)
		}
	}
}

func TestCredentials(t *testing.T) {
	logins := parseLogins("machine example.org/secret login a password 1\nmachine http://example.org:81\n login b\n password 2\n"+
		"machine example.net login c password 3\nmachine torrent+http://example.com login d password 4", "auth.conf")
	for text, want := range map[string]string{
		"https://example.org/secret/x":     "a",
		"https://example.org/other":        "",
		"http://example.org:81/x":          "b",
		"torrent+http://example.org:81/x":  "b",
		"http://example.org/x":             "",
		"https://example.net/x":            "c",
		"http://example.net/x":             "", // not encrypted
		"torrent+https://example.net:44/x": "c",
		"torrent+http://example.com/x":     "d",
		"https://me:too@example.net/x":     "me",
	} {
		u, err := parseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		if user, _, _ := credentials(logins, u); user != want {
			t.Errorf("%s: %q instead of %q", text, user, want)
		}
	}
	u, _ := parseURI("http://example.net/x")
	if _, _, warning := credentials(logins, u); !strings.Contains(warning, "Credentials for example.net match, but the protocol is not encrypted") {
		t.Errorf("the warning: %q", warning)
	}
}

func TestRedirects(t *testing.T) {
	for _, c := range []struct{ name, uri, location, to string }{
		{"http", "http://a/x", "/y", "http://a/y"},
		{"http", "http://a/x", "https://b/y z", "https://b/y%20z"},
		{"https", "https://a/x", "http://b/y", ""},
		{"http", "http://a/x", "http://a/x", ""},
		{"http", "http://a/x", "torrent+http://b/y", ""},
		{"http", "http://a/x", "ftp://b/y", ""},
		{"http", "http://a/x", "file:///etc/passwd", ""},
		{"torrent+http", "torrent+http://a/x", "http://b/y", "torrent+http://b/y"},
		{"torrent+http", "torrent+http://a/x", "https://b/y", "torrent+https://b/y"},
		{"torrent+https", "torrent+https://a/x", "http://b/y", ""},
		{"torrent+http", "torrent+http://a/x", "/x", ""},
		{"torrent", "torrent://a/x", "/y", "torrent://a/y"},
	} {
		m := &Method{Name: c.name, encoded: true}
		at, err := parseURI(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		to, trouble := m.redirect(&item{uri: c.uri, at: at}, c.location)
		if to != c.to || (trouble == nil) != (c.to != "") {
			t.Errorf("%s to %s: %q, %v", c.uri, c.location, to, trouble)
		}
	}
	m := &Method{Name: "http"} // URIs without escapes
	at, _ := parseURI("http://a/x")
	if to, trouble := m.redirect(&item{uri: "http://a/x", at: at}, "/y%0a%0a201%20URI%20Done"); trouble == nil {
		t.Errorf("control characters in a redirect: %q", to)
	}
}

func TestMirrorTags(t *testing.T) {
	target := parse(t, "600 URI Acquire\nTarget-Type: deb\nTarget-Architecture: amd64\nTarget-Codename: bookworm\nTarget-Suite: stable\nTarget-Component: main\n\n")
	for tags, want := range map[string]bool{
		"":                                  true,
		"type:deb":                          true,
		"type:index":                        false,
		"type:index type:deb":               true,
		"arch:amd64 codename:bookworm":      true,
		"arch:i386 codename:bookworm":       false,
		"suite:stable component:main":       true,
		"component:contrib":                 false,
		"lang:de":                           true, // apt does not say of which language this is
		"priority:3 unknown:x":              true,
		"codename:bookworm codename:trixie": true,
	} {
		if got := meantFor(strings.Fields(tags), target); got != want {
			t.Errorf("%q: %v", tags, got)
		}
	}
}

func FuzzParseLogins(f *testing.F) {
	f.Add("machine a login b password c")
	f.Add("machine http://a:1/b\nlogin\tpassword")
	f.Fuzz(func(t *testing.T, text string) {
		u, _ := parseURI("https://a:1/b")
		credentials(parseLogins(text, "f"), u)
	})
}

func FuzzParseURI(f *testing.F) {
	f.Add("torrent+http://u:p@h:1/x?y")
	f.Add("http://[::1]:80/")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseURI(text)
		if err != nil {
			return
		}
		again, err := parseURI(u.String())
		u.user, u.password = "", ""
		if err != nil || again != u {
			t.Fatalf("%q: %+v, then %+v, %v", text, u, again, err)
		}
	})
}
