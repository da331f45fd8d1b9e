//go:build !linux

package peers

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// packets is the kind of socket that keeps messages apart.
const packets = unix.SOCK_DGRAM

// socketPair connects two processes. ours can be waited for with a deadline.
func socketPair(kind int) (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	pair, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		return nil, nil, err
	}
	unix.CloseOnExec(pair[0])
	unix.CloseOnExec(pair[1])
	unix.SetNonblock(pair[0], true)
	return os.NewFile(uintptr(pair[0]), "worker"), os.NewFile(uintptr(pair[1]), "worker"), nil
}

// keepToOurselves does nothing where the kernel has no close_range.
func keepToOurselves() {}
