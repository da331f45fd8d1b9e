package metainfo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// describe fails if a description is not what has to hold of every one.
func describe(t *testing.T, data []byte) *Description {
	t.Helper()
	d, err := Describe(data)
	if err != nil {
		t.Fatalf("%v: %.200q", err, data)
	}
	checkDescription(t, data, d)
	return d
}

func checkDescription(t *testing.T, data []byte, d *Description) {
	t.Helper()
	var text bytes.Buffer
	if err := d.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var again struct {
		Description
		Files       []DescribedFile     `json:"files"`
		PieceHashes []string            `json:"piece_hashes"`
		PieceLayers map[string][]string `json:"piece_layers"`
	}
	dec := json.NewDecoder(&text)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&again); err != nil {
		t.Fatalf("no JSON: %v", err)
	}
	if len(again.Files) != len(d.Files) || len(again.PieceHashes) != (len(d.PieceHashes)+19)/20 || again.Name != d.Name ||
		again.InfoHash != d.InfoHash || !slices.Equal(again.Warnings, d.Warnings) {
		t.Errorf("described as %+v, read as %+v", d, again)
	}
	_, err := parse(data, "", true)
	if refusal := len(d.Warnings) > 0 && strings.HasPrefix(d.Warnings[0], refused); refusal != (err != nil) {
		t.Errorf("Parse says %v, Describe %q", err, d.Warnings)
	}
	for _, w := range d.Warnings {
		if len(w) > 1000 || strings.HasPrefix(w, refused) && !namesPlace(w) {
			t.Errorf("warning: %q", w)
		}
	}
}

// namesPlace tells whether a message begins with a key, or names an offset.
func namesPlace(message string) bool {
	message = strings.TrimPrefix(strings.TrimPrefix(message, refused), ErrUnusable.Error()+": ")
	return aPlace.MatchString(message)
}

var aPlace = regexp.MustCompile(`^(info|piece layers|announce-list|name|piece length|pieces root|padding)\b.*: |\(byte \d+\)|^longer than`)

func TestErrorsOfParseNameTheKey(t *testing.T) {
	for name, data := range malformed(t) {
		if _, err := Parse(data, "f.pkg"); err == nil || !namesPlace(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	v1 := func(key string, value any) []byte {
		return bencoded(t, map[string]any{"info": v1Info(func(info map[string]any) {
			if info[key] = value; value == nil {
				delete(info, key)
			}
		})})
	}
	files := func(files ...any) []byte {
		return bencoded(t, map[string]any{"info": map[string]any{"name": "d", "piece length": testPiece, "pieces": "", "files": files}})
	}
	node := func(properties any) []byte {
		return bencoded(t, v2Meta(t, func(_, info, _ map[string]any) {
			info["file tree"] = map[string]any{"dir": map[string]any{"a.b": map[string]any{"": properties}}}
		}))
	}
	good := map[string]any{"length": 0, "path": []any{"a"}}
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{v1("name", "a/b"), "info.name: slash or control character in a name"},
		{v1("name", nil), "info.name: empty name"},
		{v1("piece length", 5), "info.piece length: 5 is not usable"},
		{v1("pieces", "x"), "info.pieces: 1 bytes of hashes for 4 pieces"},
		{v1("pieces", nil), "info.pieces: missing"},
		{v1("pieces", 5), "info.pieces: an integer instead of a string (byte 67)"},
		{v1("length", nil), "info.length, info.files: neither or both"},
		{v1("length", -1), "info.length: negative"},
		{v1("private", "x"), "info.private: a string instead of an integer (byte 159)"},
		{v1("source", []any{"x"}), "info.source: a list instead of a string (byte 158)"},
		{v1("meta version", 7), "info.meta version: 7 is unknown"},
		{files(good, map[string]any{"length": -1, "path": []any{"b"}}), "info.files[1].length: missing, negative or too large"},
		{files(good, good, map[string]any{"length": "5", "path": []any{"b"}}), "info.files[2].length: a string instead of an integer (byte 73)"},
		{files(good, map[string]any{"length": 5}), "info.files[1].path: missing or empty"},
		{files(map[string]any{"length": 5, "path": []any{"a", ".."}}), "info.files[0].path[1]: name of a directory"},
		{files(map[string]any{"length": 5, "path": []any{"a", 7}}), "info.files[0].path[1]: an integer instead of a string (byte 38)"},
		{node(map[string]any{"length": 5}), `info.file tree.dir."a.b"."".pieces root: missing, of the wrong length, or of an empty file`},
		{node(map[string]any{"length": -5}), `info.file tree.dir."a.b"."".length: missing, negative or too large`},
		{node("x"), `info.file tree.dir."a.b": the properties are not a dictionary`},
		{[]byte("d4:infod6:lengthi5e6:pieces99999:abcee"), "info.pieces: string claims 99999 bytes, 5 are left (byte 27)"},
		{[]byte("d4:infod6:lengthi5e6:lengthi6eee"), "info.length: the key stands there twice (byte 19)"},
		{[]byte("d4:infod6:lengthi05eee"), "info.length: integer with leading zeros (byte 16)"},
		{[]byte("d4:infod6:lengthi99999999999999999999eee"), "info.length: integer does not fit 64 bits (byte 16)"},
		{[]byte("d8:announce1:xe"), "info: missing"},
		{[]byte("<html>"), `no value begins with "<" (byte 0)`},
	} {
		_, err := Parse(tt.data, "")
		if want := ErrUnusable.Error() + ": " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%q: %v\nwant %s", tt.data, err, want)
		}
	}
}

