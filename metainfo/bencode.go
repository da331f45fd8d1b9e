package metainfo

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	showNesting  = 64      // dicts and lists within each other, in what is only looked at
	maxOddKeys   = 1 << 19 // keys, in all, of dicts whose keys are out of order
	maxPath      = 120     // bytes of a path in a message
	maxPathKey   = 40      // bytes of one key in it
	maxOddities  = 100     // places, of each of two kinds, that odd is told of
	maxShownSize = 64 << 20
)

// flaw says what is wrong with bencode, and where.
type flaw struct {
	path   string // of keys and indexes; "": the outermost value
	offset int    // bytes from the beginning
	what   string
}

const keyTwice = "the key stands there twice"

func (f *flaw) Error() string {
	if f.path == "" {
		return fmt.Sprintf("%s (byte %d)", f.what, f.offset)
	}
	return fmt.Sprintf("%s: %s (byte %d)", f.path, f.what, f.offset)
}

// token is a step through bencode: a dict or list begins (d, l) or ends (e), an integer (i), a string (s), a key (k); 0:
// the outermost value is over.
type token struct {
	kind byte
	at   int    // where it begins
	text []byte // of a string or key; the digits of an integer, with their sign, as they stand
}

// opens tells whether more belongs to the value that begins here.
func (t token) opens() bool { return t.kind == 'd' || t.kind == 'l' }

// scanner goes through one bencoded value (BEP 3). It allocates nothing but its errors and what it needs to find keys
// that stand twice in a dict out of order.
type scanner struct {
	data   []byte
	limit  int         // nesting; not above showNesting
	odd    func(*flaw) // told of what is readable but not in the one right form, up to a limit; nil: that is an error
	pos    int
	depth  int
	stack  [showNesting]frame
	keys   []uint32 // where the keys of the open dicts begin; if odd is not nil
	sorted int      // keys that had to be sorted
	odds   [2]int   // how often odd was to be told: of other things, of keys that stand there twice
}

// frame is a dict or list that was begun.
type frame struct {
	dict, value bool // value: a key was read, its value comes next
	unsorted    bool
	last        []byte // the key that was read last
	index       int    // of the value that was read last, in a list
	keys        int    // its first in scanner.keys
}

// next returns what comes next. After an error there is no more.
func (s *scanner) next() (token, error) {
	if s.depth == 0 && s.pos > 0 {
		return token{at: s.pos}, s.rest()
	}
	if s.pos >= len(s.data) {
		if len(s.data) == 0 {
			return token{}, s.fail(0, 0, "empty")
		}
		return token{}, s.fail(s.depth, s.pos, "cut short")
	}
	at, c := s.pos, s.data[s.pos]
	if s.depth > 0 {
		top := &s.stack[s.depth-1]
		switch {
		case c == 'e' && top.value:
			return token{}, s.fail(s.depth, at, "key without value")
		case c == 'e':
			if err := s.close(top); err != nil {
				return token{}, err
			}
			return token{kind: 'e', at: at}, nil
		case top.dict && !top.value:
			return s.key(top)
		case !top.dict:
			top.index++
		}
		top.value = false
	}
	switch {
	case c == 'd' || c == 'l':
		if s.depth == s.limit {
			return token{}, s.fail(s.depth, at, fmt.Sprintf("nested more than %d deep", s.limit))
		}
		s.stack[s.depth] = frame{dict: c == 'd', index: -1, keys: len(s.keys)}
		s.depth++
		s.pos++
		return token{kind: c, at: at}, nil
	case c == 'i':
		return s.integer()
	case c >= '0' && c <= '9':
		text, err := s.text(s.depth)
		return token{kind: 's', at: at, text: text}, err
	}
	return token{}, s.fail(s.depth, at, "no value begins with "+strconv.QuoteToASCII(string(s.data[at:at+1])))
}

