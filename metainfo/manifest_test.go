package metainfo

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anacrolix/torrent/bencode"
	anacrolix "github.com/anacrolix/torrent/metainfo"
)

// torrentContent is the twin of content in testdata/torrents/make.sh.
func torrentContent(seed uint32, size int) []byte {
	state, data := seed, make([]byte, size)
	for i := range data {
		state = (state*1103515245 + 12345) & 0x7fffffff
		data[i] = byte(state >> 16)
	}
	return data
}

func torrentFixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "torrents", name+".torrent"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseOfRealPrograms(t *testing.T) {
	pkg, small, tiny := torrentContent(1, 100_001), torrentContent(2, 20_000), torrentContent(3, 10)
	one, two, three := torrentContent(5, 70_000), torrentContent(6, 50_000), torrentContent(7, 32_768)
	tests := []struct {
		torrent, name string
		content       []byte
	}{
		{"mktorrent-v1", "", pkg},
		{"mktorrent-v1", "a b+c.pkg", pkg},
		{"mktorrent-one-seed", "small.pkg", small},
		{"v1", "", pkg}, {"v2", "", pkg}, {"hybrid", "", pkg},
		{"v1-small", "", small}, {"v2-small", "", small}, {"hybrid-small", "", small},
		{"v1-tiny", "", tiny}, {"v2-tiny", "", tiny}, {"hybrid-tiny", "", tiny},
		{"v1-empty", "", nil}, {"v2-empty", "empty.pkg", nil},
		{"v1-pads", "one.pkg", one}, {"v1-pads", "two.pkg", two}, {"v1-pads", "three.pkg", three},
		{"v2-multi", "one.pkg", one}, {"v2-multi", "two.pkg", two}, {"v2-multi", "three.pkg", three},
		{"hybrid-multi", "one.pkg", one}, {"hybrid-multi", "two.pkg", two}, {"hybrid-multi", "three.pkg", three},
	}
	for _, test := range tests {
		t.Run(test.torrent+"/"+test.name, func(t *testing.T) {
			data := torrentFixture(t, test.torrent)
			m, err := Parse(data, test.name)
			if err != nil {
				t.Fatal(err)
			}
			if m.Size != int64(len(test.content)) || m.PieceLength != 32<<10 {
				t.Errorf("size %d, piece length %d", m.Size, m.PieceLength)
			}
			if test.name != "" && m.Name != test.name {
				t.Errorf("name %q", m.Name)
			}
			checkPieces(t, m, test.content)
			checkRoundTrip(t, m)

			// The library's way to the info dictionary is another one.
			meta, err := anacrolix.Load(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			want := meta.HashInfoBytes().HexString()
			if strings.HasPrefix(test.torrent, "v2") {
				want = fmt.Sprintf("%x", sha256.Sum256(meta.InfoBytes))
			}
			if m.InfoHash != want {
				t.Errorf("info hash %s, want %s", m.InfoHash, want)
			}
		})
	}
}

// checkPieces verifies content piece by piece, with buffers of several lengths, then with each piece damaged.
func checkPieces(t *testing.T, m *Manifest, content []byte) {
	t.Helper()
	var total int64
	for i := range m.Pieces() {
		total += m.PieceSize(i)
		var first [32]byte
		for n, size := range []int{64 << 10, 100_000, 1 << 20} {
			sum, ok, err := m.SumPiece(bytes.NewReader(content), i, make([]byte, size))
			if err != nil || !ok {
				t.Fatalf("piece %d: %v, %v", i, ok, err)
			}
			if n > 0 && sum != first {
				t.Errorf("piece %d: the sum depends on the buffer", i)
			}
			first = sum
		}
		start := int64(i) * m.PieceLength
		for _, at := range []int64{start, start + m.PieceSize(i) - 1} {
			wrong := bytes.Clone(content)
			wrong[at] ^= 1
			sum, ok, err := m.SumPiece(bytes.NewReader(wrong), i, make([]byte, 64<<10))
			if err != nil || ok || sum == first {
				t.Errorf("piece %d with a wrong byte at %d: %v, %v, sums alike %v", i, at, ok, err, sum == first)
			}
		}
		short := bytes.NewReader(content[:start+m.PieceSize(i)-1])
		if _, ok, err := m.SumPiece(short, i, make([]byte, 64<<10)); ok || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("piece %d cut short: %v, %v", i, ok, err)
		}
	}
	if total != m.Size {
		t.Errorf("pieces of %d bytes in all for %d bytes", total, m.Size)
	}
}

func checkRoundTrip(t *testing.T, m *Manifest) {
	t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var again Manifest
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatalf("%v in %.2000s", err, data)
	}
	if !m.Equal(&again) || again.InfoHash != m.InfoHash || again.PieceLength != m.PieceLength ||
		again.v2 != m.v2 || again.root != m.root || again.padding != m.padding || !bytes.Equal(again.hashes, m.hashes) ||
		!reflect.DeepEqual(again.WebSeeds, m.WebSeeds) || !reflect.DeepEqual(again.Trackers, m.Trackers) {
		t.Errorf("wrote %+v, read %+v", m, again)
	}
}

func TestParseChoosesTheFile(t *testing.T) {
	tests := []struct{ torrent, name, want string }{
		{"v1", "other.pkg", "no file called"},
		{"v2", "other.pkg", "no file called"},
		{"hybrid-multi", "other.pkg", "no file called"},
		{"v1-multi", "", "multi-file"},
		{"v2-multi", "", "multi-file"},
		{"hybrid-multi", "", "multi-file"},
		{"v1-twins", "same.pkg", "more than one"},
		{"v2-twins", "same.pkg", "more than one"},
		{"hybrid-twins", "same.pkg", "more than one"},
		{"v1-multi", "one.pkg", "shares its last piece"},
		{"mktorrent-multi", "two.pkg", "piece"},
		{"v1-pads", "sub", "no file called"},
	}
	for _, test := range tests {
		m, err := Parse(torrentFixture(t, test.torrent), test.name)
		if m != nil || !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %q: %v, %v", test.torrent, test.name, m, err)
		}
	}
}

