package main

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"torrent-xfer/metainfo"
)

// A run that ends while it splits is gone on with, if what it left is right, and nothing is written through links that lead out.
func TestSplitGoesOn(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 5000)
	var pieces []byte
	for off := 0; off < len(content); off += 16 << 10 {
		sum := sha1.Sum(content[off:min(off+16<<10, len(content))])
		pieces = append(pieces, sum[:]...)
	}
	m, err := metainfo.ParseAll(fmt.Appendf(nil, "d4:infod5:filesld6:lengthi20000e4:pathl1:d1:aeed6:lengthi30000e4:pathl1:beee4:name3:set12:piece lengthi16384e6:pieces%d:%see", len(pieces), pieces))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	into := &tree{root: root, name: m.Name, files: m.Files(), want: []bool{true, true}}
	whole := into.gathered(dir, m)
	out := t.TempDir()
	os.Mkdir(filepath.Join(dir, "set"), 0o755)
	os.Symlink(out, filepath.Join(dir, "set/d"))
	os.WriteFile(whole, content, 0o644)
	if err := into.split(t.Context(), whole); err == nil {
		t.Fatal("a link out of the directory was followed")
	}
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("%v", left)
	}
	if info, err := os.Stat(whole); err != nil || info.Size() != 20000 {
		t.Fatalf("%v, %v", info, err)
	}
	os.Remove(filepath.Join(dir, "set/d"))
	if !into.goOn(t.Context(), m, whole) {
		t.Fatal("what is left is not taken")
	}
	if err := into.split(t.Context(), whole); err != nil || !into.isThere(t.Context(), m) {
		t.Fatalf("%v", err)
	}
	os.WriteFile(whole, make([]byte, 20000), 0o644)
	if into.goOn(t.Context(), m, whole) {
		t.Error("wrong bytes are taken")
	}
}
