package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"torrent-xfer/metainfo"
	"torrent-xfer/mirrorlist"
	"torrent-xfer/publisher"
)

const aboutPublish = `Every package, image and source archive below DIR of 256 KiB or more gets a torrent, FILE.torrent beside it:
.pkg.tar.*, .deb, .udeb, .ddeb, .rpm, .drpm, .apk, .ipk, .opk, .xbps, .eopkg, .snap, .flatpak, .appimage, .gpkg.tar, .nar.*;
.iso, .img, .raw, .qcow2, .vmdk, .vdi, .vhd, .vhdx, .wim, .squashfs, .sfs, .ova, .box, packed or not; .tar.*, .tgz, .txz.
--include names others instead. Never published, whatever it says, are databases, indexes, signatures, digests, hidden
files, and what publish itself writes. --exclude wins over both.

A GLOB (*, ?, [a-z]) without a slash is for the last part of a name, with one for the whole path below DIR; --exclude also
leaves out directories. A --mirror is a URL that DIR itself has; of a --mirrorlist with $repo in it, the part before that.

A .meta4 names the torrent too, which aria2c then downloads by, and goes on seeding: it wants --seed-time=0. A run
without --metalink removes those of earlier ones.

Run it again after each sync: only what has changed is read. Torrents of files that have gone, or are published no more, are
removed; a torrent that others made stays as long as it fits its file. Links to files are names of their own, and their target is
read once; links to directories are not followed; links out of DIR, and what is no regular file, are left out with a note.
What was read stands in DIR/` + publisher.StateName + `, which may be deleted: then all is read again.

--json prints one object: files, unchanged, hashed (contents), hashed_bytes, written and removed (paths), notes and problems
(path, message), error. A problem with a file does not end the run; its status is 1 then.

`

// publishSettings is what only the verb publish has.
type publishSettings struct {
	out, state       string
	flat, metalink   bool
	include, exclude []string
	minSize          int64 // bytes; 0: the default; < 0: none
	check, dryRun    bool
	prune, force     bool
	idle             bool
}

func publishSettingsTable() []setting {
	verbs := []string{"publish"}
	toggle := func(name, usage string, to func(*publishSettings) *bool) setting {
		return setting{name: name, verbs: verbs, usage: usage,
			set: func(s *settings, v string) error { return parseBool(v, to(&s.publish)) }}
	}
	return append([]setting{
		{name: "out", value: true, verbs: verbs, usage: "write to a tree of the same shape in `DIR`, not beside the files",
			set: func(s *settings, v string) error { s.publish.out = v; return notEmpty(v) }},
		toggle("flat", "write all torrents into one directory: DIR/torrents, or --out", func(p *publishSettings) *bool { return &p.flat }),
		{name: "include", value: true, many: true, verbs: verbs, usage: "publish files that match `GLOB`, not the usual ones",
			set: func(s *settings, v string) error { s.publish.include = append(s.publish.include, v); return nil }},
		{name: "exclude", value: true, many: true, verbs: verbs, usage: "leave out files and directories that match `GLOB`",
			set: func(s *settings, v string) error { s.publish.exclude = append(s.publish.exclude, v); return nil }},
		{name: "min-size", value: true, verbs: verbs, usage: "leave out files of less than `SIZE` (default: 256KiB)",
			set: func(s *settings, v string) error {
				if v == "0" {
					s.publish.minSize = -1
					return nil
				}
				return parseBytes(v, &s.publish.minSize)
			}},
		{name: "mirror", value: true, many: true, verbs: verbs, usage: "DIR is at `URL` too: a web seed for each file; 16 at most",
			set: func(s *settings, v string) error { s.mirrors = append(s.mirrors, v); return nil }},
		{name: "mirrorlist", value: true, many: true, verbs: verbs, usage: "read such URLs from `FILE`: pacman mirrorlist, apt list, plain URLs",
			set: func(s *settings, v string) error { s.mirrorLists = append(s.mirrorLists, v); return nil }},
		toggle("metalink", "write a Metalink 4 beside each torrent too, as FILE.meta4", func(p *publishSettings) *bool { return &p.metalink }),
		{name: "state", value: true, verbs: verbs, usage: "remember in `FILE` what was read (default: " + publisher.StateName + " where the torrents go)",
			set: func(s *settings, v string) error { s.publish.state = v; return notEmpty(v) }},
		toggle("check", "read all files, compare them with their torrents, and write nothing", func(p *publishSettings) *bool { return &p.check }),
		toggle("prune", "remove torrents of files that are not there, whoever made them", func(p *publishSettings) *bool { return &p.prune }),
		toggle("force", "replace torrents that others made; let a tree without any file lose its torrents", func(p *publishSettings) *bool { return &p.force }),
		toggle("dry-run", "say what would be done, and do nothing", func(p *publishSettings) *bool { return &p.dryRun }),
		toggle("idle", "read and hash only while nobody else wants the disk and the processor", func(p *publishSettings) *bool { return &p.idle }),
		{name: "quiet", aliases: []string{"q"}, verbs: verbs, usage: "say nothing but what is wrong",
			set: func(s *settings, v string) error { return parseBool(v, &s.quiet) }},
		{name: "json", verbs: verbs, usage: "print JSON",
			set: func(s *settings, v string) error { return parseBool(v, &s.json) }},
	}, torrentSettingsTable(verbs...)...)
}

