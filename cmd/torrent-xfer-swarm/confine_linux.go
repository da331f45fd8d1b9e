package main

import (
	"fmt"
	"os"
	"os/user"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

const (
	mostMemory = 1 << 30 // of the process; Go is told to keep well below it
	wantMemory = 80 << 20
	mostFiles  = 1024 // descriptors, connections among them

	fsRights = 1<<16 - 1 // all of Landlock ABI 5
	scopes   = 1<<2 - 1  // abstract sockets and signals
)

// users are whom root becomes, the first that there is. The daemon's own user is none of them: who is that may change what it does.
var users = []string{"torrent-xfer-swarm", "nobody"}

// reads is what names and certificates are looked up in.
var reads = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/ssl", "/run/systemd/resolve", "/run/NetworkManager"}

// confine gives up what speaking to peers does not need: root, files, other programs and their sockets, memory without end.
func confine() error {
	debug.SetMemoryLimit(wantMemory)
	for resource, most := range map[int]uint64{unix.RLIMIT_DATA: mostMemory, unix.RLIMIT_NOFILE: mostFiles, unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0} {
		var now unix.Rlimit
		if unix.Getrlimit(resource, &now) == nil {
			most = min(most, now.Max)
			unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most})
		}
	}
	if os.Getuid() == 0 {
		if err := becomeNobody(); err != nil {
			return fmt.Errorf("root cannot become another user: %w", err)
		}
	}
	if err := ll.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := refuseUnixSockets(); err != nil {
		return err
	}
	var rules []landlock.Rule
	for _, path := range reads {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		rights := landlock.AccessFSSet(ll.AccessFSReadFile)
		if info.IsDir() {
			rights |= ll.AccessFSReadDir
		}
		rules = append(rules, landlock.PathAccess(rights, path).IgnoreIfMissing())
	}
	config, err := landlock.NewConfig(landlock.AccessFSSet(fsRights), landlock.ScopedSet(scopes))
	if err != nil {
		return err
	}
	return config.BestEffort().Restrict(rules...)
}

func becomeNobody() error {
	uid, gid := 65534, 65534
	for _, name := range users {
		if u, err := user.Lookup(name); err == nil {
			uid, _ = strconv.Atoi(u.Uid)
			gid, _ = strconv.Atoi(u.Gid)
			break
		}
	}
	if err := syscall.Setgroups([]int{}); err != nil {
		return err
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	return syscall.Setresuid(uid, uid, uid)
}
