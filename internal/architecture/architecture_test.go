package architecture

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "torrent-xfer"

type goPackage struct {
	ImportPath  string
	Name        string
	Dir         string
	Doc         string
	GoFiles     []string
	Imports     []string
	TestImports []string
	Deps        []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var list []goPackage
	for dec := json.NewDecoder(out); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if err := cmd.Wait(); err != nil || len(list) < 5 {
		t.Fatalf("go list: %v, %d packages", err, len(list))
	}
	return list
}

// never maps a package to what neither it nor anything it uses may import, and why.
var never = map[string]map[string]string{
	module + "/fetcher": {
		module + "/mirrorlist":                         "which URLs hold the same bytes is the caller's knowledge",
		"github.com/urfave/cli/v2":                     "the engine has no command line",
		"github.com/schollz/progressbar/v3":            "the engine tells events and draws nothing",
		"github.com/anacrolix/torrent":                 "the client is internal/swarm's",
		module + "/internal/mirrortest":                "for tests and demo only",
		"github.com/BurntSushi/toml":                   "settings are the command's",
		"github.com/landlock-lsm/go-landlock/landlock": "confinement is the command's",
	},
	module + "/metainfo": {
		module + "/fetcher":                 "who verifies a file need not fetch it",
		"github.com/urfave/cli/v2":          "metainfo has no command line",
		"github.com/schollz/progressbar/v3": "metainfo draws nothing",
		"github.com/anacrolix/torrent":      "the client is internal/swarm's",
	},
	module + "/metalink": {
		module + "/fetcher":                 "who reads a metalink need not fetch what it names",
		"net/http":                          "metalink reads and writes, it does not fetch",
		"github.com/urfave/cli/v2":          "metalink has no command line",
		"github.com/schollz/progressbar/v3": "metalink draws nothing",
		"github.com/anacrolix/torrent":      "the client is internal/swarm's",
	},
	module + "/publisher": {
		module + "/fetcher":                 "who publishes fetches nothing",
		module + "/mirrorlist":              "which mirrors there are is the caller's knowledge",
		"github.com/urfave/cli/v2":          "publishing has no command line",
		"github.com/schollz/progressbar/v3": "publishing tells events and draws nothing",
		"github.com/anacrolix/torrent":      "the client is internal/swarm's",
	},
	module + "/seeder": {
		module + "/fetcher":                            "who keeps files need not fetch them",
		module + "/internal/peers":                     "a Swarm is declared where it is used; the command joins the two",
		"os/exec":                                      "the command runs programs",
		"github.com/urfave/cli/v2":                     "the daemon's command line is the command's",
		"github.com/anacrolix/torrent":                 "the client is internal/swarm's",
		"github.com/landlock-lsm/go-landlock/landlock": "confinement is the command's",
	},
	module + "/internal/scrape": {
		module + "/fetcher":            "who asks a tracker fetches nothing",
		"github.com/urfave/cli/v2":     "scraping has no command line",
		"github.com/anacrolix/torrent": "the client is internal/swarm's",
	},
	module + "/internal/peers": {
		"github.com/anacrolix/torrent": "a crash of the client must not be one of the download",
		"github.com/urfave/cli/v2":     "a source has no command line",
	},
	module + "/internal/swarm": {
		"github.com/urfave/cli/v2":          "the worker takes no arguments",
		"github.com/schollz/progressbar/v3": "the worker draws nothing",
	},
	module + "/cmd/torrent-xfer-swarm": {
		module + "/internal/mirrortest":  "for tests and demo only",
		module + "/internal/trackertest": "for tests only",
	},
	module + "/aptmethod": {
		module + "/fetcher":                            "the method asks an Engine; the command puts the fetcher behind it",
		module + "/internal/mirrortest":                "for tests and demo only",
		"os/exec":                                      "the command runs programs",
		"github.com/urfave/cli/v2":                     "the method has no command line",
		"github.com/schollz/progressbar/v3":            "apt draws the bar",
		"github.com/anacrolix/torrent":                 "the client is internal/swarm's",
		"github.com/landlock-lsm/go-landlock/landlock": "confinement is the command's",
	},
	module + "/mirrorlist": {
		module + "/fetcher":                 "lists are pure",
		"net/http":                          "lists are pure",
		"os/exec":                           "lists are pure: the command runs pacman-conf",
		"github.com/urfave/cli/v2":          "lists have no command line",
		"github.com/schollz/progressbar/v3": "lists draw nothing",
		"github.com/anacrolix/torrent":      "the client is internal/swarm's",
	},
	module + "/cmd/torrent-xfer": {
		"github.com/anacrolix/torrent":  "peers are spoken to by a process of its own, cmd/torrent-xfer-swarm",
		module + "/internal/mirrortest": "for tests and demo only",
	},
}

func TestWhoMayImportWhom(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		seen[p.ImportPath] = true
		for _, dep := range p.Deps {
			if why, bad := never[p.ImportPath][dep]; bad {
				t.Errorf("%s depends on %s: %s", p.ImportPath, dep, why)
			}
			if strings.HasPrefix(dep, module+"/cmd/") {
				t.Errorf("%s imports %s: nobody imports the command", p.ImportPath, dep)
			}
		}
		for _, dep := range p.Imports {
			if dep == "github.com/anacrolix/torrent" && p.ImportPath != module+"/internal/swarm" {
				t.Errorf("%s imports the BitTorrent client: only internal/swarm does", p.ImportPath)
			}
		}
	}
	for name := range never {
		if !seen[name] {
			t.Errorf("a rule speaks of %s, which does not exist", name)
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// onlyCommand lists what libraries leave to the command, by package of the standard library.
var onlyCommand = map[string][]string{
	"os":  {"Stdin", "Stdout", "Stderr", "Exit", "Getenv", "LookupEnv", "Environ", "Args"},
	"fmt": {"Print", "Printf", "Println"},
	"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln"},
}

func TestLibrariesDoNotTouchTheProcess(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.ImportPath, module+"/cmd/") || p.Name == "main" {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					if n.Recv == nil && n.Name.Name == "init" {
						t.Errorf("%s: an init function", fset.Position(n.Pos()))
					}
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok {
						for _, bad := range onlyCommand[x.Name] {
							if n.Sel.Name == bad {
								t.Errorf("%s: %s.%s is the command's", fset.Position(n.Pos()), x.Name, bad)
							}
						}
					}
				}
				return true
			})
		}
	}
}
