package main

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// becomeUser gives up root's rights for those of another user, in all threads and for good, and makes sure of it.
func becomeUser(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("no user %s, cannot drop rights: %w", name, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	if err := syscall.Setgroups([]int{gid}); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if syscall.Getuid() != uid || syscall.Geteuid() != uid || syscall.Getgid() != gid || syscall.Getegid() != gid {
		return fmt.Errorf("the change to user %s did not last", name)
	}
	if uid != 0 && (syscall.Setuid(0) == nil || syscall.Setgid(0) == nil) {
		return fmt.Errorf("root's rights can be had back after the change to user %s", name)
	}
	return nil
}
