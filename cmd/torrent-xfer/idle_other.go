//go:build !linux

package main

import "golang.org/x/sys/unix"

func beIdle() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, 19) }
