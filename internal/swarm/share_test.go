package swarm

import (
	"crypto/sha1"
	"fmt"
	"slices"
	"testing"
)

// names are ids of downloads.
func names(n int) (list [][20]byte) {
	for i := range n {
		list = append(list, sha1.Sum(fmt.Append(nil, i)))
	}
	return list
}

// owners tells to whom each piece falls, among all.
func owners(t *testing.T, all [][20]byte, n int) []int {
	t.Helper()
	list := slices.Repeat([]int{-1}, n)
	for i, own := range all {
		others := slices.Delete(slices.Clone(all), i, i+1)
		for p, mine := range share(own, others, n) {
			if mine && list[p] >= 0 {
				t.Errorf("piece %d falls to %d and %d", p, list[p], i)
			}
			if mine {
				list[p] = i
			}
		}
	}
	return list
}

// Each piece falls to one download, each gets some, and who leaves changes only what fell to him.
func TestShare(t *testing.T) {
	for _, pieces := range []int{1, 305, 1220} {
		all := names(16)
		before := owners(t, all, pieces)
		if slices.Contains(before, -1) {
			t.Errorf("of %d pieces some fall to nobody", pieces)
		}
		for i := range all {
			if pieces > 1 && !slices.Contains(before, i) {
				t.Errorf("nothing of %d pieces falls to %d", pieces, i)
			}
		}
		for p, i := range owners(t, all[:15], pieces) {
			if before[p] != 15 && i != before[p] {
				t.Errorf("piece %d of %d went from %d to %d", p, pieces, before[p], i)
			}
		}
	}
	if alone := share(names(1)[0], nil, 10); slices.Contains(alone, false) {
		t.Error("who is alone is to fetch everything")
	}
}
