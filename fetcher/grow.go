package fetcher

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const growEvery = 50 * time.Millisecond

// window is how much of a file that grows in order may lie beyond its first gap, as a part of the whole, so that who
// watches the file sees it grow steadily.
const window = 1.0 / 6

// lagging is how long, in seconds, the range at the first gap may take while others work further on.
const lagging = 0.5

// grower lets the destination grow behind the Sink: it copies what is good from the start on, in order, out of the partial
// file. After each step the destination bears the server's date, by which other programs tell whether they may go on.
type grower struct {
	job  *job
	file *os.File
	size int64     // bytes in the destination; they are like those of the partial file
	date time.Time // of what the destination held; zero: nothing
	stop chan struct{}
	done chan struct{}
}

// openGrowing opens the destination, which may be a symbolic link, and keeps what is in it.
func openGrowing(j *job) (*grower, error) {
	f, err := os.OpenFile(j.req.Dest, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o666)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrite, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrWrite, j.req.Dest, err)
	}
	j.sink.ordered, j.sink.trim = true, -1
	g := &grower{job: j, file: f, size: info.Size()}
	if g.size > 0 {
		g.date = info.ModTime()
	}
	return g, nil
}

// adopt takes the bytes in the destination, of which nobody knows who put them there, for a beginning of the file. They
// are proved right like all others, by pieces or by the digest. It returns the number of bytes that are news.
func (g *grower) adopt(disk *Feed) (adopted int64, err error) {
	s, size := g.job.sink, g.job.expect.Size
	if size <= 0 || size > maxShared || !g.job.expect.digest() || g.size > size || g.size == 0 {
		g.size = 0
		return 0, g.cut(0)
	}
	if s.size < 0 {
		s.mu.Lock()
		s.setSize(size)
		s.mu.Unlock()
	}
	mine, theirs := make([]byte, blockSize), make([]byte, blockSize)
	for b := range blocks(g.size) {
		off, n := int64(b)*blockSize, s.blockLen(b)
		if off+n > g.size {
			return adopted, g.cut(off)
		}
		if _, err := g.file.ReadAt(theirs[:n], off); err != nil {
			return adopted, g.cut(off)
		}
		sum := crc32.Checksum(theirs[:n], castagnoli)
		if b < len(s.have) && s.have[b] {
			if _, err := s.file.ReadAt(mine[:n], off); err != nil || crc32.Checksum(mine[:n], castagnoli) != sum {
				return adopted, g.cut(off)
			}
			continue
		}
		if _, err := s.file.WriteAt(theirs[:n], off); err != nil {
			return adopted, fmt.Errorf("%w: %w", ErrWrite, err)
		}
		s.journal.blocks(b, []uint32{sum})
		s.adopt(b, disk, sum)
		adopted += n
	}
	return adopted, nil
}

// begin lets the destination grow until end.
func (g *grower) begin() {
	g.stop, g.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(g.done)
		tick := time.NewTicker(growEvery)
		defer tick.Stop()
		for {
			select {
			case <-g.stop:
				return
			case <-tick.C:
				if err := g.step(false); err != nil {
					g.job.sink.mu.Lock()
					g.job.sink.fail(err)
					g.job.sink.mu.Unlock()
				}
			}
		}
	}()
}

