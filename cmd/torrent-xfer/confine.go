package main

// reach is what remains open to a confined process. Paths that do not exist are skipped. The zero value is the least.
type reach struct {
	read   []string // files, and directories with all below them
	write  []string // directories, in which files may be read, written, renamed and removed
	clear  []string // directories, below which empty directories may be removed
	shape  []string // directories, below which directories may be made, and removed when empty
	run    string   // a program that may be started, under the same confinement; "": none
	listen []uint16 // TCP ports that may be listened at; 0 stands for any that the kernel chooses
}