// What Describe says of the torrents of other programs is what Parse says.
func TestDescribeAgreesWithParse(t *testing.T) {
	for name, data := range torrentFixtures(t) {
		d := describe(t, data)
		m, err := Parse(data, "")
		if err != nil {
			continue // several files
		}
		if d.Name != m.Name || d.Size != m.Size || d.PieceLength != m.PieceLength || d.InfoHash != m.InfoHash ||
			d.PieceCount != int64(m.Pieces()) || len(d.Files) != 1 || d.Files[0].Length != m.Size || d.FileCount != 1 {
			t.Errorf("%s: described as %+v, parsed as %+v", name, d, m)
		}
		if want, _, _ := strings.Cut(strings.TrimSuffix(name, ".torrent"), "-"); want == "v1" || want == "v2" || want == "hybrid" {
			if d.Version != want {
				t.Errorf("%s: version %s", name, d.Version)
			}
		}
		if len(d.Warnings) > 0 && name != "httpseeds.torrent" {
			t.Errorf("%s: %q", name, d.Warnings)
		}
	}
}

func TestDescribeOfAllKeys(t *testing.T) {
	d := describe(t, bencoded(t, map[string]any{
		"announce": "http://a.example/", "announce-list": []any{[]any{"http://a.example/"}, []any{"udp://b.example:1", "http://c.example/"}},
		"comment": "c", "created by": "cb", "creation date": 1700000000, "encoding": "UTF-8", "publisher": "p", "publisher-url": "pu",
		"nodes": []any{[]any{"h.example", 1}, []any{"::1", 2}}, "url-list": []any{"http://w.example/", ""}, "httpseeds": "http://s.example/f.pkg",
		"sources": []any{"http://o.example/"}, "zz": []any{1, "\x00", map[string]any{"k": "v"}}, "signature": strings.Repeat("x", 1000),
		"info": v1Info(func(info map[string]any) {
			info["private"], info["source"], info["md5sum"], info["name.utf-8"] = 1, "s", "m", "é"
		}),
	}))
	hash := d.InfoHash
	want := Description{
		Name: "f.pkg", NameUTF8: "é", Version: "v1", InfoHash: hash, InfoHashV1: hash, Size: 100_000, FileCount: 1, PieceLength: testPiece,
		PieceCount: 4, Private: true, Source: "s", Announce: "http://a.example/",
		Tiers:   [][]string{{"http://a.example/"}, {"udp://b.example:1", "http://c.example/"}},
		URLList: []string{"http://w.example/"}, HTTPSeeds: []string{"http://s.example/f.pkg"}, Sources: []string{"http://o.example/"},
		Nodes: []string{"h.example:1", "[::1]:2"}, Comment: "c", CreatedBy: "cb", CreationDate: "2023-11-14T22:13:20Z", Encoding: "UTF-8",
		Publisher: "p", PublisherURL: "pu",
		OtherKeys: []OtherKey{
			{"info.md5sum", `"m"`}, {"signature", `"` + strings.Repeat("x", maxOtherValue-1) + "…"}, {"zz", `[1, "hex:00", {"k": "v"}]`},
		},
		Warnings: []string{"nodes: DHT nodes of a private torrent"},
		Files:    []DescribedFile{{Path: "f.pkg", Length: 100_000}}, PieceHashes: bytes.Repeat([]byte("x"), 80),
		Magnet: MagnetParts{InfoHashV1: hash, Name: "é", Size: 100_000, Trackers: []string{"http://a.example/", "udp://b.example:1", "http://c.example/"},
			WebSeeds: []string{"http://w.example/"}}.String(),
	}
	if len(hash) != 40 || !reflect.DeepEqual(*d, want) {
		t.Errorf("%+v\nwant %+v", *d, want)
	}
}

