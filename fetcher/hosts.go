package fetcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	hostStatsVersion = 1
	maxHostStatsFile = 1 << 20 // bytes
	maxRemembered    = 1000    // hosts, and repositories
	maxRememberedKey = 1024    // bytes

	maxSpeed     = 1e12 // bytes/s
	maxFirstByte = 10 * time.Minute
	maxFailures  = 1 << 20
	newSampleIs  = 0.3 // weight of a new measurement in a mean

	failuresLast = time.Hour
	barrenMisses = 8
	barrenLasts  = 24 * time.Hour

	trackersLast      = 7 * 24 * time.Hour
	maxTrackers       = 4   // remembered of a host
	maxTrackerAddress = 300 // bytes

	saveWait  = 10 * time.Millisecond // between two looks at another process's unfinished file
	saveTries = 20
	saveStale = time.Minute // after which an unfinished file is nobody's
)

// HostStats remembers hosts and repositories between files. It may be used by several goroutines. A nil *HostStats
// remembers nothing; the zero value remembers for as long as it lives.
type HostStats struct {
	path string
	now  func() time.Time // nil: time.Now

	saving sync.Mutex

	mu           sync.Mutex
	hosts        map[string]hostStat
	repos        map[string]repoStat
	touchedHosts map[string]bool
	touchedRepos map[string]bool
}

// hostStat is what is remembered of one host.
type hostStat struct {
	Speed       float64       // bytes/s, a mean that favours the latest; 0: unknown
	FirstByte   time.Duration // from request to first content byte, a mean like Speed; 0: unknown
	Failures    int           // in a row
	LastFailure time.Time
	Trackers    string    // announce URLs on this host, separated by spaces
	Asked       time.Time // when trackers were looked for; zero: never
	Updated     time.Time
}

// repoStat is what is remembered of one repository.
type repoStat struct {
	Misses  int       // torrents looked for in vain since the last hit, at most barrenMisses
	Barren  time.Time // when Misses became barrenMisses
	Updated time.Time
}

// The cache file. Times are seconds since 1970, 0 is none.
type (
	hostStatsFile struct {
		Version      int                 `json:"version"`
		Hosts        map[string]hostLine `json:"hosts"`
		Repositories map[string]repoLine `json:"repositories"`
	}
	hostLine struct {
		Speed       float64 `json:"speed,omitempty"`
		FirstByte   int64   `json:"first_byte_ns,omitempty"`
		Failures    int     `json:"failures,omitempty"`
		LastFailure int64   `json:"last_failure,omitempty"`
		Trackers    string  `json:"trackers,omitempty"`
		Asked       int64   `json:"trackers_asked,omitempty"`
		Updated     int64   `json:"updated"`
	}
	repoLine struct {
		Misses  int   `json:"misses"`
		Barren  int64 `json:"barren,omitempty"`
		Updated int64 `json:"updated"`
	}
)

// LoadHostStats reads a cache file written by Save. A file that is absent, unreadable, foreign (another owner) or
// rubbish gives an empty memory; path is kept for Save.
func LoadHostStats(path string) *HostStats {
	h := &HostStats{path: path}
	h.load()
	return h
}

func (h *HostStats) load() {
	data, err := readHostStats(h.path)
	if err != nil {
		return
	}
	now := h.clock()
	h.hosts, h.repos = decodeHostStats(data)
	// Times in the future become now. That has to reach the file, or they would be now at every load.
	for host, s := range h.hosts {
		if clamp(now, &s.LastFailure, &s.Asked, &s.Updated) {
			h.hosts[host] = s
			touch(&h.touchedHosts, host)
		}
	}
	for repo, s := range h.repos {
		if clamp(now, &s.Barren, &s.Updated) {
			h.repos[repo] = s
			touch(&h.touchedRepos, repo)
		}
	}
}

// Save writes what was learned, merged with what other processes saved meanwhile, by one rename. It does nothing if
// nothing was learned. Its error may be ignored: the memory is a convenience.
func (h *HostStats) Save() error {
	if h == nil || h.path == "" {
		return nil
	}
	h.saving.Lock()
	defer h.saving.Unlock()

	h.mu.Lock()
	hosts := pick(h.hosts, h.touchedHosts)
	repos := pick(h.repos, h.touchedRepos)
	h.touchedHosts, h.touchedRepos = nil, nil
	h.mu.Unlock()
	if len(hosts) == 0 && len(repos) == 0 {
		return nil
	}
	if err := h.merge(hosts, repos); err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		for host := range hosts {
			touch(&h.touchedHosts, host)
		}
		for repo := range repos {
			touch(&h.touchedRepos, repo)
		}
		return fmt.Errorf("saving what was learned of hosts: %w", err)
	}
	return nil
}

