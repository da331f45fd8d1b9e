//go:build race

package swarm_test

const mostWorkerMemory = 1 << 30 // the race detector's
