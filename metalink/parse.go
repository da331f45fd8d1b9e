package metalink

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	maxDepth = 32
	maxToken = 64 << 10 // bytes of one tag or text; its attributes cost ten times that
	maxText  = 8 << 10  // bytes of a text that is read
	maxWords = 200      // bytes of a foreign error
)

// Parse reads a Metalink 3 or 4 document in UTF-8. What it does not know it passes over; so it does with URLs, priorities,
// countries and pieces that make no sense. A digest or a size that is malformed, told twice in different ways, or
// without a name of a file, is an error. So is a document type declaration, and a document of more than 16 MiB, 262,144
// elements, 4096 files or 32 elements within each other. The error names the element and wraps ErrUnusable.
func Parse(data []byte) (*Document, error) {
	d, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return d, nil
}

func parse(data []byte) (*Document, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	m := &meter{data: bytes.TrimPrefix(data, []byte("\ufeff"))}
	p := &parser{meter: m, xml: xml.NewDecoder(m), doc: &Document{}}
	if err := p.document(); err != nil {
		var syntax *xml.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("line %d: %.*s", syntax.Line, maxWords, syntax.Msg)
		}
		return nil, err
	}
	if len(p.doc.Files) == 0 {
		return nil, errors.New("no file in it")
	}
	return p.doc, nil
}

// meter is a reader that yields so many bytes for each token.
type meter struct {
	data []byte
	left int
}

var errToken = fmt.Errorf("a tag or text of more than %d bytes", maxToken)

func (m *meter) ReadByte() (byte, error) {
	if len(m.data) == 0 {
		return 0, io.EOF
	}
	if m.left == 0 {
		return 0, errToken
	}
	m.left--
	b := m.data[0]
	m.data = m.data[1:]
	return b, nil
}

// Read is there because xml.NewDecoder wants it; it calls ReadByte.
func (m *meter) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

type parser struct {
	meter    *meter
	xml      *xml.Decoder
	doc      *Document
	space    string // namespace of all that is known
	depth    int
	elements int
}

func (p *parser) token() (xml.Token, error) {
	p.meter.left = maxToken
	t, err := p.xml.Token()
	if err != nil {
		return nil, err
	}
	switch t.(type) {
	case xml.StartElement:
		p.depth++
		p.elements++
		if p.depth > maxDepth {
			return nil, errors.New("elements within each other too deep")
		}
		if p.elements > maxElements {
			return nil, fmt.Errorf("more than %d elements", maxElements)
		}
	case xml.EndElement:
		p.depth--
	case xml.Directive:
		return nil, errors.New("a document type declaration")
	}
	return t, nil
}

