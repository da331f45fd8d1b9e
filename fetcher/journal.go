package fetcher

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"torrent-xfer/metainfo"
)

// A journal lies beside the partial file and tells a later run what is in it: which version of which file, and the
// checksum of every block that was written. Nothing in it is believed without hashing the block again, so it need not be
// synced: after a power loss the blocks that did not reach the disk do not match.
//
// It is a sequence of records: kind (one byte), length of the payload (uint32, little endian), payload, CRC-32C of all
// that. A torn record ends it. Kind 'H' is a JSON header, of which the last counts; 'B' is a block number (uint32) and
// the CRC-32C of that block and those that follow it.
//
// A nil journal records nothing.
type journal struct {
	path   string
	expect Expect
	told   Expect

	mu   sync.Mutex
	f    *os.File // created with the first block
	head []byte
}

type journalHeader struct {
	Version   int                `json:"version"`
	Size      int64              `json:"size"`
	Shared    bool               `json:"shared"` // filled from several mirrors, to be verified
	Validator validator          `json:"validator"`
	Expect    Expect             `json:"expect"`
	Told      Expect             `json:"told,omitzero"` // by the URL's own host
	Manifest  *metainfo.Manifest `json:"manifest,omitempty"`
}

const (
	journalVersion = 1
	maxJournal     = 256 << 20
)

// header notes what is known now. Errors are passed over: a missing journal costs a later run bytes, not correctness.
func (j *journal) header(s *Sink) {
	if j == nil {
		return
	}
	head, err := json.Marshal(journalHeader{journalVersion, s.size, s.many, s.version, j.expect, j.told, s.manifest})
	if err != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.head = head
	if j.f != nil {
		j.write(record('H', head))
	}
}

// blocks notes that blocks first, first+1, ... have these checksums.
func (j *journal) blocks(first int, sums []uint32) {
	if j == nil || len(sums) == 0 {
		return
	}
	p := binary.LittleEndian.AppendUint32(nil, uint32(first))
	for _, sum := range sums {
		p = binary.LittleEndian.AppendUint32(p, sum)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(record('B', p))
}

// write appends rec; mu is held.
func (j *journal) write(rec []byte) {
	if j.f == nil {
		os.Remove(j.path)
		f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if err != nil {
			return
		}
		j.f = f
		rec = append(record('H', j.head), rec...)
	}
	j.f.Write(rec)
}

// restart forgets the blocks.
func (j *journal) restart(s *Sink) {
	if j == nil {
		return
	}
	j.mu.Lock()
	if j.f != nil {
		j.f.Truncate(0)
	}
	j.mu.Unlock()
	j.header(s)
}

func (j *journal) close() {
	if j != nil && j.f != nil {
		j.f.Close()
	}
}

func (j *journal) remove() {
	if j != nil {
		j.close()
		os.Remove(j.path)
	}
}

func record(kind byte, payload []byte) []byte {
	rec := make([]byte, 0, 9+len(payload))
	rec = append(rec, kind)
	rec = binary.LittleEndian.AppendUint32(rec, uint32(len(payload)))
	rec = append(rec, payload...)
	return binary.LittleEndian.AppendUint32(rec, crc32.Checksum(rec, castagnoli))
}

// readJournal parses data up to the first record that is not whole, at whole. The header is nil if there is none to be
// used.
func readJournal(data []byte) (head *journalHeader, sums map[int]uint32, whole int64) {
	sums = map[int]uint32{}
	for len(data) >= 9 {
		n := int(binary.LittleEndian.Uint32(data[1:]))
		if n < 0 || n > len(data)-9 {
			break
		}
		rec, crc := data[:5+n], binary.LittleEndian.Uint32(data[5+n:])
		if crc32.Checksum(rec, castagnoli) != crc {
			break
		}
		data = data[9+n:]
		whole += int64(9 + n)
		switch p := rec[5:]; rec[0] {
		case 'H':
			h := new(journalHeader)
			dec := json.NewDecoder(bytes.NewReader(p))
			dec.DisallowUnknownFields()
			if dec.Decode(h) != nil || h.Version != journalVersion || h.Size < -1 || !h.Expect.valid() || !h.Told.valid() ||
				h.Manifest != nil && h.Manifest.Size != h.Size {
				return nil, nil, 0
			}
			head = h
		case 'B':
			if len(p) < 4 || len(p)%4 != 0 {
				return nil, nil, 0
			}
			first := int(binary.LittleEndian.Uint32(p))
			for i := 0; i+8 <= len(p); i += 4 {
				sums[first+i/4] = binary.LittleEndian.Uint32(p[i+4:])
			}
		default:
			return nil, nil, 0
		}
	}
	return head, sums, whole
}

// resume takes over what an earlier run left in the partial file, of which old is the journal, and returns the number of
// bytes. known is what the caller knows of the content now; what the journal knows fills its gaps. told is the digest by
// which ranges of several mirrors were mixed, if only the URL's own host had told it.
func (s *Sink) resume(old *os.File, known Expect, disk *Feed) (resumed int64, expect, told Expect) {
	data, err := io.ReadAll(io.LimitReader(old, maxJournal))
	if err != nil {
		return 0, known, told
	}
	h, sums, whole := readJournal(data)
	switch {
	case h == nil || len(sums) == 0,
		!h.Expect.agrees(known),
		known.Size > 0 && h.Size >= 0 && h.Size != known.Size,
		h.Size == 0 || h.Size > maxShared && h.Shared || !s.holds(sums, h.Size),
		h.Shared && (h.Size < 0 || h.Manifest == nil && !h.Expect.digest() && !known.digest() && !h.Told.digest()),
		old.Truncate(whole) != nil:
		return 0, known, told
	}
	expect = h.Expect.merge(known)
	if h.Shared && h.Manifest == nil {
		told = h.Told
	}
	s.mu.Lock()
	s.version = h.Validator
	if h.Size >= 0 {
		s.setSize(h.Size)
	}
	s.mu.Unlock()
	n := len(sums)
	if h.Size >= 0 {
		n = blocks(h.Size)
	}
	if !expect.digest() {
		n-- // at least one answer has to say that the file is still the same
		s.confirm = h.Shared
	}
	buf := make([]byte, blockSize)
	for b := range n {
		p := buf
		if h.Size >= 0 {
			p = buf[:s.blockLen(b)]
		}
		want, ok := sums[b]
		if ok {
			_, err := s.file.ReadAt(p, int64(b)*blockSize)
			ok = err == nil && crc32.Checksum(p, castagnoli) == want
		}
		switch {
		case ok:
			s.adopt(b, disk, want)
			resumed += int64(len(p))
		case !h.Shared: // a plain download has no holes
			n = 0
		}
		if n == 0 {
			break
		}
	}
	s.journal.f, s.journal.expect, s.journal.told = old, expect, told
	if h.Shared {
		s.share(h.Manifest)
	} else {
		s.mu.Lock()
		s.plain = resumed
		s.finishIfFull()
		s.mu.Unlock()
	}
	return resumed, expect, told
}

// holds reports whether the blocks of a journal can be in a file of that size, and are in the partial file.
func (s *Sink) holds(sums map[int]uint32, size int64) bool {
	info, err := s.file.Stat()
	for b := range sums {
		if err != nil || size >= 0 && b >= blocks(size) || int64(b)*blockSize >= info.Size() {
			return false
		}
	}
	return true
}
