package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/fetcher"
	"torrent-xfer/seeder"
)

const (
	endPatience = 10 * time.Second // for a download that was told to end
	longestLine = 1 << 20
)

func backgroundSettingsTable() []setting {
	return []setting{{name: "background", verbs: []string{cmdFetch},
		usage: "have torrent-xfer daemon download it, if that runs, and wait: it goes on if this ends, and whoever asks again gets it",
		set:   func(s *settings, v string) error { return parseBool(v, &s.seed.background) }}}
}

// fromDaemon has the daemon bring the file, if the user wants that. nil: it has to be downloaded here.
func (d *download) fromDaemon(ctx context.Context, f *fetcher.Fetcher, req fetcher.Request, show *display) (*fetcher.Result, error) {
	if !d.settings.seed.background || req.Volatile || d.metalink != nil || d.url.Scheme == "file" || d.settings.torrent != "auto" || !d.asAnybody() {
		return nil, nil
	}
	brought, err := d.inBackground(ctx, req, show)
	if err != nil {
		show.log().Info("the daemon does not bring it", "why", err)
		return nil, nil
	}
	defer brought.Close()
	req.URL = passed(brought) // nobody is spoken to, so rights are kept
	result, err := f.Fetch(ctx, req)
	if err != nil && ctx.Err() == nil && !errors.Is(err, fetcher.ErrWrite) {
		show.log().Info("what the daemon brought is of no use", "why", err)
		return nil, nil
	}
	return result, err
}

// inBackground returns the file as the daemon has brought it, open for reading.
func (d *download) inBackground(ctx context.Context, req fetcher.Request, show *display) (*os.File, error) {
	client, err := dialControl(d.env, d.settings)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	o := seeder.Order{URL: d.url.String(), Size: max(0, req.Expect.Size), SHA256: req.Expect.SHA256, SHA512: req.Expect.SHA512, Mirrors: d.settings.mirrors,
		Seed: d.settings.seed.wanted}
	return client.Download(ctx, o, func(line []byte) {
		var m message
		if json.Unmarshal(line, &m) == nil && m.Event == "progress" {
			show.event(fetcher.Event{Kind: fetcher.Progress, Size: m.Size, Done: m.Done, Rate: m.Rate, Mirrors: m.Mirrors, Known: m.Known, Peers: m.Peers})
		}
	})
}

// asAnybody tells whether the daemon may ask for the file as it would for anybody: without credentials or a proxy, and nothing but the
// machine's configuration says whom it may ask, and how much.
func (d *download) asAnybody() bool {
	machine, err := loadSettings(Env{}, cli.NewContext(cli.NewApp(), &flag.FlagSet{}, nil), cmdFetch)
	s := d.settings
	return err == nil && d.url.User == nil && !proxied(d.env, d.url) &&
		!slices.ContainsFunc(s.mirrors, func(m string) bool { return strings.Contains(m, "@") }) &&
		slices.Equal(s.mirrorLists, machine.mirrorLists) && s.noMirrors == machine.noMirrors &&
		s.limitRate == machine.limitRate && s.maxMirrors == machine.maxMirrors && reflect.DeepEqual(s.peers, machine.peers)
}

// passed is the URL of an open file.
func passed(f *os.File) *url.URL {
	return &url.URL{Scheme: "file", Path: fmt.Sprintf("/proc/self/fd/%d", f.Fd())}
}

// downloader downloads for the daemon, in a process of its own: this program, as anybody would call it.
func downloader(env Env, s settings) func(context.Context, seeder.Order, string, func([]byte)) error {
	return func(ctx context.Context, o seeder.Order, dest string, tell func([]byte)) error {
		if u, err := parseURL(o.URL); err != nil || u.Scheme == "file" {
			return errors.New("not an http or https URL")
		}
		args := []string{"--progress=json", "--output=" + dest, "--seed=" + strconv.FormatBool(o.Seed)}
		if s.config != "" {
			args = append(args, "--config="+env.path(s.config))
		}
		if s.seed.control != "" {
			args = append(args, "--control="+env.path(s.seed.control))
		}
		if o.Size > 0 {
			args = append(args, "--size="+strconv.FormatInt(o.Size, 10))
		}
		if o.SHA256 != nil {
			args = append(args, "--sha256="+hex.EncodeToString(o.SHA256))
		}
		if o.SHA512 != nil {
			args = append(args, "--sha512="+hex.EncodeToString(o.SHA512))
		}
		for _, m := range o.Mirrors {
			args = append(args, "--mirror="+m)
		}
		cmd := exec.CommandContext(ctx, env.Executable, append(args, "--", o.URL)...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay, cmd.Dir = endPatience, "/"
		for _, kv := range env.Environ {
			if !strings.HasPrefix(kv, "NOTIFY_SOCKET=") && !strings.HasPrefix(kv, "LISTEN_") {
				cmd.Env = append(cmd.Env, kv)
			}
		}
		said, err := cmd.StderrPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		last := ""
		lines := bufio.NewScanner(said)
		lines.Buffer(nil, longestLine)
		for lines.Scan() {
			line := bytes.TrimSpace(lines.Bytes())
			switch {
			case json.Valid(line) && len(line) > 0 && line[0] == '{':
				tell(line)
			case len(line) > 0:
				last = string(line)
			}
		}
		if err := cmd.Wait(); err != nil {
			return errors.Join(err, errors.New(last))
		}
		return nil
	}
}
