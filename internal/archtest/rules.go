package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The sizes; tests, and suites for them, are not counted.
const (
	maxFile        = 500
	maxFunction    = 70
	maxPackage     = 2000
	maxMain        = 60
	maxConstructor = 4
	maxPort        = 5
	maxStore       = 7
)

const (
	whySize  = "what does not fit a head is not reviewed: split it by what it decides"
	whyDoc   = "a reader must learn what it promises without reading how"
	whyParam = "more than four parameters are a Config whose fields say unit, effect and default"
)

// sizes holds the lengths of files, functions, packages and main.go.
func sizes(files []*File) (out []Finding) {
	packages := map[string]int{}
	for _, f := range files {
		if f.IsTest() || f.IsSuite() {
			continue
		}
		packages[f.Pkg()] += f.Lines()
		limit := maxFile
		if path.Base(f.Path) == "main.go" {
			limit = maxMain
		}
		if n := f.Lines(); n > limit {
			out = append(out, Finding{"file size", f.Path, fmt.Sprintf("has %d lines, at most %d are allowed", n, limit), whySize})
		}
		for _, d := range f.Syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFunction {
				out = append(out, Finding{"function size", f.Path + " " + nameOf(fn), fmt.Sprintf("has %d lines, at most %d are allowed", n, maxFunction), whySize})
			}
		}
	}
	for pkg, n := range packages {
		if n > maxPackage {
			out = append(out, Finding{"package size", pkg, fmt.Sprintf("has %d lines, at most %d are allowed", n, maxPackage), whySize})
		}
	}
	return out
}

// nameOf is a function's name, with its receiver's type.
func nameOf(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	return receiver(fn) + "." + fn.Name.Name
}

func receiver(fn *ast.FuncDecl) string {
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// constructors holds the number of parameters of New… and Open….
func constructors(files []*File) (out []Finding) {
	for _, f := range files {
		if f.IsTest() {
			continue
		}
		for _, d := range f.Syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(strings.ToLower(fn.Name.Name), "new") && !strings.HasPrefix(fn.Name.Name, "Open") {
				continue
			}
			if n := fn.Type.Params.NumFields(); n > maxConstructor {
				out = append(out, Finding{"constructor", f.Path + " " + fn.Name.Name, fmt.Sprintf("has %d parameters, at most %d are allowed", n, maxConstructor), whyParam})
			}
		}
	}
	return out
}

// comments asks for a doc comment on each package and each exported name.
func comments(files []*File) (out []Finding) {
	documented := map[string]bool{}
	for _, f := range files {
		if f.IsTest() {
			continue
		}
		documented[f.Pkg()] = documented[f.Pkg()] || f.Syntax.Doc != nil
		for _, d := range f.Syntax.Decls {
			for _, name := range undocumented(d) {
				out = append(out, Finding{"doc comment", f.Path + " " + name, "is exported and has no doc comment", whyDoc})
			}
		}
	}
	for pkg, ok := range documented {
		if !ok {
			out = append(out, Finding{"package comment", pkg, "has no package comment", "a package says what it guarantees"})
		}
	}
	return out
}

// undocumented lists the exported names of a declaration that nothing is said about.
func undocumented(d ast.Decl) (names []string) {
	switch x := d.(type) {
	case *ast.FuncDecl:
		if x.Name.IsExported() && x.Doc == nil && (x.Recv == nil || ast.IsExported(receiver(x))) {
			names = append(names, nameOf(x))
		}
	case *ast.GenDecl:
		for _, s := range x.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && x.Doc == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Doc == nil && s.Comment == nil && x.Doc == nil {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// tests forbids what makes tests slow, flaky or silent.
func tests(files []*File) (out []Finding) {
	for _, f := range files {
		if !f.IsTest() && !f.IsSuite() {
			continue
		}
		bubble := slices.Contains(imports(f), "testing/synctest") // its clock does not wait
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			where := fmt.Sprintf("%s line %d", f.Path, f.line(sel.Pos()))
			switch {
			case x.Name == "time" && sel.Sel.Name == "Sleep" && !bubble:
				out = append(out, Finding{"no sleep", where, "sleeps", "time is an input: use a clock that the test moves, or testing/synctest"})
			case strings.HasPrefix(sel.Sel.Name, "Skip") && (x.Name == "t" || x.Name == "b" || x.Name == "tb" || x.Name == "f"):
				out = append(out, Finding{"no skip", where, "skips", "a test that does not run proves nothing: use generated data, or install what is missing"})
			}
			return true
		})
	}
	return out
}

// layout asks for gofmt's.
func layout(files []*File) (out []Finding) {
	for _, f := range files {
		want, err := format.Source(f.Source)
		if err != nil || !bytes.Equal(want, f.Source) {
			out = append(out, Finding{"gofmt", f.Path, "is not laid out by gofmt", "one layout, and no diff about it; run make fmt"})
		}
	}
	return out
}

var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

// words forbids notes of unfinished work and paths of the machine it was written on.
func words(files []*File) (out []Finding) {
	for _, f := range files {
		for _, group := range f.Syntax.Comments {
			if m := unfinished.FindString(group.Text()); m != "" {
				out = append(out, Finding{"unfinished", fmt.Sprintf("%s line %d", f.Path, f.line(group.Pos())), "says " + m, "what is not done is an issue, not a comment"})
			}
		}
		for _, home := range []string{"/wo" + "rk/", "/ro" + "ot/"} {
			if bytes.Contains(f.Source, []byte(home)) {
				out = append(out, Finding{"paths", f.Path, "has a path of one machine: " + home, "the project works from any clone"})
			}
		}
	}
	return out
}

// ports holds the number of methods of the interfaces that a package asks of others.
func ports(files []*File) (out []Finding) {
	for _, f := range files {
		if path.Base(f.Path) != "ports.go" {
			continue
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			i, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return true
			}
			limit := maxPort
			if isStore.MatchString(spec.Name.Name) {
				limit = maxStore
			}
			if n := i.Methods.NumFields(); n > limit {
				out = append(out, Finding{"port size", f.Path + " " + spec.Name.Name, fmt.Sprintf("has %d methods, at most %d are allowed", n, limit),
					"the user of an interface declares the little that it needs; a store may have seven"})
			}
			return true
		})
	}
	return out
}

var isStore = regexp.MustCompile(`(Store|KV|Sets|Blobs|Log)$`)
