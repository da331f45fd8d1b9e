package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
	"torrent-xfer/metalink"
)

// metalinkName are names of metalinks. A lone URL that ends so stands for the file that is described there.
var metalinkName = regexp.MustCompile(`(?i)\.(meta4|metalink)$`)

const namesTold = 10 // of the files in a metalink

// localMetalink reads the metalink that text, which is no URL, names; urlErr says why it is none. Anything else that
// stands there is not one.
func localMetalink(env Env, text string, urlErr error) ([]byte, error) {
	info, err := os.Stat(env.path(text))
	switch {
	case err != nil && metalinkName.MatchString(text) && !strings.Contains(text, "://"):
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no file %s", text)
		}
		return nil, usageError("%w", err)
	case err != nil || !info.Mode().IsRegular():
		return nil, urlErr
	}
	data, err := readTorrent(env.path(text))
	if err == nil && !metalink.IsXML(data) {
		giveUpRights(env)
		if _, err := metainfo.Describe(data); err == nil {
			return nil, &failure{status: exitUsage, err: fmt.Errorf("%s is a torrent, and no URL", text),
				next: "torrent-xfer --torrent " + text + " URL downloads with it"}
		}
		err = fmt.Errorf("%s is neither a URL nor a metalink", text)
	}
	if err != nil {
		return nil, usageError("%w", err)
	}
	return data, nil
}

// follow gets the metalink at d.url, which is to be followed, and aims at what it describes.
func (d *download) follow() error {
	f := d.fetcher()
	req := fetcher.Request{URL: d.url, Dest: d.env.path(fileName(d.url))}
	with, err := d.company(req)
	if err != nil {
		return err
	}
	d.confine(req, with, false, slog.New(slog.DiscardHandler))
	ctx, stop := d.lifetime()
	defer stop()
	began := time.Now()
	data, err := f.Load(ctx, d.url, metalink.MaxSize)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return d.fail(err)
	}
	if t := &d.settings.timeout; *t > 0 {
		*t = max(*t-time.Since(began), 1)
	}
	from := d.url
	if err := d.describe(data, fileName(from), from); err != nil {
		return &failure{status: exitFailed, file: fileName(from), err: err,
			next: "with DEST the metalink itself is kept, which may stand in the place of the URL then"}
	}
	return nil
}

// describe aims at the file that a metalink describes: the only one, or the one that DEST names. name is what the
// metalink is called; from is its location, nil: it is a file of the user's.
func (d *download) describe(data []byte, name string, from *url.URL) error {
	doc, err := metalink.Parse(data)
	if err != nil {
		return usageError("%w", err)
	}
	file, err := chooseFile(doc, filepath.Base(d.dest))
	if err != nil {
		return err
	}
	for _, u := range file.URLs {
		if at, err := parseURL(u.URL); err == nil && (from == nil || from.Scheme != "https" || at.Scheme == "https") {
			d.url = at
			break
		}
	}
	if d.url == nil || d.url == from {
		return usageError("the metalink names no http or https URL that may be asked")
	}
	d.metalink, d.referrer = file, from
	if d.dest != "" {
		return nil
	}
	if d.dest = file.Name; !isPlainName(d.dest) || strings.HasPrefix(d.dest, ".") {
		return unnamed("the metalink calls its file %q, which is no plain name", d.dest)
	}
	// Nobody has typed this name.
	if _, err := os.Lstat(d.env.path(d.dest)); err == nil && d.dest != metalinkName.ReplaceAllString(filepath.Base(name), "") {
		return unnamed("%s, as the metalink calls its file, exists", d.dest)
	}
	return nil
}

func unnamed(format string, args ...any) error {
	return &failure{status: exitUsage, err: fmt.Errorf(format, args...), next: "say where it goes"}
}

// chooseFile picks the only file, or the one called name.
func chooseFile(doc *metalink.Document, name string) (*metalink.File, error) {
	var names []string
	for i := range doc.Files {
		f := &doc.Files[i]
		if len(doc.Files) == 1 || path.Base(f.Name) == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	text := strings.Join(names[:min(len(names), namesTold)], ", ")
	if more := len(names) - namesTold; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return nil, usageError("the metalink describes several files: say which one to get, as DEST: %s", text)
}

func isPlainName(name string) bool {
	return !slices.Contains([]string{"", ".", "..", toStdout}, name) && !strings.ContainsAny(name, "/\x00") && printable(name) == name
}

// takeNamed takes a torrent or a metalink that the user named.
func takeNamed(hint *fetcher.TorrentHint, data []byte, u *url.URL) error {
	if !metalink.IsXML(data) {
		hint.Metainfo = data
		return nil
	}
	doc, err := metalink.Parse(data)
	if err == nil {
		hint.Metalink, err = chooseFile(doc, fileName(u))
	}
	if err != nil {
		return usageError("--torrent: %w", err)
	}
	return nil
}
