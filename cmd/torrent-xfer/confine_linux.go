package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

const (
	mayRead  = ll.AccessFSReadFile | ll.AccessFSReadDir
	mayRun   = ll.AccessFSExecute | ll.AccessFSReadFile
	mayWrite = mayRead | ll.AccessFSWriteFile | ll.AccessFSMakeReg | ll.AccessFSRemoveFile | ll.AccessFSTruncate
	fsRights = 1<<16 - 1 // all of Landlock ABI 5
	scopes   = 1<<2 - 1  // abstract sockets and signals
)

// systemReads is what names and certificates are looked up in.
var systemReads = []string{"/etc", "/usr/share", "/usr/local/share/ca-certificates", "/usr/lib/ssl", "/run/systemd/resolve",
	"/run/NetworkManager", "/run/resolvconf", "/var/lib/ca-certificates"}

// loaders and libraries are what a program that is not linked statically needs to start.
var (
	loaders   = []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"}
	libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64"}
)

// confine gives up, for the whole process and for good, everything that the download does not need: writing outside the
// directories of to, reading outside of it and of what names and certificates need, listening, signals to others, new
// privileges. It returns what is in force now.
func confine(env Env, to reach) (string, error) {
	if err := ll.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "none", fmt.Errorf("no_new_privs: %w", err)
	}
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return "no new privileges; the kernel has no Landlock", nil
	}
	var rules []landlock.Rule
	allow := func(dirs, files landlock.AccessFSSet, paths ...string) {
		for _, p := range paths {
			info, err := os.Stat(p)
			if err != nil {
				continue
			}
			rights := files
			if info.IsDir() {
				rights = dirs
			}
			if rights != 0 {
				rules = append(rules, landlock.PathAccess(rights, p).IgnoreIfMissing())
			}
		}
	}
	allow(mayWrite, 0, to.write...)
	allow(ll.AccessFSRemoveDir, 0, to.clear...)
	allow(ll.AccessFSMakeDir|ll.AccessFSRemoveDir, 0, to.shape...)
	if to.run != "" {
		allow(0, mayRun, append(loaders, to.run)...)
		allow(mayRead, ll.AccessFSReadFile, libraries...)
	}
	for _, port := range to.listen {
		rules = append(rules, landlock.BindTCP(port))
	}
	allow(mayRead, ll.AccessFSReadFile, to.read...)
	allow(mayRead, ll.AccessFSReadFile, systemReads...)
	allow(mayRead, ll.AccessFSReadFile, filepath.SplitList(env.get("SSL_CERT_DIR"))...)
	allow(mayRead, ll.AccessFSReadFile, env.get("SSL_CERT_FILE"))
	if f, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil {
		allow(0, ll.AccessFSReadFile, f)
	}
	config, err := landlock.NewConfig(landlock.AccessFSSet(fsRights), landlock.AccessNetSet(ll.AccessNetBindTCP), landlock.ScopedSet(scopes))
	if err != nil {
		return "no new privileges", err
	}
	if err := config.BestEffort().Restrict(rules...); err != nil {
		return "no new privileges", err
	}
	text := fmt.Sprintf("Landlock ABI %d: writes only where the file goes and to the cache, reads only what it needs, no new privileges", abi)
	if abi >= 4 && to.listen == nil {
		text += ", no listening"
	}
	return text, nil
}
