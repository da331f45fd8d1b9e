package e2e

import (
	"testing"

	"torrent-xfer/internal/mirrortest"
)

// mirror is a running mirror that sends what a directory holds.
type mirror struct{ srv *mirrortest.Server }

// start starts a mirror; rate is in bytes/s, 0 is unlimited.
func start(t *testing.T, dir string, rate int64) *mirror {
	t.Helper()
	return startWith(t, mirrortest.Config{Dir: dir, Rate: rate})
}

func startWith(t *testing.T, config mirrortest.Config) *mirror {
	t.Helper()
	srv, err := mirrortest.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return &mirror{srv}
}

// url is the mirror's root without a slash at its end.
func (m *mirror) url() string {
	u := m.srv.URL("")
	return u[:len(u)-1]
}

// all are the requests that came so far.
func (m *mirror) all() []mirrortest.Entry { return m.srv.Stats().Log }

// requests are those for one file.
func (m *mirror) requests(name string) (of []mirrortest.Entry) {
	for _, r := range m.all() {
		if r.Path == "/"+name {
			of = append(of, r)
		}
	}
	return of
}

// sent is how many bytes of a file's body left the mirror.
func (m *mirror) sent(name string) int64 { return m.srv.Stats().Paths["/"+name] }
