package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// createSettings is what only the verb create has.
type createSettings struct {
	metalink bool
}

func createSettingsTable() []setting {
	verbs := []string{"create"}
	return append([]setting{
		{name: "output", aliases: []string{"o"}, value: true, verbs: verbs,
			usage: "write to `FILE`, not beside the file with .torrent behind its name; - is standard output",
			set:   func(s *settings, v string) error { s.output = standard(v); return notEmpty(v) }},
		{name: "mirror", value: true, many: true, verbs: verbs,
			usage: "the file is at `URL` (a web seed); its name is appended if that ends in a slash",
			set:   func(s *settings, v string) error { s.mirrors = append(s.mirrors, v); return nil }},
		{name: "metalink", verbs: verbs, usage: "write a Metalink 4 too, with .meta4 in the place of .torrent",
			set: func(s *settings, v string) error { return parseBool(v, &s.create.metalink) }},
		{name: "json", verbs: verbs, usage: "print JSON",
			set: func(s *settings, v string) error { return parseBool(v, &s.json) }},
	}, torrentSettingsTable(verbs...)...)
}

// created is a torrent as the verb tells of it.
type created struct {
	File        string `json:"file"`
	Torrent     string `json:"torrent"`
	Metalink    string `json:"metalink,omitempty"`
	Name        string `json:"name"`
	Size        int64  `json:"size"`
	PieceLength int64  `json:"piece_length"`
	Pieces      int    `json:"pieces"`
	InfoHashV1  string `json:"info_hash_v1,omitempty"`
	InfoHashV2  string `json:"info_hash_v2,omitempty"`
	Magnet      string `json:"magnet"`
}

func createCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "create")
	if err != nil {
		return err
	}
	files := c.Args().Slice()
	switch {
	case len(files) == 0:
		return usageError("create takes files")
	case len(files) > 1 && s.output != "":
		return usageError("--output is for one file")
	case slices.Contains(files, "-"):
		return usageError("create reads no standard input: it takes the names of files")
	case len(files) > 1 && slices.ContainsFunc(s.mirrors, func(m string) bool { return !strings.HasSuffix(m, "/") }):
		return usageError("a --mirror that does not end in a slash is the URL of one file")
	case s.output == toStdout && (s.json || s.create.metalink):
		return usageError("standard output is for the torrent alone")
	case s.create.metalink && s.mirrors == nil:
		return usageError("--metalink needs a --mirror")
	}
	if err := s.make.check(webSeedsOf(s.mirrors, "x")); err != nil {
		return err
	}
	if err := checkDirectory(env, s.output); err != nil {
		return err
	}
	ctx, stop := (&download{settings: s}).lifetime()
	defer stop()
	list := []*created{}
	status := exitDone
	for _, file := range files {
		t, err := create(ctx, env, s, file)
		if err != nil {
			io.WriteString(env.Stderr, complain(err))
			if status = statusOf(err); status == exitInterrupted {
				break
			}
			continue
		}
		list = append(list, t)
		if s.output != toStdout && !s.json {
			t.print(env.Stdout)
		}
	}
	if s.json {
		e := json.NewEncoder(env.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(list); err != nil {
			return err
		}
	}
	if status != exitDone {
		return &failure{status: status, err: errSilent}
	}
	return nil
}

func (t *created) print(w io.Writer) {
	fmt.Fprintf(w, "%s  %s, %s of %s\n", printable(t.Torrent), formatBytes(float64(t.Size)), plural(t.Pieces, "piece"),
		formatBytes(float64(t.PieceLength)))
	for _, hash := range []struct{ version, hex string }{{"v1", t.InfoHashV1}, {"v2", t.InfoHashV2}} {
		if hash.hex != "" {
			fmt.Fprintf(w, "  info hash %s  %s\n", hash.version, hash.hex)
		}
	}
	fmt.Fprintf(w, "  %s\n", t.Magnet)
}

