package peers

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// packets is the kind of socket that keeps messages apart.
const packets = unix.SOCK_SEQPACKET

// socketPair connects two processes. ours can be waited for with a deadline.
func socketPair(kind int) (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	unix.SetNonblock(pair[0], true)
	return os.NewFile(uintptr(pair[0]), "worker"), os.NewFile(uintptr(pair[1]), "worker"), nil
}

// keepToOurselves has no program inherit what our own caller left open.
func keepToOurselves() {
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}
