package metainfo

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// In JSON, bytes that are no text are hexMark and their digits. A text that begins with a mark has textMark before it.
const (
	hexMark  = "hex:"
	textMark = "text:"
)

// WriteJSON writes bencode (BEP 3) of any quality as JSON for people, indented by two spaces a level. Dictionaries become
// objects with their keys in the order of data, integers become numbers of as many digits as they have. Bytes that are
// text (UTF-8 without control characters other than newline and tab) become that string. Others become "hex:" and their
// digits; a text that itself begins with "hex:" or "text:" gets "text:" before it. The same holds of keys. ReadJSON
// gives canonical bencode back byte for byte; NonCanonical tells what else was wrong.
//
// A key that a dictionary has twice, nesting deeper than 64, and more than 64 MiB are errors, as is all that is not
// bencode. An error of data tells the keys that lead there and the offset in bytes; what stands before that place was
// written. The memory needed is 8 bytes for each key, and a constant.
func WriteJSON(w io.Writer, data []byte) error {
	if len(data) > maxShownSize {
		return errTooLong
	}
	out := bufio.NewWriterSize(w, 64<<10)
	p := jsonPrinter{w: out, indent: true}
	p.data, p.limit = data, showNesting
	var twice error
	p.odd = func(f *flaw) {
		if f.what == keyTwice && twice == nil {
			twice = f
		}
	}
	err := p.print(func() error { return twice })
	out.WriteByte('\n')
	if ferr := out.Flush(); ferr != nil {
		return ferr
	}
	return err
}

// jsonPrinter writes what its scanner reads.
type jsonPrinter struct {
	scanner
	w      *bufio.Writer
	indent bool // a line for each value
}

// print writes until the end, or until stop has an error.
func (p *jsonPrinter) print(stop func() error) error {
	fresh := true // nothing stands before the next value in its dict or list
	for {
		t, err := p.next()
		if serr := stop(); serr != nil {
			return serr
		}
		if err != nil || t.kind == 0 {
			return err
		}
		level := p.depth
		if t.opens() {
			level--
		}
		switch {
		case t.kind == 'e' && !fresh:
			p.newLine(level)
		case t.kind == 'k' || t.kind != 'e' && level > 0 && !p.stack[level-1].dict:
			if !fresh {
				p.w.WriteByte(',')
			}
			if p.indent {
				p.newLine(level)
			} else if !fresh {
				p.w.WriteByte(' ')
			}
		}
		fresh = t.opens()
		switch t.kind {
		case 'd':
			p.w.WriteByte('{')
		case 'l':
			p.w.WriteByte('[')
		case 'e':
			if p.stack[level].dict {
				p.w.WriteByte('}')
			} else {
				p.w.WriteByte(']')
			}
		case 'i':
			p.w.Write(canonicalDigits(t.text))
		case 's':
			writeJSONBytes(p.w, t.text)
		case 'k':
			writeJSONBytes(p.w, t.text)
			p.w.WriteString(": ")
		}
	}
}

func (p *jsonPrinter) newLine(level int) {
	if p.indent {
		// Deeper ones are not moved further to the right: hostile input would become sixty times as large.
		const spaces = "\n                                "
		p.w.WriteString(spaces[:1+2*min(level, 16)])
	}
}

// canonicalDigits is an integer without needless zeros and without a minus before zero.
func canonicalDigits(digits []byte) []byte {
	bare := bytes.TrimLeft(bytes.TrimPrefix(digits, []byte("-")), "0")
	switch {
	case len(bare) == 0:
		return []byte("0")
	case digits[0] == '-' && len(bare) < len(digits)-1:
		return append([]byte("-"), bare...)
	case digits[0] == '-':
		return digits
	}
	return bare
}

// writeJSONBytes writes a string or key.
func writeJSONBytes(w *bufio.Writer, b []byte) {
	w.WriteByte('"')
	defer w.WriteByte('"')
	if !isText(b) {
		w.WriteString(hexMark)
		for chunk := range slices.Chunk(b, 512) {
			w.Write(hex.AppendEncode(w.AvailableBuffer(), chunk))
		}
		return
	}
	if hasMark(b) {
		w.WriteString(textMark)
	}
	for len(b) > 0 {
		n := bytes.IndexFunc(b, func(r rune) bool { return r == '"' || r == '\\' || !unicode.IsPrint(r) })
		if n < 0 {
			n = len(b)
		}
		w.Write(b[:n])
		if b = b[n:]; len(b) > 0 {
			r, size := utf8.DecodeRune(b)
			writeJSONEscape(w, r)
			b = b[size:]
		}
	}
}

func writeJSONEscape(w *bufio.Writer, r rune) {
	switch {
	case r == '"' || r == '\\':
		w.WriteByte('\\')
		w.WriteRune(r)
	case r == '\n':
		w.WriteString(`\n`)
	case r == '\t':
		w.WriteString(`\t`)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		fmt.Fprintf(w, `\u%04x\u%04x`, high, low)
	default:
		fmt.Fprintf(w, `\u%04x`, r)
	}
}

func hasMark(b []byte) bool {
	return bytes.HasPrefix(b, []byte(hexMark)) || bytes.HasPrefix(b, []byte(textMark))
}

// preview returns the JSON of well-formed bencode in one line, cut off behind some max bytes.
func preview(data []byte, max int) string {
	room := &clipped{room: max}
	p := jsonPrinter{w: bufio.NewWriterSize(room, 64)}
	p.data, p.limit, p.odd = data, showNesting, func(*flaw) {}
	if p.print(func() error { return room.err() }) == nil && p.w.Flush() == nil {
		return room.text.String()
	}
	return strings.ToValidUTF8(room.text.String(), "") + "…"
}

// clipped keeps the beginning of what is written.
type clipped struct {
	text strings.Builder
	room int
	full bool
}

func (c *clipped) Write(b []byte) (int, error) {
	n := min(len(b), c.room)
	c.text.Write(b[:n])
	c.room -= n
	c.full = c.full || n < len(b)
	return n, c.err()
}

func (c *clipped) err() error {
	if c.full {
		return io.ErrShortWrite
	}
	return nil
}
