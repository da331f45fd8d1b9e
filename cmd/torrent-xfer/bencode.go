package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/metainfo"
)

const bencodeAbout = `FILE is any bencoded file (BEP 3); "-", or nothing if something is piped in, is standard input. Dictionaries keep the
order they have there. Bytes that are no text become "hex:" and their digits; a text that itself begins with "hex:" or
"text:" gets "text:" before it. Such strings mean the same with --reverse, which sorts keys. What is not canonical is
shown, and told in warnings on standard error.

`

const maxBencode = 64 << 20 // bytes

func bencodeSettings() []setting {
	verbs := []string{"bencode"}
	return []setting{
		{name: "file", aliases: []string{"f"}, value: true, verbs: verbs, usage: "read `FILE`; - is standard input",
			set: func(s *settings, v string) error { s.inspect.input = v; return notEmpty(v) }},
		{name: "reverse", verbs: verbs, usage: "read JSON and print canonical bencode",
			set: func(s *settings, v string) error { return parseBool(v, &s.inspect.reverse) }},
	}
}

func bencodeCommand(env Env, c *cli.Context) error {
	s, err := loadSettings(env, c, "bencode")
	if err != nil {
		return err
	}
	name, err := inputName(env, c, "bencode", s.inspect.input)
	if err != nil {
		return err
	}
	if strings.Contains(name, "://") {
		return usageError("bencode reads files, no URLs")
	}
	if s.inspect.reverse {
		return bencodeFromJSON(env, name)
	}
	data, err := readInput(env, s, name, maxBencode)
	if err != nil {
		return err
	}
	err = metainfo.WriteJSON(env.Stdout, data)
	var broken *fs.PathError
	if errors.As(err, &broken) {
		return fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
	}
	if err != nil {
		return &failure{status: exitFailed, file: inputLabel(name), err: err, next: "what stands before that place was printed"}
	}
	for _, w := range metainfo.NonCanonical(data) {
		warn(env.Stderr, "%s", w)
	}
	return nil
}

func bencodeFromJSON(env Env, name string) error {
	if _, terminal := terminalWidth(env.Stdout); terminal {
		return &failure{status: exitUsage, err: errors.New("bencode may hold bytes that are not for a terminal"), next: "send it to a file or a pipe"}
	}
	in, err := openInput(env, name)
	if err != nil {
		return err
	}
	defer in.Close()
	data, err := metainfo.ReadJSON(in)
	if err != nil {
		return &failure{status: exitFailed, file: inputLabel(name), err: err, next: "nothing was printed"}
	}
	if _, err := env.Stdout.Write(data); err != nil {
		return fmt.Errorf("%w: standard output: %w", fetcher.ErrWrite, err)
	}
	return nil
}
