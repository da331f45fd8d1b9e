package publisher

import "golang.org/x/sys/unix"

// sync puts on disk, in one go, what was written.
func (d folder) sync() error { return unix.Syncfs(d.fd()) }
