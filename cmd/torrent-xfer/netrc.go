package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// netrcEntry is one machine of a netrc file. machine is "" for the default entry.
type netrcEntry struct{ machine, login, password string }

// parseNetrc reads a netrc file as ftp(1) and curl do. What it does not know it skips.
func parseNetrc(text string) (entries []netrcEntry) {
	lines := strings.Split(text, "\n")
	var words []string
	for i := 0; i < len(lines); i++ {
		line := netrcWords(lines[i])
		for j, w := range line {
			if w == "macdef" { // its text ends with an empty line
				line = line[:j]
				for i+1 < len(lines) && strings.TrimSpace(lines[i+1]) != "" {
					i++
				}
				break
			}
		}
		words = append(words, line...)
	}
	for i := 0; i < len(words); i++ {
		next := func() string {
			if i+1 == len(words) {
				return ""
			}
			i++
			return words[i]
		}
		switch words[i] {
		case "machine":
			if m := next(); m != "" {
				entries = append(entries, netrcEntry{machine: m})
			}
		case "default":
			entries = append(entries, netrcEntry{})
		case "login":
			if v := next(); len(entries) > 0 {
				entries[len(entries)-1].login = v
			}
		case "password":
			if v := next(); len(entries) > 0 {
				entries[len(entries)-1].password = v
			}
		case "account":
			next()
		}
	}
	return entries
}

// netrcWords splits a line at blanks. A word may stand in double quotes, with backslashes; "#" starts a comment.
func netrcWords(line string) (words []string) {
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" || line[0] == '#' {
			return words
		}
		if line[0] != '"' {
			n := strings.IndexAny(line, " \t\r")
			if n < 0 {
				n = len(line)
			}
			words = append(words, line[:n])
			line = line[n:]
			continue
		}
		var word strings.Builder
		i := 1
		for i < len(line) && line[i] != '"' {
			c := line[i]
			if c == '\\' && i+1 < len(line) {
				i++
				switch c = line[i]; c {
				case 'n':
					c = '\n'
				case 'r':
					c = '\r'
				case 't':
					c = '\t'
				}
			}
			word.WriteByte(c)
			i++
		}
		words = append(words, word.String())
		line = line[min(i+1, len(line)):]
	}
}

// credentials looks logins up in the user's netrc file. A password goes to other hosts than origin's only over https, and
// only if the file names them.
func credentials(env Env, origin *url.URL) func(*url.URL) (user, password string, ok bool) {
	file := env.get("NETRC")
	if file == "" {
		home := env.get("HOME")
		if home == "" {
			return nil
		}
		file = filepath.Join(home, ".netrc")
	}
	text, err := os.ReadFile(env.path(file))
	if err != nil {
		return nil
	}
	entries := parseNetrc(string(text))
	return func(u *url.URL) (string, string, bool) {
		same := strings.EqualFold(u.Hostname(), origin.Hostname())
		if !same && u.Scheme != "https" {
			return "", "", false
		}
		for _, e := range entries {
			if e.machine == "" && same || e.machine != "" && strings.EqualFold(e.machine, u.Hostname()) {
				return e.login, e.password, e.login != "" || e.password != ""
			}
		}
		return "", "", false
	}
}