func TestDescribeOfHybridFiles(t *testing.T) {
	d := describe(t, torrentFixture(t, "hybrid-multi"))
	var lines []string
	for _, f := range d.Files {
		lines = append(lines, fmt.Sprint(f.Path, " ", f.Length, " ", f.Pad, " ", len(f.PiecesRoot)))
	}
	want := []string{"one.pkg 70000 false 64", ".pad/28304 28304 true 0", "sub/two.pkg 50000 false 64", ".pad/15536 15536 true 0", "three.pkg 32768 false 64"}
	if !slices.Equal(lines, want) || d.FileCount != 3 || d.Size != 152_768 || len(d.PieceLayers) != 2 {
		t.Errorf("%q, %d files, %d bytes, %d layers", lines, d.FileCount, d.Size, len(d.PieceLayers))
	}
}

func TestDescribeWarns(t *testing.T) {
	multi := func(files ...map[string]any) map[string]any { return map[string]any{"info": v1Multi(files...)} }
	v1 := func(change func(map[string]any)) map[string]any { return map[string]any{"info": v1Info(change)} }
	for _, tt := range []struct {
		name string
		meta any
		want []string // what the warnings begin with
	}{
		{"nothing", v1(nil), nil},
		{"name", v1(func(info map[string]any) { info["name"] = "../x" }), []string{refused + "info.name: slash"}},
		{"path", multi(v1Entry(testPiece, "", "a", ".."), v1Entry(testPiece, "", "")),
			[]string{refused + "info.files[0].path[1]: name of a directory", "info.files[1].path[0]: empty name"}},
		{"wrong kinds", map[string]any{"info": v1Info(nil), "announce": 1, "announce-list": "x", "url-list": 5, "nodes": []any{"x"}, "creation date": "now"}, []string{
			"announce: an integer instead of a string (byte ", "announce-list: a string instead of a list", "creation date: a string instead of an integer",
			"nodes[0]: a string instead of a list", "url-list: an integer instead of a list"}},
		{"piece length", v1(func(info map[string]any) { info["piece length"], info["pieces"] = 3*BlockSize, strings.Repeat("x", 60) }),
			[]string{"info.piece length: 49152 is not a power of two"}},
		{"no piece length", v1(func(info map[string]any) { delete(info, "piece length") }), []string{refused + "info.piece length: 0 is not usable"}},
		{"pieces", v1(func(info map[string]any) { info["pieces"] = "x" }), []string{refused + "info.pieces: 1 bytes of hashes for 4 pieces"}},
		{"sharing", multi(v1Entry(5, "", "a"), v1Entry(testPiece-5, "", "b"), v1Entry(5, "", "c"), v1Entry(testPiece-5, "p", "d"), v1Entry(5, "", "e")),
			[]string{"info.files: 2 of 4 files share pieces"}},
		{"no layer", v2Meta(t, func(meta, _, _ map[string]any) { meta["piece layers"] = map[string]any{} }),
			[]string{refused + "piece layers: none for the file", "piece layers: none for f.pkg"}},
		{"short layer", v2Meta(t, func(meta, _, file map[string]any) {
			meta["piece layers"] = map[string]any{file["pieces root"].(string): strings.Repeat("x", 64)}
		}), []string{refused + "piece layers: 64 bytes for 4 pieces", "piece layers.<"}},
		{"other layer", v2Meta(t, func(meta, _, file map[string]any) {
			meta["piece layers"] = map[string]any{file["pieces root"].(string): strings.Repeat("x", 128)}
		}), []string{refused + "piece layers: the hashes do not belong", "piece layers.<"}},
		{"root", v2Meta(t, func(_, _, file map[string]any) { file["pieces root"] = "x" }),
			[]string{refused + `info.file tree."f.pkg"."".pieces root: missing, of the wrong length`, "piece layers: none for f.pkg"}},
		{"tree", v2Meta(t, func(_, info, file map[string]any) {
			info["file tree"] = map[string]any{"..": map[string]any{"": file}}
		}), []string{refused + `info.file tree."..": name of a directory`}},
		{"hybrid, other length", hybridMeta(t, func(_, info, _ map[string]any) { info["length"] = 99_999 }),
			[]string{refused + "info.files, info.file tree: v1 and v2 metadata disagree: f.pkg of 99999 bytes, f.pkg of 100000 bytes"}},
		{"meta version", v1(func(info map[string]any) { info["meta version"] = 3 }), []string{refused + "info.meta version: 3 is unknown"}},
		{"trackers", map[string]any{"info": v1Info(nil), "announce": "http://127.0.0.1/", "announce-list": []any{[]any{"udp://tracker:1", "wss://t.example"}}}, []string{
			"announce: at a private address: 127.0.0.1", "announce-list[0][0]: at a private address: tracker", "announce-list[0][1]: not a usable"}},
		{"private", v1(func(info map[string]any) { info["private"] = 1 }), []string{"info.private: 1, but there is no tracker"}},
		{"date", map[string]any{"info": v1Info(nil), "creation date": -5}, []string{"creation date: -5 is no date"}},
		{"far date", map[string]any{"info": v1Info(nil), "creation date": int64(1) << 60}, []string{"creation date: 1152921504606846976 is no date"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := describe(t, bencoded(t, tt.meta))
			if len(d.Warnings) < len(tt.want) || len(d.Warnings) > 0 && len(tt.want) == 0 {
				t.Fatalf("%q", d.Warnings)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(d.Warnings[i], want) {
					t.Errorf("%q\nwant %q", d.Warnings, tt.want)
				}
			}
		})
	}
}

