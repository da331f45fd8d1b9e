package main

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where struct seccomp_data (linux/seccomp.h) has what a call is told by. The first argument's low half is what the kernel takes for
// a domain.
const (
	callNumber = 0
	callArch   = 4
	callDomain = 16

	foreignCalls = 1 << 30 // amd64: those of x32 begin here; elsewhere there are none
)

// architectures are as the kernel's audit calls those whose sockets come from the call of that name.
var architectures = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64}

// refuseUnixSockets has no thread make a unix socket from now on, so that none can connect to a program of this machine that goes by
// who its caller is, as the daemon at its control socket does: Landlock leaves those at a path alone. Sockets that are open
// stay what they are. Where the kernel cannot, nothing is refused.
func refuseUnixSockets() error {
	arch, known := architectures[runtime.GOARCH]
	if !known {
		return nil
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equals = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	filter := [...]unix.SockFilter{
		{Code: load, K: callArch},
		{Code: equals, K: arch, Jf: 8}, // refuse
		{Code: load, K: callNumber},
		{Code: least, K: foreignCalls, Jt: 6},             // refuse
		{Code: equals, K: unix.SYS_IO_URING_SETUP, Jt: 5}, // refuse: it makes sockets without a call
		{Code: equals, K: unix.SYS_SOCKET, Jt: 1},
		{Code: equals, K: unix.SYS_SOCKETPAIR, Jf: 2}, // allow
		{Code: load, K: callDomain},
		{Code: equals, K: unix.AF_UNIX, Jt: 1}, // refuse
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		return nil
	case err != 0:
		return fmt.Errorf("seccomp: %w", err)
	case thread != 0:
		return fmt.Errorf("seccomp: not for thread %d", thread)
	}
	return nil
}
