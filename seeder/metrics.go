package seeder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// ServeMetrics answers GET /metrics at l with the numbers of Status, in Prometheus' text format (version 0.0.4), until ctx ends.
// l is closed then.
func (d *Daemon) ServeMetrics(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		var text bytes.Buffer
		d.Status().writeMetrics(&text)
		w.Write(text.Bytes())
	})
	server := &http.Server{Handler: mux, ReadTimeout: answerTime, WriteTimeout: answerTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// writeMetrics leaves single files out: a library of thousands would make as many series.
func (s *Status) writeMetrics(w io.Writer) {
	paused, busy := 0, 0
	if s.Paused {
		paused = 1
	}
	for _, t := range s.Torrents {
		if t.Peers > 0 {
			busy++
		}
	}
	for _, m := range []struct {
		name, kind, help string
		value            any
	}{
		{"uploaded_bytes_total", "counter", "Bytes given to peers since the daemon was started.", s.Uploaded},
		{"upload_rate_bytes", "gauge", "Bytes per second given to peers now.", s.Rate},
		{"upload_limit_bytes", "gauge", "Bytes per second that may be given; 0: no limit.", s.Limit},
		{"peers", "gauge", "Peers connected now.", s.Peers},
		{"torrents", "gauge", "Files offered.", len(s.Torrents)},
		{"torrents_busy", "gauge", "Files with peers connected now.", busy},
		{"library_bytes", "gauge", "Bytes of the files offered, and of downloads in the background.", s.Space.Used},
		{"library_limit_bytes", "gauge", "Bytes of files that may be kept; 0: no limit.", s.Space.Most},
		{"day_uploaded_bytes", "gauge", "Bytes given in the present day.", s.Day.Used},
		{"day_limit_bytes", "gauge", "Bytes that may be given in a day; 0: no limit.", s.Day.Most},
		{"month_uploaded_bytes", "gauge", "Bytes given in the present month.", s.Month.Used},
		{"month_limit_bytes", "gauge", "Bytes that may be given in a month; 0: no limit.", s.Month.Most},
		{"waiting", "gauge", "Files handed over and not taken yet.", s.Waiting},
		{"paused", "gauge", "1: paused by hand.", paused},
		{"worker_restarts_total", "counter", "Times the process that speaks to peers was started again after a crash.", s.Restarts},
	} {
		name := "torrent_xfer_" + m.name
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", name, m.help, name, m.kind, name, m.value)
	}
}