// What is not the right form is told, and what is cut short is described as far as it goes.
func TestDescribeOfOddBencode(t *testing.T) {
	whole := bencoded(t, map[string]any{"announce": "http://a.example/", "info": v1Info(nil)})
	for at := range whole {
		d, err := Describe(whole[:at])
		if begun := bytes.Contains(whole[:at], []byte("4:infod")); begun != (err == nil) {
			t.Fatalf("cut at %d: %v", at, err)
		}
		if err != nil {
			if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "(byte ") {
				t.Errorf("cut at %d: %v", at, err)
			}
			continue
		}
		if d.Announce != "http://a.example/" || !strings.HasSuffix(d.Warnings[0], "nothing behind it is shown") {
			t.Errorf("cut at %d: %+v", at, d)
		}
		checkDescription(t, whole[:at], d)
	}
	for _, tt := range []struct{ text, want string }{
		{"d4:info" + string(bencoded(t, v1Info(nil))) + "e\n", "a newline follows the end"},
		{"d4:info" + string(bencoded(t, v1Info(nil))) + "exy", "2 bytes follow the end"},
		{"d4:infod4:name1:a6:lengthi5e12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaaee", "info.length: the key is out of order"},
		{"d4:infod6:lengthi5e4:name1:a4:name1:a12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaaee", "info.name: the key stands there twice"},
		{"d4:infod6:lengthi05e4:name1:a12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaaee", "info.length: integer with leading zeros"},
		{"d4:infod6:lengthi99999999999999999999e4:name1:aee", "info.length: integer does not fit 64 bits"},
	} {
		d := describe(t, []byte(tt.text))
		if !strings.Contains(strings.Join(d.Warnings, "\n"), tt.want) {
			t.Errorf("%q: %q", tt.text, d.Warnings)
		}
	}
	for _, text := range []string{"", "x", "le", "5:hello", "d4:infolee", "d8:announce3:abce", "i5e"} {
		if d, err := Describe([]byte(text)); d != nil || !errors.Is(err, ErrUnusable) || !namesPlace(err.Error()) {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
}

// hostile returns what is made to cost time or memory.
func hostile() map[string]string {
	fill := func(head, part, tail string) string {
		return head + strings.Repeat(part, (hostileSize-len(head)-len(tail))/len(part)) + tail
	}
	numbered := func(head, format, tail string, n int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n / (MaxSize / hostileSize) {
			fmt.Fprintf(&b, format, i)
		}
		return b.String() + tail
	}
	backwards := func(head, tail string, n int) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n / (MaxSize / hostileSize) {
			fmt.Fprintf(&b, "7:%07di0e", n-i)
		}
		return b.String() + tail
	}
	long := func(head, part, tail string) string { // one string of as many parts as there is room for
		n := (hostileSize - len(head) - len(tail) - 10) / len(part)
		return fmt.Sprintf("%s%d:%s%s", head, n*len(part), strings.Repeat(part, n), tail)
	}
	hash := strings.Repeat("\xff", 32)
	deep := strings.Repeat("d1:a", showNesting-2)
	v1 := "6:lengthi5e4:name1:f12:piece lengthi32768e6:pieces20:aaaaaaaaaaaaaaaaaaaa"
	return map[string]string{
		"lists":                 fill("", "l", ""),
		"dicts":                 fill("d4:info", "d1:a", ""),
		"empty lists":           fill("d4:infod1:al", "le", "e"+v1+"ee"),
		"empty strings, deep":   fill("d4:info"+deep+"l", "0:", "e"+strings.Repeat("e", showNesting)),
		"integers":              fill("d4:infod1:al", "i0e", "e"+v1+"ee"),
		"odd integers":          fill("d4:infod1:al", "i00e", "e"+v1+"ee"),
		"bytes":                 fill("d4:infod1:al", "1:\x00", "e"+v1+"ee"),
		"escapes":               fill("d4:infod1:al", "2:\"\n", "e"+v1+"ee"),
		"huge integer":          fill("d4:infod6:lengthi", "1", "eee"),
		"huge name":             long("d4:infod4:name", "\x01", "ee"),
		"huge text":             long("d7:comment", "é", "4:infod"+v1+"ee"),
		"huge key":              long("d4:infod", "k", "i1eee"),
		"huge claim":            "d4:infod6:pieces999999999999:ee",
		"files":                 fill("d4:infod5:filesl", "d6:lengthi1e4:pathl1:aee", "e4:name1:d12:piece lengthi32768eee"),
		"files without end":     fill("d4:infod5:filesl", "d6:lengthi1e4:pathl1:aee", ""),
		"path elements":         fill("d4:infod5:filesld4:pathl", "0:", "eeeee"),
		"odd paths":             fill("d4:infod5:filesl", "d4:pathl2:\xff\x01ee", "eee"),
		"nodes of a tree":       numbered("d4:infod9:file treed", "7:%07dd0:d6:lengthi1eee", "eee", 500_000),
		"deep tree":             "d4:infod9:file treed" + strings.Repeat("1:ad", 50) + numbered("", "7:%07dd0:d6:lengthi1eee", "", 500_000) + strings.Repeat("e", 53),
		"layers":                numbered("d4:infod12:piece lengthi16384ee12:piece layersd", "32:%032d32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ee", 220_000),
		"layers of huge pieces": numbered("d4:infod12:meta versioni2e12:piece lengthi67108864ee12:piece layersd", "32:%032d32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ee", 220_000),
		"a layer":               long("d4:infod12:meta versioni2e12:piece lengthi16384ee12:piece layersd32:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", hash, "ee"),
		"pieces":                long("d4:infod6:pieces", "\xff", "ee"),
		"URLs":                  fill("d4:infod"+v1+"e8:url-listl", "20:http://m.example/abc", "ee"),
		"long URLs":             fill("d4:infod"+v1+"e8:url-listl", "2000:http://m.example/"+strings.Repeat("%2f~", 495)+"abc", "ee"),
		"tiers":                 fill("d13:announce-listl", "l1:ae", "e4:infod"+v1+"ee"),
		"nodes":                 fill("d4:infod"+v1+"e5:nodesl", "l1:ai1ee", "ee"),
		"keys":                  numbered("d4:infod", "7:%07di0e", "ee", 1_300_000),
		"keys backwards":        backwards("d4:infod", "ee", 1_300_000),
		"keys half backwards":   backwards("d4:infod", "ee", maxOddKeys-10),
		"small dicts backwards": fill("d4:infod1:al", "d1:bi0e1:ai0ee", "e"+v1+"ee"),
		"same keys":             fill("d4:infod", "1:ai0e", "ee"),
	}
}

