package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const version = "0.1.0"

const shortUsage = `usage: torrent-xfer [flags] URL [DEST]
       torrent-xfer download MAGNET|TORRENT [DIR]
       torrent-xfer serve FILE...
       torrent-xfer mirrors URL
       torrent-xfer publish DIR
       torrent-xfer create FILE...
       torrent-xfer metainfo TORRENT
       torrent-xfer bencode FILE
       torrent-xfer scrape -t TRACKER -i HASH
       torrent-xfer doctor
       torrent-xfer apt-method [NAME]
       torrent-xfer daemon
       torrent-xfer status|pause|resume|remove WHAT|limit RATE
More with torrent-xfer --help.
`

// run runs the program and returns its exit status.
func run(env Env) int {
	if len(env.Args) == 1 && isAptName(env.Args[0]) {
		env.Args = []string{env.Args[0], "apt-method", filepath.Base(env.Args[0])}
	}
	if len(env.Args) < 2 {
		io.WriteString(env.Stderr, shortUsage)
		return exitUsage
	}
	args, err := arrange(env.Args)
	if err == nil {
		err = newApp(env).RunContext(context.Background(), args)
	}
	var f *failure
	if err != nil && !(errors.As(err, &f) && f.err == errSilent) {
		io.WriteString(env.Stderr, complain(err))
	}
	return statusOf(err)
}

// errSilent is the error of a failure of which nothing is left to be said.
var errSilent = errors.New("failed")

func newApp(env Env) *cli.App {
	about := "Settings may also stand in the environment, as " + envPrefix + "LIMIT_RATE for --limit-rate, and in\n" +
		"/etc/torrent-xfer.toml or $XDG_CONFIG_HOME/torrent-xfer.toml, as limit-rate = \"2M\".\n\n"
	command := func(name, args, usage, about string, action func(Env, *cli.Context) error, statuses ...int) *cli.Command {
		statuses = append(statuses, exitDone, exitFailed, exitUsage)
		return &cli.Command{Name: name, ArgsUsage: args, Usage: usage, Description: about + exitTable(statuses...), Flags: flagsOf(name),
			OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return seeHelp(name, usageError("%w", err)) },
			HideHelpCommand: true,
			Action:          func(c *cli.Context) error { return seeHelp(name, action(env, c)) }}
	}
	return &cli.App{
		Name:      "torrent-xfer",
		Usage:     "bring one file from wherever its bytes come fastest",
		UsageText: "torrent-xfer [flags] URL [DEST]",
		Description: "DEST is where the file goes; without it the URL's last part names a file in this directory,\n" +
			"\"-\" is standard output. Flags may follow the arguments.\n\n" +
			"A metalink of this machine in the place of URL stands for the file that it describes, and so does a lone URL that\n" +
			"ends in .meta4 or .metalink; with DEST such a URL is fetched as it is. Of several files DEST names one.\n\n" + about +
			exitTable(exitDone, exitFailed, exitUsage, exitNotFound, exitWrong, exitWrite, exitTimeout, exitInterrupted),
		Version:                   version,
		Flags:                     flagsOf(cmdFetch),
		Writer:                    env.Stdout,
		ErrWriter:                 env.Stderr,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return usageError("%w", err) },
		Action:                    func(c *cli.Context) error { return fetchCommand(env, c) },
		Commands: []*cli.Command{
			command(cmdDownload, "MAGNET|TORRENT [DIR]", "bring what a magnet link or a torrent is of, from peers and its web seeds", downloadAbout, downloadCommand,
				exitNotFound, exitWrong, exitWrite, exitTimeout, exitInterrupted),
			command(cmdServe, "FILE...", "give files of this machine to peers, and print their magnet links", serveAbout, serveCommand,
				exitWrong, exitWrite, exitInterrupted),
			command("mirrors", "URL", "print the URLs of the same file, best first", "", mirrorsCommand, exitNotFound, exitTimeout, exitInterrupted),
			command("publish", "DIR", "write the torrents of a package repository, as static files", aboutPublish, publishCommand,
				exitWrite, exitInterrupted),
			command("create", "FILE...", "write a torrent beside each file, for its download from mirrors and peers",
				"The same file and flags make the same torrent, byte for byte.\n\n", createCommand,
				exitWrite, exitInterrupted),
			command("metainfo", "TORRENT", "print all that a torrent says, its magnet link, and what is wrong with it", metainfoAbout, metainfoCommand,
				exitNotFound, exitTimeout, exitInterrupted),
			command("scrape", "[TORRENT]", "ask trackers how many have a torrent", scrapeAbout, scrapeCommand),
			command("bencode", "FILE", "print bencode as JSON, or the reverse", bencodeAbout, bencodeCommand),
			command("apt-method", "[NAME]", "speak apt's protocol on standard input and output; apt starts this, as NAME", "", aptMethodCommand, exitInterrupted),
			command(cmdDaemon, "", "keep finished downloads available to peers, within limits", daemonAbout, daemonCommand),
			command("status", "", "tell what the daemon keeps available, and to how many", statusAbout, controlCommand("status"), exitInterrupted),
			command("pause", "", "have the daemon serve nobody", pauseAbout, controlCommand("pause")),
			command("resume", "", "have the daemon serve again", "", controlCommand("resume")),
			command("remove", "WHAT", "have the daemon forget a file", removeAbout, controlCommand("remove")),
			command("limit", "RATE", "bound what the daemon gives", limitAbout, controlCommand("limit")),
			command("doctor", "[PACMAN.CONF]", "check the configuration and print the lines that others need", "", doctorCommand),
		},
	}
}

