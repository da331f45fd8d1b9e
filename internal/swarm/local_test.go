package swarm

import (
	"strings"
	"testing"
)

func TestParseLocal(t *testing.T) {
	const head = "BT-SEARCH * HTTP/1.1\r\n"
	hash := strings.Repeat("0a", 20)
	for text, want := range map[string]struct {
		port   uint16
		hashes int
	}{
		head + "Host: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: " + hash + "\r\ncookie: x\r\n\r\n\r\n": {6881, 1},
		head + "port:6881\r\ninfohash:" + strings.ToUpper(hash) + "\r\nInfohash: " + hash + "\r\n\r\n":       {6881, 2},
		head + "Port: 6881\r\nInfohash: 0a\r\nInfohash: xyz\r\n\r\n":                                         {6881, 0},
		head + "Port: 70000\r\nInfohash: " + hash + "\r\n\r\n":                                               {0, 0},
		head + "Infohash: " + hash + "\r\n\r\n":                                                              {0, 1},
		"GET / HTTP/1.1\r\nPort: 6881\r\nInfohash: " + hash + "\r\n\r\n":                                     {0, 0},
		"": {0, 0},
	} {
		if port, hashes := parseLocal([]byte(text)); port != want.port || len(hashes) != want.hashes {
			t.Errorf("%q: port %d, %d hashes", text, port, len(hashes))
		}
	}
}

func FuzzParseLocal(f *testing.F) {
	f.Add([]byte("BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: " + strings.Repeat("0a", 20) + "\r\n\r\n\r\n"))
	f.Add([]byte("BT-SEARCH * HTTP/1.1\r\nPort\r\nInfohash:\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, hashes := parseLocal(data); len(hashes)*40 > len(data) {
			t.Errorf("%d hashes out of %d bytes", len(hashes), len(data))
		}
	})
}