// cost fails if do allocates more than 64 MiB, what was freed again counted too, and tells what it costs.
func cost(t *testing.T, name string, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	do()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%-40s %6.1f MiB  %v", name, float64(allocated)/(1<<20), took)
	if allocated > 64<<20 {
		t.Errorf("%s: %d bytes allocated", name, allocated)
	}
}

func TestHostileInputCostsLittle(t *testing.T) {
	for name, text := range hostile() {
		data := []byte(text)
		if len(data) > MaxSize {
			t.Fatalf("%s: %d bytes", name, len(data))
		}
		var d *Description
		cost(t, name+": Describe", func() { d, _ = Describe(data) })
		if d != nil {
			cost(t, name+": JSON of it", func() { d.WriteJSON(io.Discard) })
		}
		cost(t, name+": WriteJSON", func() { WriteJSON(io.Discard, data) })
	}
}

func TestHostileJSONCostsLittle(t *testing.T) {
	fill := func(head, part, tail string) string {
		return head + strings.Repeat(part, (hostileSize-len(head)-len(tail))/len(part)) + tail
	}
	var keys strings.Builder
	for i := range hostileSize / 13 {
		fmt.Fprintf(&keys, `"%07d":0,`, 9_000_000-i)
	}
	backwards := func(n int) string { return keys.String()[:min(n*len(`"0000000":0,`), keys.Len())] }
	for name, text := range map[string]string{
		"arrays":              fill("", "[", ""),
		"empty arrays":        fill("[", "[],", "[]]"),
		"numbers":             fill("[", "0,", "0]"),
		"a number":            fill("", "1", ""),
		"empty strings":       fill("[", `"",`, `""]`),
		"escapes":             fill(`"`, `\n`, `"`),
		"code points":         fill(`"`, `\u0001`, `"`),
		"a string":            fill(`"`, "é", `"`),
		"hex":                 fill(`"hex:`, "00", `"`),
		"white space":         fill("", " ", "1"),
		"objects":             fill("[", `{"b":0,"a":1},`, "0]"),
		"same keys":           fill("{", `"a":0,`, `"a":0}`),
		"keys backwards":      "{" + backwards(hostileSize) + `"":0}`,
		"keys half backwards": "{" + backwards(maxOddKeys-10) + `"":0}`,
		"keys, deep":          strings.Repeat(`{"b":0,"a":`, showNesting-1) + "{" + backwards(100_000) + `"":0}` + strings.Repeat("}", showNesting-1),
	} {
		if len(text) > MaxSize {
			t.Fatalf("%s: %d bytes", name, len(text))
		}
		cost(t, name, func() { ReadJSON(strings.NewReader(text)) })
	}
}

