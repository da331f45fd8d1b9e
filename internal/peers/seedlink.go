package peers

import (
	"encoding/json"
	"strconv"
)

// SeedOrders are called by Serve, one at a time.
type SeedOrders struct {
	Add    func([]Seed)
	Remove func(id [20]byte)
	Limit  func(bytesPerSecond int64)
	Pause  func(on bool)
	Info   func(id [20]byte, metainfo []byte) // nil: there is none
}

// Serve is Listen for a worker that seeds.
func (l *Link) Serve(o SeedOrders) error {
	for {
		kind, data, err := l.f.read(nil)
		if err != nil {
			return err
		}
		switch {
		case kind == kindAdd:
			var list []Seed
			if err := json.Unmarshal(data, &list); err != nil {
				return err
			}
			o.Add(list)
		case kind == kindRemove && len(data) == 20:
			o.Remove([20]byte(data))
		case kind == kindLimit:
			n, err := strconv.ParseInt(string(data), 10, 64)
			if err != nil {
				return errFrame
			}
			o.Limit(n)
		case kind == kindPause && len(data) == 1:
			o.Pause(data[0] == '1')
		case kind == kindInfo && len(data) == 20:
			o.Info([20]byte(data), nil)
		case kind == kindInfo && len(data) > 20:
			o.Info([20]byte(data), data[20:])
		case kind == kindStop:
			return nil
		default:
			return errFrame
		}
	}
}

// Report tells how things stand.
func (l *Link) Report(r Report) error { return l.f.writeJSON(kindReport, r) }

// Ask asks for the metainfo of a torrent.
func (l *Link) Ask(id [20]byte) error { return l.f.write(kindAsk, id[:]) }

// Drop tells that a torrent cannot be offered any more.
func (l *Link) Drop(id [20]byte, why string) error {
	return l.f.write(kindDrop, id[:], []byte(why[:min(len(why), maxText-20)]))
}
