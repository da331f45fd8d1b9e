package metainfo

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxJSON        = 4 * maxShownSize // bytes that are read
	tooMuchBencode = "more than 64 MiB of bencode"
)

// ReadJSON reads what WriteJSON wrote, or a person, and returns canonical bencode: keys are sorted, whatever their order.
// "hex:" and "text:" at the beginning of strings and keys mean what they mean there. Numbers that are not integers,
// null, true, false, a key that an object has twice, invalid UTF-8, nesting deeper than 64, more than 256 MiB of JSON and
// more than 64 MiB of bencode are errors. An error of what was read tells the keys that lead there and the offset in
// bytes. Memory is the result, twice while objects out of order are sorted, and 4 bytes for each key.
func ReadJSON(r io.Reader) ([]byte, error) {
	p := &jsonParser{in: bufio.NewReaderSize(r, 64<<10)}
	if err := p.value(0); err != nil {
		return nil, err
	}
	if c, err := p.token(); err == nil {
		return nil, p.fail(0, fmt.Sprintf("%q follows the end", c))
	} else if err != io.EOF {
		return nil, p.cut(0, err)
	}
	return p.out, nil
}

// jsonParser appends to out, as bencode, what it reads. encoding/json would replace invalid text silently, and take some
// hundred bytes for each token.
type jsonParser struct {
	in    *bufio.Reader
	pos   int // bytes read
	out   []byte
	stack [showNesting]jsonFrame
	keys  []uint32 // where the keys of the open objects begin in out
	odd   int      // keys that had to be sorted
	spare []byte   // for sorting
}

// jsonFrame is an object or array that was begun.
type jsonFrame struct {
	object bool
	key    int // where the last key begins in out; -1: there was none
	index  int
}

// read returns the next byte, or io.EOF.
func (p *jsonParser) read() (byte, error) {
	c, err := p.in.ReadByte()
	if err == nil {
		if p.pos++; p.pos > maxJSON {
			return 0, errors.New("longer than 256 MiB")
		}
	}
	return c, err
}

func (p *jsonParser) unread() {
	p.in.UnreadByte()
	p.pos--
}

// token returns the next byte that is not white space.
func (p *jsonParser) token() (byte, error) {
	for {
		c, err := p.read()
		if err != nil || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c, err
		}
	}
}

// grow makes room for what is appended next, and doubles what there is: append alone would copy large slices more often.
func (p *jsonParser) grow() {
	if cap(p.out)-len(p.out) < 32 {
		p.out = slices.Grow(p.out, len(p.out)+32)
	}
}

// fail makes an error of the byte that was read last; levels lead there.
func (p *jsonParser) fail(levels int, what string) error {
	var path []byte
	for _, f := range p.stack[:levels] {
		if !f.object {
			path = appendPathIndex(path, f.index)
		} else if f.key >= 0 {
			path = appendPathKey(path, keyAt(p.out, uint32(f.key)))
		}
	}
	return &flaw{path: shortPath(path), offset: max(p.pos-1, 0), what: what}
}

// cut makes an error of one of read.
func (p *jsonParser) cut(levels int, err error) error {
	if err == io.EOF {
		p.pos++
		return p.fail(levels, "cut short")
	}
	return err
}

// value reads a value at a depth.
func (p *jsonParser) value(depth int) error {
	c, err := p.token()
	if err != nil {
		return p.cut(depth, err)
	}
	p.grow()
	if len(p.out) > maxShownSize {
		return p.fail(depth, tooMuchBencode)
	}
	switch {
	case (c == '{' || c == '[') && depth == showNesting:
		return p.fail(depth, fmt.Sprintf("nested more than %d deep", showNesting))
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.text(depth)
	case c == '-' || c >= '0' && c <= '9':
		return p.number(depth, c)
	case c == 'n' || c == 't' || c == 'f':
		return p.word(depth, c)
	}
	return p.fail(depth, fmt.Sprintf("no value begins with %q", c))
}

