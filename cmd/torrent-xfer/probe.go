package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	probesAtOnce = 8
	probeTime    = 5 * time.Second
	probeBytes   = 256 << 10
)

// probeResult is what a mirror said when it was asked for the first 256 KiB of a file.
type probeResult struct {
	Status  int           `json:"status"`     // of HTTP; 0: no answer
	Size    int64         `json:"size"`       // bytes of the whole file; -1: unknown
	Latency time.Duration `json:"latency_ns"` // from the request to the answer's header, dialling included
	Speed   float64       `json:"speed"`      // bytes/s of the body; 0: there was none
	Error   string        `json:"error,omitempty"`
}

type prober struct {
	client *http.Client
	agent  string
	login  func(*url.URL) (user, password string, ok bool)
}

func newProber(env Env, origin *url.URL) *prober {
	t := newTransport(env)
	t.DisableCompression, t.ForceAttemptHTTP2, t.MaxResponseHeaderBytes = true, true, 64<<10
	return &prober{client: &http.Client{Transport: t, CheckRedirect: safeRedirect}, agent: userAgent(env), login: credentials(env, origin)}
}

func safeRedirect(r *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case len(via) > 10:
		return errors.New("redirects too often")
	case r.URL.Scheme != "http" && r.URL.Scheme != "https" || from.Scheme == "https" && r.URL.Scheme == "http":
		return errors.New("redirects to something less safe")
	}
	r.URL.User = nil
	r.Header.Del("Referer")
	if r.URL.Host != via[0].URL.Host {
		r.Header.Del("Authorization")
	}
	return nil
}

// probe asks all mirrors, a few at a time.
func (p *prober) probe(ctx context.Context, list []*url.URL) []*probeResult {
	results := make([]*probeResult, len(list))
	places := make(chan struct{}, probesAtOnce)
	var wg sync.WaitGroup
	for i, u := range list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			results[i] = p.one(ctx, u)
		})
	}
	wg.Wait()
	return results
}

// request asks for all of u, with the login that belongs to it.
func (p *prober) request(ctx context.Context, u *url.URL) (*http.Request, error) {
	plain := *u
	plain.User, plain.Fragment = nil, ""
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plain.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", p.agent)
	req.Header.Set("Accept-Encoding", "identity")
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	} else if p.login != nil {
		if user, password, ok := p.login(u); ok {
			req.SetBasicAuth(user, password)
		}
	}
	return req, nil
}

func (p *prober) one(ctx context.Context, u *url.URL) *probeResult {
	r := &probeResult{Size: -1}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	req, err := p.request(ctx, u)
	if err != nil {
		r.Error = "bad URL"
		return r
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=0-%d", probeBytes-1))
	began := time.Now()
	res, err := p.client.Do(req)
	if err != nil {
		r.Error = why(err)
		return r
	}
	defer res.Body.Close()
	r.Status, r.Latency = res.StatusCode, time.Since(began)
	switch res.StatusCode {
	case http.StatusOK:
		r.Size = res.ContentLength
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		_, total, _ := strings.Cut(res.Header.Get("Content-Range"), "/")
		if n, err := strconv.ParseInt(total, 10, 64); err == nil && n >= 0 {
			r.Size = n
		}
	}
	if res.StatusCode/100 != 2 {
		return r
	}
	began = time.Now()
	n, err := io.Copy(io.Discard, io.LimitReader(res.Body, probeBytes))
	if took := time.Since(began).Seconds(); n > 0 && took > 0 {
		r.Speed = float64(n) / took
	}
	if err != nil {
		r.Error = why(err)
	}
	return r
}

// why is the part of a network error that fits into a table.
func why(err error) string {
	var (
		ue     *url.Error
		dns    *net.DNSError
		number syscall.Errno
		nerr   net.Error
	)
	switch {
	case errors.As(err, &dns):
		return "cannot resolve"
	case errors.As(err, &number):
		return number.Error()
	case errors.As(err, &nerr) && nerr.Timeout():
		return "timed out"
	case errors.As(err, &ue):
		err = ue.Err
	}
	return printable(err.Error())
}
