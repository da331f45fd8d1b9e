//go:build !race

package metainfo

// hostileSize is the size, in bytes, of what is made to cost time or memory.
const hostileSize = MaxSize
