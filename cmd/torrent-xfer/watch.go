package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
	"torrent-xfer/seeder"
)

const (
	barrenAfter = 8 // torrents looked for in vain, as downloads have it
	barrenFor   = 24 * time.Hour
	slowFailure = 5 * time.Second // of a mirror that is not asked for a while then
	restFor     = 10 * time.Minute
)

var errRests = errors.New("the mirror did not answer a moment ago")

// beside looks for the torrents of watched files beside the mirrors' files.
type beside struct {
	fetcher *fetcher.Fetcher
	roots   []string // URLs of directories that end in a slash

	mu    sync.Mutex
	known map[string]*root
}

// root is what was learned of one.
type root struct {
	has    bool // torrents
	misses int
	barren time.Time // until when it counts as one that has none
	rests  time.Time // until when it is not asked
}

// newBeside looks at roots; nil: where pacman's repositories are, each at its first server.
func newBeside(env Env, roots []string) *beside {
	b := &beside{fetcher: &fetcher.Fetcher{Transport: newTransport(env), UserAgent: userAgent(env)}, known: map[string]*root{}}
	if roots == nil {
		if l, err := loadIfThere(pacmanConfFile); err == nil && l != nil {
			for _, r := range l.Repositories {
				if len(r.Servers) > 0 && !strings.Contains(r.Servers[0].URL, "$") {
					roots = append(roots, r.Servers[0].URL)
				}
			}
		}
	}
	for _, root := range roots {
		if u, err := url.Parse(root); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
			b.roots = append(b.roots, strings.TrimSuffix(root, "/")+"/")
		}
	}
	return b
}

// find is a seeder.Daemon's Find.
func (b *beside) find(ctx context.Context, name string, size int64) (o seeder.Offer, err error) {
	missing := fmt.Errorf("%s: %w", name, seeder.ErrNoTorrent)
	if size < metainfo.BlockSize || changing.MatchString(name) {
		return o, missing
	}
	var failed error
	var without []string
	for _, root := range b.roots {
		barren, rests := b.skips(root)
		if barren {
			continue
		}
		if rests {
			failed = errRests
			continue
		}
		u, err := url.Parse(root + url.PathEscape(name) + ".torrent")
		if err != nil {
			continue
		}
		began := time.Now()
		data, err := b.fetcher.Load(ctx, u, metainfo.MaxSize)
		b.answered(root, err, time.Since(began))
		switch {
		case errors.Is(err, fetcher.ErrNotFound):
			without = append(without, root)
			continue
		case err != nil:
			failed = err
			continue
		}
		if m, err := metainfo.Parse(data, name); err != nil || m.Size != size {
			continue
		}
		o = seeder.Offer{Metainfo: data, URL: strings.TrimSuffix(bare(u), ".torrent"), Hosts: []string{u.Hostname()}}
		return o, nil
	}
	if failed != nil {
		return o, failed
	}
	b.missed(without)
	return o, missing
}

func (b *beside) at(name string) *root {
	r := b.known[name]
	if r == nil {
		r = &root{}
		b.known[name] = r
	}
	return r
}

// skips tells why a root is not asked now, if it is not.
func (b *beside) skips(name string) (barren, rests bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, now := b.at(name), time.Now()
	return now.Before(r.barren), now.Before(r.rests)
}

// answered is told what a root has answered, and after what time.
func (b *beside) answered(name string, err error, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r := b.at(name); {
	case err == nil:
		r.has = true
	case !errors.Is(err, fetcher.ErrNotFound) && took >= slowFailure:
		r.rests = time.Now().Add(restFor) // thousands of files would wait for it in turn
	}
}

// missed counts a file that no root had a torrent of: it may be of any of them, or of none.
func (b *beside) missed(names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if r := b.at(name); !r.has {
			if r.misses++; r.misses >= barrenAfter {
				r.misses, r.barren = 0, time.Now().Add(barrenFor)
			}
		}
	}
}
