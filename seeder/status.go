package seeder

import "time"

// Status is how things stand.
type Status struct {
	Port     int             `json:"port"`            // that peers connect to; 0: none now
	Peers    int             `json:"peers"`           // connected now
	Rate     float64         `json:"rate"`            // bytes/s given now
	Limit    int64           `json:"limit"`           // bytes/s; 0: none
	Held     string          `json:"held"`            // why nobody is served; "": it is not so
	Paused   bool            `json:"paused"`          // since it was asked for
	Uploaded int64           `json:"uploaded"`        // bytes since the daemon was started
	Day      Amount          `json:"day"`             // given in the present day
	Month    Amount          `json:"month"`           // and month
	Space    Amount          `json:"space"`           // taken by the library and by downloads
	Restarts int             `json:"worker_restarts"` // after crashes
	Waiting  int             `json:"waiting"`         // files that were handed over and are not taken yet
	Torrents []TorrentStatus `json:"torrents"`
	Problems []Problem       `json:"problems"` // the last ones

	Downloads []DownloadStatus `json:"downloads"` // in the background
}

// DownloadStatus is how one download stands that was handed to the daemon.
type DownloadStatus struct {
	URL   string `json:"url"`
	Size  int64  `json:"size"`  // bytes; 0: not known yet
	Ended bool   `json:"ended"` // its file waits for whoever asks
}

// Amount is what was used of a budget, in bytes.
type Amount struct {
	Used int64 `json:"used"`
	Most int64 `json:"most"` // 0: no limit
}

// TorrentStatus is how one file stands.
type TorrentStatus struct {
	ID       ID        `json:"info_hash"`
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	URL      string    `json:"url,omitempty"`
	Path     string    `json:"path,omitempty"` // of a watched file
	Peers    int       `json:"peers"`
	Uploaded int64     `json:"uploaded"` // bytes, by earlier daemons too
	Ratio    float64   `json:"ratio"`
	Rate     float64   `json:"rate"` // bytes/s now
	Added    time.Time `json:"added"`
	Seeded   int64     `json:"seeded_s"`          // for which it was offered, in seconds
	Problem  string    `json:"problem,omitempty"` // of its trackers
}

// Status tells how things stand.
func (d *Daemon) Status() *Status {
	st := d.Swarm.Status()
	list := d.Library.Entries()
	there := make(map[ID]SwarmTorrent, len(st.Torrents))
	for _, t := range st.Torrents {
		there[t.ID] = t
	}
	downloads, taken := d.downloads()
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.config
	day, month := d.state.Quota.Given(time.Now())
	s := &Status{Port: st.Port, Peers: st.Peers, Rate: d.rate, Limit: d.limit, Held: d.held, Paused: d.state.Paused, Uploaded: st.Uploaded,
		Day: Amount{day, max(0, c.Day)}, Month: Amount{month, max(0, c.Month)}, Space: Amount{taken, max(0, c.Space)},
		Restarts: st.Restarts, Waiting: len(d.offers), Torrents: make([]TorrentStatus, 0, len(list)), Problems: append([]Problem{}, d.problems...),
		Downloads: downloads}
	for _, e := range list {
		t := TorrentStatus{ID: e.ID, Name: e.Name, Size: e.Size, URL: e.URL, Path: e.Path, Peers: there[e.ID].Peers, Uploaded: d.state.Given[e.ID].Bytes,
			Rate: d.rates[e.ID], Added: e.Added, Seeded: int64(d.state.seeded(e).Seconds()), Problem: there[e.ID].Problem}
		if e.Size > 0 {
			t.Ratio = float64(t.Uploaded) / float64(e.Size)
		}
		if e.Path == "" {
			s.Space.Used += e.Size
		}
		s.Torrents = append(s.Torrents, t)
	}
	return s
}

// downloads are those in the background, and what they take of the budget of disk in bytes.
func (d *Daemon) downloads() (list []DownloadStatus, taken int64) {
	d.jobs.mu.Lock()
	defer d.jobs.mu.Unlock()
	kept := d.keptJobs()
	list = []DownloadStatus{}
	for _, k := range kept {
		if j := d.jobs.list[k.key]; j != nil {
			list = append(list, DownloadStatus{URL: j.order.URL, Size: j.size, Ended: !j.running()})
		}
	}
	taken, _ = d.jobs.size(kept)
	return list, taken
}