// told is what the verb publish prints with --json.
type told struct {
	Files       int      `json:"files"`
	Unchanged   int      `json:"unchanged"`
	Hashed      int      `json:"hashed"`
	HashedBytes int64    `json:"hashed_bytes"`
	Written     []string `json:"written"`
	Removed     []string `json:"removed"`
	Notes       []remark `json:"notes"`
	Problems    []remark `json:"problems"`
	Error       string   `json:"error,omitempty"`
}

// remark is something that a person may want to know.
type remark struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

func publishCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "publish")
	if err != nil {
		return err
	}
	if c.NArg() != 1 || c.Args().First() == "" {
		return usageError("publish takes one directory")
	}
	dir := env.path(c.Args().First())
	o, err := publishOptions(env, s, dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err == nil {
			err = fmt.Errorf("%s: not a directory; create makes the torrent of a file", dir)
		}
		return usageError("%w", err)
	}
	if o.Out != "" && !o.DryRun && !s.publish.check {
		if err := makeOut(o.Out, dir); err != nil {
			return &failure{status: exitWrite, err: err}
		}
	}
	if s.publish.idle {
		if err := beIdle(); err != nil {
			warn(env.Stderr, "the priority stays as it is: %v", err)
		}
	}
	confinePublish(env, dir, o, s)
	ctx, stop := (&download{settings: s}).lifetime()
	defer stop()
	t := &told{Written: []string{}, Removed: []string{}, Notes: []remark{}, Problems: []remark{}}
	p := &publishPrinter{env: env, s: s, t: t, bar: &hashBar{}, dir: filepath.Base(dir)}
	o.OnEvent = p.event
	work := publisher.Publish
	if s.publish.check {
		work = publisher.Check
	}
	report, err := work(ctx, dir, o)
	p.bar.stop()
	if err == nil && report.Files == 0 && !s.quiet {
		p.line("note: "+p.dir, "nothing here is to be published; --include, --exclude and --min-size say what is")
	}
	t.Files, t.Unchanged, t.Hashed, t.HashedBytes = report.Files, report.Unchanged, report.Hashed, report.HashedBytes
	if err != nil {
		f := &failure{status: exitFailed, err: err}
		switch {
		case errors.Is(err, errInterrupted):
			f.status = exitInterrupted
			f.next = "run it again: what was done is kept"
		case errors.Is(err, publisher.ErrOptions):
			f.status = exitUsage
		case errors.Is(err, publisher.ErrBusy):
			f.next = "wait until it is done"
		case errors.Is(err, publisher.ErrVanished):
			f.next = "if that is meant so and not a tree that is not mounted, say --force"
		case errors.Is(err, publisher.ErrState):
			f.status = exitWrite
			f.next = "run it as that user; whoever may delete the state may begin anew"
		case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
			f.status = exitWrite
			if o.Out == "" {
				f.next = "--out DIR writes elsewhere"
			}
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			f.status = exitWrite
			f.next = "make room and run it again: what was done is kept"
		default:
			f.next = "run it again when that is mended"
		}
		t.Error, err = printable(err.Error()), f
	} else if report.Problems > 0 {
		err = &failure{status: exitFailed, err: errSilent}
	}
	if s.json {
		e := json.NewEncoder(env.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if werr := e.Encode(t); werr != nil && err == nil {
			err = werr
		}
	} else if !s.quiet && t.Error == "" {
		fmt.Fprintln(env.Stdout, p.summary(report))
	}
	return err
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, errY := os.Stat(b)
	return err == nil && errY == nil && os.SameFile(x, y)
}

