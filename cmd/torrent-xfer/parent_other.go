//go:build !linux

package main

// dieWithParent does nothing where the kernel cannot tell.
func dieWithParent(int) {}