// arrange puts the flags before the other arguments, as package cli wants them; nothing after "--" is a flag. Flags
// before a verb become the verb's own (they have to be flags of a download too), and short names become long ones; a
// short one may have its value joined to it. A flag that is unknown or lacks its value is an error: it must not take the
// "--" for one. Who asks for help asks for nothing else.
func arrange(args []string) ([]string, error) {
	known := namesOf(cmdFetch)
	var verb, flags, rest, unknown []string
	fail := func(format, flag string) error {
		return seeHelp(strings.Join(verb, ""), usageError(format, flag))
	}
	list := args[1:]
	for i := 0; i < len(list); i++ {
		a := list[i]
		switch {
		case a == "--":
			rest = append(rest, list[i+1:]...)
			i = len(list)
		case len(a) < 2 || a[0] != '-':
			if verb == nil && rest == nil && slices.Contains(allVerbs[1:], a) {
				verb, known = []string{a}, namesOf(a)
			} else {
				rest = append(rest, a)
			}
		default:
			if a == "-h" || a == "--help" || a == "-help" {
				return slices.Concat(args[:1], verb, []string{"--help"}), nil
			}
			name, value, joined := strings.Cut(strings.TrimPrefix(a[1:], "-"), "=")
			s, ok := known[name]
			short := known[a[1:2]]
			switch {
			case !ok && short.value:
				flags = append(flags, "--"+short.name+"="+a[2:])
			case !ok:
				flags, unknown = append(flags, a), append(unknown, a)
			case joined:
				flags = append(flags, "--"+s.name+"="+value)
			case !s.value:
				flags = append(flags, "--"+s.name)
			case i+1 == len(list):
				return nil, fail("%s needs a value", a)
			default:
				i++
				flags = append(flags, "--"+s.name, list[i])
			}
		}
	}
	if verb == nil {
		known["version"], known["v"] = setting{}, setting{} // package cli's own
	}
	for _, a := range unknown { // they may be known now that the verb is
		typed, _, _ := strings.Cut(a, "=")
		if _, ok := known[strings.TrimPrefix(typed[1:], "-")]; !ok {
			return nil, fail("there is no flag %s", typed)
		}
	}
	return slices.Concat(args[:1], verb, flags, []string{"--"}, rest), nil
}

// namesOf maps all names of a command's flags to the settings.
func namesOf(verb string) map[string]setting {
	names := map[string]setting{}
	for _, s := range settingsOf(verb) {
		for _, name := range append(s.aliases, s.name) {
			names[name] = s
		}
	}
	return names
}

// warn tells in one line what is wrong though the work goes on.
func warn(w io.Writer, format string, args ...any) {
	io.WriteString(w, printable("torrent-xfer: warning: "+fmt.Sprintf(format, args...))+"\n")
}
