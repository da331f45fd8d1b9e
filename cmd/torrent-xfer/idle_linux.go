package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// beIdle has this process use the disk and the processor only while nobody else wants them. Linux keeps both
// priorities for each thread (ioprio_set(2), setpriority(2)); new ones inherit them.
func beIdle() error {
	const idleClass, ofThread, lowest = 3 << 13, 1, 19
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ofThread, uintptr(id), idleClass); errno != 0 && errno != unix.ESRCH {
			return errno
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, lowest); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return nil
}
