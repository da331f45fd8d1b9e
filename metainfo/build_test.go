package metainfo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/anacrolix/torrent/bencode"
)

var versions = map[string]Version{"hybrid": Hybrid, "v1": V1, "v2": V2}

func hashesOf(t testing.TB, content []byte, version Version, pieceLength int64) *Hashes {
	t.Helper()
	h, err := Hash(context.Background(), bytes.NewReader(content), int64(len(content)), HashOptions{Version: version, PieceLength: pieceLength})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func build(t testing.TB, name string, h *Hashes, o BuildOptions) []byte {
	t.Helper()
	data, err := Build(name, h, o)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBuildMakesWhatLibtorrentMakes(t *testing.T) {
	files := map[string]struct {
		name    string
		content []byte
	}{
		"":       {"a b+c.pkg", torrentContent(1, 100_001)},
		"-small": {"small.pkg", torrentContent(2, 20_000)},
		"-tiny":  {"tiny.pkg", torrentContent(3, 10)},
	}
	for kind, version := range versions {
		for suffix, file := range files {
			data := build(t, file.name, hashesOf(t, file.content, version, 32<<10), BuildOptions{})
			if want := torrentFixture(t, kind+suffix); !bytes.Equal(data, want) {
				t.Errorf("%s%s:\n%q instead of\n%q", kind, suffix, data, want)
			}
		}
	}
	lines, err := os.ReadFile("testdata/torrents/info-hashes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		var kind, v1, v2 string
		var seed uint32
		var size int
		var pieceLength int64
		if _, err := fmt.Sscan(line, &kind, &seed, &size, &pieceLength, &v1, &v2); err != nil {
			t.Fatal(line, err)
		}
		content := torrentContent(seed, size)
		m, err := Parse(build(t, "some.pkg", hashesOf(t, content, versions[kind], pieceLength), BuildOptions{}), "some.pkg")
		if err != nil {
			t.Fatal(err)
		}
		checkPieces(t, m, content)
		is1, is2 := m.InfoHashes()
		if is1 != strings.TrimPrefix(v1, "-") || is2 != strings.TrimPrefix(v2, "-") {
			t.Errorf("%s is %q, %q", line, is1, is2)
		}
	}
}

func TestBuildWritesWhatIsAskedFor(t *testing.T) {
	h := hashesOf(t, torrentContent(1, 100_001), Hybrid, 0)
	type dict = map[string]any
	for _, test := range []struct {
		o          BuildOptions
		meta, info dict // what is there beside the hashes
	}{
		{BuildOptions{}, dict{}, dict{}},
		{BuildOptions{WebSeeds: []string{"https://a.example/f%20%25%2B:~.pkg", "http://b.example/x y", "https://a.example/f%20%25%2B:~.pkg"}},
			dict{"url-list": []any{"https://a.example/f%20%25%2B:~.pkg", "http://b.example/x%20y"}}, dict{}},
		{BuildOptions{Trackers: [][]string{{"http://t.example/announce"}}}, dict{"announce": "http://t.example/announce"}, dict{}},
		{BuildOptions{Trackers: [][]string{nil, {"udp://t.example:1/a", "http://u.example/a"}, {"udp://t.example:1/a"}, {"https://v.example/a"}}},
			dict{"announce": "udp://t.example:1/a",
				"announce-list": []any{[]any{"udp://t.example:1/a", "http://u.example/a"}, []any{"https://v.example/a"}}}, dict{}},
		{BuildOptions{Nodes: []string{"router.example:6881", "[2001:db8::1]:1"}},
			dict{"nodes": []any{[]any{"router.example", int64(6881)}, []any{"2001:db8::1", int64(1)}}}, dict{}},
		{BuildOptions{Private: true, Source: "EXAMPLE", Comment: "é", CreatedBy: "me", CreationDate: time.Unix(1_700_000_000, 999)},
			dict{"comment": "é", "created by": "me", "creation date": int64(1_700_000_000)}, dict{"private": int64(1), "source": "EXAMPLE"}},
	} {
		data := build(t, "f.pkg", h, test.o)
		var meta dict
		if err := bencode.Unmarshal(data, &meta); err != nil {
			t.Fatal(err)
		}
		info := meta["info"].(dict)
		for _, key := range []string{"name", "piece length", "length", "pieces", "meta version", "file tree"} {
			delete(info, key)
		}
		delete(meta, "info")
		delete(meta, "piece layers")
		if !reflect.DeepEqual(meta, test.meta) || !reflect.DeepEqual(info, test.info) {
			t.Errorf("%+v: %v, %v", test.o, meta, info)
		}
		if !bytes.Equal(data, build(t, "f.pkg", h, test.o)) {
			t.Errorf("%+v: not twice the same", test.o)
		}
	}
}

func TestBuildKeepsTheFirstWebSeeds(t *testing.T) {
	var seeds []string
	for i := range 40 {
		seeds = append(seeds, fmt.Sprintf("http://mirror%d.example/f.pkg", i/2))
	}
	m, err := Parse(build(t, "f.pkg", hashesOf(t, []byte("x"), V1, 0), BuildOptions{WebSeeds: seeds}), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(m.WebSeeds) != 16 || m.WebSeeds[15] != "http://mirror15.example/f.pkg" {
		t.Error(m.WebSeeds)
	}
}

// A torrent costs less than 1 KiB beside its hashes and URLs.
func TestBuildIsSmall(t *testing.T) {
	h := hashesOf(t, torrentContent(1, 500_000), Hybrid, 0)
	o := BuildOptions{Private: true, CreationDate: time.Now(), Comment: strings.Repeat("c", 80), CreatedBy: "torrent-xfer 0.1.0", Source: "EXAMPLE",
		WebSeeds: []string{"http://a.example/f", "http://b.example/f"}, Trackers: [][]string{{"http://t.example/a"}, {"udp://t.example:1/a"}}}
	data := build(t, strings.Repeat("n", 255), h, o)
	if rest := len(data) - len(h.Pieces) - len(h.Layer); rest >= 1024+80 {
		t.Errorf("%d bytes", rest)
	}
	if rest := len(build(t, strings.Repeat("n", 100), h, BuildOptions{})) - len(h.Pieces) - len(h.Layer); rest > 500 {
		t.Errorf("%d bytes without options", rest)
	}
}

func TestBuildRefuses(t *testing.T) {
	h := hashesOf(t, torrentContent(1, 100_001), Hybrid, 0)
	for _, name := range []string{"", ".", "..", "a/b", "a\nb", "a\x1bb", "\xff", strings.Repeat("n", 256)} {
		if _, err := Build(name, h, BuildOptions{}); err == nil {
			t.Errorf("name %q", name)
		}
	}
	var many []string
	for i := range maxURLs + 1 {
		many = append(many, fmt.Sprintf("http://t%d.example/", i))
	}
	for _, o := range []BuildOptions{
		{WebSeeds: []string{"http://a.example/f", "ftp://a.example/f"}},
		{WebSeeds: []string{"http://user:secret@a.example/f"}},
		{WebSeeds: []string{"http://a.example/f\n"}},
		{WebSeeds: []string{"http://a.example/"}}, // the name would be appended
		{WebSeeds: []string{"a.example/f"}},
		{WebSeeds: []string{""}},
		{WebSeeds: []string{"http://a.example/" + strings.Repeat("x", maxURL)}},
		{Trackers: [][]string{{"ws://t.example/"}}},
		{Trackers: [][]string{{"http://user:secret@t.example/"}}},
		{Trackers: [][]string{{"udp://t.example:0/"}}},
		{Trackers: [][]string{{""}}},
		{Trackers: [][]string{many}},
		{Nodes: []string{"router.example"}},
		{Nodes: []string{"router.example:0"}},
		{Nodes: []string{"router.example:1/x"}},
		{Nodes: []string{"user@router.example:1"}},
		{Nodes: []string{"2001:db8::1:6881"}},
		{Nodes: []string{"rou\xffter.example:1"}},
		{Nodes: []string{"router.example:1"}, Private: true},
		{Comment: "two\nlines"}, {Comment: "\xff"}, {CreatedBy: "\x1b[2J"}, {Source: "\u0085"},
		{Comment: strings.Repeat("c", maxBesideHashes)},
	} {
		data, err := Build("f.pkg", h, o)
		if err == nil {
			t.Errorf("%.200v", o)
		} else if data != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
	for _, wrong := range []Hashes{
		*hashesOf(t, nil, Hybrid, 0), *hashesOf(t, nil, V1, 0), *hashesOf(t, nil, V2, 0),
		{}, {Size: 1, PieceLength: 1 << 14}, {Size: 1, PieceLength: 3, Version: V1, Pieces: make([]byte, 20)},
		{Size: -1, PieceLength: 1 << 14, Version: V1}, {Size: 1, PieceLength: 1 << 14, Version: V2},
		{Size: h.Size, PieceLength: h.PieceLength, Pieces: h.Pieces, Layer: h.Layer, Root: [32]byte{1}},
	} {
		if _, err := Build("f.pkg", &wrong, BuildOptions{}); err == nil {
			t.Errorf("%+v", wrong)
		}
	}
}

func TestInfoHashes(t *testing.T) {
	for torrent, want := range map[string][2]int{"v1": {40, 0}, "v2": {0, 64}, "hybrid": {40, 64}} {
		m, err := Parse(torrentFixture(t, torrent), "")
		if err != nil {
			t.Fatal(err)
		}
		if v1, v2 := m.InfoHashes(); len(v1) != want[0] || len(v2) != want[1] {
			t.Errorf("%s: %q, %q", torrent, v1, v2)
		}
	}
}

// Whatever Build returns, Parse reads all of it back.
func FuzzBuild(f *testing.F) {
	f.Add("f.pkg", uint32(100_001), uint8(0), uint8(0), "http://a.example/f%2B.pkg http://b.example/x", "http://t.example/a,udp://t.example:1/ https://v.example", "r.example:1 [::1]:2", "c", "m", "s", int64(1), false)
	f.Add("é ~.deb", uint32(16384), uint8(1), uint8(2), "", "", "", "", "", "", int64(0), true)
	f.Add("a/b", uint32(0), uint8(2), uint8(1), "ftp://a.example/", "x", "y", "\n", "\xff", "\x00", int64(-1), true)
	content := torrentContent(1, 1<<18)
	f.Fuzz(func(t *testing.T, name string, size uint32, version, shift uint8, seeds, trackers, nodes, comment, by, source string, date int64, private bool) {
		content := content[:size%(1<<18)]
		h, err := Hash(context.Background(), bytes.NewReader(content), int64(len(content)),
			HashOptions{Version: Version(version % 3), PieceLength: BlockSize << (shift % 5), Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		o := BuildOptions{WebSeeds: strings.Fields(seeds), Nodes: strings.Fields(nodes), Private: private, Comment: comment, CreatedBy: by, Source: source}
		if date != 0 {
			o.CreationDate = time.Unix(date, 0)
		}
		trackerCount, seen := 0, map[string]bool{}
		for tier := range strings.FieldsSeq(trackers) {
			o.Trackers = append(o.Trackers, strings.Split(tier, ","))
		}
		data, err := Build(name, h, o)
		if err != nil {
			return
		}
		m, err := Parse(data, name)
		if err != nil {
			t.Fatalf("%v: %q", err, data)
		}
		var meta any
		if err := bencode.Unmarshal(data, &meta); err != nil {
			t.Fatal(err)
		}
		if again, err := bencode.Marshal(meta); err != nil || !bytes.Equal(again, data) {
			t.Errorf("not canonical: %q", data)
		}
		if m.Size != int64(len(content)) || !utf8.ValidString(name) {
			t.Errorf("size %d, name %q", m.Size, name)
		}
		for i := range m.Pieces() {
			if _, ok, err := m.SumPiece(bytes.NewReader(content), i, make([]byte, 64<<10)); !ok || err != nil {
				t.Errorf("piece %d: %v, %v", i, ok, err)
			}
		}
		for _, tier := range m.Trackers {
			trackerCount += len(tier)
		}
		for _, tier := range o.Trackers {
			for _, s := range tier {
				clean, _ := cleanURL(s, "http", "https", "udp")
				seen[clean] = true
			}
		}
		if trackerCount != len(seen) {
			t.Errorf("%q became %q", o.Trackers, m.Trackers)
		}
		clear(seen)
		for _, s := range o.WebSeeds {
			clean, _ := cleanURL(s, "http", "https")
			seen[clean] = true
		}
		if len(m.WebSeeds) != min(len(seen), MaxWebSeeds) {
			t.Errorf("%q became %q", o.WebSeeds, m.WebSeeds)
		}
	})
}
