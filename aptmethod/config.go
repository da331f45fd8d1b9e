package aptmethod

import (
	"slices"
	"strconv"
	"strings"
)

// A Config is apt's configuration as message 601 brings it. Names are compared without regard to case. The zero value
// holds nothing.
type Config struct {
	values map[string]string
	lists  map[string][]string
	names  []string // of this method, the one that counts most first: "torrent+http", "torrent", "http"
	binary string
}

// load takes the settings of a 601.
func (c *Config) load(m *message) {
	if c.values == nil {
		c.values, c.lists = map[string]string{}, map[string][]string{}
	}
	for _, f := range m.fields {
		if !strings.EqualFold(f.key, "Config-Item") {
			continue
		}
		key, value, ok := strings.Cut(f.value, "=")
		if !ok {
			continue
		}
		key, value = strings.ToLower(unquote(key)), unquote(value)
		if list, ok := strings.CutSuffix(key, "::"); ok {
			c.lists[list] = append(c.lists[list], value)
			continue
		}
		c.values[key] = value
		// A list may also come with the items' own tags.
		if i := strings.LastIndex(key, "::"); i > 0 {
			c.lists[key[:i]] = append(c.lists[key[:i]], value)
		}
	}
}

// named says what the method is called, which decides where its settings stand.
func (c *Config) named(binary string) {
	c.binary = strings.ToLower(binary)
	c.names = []string{binary}
	add := func(name string) {
		if !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
	}
	if base, scheme, ok := strings.Cut(binary, "+"); ok {
		add(base)
		add(scheme)
	}
	add("http")
}

// Find returns a setting, such as "APT::Sandbox::User". Binary::NAME:: of this method counts more. "": it is not set.
func (c *Config) Find(key string) string {
	key = strings.ToLower(key)
	if v, ok := c.values["binary::"+c.binary+"::"+key]; ok {
		return v
	}
	return c.values[key]
}

// List returns the items of a list, such as "Acquire::torrent::Mirrors".
func (c *Config) List(key string) []string {
	key = strings.ToLower(key)
	if l := c.lists["binary::"+c.binary+"::"+key]; len(l) > 0 {
		return l
	}
	return c.lists[key]
}

// Bool returns a setting that is true or false; other is what holds if it is neither or not set.
func (c *Config) Bool(key string, other bool) bool { return parseBool(c.Find(key), other) }

// ours is Find for Acquire::NAME::HOST::key, then Acquire::NAME::key, for each name of the method. host may be "".
func (c *Config) ours(host, key string) string {
	if host != "" {
		for _, name := range c.names {
			if v := c.Find("Acquire::" + name + "::" + host + "::" + key); v != "" {
				return v
			}
		}
	}
	for _, name := range c.names {
		if v := c.Find("Acquire::" + name + "::" + key); v != "" {
			return v
		}
	}
	return ""
}

func (c *Config) ourBool(host, key string, other bool) bool {
	return parseBool(c.ours(host, key), other)
}

// ourInt reads a number as strtol does: what follows it does not matter.
func (c *Config) ourInt(host, key string, other int64) int64 {
	v := strings.TrimSpace(c.ours(host, key))
	end := 0
	for end < len(v) && (v[end] >= '0' && v[end] <= '9' || end == 0 && v[end] == '-') {
		end++
	}
	n, err := strconv.ParseInt(v[:end], 10, 64)
	if err != nil {
		return other
	}
	return n
}

// parseBool is apt's StringToBool.
func parseBool(v string, other bool) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "1", "yes", "true", "with", "on", "enable":
		return true
	case "0", "no", "false", "without", "off", "disable":
		return false
	}
	return other
}

// Detector is the program that the user has named to find a proxy for each host. "": none.
func (c *Config) Detector() string {
	if command := c.ours("", "Proxy-Auto-Detect"); command != "" {
		return command
	}
	return c.ours("", "ProxyAutoDetect")
}

// certificates lists the files that settings of TLS name.
func (c *Config) certificates() (files []string) {
	for key, value := range c.values {
		if !strings.Contains(key, "acquire::") {
			continue
		}
		for _, name := range []string{"::cainfo", "::sslcert", "::sslkey", "::crlfile"} {
			if strings.HasSuffix(key, name) && value != "" {
				files = append(files, value)
			}
		}
	}
	slices.Sort(files)
	return files
}
