package metainfo

import (
	"bytes"
	"errors"
	"fmt"
)

// place is where a value stands in a torrent, as far as it has to be of one kind: the library takes a list of one value
// for the value.
type place int

const (
	anywhere place = iota
	inInteger
	inString
	inHashes // of pieces
	inRoot
	inInfo
	inLayers
	inTree
	inFiles
	inFile
	inPath
)

// kind is the first byte of a value: i, l, d, or 0 for a string.
func kind(first byte) byte {
	if first >= '0' && first <= '9' {
		return 0
	}
	return first
}

func (p place) kind() byte {
	switch p {
	case inInteger:
		return 'i'
	case inString, inHashes:
		return 0
	case inFiles, inPath:
		return 'l'
	}
	return 'd'
}

// below returns the place of a value in a dict (key is nil in a list).
func (p place) below(key []byte) place {
	switch p {
	case inRoot:
		switch string(key) {
		case "info":
			return inInfo
		case "piece layers":
			return inLayers
		}
	case inInfo:
		switch string(key) {
		case "name":
			return inString
		case "pieces":
			return inHashes
		case "length", "meta version", "piece length":
			return inInteger
		case "files":
			return inFiles
		case "file tree":
			return inTree
		}
	case inLayers:
		return inHashes
	case inFiles:
		return inFile
	case inFile:
		switch string(key) {
		case "attr":
			return inString
		case "length":
			return inInteger
		case "path":
			return inPath
		}
	case inPath:
		return inString
	}
	return anywhere
}

// checkBencode verifies that data is one bencoded dict (BEP 3) within the limits: integers canonical and in 64 bits,
// keys sorted and unique, and what a torrent has of the kind it has to be. Nothing else is ever given to the library to
// decode. It sets the values of the keys of the dict that are in want, and allocates nothing but its error.
func checkBencode(data []byte, want map[string]*[]byte) error {
	type frame struct {
		place       place
		dict, value bool   // value: a key was read, its value comes next
		last        []byte // the key before
	}
	var stack [maxNesting]frame
	depth, elements, pos := 0, 0, 0
	hashes := 0 // bytes of them
	begin := 0  // of the value in the outermost dict
	for {
		if pos >= len(data) {
			return errors.New("bencode: cut short")
		}
		c := data[pos]
		if depth == 0 && c != 'd' {
			return errors.New("bencode: not a dictionary")
		}
		if depth > 0 && c == 'e' {
			if stack[depth-1].value {
				return errors.New("bencode: key without value")
			}
			depth--
			pos++
			if depth == 0 {
				break
			}
		} else {
			if elements++; elements > maxElements {
				return errors.New("bencode: too many elements")
			}
			at := inRoot
			if depth > 0 {
				top := &stack[depth-1]
				if top.dict && !top.value {
					key, next, ok := bencodedString(data, pos)
					if !ok {
						return errors.New("bencode: malformed key")
					}
					if top.last != nil && bytes.Compare(top.last, key) >= 0 {
						return errors.New("bencode: keys out of order")
					}
					top.last, top.value, pos = key, true, next
					continue
				}
				top.value = false
				at = top.place.below(top.last)
			}
			if depth == 1 {
				begin = pos
			}
			if at != anywhere && kind(c) != at.kind() {
				return errors.New("a value of the wrong kind")
			}
			ok := true
			switch c {
			case 'd', 'l':
				if depth == maxNesting {
					return errors.New("bencode: nested too deeply")
				}
				stack[depth] = frame{place: at, dict: c == 'd'}
				depth++
				pos++
			case 'i':
				pos, ok = bencodedInt(data, pos)
			default:
				var s []byte
				if s, pos, ok = bencodedString(data, pos); at == inHashes {
					hashes += len(s)
				}
			}
			if !ok {
				return errors.New("bencode: malformed value")
			}
		}
		if depth == 1 && !stack[0].value && stack[0].last != nil {
			if part := want[string(stack[0].last)]; part != nil {
				*part = data[begin:pos:pos]
			}
		}
	}
	if pos != len(data) {
		return errors.New("bencode: something follows the dictionary")
	}
	if pos-hashes > maxBesideHashes {
		return fmt.Errorf("more than %d bytes beside the piece hashes", maxBesideHashes)
	}
	return nil
}

// bencodedInt goes over the integer at pos, where data has an "i".
func bencodedInt(data []byte, pos int) (next int, ok bool) {
	pos++
	negative := pos < len(data) && data[pos] == '-'
	if negative {
		pos++
	}
	start := pos
	var u uint64
	for ; pos < len(data) && data[pos] != 'e'; pos++ {
		c := data[pos]
		// 19 digits fit 64 bits; a leading zero is canonical in "0" alone.
		if c < '0' || c > '9' || pos-start >= 19 || pos > start && u == 0 {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if pos >= len(data) || pos == start || negative && u == 0 {
		return 0, false
	}
	return pos + 1, u < 1<<63 || negative && u == 1<<63
}

// bencodedString reads the string at pos. It is never nil if ok.
func bencodedString(data []byte, pos int) (s []byte, next int, ok bool) {
	n := 0
	start := pos
	for ; pos < len(data) && data[pos] != ':'; pos++ {
		c := data[pos]
		if c < '0' || c > '9' || pos-start >= 9 || pos > start && n == 0 {
			return nil, 0, false
		}
		n = n*10 + int(c-'0')
	}
	if pos == start || pos >= len(data) || n > len(data)-pos-1 {
		return nil, 0, false
	}
	pos++
	return data[pos : pos+n : pos+n], pos + n, true
}