func TestEqual(t *testing.T) {
	parse := func(torrent, name string) *Manifest {
		m, err := Parse(torrentFixture(t, torrent), name)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if !parse("v1-small", "").Equal(parse("sources", "")) {
		t.Error("keys beside the info dictionary count")
	}
	if parse("v1-small", "").Equal(parse("v2-small", "")) {
		t.Error("different info dictionaries are equal")
	}
	if parse("v2-multi", "one.pkg").Equal(parse("v2-multi", "two.pkg")) {
		t.Error("different files of one torrent are equal")
	}
}

func TestWebSeedsAndTrackers(t *testing.T) {
	tests := []struct {
		torrent, name string
		seeds         []string
		trackers      [][]string
	}{
		{"mktorrent-v1", "",
			[]string{"http://mirror.example/pool/a%20b+c.pkg", "http://mirror.example/dir/a%20b+c.pkg"},
			[][]string{{"http://tracker.example/announce"}, {"udp://tracker.example:6969/announce"}}},
		{"mktorrent-one-seed", "", []string{"https://mirror.example/dir/small.pkg"}, [][]string{{"http://tracker.example/announce"}}},
		{"url-list-string", "", []string{"http://one.example/pool/small.pkg"}, nil},
		{"v1-pads", "two.pkg", nil, nil},
		{"v2-multi", "two.pkg", []string{"http://mirror.example/tree/repo/sub/two.pkg"}, nil},
		{"hybrid-multi", "one.pkg", []string{"http://mirror.example/tree/repo/one.pkg"}, nil},
		{"sources", "", []string{"http://one.example/pool/small.pkg", "https://two.example/small.pkg"}, nil},
		{"httpseeds", "", []string{"http://one.example/pool/small.pkg"}, nil},
	}
	for _, test := range tests {
		m, err := Parse(torrentFixture(t, test.torrent), test.name)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m.WebSeeds, test.seeds) || !reflect.DeepEqual(m.Trackers, test.trackers) {
			t.Errorf("%s: seeds %q, trackers %q", test.torrent, m.WebSeeds, m.Trackers)
		}
	}
}

