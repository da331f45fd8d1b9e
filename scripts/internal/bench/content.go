package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"
)

// fileName is what every file is called.
const fileName = "example-1.0-1-x86_64.pkg.tar.zst"

// content is a directory that mirrors serve: one file, and its torrent if it has one.
type content struct {
	dir    string
	size   int64
	sha256 string // hex; "" for zeros
	maker  string // of the torrent
}

func (c *content) file() string { return filepath.Join(c.dir, fileName) }

// content makes size bytes of random content, or of zeros that take no space.
func (b *bench) content(size int64, zeros bool) (*content, error) {
	c := &content{size: size}
	var err error
	if c.dir, err = os.MkdirTemp(b.memory, "content-"); err != nil {
		return nil, err
	}
	f, err := os.Create(c.file())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if zeros {
		err = f.Truncate(size)
	} else {
		h := sha256.New()
		_, err = io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8([32]byte{byte(size)}), size)
		c.sha256 = fmt.Sprintf("%x", h.Sum(nil))
	}
	if err != nil {
		return nil, err
	}
	// As mirrors have it after an rsync.
	return c, os.Chtimes(c.file(), time.Time{}, time.Unix(1700000000, 0))
}

// contentWithTorrent makes size bytes of random content and their v1 torrent.
func (b *bench) contentWithTorrent(size int64) (*content, error) {
	c, err := b.content(size, false)
	if err != nil {
		return nil, err
	}
	return c, b.addTorrent(c)
}

func (c *content) remove() { os.RemoveAll(c.dir) }

// libtorrentScript makes a torrent with libtorrent: argv is 1 for a v1 torrent and 0 for a hybrid, the file, the torrent, the
// piece length.
const libtorrentScript = `
import os, sys, libtorrent as lt
v1, path, out, piece = sys.argv[1:]
files = lt.file_storage()
lt.add_files(files, path)
t = lt.create_torrent(files, int(piece), lt.create_torrent.v1_only if v1 == "1" else 0)
lt.set_piece_hashes(t, os.path.dirname(path))
open(out, "wb").write(lt.bencode(t.generate()))
`

// addTorrent puts a v1 torrent beside the file: by mktorrent where it is installed.
func (b *bench) addTorrent(c *content) error {
	target := c.file() + ".torrent"
	os.Remove(target)
	exponent := pieceExponent(c.size)
	if mktorrent := b.installed["mktorrent"]; mktorrent != "" {
		c.maker = "mktorrent"
		return quiet(exec.Command(mktorrent, "-l", fmt.Sprint(exponent), "-o", target, c.file()))
	}
	c.maker = "anacrolix/metainfo"
	info := metainfo.Info{PieceLength: 1 << exponent}
	if err := info.BuildFromFilePath(c.file()); err != nil {
		return err
	}
	raw, err := bencode.Marshal(info)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := (&metainfo.MetaInfo{InfoBytes: raw}).Write(&out); err != nil {
		return err
	}
	return os.WriteFile(target, out.Bytes(), 0o644)
}

// addHybrid puts a hybrid torrent beside the file. false: there is no libtorrent to make it.
func (b *bench) addHybrid(c *content) (bool, error) {
	target := c.file() + ".torrent"
	os.Remove(target)
	python := b.python()
	if python == "" {
		return false, nil
	}
	c.maker = "libtorrent"
	return true, quiet(exec.Command(python, "-c", libtorrentScript, "0", c.file(), target, fmt.Sprint(1<<pieceExponent(c.size))))
}

// python is one that has libtorrent's bindings, "" if there is none.
func (b *bench) python() string {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if quiet(exec.Command(python, "-c", "import libtorrent")) == nil {
			return python
		}
	}
	return ""
}

// pieceExponent gives pieces of 256 KiB or more, and about a thousand of them at most.
func pieceExponent(size int64) int {
	e := 18
	for size>>e > 1024 {
		e++
	}
	return e
}

// quiet runs cmd and shows what it said only if it failed.
func quiet(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// same says whether two files have one content.
func same(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(fa, bufA)
		m, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return n == m && isEnd(errA) && isEnd(errB), nil
		}
	}
}

func isEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

// hashFile is one pass of hashing over a file, as a whole process. kind is "sha1" or "sha256".
func hashFile(kind, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var h hash.Hash = sha1.New()
	if kind == "sha256" {
		h = sha256.New()
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 64<<10))
	return err
}
