package peers

import (
	"encoding/binary"
	"encoding/json"
	"io"
)

// Link is the worker's side of the socket. Its methods may be called by several goroutines, but Listen once.
type Link struct {
	f *frames
}

// NewLink speaks over c.
func NewLink(c io.ReadWriter) *Link { return &Link{newFrames(c, maxFrame)} }

// Start waits for the first order.
func (l *Link) Start() (s Start, err error) {
	kind, data, err := l.f.read(nil)
	if err != nil {
		return s, err
	}
	if kind != kindStart {
		return s, errFrame
	}
	return s, json.Unmarshal(data, &s)
}

// Orders are called by Listen, one at a time.
type Orders struct {
	Have, Want, Leave func(pieces []int)
	Verdict           func(piece, attempt int, alone bool) // attempt -1: the piece is not whole
	Wrong             func(piece, attempt int, blocks []int)
	First             func(trackers []string) // what Start.First would have been; once at most
}

// Listen passes orders on until the other side stops (nil) or goes away.
func (l *Link) Listen(o Orders) error {
	var buf []byte
	for {
		kind, data, err := l.f.read(buf)
		if err != nil {
			return err
		}
		buf = data[:0]
		if kind == kindFirst {
			var trackers []string
			if err := json.Unmarshal(data, &trackers); err != nil {
				return err
			}
			o.First(trackers)
			continue
		}
		list, err := numbers(data, 0)
		switch {
		case err != nil:
			return err
		case kind == kindHave:
			o.Have(list)
		case kind == kindWant:
			o.Want(list)
		case kind == kindLeave:
			o.Leave(list)
		case kind == kindVerdict && len(list) == 3:
			o.Verdict(list[0], list[1], list[2] == 1)
		case kind == kindWrong && len(list) > 2:
			o.Wrong(list[0], list[1], list[2:])
		case kind == kindStop:
			return nil
		default:
			return errFrame
		}
	}
}

// Data hands a block over.
func (l *Link) Data(block int, p []byte) error { return l.f.write(kindData, putNumbers(block), p) }

// Check asks whether a piece is right. Everything written before has arrived when it is answered.
func (l *Link) Check(piece int) error { return l.f.writeNumbers(kindCheck, piece) }

// Offer tells what peers have and are asked for, and what is ours to fetch from mirrors.
func (l *Link) Offer(peers int, uploaded int64, had, asked, mine []bool) error {
	head := binary.LittleEndian.AppendUint64(putNumbers(peers), uint64(uploaded))
	return l.f.write(kindOffer, head, packBits(had), packBits(asked), packBits(mine))
}

// Blame names a peer who sent what it should not have.
func (l *Link) Blame(peer, what string) error {
	return l.f.write(kindBlame, []byte(short(peer+"\n"+what)))
}

// Found hands over the torrent that was looked for.
func (l *Link) Found(metainfo []byte) error { return l.f.write(kindFound, metainfo) }

// Alive is the sign of life of a worker that looks for a torrent.
func (l *Link) Alive() error { return l.f.write(kindAlive) }

// Heard tells which of the first trackers answered first.
func (l *Link) Heard(tracker string) error { return l.f.write(kindHeard, []byte(short(tracker))) }

// Note tells people something.
func (l *Link) Note(text string) error { return l.f.write(kindNote, []byte(short(text))) }

func short(text string) string { return text[:min(len(text), maxText)] }
