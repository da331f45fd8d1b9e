package swarm

import "encoding/binary"

// runsEach is how many runs of pieces fall to each download, on average and at least, where there are so many pieces.
const runsEach = 8

// share marks the pieces that fall to the download called own: each run of pieces falls to the one whose name draws the
// highest number for it. So all who are connected with each other agree without a word, and whoever comes or goes changes only
// what falls to him.
func share(own [20]byte, others [][20]byte, n int) []bool {
	run := 1
	for n/(2*run) >= runsEach*(len(others)+1) {
		run *= 2
	}
	mine := make([]bool, n)
	for from := 0; from < n; from += run {
		best, falls := draw(own, from/run), true
		for _, o := range others {
			falls = falls && draw(o, from/run) <= best
		}
		for p := from; p < min(from+run, n); p++ {
			mine[p] = falls
		}
	}
	return mine
}

// draw is splitmix64, seeded with the random part of a peer's name.
func draw(id [20]byte, run int) uint64 {
	x := binary.LittleEndian.Uint64(id[12:]) + uint64(run+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
