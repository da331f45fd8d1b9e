package main

import (
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
)

var (
	// changing are names whose content changes under one URL; their torrents are never looked for.
	changing = regexp.MustCompile(`(?i)^(.*\.(sig|asc|gpg|torrent)|.*\.(db|files)(\.tar(\.[a-z0-9]+)?)?|InRelease|Release|repomd\.xml(\.key)?|` +
		`(Packages|Sources|Release|Index)(\.[a-z0-9]+)?|Translation-[^.]+(\.[a-z0-9]+)?|Contents-[^.]+(\.[a-z0-9]+)?)$`)
	database    = regexp.MustCompile(`\.(db|files)$`)
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
)

// torrentHint tells the engine where the torrent of u may be.
func torrentHint(env Env, location string, u *url.URL, mirrors []*url.URL, repository string) (fetcher.TorrentHint, error) {
	hint := fetcher.TorrentHint{Repository: repository}
	isVolatile := changing.MatchString(fileName(u))
	switch {
	case location == "none" || u.Scheme == "file":
	case location == "auto":
		if isVolatile {
			break
		}
		for _, m := range append([]*url.URL{u}, mirrors...) {
			hint.URLs = append(hint.URLs, sibling(m))
		}
	case strings.Contains(location, "{"):
		if isVolatile {
			break
		}
		return fromTemplate(env, location, u, mirrors, hint)
	case strings.Contains(location, "://"):
		at, err := url.Parse(location)
		if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return hint, usageError("--torrent: not an http or https URL")
		}
		hint.MetainfoURL = at
	default:
		data, err := readTorrent(env.path(location))
		if err != nil {
			return hint, usageError("--torrent: %w", err)
		}
		err = takeNamed(&hint, data, u)
		return hint, err
	}
	return hint, nil
}

// namesTorrent tells whether location is one torrent that has to be there.
func namesTorrent(location string) bool {
	return location != "auto" && location != "none" && !strings.Contains(location, "{")
}

func readTorrent(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, metainfo.MaxSize+1))
	if err == nil && len(data) == 0 {
		err = errors.New(file + " is empty")
	}
	return data, err
}

// sibling is the URL of the torrent that lies beside u.
func sibling(u *url.URL) *url.URL {
	t := *u
	t.Path, t.Fragment, t.RawFragment = t.Path+".torrent", "", ""
	if t.RawPath != "" {
		t.RawPath += ".torrent"
	}
	return &t
}

// fromTemplate fills the template for u and for each mirror.
func fromTemplate(env Env, template string, u *url.URL, mirrors []*url.URL, hint fetcher.TorrentHint) (fetcher.TorrentHint, error) {
	for _, p := range placeholder.FindAllString(template, -1) {
		if !slices.Contains([]string{"{url}", "{root}", "{file}"}, p) {
			return hint, usageError("--torrent: %s is none of {url}, {root}, {file}", p)
		}
	}
	below := "/" + lastSegment(u) // the file's path below the root of its repository
	if root, err := url.Parse(hint.Repository); err == nil && hint.Repository != "" {
		if rest, ok := strings.CutPrefix(u.EscapedPath(), root.EscapedPath()); ok && strings.HasPrefix(rest, "/") {
			below = rest
		}
	}
	seen := map[string]bool{}
	for _, m := range append([]*url.URL{u}, mirrors...) {
		bare := *m
		bare.RawQuery, bare.ForceQuery, bare.Fragment, bare.RawFragment = "", false, "", ""
		whole := bare.String()
		root, ok := strings.CutSuffix(whole, below)
		if !ok {
			continue
		}
		text := strings.NewReplacer("{url}", whole, "{root}", root, "{file}", lastSegment(m)).Replace(template)
		if seen[text] {
			continue
		}
		seen[text] = true
		if !strings.Contains(text, "://") {
			data, err := readTorrent(env.path(strings.ReplaceAll(template, "{file}", fileName(u))))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return hint, usageError("--torrent: %w", err)
			}
			err = takeNamed(&hint, data, u)
			return hint, err
		}
		at, err := url.Parse(text)
		if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
			return hint, usageError("--torrent: the template makes no http or https URL")
		}
		if len(hint.URLs) == 0 && at.Host != u.Host {
			hint.MetainfoURL = at // a place of the user's own choice
			return hint, nil
		}
		hint.URLs = append(hint.URLs, at)
	}
	return hint, nil
}
