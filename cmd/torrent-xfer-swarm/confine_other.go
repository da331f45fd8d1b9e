//go:build !linux

package main

import (
	"errors"
	"os"
)

// confine refuses to speak to peers as root where it cannot become another user.
func confine() error {
	if os.Getuid() == 0 {
		return errors.New("peers are not spoken to as root on this system")
	}
	return nil
}