// mutate changes data as a fuzzer would.
func mutate(r *rand.Rand, data []byte, others [][]byte) []byte {
	data = bytes.Clone(data)
	for range 1 + r.IntN(4) {
		at := r.IntN(len(data) + 1)
		switch r.IntN(9) {
		case 0:
			data = data[:at]
		case 1:
			if at < len(data) {
				data[at] = byte(r.Uint32())
			}
		case 2:
			if at < len(data) {
				data[at] = "0123456789:-eild\n"[r.IntN(17)]
			}
		case 3:
			end := min(len(data), at+r.IntN(40))
			data = slices.Delete(data, at, end)
		case 4:
			end := min(len(data), at+r.IntN(200))
			data = slices.Insert(data, at, bytes.Clone(data[at:end])...)
		case 5:
			part := []string{"99999999999:", "i-0e", "i99999999999999999999e", "0:", "le", "de", "d1:ai1e1:ai1ee", "d1:bi1e1:ai1ee", "i01e", "4:info",
				"6:pieces", "6:lengthi-1e", strings.Repeat("l", 70), strings.Repeat("d1:a", 40)}
			data = slices.Insert(data, at, []byte(part[r.IntN(len(part))])...)
		case 6:
			other := others[r.IntN(len(others))]
			from := r.IntN(len(other) + 1)
			data = slices.Concat(data[:at], other[from:])
		case 7: // another value of an integer
			if i := bytes.IndexByte(data[at:], 'i'); i >= 0 {
				if e := bytes.IndexByte(data[at+i:], 'e'); e > 0 {
					value := []string{"0", "-1", "9223372036854775807", "9223372036854775808", "", "x", "00"}[r.IntN(7)]
					data = slices.Replace(data, at+i+1, at+i+e, []byte(value)...)
				}
			}
		case 8: // another length of a string
			if i := bytes.IndexByte(data[at:], ':'); i > 0 && data[at+i-1] >= '0' && data[at+i-1] <= '9' {
				data = slices.Insert(data, at+i, byte('0'+r.IntN(10)))
			}
		}
	}
	return data
}

