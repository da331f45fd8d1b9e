package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// settings is what the user wants, from whatever place.
type settings struct {
	config                   string // "": the usual files
	mirrors                  []string
	mirrorLists              []string
	noMirrors                bool
	torrent                  string
	sha256, sha512           []byte
	size                     int64 // bytes; 0: unknown
	limitRate                int64 // bytes/s; 0: no limit
	maxMirrors               int   // 0: the engine's default
	timeout, connectTimeout  time.Duration
	progress, output, report string
	quiet, verbose           bool
	probe, json, watch       bool
	make                     torrentSettings
	create                   createSettings
	publish                  publishSettings
	inspect                  inspectSettings
	peers                    peersSettings
	scrape                   scrapeSettings
	download                 downloadSettings
	seed                     seedSettings
	daemon                   daemonSettings
	serve                    serveSettings
	give                     giveSettings
}

const (
	envPrefix = "TORRENT_XFER_"
	cmdFetch  = "" // the command without a verb

	cmdDownload = "download"
	cmdServe    = "serve"
)

// A setting is described here once for the command line, the environment, the configuration file and the help.
type setting struct {
	name    string // of the flag and of the key in the file
	aliases []string
	value   bool // takes one; else it is a switch
	many    bool // repeatable
	lasting bool // may stand in the environment and in the file too
	colons  bool // of many: values hold colons, which separate those of others in the environment; these are separated by spaces
	verbs   []string
	usage   string
	set     func(*settings, string) error
}

// env is the name in the environment.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

var allVerbs = []string{cmdFetch, "mirrors", "doctor", "publish", "create", cmdDownload, "metainfo", "bencode", "scrape", "apt-method",
	cmdDaemon, cmdServe, "status", "pause", "resume", "remove", "limit"}

func settingsTable() []setting {
	fetch, lists := []string{cmdFetch}, []string{cmdFetch, "mirrors"}
	engine := []string{cmdFetch, "apt-method"}
	goes := []string{cmdFetch, cmdDownload}
	return slices.Concat(publishSettingsTable(), createSettingsTable(), peersSettingsTable(append(engine, cmdDownload, "metainfo", cmdDaemon), cmdServe), seedSettingsTable(), backgroundSettingsTable(), daemonSettingsTable(), controlSettingsTable(), downloadSettingsTable(), serveSettingsTable(), giveSettingsTable(cmdDownload, cmdServe), metainfoSettings(), bencodeSettings(), scrapeSettingsTable(), []setting{
		{name: "output", aliases: []string{"o", "O"}, value: true, verbs: fetch,
			usage: "write to `FILE`; - is standard output",
			set:   func(s *settings, v string) error { s.output = standard(v); return notEmpty(v) }},
		{name: "mirror", value: true, many: true, verbs: lists,
			usage: "the same file is at `URL` too; its name is appended if that ends in a slash",
			set:   func(s *settings, v string) error { s.mirrors = append(s.mirrors, v); return nil }},
		{name: "mirrorlist", value: true, many: true, lasting: true, verbs: lists,
			usage: "read mirrors from `FILE`, not from the system's lists: pacman mirrorlist or pacman.conf, apt list or sources, plain URLs",
			set:   func(s *settings, v string) error { s.mirrorLists = append(s.mirrorLists, v); return nil }},
		{name: "no-mirrors", lasting: true, verbs: lists, usage: "use only the URL given",
			set: func(s *settings, v string) error { return parseBool(v, &s.noMirrors) }},
		{name: "torrent", value: true, lasting: true, verbs: engine,
			usage: "the torrent, or a metalink, is at `LOCATION`: auto, none, a file, a URL, or a template with {url}, {root} and {file}",
			set:   func(s *settings, v string) error { s.torrent = v; return nil }},
		{name: "sha256", value: true, verbs: fetch, usage: "the file's SHA-256 is `HEX`",
			set: func(s *settings, v string) error { return parseDigest(v, 32, &s.sha256) }},
		{name: "sha512", value: true, verbs: fetch, usage: "the file's SHA-512 is `HEX`",
			set: func(s *settings, v string) error { return parseDigest(v, 64, &s.sha512) }},
		{name: "size", aliases: []string{"S"}, value: true, verbs: fetch, usage: "the file is `BYTES` long",
			set: func(s *settings, v string) error { return parseBytes(v, &s.size) }},
		{name: "limit-rate", value: true, lasting: true, verbs: goes,
			usage: "receive `RATE` bytes/s at most, over all sources together: 500k, 2M, 1.5MiB",
			set:   func(s *settings, v string) error { return parseBytes(strings.TrimSuffix(v, "/s"), &s.limitRate) }},
		{name: "max-mirrors", value: true, lasting: true, verbs: append(engine, cmdDownload), usage: "use `N` mirrors at once at most (default: 16)",
			set: func(s *settings, v string) (err error) {
				if s.maxMirrors, err = strconv.Atoi(v); err != nil || s.maxMirrors < 1 {
					return fmt.Errorf("%q is not a number of mirrors", v)
				}
				return nil
			}},
		{name: "timeout", value: true, lasting: true, verbs: append(lists, cmdDownload), usage: "give up after `DURATION`: 90, 90s, 5m",
			set: func(s *settings, v string) error { return parseDuration(v, &s.timeout) }},
		{name: "connect-timeout", value: true, lasting: true, verbs: goes,
			usage: "give up a mirror that is not connected after `DURATION` (default: 10s)",
			set:   func(s *settings, v string) error { return parseDuration(v, &s.connectTimeout) }},
		{name: "progress", value: true, lasting: true, verbs: goes, usage: "show progress on standard error; `HOW` is auto, bar, plain, json or none",
			set: func(s *settings, v string) error {
				if !slices.Contains([]string{"auto", "bar", "plain", "json", "none"}, v) {
					return fmt.Errorf("%q is none of auto, bar, plain, json, none", v)
				}
				s.progress = v
				return nil
			}},
		{name: "quiet", aliases: []string{"q"}, lasting: true, verbs: append(goes, cmdServe), usage: "say nothing but errors",
			set: func(s *settings, v string) error { return parseBool(v, &s.quiet) }},
		{name: "verbose", lasting: true, verbs: []string{cmdFetch, cmdDownload, "mirrors", "doctor", "publish", cmdDaemon, cmdServe},
			usage: "say what is done and, of a download, which mirrors are set aside, and why",
			set:   func(s *settings, v string) error { return parseBool(v, &s.verbose) }},
		{name: "report", value: true, verbs: goes, usage: "write to `FILE` what each source gave, as JSON; - is standard output",
			set: func(s *settings, v string) error { s.report = standard(v); return notEmpty(v) }},
		{name: "config", value: true, verbs: allVerbs, usage: "read `FILE` instead of the usual configuration",
			set: func(s *settings, v string) error { s.config = v; return nil }},
		{name: "probe", verbs: []string{"mirrors"}, usage: "ask each for the file: status, size, latency, speed",
			set: func(s *settings, v string) error { return parseBool(v, &s.probe) }},
		{name: "json", verbs: []string{"mirrors"}, usage: "print JSON",
			set: func(s *settings, v string) error { return parseBool(v, &s.json) }},
	})
}

