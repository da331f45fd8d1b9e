package fetcher

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"torrent-xfer/metainfo"
)

// Range is a part of a file: from From up to, and without, To.
type Range struct{ From, To int64 }

// layOut has the Sink know what of several files together is padding, and what is not wanted. Blocks of padding, which are zeros,
// are here; pieces without anything wanted are left alone, as if they were. mu is held; m is in use.
func (s *Sink) layOut(m *metainfo.Manifest) {
	if m.Files() == nil {
		return
	}
	if err := s.file.Truncate(m.Size); err != nil {
		s.fail(err)
		return
	}
	s.unwanted = make([]bool, m.Pieces())
	for p := range s.unwanted {
		from := int64(p) * m.PieceLength
		s.unwanted[p] = s.wanted != nil
		for _, r := range s.wanted {
			if r.From < from+m.PieceSize(p) && from < r.To {
				s.unwanted[p] = false
			}
		}
		if s.unwanted[p] {
			s.pieces[p] = pieceGood
			s.good++
		}
	}
	files, i := m.Files(), 0
	for b := range s.have {
		from, to := int64(b)*blockSize, int64(b)*blockSize+s.blockLen(b)
		for i < len(files) && files[i].Offset+files[i].Size <= from {
			i++
		}
		content := i < len(files) && (files[i].Offset < to && files[i].Size > 0 || nextContent(files[i:]) < to)
		if (s.unwanted[from/m.PieceLength] || !content) && !s.have[b] {
			s.have[b] = true
			s.got += s.blockLen(b)
			s.laid += s.blockLen(b)
		}
	}
}

// nextContent is where the first file that is not empty begins.
func nextContent(files []metainfo.File) int64 {
	for _, f := range files {
		if f.Size > 0 {
			return f.Offset
		}
	}
	return 1 << 62
}

// spliced asks a web seed of a torrent of several files for a range of all of them together: the files one after the other,
// with zeros for padding. It answers as a mirror of one file would.
func (j *job) spliced(ctx context.Context, dir *url.URL, start, end int64) (*http.Response, error) {
	m := j.torrent.sworn
	if end < 0 {
		end = m.Size
	}
	s := &filesBody{ctx: ctx, client: j.client, dir: dir, files: m.Files(), pos: start, end: end}
	for len(s.files) > 0 && s.files[0].Offset+s.files[0].Size <= start {
		s.files = s.files[1:]
	}
	if err := s.next(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusPartialContent, ContentLength: end - start, Body: s, Request: &http.Request{URL: dir},
		Header: http.Header{"Content-Range": {fmt.Sprintf("bytes %d-%d/%d", start, end-1, m.Size)}}}, nil
}

// filesBody is the body of such an answer.
type filesBody struct {
	ctx      context.Context
	client   *client
	dir      *url.URL
	files    []metainfo.File // that end after pos
	pos, end int64
	left     int64 // of body, or of the padding
	body     io.ReadCloser
}

// next goes to what is at pos: a file, or padding.
func (s *filesBody) next() error {
	s.Close()
	for len(s.files) > 0 && s.files[0].Offset+s.files[0].Size <= s.pos {
		s.files = s.files[1:]
	}
	if begin := nextContent(s.files); s.pos < begin {
		s.left = min(begin, s.end) - s.pos
		return nil
	}
	f := s.files[0]
	from, to := s.pos-f.Offset, min(s.end-f.Offset, f.Size)
	path := make([]string, len(f.Path))
	for i, elem := range f.Path {
		path[i] = url.PathEscape(elem)
	}
	u, err := s.dir.Parse(strings.TrimSuffix(s.dir.EscapedPath(), "/") + "/" + strings.Join(path, "/"))
	if err != nil {
		return err
	}
	u.User = s.dir.User
	res, err := s.client.get(s.ctx, u, func(h http.Header) {
		if from > 0 || to < f.Size {
			h.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
		}
	})
	if err != nil {
		return err
	}
	switch {
	case res.StatusCode == http.StatusPartialContent:
		first, last, total, ok := parseContentRange(res.Header.Get("Content-Range"))
		if !ok || first != from || last != to-1 || total != f.Size {
			err = &badAnswer{"sent another range than the one asked for"}
		}
	case res.StatusCode != http.StatusOK:
		err = &statusError{code: res.StatusCode}
	case from > 0 || to < f.Size:
		err = errNoRanges
	case res.ContentLength != f.Size:
		err = &otherVersion{what: fmt.Sprintf("has another version of %s", clean(strings.Join(f.Path, "/")))}
	}
	if err != nil {
		res.Body.Close()
		return err
	}
	s.body, s.left = res.Body, to-from
	return nil
}

func (s *filesBody) Read(p []byte) (n int, err error) {
	if s.pos == s.end {
		return 0, io.EOF
	}
	if s.left == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	p = p[:min(int64(len(p)), s.left)]
	if n = len(p); s.body == nil {
		clear(p)
	} else if n, err = s.body.Read(p); err == io.EOF && int64(n) == s.left {
		err = nil
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	s.pos, s.left = s.pos+int64(n), s.left-int64(n)
	return n, err
}

func (s *filesBody) Close() error {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
	return nil
}
