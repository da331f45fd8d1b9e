package publisher

import "golang.org/x/sys/unix"

// sync puts on disk, in one go, what was written.
func (p *publication) sync() error {
	f, err := p.out.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
