package metainfo

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// v1Files is the torrent of files of these lengths at these paths; a path of nothing is padding.
func v1Files(pieceLength int, files ...any) []byte {
	var list strings.Builder
	total := 0
	for i := 0; i < len(files); i += 2 {
		n := files[i+1].(int)
		total += n
		attr := ""
		if files[i] == "" {
			files[i], attr = fmt.Sprintf(".pad/%d", i), "4:attr1:p"
		}
		fmt.Fprintf(&list, "d%s6:lengthi%de4:pathl", attr, n)
		for _, elem := range strings.Split(files[i].(string), "/") {
			fmt.Fprintf(&list, "%d:%s", len(elem), elem)
		}
		list.WriteString("ee")
	}
	content := bytes.Repeat([]byte{0}, total)
	var pieces []byte
	for off := 0; off < total; off += pieceLength {
		sum := sha1.Sum(content[off:min(off+pieceLength, total)])
		pieces = append(pieces, sum[:]...)
	}
	return fmt.Appendf(nil, "d4:infod5:filesl%se4:name3:set12:piece lengthi%de6:pieces%d:%see", list.String(), pieceLength, len(pieces), pieces)
}

func TestParseAllPaths(t *testing.T) {
	for _, bad := range [][]any{{"../x", 1}, {"a/../x", 1}, {"a//x", 1}, {"./x", 1}, {"a\x00b", 1}, {"a\n", 1}, {"a", 1, "a", 1}, {"a", 1, "a/b", 1}, {"a/b", 1, "a", 0},
		{"a/b", 1, "a!", 1, "a", 1}, {strings.Repeat("x", 256), 1}, {"a", 0}} {
		if m, err := ParseAll(v1Files(16<<10, bad...)); !errors.Is(err, ErrUnusable) {
			t.Errorf("%q: %v, %v", bad, m, err)
		}
	}
	m, err := ParseAll(v1Files(16<<10, "a", 100, "", 16<<10-100, "b/c", 20000, "b!", 0, "e", 7))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range m.Files() {
		got = append(got, fmt.Sprint(strings.Join(f.Path, "/"), " ", f.Offset, " ", f.Size))
	}
	if text := strings.Join(got, ", "); text != "a 0 100, b/c 16384 20000, b! 36384 0, e 36384 7" || m.Size != 36391 || m.Pieces() != 3 {
		t.Errorf("%s; %d bytes, %d pieces", text, m.Size, m.Pieces())
	}
	if _, err := Parse(v1Files(16<<10, "a", 1, "b", 1), ""); err == nil {
		t.Error("several files are taken for one")
	}
}

// What is written of it is read again.
func TestParseAllJSON(t *testing.T) {
	m, err := ParseAll(v1Files(16<<10, "a", 100, "b", 20000))
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var again Manifest
	if err := again.UnmarshalJSON(text); err != nil || !again.Equal(m) || len(again.Files()) != 2 || !bytes.Equal(again.Metainfo(), m.Metainfo()) {
		t.Errorf("%+v, %v", again, err)
	}
}

// FuzzParseAll: a torrent of several files has files that lie beside each other, and hashes for all of them.
func FuzzParseAll(f *testing.F) {
	f.Add(v1Files(16<<10, "a", 100, "", 16<<10-100, "b/c", 20000, "e", 0))
	f.Add([]byte("d4:infod9:file treed1:ad0:d6:lengthi1e11:pieces root32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaee1:bd0:d6:lengthi2e11:pieces root32:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbeee12:meta versioni2e4:name1:x12:piece lengthi16384ee12:piece layersdee"))
	f.Add([]byte("d4:infod9:file treed1:0d0:d6:lengthi1e11:pieces root32:00000000000000000000000000000000ee1:1d0:d6:lengthi0e11:x000000000032:00000000000000000000000000000000eee12:meta versioni2e4:name1:012:piece lengthi16384eee")) // an empty file behind the last piece
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseAll(data)
		if err != nil {
			if !errors.Is(err, ErrUnusable) {
				t.Errorf("%v", err)
			}
			return
		}
		end := int64(0)
		for _, f := range m.Files() {
			if f.Size > 0 && f.Offset < end || f.Size < 0 || len(f.Path) == 0 {
				t.Errorf("%+v begins before %d", f, end)
			}
			end = max(end, f.Offset+f.Size)
			for _, elem := range f.Path {
				if checkName(elem) != nil {
					t.Errorf("%q", f.Path)
				}
			}
		}
		if end > m.Size || len(m.hashes) != m.Pieces()*m.hashLength() || int64(m.Pieces()) != pieceCount(m.Size, m.PieceLength) {
			t.Errorf("%d of %d bytes, %d pieces", end, m.Size, m.Pieces())
		}
		if again, err := ParseAll(m.Metainfo()); m.Metainfo() != nil && (err != nil || !again.Equal(m)) {
			t.Errorf("its own metainfo: %v", err)
		}
	})
}
