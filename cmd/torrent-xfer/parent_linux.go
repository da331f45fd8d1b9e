package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dieWithParent has a SIGTERM sent to us when the parent dies: pacman leaves its child behind when it is ended.
func dieWithParent(parent int) {
	if unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0) == nil && os.Getppid() != parent {
		unix.Kill(os.Getpid(), unix.SIGTERM)
	}
}
