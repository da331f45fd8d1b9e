package main

import "testing"

func TestPacmanOptions(t *testing.T) {
	for _, c := range []struct {
		args   []string
		config string
		force  bool
	}{
		{[]string{"-Sy"}, "", false},
		{[]string{"-Syy"}, "", true},
		{[]string{"-Syyu"}, "", true},
		{[]string{"-yySu"}, "", true},
		{[]string{"-S", "-y", "-y"}, "", true},
		{[]string{"-Fyy"}, "", true},
		{[]string{"-S", "--refresh", "--refresh"}, "", true},
		{[]string{"-Sy", "--refr"}, "", true},
		{[]string{"-Sy", "yy", "yay"}, "", false},
		{[]string{"-Sy", "--", "-yy"}, "", false},
		{[]string{"-Syb", "/yy"}, "", false},
		{[]string{"-Syb/yy"}, "", false},
		{[]string{"-Sy", "-r", "-y"}, "", false},
		{[]string{"-Sy", "--dbpath", "-yy"}, "", false},
		{[]string{"--config", "/a", "-Sy"}, "/a", false},
		{[]string{"-Syy", "--config=/a"}, "/a", true},
		{[]string{"-S", "--config", "a"}, "/home/x/a", false},
		{[]string{"-S", "--config"}, "", false},
		{nil, "", false},
	} {
		config, force := caller{name: "pacman", args: c.args, dir: "/home/x"}.pacmanOptions()
		if config != c.config || force != c.force {
			t.Errorf("%q: %q, %v", c.args, config, force)
		}
	}
	if config, _ := (caller{args: []string{"--config", "a"}}).pacmanOptions(); config != "" {
		t.Errorf("a relative path in an unknown directory became %q", config)
	}
}

func TestOldDatabase(t *testing.T) {
	for dest, want := range map[string]string{
		"/var/lib/pacman/sync/core.db.part":                 "/var/lib/pacman/sync/core.db",
		"/var/lib/pacman/sync/download-aB3xYz/core.db.part": "/var/lib/pacman/sync/core.db",
		"/tmp/download-longer-name/core.db.part":            "/tmp/download-longer-name/core.db",
		"core.db.part":                                      "core.db",
		"/tmp/core.db":                                      "",
		"/tmp/extra.db.part":                                "",
		"/tmp/out":                                          "",
	} {
		if got := oldDatabase(dest, "core.db"); got != want {
			t.Errorf("%s: %s", dest, got)
		}
	}
}

func FuzzPacmanOptions(f *testing.F) {
	f.Add("-Syy", "--config", "a")
	f.Add("--refresh", "-r", "-")
	f.Add("-b", "--", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		config, _ := caller{args: []string{a, b, c}, dir: "/"}.pacmanOptions()
		if config != "" && config[0] != '/' {
			t.Errorf("%q is relative", config)
		}
	})
}