// key reads a key of the innermost dict.
func (s *scanner) key(top *frame) (token, error) {
	at := s.pos
	if c := s.data[at]; c < '0' || c > '9' {
		return token{}, s.fail(s.depth-1, at, "a key is not a string")
	}
	key, err := s.text(s.depth - 1)
	if err != nil {
		return token{}, err
	}
	order := -1
	if top.last != nil {
		order = bytes.Compare(top.last, key)
	}
	top.last, top.value = key, true
	switch {
	case order == 0:
		err = s.strange(s.depth, at, keyTwice)
	case order > 0 && !top.unsorted:
		err = s.strange(s.depth, at, "the key is out of order")
		top.unsorted = true
	}
	if s.odd != nil && order != 0 { // one that was told of is not told of again when the dict is over
		s.keys = append(s.keys, uint32(at))
	}
	if top.unsorted && s.sorted+len(s.keys)-top.keys > maxOddKeys {
		err = s.fail(s.depth-1, at, "too many keys are out of order")
	}
	return token{kind: 'k', at: at, text: key}, err
}

// close ends the innermost dict or list.
func (s *scanner) close(top *frame) error {
	if top.unsorted {
		keys := s.keys[top.keys:]
		s.sorted += len(keys)
		slices.SortFunc(keys, func(a, b uint32) int {
			if order := bytes.Compare(keyAt(s.data, a), keyAt(s.data, b)); order != 0 {
				return order
			}
			return int(a) - int(b)
		})
		for i := 1; i < len(keys); i++ {
			if top.last = keyAt(s.data, keys[i]); !bytes.Equal(top.last, keyAt(s.data, keys[i-1])) {
				continue
			}
			if err := s.strange(s.depth, int(keys[i]), keyTwice); err != nil {
				return err
			}
		}
	}
	s.keys = s.keys[:top.keys]
	s.depth--
	s.pos++
	return nil
}

// keyAt returns the key that begins at pos, where one was read already.
func keyAt(data []byte, pos uint32) []byte {
	n := 0
	for ; data[pos] != ':'; pos++ {
		n = n*10 + int(data[pos]-'0')
	}
	return data[pos+1:][:n]
}

func (s *scanner) integer() (token, error) {
	at, pos := s.pos, s.pos+1
	if pos < len(s.data) && s.data[pos] == '-' {
		pos++
	}
	first := pos
	for pos < len(s.data) && s.data[pos] >= '0' && s.data[pos] <= '9' {
		pos++
	}
	switch {
	case pos == len(s.data):
		return token{}, s.fail(s.depth, at, "integer is cut short")
	case pos == first || s.data[pos] != 'e':
		return token{}, s.fail(s.depth, at, "malformed integer")
	}
	t := token{kind: 'i', at: at, text: s.data[at+1 : pos]}
	s.pos = pos + 1
	if s.data[first] == '0' && pos > at+2 {
		what := "integer with leading zeros"
		if pos == first+1 {
			what = "minus zero"
		}
		return t, s.strange(s.depth, at, what)
	}
	return t, nil
}

// text reads a string, the path to which has so many levels. What it returns is not nil.
func (s *scanner) text(levels int) ([]byte, error) {
	at, pos, n := s.pos, s.pos, 0
	for pos < len(s.data) && s.data[pos] >= '0' && s.data[pos] <= '9' {
		if n < 1<<40 {
			n = n*10 + int(s.data[pos]-'0')
		}
		pos++
	}
	switch {
	case pos == len(s.data):
		return nil, s.fail(levels, at, "string is cut short")
	case s.data[pos] != ':':
		return nil, s.fail(levels, at, "malformed length of a string")
	case n > len(s.data)-pos-1:
		return nil, s.fail(levels, at, fmt.Sprintf("string claims %.20s bytes, %d are left", s.data[at:pos], len(s.data)-pos-1))
	}
	s.pos = pos + 1 + n
	text := s.data[pos+1 : s.pos : s.pos]
	if s.data[at] == '0' && pos > at+1 {
		return text, s.strange(levels, at, "length of a string with leading zeros")
	}
	return text, nil
}

// rest looks at what follows the outermost value.
func (s *scanner) rest() error {
	switch rest := s.data[s.pos:]; {
	case len(rest) == 0:
		return nil
	case string(rest) == "\n":
		return s.strange(0, s.pos, "a newline follows the end")
	default:
		return s.strange(0, s.pos, fmt.Sprintf("%d bytes follow the end", len(rest)))
	}
}

