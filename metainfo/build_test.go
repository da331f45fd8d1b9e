package metainfo

import (
	"bytes"
	"context"
	"testing"
)

var versions = map[string]Version{"hybrid": Hybrid, "v1": V1, "v2": V2}

func TestBuildMakesWhatLibtorrentMakes(t *testing.T) {
	files := map[string]struct {
		name    string
		content []byte
	}{
		"":       {"a b+c.pkg", torrentContent(1, 100_001)},
		"-small": {"small.pkg", torrentContent(2, 20_000)},
		"-tiny":  {"tiny.pkg", torrentContent(3, 10)},
	}
	for kind, version := range versions {
		for suffix, file := range files {
			h, err := Hash(context.Background(), bytes.NewReader(file.content), int64(len(file.content)),
				HashOptions{Version: version, PieceLength: 32 << 10})
			if err != nil {
				t.Fatal(err)
			}
			data, err := Build(file.name, h, BuildOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := torrentFixture(t, kind+suffix)
			if !bytes.Equal(data, want) {
				t.Errorf("%s%s:\n%q instead of\n%q", kind, suffix, data, want)
			}
		}
	}
}
