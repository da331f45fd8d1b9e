package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"torrent-xfer/aptmethod"
)

const detectTime = 30 * time.Second // for apt's proxy detector

// aptName is what a method is called: by itself as the scheme of a URI, or before a plus sign and what is really spoken.
var aptName = regexp.MustCompile(`^(torrent|https?|[a-z][a-z0-9-]*\+https?)$`)

// isAptName reports whether apt starts programs of this path as a method, without an argument.
func isAptName(path string) bool { return aptName.MatchString(filepath.Base(path)) }

// aptMethodCommand is the acquire method. Its end, whatever the reason, is the end of what apt waits for, so nothing is
// printed but what belongs to the protocol.
func aptMethodCommand(env Env, c *cli.Context) error {
	if _, err := loadSettings(env, c, "apt-method"); err != nil {
		return err
	}
	name := "torrent+http"
	switch c.NArg() {
	case 0:
	case 1:
		name = c.Args().First()
	default:
		return usageError("apt-method takes one name")
	}
	if !aptName.MatchString(name) {
		return usageError("%q is none of apt's methods", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Ignore(syscall.SIGPIPE)
	a := &aptMethod{env: env}
	m := &aptmethod.Method{Name: name, In: env.Stdin, Out: env.Stdout, Env: env.get, Prepare: a.prepare, Detect: a.detect,
		Debug: func(text string) { io.WriteString(env.Stderr, text) }}
	switch err := m.Serve(ctx); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return &failure{status: exitInterrupted, err: errSilent}
	case errors.Is(err, aptmethod.ErrProtocol):
		return &failure{status: exitUsage, err: errSilent} // it was told in the protocol's own words
	default:
		return &failure{status: exitFailed, err: err, next: "apt's own messages say more"}
	}
}

type aptMethod struct {
	env Env
}

// prepare gives up root's rights as apt's own methods do.
func (a *aptMethod) prepare(c *aptmethod.Config) error {
	user := c.Find("APT::Sandbox::User")
	if c.Bool("Debug::NoDropPrivs", false) || user == "" || user == "root" || a.env.UID != 0 {
		return nil
	}
	return becomeUser(user)
}

// detect runs apt's proxy detector.
func (a *aptMethod) detect(ctx context.Context, command, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, detectTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, url)
	cmd.Env, cmd.WaitDelay = a.env.Environ, time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	if i := slices.Index(out, '\n'); i >= 0 {
		out = out[:i]
	}
	return string(out), nil
}
