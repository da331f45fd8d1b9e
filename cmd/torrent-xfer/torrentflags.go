package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"torrent-xfer/metainfo"
)

// torrentSettings is what the makers of torrents have in common.
type torrentSettings struct {
	version     metainfo.Version
	pieceLength int64 // bytes; 0: from the size
	trackers    [][]string
	nodes       []string
	private     bool
	comment     string
	createdBy   string
	source      string
	date        time.Time // zero: none
	dateOfFile  bool      // the date is the file's
	jobs        int       // 0: one for each processor
}

// torrentSettingsTable describes them for these verbs.
func torrentSettingsTable(verbs ...string) []setting {
	text := func(to func(*torrentSettings) *string) func(*settings, string) error {
		return func(s *settings, v string) error { *to(&s.make) = v; return nil }
	}
	return []setting{
		{name: "meta-version", value: true, verbs: verbs, usage: "make torrents of `VERSION` 1, 2 or hybrid, which is both (default: hybrid)",
			set: func(s *settings, v string) error {
				version, ok := map[string]metainfo.Version{"1": metainfo.V1, "2": metainfo.V2, "hybrid": metainfo.Hybrid}[v]
				if !ok {
					return fmt.Errorf("%q is none of 1, 2, hybrid", v)
				}
				s.make.version = version
				return nil
			}},
		{name: "piece-length", value: true, verbs: verbs, usage: "pieces have `SIZE` bytes: 256KiB, 1MiB (default: from the file's size)",
			set: func(s *settings, v string) error {
				if err := parseBytes(v, &s.make.pieceLength); err != nil {
					return err
				}
				if n := s.make.pieceLength; n < 16<<10 || n > 64<<20 || n&(n-1) != 0 {
					return fmt.Errorf("%q is not a power of two from 16KiB to 64MiB", v)
				}
				return nil
			}},
		{name: "tracker", value: true, many: true, verbs: verbs,
			usage: "announce to the tracker at `URL`; several with commas between them are one tier",
			set: func(s *settings, v string) error {
				s.make.trackers = append(s.make.trackers, strings.Split(v, ","))
				return nil
			}},
		{name: "private", verbs: verbs, usage: "peers are to be found through the trackers only",
			set: func(s *settings, v string) error { return parseBool(v, &s.make.private) }},
		{name: "node", value: true, many: true, verbs: verbs, usage: "`HOST:PORT` is a node of the DHT to begin with",
			set: func(s *settings, v string) error { s.make.nodes = append(s.make.nodes, v); return nil }},
		{name: "comment", value: true, verbs: verbs, usage: "the torrent's comment is `TEXT`",
			set: text(func(m *torrentSettings) *string { return &m.comment })},
		{name: "created-by", value: true, verbs: verbs, usage: "the torrent says that it was made by `TEXT` (default: nothing)",
			set: text(func(m *torrentSettings) *string { return &m.createdBy })},
		{name: "date", value: true, verbs: verbs,
			usage: "the torrent was made `WHEN`: mtime (of the file), seconds since 1970, 2026-01-31T12:00:00Z (default: nothing)",
			set: func(s *settings, v string) (err error) {
				s.make.dateOfFile, s.make.date = v == "mtime", time.Time{}
				if seconds, serr := strconv.ParseInt(v, 10, 64); serr == nil && seconds > 0 {
					s.make.date = time.Unix(seconds, 0)
				} else if !s.make.dateOfFile {
					if s.make.date, err = time.Parse(time.RFC3339, v); err != nil || s.make.date.Unix() <= 0 {
						return fmt.Errorf("%q is none of mtime, seconds since 1970, 2026-01-31T12:00:00Z", v)
					}
				}
				return nil
			}},
		{name: "source", value: true, verbs: verbs, usage: "`TEXT` in the info dictionary makes another info hash of the same content",
			set: text(func(m *torrentSettings) *string { return &m.source })},
		{name: "jobs", aliases: []string{"j"}, value: true, verbs: verbs, usage: "hash with `N` processors (default: all)",
			set: func(s *settings, v string) (err error) {
				if s.make.jobs, err = strconv.Atoi(v); err != nil || s.make.jobs < 1 {
					return fmt.Errorf("%q is not a number of jobs", v)
				}
				return nil
			}},
	}
}

func (m *torrentSettings) hashOptions() metainfo.HashOptions {
	return metainfo.HashOptions{Version: m.version, PieceLength: m.pieceLength, Workers: m.jobs}
}

// buildOptions are for a file that was modified then and is at webSeeds too.
func (m *torrentSettings) buildOptions(modified time.Time, webSeeds []string) metainfo.BuildOptions {
	o := metainfo.BuildOptions{WebSeeds: webSeeds, Trackers: m.trackers, Nodes: m.nodes, Private: m.private, Comment: m.comment,
		CreatedBy: m.createdBy, CreationDate: m.date, Source: m.source}
	if m.dateOfFile {
		o.CreationDate = modified
	}
	return o
}

// check refuses, before anything is read, what would make no torrent of any file. webSeeds are examples.
func (m *torrentSettings) check(webSeeds []string) error {
	h, err := metainfo.Hash(context.Background(), strings.NewReader("x"), 1, m.hashOptions())
	if err == nil {
		_, err = metainfo.Build("x", h, m.buildOptions(time.Unix(1, 0), webSeeds))
	}
	if err != nil {
		return usageError("%w", err)
	}
	return nil
}

// replaceFile makes data appear at path in one step, with the mode that new files have.
func replaceFile(path string, data []byte) error {
	dir, name := filepath.Split(path)
	f, err := os.OpenFile(fmt.Sprintf("%s.%.200s.%.8s", dir, name, rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
