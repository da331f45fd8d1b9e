package peers

import (
	"bytes"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLink(t *testing.T) {
	a, b := pipes()
	toWorker, link := newFrames(a, maxFromPeers), NewLink(b)
	want := Start{Metainfo: []byte("d4:info"), Trackers: [][]string{{"http://a/"}, {"udp://b:1/", "http://c/"}},
		Options: Options{Port: 7, DHT: true, DHTNodes: []string{"h:1"}, Block: []string{"10.0.0.0/8"}, Linger: time.Minute}, Reach: Reach{Trusted: []string{"h"}}}
	if err := toWorker.writeJSON(kindStart, want); err != nil {
		t.Fatal(err)
	}
	if got, err := link.Start(); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	toWorker.writeNumbers(kindHave, 1, 2)
	toWorker.writeNumbers(kindWant, 3)
	toWorker.writeNumbers(kindLeave, 4)
	toWorker.writeNumbers(kindVerdict, 5, -1, 0)
	toWorker.writeNumbers(kindVerdict, 5, 2, 1)
	toWorker.writeNumbers(kindWrong, 6, 0, 7, 8)
	toWorker.writeJSON(kindFirst, []string{"udp://h:1/"})
	toWorker.write(kindStop)
	var got []any
	note := func(name string) func([]int) { return func(p []int) { got = append(got, name, slices.Clone(p)) } }
	err := link.Listen(Orders{Have: note("have"), Want: note("want"), Leave: note("leave"),
		Verdict: func(p, a int, alone bool) { got = append(got, p, a, alone) },
		Wrong:   func(p, a int, blocks []int) { got = append(got, p, a, blocks) },
		First:   func(urls []string) { got = append(got, urls) }})
	if err != nil {
		t.Fatal(err)
	}
	if w := []any{"have", []int{1, 2}, "want", []int{3}, "leave", []int{4}, 5, -1, false, 5, 2, true, 6, 0, []int{7, 8}, []string{"udp://h:1/"}}; !reflect.DeepEqual(got, w) {
		t.Errorf("%v", got)
	}
}

type pipe struct {
	io.Reader
	io.Writer
}

// pipes are two ends that never block.
func pipes() (a, b pipe) {
	var there, back bytes.Buffer
	return pipe{&back, &there}, pipe{&there, &back}
}

func TestBits(t *testing.T) {
	for n := range 20 {
		list := make([]bool, n)
		for i := range list {
			list[i] = i%3 == 0
		}
		if got := unpackBits(packBits(list), n); !slices.Equal(got, list) {
			t.Errorf("%v became %v", list, got)
		}
	}
}

func TestRange(t *testing.T) {
	for text, want := range map[string]string{"1.2.3.4": "1.2.3.4 1.2.3.4", "10.1.2.3/8": "10.0.0.0 10.255.255.255", " 1.1.1.1 - 1.1.1.9 ": "1.1.1.1 1.1.1.9",
		"::/0": ":: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::/10": "fe80:: febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0/0": "0.0.0.0 255.255.255.255"} {
		r, err := ParseRange(text)
		if got := r.First.String() + " " + r.Last.String(); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		if r.Contains(netip.MustParseAddr("::ffff:1.2.3.4")) && r.First.Is4() {
			t.Errorf("%s holds addresses of the other kind", text)
		}
	}
	for _, bad := range []string{"", "-", "1.2.3", "1.1.1.9-1.1.1.1", "1.1.1.1-::1", "1.1.1.1/33", "1.1.1.0/24-1.1.2.0", "fe80::1%eth0"} {
		if r, err := ParseRange(bad); err == nil {
			t.Errorf("%q is %v", bad, r)
		}
	}
}

// FuzzFrames: whatever the other process sends is read or refused, and never costs more than the limit.
func FuzzFrames(f *testing.F) {
	frame := func(kind byte, numbers ...int) []byte {
		var b bytes.Buffer
		newFrames(pipe{nil, &b}, 0).writeNumbers(kind, numbers...)
		return b.Bytes()
	}
	f.Add(slices.Concat(frame(kindHave, 1, 2), frame(kindVerdict, 1, -1, 1), frame(kindWrong, 1, 2, 3), frame(kindStop)))
	f.Add([]byte("E\x05\x00\x00\x00[\"u\"]"))
	f.Add([]byte("S\x02\x00\x00\x00{}"))
	f.Add([]byte("D\xff\xff\xff\xff"))
	f.Add(frame(kindVerdict, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := NewLink(pipe{bytes.NewReader(data), io.Discard})
		l.Listen(Orders{Have: func([]int) {}, Want: func([]int) {}, Leave: func([]int) {},
			First: func([]string) {}, Verdict: func(int, int, bool) {}, Wrong: func(_, _ int, blocks []int) {
				if len(blocks) == 0 {
					t.Error("no blocks are wrong")
				}
			}})
		fr := newFrames(pipe{bytes.NewReader(data), nil}, 1<<10)
		for {
			_, p, err := fr.read(nil)
			if err != nil {
				break
			}
			if len(p) > 1<<10 {
				t.Fatalf("a frame of %d bytes", len(p))
			}
			numbers(p, 1)
		}
	})
}

// FuzzSeedFrames is the same for what a worker that seeds is told, and for what it tells.
func FuzzSeedFrames(f *testing.F) {
	frame := func(kind byte, payload string) []byte {
		var b bytes.Buffer
		newFrames(pipe{nil, &b}, 0).write(kind, []byte(payload))
		return b.Bytes()
	}
	id := strings.Repeat("i", 20)
	f.Add(slices.Concat(frame(kindAdd, `[{"id":"aWlpaWlpaWlpaWlpaWlpaWlpaWk=","trackers":[["udp://t"]]}]`), frame(kindRemove, id), frame(kindLimit, "1000"),
		frame(kindPause, "1"), frame(kindInfo, id), frame(kindInfo, id+"d4:infodee"), frame(kindStop, "")))
	f.Add(slices.Concat(frame(kindReport, `{"port":1,"uploaded":5,"torrents":[{"id":"aWlpaWlpaWlpaWlpaWlpaWlpaWk=","uploaded":-5}]}`), frame(kindAsk, id),
		frame(kindDrop, id+"why"), frame(kindNote, "text")))
	f.Add(frame(kindReport, `{"torrents":[{"id":"aWk="}]}`))
	f.Add(frame(kindLimit, "99999999999999999999"))
	f.Add(frame(kindInfo, "short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		NewLink(pipe{bytes.NewReader(data), io.Discard}).Serve(SeedOrders{Add: func([]Seed) {}, Remove: func([20]byte) {}, Limit: func(int64) {},
			Pause: func(bool) {}, Info: func(_ [20]byte, metainfo []byte) {
				if metainfo != nil && len(metainfo) == 0 {
					t.Error("metainfo of no bytes")
				}
			}})
		s := &Seeding{}
		s.Add(Torrent{ID: [20]byte([]byte(id)), Metainfo: func() ([]byte, error) { return nil, nil }})
		mine, theirs, err := socketPair(unix.SOCK_STREAM)
		if err != nil {
			t.Fatal(err)
		}
		defer mine.Close()
		go func() { theirs.Write(data); theirs.Close() }()
		if err := s.listen(t.Context(), &process{conn: mine}, newFrames(mine, maxFromPeers)); err == nil {
			t.Error("the end of the worker is no error")
		}
		st := s.Status()
		one := st.Torrent([20]byte([]byte(id)))
		if st.Uploaded < 0 || st.Peers < 0 || len(st.Torrents) > 1 || one.Uploaded < 0 || one.Peers < 0 {
			t.Errorf("%+v", st)
		}
	})
}
