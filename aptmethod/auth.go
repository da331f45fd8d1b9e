package aptmethod

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// login is one machine of apt_auth.conf(5).
type login struct {
	machine        string // [protocol://]host[:port][/path]
	user, password string
	file           string
}

const maxAuthFile = 1 << 20

// readLogins reads auth.conf and the files of auth.conf.d. It has to be done before privileges are dropped.
func readLogins(c *Config) (logins []login) {
	etc := c.Directory("Dir::Etc")
	var files []string
	if netrc := c.Find("Dir::Etc::netrc"); netrc != "" {
		files = append(files, beneath(etc, netrc))
	}
	if parts := c.Find("Dir::Etc::netrcparts"); parts != "" {
		more, _ := filepath.Glob(filepath.Join(beneath(etc, parts), "*.conf"))
		slices.Sort(more)
		files = append(files, more...)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || !info.Mode().IsRegular() || info.Size() > maxAuthFile {
			continue
		}
		if text, err := os.ReadFile(f); err == nil {
			logins = append(logins, parseLogins(string(text), f)...)
		}
	}
	return logins
}

// Directory returns a directory or file of apt's tree, such as Dir::State::lists, with all that stands before it: RootDir,
// Dir, and what is between.
func (c *Config) Directory(key string) string {
	path := c.Find(key)
	for parent := key; !filepath.IsAbs(path); {
		i := strings.LastIndex(parent, "::")
		if i < 0 {
			break
		}
		parent = parent[:i]
		path = filepath.Join(c.Find(parent), path)
	}
	if root := c.Find("RootDir"); root != "" {
		path = filepath.Join(root, path)
	}
	return path
}

// beneath is name, below dir unless it is absolute.
func beneath(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// parseLogins reads netrc syntax as apt does: words at blanks, whatever is not known is skipped.
func parseLogins(text, file string) (logins []login) {
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "machine":
			i++
			logins = append(logins, login{machine: words[i], file: file})
		case "login":
			i++
			if n := len(logins); n > 0 {
				logins[n-1].user = words[i]
			}
		case "password":
			i++
			if n := len(logins); n > 0 {
				logins[n-1].password = words[i]
			}
		}
	}
	return logins
}

// credentials finds the login for u. warning tells of one that fits but is meant for encrypted connections only; "": there
// is none.
func credentials(logins []login, u uri) (user, password, warning string) {
	if u.user != "" || u.password != "" {
		return u.user, u.password, ""
	}
	host := strings.ToLower(u.host)
	withPort := host
	if u.port != "" {
		withPort += ":" + u.port
	}
	for _, l := range logins {
		machine, encrypted := l.machine, true
		if protocol, rest, ok := strings.Cut(machine, "://"); ok {
			if protocol != u.scheme && protocol != u.wire() {
				continue
			}
			machine, encrypted = rest, false
		}
		name, path, hasPath := strings.Cut(machine, "/")
		name = strings.ToLower(name)
		switch {
		case !hasPath && name != host && name != withPort,
			hasPath && (name != withPort || !strings.HasPrefix(u.path, "/"+path)):
			continue
		case encrypted && !u.secure():
			warning = fmt.Sprintf("%s: Credentials for %s match, but the protocol is not encrypted. Annotate with %s:// to use.",
				l.file, l.machine, u.scheme)
			continue
		}
		return l.user, l.password, ""
	}
	return "", "", warning
}