// merge lays hosts and repos over what the file holds now. The unfinished file keeps other processes from doing the
// same at the same time.
func (h *HostStats) merge(hosts map[string]hostStat, repos map[string]repoStat) error {
	unfinished := h.path + ".tmp"
	f, err := createAlone(unfinished)
	if err != nil {
		return err
	}
	allHosts, allRepos := map[string]hostStat{}, map[string]repoStat{}
	if data, err := readHostStats(h.path); err == nil {
		allHosts, allRepos = decodeHostStats(data)
	}
	for host, s := range hosts {
		allHosts[host] = s
	}
	for repo, s := range repos {
		allRepos[repo] = s
	}
	_, err = f.Write(encodeHostStats(allHosts, allRepos))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(unfinished, h.path)
	}
	if err != nil {
		os.Remove(unfinished)
	}
	return err
}

// get returns what is known of a host. Zero: nothing.
func (h *HostStats) get(host string) hostStat {
	if h == nil {
		return hostStat{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.hosts[host]
	if s.Failures > 0 && !h.within(s.LastFailure, failuresLast) {
		s.Failures = 0
	}
	return s
}

// succeeded notes that a host gave what it was asked for. speed in bytes/s and firstByte are 0 if not measured.
func (h *HostStats) succeeded(host string, speed float64, firstByte time.Duration) {
	h.updateHost(host, func(s *hostStat) {
		if speed > 0 && speed <= maxSpeed {
			s.Speed = mean(s.Speed, speed)
		}
		if firstByte > 0 && firstByte <= maxFirstByte {
			s.FirstByte = time.Duration(mean(float64(s.FirstByte), float64(firstByte)))
		}
		s.Failures = 0
	})
}

// failed notes that a host did not give what it was asked for.
func (h *HostStats) failed(host string) {
	h.updateHost(host, func(s *hostStat) {
		if !h.within(s.LastFailure, failuresLast) {
			s.Failures = 0
		}
		s.Failures = min(s.Failures+1, maxFailures)
		s.LastFailure = h.clock()
	})
}

// Trackers returns the announce URLs of the trackers on a host, nil if there are none. ok: that was found out within the last
// week.
func (h *HostStats) Trackers(host string) (urls []string, ok bool) {
	if h == nil {
		return nil, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.hosts[host]
	if s.Asked.IsZero() || !h.within(s.Asked, trackersLast) {
		return nil, false
	}
	return strings.Fields(s.Trackers), true
}

// SetTrackers notes the announce URLs of the trackers on a host; of more than four the first ones. nil: it has none.
func (h *HostStats) SetTrackers(host string, urls []string) {
	h.updateHost(host, func(s *hostStat) {
		s.Trackers, s.Asked = strings.Join(urls[:min(len(urls), maxTrackers)], " "), h.clock()
		if !plausibleTrackers(s.Trackers) {
			s.Trackers = ""
		}
	})
}

// torrentMissed notes that a repository has no torrent for a file of 1 MiB or more.
func (h *HostStats) torrentMissed(repo string) {
	h.updateRepo(repo, func(s *repoStat) {
		if s.Misses >= barrenMisses {
			if h.within(s.Barren, barrenLasts) {
				return
			}
			s.Misses = 0
		}
		if s.Misses++; s.Misses == barrenMisses {
			s.Barren = h.clock()
		}
	})
}

// torrentFound notes that a repository has a torrent.
func (h *HostStats) torrentFound(repo string) {
	h.updateRepo(repo, func(s *repoStat) { *s = repoStat{} })
}

// barren reports whether a repository is known to have no torrents: after eight misses without a hit, for 24 hours.
func (h *HostStats) barren(repo string) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.repos[repo]
	return s.Misses >= barrenMisses && h.within(s.Barren, barrenLasts)
}

func (h *HostStats) updateHost(host string, change func(*hostStat)) {
	if h == nil || !rememberable(host) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.hosts[host]
	change(&s)
	s.Updated = h.clock()
	if h.hosts == nil {
		h.hosts = map[string]hostStat{}
	}
	h.hosts[host] = s
	touch(&h.touchedHosts, host)
	if len(h.hosts) > 2*maxRemembered {
		h.hosts = newest(h.hosts, maxRemembered, func(s hostStat) time.Time { return s.Updated })
	}
}

func (h *HostStats) updateRepo(repo string, change func(*repoStat)) {
	if h == nil || !rememberable(repo) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.repos[repo]
	change(&s)
	s.Updated = h.clock()
	if h.repos == nil {
		h.repos = map[string]repoStat{}
	}
	h.repos[repo] = s
	touch(&h.touchedRepos, repo)
	if len(h.repos) > 2*maxRemembered {
		h.repos = newest(h.repos, maxRemembered, func(s repoStat) time.Time { return s.Updated })
	}
}

func (h *HostStats) clock() time.Time {
	if h.now != nil {
		return h.now()
	}
	return time.Now()
}

// within reports whether less than d has passed since t. A t in the future, because the clock was put back since it was
// loaded, is forgotten.
func (h *HostStats) within(t time.Time, d time.Duration) bool {
	age := h.clock().Sub(t)
	return age >= 0 && age < d
}

// clamp sets the times that are later than now to now and reports whether there were any.
func clamp(now time.Time, times ...*time.Time) (clamped bool) {
	for _, t := range times {
		if t.After(now) {
			*t, clamped = now, true
		}
	}
	return clamped
}

func mean(old, sample float64) float64 {
	if old == 0 {
		return sample
	}
	return old + newSampleIs*(sample-old)
}

func touch(set *map[string]bool, key string) {
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[key] = true
}

func pick[V any](all map[string]V, keys map[string]bool) map[string]V {
	picked := map[string]V{}
	for key := range keys {
		if v, ok := all[key]; ok {
			picked[key] = v
		}
	}
	return picked
}

// newest returns the n entries that were updated last.
func newest[V any](all map[string]V, n int, updated func(V) time.Time) map[string]V {
	if len(all) <= n {
		return all
	}
	keys := make([]string, 0, len(all))
	for key := range all {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if c := updated(all[b]).Compare(updated(all[a])); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	kept := make(map[string]V, n)
	for _, key := range keys[:n] {
		kept[key] = all[key]
	}
	return kept
}

func rememberable(key string) bool {
	return key != "" && len(key) <= maxRememberedKey && utf8.ValidString(key) && !strings.ContainsFunc(key, unicode.IsControl)
}

// readHostStats returns what is in the file at path if it is an ordinary file of this user.
func readHostStats(path string) ([]byte, error) {
	if path == "" {
		return nil, fs.ErrNotExist
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || !ok || int(owner.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s is not an ordinary file of this user", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxHostStatsFile+1))
	if err == nil && len(data) > maxHostStatsFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxHostStatsFile)
	}
	return data, err
}

// createAlone creates the file at path, which must not exist, in a directory that it creates if its parent exists. It
// waits a little for another process that has the file, and removes one that was forgotten.
func createAlone(path string) (*os.File, error) {
	for try := 1; ; try++ {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o644)
		switch {
		case err == nil || try == saveTries:
			return f, err
		case errors.Is(err, fs.ErrNotExist):
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		case errors.Is(err, fs.ErrExist):
			if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()).Abs() > saveStale {
				os.Remove(path)
			} else {
				time.Sleep(saveWait)
			}
		default:
			return nil, err
		}
	}
}

// decodeHostStats reads a cache file and leaves out what makes no sense. The maps are never nil.
func decodeHostStats(data []byte) (map[string]hostStat, map[string]repoStat) {
	hosts, repos := map[string]hostStat{}, map[string]repoStat{}
	var file hostStatsFile
	if json.Unmarshal(data, &file) != nil || file.Version != hostStatsVersion {
		return hosts, repos
	}
	for host, l := range file.Hosts {
		if !rememberable(host) || l.Speed < 0 || l.Speed > maxSpeed || l.FirstByte < 0 || l.FirstByte > int64(maxFirstByte) ||
			l.Failures < 0 || l.Failures > maxFailures || !plausible(l.LastFailure) || !plausible(l.Updated) ||
			!plausible(l.Asked) || !plausibleTrackers(l.Trackers) {
			continue
		}
		hosts[host] = hostStat{
			Speed: l.Speed, FirstByte: time.Duration(l.FirstByte), Failures: l.Failures,
			LastFailure: moment(l.LastFailure), Trackers: l.Trackers, Asked: moment(l.Asked), Updated: moment(l.Updated),
		}
	}
	for repo, l := range file.Repositories {
		if !rememberable(repo) || l.Misses < 0 || l.Misses > barrenMisses || !plausible(l.Barren) || !plausible(l.Updated) {
			continue
		}
		repos[repo] = repoStat{Misses: l.Misses, Barren: moment(l.Barren), Updated: moment(l.Updated)}
	}
	return hosts, repos
}

func plausibleTrackers(text string) bool {
	list := strings.Fields(text)
	return len(list) <= maxTrackers && utf8.ValidString(text) && !slices.ContainsFunc(list, func(u string) bool {
		return len(u) > maxTrackerAddress || !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "udp://")
	})
}

