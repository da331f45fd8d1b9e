package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

const inputTimeout = time.Minute // for a URL, unless the user says otherwise

// inputName is the one thing that a verb is to look at: the value of its flag, its argument, or standard input if there
// is neither and something is piped into it.
func inputName(env Env, c *cli.Context, verb, flag string) (string, error) {
	names := c.Args().Slice()
	if flag != "" {
		names = append(names, flag)
	}
	switch {
	case len(names) > 1:
		return "", usageError("%s looks at one thing at a time", verb)
	case len(names) == 1 && names[0] == "":
		return "", usageError("the name is empty")
	case len(names) == 1:
		return names[0], nil
	}
	if f, ok := env.Stdin.(*os.File); ok {
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice != 0 {
			return "", usageError("nothing to look at: name a file, or - for standard input")
		}
	}
	return "-", nil
}

// openInput opens a file, or standard input, and gives up every right that is not needed to read it.
func openInput(env Env, name string) (io.ReadCloser, error) {
	in := io.NopCloser(env.Stdin)
	if name != "-" {
		f, err := os.Open(env.path(name))
		if err != nil {
			return nil, &failure{status: exitUsage, file: inputLabel(name), err: withoutPath(err), next: "check the name, and whether it may be read"}
		}
		in = f
	}
	giveUpRights(env)
	return in, nil
}

// withoutPath is for a message that names the file already.
func withoutPath(err error) error {
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("no such file")
	case errors.As(err, &at):
		return at.Err
	}
	return err
}

// giveUpRights confines root to what looking at something needs: nothing is written, what is read is open.
func giveUpRights(env Env) {
	if env.UID == 0 {
		confine(env, reach{}) // its error may be ignored: nothing is written here
	}
}

// readInput reads a file, standard input or, if a URL is allowed, what is there. Beyond limit it stops: a byte more tells
// that there is more.
func readInput(env Env, s settings, name string, limit int64) ([]byte, error) {
	if strings.Contains(name, "://") {
		u, err := parseURL(name)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "file" {
			giveUpRights(env)
			return readURL(env, s, u, limit)
		}
		name = u.Path
	}
	in, err := openInput(env, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := readAll(in, limit)
	if err != nil {
		return nil, &failure{status: exitFailed, file: inputLabel(name), err: err, next: "check whether it can be read"}
	}
	return data, nil
}

// readAll reads to the end or a byte beyond limit. The buffer never grows, so that nothing is there twice; what is not
// touched of it costs nothing.
func readAll(in io.Reader, limit int64) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, limit+1+bytes.MinRead))
	_, err := b.ReadFrom(io.LimitReader(in, limit+1))
	return b.Bytes(), err
}

// readURL fetches u whole, with the proxies, the login and the user agent of a download.
func readURL(env Env, s settings, u *url.URL, limit int64) ([]byte, error) {
	fail := func(err error) error {
		return &failure{status: statusOf(err), file: bare(u), err: err, next: map[int]string{exitTimeout: "try again", exitFailed: "check the URL"}[statusOf(err)]}
	}
	if s.timeout == 0 {
		s.timeout = inputTimeout
	}
	d := &download{env: env, settings: s, url: u}
	ctx, stop := d.lifetime()
	defer stop()
	p := newProber(env, u)
	req, err := p.request(ctx, u)
	if err != nil {
		return nil, usageError("not a URL")
	}
	res, err := p.client.Do(req)
	if err == nil {
		defer res.Body.Close()
	}
	var data []byte
	switch {
	case err != nil:
	case res.StatusCode != http.StatusOK:
		status := exitFailed
		if res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone {
			status = exitNotFound
		}
		text := strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", http.StatusText(res.StatusCode)))
		return nil, &failure{status: status, file: bare(u), err: errors.New("the server answered " + text), next: "check the URL"}
	default:
		data, err = readAll(res.Body, limit)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, fail(cause)
		}
		return nil, fail(errors.New(why(err)))
	}
	return data, nil
}
