package metainfo

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteJSON(t *testing.T) {
	for _, tt := range []struct{ name, bencode, want string }{
		{"integer", "i-42e", "-42"},
		{"more than 64 bits", "i123456789012345678901234567890e", "123456789012345678901234567890"},
		{"text", "5:a\"\\\n\t", `"a\"\\\n\t"`},
		{"UTF-8", "4:a<\xc3\xa9", `"a<é"`},
		{"what turns text around", "3:\u202e", `"\u202e"`},
		{"unprintable beyond the first plane", "4:\U000e0001", `"\udb40\udc01"`},
		{"invalid UTF-8", "2:a\xff", `"hex:61ff"`},
		{"control character", "2:a\x1b", `"hex:611b"`},
		{"C1 control character", "2:\u009b", `"hex:c29b"`},
		{"carriage return", "3:a\r\n", `"hex:610d0a"`},
		{"text like the mark", "6:hex:61", `"text:hex:61"`},
		{"text like the other mark", "6:text:a", `"text:text:a"`},
		{"empty", "0:", `""`},
		{"empty list and dict", "lledee", "[\n  [],\n  {}\n]"},
		{"keys", "d0:i1e1:\xffi2e4:hex:i3ee", "{\n  \"\": 1,\n  \"hex:ff\": 2,\n  \"text:hex:\": 3\n}"},
		{"nested", "d1:al1:bd1:ci1eeee", "{\n  \"a\": [\n    \"b\",\n    {\n      \"c\": 1\n    }\n  ]\n}"},
		{"order of the input", "d1:bi1e1:ai2ee", "{\n  \"b\": 1,\n  \"a\": 2\n}"},
		{"needless zeros", "li007ei-0ei000ei-05e02:abe", "[\n  7,\n  0,\n  0,\n  -5,\n  \"ab\"\n]"},
		{"something behind", "i1e\n", "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if err := WriteJSON(&b, []byte(tt.bencode)); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want+"\n" {
				t.Errorf("%s\nwant %s", b.String(), tt.want)
			}
			if !json.Valid([]byte(b.String())) {
				t.Errorf("no JSON: %s", b.String())
			}
		})
	}
}

