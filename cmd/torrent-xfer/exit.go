package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"torrent-xfer/fetcher"
)

// Exit statuses.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitWrong       = 4
	exitWrite       = 5
	exitTimeout     = 6
	exitInterrupted = 130
)

// exits is the one table of exit statuses: what each means, and what the caller does next.
var exits = []struct {
	status        int
	meaning, next string
}{
	{exitDone, "done", "the file is there, whole and right"},
	{exitFailed, "failed", "run it again with --verbose to see what each mirror said"},
	{exitUsage, "wrong usage or configuration", "see torrent-xfer --help"},
	{exitNotFound, "no mirror has the file", "check the URL, or refresh the package lists if they are old"},
	{exitWrong, "every copy was wrong", "wait until the mirrors are updated, or check the digest that was asked for"},
	{exitWrite, "cannot write here", "check the directory's permissions and its free space"},
	{exitTimeout, "timed out", "run it again: what was verified is kept"},
	{exitInterrupted, "interrupted", "run it again: what was verified is kept"},
}

// exitTable is for the help of a command that ends with these statuses.
func exitTable(statuses ...int) string {
	var b strings.Builder
	b.WriteString("Exit status:\n")
	for _, e := range exits {
		if slices.Contains(statuses, e.status) {
			fmt.Fprintf(&b, "  %3d  %s\n", e.status, e.meaning)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// nextStep says what to do after a status.
func nextStep(status int) string {
	for _, e := range exits {
		if e.status == status {
			return e.next
		}
	}
	return ""
}

var (
	errInterrupted = errors.New("interrupted")
)

// A failure is an error that stands for a status. file is what it is about; "": nothing in particular.
type failure struct {
	status int
	file   string
	err    error
	next   string // "": as the table has it
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usageError(format string, args ...any) error {
	return &failure{status: exitUsage, err: fmt.Errorf(format, args...)}
}

// seeHelp makes a usage error of a verb point to the verb's help.
func seeHelp(verb string, err error) error {
	var f *failure
	if errors.As(err, &f) && f.status == exitUsage && f.next == "" && verb != cmdFetch {
		f.next = "see torrent-xfer " + verb + " --help"
	}
	return err
}

// statusOf maps an error to its status.
func statusOf(err error) int {
	var f *failure
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &f):
		return f.status
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, fetcher.ErrRequest):
		return exitUsage
	case errors.Is(err, fetcher.ErrNotFound):
		return exitNotFound
	case errors.Is(err, fetcher.ErrWrong):
		return exitWrong
	case errors.Is(err, fetcher.ErrWrite):
		return exitWrite
	case errors.Is(err, fetcher.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

// complain makes the one line that an error is told in.
func complain(err error) string {
	status, file, next := statusOf(err), "", ""
	var f *failure
	if errors.As(err, &f) {
		file, next = f.file, f.next
	}
	if next == "" {
		next = nextStep(status)
	}
	line := "torrent-xfer: "
	if file != "" {
		line += file + ": "
	}
	return printable(line+err.Error()+"; "+next) + "\n"
}
