package metainfo

import (
	"crypto/sha256"
	"math/bits"
)

// merkleTree computes the root of a binary tree of SHA-256 hashes from its leaves.
type merkleTree struct {
	count uint64
	nodes [32][32]byte // nodes[l] is a finished subtree of 1<<l leaves where count has that bit
}

func (t *merkleTree) add(h [32]byte) {
	level := 0
	for n := t.count; n&1 == 1; n >>= 1 {
		var pair [64]byte
		copy(pair[:32], t.nodes[level][:])
		copy(pair[32:], h[:])
		h = sha256.Sum256(pair[:])
		level++
	}
	t.nodes[level] = h
	t.count++
}

// root fills the tree up with pad to leaves, a power of two that is at least one.
func (t *merkleTree) root(leaves uint64, pad [32]byte) [32]byte {
	for t.count < leaves {
		t.add(pad)
	}
	return t.nodes[bits.TrailingZeros64(leaves)]
}

// layerRoot returns the root of the tree above a layer of piece hashes (BEP 52).
func layerRoot(layer []byte, pieceLength int64) [32]byte {
	var tree merkleTree
	var pad [32]byte // the root of a piece of zero leaves
	for n := pieceLength / BlockSize; n > 1; n /= 2 {
		var pair [64]byte
		copy(pair[:32], pad[:])
		copy(pair[32:], pad[:])
		pad = sha256.Sum256(pair[:])
	}
	for ; len(layer) > 0; layer = layer[32:] {
		tree.add([32]byte(layer))
	}
	return tree.root(powerOfTwo(tree.count), pad)
}

// powerOfTwo returns the least power of two that is not less than n, which is positive.
func powerOfTwo(n uint64) uint64 {
	return 1 << bits.Len64(n-1)
}