// Ten thousand torrents, always the same ones: no panic, errors that name a key or an offset, and never much memory.
func TestMutatedTorrents(t *testing.T) {
	fixtures, bad := torrentFixtures(t), malformed(t)
	var seeds [][]byte
	for _, all := range []map[string][]byte{fixtures, bad} {
		names := []string{}
		for name, data := range all {
			if len(data) < 1<<16 {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			seeds = append(seeds, all[name])
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	described := 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 10_000 {
		data := mutate(r, seeds[i%len(seeds)], seeds)
		_, err := Parse(data, "")
		if err != nil && (!errors.Is(err, ErrUnusable) || !namesPlace(err.Error()) || len(err.Error()) > 300) {
			t.Fatalf("%d: Parse: %v", i, err)
		}
		d, err := Describe(data)
		if err != nil && (!errors.Is(err, ErrUnusable) || !namesPlace(err.Error())) {
			t.Fatalf("%d: Describe: %v", i, err)
		}
		if d != nil {
			described++
			checkDescription(t, data, d)
		}
		if err := WriteJSON(io.Discard, data); err == nil {
			checkJSONRoundTrip(t, "", data)
		} else if !strings.Contains(err.Error(), "(byte ") {
			t.Fatalf("%d: WriteJSON: %v", i, err)
		}
	}
	runtime.ReadMemStats(&after)
	// The limit on each is that of TestHostileInputCostsLittle; these are small, and cost little on the average.
	if each := (after.TotalAlloc - before.TotalAlloc) / 10_000; each > 4<<20 {
		t.Errorf("%d bytes for each", each)
	}
	if described < 2000 {
		t.Errorf("only %d were described: they test little", described)
	}
}

func FuzzDescribe(f *testing.F) {
	for _, data := range torrentFixtures(f) {
		f.Add(data)
	}
	for _, data := range malformed(f) {
		if len(data) < 1<<16 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Describe(data)
		if err != nil {
			if d != nil || !errors.Is(err, ErrUnusable) || !namesPlace(err.Error()) {
				t.Fatalf("%v, %v", d, err)
			}
			return
		}
		checkDescription(t, data, d)
	})
}
