package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"torrent-xfer/mirrorlist"
)

// findings is what doctor has to say, line by line.
type findings struct {
	out   io.Writer
	wrong int
}

func (f *findings) say(kind, format string, args ...any) {
	fmt.Fprintf(f.out, "%-5s %s\n", kind, printable(fmt.Sprintf(format, args...)))
}

func (f *findings) ok(format string, args ...any)   { f.say("ok", format, args...) }
func (f *findings) note(format string, args ...any) { f.say("note", format, args...) }
func (f *findings) bad(format string, args ...any) {
	f.wrong++
	f.say("WRONG", format, args...)
}

func doctorCommand(env Env, c *cli.Context) error {
	if c.NArg() > 1 {
		return usageError("doctor takes one file")
	}
	conf := pacmanConfFile
	if c.NArg() == 1 {
		conf = env.path(c.Args().First())
	}
	f := &findings{out: env.Stdout}
	fmt.Fprintf(f.out, "torrent-xfer %s\n\n", version)
	f.settings(env, c)
	f.machine(env)
	found := f.pacman(env, conf, c.NArg() == 1)
	f.apt(env)
	f.program(env, found)
	f.confinement(env)
	f.peers(env)

	program := env.Executable
	if program == "" {
		program = "/usr/bin/torrent-xfer"
	}
	quoted := program
	if strings.ContainsAny(program, " \t") {
		quoted = `"` + program + `"`
		f.bad("makepkg cannot call a program whose path has a space in it: %s", program)
	}
	fmt.Fprintf(f.out, `
pacman.conf, section [options]:
XferCommand = %s %%u %%o

makepkg.conf, at its end:
DLAGENTS=('https::%s %%u %%o' 'http::%s %%u %%o' "${DLAGENTS[@]}")

apt.conf, if the Debian package is not installed; then sources may say torrent+http://HOST/...:
Dir::Bin::Methods::torrent+http "%s";
Dir::Bin::Methods::torrent+https "%s";
`, printable(quoted), printable(program), printable(program), printable(program), printable(program))
	if f.wrong > 0 {
		return &failure{status: exitFailed, err: fmt.Errorf("%s wrong", plural(f.wrong, "thing")), next: "see the lines marked WRONG"}
	}
	return nil
}

// peers says whether there is what speaks to them.
func (f *findings) peers(env Env) {
	if worker, err := findWorker(env); err != nil {
		f.note("no peers: %v", err)
	} else {
		f.ok("peers are spoken to by %s", worker)
	}
}

func (f *findings) settings(env Env, c *cli.Context) {
	s, err := loadSettings(env, c, cmdFetch)
	if err != nil {
		f.bad("configuration: %v", err)
		return
	}
	for _, list := range s.mirrorLists {
		if _, err := mirrorlist.Load(env.path(list), mirrorlist.Options{}); err != nil {
			f.bad("mirror list: %v", err)
		}
	}
	files := env.configFiles()
	if s.config != "" {
		files = []string{env.path(s.config)}
	}
	files = slices.DeleteFunc(files, func(p string) bool { _, err := os.Stat(p); return err != nil })
	if len(files) == 0 {
		f.ok("configuration: none, the defaults hold")
		return
	}
	f.ok("configuration: %s", strings.Join(files, ", "))
}

// machine checks what every download needs.
func (f *findings) machine(env Env) {
	if now := time.Now(); now.Year() < 2024 {
		f.bad("the clock says %s; certificates will look as if they were not valid yet", now.Format(time.DateOnly))
	}
	if pool, err := x509.SystemCertPool(); err != nil || pool.Equal(x509.NewCertPool()) {
		f.bad("no CA certificates: https cannot be verified; install ca-certificates")
	} else {
		f.ok("CA certificates are there")
	}
	dir := env.cacheDir()
	switch {
	case dir == "":
		f.note("what is learned of hosts is forgotten: there is no home directory")
	case !writable(dir):
		f.bad("cache directory not writable, so what is learned of hosts is forgotten: %s", dir)
	default:
		f.ok("what is learned of hosts is kept in %s", filepath.Join(dir, "hosts.json"))
	}
}

// writable tells whether dir, or the first directory above it that exists, may be written to.
func writable(dir string) bool {
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return err == nil
		}
		dir = filepath.Dir(dir)
	}
}

