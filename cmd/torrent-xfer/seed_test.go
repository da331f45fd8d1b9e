package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"torrent-xfer/seeder"
)

// A daemon that hangs gets nothing more after what it did not take, and is not waited for again.
func TestGiveToDaemonThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := seeder.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &seeds{client: client}
	defer s.close()
	o := seeder.Offer{Metainfo: bytes.Repeat([]byte("x"), 8<<20)} // more than a socket holds
	if s.give(o, file) == nil {
		t.Fatal("it was taken")
	}
	daemon.SetReadDeadline(time.Now().Add(longWait))
	if _, err := io.Copy(io.Discard, daemon); err != nil {
		t.Errorf("the line is open: %v", err)
	}
	if s.client != nil {
		t.Error("there is still a client")
	}
}