// create makes the torrent of one file, and its metalink.
func create(ctx context.Context, env Env, s settings, file string) (*created, error) {
	fail := func(err error) error {
		return &failure{status: statusOf(err), file: file, err: withoutPath(err), next: "no torrent was made"}
	}
	t := &created{File: file, Torrent: file + ".torrent", Name: filepath.Base(file)}
	if s.output != "" {
		t.Torrent = s.output
	}
	if s.create.metalink {
		t.Metalink = strings.TrimSuffix(t.Torrent, ".torrent") + ".meta4"
	}
	for _, output := range []string{t.Torrent, t.Metalink} {
		if err := mayReplace(env, output); err != nil {
			return nil, &failure{status: exitWrite, file: file, err: err, next: "remove it, or name another one with --output"}
		}
	}
	h, info, err := hashFile(ctx, env, s, file)
	if err != nil {
		return nil, fail(err)
	}
	seeds := webSeedsOf(s.mirrors, t.Name)
	data, err := metainfo.Build(t.Name, h, s.make.buildOptions(info.ModTime(), seeds))
	if err != nil {
		return nil, fail(err)
	}
	m, err := metainfo.Parse(data, t.Name)
	if err != nil {
		return nil, fail(err)
	}
	t.Size, t.PieceLength, t.Pieces = m.Size, m.PieceLength, m.Pieces()
	t.InfoHashV1, t.InfoHashV2 = m.InfoHashes()
	t.Magnet = metainfo.MagnetParts{InfoHashV1: t.InfoHashV1, InfoHashV2: t.InfoHashV2, Name: m.Name, Size: m.Size,
		Trackers: slices.Concat(m.Trackers...), WebSeeds: m.WebSeeds}.String()
	if t.Torrent == toStdout {
		_, err = env.Stdout.Write(data)
	} else {
		err = replaceFile(env.path(t.Torrent), data)
	}
	if err == nil && t.Metalink != "" {
		if data, err = metalinkOf(m, h, s.output == ""); err != nil {
			return nil, fail(err)
		}
		err = replaceFile(env.path(t.Metalink), data)
	}
	if err != nil {
		return nil, &failure{status: exitWrite, file: file, err: err}
	}
	return t, nil
}

// checkDirectory refuses an output in no directory before anything is read.
func checkDirectory(env Env, output string) error {
	dir := filepath.Dir(output)
	if info, err := os.Stat(env.path(dir)); err == nil && info.IsDir() || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &failure{status: exitWrite, err: fmt.Errorf("there is no directory %s", dir), next: "make it, or name another place with --output"}
}

// mayReplace refuses to put a torrent or a metalink where something else is.
func mayReplace(env Env, output string) error {
	if output == "" || output == toStdout {
		return nil
	}
	info, err := os.Lstat(env.path(output))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		data, err := readTorrent(env.path(output))
		if err == nil {
			_, err = metainfo.Parse(data, "")
		}
		if err != nil {
			_, err = metalink.Parse(data)
		}
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is there and is neither a torrent of one file nor a metalink", output)
}

func hashFile(ctx context.Context, env Env, s settings, file string) (*metainfo.Hashes, fs.FileInfo, error) {
	path := env.path(file)
	before, err := os.Stat(path) // first, since to open a FIFO would wait
	if err != nil {
		return nil, nil, err
	}
	if before.IsDir() {
		return nil, nil, errors.New("a directory; publish makes one for each file in it")
	}
	if !before.Mode().IsRegular() {
		return nil, nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	o := s.make.hashOptions()
	o.WholeSHA256 = s.create.metalink
	bar := startBar(env, filepath.Base(file), before.Size())
	o.OnBytes = bar.add
	h, err := metainfo.Hash(ctx, f, before.Size(), o)
	bar.stop()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, errChanged
	}
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && (after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		err = errChanged
	}
	return h, after, err
}

var errChanged = errors.New("it was changed while it was read")

// webSeedsOf are the URLs of the file of this name at the mirrors.
func webSeedsOf(mirrors []string, name string) (seeds []string) {
	for _, m := range mirrors {
		if strings.HasSuffix(m, "/") {
			m = metainfo.WebSeedURL(m, name)
		}
		seeds = append(seeds, m)
	}
	return seeds
}

// metalinkOf describes the file; beside says that the torrent lies beside it on the mirrors too.
func metalinkOf(m *metainfo.Manifest, h *metainfo.Hashes, beside bool) ([]byte, error) {
	f := metalink.File{Name: m.Name, Size: m.Size, SHA256: h.SHA256}
	if h.Pieces != nil {
		f.Pieces = metalink.Pieces{Length: h.PieceLength, Kind: metalink.SHA1, Hashes: h.Pieces}
	}
	for i, seed := range m.WebSeeds {
		f.URLs = append(f.URLs, metalink.URL{URL: seed, Priority: i + 1})
		if beside {
			f.Torrents = append(f.Torrents, metalink.URL{URL: seed + ".torrent", Priority: i + 1})
		}
	}
	var b bytes.Buffer
	err := metalink.Write(&b, &metalink.Document{Files: []metalink.File{f}})
	return b.Bytes(), err
}