// program checks that others can run us.
func (f *findings) program(env Env, p pacmanConfig) {
	path := env.Executable
	if path == "" {
		f.note("the path of this program is not known")
		return
	}
	closed := ""
	for at := path; ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && info.Mode()&0o001 == 0 {
			closed = at
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	switch {
	case closed == "":
		f.ok("program: %s", path)
	case p.user != "":
		f.bad("program: other users cannot run %s because of the mode of %s; pacman downloads as user %s", path, closed, p.user)
	default:
		f.note("program: other users cannot run %s because of the mode of %s", path, closed)
	}
}

func (f *findings) confinement(env Env) {
	if env.UID != 0 {
		f.ok("confinement: none, as this is not root")
		return
	}
	// Nothing else needs these rights any more, so it can be tried in earnest.
	text, err := confine(env, reach{})
	if err != nil {
		f.bad("confinement: %s (%v)", text, err)
		return
	}
	f.ok("confinement: %s", text)
}

// pacmanConfig is what doctor wants to know of a pacman.conf.
type pacmanConfig struct {
	version  string   // "6.1.0"; "": not known
	xfer     []string // values of XferCommand
	cacheDir []string
	sigLevel []string
	user     string // DownloadUser
	sandbox  bool   // DisableSandbox is set
	repos    int
}

// pacman checks pacman's side. Without pacman there is nothing to be checked.
func (f *findings) pacman(env Env, file string, named bool) (p pacmanConfig) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		f.note("pacman is not configured here: there is no %s", file)
		return p
	}
	if err != nil {
		f.bad("%v", err)
		return p
	}
	p = parsePacmanConf(string(text))
	p.version = pacmanVersion(env)
	if p.version != "" {
		f.ok("pacman %s, configured in %s", p.version, file)
	} else {
		f.note("the version of pacman is not known; %s was read", file)
	}
	f.servers(p, file)
	f.xferCommand(env, p)
	for _, dirs := range p.cacheDir {
		list := strings.Fields(dirs)
		if len(list) > 1 {
			f.bad("CacheDir: more than one on a line; pacman 7.1.0 fails with that, give each its own line: %s", dirs)
		}
		for _, dir := range list {
			if env.UID == 0 && !writable(dir) {
				f.bad("CacheDir is not writable: %s", dir)
			}
		}
	}
	if strings.HasPrefix(p.version, "7.1") && p.sandbox && p.user != "" {
		f.bad("DisableSandbox with DownloadUser: pacman 7.1 then downloads as %s into a directory of root; remove one of them", p.user)
	}
	asksForSignatures := p.version != "" && !strings.HasPrefix(p.version, "5.") && !strings.HasPrefix(p.version, "6.0")
	if asksForSignatures && databasesOptional(p.sigLevel) {
		f.note("SigLevel: with DatabaseOptional each database without a signature costs pacman 2 s at every -Sy; " +
			"SigLevel = Required DatabaseNever spares them where repositories sign no databases")
	}
	return p
}

// servers checks the lists that pacman.conf names.
func (f *findings) servers(p pacmanConfig, file string) {
	l, err := mirrorlist.Load(file, mirrorlist.Options{})
	if errors.Is(err, mirrorlist.ErrNoServers) && p.repos == 0 {
		f.note("pacman has no repository in %s", file)
		return
	}
	if err != nil {
		f.bad("mirrors: %v", err)
		return
	}
	for _, w := range l.Warnings {
		f.note("mirrors: %s", w)
	}
	for _, r := range l.Repositories {
		n := len(r.Servers)
		if n == 1 && p.version == "6.1.0" {
			f.bad("repository %s has one Server: pacman 6.1.0 crashes when it asks for a signature there; update pacman or add a Server", r.Name)
			continue
		}
		f.ok("repository %s: %s", r.Name, plural(n, "server"))
	}
}

