package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/internal/peers"
	"torrent-xfer/metainfo"
)

const serveAbout = `The torrent beside a file (FILE.torrent) is used if there is one; else one is made, in memory. Each file is read once before it is
given. It is given until Ctrl-C (or SIGTERM), --seed-time or --seed-ratio, and no more once it is changed.

`

// serveSettings is what only the verb serve has.
type serveSettings struct {
	files []string
	write bool
}

func serveSettingsTable() []setting {
	verbs := []string{cmdServe}
	return append([]setting{
		{name: "file", aliases: []string{"f"}, value: true, many: true, verbs: verbs, usage: "give `FILE` to peers; several with commas between them",
			set: func(s *settings, v string) error {
				s.serve.files = append(s.serve.files, strings.Split(v, ",")...)
				return notEmpty(v)
			}},
		{name: "write-torrents", verbs: verbs, usage: "write a torrent beside each file that has none, with .torrent behind its name",
			set: func(s *settings, v string) error { return parseBool(v, &s.serve.write) }},
	}, torrentSettingsTable(verbs...)...)
}

func serveCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, cmdServe)
	if err != nil {
		return err
	}
	files := append(s.serve.files, c.Args().Slice()...)
	switch {
	case len(files) == 0:
		return usageError("serve takes files")
	case slices.Contains(files, "-"), slices.Contains(files, ""):
		return usageError("serve reads no standard input: it takes the names of files")
	}
	if err := s.make.check(nil); err != nil {
		return err
	}
	with, err := newCompany(env, s)
	if err != nil {
		if errors.Is(err, errNoWorker) {
			return noWorker("", err)
		}
		return err
	}
	job := newSeedJob(env, s, with)
	ctx, stop := (&download{settings: settings{}}).lifetime()
	defer stop()
	var magnets []string
	var paths []string
	for _, file := range files {
		o, magnet, err := offerFile(ctx, env, s, file)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(job.offers, func(other *offer) bool { return other.torrent.ID == o.torrent.ID }) {
			continue
		}
		job.offers, magnets, paths = append(job.offers, o), append(magnets, magnet), append(paths, env.path(file))
	}
	stop()
	if env.UID == 0 {
		text, err := confine(env, reach{read: paths, run: with.worker, listen: with.ports()})
		job.log.Info("confined", "in_force", text, "error", err)
	}
	var printed error
	job.onListen = func(port int) {
		for _, m := range magnets {
			if _, err := io.WriteString(env.Stdout, m+"\n"); err != nil && printed == nil {
				printed = fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
			}
		}
		if !s.quiet {
			fmt.Fprintf(env.Stderr, "torrent-xfer: giving %s at port %d\n", plural(len(job.offers), "file"), port)
		}
	}
	if err := job.run(); err != nil {
		return &failure{status: exitFailed, err: err, next: "run it again with --verbose"}
	}
	return printed
}

// offerFile verifies a file by the torrent beside it, or makes one of it.
func offerFile(ctx context.Context, env Env, s settings, file string) (*offer, string, error) {
	fail := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &failure{status: statusOf(err), file: file, err: withoutPath(err), next: "nothing was given to peers"}
	}
	beside := env.path(file) + ".torrent"
	data, err := readTorrent(beside)
	var was os.FileInfo
	switch {
	case err == nil:
		if was, err = verifyFile(ctx, env, file, data); err != nil {
			err = fmt.Errorf("%s.torrent: %w", filepath.Base(file), err)
		}
	case errors.Is(err, fs.ErrNotExist):
		var h *metainfo.Hashes
		if h, was, err = hashFile(ctx, env, s, file); err != nil {
			return nil, "", fail(err)
		}
		data, err = metainfo.Build(filepath.Base(file), h, s.make.buildOptions(was.ModTime(), nil))
		if err == nil && s.serve.write {
			if err = replaceFile(beside, data); err != nil {
				err = fmt.Errorf("%w: %w", fetcher.ErrWrite, err)
			}
		}
	}
	if err != nil {
		return nil, "", fail(err)
	}
	t, err := peers.TorrentOf(data)
	if err != nil {
		return nil, "", fail(err)
	}
	for _, tier := range s.make.trackers {
		if !slices.ContainsFunc(t.Trackers, func(known []string) bool { return slices.Equal(known, tier) }) {
			t.Trackers = append(t.Trackers, tier)
		}
	}
	m, err := metainfo.ParseAll(data)
	if err != nil {
		return nil, "", fail(err)
	}
	v1, v2 := m.InfoHashes()
	magnet := metainfo.MagnetParts{InfoHashV1: v1, InfoHashV2: v2, Name: m.Name, Size: m.Size, Trackers: slices.Concat(t.Trackers...), WebSeeds: m.WebSeeds}
	path := env.path(file)
	return &offer{torrent: t, name: m.Name, size: m.Size, open: func(int) (*os.File, error) { return asItWas(path, was) }}, magnet.String(), nil
}

// verifyFile reads a file that a torrent is of.
func verifyFile(ctx context.Context, env Env, file string, data []byte) (os.FileInfo, error) {
	m, err := metainfo.Parse(data, "")
	if err != nil {
		return nil, err
	}
	path := env.path(file)
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() != m.Size:
		return nil, fmt.Errorf("%w: the file has another size than the torrent says", fetcher.ErrWrong)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bar := startBar(env, filepath.Base(file), m.Size)
	defer bar.stop()
	buf := make([]byte, 256<<10)
	for i := range m.Pieces() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		_, ok, err := m.SumPiece(f, i, buf)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%w: piece %d of the file is another one than the torrent says", fetcher.ErrWrong, i)
		}
		bar.add(int(m.PieceSize(i)))
	}
	return info, nil
}
