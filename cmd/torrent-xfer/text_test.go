package main

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"a b": "a b", "\x1b[2J": `\x1b[2J`, "a\nb": `a\nb`, "\xff": `\xff`, "日本": "日本",
		"a\u202eb": `a\u202eb`, "\u009b": `\u009b`, "\u00a0": `\u00a0`, "�": "�"} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestLine(t *testing.T) {
	name := "linux-6.10.arch1-1-x86_64.pkg.tar.zst"
	fields := []string{"20.1 MiB", "12.3 MiB/s", "00:01", "4 mirrors"}
	for width, want := range map[int]string{
		100: name + "  20.1 MiB  12.3 MiB/s  00:01  4 mirrors",
		60:  "linux-6.1..g.tar.zst  20.1 MiB  12.3 MiB/s  00:01  4 mirrors",
		40:  "linux-6....tar.zst  20.1 MiB  12.3 MiB/s",
		12:  "linux..r.zst",
		3:   "...",
	} {
		if got := line(width, name, fields...); got != want {
			t.Errorf("%d columns: %q", width, got)
		}
	}
	if got := line(30, "日本語の名前.tar", "1.0 KiB"); got != "日本語の名前.tar  1.0 KiB" {
		t.Errorf("wide characters: %q", got)
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1048575: "1.0 MiB", 21076377: "20.1 MiB", 1 << 60: "1.0 EiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%v: %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "00:00", 61 * time.Second: "01:01", 3 * time.Hour: "3:00:00"} {
		if got := formatTime(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func FuzzShorten(f *testing.F) {
	f.Add("name.pkg.tar.zst", 10)
	f.Add("日本語の名前.tar", 9)
	f.Add("\x1b[31m\xff\u202e", 3)
	f.Add("e\u0301\u0301\u0301x", 4)
	f.Fuzz(func(t *testing.T, name string, width int) {
		width = min(max(width, 0), 200)
		safe := printable(name)
		for _, r := range safe {
			if unicode.IsControl(r) || r == utf8.RuneError && !strings.Contains(name, "�") {
				t.Fatalf("%q became %q", name, safe)
			}
		}
		if got := columns(shorten(safe, width)); got > width {
			t.Errorf("%d columns instead of %d", got, width)
		}
	})
}
