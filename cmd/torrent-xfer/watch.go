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
)

// beside looks for the torrents of watched files beside the mirrors' files.
type beside struct {
	fetcher *fetcher.Fetcher
	roots   []string // URLs of directories that end in a slash

	mu     sync.Mutex
	barren map[string]*barren
}

// barren is a root that has had no torrents for a while.
type barren struct {
	misses int
	until  time.Time
}

// newBeside looks at roots; nil: where pacman's repositories are, each at its first server.
func newBeside(env Env, roots []string) *beside {
	b := &beside{fetcher: &fetcher.Fetcher{Transport: newTransport(env), UserAgent: userAgent(env)}, barren: map[string]*barren{}}
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
	for _, root := range b.roots {
		if b.isBarren(root) {
			continue
		}
		u, err := url.Parse(root + url.PathEscape(name) + ".torrent")
		if err != nil {
			continue
		}
		data, err := b.fetcher.Load(ctx, u, metainfo.MaxSize)
		b.note(root, err)
		switch {
		case errors.Is(err, fetcher.ErrNotFound):
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
	return o, missing
}

func (b *beside) isBarren(root string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.barren[root]
	return s != nil && time.Now().Before(s.until)
}

func (b *beside) note(root string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.barren[root]
	if s == nil {
		s = &barren{}
		b.barren[root] = s
	}
	switch {
	case err == nil:
		s.misses = 0
	case errors.Is(err, fetcher.ErrNotFound):
		if s.misses++; s.misses >= barrenAfter {
			s.misses, s.until = 0, time.Now().Add(barrenFor)
		}
	}
}
