package seeder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What has no torrent is not asked for again, and what a torrent was found of is offered, changes and goes with its file.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	d, swarm := still(t, Config{Watch: []string{dir}, Time: time.Nanosecond, Space: 1})
	asked := map[string]int{}
	torrents := map[string][]byte{}
	d.Find = func(_ context.Context, name string, _ int64) (Offer, error) {
		if asked[name]++; torrents[name] == nil {
			return Offer{}, fmt.Errorf("%s: %w", name, ErrNoTorrent)
		}
		return Offer{Metainfo: torrents[name]}, nil
	}
	put := func(name string, fill byte) {
		t.Helper()
		o := offer(t, name, fill, 100_000)
		os.Remove(filepath.Join(dir, name))
		if err := os.Link(o.Content.Name(), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		torrents[name] = o.Metainfo
	}
	put("a", 'a')
	put("none", 'n')
	delete(torrents, "none")
	known := map[string]looked{}
	for range 3 {
		d.look(t.Context(), known)
		d.tick(time.Now(), time.Second)
	}
	if swarm.offered() != 1 || asked["a"] != 1 || asked["none"] != 1 || d.Library.Size() != 0 {
		t.Fatalf("%d offered, asked for %v", swarm.offered(), asked)
	}
	id := d.Library.Entries()[0].ID
	f, err := d.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	put("a", 'b') // another version
	if _, err := d.Open(id); err == nil {
		t.Error("what has changed is opened")
	}
	if d.look(t.Context(), known); swarm.offered() != 1 || d.Library.Entries()[0].ID == id {
		t.Error("the new version is not offered, or the old one is")
	}
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if d.look(t.Context(), known); swarm.offered() != 0 || len(d.Library.Entries()) != 0 {
		t.Error("what has gone is offered")
	}
}

// A file that is handed over is kept although it is watched too, and its name goes.
func TestAWatchedFileIsHandedOver(t *testing.T) {
	o := offer(t, "a", 'a', 100_000)
	path := o.Content.Name()
	if err := os.WriteFile(path+torrentSuffix, o.Metainfo, 0o644); err != nil {
		t.Fatal(err)
	}
	d, swarm := still(t, Config{Watch: []string{filepath.Dir(path)}})
	known := map[string]looked{}
	d.look(t.Context(), known)
	d.take(t.Context(), o)
	os.Remove(path)
	d.look(t.Context(), known)
	if list := d.Library.Entries(); len(list) != 1 || list[0].Path != "" || swarm.offered() != 1 {
		t.Errorf("%+v", list)
	}
}

// Of a watched file that is in the library otherwise the torrent is looked for once. If that is removed, so is the file.
func TestATwinIsRemovedToo(t *testing.T) {
	o := offer(t, "a", 'a', 100_000)
	d, swarm := still(t, Config{Watch: []string{filepath.Dir(o.Content.Name())}})
	asked := 0
	d.Find = func(context.Context, string, int64) (Offer, error) {
		asked++
		return Offer{Metainfo: o.Metainfo}, nil
	}
	d.take(t.Context(), o)
	known := map[string]looked{}
	later := func() {
		for path, k := range known {
			k.again = time.Now()
			known[path] = k
		}
	}
	for range 3 {
		d.look(t.Context(), known)
		later()
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if _, err := d.remove("a"); err != nil {
		t.Fatal(err)
	}
	d.look(t.Context(), known)
	if swarm.offered() != 0 || asked != 1 {
		t.Errorf("%d offered, asked %d times", swarm.offered(), asked)
	}
	if err := os.Chtimes(o.Content.Name(), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if d.look(t.Context(), known); swarm.offered() != 1 {
		t.Error("another file of that name is not offered")
	}
}
