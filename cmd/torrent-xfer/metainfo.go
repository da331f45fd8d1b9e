package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
)

const metainfoAbout = `TORRENT is a file, a URL or a magnet link; "-", or nothing if something is piped in, is standard input. No network is touched but
for a URL or a link, whose torrent peers are asked for. What a download would refuse, and what else is odd, is told in warnings, on standard error; with --json
under "warnings". With warnings the status is still 0; it is 1 if there is no whole info dictionary.

--json prints one object: name, name_utf8, version (v1, v2, hybrid), info_hash (_v1, _v2), magnet, size, file_count,
piece_length, piece_count, private, source, announce, announce_list, url_list, httpseeds, sources, nodes, comment,
created_by, creation_date (RFC 3339), encoding, publisher, publisher_url, other_keys (path, value), warnings,
files (path, length, attr, pad, pieces_root), piece_hashes (hex), piece_layers (pieces root: hex).

`

// inspectSettings are those of metainfo and bencode.
type inspectSettings struct {
	input   string // "": the argument
	pieces  bool
	reverse bool
	magnet  string // looked at in the place of input; "": none
}

func metainfoSettings() []setting {
	verbs := []string{"metainfo"}
	return []setting{
		{name: "torrent", aliases: []string{"t"}, value: true, verbs: verbs, usage: "look at `TORRENT`: a file, a URL, or - for standard input",
			set: func(s *settings, v string) error { s.inspect.input = v; return notEmpty(v) }},
		{name: "magnet", aliases: []string{"m"}, value: true, verbs: verbs, usage: "look at the torrent that the magnet link `LINK` is of: peers are asked for it",
			set: func(s *settings, v string) error { s.inspect.magnet = v; return notEmpty(v) }},
		{name: "json", verbs: verbs, usage: "print JSON, with every key and all hashes",
			set: func(s *settings, v string) error { return parseBool(v, &s.json) }},
		{name: "pieces", verbs: verbs, usage: "print the piece hashes too",
			set: func(s *settings, v string) error { return parseBool(v, &s.inspect.pieces) }},
		{name: "timeout", value: true, verbs: verbs, usage: "give a URL up after `DURATION` (default: 1m), a magnet link (5m)",
			set: func(s *settings, v string) error { return parseDuration(v, &s.timeout) }},
	}
}

func metainfoCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "metainfo")
	if err != nil {
		return err
	}
	name, data := s.inspect.magnet, []byte(nil)
	if name == "" {
		name, err = inputName(env, c, "metainfo", s.inspect.input)
	}
	switch {
	case err != nil:
	case isMagnet(name) && s.inspect.input+s.inspect.magnet != "" && c.Args().Len() > 0:
		err = usageError("metainfo looks at one thing at a time")
	case isMagnet(name) || s.inspect.magnet != "":
		name, data, err = readMagnet(env, s, name)
	default:
		data, err = readInput(env, s, name, metainfo.MaxSize)
	}
	if err != nil {
		return err
	}
	d, err := metainfo.Describe(data)
	if err != nil {
		return &failure{status: exitFailed, file: inputLabel(name), err: err, next: "torrent-xfer bencode shows what is in it, if anything"}
	}
	if s.json {
		err = d.WriteJSON(env.Stdout)
	} else {
		err = printDescription(env.Stdout, d, s.inspect.pieces)
	}
	if err != nil {
		return fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
	}
	if !s.json {
		for _, w := range d.Warnings {
			warn(env.Stderr, "%s", w)
		}
	}
	if d.InfoHash == "" {
		return &failure{status: exitFailed, file: inputLabel(name), err: errors.New("the info dictionary is cut short"),
			next: "what could be read of it was printed"}
	}
	return nil
}

// inputLabel is what a message calls an input: a URL has no user and password in it.
func inputLabel(name string) string {
	if name == "-" {
		return "standard input"
	}
	if u, err := parseURL(name); err == nil {
		return bare(u)
	}
	return name
}

// lineWriter prints what belongs together in lines of a label and a text.
type lineWriter struct{ w *bufio.Writer }

func (l lineWriter) line(label, format string, args ...any) {
	fmt.Fprintf(l.w, "%-14s%s\n", label, printable(fmt.Sprintf(format, args...)))
}

// text prints a line if there is something to say.
func (l lineWriter) text(label, text string) {
	if text != "" {
		l.line(label, "%s", text)
	}
}

// list prints a line for each text, with the label at the first one.
func (l lineWriter) list(label string, texts []string) {
	for _, t := range texts {
		l.line(label, "%s", t)
		label = ""
	}
}

func printDescription(w io.Writer, d *metainfo.Description, pieces bool) error {
	l := lineWriter{bufio.NewWriterSize(w, 64<<10)}
	l.line("name", "%s", d.Name)
	l.text("name (UTF-8)", d.NameUTF8)
	l.line("version", "%s", d.Version)
	l.text("info hash v1", d.InfoHashV1)
	l.text("info hash v2", d.InfoHashV2)
	l.line("size", "%s", sizeText(d.Size))
	l.line("pieces", "%d of %s", d.PieceCount, sizeText(d.PieceLength))
	if d.Private {
		l.line("private", "yes")
	}
	l.text("source", d.Source)
	l.text("comment", d.Comment)
	l.text("created by", d.CreatedBy)
	l.text("created at", d.CreationDate)
	l.text("encoding", d.Encoding)
	l.text("publisher", d.Publisher)
	l.text("publisher URL", d.PublisherURL)
	if d.Tiers != nil && (len(d.Tiers) > 1 || len(d.Tiers[0]) > 1 || d.Tiers[0][0] != d.Announce) {
		l.text("announce", d.Announce)
	}
	label := "trackers"
	for i, tier := range d.Trackers() {
		for _, u := range tier {
			l.line(label, "tier %d: %s", i+1, u)
			label = ""
		}
	}
	l.list("url-list", d.URLList)
	l.list("httpseeds", d.HTTPSeeds)
	l.list("sources", d.Sources)
	l.list("nodes", d.Nodes)
	l.line("files", "%d", d.FileCount)
	for _, f := range d.Files {
		mark := ""
		if f.Pad {
			mark = "  (padding)"
		} else if f.Attr != "" {
			mark = "  (attr " + f.Attr + ")"
		}
		fmt.Fprintf(l.w, "%14d  %s\n", f.Length, printable(f.Path+mark))
	}
	label = "other keys"
	for _, k := range d.OtherKeys {
		l.line(label, "%s: %s", k.Path, k.Value)
		label = ""
	}
	if pieces {
		printPieces(l, d)
	}
	l.text("magnet", d.Magnet)
	return l.w.Flush()
}

func printPieces(l lineWriter, d *metainfo.Description) {
	hashes := func(label string, all []byte, size int) {
		for i := 0; i < len(all); i += size {
			fmt.Fprintf(l.w, "%-14s", label)
			l.w.Write(hex.AppendEncode(l.w.AvailableBuffer(), all[i:min(i+size, len(all))]))
			l.w.WriteByte('\n')
			label = ""
		}
	}
	hashes("SHA-1", d.PieceHashes, 20)
	for _, layer := range d.PieceLayers {
		l.line("pieces root", "%x", layer.Root)
		hashes("SHA-256", layer.Hashes, 32)
	}
}

// sizeText is a number of bytes, short and exact.
func sizeText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%s (%d bytes)", formatBytes(float64(n)), n)
}
