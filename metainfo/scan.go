package metainfo

import "fmt"

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

// kind is that of a token.
func (p place) kind() byte {
	switch p {
	case inInteger:
		return 'i'
	case inString, inHashes:
		return 's'
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
		case "name", "name.utf-8", "source", "attr", "sha1":
			return inString
		case "pieces":
			return inHashes
		case "length", "meta version", "piece length", "private":
			return inInteger
		case "symlink path":
			return inPath
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
		case "attr", "sha1":
			return inString
		case "length":
			return inInteger
		case "path", "path.utf-8", "symlink path":
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
	s := scanner{data: data, limit: maxNesting}
	var places [maxNesting + 1]place // places[d] is that of the innermost dict or list at depth d
	elements, begin := 0, 0          // begin: of the value in the outermost dict
	hashes := 0                      // bytes of them
	for {
		at := inRoot
		if s.depth > 0 {
			if top := &s.stack[s.depth-1]; !top.dict || top.value {
				at = places[s.depth].below(top.last)
			}
		}
		t, err := s.next()
		if err != nil {
			return err
		}
		switch t.kind {
		case 0:
			if s.pos-hashes > maxBesideHashes {
				return fmt.Errorf("info.pieces, piece layers: more than %d bytes beside the piece hashes", maxBesideHashes)
			}
			return nil
		case 'e':
		default:
			if elements++; elements > maxElements {
				return s.fail(s.depth, t.at, "too many elements")
			}
			if t.kind == 'k' {
				if s.depth == 1 {
					begin = s.pos
				}
				continue
			}
			if at != anywhere && t.kind != at.kind() {
				return s.wrongKind(t, at.kind())
			}
			switch {
			case t.opens():
				places[s.depth] = at
			case t.kind == 'i' && !fitsInt64(t.text):
				return s.fail(s.depth, t.at, "integer does not fit 64 bits")
			case at == inHashes:
				hashes += len(t.text)
			}
		}
		if s.depth == 1 && s.stack[0].last != nil {
			if part := want[string(s.stack[0].last)]; part != nil {
				*part = data[begin:s.pos:s.pos]
			}
		}
	}
}

// wrongKind is the error of a value that was just read and should be another kind of one.
func (s *scanner) wrongKind(t token, kind byte) error {
	levels := s.depth
	if t.opens() {
		levels--
	}
	return s.fail(levels, t.at, fmt.Sprintf("%s instead of %s", kindNames[t.kind], kindNames[kind]))
}

var kindNames = map[byte]string{'d': "a dictionary", 'l': "a list", 'i': "an integer", 's': "a string"}
