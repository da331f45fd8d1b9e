package seeder

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	stateFile = "state.json"
	maxState  = 64 << 20
)

// state is what outlives the process beside the library: losing it costs counts, no content.
type state struct {
	Paused bool                `json:"paused,omitempty"`
	Rate   int64               `json:"rate,omitempty"` // that was asked for in bytes/s; 0: as configured
	Clock  int64               `json:"clock_s"`        // seconds of seeding in all, which no change of the system's clock moves
	Quota  Quota               `json:"quota"`
	Left   map[string]identity `json:"left,omitempty"` // watched files that were removed, and are not offered until they change
	Given  map[ID]given        `json:"given,omitempty"`
}

// given is what peers got of one file.
type given struct {
	Bytes int64 `json:"bytes"`
	Last  int64 `json:"last_s"` // the clock when somebody last got something
}

// readState reads what was saved. What is there and makes no sense counts as nothing, and is told of.
func readState(dir string) (s state, err error) {
	path := filepath.Join(dir, stateFile)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err == nil && (!info.Mode().IsRegular() || info.Size() > maxState):
		err = errors.New("not what was written there")
	case err == nil:
		var text []byte
		if text, err = os.ReadFile(path); err == nil {
			err = json.Unmarshal(text, &s)
		}
	}
	if err != nil {
		s = state{}
	}
	if s.Left == nil {
		s.Left = map[string]identity{}
	}
	if s.Given == nil {
		s.Given = map[ID]given{}
	}
	s.Clock, s.Rate = max(0, s.Clock), max(0, s.Rate)
	return s, err
}

// seeded is for how long e was offered.
func (s *state) seeded(e Entry) time.Duration {
	return time.Duration(max(0, s.Clock-e.Since)) * time.Second
}