// fail makes an error of the value whose path has so many levels.
func (s *scanner) fail(levels, at int, what string) error {
	return &flaw{path: s.path(levels), offset: at, what: what}
}

// strange tells odd what fail would make an error of.
func (s *scanner) strange(levels, at int, what string) error {
	if s.odd == nil {
		return s.fail(levels, at, what)
	}
	n := &s.odds[0]
	if what == keyTwice {
		n = &s.odds[1]
	}
	if *n++; *n <= maxOddities {
		s.odd(&flaw{path: s.path(levels), offset: at, what: what})
	}
	return nil
}

// untold is how often odd was not told.
func (s *scanner) untold() int {
	return max(0, s.odds[0]-maxOddities) + max(0, s.odds[1]-maxOddities)
}

// path returns the keys and indexes that lead to a value, of as many levels, as in info.files[3].length.
func (s *scanner) path(levels int) string {
	var p []byte
	for i := range s.stack[:levels] {
		if f := &s.stack[i]; f.dict {
			p = appendPathKey(p, f.last)
		} else {
			p = appendPathIndex(p, f.index)
		}
	}
	return shortPath(p)
}

func appendPathKey(p, key []byte) []byte {
	if len(p) > 0 {
		p = append(p, '.')
	}
	switch {
	case len(key) > maxPathKey && !isText(key[:maxPathKey/2]):
		return fmt.Appendf(p, "<%x… %d bytes>", key[:8], len(key))
	case len(key) > maxPathKey:
		return fmt.Appendf(p, "%q…", strings.ToValidUTF8(string(key[:maxPathKey]), ""))
	case !isText(key):
		return fmt.Appendf(p, "<%x>", key)
	case len(key) == 0 || bytes.ContainsFunc(key, func(r rune) bool { return !isPathRune(r) }):
		return strconv.AppendQuote(p, string(key))
	}
	return append(p, key...)
}

func appendPathIndex(p []byte, i int) []byte {
	p = append(p, '[')
	p = strconv.AppendInt(p, int64(i), 10)
	return append(p, ']')
}

// isPathRune tells whether a key with r may stand in a path without quotes.
func isPathRune(r rune) bool {
	return r == ' ' || r == '-' || r == '_' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z'
}

// shortPath cuts the middle out of a path that is too long for a message.
func shortPath(p []byte) string {
	if len(p) <= maxPath {
		return string(p)
	}
	head, tail := p[:maxPath/2], p[len(p)-maxPath/2:]
	return strings.ToValidUTF8(string(head), "") + "…" + strings.ToValidUTF8(string(tail), "")
}

// isText tells whether b is UTF-8 without control characters other than newline and tab.
func isText(b []byte) bool {
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return utf8.Valid(b[i:]) && !bytes.ContainsFunc(b[i:], isBinaryRune)
		}
		if isBinaryRune(rune(c)) {
			return false
		}
	}
	return true
}

func isBinaryRune(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0
}

// fitsInt64 tells whether the integer of a token has no more than 64 bits.
func fitsInt64(digits []byte) bool {
	if len(digits) > len("-9223372036854775808") {
		return false
	}
	_, err := strconv.ParseInt(string(digits), 10, 64)
	return err == nil
}

// NonCanonical returns, in words, each place at which data is not the one form in which bencode (BEP 3) is to be written:
// keys out of order or there twice, needless zeros, bytes behind the end. Nil says that there is none. It looks at no
// more than what is before the first place at which data is no bencode at all, and at nothing if that is over 64 MiB.
func NonCanonical(data []byte) []string {
	var all []string
	if len(data) > maxShownSize {
		return nil
	}
	s := scanner{data: data, limit: showNesting, odd: func(f *flaw) { all = append(all, f.Error()) }}
	for {
		if t, err := s.next(); err != nil || t.kind == 0 {
			break
		}
	}
	if n := s.untold(); n > 0 {
		all = append(all, fmt.Sprintf("and %d more places", n))
	}
	return all
}

var errTooLong = errors.New("longer than 64 MiB")