func TestWebSeedsThatMakeNoSenseAreLeftOut(t *testing.T) {
	list := []any{
		"http://good.example/f.pkg",
		"http://good.example/f.pkg", "http://good.example/f.pkg#part", // again
		"ftp://mirror.example/f.pkg", "file:///etc/passwd", "gopher://mirror.example/", "//mirror.example/f.pkg", "f.pkg", "",
		"http:///f.pkg", "http:f.pkg", "http://user:secret@mirror.example/f.pkg", "http://user@mirror.example/",
		"http://mirror.example:0/f.pkg", "http://mirror.example:65536/f.pkg", "http://mirror.example:x/f.pkg", "http://mirror.example:/f.pkg",
		"http://mirror.example/\r\nX: y", "http://mirror.example/\x1b[2J", "http://mirror.example/\u0085", "http://mirror.example/\xff",
		"http://mir ror.example/", "http://[fe80::1%25eth0]/f.pkg", "http://mirror.example/" + strings.Repeat("x", maxURL),
		7, []any{"http://nested.example/"},
		"HTTPS://Last.example",
	}
	meta := map[string]any{"info": v1Info(nil), "url-list": list, "sources": 3, "httpseeds": map[string]any{"a": 1}}
	m, err := Parse(bencoded(t, meta), "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"http://good.example/f.pkg", "https://Last.example/f.pkg"}
	if !reflect.DeepEqual(m.WebSeeds, want) {
		t.Errorf("%q", m.WebSeeds)
	}

	list = nil
	for i := range 1000 {
		list = append(list, fmt.Sprintf("http://mirror%d.example/", i))
	}
	tiers := []any{list[:100], "http://not.in.a.list/", 5, list, []any{}}
	m, err = Parse(bencoded(t, map[string]any{"info": v1Info(nil), "url-list": list, "announce-list": tiers}), "")
	if err != nil {
		t.Fatal(err)
	}
	announces := 0
	for _, tier := range m.Trackers {
		announces += len(tier)
	}
	if len(m.WebSeeds) != maxURLs || announces != maxURLs {
		t.Errorf("%d web seeds, %d trackers", len(m.WebSeeds), announces)
	}
	checkRoundTrip(t, m)
}

// The layout, key by key, is that of _render_torrent in openSUSE/MirrorCache's RenderFileFromMirror.pm.
func TestTorrentOfMirrorCache(t *testing.T) {
	content := torrentContent(2, 20_000)
	piece, whole := sha1.Sum(content), sha256.Sum256(content)
	text := "d8:announce31:http://tracker.example/announce13:announce-listll31:http://tracker.example/announceee" +
		"7:comment9:small.pkg10:created by11:MirrorCache13:creation datei1700000000e" +
		"4:infod6:lengthi20000e6:md5sum32:0123456789abcdef0123456789abcdef4:name9:small.pkg12:piece lengthi262144e" +
		"6:pieces20:" + string(piece[:]) + "4:sha120:" + string(piece[:]) + "6:sha25632:" + string(whole[:]) + "e" +
		"7:sourcesl33:http://one.example/pool/small.pkg29:https://two.example/small.pkgee"
	m, err := Parse([]byte(text), "small.pkg")
	if err != nil {
		t.Fatal(err)
	}
	checkPieces(t, m, content)
	if want := []string{"http://one.example/pool/small.pkg", "https://two.example/small.pkg"}; !reflect.DeepEqual(m.WebSeeds, want) {
		t.Errorf("%q", m.WebSeeds)
	}
	if want := [][]string{{"http://tracker.example/announce"}}; !reflect.DeepEqual(m.Trackers, want) {
		t.Errorf("%q", m.Trackers)
	}
}

func bencoded(t testing.TB, v any) []byte {
	t.Helper()
	data, err := bencode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const testPiece = 32 << 10

// v1Info is the valid info dictionary of a v1 torrent of 100,000 bytes. change may be nil.
func v1Info(change func(map[string]any)) map[string]any {
	info := map[string]any{"name": "f.pkg", "piece length": testPiece, "length": 100_000, "pieces": strings.Repeat("x", 4*20)}
	if change != nil {
		change(info)
	}
	return info
}

func v1Entry(length int, attr string, path ...any) map[string]any {
	return map[string]any{"length": length, "path": append([]any{}, path...), "attr": attr}
}

// v1Multi makes a multi-file info dictionary with as many pieces as the files need.
func v1Multi(files ...map[string]any) map[string]any {
	total := 0
	var list []any
	for _, f := range files {
		total += f["length"].(int)
		list = append(list, f)
	}
	return map[string]any{
		"name": "dir", "piece length": testPiece, "files": list,
		"pieces": strings.Repeat("x", (total+testPiece-1)/testPiece*20),
	}
}

// v2Meta is valid metainfo of a v2 torrent of 100,000 bytes. change may be nil.
func v2Meta(t testing.TB, change func(meta, info, file map[string]any)) map[string]any {
	t.Helper()
	m, err := Parse(torrentFixture(t, "v2"), "")
	if err != nil {
		t.Fatal(err)
	}
	file := map[string]any{"length": 100_000, "pieces root": string(m.root[:])}
	info := map[string]any{
		"name": "f.pkg", "piece length": testPiece, "meta version": 2,
		"file tree": map[string]any{"f.pkg": map[string]any{"": file}},
	}
	meta := map[string]any{"info": info, "piece layers": map[string]any{string(m.root[:]): string(m.hashes)}}
	if change != nil {
		change(meta, info, file)
	}
	return meta
}

func hybridMeta(t testing.TB, change func(meta, info, file map[string]any)) map[string]any {
	return v2Meta(t, func(meta, info, file map[string]any) {
		info["length"], info["pieces"] = 100_000, strings.Repeat("x", 4*20)
		if change != nil {
			change(meta, info, file)
		}
	})
}

// malformed returns metainfo that has to be refused for the file f.pkg, by what is wrong with it.
func malformed(t testing.TB) map[string][]byte {
	huge := int64(math.MaxInt64)
	cases := map[string]any{}
	v1 := func(name string, change func(info map[string]any)) {
		cases["v1 "+name] = map[string]any{"info": v1Info(change)}
	}
	v2 := func(name string, change func(meta, info, file map[string]any)) {
		cases["v2 "+name] = v2Meta(t, change)
	}
	hybrid := func(name string, change func(meta, info, file map[string]any)) {
		cases["hybrid "+name] = hybridMeta(t, change)
	}
	multi := func(name string, files ...map[string]any) {
		cases["multi "+name] = map[string]any{"info": v1Multi(files...)}
	}
	set := func(key string, value any) func(map[string]any) {
		return func(info map[string]any) { info[key] = value }
	}
	for name, value := range map[string]any{
		"slash": "a/f.pkg", "NUL": "f\x00.pkg", "escape": "\x1b[2J", "newline": "f\n", "C1": "f\u009b", "dot": ".", "dots": "..",
		"not UTF-8": "\xff.pkg", "long": strings.Repeat("n", 256), "empty": "", "integer": 5,
	} {
		v1("name "+name, set("name", value))
		multi("path "+name, v1Entry(testPiece, "", "f.pkg"), v1Entry(5, "", "dir", value))
		v2("path "+name, func(_, info, file map[string]any) {
			if s, ok := value.(string); ok {
				info["file tree"] = map[string]any{"a": map[string]any{s: map[string]any{"x": map[string]any{"": file}}}, "f.pkg": map[string]any{"": file}}
			} else {
				info["file tree"] = value
			}
		})
	}
	for name, value := range map[string]any{
		"zero": 0, "negative": -testPiece, "small": 8 << 10, "large": 128 << 20, "odd": testPiece + 1, "huge": huge, "string": "32768",
	} {
		v1("piece length "+name, set("piece length", value))
		v2("piece length "+name, func(_, info, _ map[string]any) { info["piece length"] = value })
	}
	v2("piece length not a power of two", func(_, info, _ map[string]any) { info["piece length"] = 3 * BlockSize })
	for _, key := range []string{"name", "piece length", "length", "pieces"} {
		v1("without "+key, func(info map[string]any) { delete(info, key) })
	}
	v1("too few pieces", set("pieces", strings.Repeat("x", 3*20)))
	v1("too many pieces", set("pieces", strings.Repeat("x", 5*20)))
	v1("part of a piece", set("pieces", strings.Repeat("x", 4*20-1)))
	v1("pieces are a list", set("pieces", []any{"x"}))
	v1("length negative", set("length", -1))
	v1("length huge", set("length", huge))
	v1("length and files", set("files", []any{v1Entry(100_000, "", "f.pkg")}))
	v1("empty but pieces", set("length", 0))
	v1("meta version 3", set("meta version", 3))
	v1("meta version string", set("meta version", "2"))
	v1("meta version 0", set("meta version", 0))
	// The library takes the only value of a list for the value.
	for key, value := range v1Info(nil) {
		v1(key+" in a list", set(key, []any{value}))
	}
	v1("meta version in a list", set("meta version", []any{1}))
	v1("pieces of integers", set("pieces", slices.Repeat([]any{7}, 80)))
	cases["no info"] = map[string]any{"announce": "http://tracker.example/"}
	cases["info is a list"] = map[string]any{"info": []any{}}
	cases["info is empty"] = map[string]any{"info": map[string]any{}}

	multi("no files")
	multi("without the file", v1Entry(5, "", "g.pkg"))
	multi("begins within a piece", v1Entry(5, "", "a"), v1Entry(testPiece, "", "f.pkg"))
	multi("shares its last piece", v1Entry(5, "", "f.pkg"), v1Entry(5, "", "z"))
	multi("shares its last piece behind padding", v1Entry(5, "", "f.pkg"), v1Entry(5, "p", ".pad", "5"), v1Entry(5, "", "z"))
	multi("shares its last piece with a link", v1Entry(5, "", "f.pkg"), v1Entry(5, "l", "z"))
	multi("is padding", v1Entry(5, "p", "f.pkg"))
	multi("is a link", v1Entry(5, "l", "f.pkg"))
	multi("twice", v1Entry(testPiece, "", "f.pkg"), v1Entry(testPiece, "", "a", "f.pkg"))
	multi("twice, once empty", v1Entry(0, "", "f.pkg"), v1Entry(testPiece, "", "a", "f.pkg"))
	multi("no path", v1Entry(testPiece, "", "f.pkg"), v1Entry(5, ""))
	multi("path of integers", v1Entry(testPiece, "", "f.pkg"), v1Entry(5, "", 1))
	for name, files := range map[string]any{
		"is a string": "x", "is a dict": map[string]any{}, "of strings": []any{"x"},
		"overflow":           []any{map[string]any{"length": huge, "path": []any{"a"}}, map[string]any{"length": 1, "path": []any{"f.pkg"}}},
		"overflow to small":  []any{map[string]any{"length": huge, "path": []any{"a"}}, map[string]any{"length": huge, "path": []any{"b"}}, map[string]any{"length": 100_002, "path": []any{"f.pkg"}}},
		"negative":           []any{map[string]any{"length": -1, "path": []any{"a"}}, map[string]any{"length": 100_001, "path": []any{"f.pkg"}}},
		"without length":     []any{map[string]any{"path": []any{"f.pkg"}}},
		"without path":       []any{map[string]any{"length": 100_000}},
		"one without length": []any{map[string]any{"length": 100_000, "path": []any{"f.pkg"}}, map[string]any{"path": []any{"g"}}},
		"length in a list":   []any{map[string]any{"length": []any{100_000}, "path": []any{"f.pkg"}}},
		"path in a list":     []any{map[string]any{"length": 100_000, "path": []any{[]any{"f.pkg"}}}},
		"attr in a list":     []any{map[string]any{"attr": []any{"x"}, "length": 100_000, "path": []any{"f.pkg"}}},
		"in a list":          []any{[]any{map[string]any{"length": 100_000, "path": []any{"f.pkg"}}}},
	} {
		v1("files "+name, func(info map[string]any) { delete(info, "length"); info["files"] = files })
	}

	v2("without file tree", func(_, info, _ map[string]any) { delete(info, "file tree") })
	v2("file tree is a list", func(_, info, _ map[string]any) { info["file tree"] = []any{} })
	v2("file tree in a list", func(_, info, _ map[string]any) { info["file tree"] = []any{info["file tree"]} })
	v2("file tree is empty", func(_, info, _ map[string]any) { info["file tree"] = map[string]any{} })
	v2("file tree is a file", func(_, info, file map[string]any) { info["file tree"] = map[string]any{"": file} })
	v2("file and directory", func(_, info, file map[string]any) {
		info["file tree"] = map[string]any{"f.pkg": map[string]any{"": file, "g": map[string]any{"": file}}}
	})
	v2("node is a string", func(_, info, _ map[string]any) { info["file tree"] = map[string]any{"f.pkg": "x"} })
	v2("properties are a string", func(_, info, _ map[string]any) {
		info["file tree"] = map[string]any{"f.pkg": map[string]any{"": "x"}}
	})
	v2("without length", func(_, _, file map[string]any) { delete(file, "length") })
	v2("length negative", func(_, _, file map[string]any) { file["length"] = -1 })
	v2("length huge", func(_, _, file map[string]any) { file["length"] = huge })
	v2("length of more pieces", func(_, _, file map[string]any) { file["length"] = 5 * testPiece })
	v2("length of one piece", func(_, _, file map[string]any) { file["length"] = 5; file["pieces root"] = strings.Repeat("\x00", 32) })
	v2("lengths overflow", func(_, info, file map[string]any) {
		info["file tree"] = map[string]any{"a": map[string]any{"": map[string]any{"length": huge, "pieces root": file["pieces root"]}}, "f.pkg": map[string]any{"": file}}
	})
	v2("without root", func(_, _, file map[string]any) { delete(file, "pieces root") })
	v2("short root", func(_, _, file map[string]any) { file["pieces root"] = "x" })
	v2("root of an empty file", func(_, _, file map[string]any) { file["length"] = 0 })
	v2("other root", func(_, _, file map[string]any) { file["pieces root"] = strings.Repeat("x", 32) })
	v2("pad file", func(_, _, file map[string]any) { file["attr"] = "p" })
	v2("link", func(_, _, file map[string]any) { file["attr"] = "l" })
	v2("without layers", func(meta, _, _ map[string]any) { delete(meta, "piece layers") })
	v2("layers are a list", func(meta, _, _ map[string]any) { meta["piece layers"] = []any{} })
	v2("layer is a list", func(meta, _, file map[string]any) {
		meta["piece layers"] = map[string]any{file["pieces root"].(string): []any{}}
	})
	v2("layers in a list", func(meta, _, _ map[string]any) { meta["piece layers"] = []any{meta["piece layers"]} })
	v2("layer of integers", func(meta, _, file map[string]any) {
		var bytes []any
		for _, b := range []byte(meta["piece layers"].(map[string]any)[file["pieces root"].(string)].(string)) {
			bytes = append(bytes, int(b))
		}
		meta["piece layers"] = map[string]any{file["pieces root"].(string): bytes}
	})
	v2("layers in info", func(meta, info, _ map[string]any) {
		info["piece layers"] = meta["piece layers"]
		delete(meta, "piece layers")
	})
	changeLayer := func(change func([]byte) []byte) func(meta, info, file map[string]any) {
		return func(meta, _, file map[string]any) {
			layers, root := meta["piece layers"].(map[string]any), file["pieces root"].(string)
			layers[root] = string(change([]byte(layers[root].(string))))
		}
	}
	v2("layer with a flipped bit", changeLayer(func(b []byte) []byte { b[40] ^= 1; return b }))
	v2("layer too short", changeLayer(func(b []byte) []byte { return b[:96] }))
	v2("layer too long", changeLayer(func(b []byte) []byte { return append(b, make([]byte, 32)...) }))
	v2("layer of half hashes", changeLayer(func(b []byte) []byte { return b[:127] }))
	v2("layer of swapped pieces", changeLayer(func(b []byte) []byte { return append(append(bytes.Clone(b[32:64]), b[:32]...), b[64:]...) }))

	hybrid("lengths differ", func(_, info, _ map[string]any) { info["length"] = 99_999 })
	hybrid("without length", func(_, info, _ map[string]any) { delete(info, "length") })
	hybrid("without pieces", func(_, info, _ map[string]any) { delete(info, "pieces") })
	hybrid("names differ", func(_, info, file map[string]any) {
		info["file tree"] = map[string]any{"g.pkg": map[string]any{"": file}}
	})
	hybrid("too few pieces", func(_, info, _ map[string]any) { info["pieces"] = strings.Repeat("x", 60) })
	for name, files := range map[string][]map[string]any{
		"one more in v1": {v1Entry(100_000, "", "f.pkg"), v1Entry(5, "", "g")},
		"single in v2":   {v1Entry(100_000, "", "f.pkg")},
	} {
		hybrid(name, func(_, info, _ map[string]any) {
			delete(info, "length")
			for key, value := range v1Multi(files...) {
				if key != "name" {
					info[key] = value
				}
			}
		})
	}
	pad := 4*testPiece - 100_000
	for name, files := range map[string][]map[string]any{
		"not aligned":       {v1Entry(100_000, "", "f.pkg"), v1Entry(5, "", "g", "h")},
		"one less in v1":    {v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x")},
		"paths differ":      {v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x"), v1Entry(5, "", "g", "i")},
		"path longer in v1": {v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x"), v1Entry(5, "", "g", "h", "i")},
		"path longer in v2": {v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x"), v1Entry(5, "", "g")},
		"sizes differ":      {v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x"), v1Entry(6, "", "g", "h")},
		"more in v1":        {v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x"), v1Entry(5, "", "g", "h"), v1Entry(0, "", "z")},
	} {
		hybrid("tree "+name, func(_, info, file map[string]any) {
			delete(info, "length")
			for key, value := range v1Multi(files...) {
				info[key] = value
			}
			info["file tree"] = map[string]any{
				"f.pkg": map[string]any{"": file},
				"g":     map[string]any{"h": map[string]any{"": map[string]any{"length": 5, "pieces root": strings.Repeat("r", 32)}}},
			}
		})
	}

	all := map[string][]byte{}
	for name, meta := range cases {
		all[name] = bencoded(t, meta)
	}
	good := string(bencoded(t, map[string]any{"info": v1Info(nil)}))
	for name, text := range map[string]string{
		"nothing": "", "newline": "\n", "HTML": "<!DOCTYPE html><html></html>", "integer": "i1e", "string": "1:a", "list": "le", "end": "e",
		"empty dict": "de", "cut short": good[:len(good)-1], "open": "d", "key only": "d4:info", "key without value": "d4:infoe",
		"more behind": good + "x", "two": good + good, "two newlines": good + "\n\n", "carriage return": good + "\r", "space before": " " + good,
		"integer key": "di1ei1ee", "dict key": "ddee", "no colon": "d4infodee", "string too long": "d4:info99:xe", "negative string": "d-1:xi1ee",
		"huge string": "d4:info99999999999999999999:xe", "string of 2^63": "d4:info9223372036854775808:xe", "leading zero of a length": "d04:infodee",
		"keys twice":    strings.Replace(good, "d4:info", "d4:infode4:info", 1),
		"keys unsorted": "d1:bi1e1:ai1e" + good[1:],
		"leading zero":  "d1:ai01e" + good[1:], "minus zero": "d1:ai-0e" + good[1:], "empty integer": "d1:aie" + good[1:], "plus": "d1:ai+1e" + good[1:],
		"only a minus": "d1:ai-e" + good[1:], "integer too large": "d1:ai9223372036854775808e" + good[1:], "too small": "d1:ai-9223372036854775809e" + good[1:],
		"very large": "d1:ai" + strings.Repeat("9", 1000) + "e" + good[1:], "fraction": "d1:ai1.5e" + good[1:], "open integer": "d1:ai1",
		"too deep":     "d1:a" + strings.Repeat("l", 32) + strings.Repeat("e", 32) + good[1:],
		"very deep":    "d1:a" + strings.Repeat("l", 1<<20),
		"deep dicts":   strings.Repeat("d1:a", 1<<20),
		"too many":     "d1:al" + strings.Repeat("i0e", maxElements) + "e" + good[1:],
		"too large":    "d1:a" + fmt.Sprintf("%d:", MaxSize) + strings.Repeat("x", MaxSize) + good[1:],
		"binary zeros": strings.Repeat("\x00", 1<<16),
	} {
		all["bencode: "+name] = []byte(text)
	}
	return all
}

func TestMalformedTorrentsAreRefused(t *testing.T) {
	for name, data := range malformed(t) {
		for _, file := range []string{"f.pkg", ""} {
			m, err := Parse(data, file)
			if m != nil || !errors.Is(err, ErrUnusable) {
				t.Errorf("%s, for %q: %+v, %v", name, file, m, err)
				continue
			}
			if len(err.Error()) > 200 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("%s: %q", name, err)
			}
		}
	}
}

// What malformed changes is valid before the change.
func TestTheUnchangedTorrentsAreAccepted(t *testing.T) {
	pad := 4*testPiece - 100_000
	good := bencoded(t, map[string]any{"info": v1Info(nil)})
	for name, data := range map[string][]byte{
		"v1":             good,
		"v1 and newline": append(bytes.Clone(good), '\n'),
		"v2":             bencoded(t, v2Meta(t, nil)),
		"hybrid":         bencoded(t, hybridMeta(t, nil)),
		"extremes":       append([]byte("d1:ai-9223372036854775808e1:bi9223372036854775807e1:c0:1:di-1e"), good[1:]...),
		"deep":           append([]byte("d1:a"+strings.Repeat("l", 31)+strings.Repeat("e", 31)), good[1:]...),
		"meta version 1": bencoded(t, map[string]any{"info": v1Info(func(info map[string]any) { info["meta version"] = 1 })}),
		"three blocks": bencoded(t, map[string]any{"info": v1Info(func(info map[string]any) {
			info["piece length"] = 3 * BlockSize
			info["pieces"] = strings.Repeat("x", 3*20)
		})}),
		"multi at the end":   bencoded(t, map[string]any{"info": v1Multi(v1Entry(testPiece, "", "a"), v1Entry(5, "", "f.pkg"))}),
		"multi and an empty": bencoded(t, map[string]any{"info": v1Multi(v1Entry(5, "", "f.pkg"), v1Entry(0, "", "z"))}),
		"multi, empty":       bencoded(t, map[string]any{"info": v1Multi(v1Entry(5, "", "a"), v1Entry(0, "", "f.pkg"), v1Entry(5, "", "z"))}),
		"hybrid tree": bencoded(t, hybridMeta(t, func(_, info, file map[string]any) {
			delete(info, "length")
			for key, value := range v1Multi(v1Entry(100_000, "", "f.pkg"), v1Entry(pad, "p", ".pad", "x"), v1Entry(5, "", "g", "h")) {
				info[key] = value
			}
			info["file tree"] = map[string]any{
				"f.pkg": map[string]any{"": file},
				"g":     map[string]any{"h": map[string]any{"": map[string]any{"length": 5, "pieces root": strings.Repeat("r", 32)}}},
			}
		})),
	} {
		m, err := Parse(data, "f.pkg")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkRoundTrip(t, m)
	}
}

func TestPaddingIsHashedAsZeros(t *testing.T) {
	content := torrentContent(1, testPiece+100)
	tests := map[string]struct {
		behind  []map[string]any
		padding int
	}{
		"to the boundary":    {[]map[string]any{v1Entry(testPiece-100, "p", ".pad", "a"), v1Entry(5, "", "z")}, testPiece - 100},
		"in two":             {[]map[string]any{v1Entry(60, "p", ".pad", "a"), v1Entry(testPiece-160, "px", ".pad", "b"), v1Entry(5, "", "z")}, testPiece - 100},
		"beyond the piece":   {[]map[string]any{v1Entry(3*testPiece, "p", ".pad", "a"), v1Entry(5, "", "z")}, testPiece - 100},
		"to the end, short":  {[]map[string]any{v1Entry(60, "p", ".pad", "a")}, 60},
		"none, at the end":   {nil, 0},
		"none, empty behind": {[]map[string]any{v1Entry(0, "", "z")}, 0},
	}
	for name, test := range tests {
		info := v1Multi(append([]map[string]any{v1Entry(testPiece, "", "a"), v1Entry(len(content), "", "f.pkg")}, test.behind...)...)
		first := sha1.Sum(content[:testPiece])
		second := sha1.Sum(append(bytes.Clone(content[testPiece:]), make([]byte, test.padding)...))
		pieces := []byte(info["pieces"].(string))
		copy(pieces[20:], first[:])
		copy(pieces[40:], second[:])
		info["pieces"] = string(pieces)
		m, err := Parse(bencoded(t, map[string]any{"info": info}), "f.pkg")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkPieces(t, m, content)
		checkRoundTrip(t, m)
	}
}

func TestV2PiecesOfManyBlocks(t *testing.T) {
	// Computed as BEP 52 describes it, level by level, for a file of three pieces of eight blocks.
	const pieceLength = 8 * BlockSize
	content := torrentContent(9, 2*pieceLength+3*BlockSize+7)
	up := func(level [][32]byte) [][32]byte {
		var next [][32]byte
		for i := 0; i < len(level); i += 2 {
			next = append(next, sha256.Sum256(append(bytes.Clone(level[i][:]), level[i+1][:]...)))
		}
		return next
	}
	level := make([][32]byte, 32)
	for i := range level {
		if start := i * BlockSize; start < len(content) {
			level[i] = sha256.Sum256(content[start:min(start+BlockSize, len(content))])
		}
	}
	for range 3 {
		level = up(level)
	}
	var layer []byte
	for _, h := range level[:3] {
		layer = append(layer, h[:]...)
	}
	root := up(up(level))[0]
	meta := v2Meta(t, func(meta, info, file map[string]any) {
		info["piece length"], file["length"], file["pieces root"] = pieceLength, len(content), string(root[:])
		meta["piece layers"] = map[string]any{string(root[:]): string(layer)}
	})
	m, err := Parse(bencoded(t, meta), "")
	if err != nil {
		t.Fatal(err)
	}
	checkPieces(t, m, content)
}

func TestHugeTorrentsCostLittle(t *testing.T) {
	files := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "d6:lengthi0e4:pathl40:%040dee", i)
		}
		return b.String()
	}
	nodes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "40:%040dd0:d6:lengthi1e11:pieces root32:%032dee", i, i)
		}
		return b.String()
	}
	long := func(length int) string { return fmt.Sprintf("%d:%s", length, strings.Repeat("x", length)) }
	pieces := func(bytes int) string { // the end of the info dictionary of v1 metainfo with one file, f.pkg
		n := bytes / 20
		return fmt.Sprintf("6:lengthi%de4:name5:f.pkg12:piece lengthi%de6:pieces%d:%s", n*testPiece, testPiece, n*20, strings.Repeat("x", n*20))
	}
	const most = MaxSize - maxBesideHashes // bytes of hashes beside which there may be all else
	v2 := func(tree, layers string) string {
		return "d4:infod9:file treed" + tree + "e12:meta versioni2e4:name3:dir12:piece lengthi32768ee" + layers + "e"
	}
	urls := func(scheme string, n int) string {
		var b strings.Builder
		for i := range n {
			u := fmt.Sprintf("%s://mirror.example/%d/", scheme, i)
			u += strings.Repeat("%2f~%c3%a4", (maxURL-50-len(u))/len("%2f~%c3%a4"))
			fmt.Fprintf(&b, "%d:%s", len(u), u)
		}
		return b.String()
	}
	const limit, notThere = "too many elements", "no file called"
	for name, test := range map[string]struct{ data, want string }{
		// What is far beyond a limit is refused before it is decoded.
		"too many files":     {"d4:infod5:filesl" + files(160_000) + "e4:name3:dir12:piece lengthi32768e6:pieces0:ee", limit},
		"too many nodes":     {v2(nodes(120_000), ""), limit},
		"long names":         {v2(strings.Repeat("255:"+strings.Repeat("n", 255)+"d", 26)+nodes(100_000)+strings.Repeat("e", 26), ""), limit},
		"too many dead ends": {"d1:a" + strings.Repeat("d1:a", 29) + "l" + strings.Repeat("i0e", 1<<20) + "e" + strings.Repeat("e", 30), limit},
		"too many URLs":      {"d4:infod" + pieces(20) + "e8:url-listl" + urls("gopher", 8000) + "ee", "beside the piece hashes"},
		"many URLs":          {"d4:infod" + pieces(20) + "e8:url-listl" + urls("gopher", 150) + "ee", "too many URLs"},
		// What is just within all limits is decoded.
		"many files": {"d4:infod5:filesl" + files(maxElements/7-10) + fmt.Sprintf("d6:lengthi%de4:pathl1:aeed6:lengthi%de4:pathl5:f.pkgee", testPiece, most/20*testPiece) +
			fmt.Sprintf("e4:name3:dir12:piece lengthi32768e6:pieces%d:%see", most/20*20+20, strings.Repeat("x", most/20*20+20)), ""},
		"many nodes": {v2(nodes(maxElements/8-10), "12:piece layersd32:"+strings.Repeat("r", 32)+long(most)+"e"), notThere},
		"many nodes below long names": {v2(strings.Repeat("255:"+strings.Repeat("n", 255)+"d", 26)+nodes(maxElements/8-10)+strings.Repeat("e", 26),
			"12:piece layersd32:"+strings.Repeat("r", 32)+long(most)+"e"), notThere},
		"many layers": {v2(nodes(1), "12:piece layersd"+func() string {
			var b strings.Builder
			for i := range maxElements/2 - 20 {
				fmt.Fprintf(&b, "32:%032d%s", i, long(352))
			}
			return b.String()
		}()+"e"), notThere},
		"many pieces": {"d4:infod" + pieces(MaxSize-200) + "ee", ""},
		"dead ends":   {"d4:infod1:a" + strings.Repeat("d1:a", 28) + "l" + strings.Repeat("i-1e", maxElements-100) + "e" + strings.Repeat("e", 28) + pieces(most) + "ee", ""},
		"strings":     {"d4:infod1:al" + strings.Repeat("0:", maxElements-100) + "e1:b" + long(maxBesideHashes-maxElements*2-1000) + pieces(most-1000) + "ee", ""},
		"dicts":       {"d4:infod1:al" + strings.Repeat("d1:k0:e", (maxElements-100)/3) + "e1:b" + long(maxBesideHashes-maxElements*3-1000) + pieces(most-1000) + "ee", ""},
		"seeds":       {"d4:infod" + pieces(most-1000) + "e8:url-listl" + strings.Repeat("0:", maxElements-100) + "ee", ""},
		"tiers":       {"d13:announce-listl" + strings.Repeat("l0:e", maxElements/2-100) + "e4:infod" + pieces(most-1000) + "ee", ""},
		"strings and URLs": {"d13:announce-listl" + strings.Repeat("l"+urls("http", 4)+"e", 8) + "e9:httpseedsl" + urls("http", 31) +
			"e4:infod1:al" + strings.Repeat("0:", maxElements-400) + "e1:b" + long(maxBesideHashes-maxElements*2-maxURLBytes) + pieces(most-1000) +
			"e7:sourcesl" + urls("https", 31) + "e8:url-listl" + urls("http", 31) + "ee", ""},
	} {
		data := []byte(test.data)
		if len(data) > MaxSize {
			t.Fatalf("%s: %d bytes test nothing", name, len(data))
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		m, err := Parse(data, "f.pkg")
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes, %d bytes allocated, %v, %v", name, len(data), allocated, took, err)
		if allocated > 64<<20 {
			t.Errorf("%s: %d bytes allocated", name, allocated)
		}
		if (m != nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSumPieceAllocatesNothingPerBlock(t *testing.T) {
	content, buf := torrentContent(1, 100_001), make([]byte, 64<<10)
	for _, torrent := range []string{"v1", "v2"} {
		m, err := Parse(torrentFixture(t, torrent), "")
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(content)
		if n := testing.AllocsPerRun(10, func() { m.SumPiece(r, 0, buf) }); n > 2 {
			t.Errorf("%s: %v allocations for a piece of two blocks", torrent, n)
		}
	}
}

func TestSumPiecePassesReadErrorsOn(t *testing.T) {
	m, err := Parse(torrentFixture(t, "v2"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := m.SumPiece(brokenReader{}, 0, make([]byte, 64<<10)); ok || !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, %v", ok, err)
	}
	if _, ok, err := m.SumPiece(bytes.NewReader(torrentContent(1, 100_001)), 0, nil); ok || err == nil {
		t.Errorf("without a buffer: %v, %v", ok, err)
	}
}

type brokenReader struct{}

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, os.ErrClosed }

func TestUnmarshalJSONRefuses(t *testing.T) {
	for _, torrent := range []string{"mktorrent-v1", "v2", "hybrid", "v2-small"} {
		m, err := Parse(torrentFixture(t, torrent), "")
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		changes := map[string]map[string]any{
			"kind": {"kind": "md5"}, "no hashes": {"hashes": nil}, "one hash": {"hashes": make([]byte, 32)}, "hashes": {"hashes": "?"},
			"size": {"size": -1}, "larger": {"size": 1 << 40}, "huge": {"size": int64(math.MaxInt64)}, "string": {"size": "5"}, "empty": {"size": 0},
			"piece length": {"piece_length": 0}, "small piece length": {"piece_length": 1}, "odd piece length": {"piece_length": testPiece + 1},
			"name": {"name": "../x"}, "no name": {"name": ""}, "control": {"name": "\x1b"},
			"info hash": {"info_hash": "abc"}, "upper case": {"info_hash": strings.ToUpper(m.InfoHash)}, "long": {"info_hash": strings.Repeat("00", 32)},
			"identity": {"identity": "00"}, "long identity": {"identity": strings.Repeat("0", 66)}, "identity not hex": {"identity": strings.Repeat("g", 64)},
			"root": {"root": make([]byte, 32)}, "short root": {"root": []byte("x")}, "other root": {"root": bytes.Repeat([]byte("r"), 32)},
			"padding": {"padding": -1}, "much padding": {"padding": testPiece + 1},
			"web seed": {"web_seeds": []string{"file:///etc/passwd"}}, "unclean": {"web_seeds": []string{"http://m.example"}},
			"same": {"web_seeds": []string{"http://m.example/", "http://m.example/"}},
			"tier": {"trackers": [][]string{{}}}, "tracker": {"trackers": [][]string{{"ws://t.example/"}}}, "unknown": {"extra": 1},
		}
		for name, change := range changes {
			var fields map[string]any
			if err := json.Unmarshal(data, &fields); err != nil {
				t.Fatal(err)
			}
			for key, value := range change {
				fields[key] = value
			}
			changed, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			got := Manifest{Name: "before"}
			if err := got.UnmarshalJSON(changed); !errors.Is(err, ErrUnusable) || got.Name != "before" {
				t.Errorf("%s, %s: %v, %+v", torrent, name, err, got)
			}
		}
	}
	var m Manifest
	for _, text := range []string{"", "null", "{}", "[]", "{", `"x"`} {
		if err := m.UnmarshalJSON([]byte(text)); !errors.Is(err, ErrUnusable) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	fixtures, err := filepath.Glob(filepath.Join("testdata", "torrents", "*.torrent"))
	if err != nil || len(fixtures) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, path := range fixtures {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "")
		f.Add(data, "two.pkg")
	}
	for _, data := range malformed(f) {
		if len(data) < 1<<16 {
			f.Add(data, "f.pkg")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		m, err := Parse(data, name)
		if err != nil {
			if m != nil || !errors.Is(err, ErrUnusable) {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		if name != "" && m.Name != name {
			t.Errorf("asked for %q, got %q", name, m.Name)
		}
		var total int64
		for i := range m.Pieces() {
			n := m.PieceSize(i)
			if n <= 0 || n > m.PieceLength || i < m.Pieces()-1 && n != m.PieceLength {
				t.Fatalf("piece %d of %d has %d bytes", i, m.Pieces(), n)
			}
			total += n
		}
		if total != m.Size {
			t.Errorf("pieces of %d bytes in all for %d bytes", total, m.Size)
		}
		checkRoundTrip(t, m)
		if m.Size > 0 && m.Size < 1<<20 {
			if _, _, err := m.SumPiece(bytes.NewReader(make([]byte, m.Size)), m.Pieces()-1, make([]byte, 64<<10)); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkSumPiece(b *testing.B) {
	content := make([]byte, 4<<20)
	buf := make([]byte, 256<<10)
	for _, m := range []*Manifest{
		{Size: 4 << 20, PieceLength: 4 << 20, hashes: make([]byte, 20)},
		{Size: 4 << 20, PieceLength: 4 << 20, hashes: make([]byte, 32), v2: true},
	} {
		b.Run(fmt.Sprintf("v2=%v", m.v2), func(b *testing.B) {
			b.SetBytes(m.Size)
			for b.Loop() {
				m.SumPiece(bytes.NewReader(content), 0, buf)
			}
		})
	}
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(4 << 20)
		for b.Loop() {
			sha256.Sum256(content)
		}
	})
}