// makeOut makes the directory of --out, unless it is there. Whoever may enter DIR may enter it.
func makeOut(out, dir string) error {
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	like, err := os.Stat(dir)
	if err == nil {
		err = os.MkdirAll(out, 0o777)
	}
	if err != nil {
		return err
	}
	is, err := os.Stat(out)
	if err == nil && like.Mode()&0o555&^is.Mode() != 0 {
		err = os.Chmod(out, is.Mode().Perm()|like.Mode()&0o555)
	}
	return err
}

func publishOptions(env Env, s settings, dir string) (publisher.Options, error) {
	ps := s.publish
	o := publisher.Options{Flat: ps.flat, Include: ps.include, Exclude: ps.exclude, MinSize: ps.minSize,
		Version: s.make.version, PieceLength: s.make.pieceLength, Metalink: ps.metalink, Prune: ps.prune, Force: ps.force,
		DryRun: ps.dryRun, Jobs: s.make.jobs, DateOfFile: s.make.dateOfFile}
	for _, place := range []struct{ from, to *string }{{&ps.out, &o.Out}, {&ps.state, &o.State}} {
		if *place.from != "" {
			*place.to = env.path(*place.from)
		}
	}
	if ps.check && (ps.dryRun || ps.prune || ps.force) {
		return o, usageError("--check writes nothing; it does not go with --dry-run, --prune, --force")
	}
	var err error
	if o.Mirrors, err = publishMirrors(env, s); err != nil {
		return o, err
	}
	var examples []string
	for _, m := range o.Mirrors {
		examples = append(examples, m+"/x")
	}
	if err := s.make.check(examples); err != nil {
		return o, err
	}
	if o.Out != "" && !o.Flat && sameFile(o.Out, dir) {
		return o, usageError("--out is DIR itself; leave it out to write beside the files")
	}
	o.Build = s.make.buildOptions(s.make.date, nil)
	return o, nil
}

// publishMirrors are the URLs that DIR has, those of --mirror first.
func publishMirrors(env Env, s settings) (roots []string, err error) {
	add := func(text string) error {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(text, "?#") || u.User != nil {
			return errors.New("not the http or https URL of a directory, without login")
		}
		roots = append(roots, strings.TrimRight(text, "/"))
		return nil
	}
	for _, m := range s.mirrors {
		if err := add(m); err != nil {
			return nil, usageError("--mirror: %w", err)
		}
	}
	for _, file := range s.mirrorLists {
		list, err := mirrorlist.Load(env.path(file), mirrorlist.Options{})
		if err != nil {
			return nil, usageError("--mirrorlist: %w", err)
		}
		if n := len(list.Repositories); n > 1 {
			return nil, usageError("--mirrorlist: %s has servers of %d repositories, which are not one tree", file, n)
		}
		for _, r := range list.Repositories {
			for _, server := range r.Servers {
				root, _, _ := strings.Cut(server.URL, "/$")
				if server.Cache || strings.Contains(root, "$") || add(root) != nil {
					warn(env.Stderr, "%s: a server was left out that is not the http or https URL of a tree", file)
				}
			}
		}
	}
	different := map[string]bool{}
	for _, root := range roots {
		different[root] = true
	}
	if n := len(different); n > metainfo.MaxWebSeeds && !s.quiet {
		warn(env.Stderr, "%d mirrors; torrents name the first %d", n, metainfo.MaxWebSeeds)
	}
	return roots, nil
}

