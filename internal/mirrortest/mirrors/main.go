// Command mirrors starts HTTP mirrors that misbehave on request, for the demo and the benchmark.
//
//	mirrors -dir DIR -mirror 'rate=5M,delay=20ms,fault=stall@100000' -mirror 'fault=503;dur=2s;count=3' -mirror ''
//
// It prints one URL a line as soon as all listen and runs until SIGTERM or SIGINT. GET /.stats on a mirror answers what
// it has given so far.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"torrent-xfer/internal/mirrortest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mirrors:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "", "directory that every mirror serves, unless it has its own dir=")
	addr := flag.String("addr", "127.0.0.1:0", "where the first mirror listens; the others take the ports after it")
	statsFile := flag.String("stats", "", "file for everybody's statistics as JSON, written at the end")
	list := flag.Bool("list", false, "print the faults and exit")
	var configs []mirrortest.Config
	flag.Func("mirror", "rate=5M,delay=20ms,dir=DIR,addr=HOST:PORT,tls,http2,fault=KIND[@AT][;path=;count=;after=;dur=;"+
		"chance=;seed=;target=;data=] (repeatable; empty: a good mirror)", func(spec string) error {
		cfg, err := mirrortest.ParseConfig(spec)
		configs = append(configs, cfg)
		return err
	})
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *list {
		for _, k := range mirrortest.Kinds() {
			fmt.Printf("%-18s%s\n", k, k.Describe())
		}
		return nil
	}
	if len(configs) == 0 {
		configs = make([]mirrortest.Config, 1)
	}
	host, portText, err := net.SplitHostPort(*addr)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	servers := make([]*mirrortest.Server, len(configs))
	for i, cfg := range configs {
		if cfg.Dir == "" {
			cfg.Dir = *dir
		}
		if cfg.Addr == "" {
			p := port
			if p > 0 {
				p += i
			}
			cfg.Addr = net.JoinHostPort(host, strconv.Itoa(p))
		}
		s, err := mirrortest.Start(cfg)
		if err != nil {
			return err
		}
		defer s.Close()
		servers[i] = s
	}
	for _, s := range servers {
		fmt.Println(s.URL("/"))
	}
	<-ctx.Done()
	if *statsFile == "" {
		return nil
	}
	type report struct {
		URL   string           `json:"url"`
		Stats mirrortest.Stats `json:"stats"`
	}
	var reports []report
	for _, s := range servers {
		s.Close()
		reports = append(reports, report{s.URL("/"), s.Stats()})
	}
	b, err := json.MarshalIndent(reports, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*statsFile, append(b, '\n'), 0o666)
}
