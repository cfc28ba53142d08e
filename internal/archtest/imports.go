package archtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Arrow says what a package may import of this module. A name that ends with
// /... stands for the package and those below it, which may import each other. One that
// begins with ! is excepted from the others.
// Tests are not counted.
type Arrow struct {
	Pkg string
	May []string
	Why string
}

// Driver says where a library that talks to the outside may be imported.
type Driver struct {
	Library string   // its import path, and those below it
	In      []string // packages, and those below them
	Why     string
}

// imports lists the import paths of a file.
func imports(f *File) (paths []string) {
	for _, i := range f.Syntax.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// under reports whether a path is a package or below it.
func under(path, pkg string) bool { return path == pkg || strings.HasPrefix(path, pkg+"/") }

// matches reports whether a path is what a name of a table stands for.
func matches(path, name string) bool {
	if tree, ok := strings.CutSuffix(name, "/..."); ok {
		return under(path, tree)
	}
	return path == name
}

// arrowOf gives the line of the table for a package: the longest name that fits,
// and a single package before a tree.
func arrowOf(pkg string) (best Arrow, ok bool) {
	size := func(a Arrow) int { return len(strings.TrimSuffix(a.Pkg, "/...")) }
	for _, a := range arrowTable {
		if matches(pkg, a.Pkg) && (!ok || size(a) > size(best) || size(a) == size(best) && a.Pkg == pkg) {
			best, ok = a, true
		}
	}
	return best, ok
}

// allows reports whether the line lets its package import another.
func (a Arrow) allows(to string) bool {
	may := false
	for _, name := range a.May {
		if not, excepted := strings.CutPrefix(name, "!"); !excepted {
			may = may || matches(to, name)
		} else if matches(to, not) {
			return false
		}
	}
	return may
}

// arrows holds the directions between the packages of the module.
func arrows(files []*File) (out []Finding) {
	unknown := map[string]bool{}
	for _, f := range files {
		if f.IsTest() {
			continue
		}
		line, ok := arrowOf(f.Pkg())
		if !ok {
			if !unknown[f.Pkg()] {
				unknown[f.Pkg()] = true
				out = append(out, Finding{"arrows", f.Pkg(), "is not in the table of arrows", "each package says what it may import, and why; add it to tables.go"})
			}
			continue
		}
		for _, p := range imports(f) {
			to, ours := strings.CutPrefix(p, module+"/")
			switch {
			case ours && matches(to, line.Pkg):
			case ours && !line.allows(to):
				out = append(out, Finding{"arrows", f.Path, fmt.Sprintf("imports %s; it may import %s", p, or(line.May)), line.Why})
			case !ours && f.Pkg() == "job" && strings.Contains(strings.Split(p, "/")[0], "."):
				out = append(out, Finding{"arrows", f.Path, "imports " + p, line.Why})
			}
		}
	}
	return out
}

func or(names []string) string {
	if len(names) == 0 {
		return "none of ours"
	}
	return strings.Join(names, ", ")
}

// drivers holds the places of the libraries that talk to the outside.
func drivers(files []*File) (out []Finding) {
	for _, f := range files {
		if f.IsTest() {
			continue
		}
		for _, p := range imports(f) {
			for _, d := range driverTable {
				if under(p, d.Library) && !slices.ContainsFunc(d.In, func(pkg string) bool { return under(f.Pkg(), pkg) }) {
					out = append(out, Finding{"drivers", f.Path, fmt.Sprintf("imports %s; only %s may", p, strings.Join(d.In, ", ")), d.Why})
				}
			}
		}
	}
	return out
}
