package seeder

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const mostGroups = 1 << 16 // NGROUPS_MAX

// mayChange tells whether the process at the other end, as it was when it connected, may do more than ask: it is root's, of our
// own user, or in group. group < 0: no group may.
func mayChange(c *net.UnixConn, group int) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	allowed := false
	raw.Control(func(fd uintptr) {
		who, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		allowed = trusts(who, os.Geteuid(), group) || group >= 0 && inGroup(fd, group)
	})
	return allowed
}

// trusts tells what can be told without the supplementary groups. us is our own user.
func trusts(who *unix.Ucred, us, group int) bool {
	return who.Uid == 0 || int(who.Uid) == us || group >= 0 && int(who.Gid) == group
}

// inGroup asks for the supplementary groups of the other end.
func inGroup(fd uintptr, group int) bool {
	list := make([]uint32, mostGroups)
	size := uint32(4 * len(list))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return false
	}
	for _, g := range list[:size/4] {
		if int(g) == group {
			return true
		}
	}
	return false
}
