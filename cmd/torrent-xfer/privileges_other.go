//go:build !linux

package main

import "fmt"

// becomeUser refuses: apt runs on Linux, and elsewhere nobody has tried this.
func becomeUser(name string) error {
	return fmt.Errorf("root cannot become user %s on this system", name)
}
