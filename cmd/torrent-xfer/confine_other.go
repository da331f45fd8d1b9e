//go:build !linux

package main

// confine does nothing where there is no Landlock.
func confine(Env, []string, []string) (string, error) { return "none: only Linux has Landlock", nil }
