package badinput_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"crier/internal/badinput"
)

// Mutants are other bytes than the sample, of every kind, and always the same.
func TestMutants(t *testing.T) {
	sample, other := bytes.Repeat([]byte("0123456789abcdef"), 20), []byte("another one")
	kept := bytes.Clone(sample)
	kinds, first, different := map[string]int{}, [][]byte{}, map[string]bool{}
	for m := range badinput.Mutants(5000, sample, other) {
		if bytes.Equal(m.Bytes, sample) {
			t.Fatalf("%s is its sample", m)
		}
		kinds[m.Kind]++
		different[string(m.Bytes)] = true
		first = append(first, bytes.Clone(m.Bytes))
		clear(m.Bytes[:cap(m.Bytes)]) // it is the test's own
	}
	if !bytes.Equal(sample, kept) || string(other) != "another one" {
		t.Error("a mutant shares memory with what it is made of")
	}
	if len(kinds) != 11 || len(first) != 5000 || len(different) < 4000 {
		t.Errorf("%d mutants, %d different ones, by kind %v", len(first), len(different), kinds)
	}
	for name, n := range kinds {
		if n < 200 {
			t.Errorf("only %d of the kind %q", n, name)
		}
	}
	for m := range badinput.Mutants(5000, sample, other) {
		if !bytes.Equal(m.Bytes, first[m.Seed]) {
			t.Fatalf("%s is another the second time", m)
		}
	}
	for m := range badinput.Mutants(1000, nil, other) {
		if len(m.Bytes) == 0 {
			t.Fatal("a mutant of nothing is nothing")
		}
	}
}

// The texts are what their users take them for.
func TestTexts(t *testing.T) {
	good, bad := 0, 0
	for name, text := range badinput.JSON(t) {
		valid := json.Valid([]byte(text)) && utf8.ValidString(text)
		switch base := path.Base(name); {
		case strings.HasPrefix(base, "y_"):
			good++
			if !valid {
				t.Errorf("%s is no JSON", name)
			}
		case strings.HasPrefix(base, "n_"):
			bad++
			if valid {
				t.Errorf("%s is JSON", name)
			}
		}
	}
	if good < 5 || bad < 8 || len(badinput.Strings(t)) < 40 || len(badinput.Paths(t)) < 30 {
		t.Errorf("%d valid and %d invalid texts, %d strings, %d paths", good, bad, len(badinput.Strings(t)), len(badinput.Paths(t)))
	}
}

var sink []byte

// A large allocation is seen, and none is none.
func TestAllocated(t *testing.T) {
	if n := badinput.Allocated(func() { sink = make([]byte, 10<<20) }); n < 10<<20 || n > 11<<20 {
		t.Errorf("10 MiB count as %d bytes", n)
	}
	if n := badinput.Allocated(func() {}); n > 64<<10 {
		t.Errorf("nothing counts as %d bytes", n)
	}
}

// TestMakeMutants: make mutants runs each test of which CRIER_MUTANTS is the number, which it
// finds by its name.
func TestMakeMutants(t *testing.T) {
	root := filepath.Join("..", "..")
	cmd := exec.Command("make", "--no-print-directory", "-n", "mutants")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "MAKEFLAGS=") // not those of the make that runs this
	plan, err := cmd.Output()
	if err != nil || !strings.Contains(string(plan), "CRIER_MUTANTS=10000 ") || !strings.Contains(string(plan), " -run Muta ") {
		t.Errorf("make mutants would do %s, %v", plan, err)
	}
	fed := regexp.MustCompile(`badinput\.(Feed|Number)\(`)
	found := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || path == filepath.Join(root, "internal", "badinput", "badinput_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, f := range strings.Split(string(text), "\nfunc ")[1:] {
			if fed.MatchString(f) {
				if found++; !strings.HasPrefix(f, "Test") || !strings.Contains(f[:strings.Index(f, "(")], "Muta") {
					t.Errorf("%s: %.40s is not among what make mutants runs", path, f)
				}
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Errorf("%d tests with mutants, %v", found, err)
	}
}
