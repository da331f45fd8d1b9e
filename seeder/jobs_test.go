package seeder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

// A download goes on without whoever asked for it, and whoever asks again attaches to it or gets what is there.
func TestDownloadsGoOn(t *testing.T) {
	calls, goOn := make(chan Order, 10), make(chan error)
	download := func(ctx context.Context, o Order, dest string, tell func([]byte)) error {
		calls <- o
		tell([]byte(`{"done":1}`))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-goOn:
			if err == nil {
				err = os.WriteFile(dest, []byte("content"), 0o600)
			}
			return err
		}
	}
	r := startChanged(t, t.TempDir(), Config{}, func(d *Daemon) { d.Download = download })
	o := Order{URL: "http://host/a", Size: 7, SHA256: make([]byte, 32)}
	first, cancel := context.WithCancel(t.Context())
	if _, err := r.client.Download(first, o, func([]byte) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 2 { // under way, and done
		f, err := dial(t, r.socket).Download(t.Context(), o, func([]byte) {
			select {
			case goOn <- nil:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); err != nil || string(data) != "content" {
			t.Errorf("%q %v", data, err)
		}
		f.Close()
	}
	if len(calls) != 1 {
		t.Errorf("downloaded %d times", len(calls))
	}
	other := Order{URL: "http://host/b"}
	if _, err := dial(t, r.socket).Download(t.Context(), other, func([]byte) {
		select {
		case goOn <- errors.New("nobody has it"):
		default:
		}
	}); err == nil || err.Error() != "nobody has it" {
		t.Error(err)
	}
}

// Without a digest nothing tells that a file is what is at its URL now: it is given to those who wait for it, or to the first who asks
// once it is there, and only to those who would take it from the same places.
func TestDownloadsWithoutDigestAreFetchedAnew(t *testing.T) {
	calls, goOn := make(chan Order, 10), make(chan struct{}, 10)
	r := startChanged(t, t.TempDir(), Config{}, func(d *Daemon) {
		d.Download = func(ctx context.Context, o Order, dest string, tell func([]byte)) error {
			calls <- o
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-goOn:
				return os.WriteFile(dest, fmt.Appendf(nil, "%d %v", len(calls), o.Mirrors), 0o600)
			}
		}
	})
	get := func(o Order) string {
		f, err := dial(t, r.socket).Download(t.Context(), o, func([]byte) {})
		if err != nil {
			t.Error(err)
			return ""
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	o := Order{URL: "http://host/latest"}
	foreign := Order{URL: o.URL, Mirrors: []string{"http://evil/latest"}}
	r.do(t, Request{Do: "status"}) // it has begun
	for _, o := range []Order{foreign, o} {
		j, err := r.order(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		goOn <- struct{}{}
		<-j.ended
	}
	for i, want := range []string{"2 []", "3 []", "4 []"} { // the first gets what waits
		if i > 0 {
			goOn <- struct{}{}
		}
		if got := get(o); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	if got := get(foreign); got != "1 [http://evil/latest]" {
		t.Errorf("%q", got)
	}
}
