//go:build !race

package swarm_test

const mostWorkerMemory = 96 << 20
