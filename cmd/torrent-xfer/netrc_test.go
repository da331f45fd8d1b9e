package main

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseNetrc(t *testing.T) {
	text := "# people\nmachine a.example login me password secret # not this\n" +
		"machine b.example\n\tlogin you\n\taccount x\n\tpassword \"with \\\"blanks\\\" and\\ttab\"\n" +
		"macdef init\nmachine evil.example login x password y\n\n" +
		"unknown words\ndefault login anonymous password user@\n"
	want := []netrcEntry{{"a.example", "me", "secret"}, {"b.example", "you", "with \"blanks\" and\ttab"}, {"", "anonymous", "user@"}}
	if got := parseNetrc(text); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "netrc")
	text := "machine origin.example login o password 1\nmachine Mirror.example login m password 2\ndefault login d password 3\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := Env{Environ: []string{"NETRC=" + file}}
	for _, c := range []struct{ origin, url, user string }{
		{"http://origin.example/a", "http://origin.example/a", "o"},
		{"http://origin.example/a", "https://mirror.example/a", "m"},
		{"http://origin.example/a", "http://mirror.example/a", ""}, // in the clear, to another host
		{"http://third.example/a", "http://third.example/a", "d"},
		{"http://origin.example/a", "https://third.example/a", ""}, // the default is for the host that was named
	} {
		origin, _ := url.Parse(c.origin)
		u, _ := url.Parse(c.url)
		user, _, ok := credentials(env, origin)(u)
		if user != c.user || ok != (c.user != "") {
			t.Errorf("from %s to %s: %q, %v", c.origin, c.url, user, ok)
		}
	}
	if credentials(Env{}, nil) != nil {
		t.Error("credentials without a home")
	}
}

func FuzzParseNetrc(f *testing.F) {
	for _, s := range []string{"machine a login b password c", "default", "macdef x\ny\n\nmachine z", `machine "a\"b" login "`, "login x",
		"machine", "#", "machine a\nlogin\n", "\"\\", "machine a account b password c\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(parseNetrc(text)); n > len(text) {
			t.Errorf("%d entries of %d bytes", n, len(text))
		}
	})
}