// each calls f for each known element in the present one; f has to read it to its end. What is not known is skipped.
func (p *parser) each(f func(e xml.StartElement) error) error {
	for {
		t, err := p.token()
		if err != nil {
			return err
		}
		switch e := t.(type) {
		case xml.StartElement:
			if e.Name.Space == p.space {
				err = f(e)
			} else {
				err = p.skip()
			}
			if err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

func (p *parser) skip() error {
	for level := p.depth; p.depth >= level; {
		if _, err := p.token(); err != nil {
			return err
		}
	}
	return nil
}

// text reads the present element to its end and returns what stands in it, trimmed; elements within it are skipped.
func (p *parser) text() (string, error) {
	var b strings.Builder
	for {
		t, err := p.token()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if err := p.skip(); err != nil {
				return "", err
			}
		case xml.CharData:
			if b.Len()+len(t) > maxText {
				return "", fmt.Errorf("a value of more than %d bytes", maxText)
			}
			b.Write(t)
		case xml.EndElement:
			return strings.TrimSpace(b.String()), nil
		}
	}
}

// attribute returns the one without a prefix.
func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

func (p *parser) document() error {
	for {
		t, err := p.token()
		if err == io.EOF {
			return errors.New("no metalink element")
		}
		if err != nil {
			return err
		}
		root, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		p.space = root.Name.Space
		v3 := p.space == namespace3 || p.space == "" && strings.HasPrefix(attribute(root, "version"), "3.")
		if root.Name.Local != "metalink" || !v3 && p.space != namespace4 {
			return fmt.Errorf("neither Metalink 3 nor 4, but <%.40s>", root.Name.Local)
		}
		if v3 {
			err = p.each(p.files3)
		} else {
			err = p.each(func(e xml.StartElement) error { return p.file(e, p.in4) })
		}
		if err != nil {
			return err
		}
		break
	}
	for { // nothing but comments may follow
		switch t, err := p.token(); t.(type) {
		case xml.StartElement:
			return errors.New("more than one element at the top")
		default:
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
}

func (p *parser) files3(e xml.StartElement) error {
	if e.Name.Local != "files" {
		return p.skip()
	}
	return p.each(func(e xml.StartElement) error { return p.file(e, p.in3) })
}

// file reads a file element, the children of which are for in.
func (p *parser) file(e xml.StartElement, in func(*File, xml.StartElement) error) error {
	if e.Name.Local != "file" {
		return p.skip()
	}
	if len(p.doc.Files) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	f := File{Size: -1}
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == "name" {
			f.Name = a.Value
		}
	}
	if f.Name == "" || len(f.Name) > maxName {
		return fmt.Errorf("a file without a name, or one of more than %d bytes", maxName)
	}
	if err := p.each(func(e xml.StartElement) error { return in(&f, e) }); err != nil {
		return fmt.Errorf("file %.*q: %w", maxWords, f.Name, err)
	}
	if !f.Pieces.fits(f.Size) {
		f.Pieces = Pieces{}
	}
	f.URLs, f.Torrents = best(f.URLs), best(f.Torrents)
	p.doc.Files = append(p.doc.Files, f)
	return nil
}

// in4 reads a child of a Metalink 4 file (RFC 5854 section 4.1.2).
func (p *parser) in4(f *File, e xml.StartElement) error {
	switch e.Name.Local {
	case "size":
		return p.size(f)
	case "hash":
		return p.digest(f, e)
	case "pieces":
		return p.pieces(f, e)
	case "url":
		return p.url(&f.URLs, priority(attribute(e, "priority")), e)
	case "metaurl":
		if t := strings.ToLower(attribute(e, "mediatype")); t == "torrent" || t == "application/x-bittorrent" {
			return p.url(&f.Torrents, priority(attribute(e, "priority")), e)
		}
	}
	return p.skip()
}

// in3 reads a child of a Metalink 3 file.
func (p *parser) in3(f *File, e xml.StartElement) error {
	switch e.Name.Local {
	case "size":
		return p.size(f)
	case "verification":
		return p.each(func(e xml.StartElement) error {
			switch e.Name.Local {
			case "hash":
				return p.digest(f, e)
			case "pieces":
				return p.pieces(f, e)
			}
			return p.skip()
		})
	case "resources":
		return p.each(func(e xml.StartElement) error {
			if e.Name.Local != "url" {
				return p.skip()
			}
			list := &f.URLs
			if strings.EqualFold(attribute(e, "type"), "bittorrent") {
				list = &f.Torrents
			}
			rank := 0
			if n, err := strconv.Atoi(attribute(e, "preference")); err == nil && n >= 0 && n <= 100 {
				rank = 101 - n
			}
			return p.url(list, rank, e)
		})
	}
	return p.skip()
}

func (p *parser) size(f *File) error {
	text, err := p.text()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return errors.New("size: not a number of bytes")
	}
	if f.Size >= 0 && f.Size != n {
		return errors.New("size: told twice")
	}
	f.Size = n
	return nil
}

// hashName is how the IANA registry spells the name of a hash function.
func hashName(text string) string {
	text = strings.ToLower(text)
	if rest, ok := strings.CutPrefix(text, "sha"); ok && !strings.HasPrefix(rest, "-") {
		return "sha-" + rest
	}
	return text
}

func (p *parser) digest(f *File, e xml.StartElement) error {
	kind := hashName(attribute(e, "type"))
	text, err := p.text()
	if err != nil {
		return err
	}
	var to *[]byte
	n := 0
	switch kind {
	case SHA1:
		to, n = &f.SHA1, 20
	case SHA256:
		to, n = &f.SHA256, 32
	case "sha-512":
		to, n = &f.SHA512, 64
	default:
		return nil
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != n {
		return fmt.Errorf("hash: not %d hexadecimal digits of %s", 2*n, kind)
	}
	if *to != nil && !bytes.Equal(*to, sum) {
		return fmt.Errorf("hash: %s told twice", kind)
	}
	*to = sum
	return nil
}

// pieces takes the better of those that are offered. Some that make no sense are as good as none.
func (p *parser) pieces(f *File, e xml.StartElement) error {
	kind := hashName(attribute(e, "type"))
	length, err := strconv.ParseInt(attribute(e, "length"), 10, 64)
	got := Pieces{Length: length, Kind: kind}
	good := err == nil && got.hashLength() > 0
	index := 0
	err = p.each(func(e xml.StartElement) error {
		if e.Name.Local != "hash" {
			return p.skip()
		}
		number := attribute(e, "piece") // Metalink 3
		text, err := p.text()
		if err != nil || !good {
			return err
		}
		sum, err := hex.DecodeString(text)
		good = err == nil && len(sum) == got.hashLength() && (number == "" || number == strconv.Itoa(index))
		got.Hashes = append(got.Hashes, sum...)
		index++
		return nil
	})
	if err == nil && good && (f.Pieces.Kind == "" || kind == SHA256) {
		f.Pieces = got
	}
	return err
}

func priority(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPriority {
		return 0
	}
	return n
}

func (p *parser) url(list *[]URL, rank int, e xml.StartElement) error {
	text, err := p.text()
	if err != nil {
		return err
	}
	if u, ok := usableURL(text); ok && len(*list) < maxURLsRead {
		*list = append(*list, URL{URL: u, Priority: rank, Location: country(attribute(e, "location"))})
	}
	return nil
}

func country(text string) string {
	text = strings.ToLower(text)
	if len(text) != 2 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz") != "" {
		return ""
	}
	return text
}
