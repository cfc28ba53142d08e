// Package archtest holds the rules of how the code is laid out: sizes, doc
// comments, which package may import which, where drivers may be imported, and
// what tests may not do. Its test runs them over the whole module.
//
// It guarantees that each finding says where, what and why; that an exception is
// in the list of excuses with its reason; and that an excuse which nothing needs
// any more is a finding itself.
package archtest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is the path of the module that is looked at.
const module = "crier"

// File is one Go file of the module.
type File struct {
	Path   string // from the root of the module, with slashes
	Source []byte
	Syntax *ast.File
	set    *token.FileSet
}

// Pkg is the directory of the file, which is its package's path in the module.
func (f *File) Pkg() string { return path.Dir(f.Path) }

// IsTest reports whether the file is compiled for tests only.
func (f *File) IsTest() bool { return strings.HasSuffix(f.Path, "_test.go") }

// IsSuite reports whether the file is in a package for tests, such as ledgertest.
func (f *File) IsSuite() bool { return strings.HasSuffix(f.Pkg(), "test") }

// Lines counts the lines of the file.
func (f *File) Lines() int { return strings.Count(string(f.Source), "\n") }

// line is where a node starts.
func (f *File) line(p token.Pos) int { return f.set.Position(p).Line }

// Finding is one thing that breaks a rule.
type Finding struct {
	Rule  string // name of the rule
	Where string // file, package, or file and name
	What  string
	Why   string // the reason of the rule
}

// String writes the finding for a test's log.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s\n\trule %s: %s", f.Where, f.What, f.Rule, f.Why)
}

// Parse makes a File of source text.
func Parse(name string, source []byte) (*File, error) {
	f := &File{Path: name, Source: source, set: token.NewFileSet()}
	var err error
	f.Syntax, err = parser.ParseFile(f.set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

// Load reads all Go files of the module that is rooted at a directory. Modules of
// their own below it, test data and hidden directories are left out.
func Load(root string) ([]*File, error) {
	var files []*File
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && leftOut(name, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := Parse(filepath.ToSlash(rel), source)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func leftOut(dir, name string) bool {
	if name == "testdata" || name == "node_modules" || name == "bin" || strings.HasPrefix(name, ".") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// Check runs all rules over the files and takes out what is excused.
func Check(files []*File) []Finding {
	var all []Finding
	for _, rule := range []func([]*File) []Finding{sizes, constructors, comments, arrows, drivers, tests, layout, words, ports} {
		all = append(all, rule(files)...)
	}
	return sorted(excuse(all, excuses))
}

// excuse takes out the findings that are excused and adds one for each excuse
// that excused nothing.
func excuse(all []Finding, list []Excuse) []Finding {
	used := make([]bool, len(list))
	var left []Finding
	for _, f := range all {
		at := slices.IndexFunc(list, func(e Excuse) bool { return e.Rule == f.Rule && e.Where == f.Where })
		if at < 0 {
			left = append(left, f)
			continue
		}
		used[at] = true
	}
	for i, e := range list {
		if !used[i] {
			left = append(left, Finding{"excuses", e.Where, "is excused from " + e.Rule + ", which it does not break", "an excuse that nothing needs hides the next break"})
		}
	}
	return left
}

func sorted(all []Finding) []Finding {
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Where, b.Where), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.What, b.What))
	})
	return all
}
