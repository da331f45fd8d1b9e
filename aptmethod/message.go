package aptmethod

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what is read. apt's own messages are some 100 KiB at most (601, with all of its configuration).
const (
	maxMessage = 16 << 20
	maxFields  = 100_000
)

// errMalformed: what came is not a message of the protocol.
var errMalformed = errors.New("malformed message")

// message is one message of the protocol, in either direction.
type message struct {
	code   int
	text   string // what follows the code in the first line
	fields []field
}

type field struct {
	key, value string
	own        bool // apt's own words, which it wants back byte for byte
}

// get returns the value of the last field with this name, in any case, as apt reads it. "": there is none.
func (m *message) get(key string) string {
	for i := len(m.fields) - 1; i >= 0; i-- {
		if strings.EqualFold(m.fields[i].key, key) {
			return m.fields[i].value
		}
	}
	return ""
}

// number is a decimal field, 0 if it is missing or none.
func (m *message) number(key string) int64 {
	n, err := strconv.ParseInt(m.get(key), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// add appends a field unless its value is empty.
func (m *message) add(key, value string) {
	if value != "" {
		m.fields = append(m.fields, field{key: key, value: value})
	}
}

// echo appends a field with what apt said itself.
func (m *message) echo(key, value string) {
	m.fields = append(m.fields, field{key, value, true})
}

// readMessage reads the next message. io.EOF: the stream ended where a message could have begun.
func readMessage(r *bufio.Reader) (*message, error) {
	var m *message
	for size := 0; ; {
		line, err := r.ReadSlice('\n')
		long := append([]byte(nil), line...)
		for errors.Is(err, bufio.ErrBufferFull) && size+len(long) <= maxMessage {
			line, err = r.ReadSlice('\n')
			long = append(long, line...)
		}
		size += len(long)
		switch {
		case size > maxMessage || m != nil && len(m.fields) > maxFields:
			return nil, fmt.Errorf("%w: too long", errMalformed)
		case err == io.EOF && m == nil && strings.TrimRight(string(long), "\r\n") == "":
			return nil, io.EOF
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(long), "\n"), "\r")
		switch {
		case text == "" && m == nil: // apt sends empty lines too
		case text == "":
			return m, nil
		case m == nil:
			if m, err = parseHead(text); err != nil {
				return nil, err
			}
		case text[0] == ' ' || text[0] == '\t':
			if len(m.fields) == 0 {
				return nil, fmt.Errorf("%w: a continuation of nothing", errMalformed)
			}
			f := &m.fields[len(m.fields)-1]
			f.value += "\n" + strings.TrimLeft(text, " \t")
		default:
			key, value, ok := strings.Cut(text, ":")
			if !ok {
				return nil, fmt.Errorf("%w: a line without a colon", errMalformed)
			}
			m.fields = append(m.fields, field{key: strings.TrimSpace(key), value: strings.Trim(value, " \t")})
		}
	}
}

func parseHead(line string) (*message, error) {
	number, text, _ := strings.Cut(line, " ")
	code, err := strconv.Atoi(number)
	if err != nil || len(number) != 3 || code < 100 {
		return nil, fmt.Errorf("%w: it does not begin with a number", errMalformed)
	}
	return &message{code: code, text: text}, nil
}

// encode is the message as it goes to apt. Whatever is in the values, no line of them can be taken for another field or
// message: control characters become "?", line feeds are followed by a blank.
func (m *message) encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s\n", m.code, m.text)
	for _, f := range m.fields {
		b.WriteString(f.key + ":")
		for line := range strings.SplitSeq(strings.TrimRight(f.value, "\n"), "\n") {
			if !f.own {
				line = harmless(line)
			}
			b.WriteString(" " + line + "\n")
		}
	}
	b.WriteByte('\n')
	return []byte(b.String())
}

// harmless replaces what may not reach a terminal: control characters, invalid UTF-8, and what turns text around.
func harmless(s string) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < 0x20, r >= 0x7f && r < 0xa0, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return '?'
		}
		return r
	}, s)
}

// quote escapes what apt's QuoteString escapes, and the bytes in bad.
func quote(s, bad string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= 0x20 || c >= 0x7f || c == '%' || strings.IndexByte(bad, c) >= 0 {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unquote undoes quote, and leaves alone what is not escaped well, as apt's DeQuoteString does.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