// xferCommand checks the lines by which pacman calls us.
func (f *findings) xferCommand(env Env, p pacmanConfig) {
	if len(p.xfer) == 0 {
		f.note("XferCommand: none, pacman downloads by itself")
		return
	}
	for _, command := range p.xfer {
		words := splitWords(command)
		if len(words) == 0 {
			f.bad("XferCommand is empty")
			continue
		}
		before := f.wrong
		for _, w := range words {
			if w != "%u" && w != "%o" && (strings.Contains(w, "%u") || strings.Contains(w, "%o")) {
				f.bad("XferCommand: pacman replaces %%u and %%o only where they are whole words: %s", w)
				break
			}
		}
		if filepath.Base(words[0]) != "torrent-xfer" {
			f.note("XferCommand: another program, %s", words[0])
			continue
		}
		if !filepath.IsAbs(words[0]) {
			f.bad("XferCommand: %s is no absolute path; pacman looks for it elsewhere", words[0])
		} else if _, err := exec.LookPath(words[0]); err != nil {
			f.bad("XferCommand: %s cannot be run", words[0])
		}
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") }) {
			f.bad("XferCommand: pacman knows no comment at the end of a line, it passes it on: %s", command)
		}
		if !strings.Contains(command, "%u") || !strings.Contains(command, "%o") {
			f.bad("XferCommand: %%u and %%o have both to be in it: %s", command)
		}
		if f.wrong > before {
			continue
		}
		if err := tryLine(env, words); err != nil {
			f.bad("XferCommand: %v: %s", err, command)
			continue
		}
		f.ok("XferCommand: %s", command)
	}
}

// tryLine reads the command line that pacman would make of words, as we would if it called us.
func tryLine(env Env, words []string) error {
	const from, to = "http://127.0.0.1/core/file", "/cache/file.part"
	line := slices.Clone(words)
	for i, w := range line {
		switch w {
		case "%u":
			line[i] = from
		case "%o":
			line[i] = to
		}
	}
	line, err := arrange(line)
	if err != nil {
		return err
	}
	env.Stdout, env.Stderr = io.Discard, io.Discard
	app, verdict := newApp(env), errors.New("this downloads nothing")
	app.Commands = nil
	app.Action = func(c *cli.Context) error {
		s, err := loadSettings(env, c, cmdFetch)
		if err != nil {
			return err
		}
		d := &download{env: env, settings: s}
		err = d.aim(c.Args().Slice())
		if err == nil && (d.url.String() != from || d.dest != to) {
			err = errors.New("%u has to be the URL and %o what is written")
		}
		verdict = err
		return err
	}
	if err := app.Run(line); err != nil {
		return err
	}
	return verdict
}

// parsePacmanConf reads the options that matter here, as pacman's src/common/ini.c reads lines.
func parsePacmanConf(text string) (p pacmanConfig) {
	section := ""
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		if l[0] == '[' && l[len(l)-1] == ']' {
			if section = l[1 : len(l)-1]; section != "options" {
				p.repos++
			}
			continue
		}
		key, value, _ := strings.Cut(l, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if key == "SigLevel" {
			p.sigLevel = append(p.sigLevel, value)
		}
		if section != "options" {
			continue
		}
		switch key {
		case "XferCommand":
			p.xfer = append(p.xfer, value)
		case "CacheDir":
			p.cacheDir = append(p.cacheDir, value)
		case "DownloadUser":
			p.user = value
		case "DisableSandbox":
			p.sandbox = true
		}
	}
	return p
}

// splitWords splits as pacman does (wordsplit in src/common/util-common.c): at blanks, outside of quotes.
func splitWords(command string) (words []string) {
	var word strings.Builder
	quote, open := rune(0), false
	for _, r := range command {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words
}

// databasesOptional tells whether some SigLevel makes pacman ask for signatures of databases that need not be there.
func databasesOptional(levels []string) bool {
	for _, l := range levels {
		optional := false
		for _, w := range strings.Fields(l) {
			switch w {
			case "Optional", "DatabaseOptional":
				optional = true
			case "Never", "Required", "DatabaseNever", "DatabaseRequired":
				optional = false
			}
		}
		if optional {
			return true
		}
	}
	return false
}

var versionWord = regexp.MustCompile(`Pacman v(\d+\.\d+\.\d+)`)

func pacmanVersion(env Env) string {
	program, err := findProgram(env, "pacman")
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), pacmanConfTime)
	defer cancel()
	out, err := runPacman(ctx, env, program, "--version")
	if err != nil {
		return ""
	}
	if m := versionWord.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return ""
}