// settingsOf are the settings of one command. Two commands may have different ones of one name.
func settingsOf(verb string) []setting {
	return slices.DeleteFunc(settingsTable(), func(s setting) bool { return !slices.Contains(s.verbs, verb) })
}

// flagsOf makes the flags of a command.
func flagsOf(verb string) (flags []cli.Flag) {
	for _, s := range settingsOf(verb) {
		usage := s.usage
		switch {
		case !s.value:
			flags = append(flags, &cli.BoolFlag{Name: s.name, Aliases: s.aliases, Usage: usage, DisableDefaultText: true})
		case s.many:
			flags = append(flags, &cli.StringSliceFlag{Name: s.name, Aliases: s.aliases, Usage: usage + " (repeatable)"})
		default:
			flags = append(flags, &cli.StringFlag{Name: s.name, Aliases: s.aliases, Usage: usage})
		}
	}
	return flags
}

// place is where values come from.
type place struct {
	name   func(setting) string
	values map[string][]string
}

// loadSettings reads the flags, the environment and the configuration files, in this order of weight.
func loadSettings(env Env, c *cli.Context, verb string) (settings, error) {
	s := settings{torrent: "auto", progress: "auto", peers: peersSettings{when: "auto"}}
	flags := place{func(s setting) string { return "--" + s.name }, map[string][]string{}}
	around := place{setting.env, map[string][]string{}}
	table := settingsOf(verb)
	for _, d := range table {
		switch {
		case !c.IsSet(d.name):
		case !d.value:
			flags.values[d.name] = []string{strconv.FormatBool(c.Bool(d.name))}
		case d.many:
			flags.values[d.name] = c.StringSlice(d.name)
		default:
			flags.values[d.name] = []string{c.String(d.name)}
		}
		if v := env.get(d.env()); v != "" && d.lasting {
			switch {
			case d.colons:
				around.values[d.name] = strings.Fields(v)
			case d.many:
				around.values[d.name] = strings.Split(v, ":")
			default:
				around.values[d.name] = []string{v}
			}
		}
	}
	places := []place{flags, around}
	files, named := env.configFiles(), false
	if s.config = c.String("config"); s.config == "" {
		s.config = env.get(envPrefix + "CONFIG")
	}
	if s.config != "" {
		files, named = []string{env.path(s.config)}, true
	}
	for _, f := range files {
		p, err := readConfig(f)
		unreadable := errors.Is(err, fs.ErrPermission) && verb != cmdDaemon // without its limits a daemon does more than it may
		if !named && (errors.Is(err, fs.ErrNotExist) || unreadable || errors.Is(err, syscall.ENOTDIR)) {
			continue
		}
		if err != nil {
			return s, usageError("%w", err)
		}
		places = append(places, p)
	}
	for _, d := range table {
		for i, p := range places {
			values, ok := p.values[d.name]
			if !ok || i > 0 && !d.lasting {
				continue
			}
			for _, v := range values {
				if err := d.set(&s, v); err != nil {
					return s, usageError("%s: %w", p.name(d), err)
				}
			}
			break
		}
	}
	return s, nil
}