func TestWriteJSONRefuses(t *testing.T) {
	for _, tt := range []struct{ name, bencode, want string }{
		{"nothing", "", "empty (byte 0)"},
		{"no bencode", "<html>", `no value begins with "<" (byte 0)`},
		{"cut short", "d4:infod6:pieces", "info.pieces: cut short (byte 16)"},
		{"claims too much", "d4:infod6:pieces99999:abcdefghijklee", "info.pieces: string claims 99999 bytes, 14 are left (byte 16)"},
		{"claims more than there is memory", "99999999999999999999999:a", "string claims 99999999999999999999 bytes, 1 are left (byte 0)"},
		{"key twice", "d1:ad1:bi1e1:bi2eee", "a.b: the key stands there twice (byte 11)"},
		{"key twice, apart", "d1:bi1e1:ai1e1:bi2ee", "b: the key stands there twice (byte 13)"},
		{"key without value", "d1:ae", "a: key without value (byte 4)"},
		{"key that is no string", "d1:ai1ei2ei3ee", "a key is not a string (byte 7)"},
		{"integer", "d1:ali1ei1.5eee", "a[1]: malformed integer (byte 8)"},
		{"plus", "i+1e", "malformed integer (byte 0)"},
		{"no digits", "i-e", "malformed integer (byte 0)"},
		{"integer cut short", "i12", "integer is cut short (byte 0)"},
		{"length", "d1:a5xe", "a: malformed length of a string (byte 4)"},
		{"binary key", "d20:\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14i1xe", "<0102030405060708090a0b0c0d0e0f1011121314>: malformed integer (byte 24)"},
		{"odd keys", "d3:a.bd0:i1xee", `"a.b"."": malformed integer (byte 9)`},
		{"too deep", strings.Repeat("l", 65), strings.Repeat("[0]", 20) + "…" + strings.Repeat("[0]", 20) + ": nested more than 64 deep (byte 64)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			err := WriteJSON(&b, []byte(tt.bencode))
			if err == nil || err.Error() != tt.want {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
	if err := WriteJSON(&strings.Builder{}, make([]byte, maxShownSize+1)); err == nil {
		t.Error("64 MiB and a byte")
	}
}

func TestNonCanonical(t *testing.T) {
	for _, tt := range []struct {
		bencode string
		want    []string
	}{
		{"d1:ai1e1:bi0ee", nil},
		{"d1:bi1e1:ai2e1:ci3ee", []string{"a: the key is out of order (byte 7)"}},
		{"d1:ali007ei-0ei-07eee", []string{
			"a[0]: integer with leading zeros (byte 5)", "a[1]: minus zero (byte 10)", "a[2]: integer with leading zeros (byte 14)"}},
		{"l02:abe", []string{"[0]: length of a string with leading zeros (byte 1)"}},
		{"d1:ai1e1:ai2ee", []string{"a: the key stands there twice (byte 7)"}},
		{"d1:bi1e1:ai1e1:bi2ee", []string{"a: the key is out of order (byte 7)", "b: the key stands there twice (byte 13)"}},
		{"d1:bi1e1:ai1e1:ai2ee", []string{"a: the key is out of order (byte 7)", "a: the key stands there twice (byte 13)"}},
		{"i1e\n", []string{"a newline follows the end (byte 3)"}},
		{"i1exyz", []string{"3 bytes follow the end (byte 3)"}},
		{"li01ex", []string{"[0]: integer with leading zeros (byte 1)"}},
	} {
		if got := NonCanonical([]byte(tt.bencode)); strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%s: %q", tt.bencode, got)
		}
	}
	if got := NonCanonical([]byte("l" + strings.Repeat("i00e", 300) + "e")); len(got) != maxOddities+1 || got[maxOddities] != "and 200 more places" {
		t.Errorf("%d, %q", len(got), got[len(got)-1])
	}
}

func TestReadJSON(t *testing.T) {
	for _, tt := range []struct{ name, json, want string }{
		{"sorted", `{"b": 1, "a": {"z": [], "y": {}}, "ab": "x"}`, "d1:ad1:yde1:zlee2:ab1:x1:bi1ee"},
		{"sorted as bytes", `{"é": 1, "hex:ff": 2, "z": 3, "text:hex:": 4}`, "d4:hex:i4e1:zi3e2:éi1e1:\xffi2ee"},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`, "14:\"\\/\b\f\n\r\té😀"},
		{"marks", `["hex:", "hex:00fF", "text:", "text:text:", "text:hex:zz", "Hex:1"]`, "l0:2:\x00\xff0:5:text:6:hex:zz5:Hex:1e"},
		{"integers", " [ 0 , -0 , -1,123456789012345678901234567890 ]\r\n\t", "li0ei0ei-1ei123456789012345678901234567890ee"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadJSON(strings.NewReader(tt.json))
			if err != nil || string(got) != tt.want {
				t.Errorf("%q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
}

func TestReadJSONRefuses(t *testing.T) {
	for _, tt := range []struct{ name, json, want string }{
		{"nothing", "", "cut short (byte 0)"},
		{"true", `{"info": {"private": true}}`, "info.private: bencode has no true: 1 and 0 stand for true and false (byte 21)"},
		{"false", `[false]`, "[0]: bencode has no false: 1 and 0 stand for true and false (byte 1)"},
		{"null", `{"a": [0, null]}`, "a[1]: bencode has no null: leave the key out (byte 10)"},
		{"float", `{"a": 1.5}`, "a: not an integer: bencode has no other numbers (byte 7)"},
		{"exponent", `1e3`, "not an integer: bencode has no other numbers (byte 1)"},
		{"leading zero", `01`, "malformed number (byte 1)"},
		{"minus", `-`, "malformed number (byte 0)"},
		{"letters", `12a`, "malformed number (byte 2)"},
		{"key twice", `{"a": {"b": 1, "b": 2}}`, "a.b: the key stands there twice (byte 17)"},
		{"key twice, apart", `{"b": 1, "a": 1, "hex:62": 2}`, "b: the key stands there twice (byte 28)"},
		{"no hex", `{"a": "hex:0"}`, "a: no hexadecimal digits, two for each byte, behind hex:; text:hex: begins a text that is meant to begin so (byte 12)"},
		{"half a pair", `"\ud83dx"`, "half a surrogate pair (byte 7)"},
		{"the other half", `"\ude00\ude00"`, "half a surrogate pair (byte 12)"},
		{"no digits", `"\u00g0"`, `no four hexadecimal digits behind \u (byte 5)`},
		{"unknown escape", `"\x"`, `no escape sequence has 'x' behind its backslash (byte 2)`},
		{"control character", "\"\x01\"", "control character in a string (byte 1)"},
		{"invalid UTF-8", "\"\xff\"", "invalid UTF-8 (byte 1)"},
		{"comma", `{"a": 1 "b": 2}`, `'"' instead of a comma or } (byte 8)`},
		{"comma before the end", `[1,]`, `[1]: no value begins with ']' (byte 3)`},
		{"colon", `{"a" 1}`, `a: '1' instead of a colon (byte 5)`},
		{"key", `{1: 2}`, `'1' instead of a key in quotes (byte 1)`},
		{"two values", `1 2`, `'2' follows the end (byte 2)`},
		{"cut short", `{"a": [1, "x`, "a[1]: cut short (byte 12)"},
		{"word", `nul`, `no value begins with "nul" (byte 0)`},
		{"too deep", strings.Repeat("[", 65), strings.Repeat("[0]", 20) + "…" + strings.Repeat("[0]", 20) + ": nested more than 64 deep (byte 64)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadJSON(strings.NewReader(tt.json))
			if got != nil || err == nil || err.Error() != tt.want {
				t.Errorf("%q, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func torrentFixtures(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "torrents", "*.torrent"))
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	all := map[string][]byte{}
	for _, file := range files {
		if all[filepath.Base(file)], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestTorrentsComeBackFromJSON(t *testing.T) {
	for name, data := range torrentFixtures(t) {
		checkJSONRoundTrip(t, name, data)
	}
}

// checkJSONRoundTrip returns what comes back, which is data if that is canonical. Data has to be bencode without keys twice.
func checkJSONRoundTrip(t *testing.T, name string, data []byte) {
	t.Helper()
	var text bytes.Buffer
	if err := WriteJSON(&text, data); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !json.Valid(text.Bytes()) {
		t.Fatalf("%s: no JSON: %.1000s", name, text.Bytes())
	}
	again, err := ReadJSON(bytes.NewReader(text.Bytes()))
	if err != nil {
		t.Fatalf("%s: %v in %.1000s", name, err, text.Bytes())
	}
	odd := NonCanonical(data)
	if (odd == nil) != bytes.Equal(again, data) {
		t.Fatalf("%s: came back as %.200q, odd: %q", name, again, odd)
	}
	if odd := NonCanonical(again); odd != nil {
		t.Fatalf("%s: came back not canonical: %q", name, odd)
	}
}

func FuzzBencodeJSON(f *testing.F) {
	for _, data := range torrentFixtures(f) {
		f.Add(data)
	}
	for _, text := range []string{"i-0e", "d1:bi1e1:ai2ee", "l3:hex5:text:e\n", "d1:ai1e1:ai2ee", "3:\xf0\x9f\x98", "i123456789012345678901234567890e"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := WriteJSON(&bytes.Buffer{}, data); err == nil {
			checkJSONRoundTrip(t, "", data)
		} else if !strings.Contains(err.Error(), "(byte ") {
			t.Errorf("no place: %v", err)
		}
	})
}

func FuzzReadJSON(f *testing.F) {
	for _, text := range []string{
		`{"b": 1, "a": [{}, "hex:00", "text:x", "\u00e9\ud83d\ude00"], "hex:ff": -0}`, `[1.5]`, `null`, `{"a":1,"a":2}`, `"\ud800"`, ` 12 `, "[[[",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		data, err := ReadJSON(bytes.NewReader(text))
		if err != nil {
			if data != nil || !strings.Contains(err.Error(), "(byte ") {
				t.Errorf("%q, %v", data, err)
			}
			return
		}
		if !json.Valid(text) {
			t.Errorf("was read though it is no JSON")
		}
		if odd := NonCanonical(data); odd != nil {
			t.Errorf("not canonical: %q", odd)
		}
		checkJSONRoundTrip(t, "", data)
	})
}
