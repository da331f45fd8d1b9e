package main

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "500": 500, "500k": 500_000, "500KB": 500_000, "2M": 2_000_000,
		"1.5MiB": 3 << 19, "1Gi": 1 << 30, "1 g": 1_000_000_000, "10b": 10, "1T": 1_000_000_000_000} {
		var n int64
		if err := parseBytes(text, &n); err != nil || n != want {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "k", "i", "1i", "1KiBi", "1kk", "NaN", "Inf", "1e30", "0.5", "1x", "1 2"} {
		var n int64
		if parseBytes(text, &n) == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"90": 90 * time.Second, "0.5": time.Second / 2, "1m30s": 90 * time.Second} {
		var d time.Duration
		if err := parseDuration(text, &d); err != nil || d != want {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "NaN", "Inf", "1e300", "soon", "-5s"} {
		var d time.Duration
		if parseDuration(text, &d) == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
}

func TestArrange(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{[]string{"U", "D", "--sha256", "X"}, []string{"--sha256", "X", "--", "U", "D"}},
		{[]string{"-q", "-O", "out", "U"}, []string{"--quiet", "--output", "out", "--", "U"}},
		{[]string{"U", "-"}, []string{"--", "U", "-"}},
		{[]string{"U", "--", "-o", "--x"}, []string{"--", "U", "-o", "--x"}},
		{[]string{"--output=a", "U"}, []string{"--output=a", "--", "U"}},
		{[]string{"-o", "mirrors", "U"}, []string{"--output", "mirrors", "--", "U"}},
		{[]string{"--config", "f", "mirrors", "U", "--probe"}, []string{"mirrors", "--config", "f", "--probe", "--", "U"}},
		{[]string{"U", "mirrors"}, []string{"--", "U", "mirrors"}},
		{[]string{"-o", "a", "-O=b", "U"}, []string{"--output", "a", "--output=b", "--", "U"}},
		{[]string{"-x", "U"}, nil},
		{[]string{"-ofile", "-S6", "U"}, []string{"--output=file", "--size=6", "--", "U"}},
		{[]string{"-q1", "U"}, nil},
		{[]string{"--o1", "U"}, nil},
		{[]string{"--version"}, []string{"--version", "--"}},
		{[]string{"publish", "--version"}, nil},
		{[]string{"--prune", "publish", "D"}, []string{"publish", "--prune", "--", "D"}},
		{[]string{"publish", "-j1", "D"}, []string{"publish", "--jobs=1", "--", "D"}},
		{[]string{"mirrors", "-o", "U"}, nil},
		{[]string{"U", "-o"}, nil},
		{[]string{"mirrors", "U", "-h", "-o"}, []string{"mirrors", "--help"}},
	} {
		got, err := arrange(append([]string{"torrent-xfer"}, c.in...))
		if (err != nil) != (c.want == nil) || err == nil && !slices.Equal(got[1:], c.want) {
			t.Errorf("%q: got %q, %v", c.in, got, err)
		}
	}
}

// Tried here and not with the program: run by root, one that knew no better would take /dev/stdout from everybody.
func TestStandardOutput(t *testing.T) {
	for _, name := range []string{"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"} {
		var d download
		if err := d.aim([]string{"http://127.0.0.1/a", name}); err != nil || d.dest != toStdout {
			t.Errorf("%s is %q, %v", name, d.dest, err)
		}
		for _, d := range settingsTable() {
			var s settings
			if d.name != "output" && d.name != "report" {
				continue
			}
			if err := d.set(&s, name); err != nil || s.output+s.report != toStdout {
				t.Errorf("--%s %s is %q, %v", d.name, name, s.output+s.report, err)
			}
		}
	}
}

// What is said on the command line can be said in the environment and in the file.
func TestSettingsElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	text := "seed-ratio = 1.5\nlimit-upload = 1e6\nseed-time = 90.5\nseed-space = 2000\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := Env{Environ: []string{"TORRENT_XFER_CONFIG=" + file, "TORRENT_XFER_WATCH=/a:/b",
		"TORRENT_XFER_WATCH_MIRROR=http://one.example/a/ https://[::1]:8080/", "TORRENT_XFER_DHT_NODE=one.example:1 [::1]:2"}}
	c := cli.NewContext(cli.NewApp(), flag.NewFlagSet("", flag.ContinueOnError), nil)
	s, err := loadSettings(env, c, cmdDaemon)
	if err != nil {
		t.Fatal(err)
	}
	d := s.daemon.config
	if d.Ratio != 1.5 || d.Time != 90*time.Second+time.Second/2 || d.Space != 2000 || s.peers.options.LimitUpload != 1_000_000 {
		t.Errorf("the file's are %+v, %+v", d, s.peers.options)
	}
	if !slices.Equal(d.Watch, []string{"/a", "/b"}) || !slices.Equal(s.daemon.mirrors, []string{"http://one.example/a/", "https://[::1]:8080/"}) ||
		!slices.Equal(s.peers.options.DHTNodes, []string{"one.example:1", "[::1]:2"}) {
		t.Errorf("the environment's are %q, %q, %q", d.Watch, s.daemon.mirrors, s.peers.options.DHTNodes)
	}
	for _, text := range []string{"seed-ratio = inf", "seed-ratio = nan", "seed-ratio = 0.0", "seed-ratio = -1.5", "max-peers = 1.5"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadSettings(env, c, cmdDaemon); err == nil {
			t.Errorf("%s is no error", text)
		}
	}
}

// What a daemon may not read is no reason for it to know no limits; to a download, which is run by anybody, it says nothing.
func TestUnreadableConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "torrent-xfer.toml"), []byte("quiet = true"), 0), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // who may read all; this thread no more
		runtime.LockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer runtime.UnlockOSThread()
		defer syscall.Setfsuid(0)
	}
	env := Env{UID: 1, Environ: []string{"XDG_CONFIG_HOME=" + dir}}
	c := cli.NewContext(cli.NewApp(), flag.NewFlagSet("", flag.ContinueOnError), nil)
	if _, err := loadSettings(env, c, cmdFetch); err != nil {
		t.Errorf("a download: %v", err)
	}
	if _, err := loadSettings(env, c, cmdDaemon); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the daemon: %v", err)
	}
}

// The environment's names and the file's keys come from the flags' names; two lasting settings may not share one, nor two
// of one command any.
func TestSettingsTable(t *testing.T) {
	seen := map[string]bool{}
	once := func(where, name string) {
		if seen[where+" "+name] {
			t.Errorf("%s: %s stands for two settings", where, name)
		}
		seen[where+" "+name] = true
	}
	for _, s := range settingsTable() {
		for _, verb := range s.verbs {
			for _, name := range append([]string{s.name}, s.aliases...) {
				once("torrent-xfer "+verb, name)
			}
		}
		if s.lasting {
			once("the file", s.name)
			once("the environment", s.env())
		}
		if len(s.verbs) == 0 || s.set == nil || s.usage == "" || s.many && !s.value || s.colons && !s.many {
			t.Errorf("%s is not described in full", s.name)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, s := range []string{"quiet = true", "mirrorlist = [\"a\", \"b\"]", "limit-rate = 5", "timeout = 1.5", "[a]\nb=1", "=", "torrent = 1979-05-27"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := parseConfig(text)
		if err != nil {
			return
		}
		for key := range values {
			if !slices.ContainsFunc(settingsTable(), func(s setting) bool { return s.name == key && s.lasting }) {
				t.Errorf("%q was let in", key)
			}
		}
	})
}