// readConfig reads a TOML file, the keys of which are the names of the lasting settings.
func readConfig(file string) (place, error) {
	p := place{func(s setting) string { return file + ": " + s.name }, map[string][]string{}}
	text, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	if p.values, err = parseConfig(string(text)); err != nil {
		return p, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func parseConfig(text string) (map[string][]string, error) {
	var keys map[string]any
	if _, err := toml.Decode(text, &keys); err != nil {
		var at toml.ParseError
		if errors.As(err, &at) {
			return nil, fmt.Errorf("line %d: %s", at.Position.Line, at.Message)
		}
		return nil, err
	}
	names := map[string]setting{}
	for _, d := range settingsTable() {
		if d.lasting {
			names[d.name] = d
		}
	}
	values := map[string][]string{}
	for key, v := range keys {
		d, ok := names[key]
		if !ok {
			return nil, fmt.Errorf("unknown key %q", key)
		}
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		} else if !d.many {
			return nil, fmt.Errorf("%s takes one value", key)
		}
		values[key] = []string{}
		for _, v := range list {
			switch v := v.(type) {
			case string:
				values[key] = append(values[key], v)
			case int64, float64, bool:
				values[key] = append(values[key], fmt.Sprint(v))
			default:
				return nil, fmt.Errorf("%s takes no such value", key)
			}
		}
	}
	return values, nil
}

// standard is "-" for all that is standard output, else name itself.
func standard(name string) string {
	if slices.Contains([]string{"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}, name) {
		return toStdout
	}
	return name
}

func notEmpty(name string) error {
	if name == "" {
		return errors.New("the name is empty")
	}
	return nil
}

func parseBool(v string, to *bool) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", v)
	}
	*to = b
	return nil
}

func parseDigest(v string, size int, to *[]byte) error {
	b, err := hex.DecodeString(strings.TrimSpace(v))
	if err != nil || len(b) != size {
		return fmt.Errorf("%q is not a digest of %d hexadecimal digits", v, 2*size)
	}
	*to = b
	return nil
}

// parseDuration reads "90" (seconds) and what time.ParseDuration reads.
func parseDuration(v string, to *time.Duration) error {
	d, err := time.ParseDuration(v)
	if s, serr := strconv.ParseFloat(v, 64); serr == nil && s < math.MaxInt64/float64(time.Second) {
		d, err = time.Duration(s*float64(time.Second)), nil
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration", v)
	}
	*to = d
	return nil
}

// parseRatio reads how many bytes are to be given for each: 1, 1.5.
func parseRatio(v string, to *float64) error {
	r, err := strconv.ParseFloat(v, 64)
	if err != nil || !(r > 0) || math.IsInf(r, 0) {
		return fmt.Errorf("%q is not a ratio", v)
	}
	*to = r
	return nil
}

// parseBytes reads a number of bytes: 500, 500k, 2M (powers of 1000), 1.5MiB (powers of 1024).
func parseBytes(v string, to *int64) error {
	number, power := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(v)), "b"), 1.0
	base := 1000.0
	if n, ok := strings.CutSuffix(number, "i"); ok {
		number, base = n, 1024
	}
	if i := strings.IndexAny(number, "kmgt"); i >= 0 && i == len(number)-1 {
		power = math.Pow(base, float64(strings.IndexByte("kmgt", number[i])+1))
		number = number[:i]
	} else if base == 1024 {
		number = ""
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if n *= power; err != nil || !(n >= 1 && n < 1<<62) {
		return fmt.Errorf("%q is not a number of bytes", v)
	}
	*to = int64(n)
	return nil
}
