package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"torrent-xfer/internal/mirrortest"
)

// A mirror is one of a row's mirrors.
type mirror struct {
	rate   int64 // bytes/s; 0: unlimited
	delay  time.Duration
	faults []string // as mirrortest.ParseFault reads them
}

// good says whether the mirror counts for the ideal.
func (m mirror) good() bool { return len(m.faults) == 0 }

func (m mirror) spec() string {
	s := fmt.Sprintf("delay=%v", m.delay)
	if m.rate > 0 {
		s += fmt.Sprintf(",rate=%d", m.rate)
	}
	for _, f := range m.faults {
		s += ",fault=" + f
	}
	return s
}

// servers are running mirrors, in a process of their own.
type servers struct {
	roots []string // URLs that end in "/"
	stats bool     // they answer /.stats
	cmd   *exec.Cmd
}

// serve starts mirrors of the files in dir.
func (b *bench) serve(dir string, mirrors []mirror) (*servers, error) {
	args := []string{"-dir", dir}
	for _, m := range mirrors {
		args = append(args, "-mirror", m.spec())
	}
	cmd := exec.Command(b.mirrors, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &servers{stats: true, cmd: cmd}
	in := bufio.NewScanner(out)
	for range mirrors {
		if !in.Scan() {
			s.stop()
			return nil, errors.New("the mirrors do not start")
		}
		s.roots = append(s.roots, in.Text())
	}
	return s, nil
}

// serveUnlimited starts one mirror of the files in dir that is as fast as this machine: nginx where it is installed.
func (b *bench) serveUnlimited(dir string) (*servers, error) {
	nginx := b.installed["nginx"]
	if nginx == "" {
		return b.serve(dir, []mirror{{}})
	}
	work := filepath.Join(b.disk, "nginx")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(work, "nginx.conf")
	// nginx cannot choose a free port itself; between our choosing and its binding somebody else may take one.
	for try := 0; try < 4; try++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		addr := l.Addr().String()
		l.Close()
		text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid;
events {}
http {
	access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
	client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server { listen %[2]s; root %[3]s; }
}
`, work, addr, dir)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			return nil, err
		}
		cmd := exec.Command(nginx, "-p", work, "-e", filepath.Join(work, "error.log"), "-c", conf)
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		s := &servers{roots: []string{"http://" + addr + "/"}, cmd: cmd}
		for range 100 {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				return s, nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		s.stop()
	}
	return nil, errors.New("nginx does not start")
}

func (s *servers) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// urls are where the file called name lies.
func (s *servers) urls(name string) (urls []string) {
	for _, r := range s.roots {
		urls = append(urls, r+name)
	}
	return urls
}

// traffic is what the mirrors saw of one download.
type traffic struct {
	sent    int64 // content bytes handed to the kernel
	touched int   // mirrors asked for content
	asked   int   // mirrors asked for the torrent
}

// traffic reads the mirrors' statistics; mirrors that answer nobody are passed over.
func (s *servers) traffic(name string) (t traffic) {
	if !s.stats {
		return t
	}
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, r := range s.roots {
		resp, err := client.Get(r + ".stats")
		if err != nil {
			continue
		}
		var st mirrortest.Stats
		err = json.NewDecoder(resp.Body).Decode(&st)
		resp.Body.Close()
		if err != nil {
			continue
		}
		if n, ok := st.Paths["/"+name]; ok {
			t.sent += n
			t.touched++
		}
		if _, ok := st.Paths["/"+name+".torrent"]; ok {
			t.asked++
		}
	}
	return t
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	switch {
	case n >= 1e9:
		return strconv.FormatFloat(float64(n)/1e9, 'g', 4, 64) + " GB"
	case n >= 1e6:
		return strconv.FormatFloat(float64(n)/1e6, 'g', 4, 64) + " MB"
	}
	return strings.TrimSpace(fmt.Sprintf("%d KB", n/1000))
}
