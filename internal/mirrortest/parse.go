package mirrortest

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// ParseConfig reads a mirror as the command line gives it: comma-separated "rate=5M", "delay=20ms", "dir=DIR",
// "addr=HOST:PORT", "headers=FILE" (lines of "PATH NAME: VALUE"), "tls", "http2" (with TLS) and any number of "fault=" as
// ParseFault reads them. "": a good mirror.
func ParseConfig(spec string) (Config, error) {
	var cfg Config
	if spec == "" {
		return cfg, nil
	}
	for item := range strings.SplitSeq(spec, ",") {
		key, value, _ := strings.Cut(item, "=")
		var err error
		switch key {
		case "rate":
			cfg.Rate, err = parseBytes(value)
		case "delay":
			cfg.Delay, err = time.ParseDuration(value)
		case "dir":
			cfg.Dir = value
		case "addr":
			cfg.Addr = value
		case "headers":
			cfg.Headers, err = readHeaders(value)
		case "tls":
			cfg.TLS = true
		case "http2":
			cfg.TLS, cfg.HTTP2 = true, true
		case "fault":
			var f Fault
			f, err = ParseFault(value)
			cfg.Faults = append(cfg.Faults, f)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return Config{}, fmt.Errorf("mirror %q: %w", spec, err)
		}
	}
	return cfg, nil
}

// ParseFault reads KIND[@AT] followed by ";key=value" for path, count, after, dur, chance, seed, target and data; data
// names a file to be read into memory. AT is a number of bytes with K, M or G for powers of 1000.
func ParseFault(spec string) (Fault, error) {
	head, rest, more := strings.Cut(spec, ";")
	name, at, hasAt := strings.Cut(head, "@")
	var f Fault
	var err error
	if f.Kind, err = ParseFaultKind(name); err != nil {
		return Fault{}, err
	}
	if hasAt {
		if f.At, err = parseBytes(at); err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", spec, err)
		}
	}
	if !more {
		return f, nil
	}
	for item := range strings.SplitSeq(rest, ";") {
		key, value, _ := strings.Cut(item, "=")
		var err error
		switch key {
		case "path":
			f.Path = value
		case "count":
			f.Count, err = strconv.Atoi(value)
		case "after":
			f.After, err = strconv.Atoi(value)
		case "dur":
			f.Dur, err = time.ParseDuration(value)
		case "chance":
			f.Chance, err = strconv.ParseFloat(value, 64)
		case "seed":
			f.Seed, err = strconv.ParseUint(value, 10, 64)
		case "target":
			f.Target = value
		case "data":
			f.Data, err = readFile(value)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", spec, err)
		}
	}
	return f, nil
}

func readHeaders(name string) (map[string]http.Header, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	headers := map[string]http.Header{}
	for line := range strings.Lines(string(text)) {
		path, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, value, ok := strings.Cut(rest, ": ")
		if !ok {
			return nil, fmt.Errorf("%s: not a header: %q", name, line)
		}
		if headers[path] == nil {
			headers[path] = http.Header{}
		}
		headers[path].Add(key, value)
	}
	return headers, nil
}

func readFile(name string) (File, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return File{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return File{}, err
	}
	f := Bytes(b)
	f.ModTime = info.ModTime()
	return f, nil
}

// parseBytes reads a whole number with an optional K, M or G (powers of 1000).
func parseBytes(s string) (int64, error) {
	unit := int64(1)
	if s != "" {
		switch s[len(s)-1] {
		case 'k', 'K':
			unit = 1e3
		case 'M':
			unit = 1e6
		case 'G':
			unit = 1e9
		}
	}
	digits := s
	if unit > 1 {
		digits = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, err
	}
	if n > 1<<62/unit || n < -(1<<62)/unit {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return n * unit, nil
}
