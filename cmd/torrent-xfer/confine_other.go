//go:build !linux

package main

// confine does nothing where there is no Landlock.
func confine(Env, reach) (string, error) { return "none: only Linux has Landlock", nil }
