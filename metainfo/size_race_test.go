//go:build race

package metainfo

// hostileSize is less than what is read: the race detector makes everything ten times as slow.
const hostileSize = MaxSize / 16
