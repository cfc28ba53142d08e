package archtest

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The module follows its rules.
func TestModule(t *testing.T) {
	_, here, _, _ := runtime.Caller(0)
	files, err := Load(filepath.Join(filepath.Dir(here), "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files were found", len(files))
	}
	for _, f := range Check(files) {
		t.Error(f)
	}
}

// Each rule finds its break and lets its neighbour pass.
func TestRulesFind(t *testing.T) {
	long := strings.Repeat("\n", maxFunction-2)
	for _, c := range []struct {
		name, path, source string
		rule               string // empty: nothing may be found
	}{
		{"good", "job/x.go", "// Package job is.\npackage job\n", ""},
		{"file", "job/x.go", "// Package job is.\npackage job\n" + strings.Repeat("\n", maxFile), "file size"},
		{"main", "cmd/crier/main.go", "// Command crier is.\npackage main\n" + strings.Repeat("// x\n", maxMain), "file size"},
		{"function", "job/x.go", "// Package job is.\npackage job\n\nfunc f() {" + long + "\n\n}\n", "function size"},
		{"longest function", "job/x.go", "// Package job is.\npackage job\n\nfunc f() {" + strings.Repeat("\n\tf()", maxFunction-2) + "\n}\n", ""},
		{"test", "job/x_test.go", "package job\n\nfunc f() {" + strings.Repeat("\n\tf()", maxFile) + "\n}\n", ""},
		{"constructor", "job/x.go", "// Package job is.\npackage job\n\n// New makes.\nfunc New(a, b, c, d, e int) {}\n", "constructor"},
		{"four", "job/x.go", "// Package job is.\npackage job\n\n// New makes.\nfunc New(a, b, c, d int) {}\n", ""},
		{"package comment", "job/x.go", "package job\n", "package comment"},
		{"function comment", "job/x.go", "// Package job is.\npackage job\n\nfunc F() {}\n", "doc comment"},
		{"method comment", "job/x.go", "// Package job is.\npackage job\n\n// T is.\ntype T int\n\nfunc (*T) F() {}\n", "doc comment"},
		{"hidden method", "job/x.go", "// Package job is.\npackage job\n\ntype t int\n\nfunc (*t) F() {}\n", ""},
		{"type comment", "job/x.go", "// Package job is.\npackage job\n\ntype T int\n", "doc comment"},
		{"const comment", "job/x.go", "// Package job is.\npackage job\n\nconst C = 1\n", "doc comment"},
		{"const line comment", "job/x.go", "// Package job is.\npackage job\n\nconst (\n\tC = 1 // one\n)\n", ""},
		{"library in job", "job/x.go", "// Package job is.\npackage job\n\nimport _ \"github.com/x/y\"\n", "arrows"},
		{"arrow", "scheduler/x.go", "// Package scheduler is.\npackage scheduler\n\nimport _ \"crier/worker\"\n", "arrows"},
		{"arrow back", "worker/lane/x.go", "// Package lane is.\npackage lane\n\nimport _ \"crier/scheduler\"\n", "arrows"},
		{"arrow to the gateway", "worker/x.go", "// Package worker is.\npackage worker\n\nimport _ \"crier/presence/gateway\"\n", "arrows"},
		{"arrow of the gateway", "presence/gateway/ws/x.go", "// Package ws is.\npackage ws\n\nimport _ \"crier/worker\"\n", "arrows"},
		{"good arrow", "worker/lane/x.go", "// Package lane is.\npackage lane\n\nimport (\n\t_ \"crier/job\"\n\t_ \"crier/state/ledger\"\n\t_ \"crier/worker/journal\"\n)\n", ""},
		{"seam to its adapter", "state/ledger/x.go", "// Package ledger is.\npackage ledger\n\nimport _ \"crier/api\"\n", "arrows"},
		{"simulator in production", "cmd/crier/x.go", "// Command crier is.\npackage main\n\nimport _ \"crier/internal/sim\"\n", "arrows"},
		{"simulator in a bench", "internal/bench/x.go", "// Package bench is.\npackage bench\n\nimport _ \"crier/internal/sim/oracle\"\n", "arrows"},
		{"simulator at home", "cmd/crier-sim/x.go", "// Command crier-sim is.\npackage main\n\nimport _ \"crier/internal/sim\"\n", ""},
		{"unknown package", "newcomer/x.go", "// Package newcomer is.\npackage newcomer\n", "arrows"},
		{"driver", "worker/x.go", "// Package worker is.\npackage worker\n\nimport _ \"github.com/nats-io/nats.go\"\n", "drivers"},
		{"driver at home", "internal/bus/natsbus/x.go", "// Package natsbus is.\npackage natsbus\n\nimport _ \"github.com/nats-io/nats.go\"\n", ""},
		{"driver in a test", "worker/x_test.go", "package worker\n\nimport _ \"github.com/RoaringBitmap/roaring/v2\"\n", ""},
		{"roaring", "worker/x.go", "// Package worker is.\npackage worker\n\nimport _ \"github.com/RoaringBitmap/roaring/v2\"\n", "drivers"},
		{"sleep", "job/x_test.go", "package job\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "no sleep"},
		{"sleep in a suite", "state/coord/coordtest/x.go", "// Package coordtest is.\npackage coordtest\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n", "no sleep"},
		{"sleep in a bubble", "job/x_test.go", "package job\n\nimport (\n\t_ \"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { time.Sleep(1) }\n", ""},
		{"long suite", "state/coord/coordtest/x.go", "// Package coordtest is.\npackage coordtest\n\n" + strings.Repeat("// x\n", maxFile), ""},
		{"skip", "job/x_test.go", "package job\n\nimport \"testing\"\n\nfunc f(t *testing.T) { t.Skipf(\"x\") }\n", "no skip"},
		{"gofmt", "job/x.go", "// Package job is.\npackage job\nfunc  f() {}\n", "gofmt"},
		{"unfinished", "job/x.go", "// Package job is.\npackage job\n\n// TO" + "DO: more.\n", "unfinished"},
		{"path", "job/x.go", "// Package job is.\npackage job\n\nconst c = \"/wo" + "rk/x\"\n", "paths"},
		{"port", "worker/ports.go", "// Package worker is.\npackage worker\n\ntype p interface {\n\tA()\n\tB()\n\tC()\n\tD()\n\tE()\n\tF()\n}\n", "port size"},
		{"store", "worker/ports.go", "// Package worker is.\npackage worker\n\ntype pStore interface {\n\tA()\n\tB()\n\tC()\n\tD()\n\tE()\n\tF()\n}\n", ""},
	} {
		f, err := Parse(c.path, []byte(c.source))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []string
		for _, finding := range Check([]*File{f}) {
			if finding.Rule == "excuses" {
				continue // these files are not those of the list
			}
			if finding.Why == "" || finding.Where == "" || finding.What == "" {
				t.Errorf("%s: a finding says too little: %+v", c.name, finding)
			}
			if c.rule == "function size" && finding.Rule == "gofmt" || c.rule == "file size" && finding.Rule == "gofmt" {
				continue // the empty lines
			}
			got = append(got, finding.Rule)
		}
		if want := strings.Fields(strings.ReplaceAll(c.rule, " ", "_")); strings.Join(want, " ") != strings.ReplaceAll(strings.Join(got, ","), " ", "_") {
			t.Errorf("%s: found %v; want %q", c.name, got, c.rule)
		}
	}
}

func TestExcuses(t *testing.T) {
	found := []Finding{{Rule: "a", Where: "x"}, {Rule: "a", Where: "y"}}
	left := excuse(found, []Excuse{{"a", "x", "because"}, {"b", "x", "because"}})
	if len(left) != 2 || left[0].Where != "y" || left[1].Rule != "excuses" {
		t.Errorf("left %v; want y and the excuse that excused nothing", left)
	}
	for _, e := range excuses {
		if e.Why == "" {
			t.Errorf("the excuse of %s from %s has no reason", e.Where, e.Rule)
		}
	}
}

// Each line of the tables has a reason, and no package has two.
func TestTablesGiveReasons(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range arrowTable {
		if a.Why == "" || seen[a.Pkg] {
			t.Errorf("the line of %s has no reason or is there twice", a.Pkg)
		}
		seen[a.Pkg] = true
	}
	for _, d := range driverTable {
		if d.Why == "" || len(d.In) == 0 {
			t.Errorf("the line of %s has no reason or no place", d.Library)
		}
	}
}
