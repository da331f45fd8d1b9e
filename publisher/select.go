package publisher

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var (
	// published are packages, sources and images.
	published = regexp.MustCompile(`(?i)\.(g?pkg\.tar(\.[a-z0-9]+)?|nar\.[a-z0-9]+|src\.tar\.[a-z0-9]+|tar\.(gz|bz2|xz|zst|lz|lz4|lzma)|tgz|tbz2?|txz|tzst|` +
		`deb|udeb|ddeb|rpm|drpm|apk|ipk|opk|xbps|eopkg|pkg|snap|flatpak|appimage|` +
		`(iso|img|raw|qcow2|vmdk|vhdx?|vdi|wim|squashfs|sfs|ova|box)(\.(gz|bz2|xz|zst|lz4))?)$`)
	// never are names whose content changes, what only belongs to another file, and what we write.
	never = regexp.MustCompile(`(?i)^(.*\.(sig|asc|gpg|sign|minisig|torrent|meta4|metalink|zsync|part|tmp|lck|old|` +
		`md5|sha1|sha256|sha512|b2)|.*\.(db|files|links)(\.tar(\.[a-z0-9]+)?)?(\.old)?|(md5|sha1|sha256|sha512|b2)sums?(\.txt)?|` +
		`InRelease|Release|repomd\.xml|(packagesite|filesite|data|meta|digests)\.(pkg|t[a-z]+)|.*-(repodata|primary|filelists|other|updateinfo|comps|modules|prestodelta)([-.].*)?\.(xml|sqlite|yaml)(\.[a-z0-9]+)?)$`)
	// indexes are that too, unless they are packages: icons-in-terminal-1-1-any.pkg.tar.zst, index-tool_1.0_amd64.deb.
	indexes  = regexp.MustCompile(`(?i)^(Packages|Sources|Index|APKINDEX|Contents|Translation|Components|Commands|icons|dep11)([-.].*)?$`)
	packages = regexp.MustCompile(`(?i)\.(pkg\.tar\.[a-z0-9]+|u?deb|ddeb|d?rpm|apk|ipk|opk|xbps|eopkg)$`)
)

// choice decides by name and size.
type choice struct {
	include, exclude []string
	used             map[string]bool // those of include that some file's name fits
	minSize          int64
}

func newChoice(o Options) (choice, error) {
	c := choice{include: o.Include, exclude: o.Exclude, used: map[string]bool{}, minSize: o.MinSize}
	for _, list := range [][]string{o.Include, o.Exclude} {
		for _, pattern := range list {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return c, fmt.Errorf("%w: malformed pattern %q", ErrOptions, pattern)
			}
		}
	}
	switch {
	case c.minSize == 0:
		c.minSize = DefaultMinSize
	case c.minSize < 0:
		c.minSize = 1 // an empty file has no torrent
	}
	return c, nil
}

// hidden names are those of temporary files, of our own too.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }

func (c choice) excludes(file string) bool { return matches(c.exclude, file) }

// takes reports whether the file of this path below DIR is to be published, by its name.
func (c choice) takes(file string) bool {
	name := path.Base(file)
	if hidden(name) || never.MatchString(name) || indexes.MatchString(name) && !packages.MatchString(name) || c.excludes(file) {
		return false
	}
	if c.include != nil {
		taken := false
		for i, pattern := range c.include {
			if matches(c.include[i:i+1], file) {
				c.used[pattern], taken = true, true
			}
		}
		return taken
	}
	return published.MatchString(name)
}

// matches reports whether file matches one of the patterns (as path.Match has them): one with a slash the whole path, a
// slash at its beginning being that of DIR, others the last element.
func matches(patterns []string, file string) bool {
	for _, p := range patterns {
		name := file
		if !strings.Contains(p, "/") {
			name = path.Base(file)
		}
		if ok, _ := path.Match(strings.Trim(p, "/"), name); ok {
			return true
		}
	}
	return false
}

// output is what the name of a torrent or metalink begins with: the path below the directory of the outputs.
func (o *Options) output(file string) string {
	if o.Flat {
		return path.Base(file)
	}
	return file
}

const (
	torrentSuffix  = ".torrent"
	metalinkSuffix = ".meta4"
)

// isOutput returns the name of the file that an output is about.
func isOutput(name string) (file string, ok bool) {
	for _, suffix := range []string{torrentSuffix, metalinkSuffix} {
		if file, ok := strings.CutSuffix(name, suffix); ok && file != "" {
			return file, true
		}
	}
	return "", false
}
