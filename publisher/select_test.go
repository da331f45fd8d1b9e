package publisher

import (
	"errors"
	"testing"
)

func TestWhatIsPublished(t *testing.T) {
	c, err := newChoice(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"core/os/x86_64/linux-6.1-1-x86_64.pkg.tar.zst", "foo-1-1-any.pkg.tar.xz", "foo-1-1-any.pkg.tar", "foo-1-1.src.tar.gz",
		"pool/main/f/foo/foo_1.0%2b1_amd64.deb", "foo-udeb_1_all.udeb", "foo-dbgsym_1_amd64.ddeb", "foo_1.0.orig.tar.xz",
		"foo_1.0-1.debian.tar.xz", "foo-1-1.x86_64.rpm", "foo-1-1.src.rpm", "foo-1_2.x86_64.drpm", "foo-1-r0.apk", "foo_1_mips.ipk",
		"foo-1_1.x86_64.xbps", "foo-1.txz", "foo-1.tgz", "foo-1.pkg", "foo.snap", "foo.flatpak", "foo.AppImage", "foo-1.eopkg",
		"archlinux-2026.01.01-x86_64.iso", "disk.img", "disk.img.xz", "disk.raw.zst", "disk.QCOW2", "box.vmdk", "root.squashfs",
		"icons-in-terminal-1-1-any.pkg.tar.zst", "index-tool_1.0_amd64.deb", "apkindex-tools-1-r0.apk", "contents-1-1.noarch.rpm",
		"sources.list-1-1-any.pkg.tar.zst", "md5sums-1.0-1.rpm", "release-tools_1_all.deb", "python-db-1-1-any.pkg.tar.zst",
	} {
		if !c.takes(name) {
			t.Errorf("%s is not published", name)
		}
	}
	for _, name := range []string{
		"core.db", "core.db.tar.gz", "core.files", "core.files.tar.zst", "core.links.tar.gz", "core.db.tar.gz.old", "core.db.sig",
		"foo-1-1-any.pkg.tar.zst.sig", "foo.deb.asc", "foo.iso.gpg", "foo.apk.minisig", "foo.xbps.sig2.sig",
		"Packages", "Packages.gz", "Packages.xz", "Sources.xz", "Release", "Release.gpg", "InRelease", "Contents-amd64.gz",
		"Translation-en.bz2", "Index", "Components-amd64.yml.xz", "icons-128x128.tar.gz", "Commands-amd64.xz",
		"repodata/repomd.xml", "repodata/0a1b-primary.xml.gz", "repodata/0a1b-filelists.sqlite.bz2", "APKINDEX.tar.gz",
		"APKINDEX.unsigned.tar.gz", "x86_64-repodata", "packagesite.pkg", "packagesite.txz", "data.pkg", "meta.txz", "digests.txz",
		"filesite.pkg", "eopkg-index.xml.xz", "sha256sums.txt", "SHA256SUMS", "foo.iso.sha256", "foo.iso.torrent", "foo.iso.meta4",
		"foo.iso.zsync", "foo.iso.part", ".foo.iso.Ab12", ".hidden.deb", "README", "index.html", "foo.dsc", "foo.changes", "foo.tar",
		".torrent-xfer-publish", ".torrent-xfer-publish.tmp.X",
	} {
		if c.takes(name) {
			t.Errorf("%s is published", name)
		}
	}
}

// Whatever the patterns say, what changes under its name, belongs to another file, or is ours stays out.
func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		include, exclude []string
		file             string
		want             bool
	}{
		{nil, []string{"*.deb"}, "pool/a.deb", false},
		{nil, []string{"pool/*.deb"}, "pool/a.deb", false},
		{nil, []string{"/pool/*.deb"}, "pool/a.deb", false},
		{nil, []string{"*.deb"}, "pool/a.rpm", true},
		{nil, []string{"pool/*.deb"}, "pool/x/a.deb", true}, // a star matches no slash
		{[]string{"*.dat"}, nil, "x/a.dat", true},
		{[]string{"*.dat"}, nil, "x/a.deb", false},
		{[]string{"x/*"}, nil, "x/a", true},
		{[]string{"x/*"}, nil, "y/a", false},
		{[]string{"[ab].?at"}, []string{"b*"}, "a.dat", true},
		{[]string{"[ab].?at"}, []string{"b*"}, "b.dat", false},
		{[]string{"*"}, nil, "core.db", false},
		{[]string{"*"}, nil, "a.deb.sig", false},
		{[]string{"*"}, nil, "a.deb.torrent", false},
		{[]string{".*"}, nil, ".hidden", false},
	} {
		c, err := newChoice(Options{Include: test.include, Exclude: test.exclude})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.takes(test.file); got != test.want {
			t.Errorf("include %q, exclude %q: %s: %v", test.include, test.exclude, test.file, got)
		}
	}
	for _, bad := range []string{"[", "", `a\`} {
		if _, err := newChoice(Options{Exclude: []string{bad}}); !errors.Is(err, ErrOptions) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestMinSize(t *testing.T) {
	for _, test := range []struct{ given, want int64 }{{0, 256 << 10}, {-1, 1}, {1000, 1000}} {
		if c, _ := newChoice(Options{MinSize: test.given}); c.minSize != test.want {
			t.Errorf("%d: %d", test.given, c.minSize)
		}
	}
}
