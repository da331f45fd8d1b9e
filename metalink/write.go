package metalink

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Write writes d as Metalink 4 (RFC 5854). The same Document gives the same bytes: there is no date and no generator in
// it. Parse returns what was written, but for the order of URLs, which becomes that of their priorities. A Document that
// Parse could not return is an error, and nothing is written.
func Write(w io.Writer, d *Document) error {
	var b bytes.Buffer
	b.WriteString(xml.Header + `<metalink xmlns="` + namespace4 + "\">\n")
	if len(d.Files) == 0 || len(d.Files) > maxFiles {
		return fmt.Errorf("metalink: %d files", len(d.Files))
	}
	for i := range d.Files {
		if err := d.Files[i].write(&b); err != nil {
			return fmt.Errorf("metalink: %.*q: %w", maxWords, d.Files[i].Name, err)
		}
	}
	b.WriteString("</metalink>\n")
	if bytes.Count(b.Bytes(), []byte("<"))-bytes.Count(b.Bytes(), []byte("</")) > maxElements || b.Len() > MaxSize {
		return errors.New("metalink: too long")
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (f *File) write(b *bytes.Buffer) error {
	if f.Name == "" || len(f.Name) > maxName || !utf8.ValidString(f.Name) || strings.ContainsFunc(f.Name, notXML) {
		return errors.New("a name that cannot stand in XML")
	}
	fmt.Fprintf(b, "  <file name=\"%s\">\n", escape(f.Name))
	if f.Size >= 0 {
		fmt.Fprintf(b, "    <size>%d</size>\n", f.Size)
	}
	for _, d := range []struct {
		kind   string
		length int
		sum    []byte
	}{{SHA1, 20, f.SHA1}, {SHA256, 32, f.SHA256}, {"sha-512", 64, f.SHA512}} {
		switch {
		case d.sum == nil:
		case len(d.sum) != d.length:
			return fmt.Errorf("a %s of %d bytes", d.kind, len(d.sum))
		default:
			fmt.Fprintf(b, "    <hash type=\"%s\">%x</hash>\n", d.kind, d.sum)
		}
	}
	if len(f.Pieces.Hashes) > 0 || f.Pieces.Kind != "" || f.Pieces.Length != 0 {
		if !f.Pieces.fits(f.Size) {
			return errors.New("pieces that do not fit the size")
		}
		fmt.Fprintf(b, "    <pieces length=\"%d\" type=\"%s\">\n", f.Pieces.Length, f.Pieces.Kind)
		for rest, n := f.Pieces.Hashes, f.Pieces.hashLength(); len(rest) > 0; rest = rest[n:] {
			b.WriteString("      <hash>" + hex.EncodeToString(rest[:n]) + "</hash>\n")
		}
		b.WriteString("    </pieces>\n")
	}
	if err := writeURLs(b, `url`, "url", f.URLs); err != nil {
		return err
	}
	if err := writeURLs(b, `metaurl mediatype="torrent"`, "metaurl", f.Torrents); err != nil {
		return err
	}
	b.WriteString("  </file>\n")
	return nil
}

func writeURLs(b *bytes.Buffer, open, name string, list []URL) error {
	if len(list) > maxURLs {
		return fmt.Errorf("%d URLs", len(list))
	}
	for _, u := range list {
		clean, ok := usableURL(u.URL)
		if !ok || u.Priority < 0 || u.Priority > maxPriority || u.Location != country(u.Location) {
			return fmt.Errorf("not a usable URL, priority or country: %.*q", maxWords, u.URL)
		}
		b.WriteString("    <" + open)
		if u.Location != "" {
			fmt.Fprintf(b, " location=\"%s\"", u.Location)
		}
		if u.Priority > 0 {
			fmt.Fprintf(b, " priority=\"%d\"", u.Priority)
		}
		fmt.Fprintf(b, ">%s</%s>\n", escape(clean), name)
	}
	return nil
}

// notXML reports characters that no XML document may hold (XML 1.0 section 2.2).
func notXML(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