// end lets the destination grow once more, to all that is good. whole: that is the file.
func (g *grower) end(whole bool, size int64) error {
	close(g.stop)
	<-g.done
	err := g.step(true)
	if err == nil && whole && g.size != size {
		err = fmt.Errorf("%d bytes instead of %d", g.size, size)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// removeEmpty removes a destination that was made here and got nothing.
func (g *grower) removeEmpty() {
	info, err := os.Lstat(g.job.req.Dest)
	if mine, err2 := g.file.Stat(); g.size == 0 && err == nil && err2 == nil && os.SameFile(info, mine) {
		os.Remove(g.job.req.Dest)
	}
}

// step copies what has become good, and takes back what is to be fetched again.
func (g *grower) step(last bool) error {
	s := g.job.sink
	s.mu.Lock()
	if s.trim >= 0 && s.trim < g.size {
		g.size = s.trim
		if err := g.cut(g.size); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	s.trim = -1
	to := s.good1st()
	s.mu.Unlock()
	if !g.dated() && !last {
		return nil // what grew now would bear no date
	}
	if to <= g.size {
		return g.stamp()
	}
	for g.size < to {
		n, err := copyRange(g.file, s.file, g.size, to-g.size)
		g.size += n
		if err != nil {
			return err
		}
		if err := g.stamp(); err != nil {
			return err
		}
	}
	return nil
}

func copyBytes(dst, src *os.File, off, n int64) (int64, error) {
	return io.Copy(io.NewOffsetWriter(dst, off), io.NewSectionReader(src, off, n))
}

func (g *grower) cut(size int64) error {
	g.size = size
	if err := g.file.Truncate(size); err != nil {
		return err
	}
	return g.stamp()
}

// dated learns the server's date, and reports whether one is known. The date of what was there before does until then.
func (g *grower) dated() bool {
	g.job.mu.Lock()
	defer g.job.mu.Unlock()
	if !g.job.mtime.IsZero() {
		g.date = g.job.mtime
	}
	return !g.date.IsZero()
}

// stamp gives the destination the server's date. None told: the beginning of time, so that nobody takes it for a version.
func (g *grower) stamp() error {
	t := g.date
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	tv := unix.NsecToTimeval(t.UnixNano())
	unix.Futimes(int(g.file.Fd()), []unix.Timeval{tv, tv}) // a wrong date costs others bytes, not correctness
	return nil
}

// good1st is how many bytes from the start on are in place, and verified where there are piece hashes.
func (s *Sink) good1st() int64 {
	for s.front < len(s.have) && s.have[s.front] && s.verified(s.front) {
		s.front++
	}
	off := int64(s.front) * blockSize
	if s.size >= 0 {
		off = min(off, s.size)
	}
	return off
}

func (s *Sink) verified(b int) bool {
	return s.manifest == nil || s.pieces[int(int64(b)*blockSize/s.manifest.PieceLength)] == pieceGood
}

// retract notes that block b does not hold any more.
func (s *Sink) retract(b int) {
	s.front = min(s.front, b)
	if off := int64(b) * blockSize; s.trim < 0 || off < s.trim {
		s.trim = off
	}
}

// inOrder is the range that f should fetch next of a file that grows in order.
func (s *Sink) inOrder(f *Feed, want int64, now time.Time) (lo, hi int) {
	lo, hi = s.firstGap()
	_, _, _, n := s.outlook(now)
	most := max(int64(float64(s.size)*window/float64(max(n, 1))), int64(f.speed(now)*lagging), probeBytes)
	if n <= 1 && !s.growing {
		most = s.size
	}
	most = min(most, want)
	end := lo + blocks(most)
	if s.manifest != nil {
		if step := int(s.manifest.PieceLength / blockSize); end-lo >= step { // a piece from one mirror is verified sooner
			end = (end + step/2) / step * step
		}
	}
	if slack := blocks(most) / 8; end <= lo || hi-end <= slack {
		end = max(end, min(hi, lo+blocks(most)+slack))
	}
	return lo, min(hi, max(end, lo+1))
}

// hurry takes over the range at the first gap if it holds up a file that grows in order.
func (s *Sink) hurry(f *Feed, now time.Time) *Claim {
	front := s.good1st()
	c := s.claimAt(front)
	v := f.speed(now)
	if c == nil || c.feed == f || c.lost || c.solo || c.end < 0 || v <= 0 {
		return nil
	}
	_, mean, _, _ := s.outlook(now)
	low := c.block()
	if c.busy > c.pos {
		low = roundUp(c.busy)
	}
	ends := f.delay().Seconds() + float64(c.end-low)/v
	if low >= c.end || c.eta(now, mean) < max(lagging, 2*ends) {
		return nil
	}
	end := c.end
	s.cut(c, low)
	return s.claimRange(f, low, end, now)
}