// confinePublish gives up what root could do beyond the trees that are read and written.
func confinePublish(env Env, dir string, o publisher.Options, s settings) {
	if env.UID != 0 {
		return
	}
	to := reach{read: []string{dir}}
	if !o.DryRun && !s.publish.check {
		out := dir
		if o.Out != "" {
			out = o.Out
		}
		to.write, to.shape = []string{out}, []string{out}
		if o.State != "" {
			to.write = append(to.write, filepath.Dir(o.State))
		}
	}
	if o.Out != "" {
		to.read = append(to.read, o.Out)
	}
	if o.State != "" {
		to.read = append(to.read, filepath.Dir(o.State))
	}
	if text, err := confine(env, to); err != nil && s.verbose {
		warn(env.Stderr, "not confined: %v (%s)", err, text)
	}
}

// publishPrinter tells what happens.
type publishPrinter struct {
	env Env
	s   settings
	t   *told
	bar *hashBar
	dir string
}

func (p *publishPrinter) event(e publisher.Event) {
	path := printable(e.Path)
	switch e.Kind {
	case publisher.Planned:
		if e.Bytes > 0 && !p.s.quiet && !p.s.publish.dryRun {
			p.bar = startBar(p.env, p.dir, e.Bytes)
		}
	case publisher.Progress:
		p.bar.add(int(e.Bytes))
	case publisher.Wrote:
		p.t.Written = append(p.t.Written, path)
		p.did("write", "wrote", path)
	case publisher.Removed:
		p.t.Removed = append(p.t.Removed, path)
		p.did("remove", "removed", path)
	case publisher.Note:
		p.t.Notes = append(p.t.Notes, remark{path, printable(e.Message)})
		if !p.s.quiet {
			p.line("note: "+path, e.Message)
		}
	case publisher.Problem:
		p.t.Problems = append(p.t.Problems, remark{path, printable(e.Message)})
		p.line(path, e.Message)
	}
}

// did tells of an output, if anybody wants to know.
func (p *publishPrinter) did(would, done, path string) {
	switch {
	case p.s.json || p.s.quiet:
	case p.s.publish.dryRun:
		fmt.Fprintf(p.env.Stdout, "would %s %s\n", would, path)
	case p.s.verbose:
		p.bar.above(func() { fmt.Fprintf(p.env.Stdout, "%s %s\n", done, path) })
	}
}

func (p *publishPrinter) line(path, text string) {
	p.bar.above(func() { io.WriteString(p.env.Stderr, "torrent-xfer: "+path+": "+printable(text)+"\n") })
}

func (p *publishPrinter) summary(r *publisher.Report) string {
	format := "%s, %d unchanged, %d hashed (%s); %d written, %d removed"
	if p.s.publish.dryRun {
		format = "dry run: %s, %d unchanged, %d to hash (%s); %d to write, %d to remove"
	}
	text := fmt.Sprintf(format, plural(r.Files, "file"), r.Unchanged, r.Hashed, formatBytes(float64(r.HashedBytes)), r.Written, r.Removed)
	if p.s.publish.check {
		text = fmt.Sprintf("%s checked (%s)", plural(r.Files, "file"), formatBytes(float64(r.HashedBytes)))
	}
	if r.Problems > 0 {
		text += ", " + plural(r.Problems, "problem")
	}
	return text
}