func (p *jsonParser) array(depth int) error {
	f := &p.stack[depth]
	*f = jsonFrame{}
	p.out = append(p.out, 'l')
	for first := true; ; first = false {
		c, err := p.token()
		switch {
		case err != nil:
			return p.cut(depth, err)
		case c == ']':
			p.out = append(p.out, 'e')
			return nil
		case first:
			p.unread()
		case c != ',':
			return p.fail(depth, fmt.Sprintf("%q instead of a comma or ]", c))
		default:
			f.index++
		}
		if err := p.value(depth + 1); err != nil {
			return err
		}
	}
}

func (p *jsonParser) object(depth int) error {
	f := &p.stack[depth]
	*f = jsonFrame{object: true, key: -1}
	p.out = append(p.out, 'd')
	begin, keys, sorted := len(p.out), len(p.keys), true
	for first := true; ; first = false {
		c, err := p.token()
		if err == nil && c == '}' && first {
			break
		}
		if err == nil && !first {
			if c == '}' {
				break
			}
			if c != ',' {
				return p.fail(depth, fmt.Sprintf("%q instead of a comma or }", c))
			}
			c, err = p.token()
		}
		if err != nil {
			return p.cut(depth, err)
		}
		if c != '"' {
			return p.fail(depth, fmt.Sprintf("%q instead of a key in quotes", c))
		}
		at := len(p.out)
		if err := p.text(depth); err != nil {
			return err
		}
		if f.key >= 0 {
			order := bytes.Compare(keyAt(p.out, uint32(f.key)), keyAt(p.out, uint32(at)))
			sorted = sorted && order < 0
			if order == 0 {
				return p.fail(depth+1, keyTwice)
			}
		}
		f.key = at
		p.keys = append(p.keys, uint32(at))
		if !sorted && p.odd+len(p.keys)-keys > maxOddKeys {
			return p.fail(depth, "too many keys are out of order")
		}
		if c, err = p.token(); err != nil {
			return p.cut(depth+1, err)
		} else if c != ':' {
			return p.fail(depth+1, fmt.Sprintf("%q instead of a colon", c))
		}
		if err := p.value(depth + 1); err != nil {
			return err
		}
	}
	if !sorted {
		if err := p.sort(depth, begin, p.keys[keys:]); err != nil {
			return err
		}
	}
	p.keys = p.keys[:keys]
	p.out = append(p.out, 'e')
	return nil
}

// sort brings the entries of an object, which are out[begin:], into the order of their keys, which begin at keys.
func (p *jsonParser) sort(depth, begin int, keys []uint32) error {
	p.odd += len(keys)
	p.spare = append(p.spare[:0], p.out[begin:]...)
	ends := slices.Clone(keys) // of the entry that begins at the same index, before they are sorted
	copy(ends, keys[1:])
	ends[len(ends)-1] = uint32(len(p.out))
	order := make([]int32, len(keys))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return bytes.Compare(keyAt(p.out, keys[a]), keyAt(p.out, keys[b]))
	})
	for i := 1; i < len(order); i++ {
		if key := keys[order[i]]; bytes.Equal(keyAt(p.out, keys[order[i-1]]), keyAt(p.out, key)) {
			p.stack[depth].key = int(key)
			return p.fail(depth+1, keyTwice)
		}
	}
	to := begin
	for _, i := range order {
		to += copy(p.out[to:], p.spare[int(keys[i])-begin:int(ends[i])-begin])
	}
	return nil
}

// number reads an integer that begins with c.
func (p *jsonParser) number(depth int, c byte) error {
	at := len(p.out)
	p.out = append(p.out, 'i')
	var err error
	for err == nil && (c == '-' && len(p.out) == at+1 || c >= '0' && c <= '9') {
		p.grow()
		if p.out = append(p.out, c); len(p.out) > maxShownSize {
			return p.fail(depth, tooMuchBencode)
		}
		c, err = p.read()
	}
	if err != nil && err != io.EOF {
		return err
	}
	digits := bytes.TrimPrefix(p.out[at+1:], []byte("-"))
	switch {
	case err == nil && (c == '.' || c == 'e' || c == 'E'):
		return p.fail(depth, "not an integer: bencode has no other numbers")
	case len(digits) == 0 || len(digits) > 1 && digits[0] == '0' || err == nil && c|0x20 >= 'a' && c|0x20 <= 'z':
		return p.fail(depth, "malformed number")
	}
	if err == nil {
		p.unread()
	}
	if digits[0] == '0' {
		p.out = append(p.out[:at], "i0"...) // of -0 too
	}
	p.out = append(p.out, 'e')
	return nil
}