func plausible(seconds int64) bool {
	return seconds >= 0 && seconds < 1<<40
}

// moment is the inverse of seconds.
func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// encodeHostStats writes as many of the newest entries as a file may hold.
func encodeHostStats(hosts map[string]hostStat, repos map[string]repoStat) []byte {
	for n := maxRemembered; ; n /= 2 {
		file := hostStatsFile{Version: hostStatsVersion, Hosts: map[string]hostLine{}, Repositories: map[string]repoLine{}}
		for host, s := range newest(hosts, n, func(s hostStat) time.Time { return s.Updated }) {
			file.Hosts[host] = hostLine{
				Speed: math.Round(s.Speed), FirstByte: int64(s.FirstByte), Failures: s.Failures,
				LastFailure: seconds(s.LastFailure), Trackers: s.Trackers, Asked: seconds(s.Asked), Updated: seconds(s.Updated),
			}
		}
		for repo, s := range newest(repos, n, func(s repoStat) time.Time { return s.Updated }) {
			file.Repositories[repo] = repoLine{Misses: s.Misses, Barren: seconds(s.Barren), Updated: seconds(s.Updated)}
		}
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		if err := e.Encode(file); err == nil && out.Len() <= maxHostStatsFile || n == 0 {
			return out.Bytes()
		}
	}
}

// seconds is at least 0: a clock before 1970 tells no time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.Unix(), 0)
}
