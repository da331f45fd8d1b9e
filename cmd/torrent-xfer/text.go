package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// printable escapes what may not reach a terminal: control characters, invalid UTF-8, and what turns text around.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// columns is the room that printable text takes on a terminal.
func columns(s string) int { return uniseg.StringWidth(s) }

// shorten cuts the middle out of s until it fits into width columns.
func shorten(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	if width < 4 {
		return strings.Repeat(".", max(width, 0))
	}
	var parts []string
	for g := uniseg.NewGraphemes(s); g.Next(); {
		parts = append(parts, g.Str())
	}
	head, tail := "", ""
	i, j, room := 0, len(parts), width-2
	for i < j {
		if columns(head) <= columns(tail) {
			if columns(parts[i]) > room {
				break
			}
			head += parts[i]
			room -= columns(parts[i])
			i++
		} else {
			j--
			if columns(parts[j]) > room {
				break
			}
			tail = parts[j] + tail
			room -= columns(parts[j])
		}
	}
	return head + ".." + tail
}

const nameColumns = 16 // that a name is left with before anything else of its line is given up

// line fits a name and what is to be said of it into width columns. The last fields go first, the name is shortened then.
func line(width int, name string, fields ...string) string {
	const gap = "  "
	for {
		rest := strings.Join(fields, gap)
		if rest != "" {
			rest = gap + rest
		}
		room := width - columns(rest)
		if len(fields) == 0 || room >= columns(name) || room >= nameColumns {
			return shorten(name, room) + rest
		}
		fields = fields[:len(fields)-1]
	}
}

func formatBytes(n float64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%.0f B", n)
	}
	i := -1
	for n >= 1023.95 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", n, units[i])
}

func formatRate(bytesPerSecond float64) string { return formatBytes(bytesPerSecond) + "/s" }

// formatTime is mm:ss, or h:mm:ss.
func formatTime(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