// word reads what begins with c and is no value here.
func (p *jsonParser) word(depth int, c byte) error {
	word, at := []byte{c}, p.pos
	for len(word) < len("false") {
		c, err := p.read()
		if err != nil || c < 'a' || c > 'z' {
			break
		}
		word = append(word, c)
	}
	p.pos = at
	switch string(word) {
	case "true", "false":
		return p.fail(depth, fmt.Sprintf("bencode has no %s: 1 and 0 stand for true and false", word))
	case "null":
		return p.fail(depth, "bencode has no null: leave the key out")
	}
	return p.fail(depth, fmt.Sprintf("no value begins with %q", word))
}

// text reads the rest of a string or key.
func (p *jsonParser) text(depth int) error {
	const room = len("4294967296:") // for the length, which is not known yet
	at := len(p.out)
	p.out = append(p.out, make([]byte, room)...)
	for {
		p.grow()
		c, err := p.read()
		if err != nil {
			return p.cut(depth, err)
		}
		if c == '"' {
			break
		}
		switch {
		case c < ' ':
			err = p.fail(depth, "control character in a string")
		case c == '\\':
			err = p.escape(depth)
		case c < utf8.RuneSelf:
			p.out = append(p.out, c)
		default:
			p.unread()
			r, n, _ := p.in.ReadRune()
			if p.pos += n; r == utf8.RuneError && n == 1 {
				err = p.fail(depth, "invalid UTF-8")
			}
			p.out = utf8.AppendRune(p.out, r)
		}
		if err == nil && len(p.out) > 2*maxShownSize+room {
			err = p.fail(depth, tooMuchBencode)
		}
		if err != nil {
			return err
		}
	}
	text := p.out[at+room:]
	if digits, ok := bytes.CutPrefix(text, []byte(hexMark)); ok {
		n, err := hex.Decode(text, digits)
		if err != nil {
			return p.fail(depth, "no hexadecimal digits, two for each byte, behind hex:; text:hex: begins a text that is meant to begin so")
		}
		text = text[:n]
	} else {
		text = bytes.TrimPrefix(text, []byte(textMark))
	}
	p.out = strconv.AppendInt(p.out[:at], int64(len(text)), 10)
	p.out = append(append(p.out, ':'), text...) // to the left, or to where it is
	if len(p.out) > maxShownSize {
		return p.fail(depth, tooMuchBencode)
	}
	return nil
}

// escape reads the rest of an escape sequence.
func (p *jsonParser) escape(depth int) error {
	c, err := p.read()
	if err != nil {
		return p.cut(depth, err)
	}
	switch c {
	case '"', '\\', '/':
		p.out = append(p.out, c)
		return nil
	case 'b', 'f', 'n', 'r', 't':
		p.out = append(p.out, "\b\f\n\r\t"[strings.IndexByte("bfnrt", c)])
		return nil
	case 'u':
	default:
		return p.fail(depth, fmt.Sprintf("no escape sequence has %q behind its backslash", c))
	}
	r, err := p.unit(depth)
	if err == nil && utf16.IsSurrogate(r) {
		var low rune
		for _, want := range []byte(`\u`) {
			if c, err = p.read(); err != nil {
				return p.cut(depth, err)
			} else if c != want {
				return p.fail(depth, "half a surrogate pair")
			}
		}
		if low, err = p.unit(depth); err == nil {
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				err = p.fail(depth, "half a surrogate pair")
			}
		}
	}
	p.out = utf8.AppendRune(p.out, r)
	return err
}

// unit reads four hexadecimal digits.
func (p *jsonParser) unit(depth int) (rune, error) {
	var r rune
	for range 4 {
		c, err := p.read()
		if err != nil {
			return 0, p.cut(depth, err)
		}
		d, err := strconv.ParseUint(string(rune(c)), 16, 8)
		if err != nil {
			return 0, p.fail(depth, `no four hexadecimal digits behind \u`)
		}
		r = r<<4 | rune(d)
	}
	return r, nil
}
