package badinput_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crier/internal/badinput"
)

var aByte = regexp.MustCompile(`\bbyte \d+`)

// unchanged runs do and compares the state before and after, unless do says that it
// changed something.
func (x *server) unchanged(what string, do func() (changed bool)) {
	x.t.Helper()
	before := x.state()
	if do() {
		return
	}
	if d := cmp.Diff(before, x.state()); d != "" {
		x.t.Errorf("%s: refused, but something changed: %s", what, d)
	}
}

// noBody is what an operation without a body takes for none, and idsFile what may be a file of
// ids.
var (
	noBody  = regexp.MustCompile(`^[ \t\r\n]*(\{[ \t\r\n]*\}|null)?[ \t\r\n]*$`)
	idsFile = regexp.MustCompile(`^\x{feff}?\s*(\d+[\s,]*)*$`)
)

// takes reports whether a text is one that an operation without JSON takes.
func (op operation) takes(text string) bool {
	switch {
	case !op.upload:
		return noBody.MatchString(text)
	case op.id == "import-package":
		return false
	}
	return idsFile.MatchString(text)
}

// queries are what operations without JSON must be asked with, and what does not wait.
var queries = map[string]string{"import-package": "?account=sender", "import-followers": "?format=ids&account=sender", "wait-job": "?timeout=1ms"}

// TestJSONWhereNoneIsTaken sends every text to every operation that takes none: it is
// refused, by saying so if there is to be no body at all, and changes nothing; what is no body
// passes for none.
func TestJSONWhereNoneIsTaken(t *testing.T) {
	t.Parallel()
	x := start(t)
	texts := badinput.JSON(t)
	operations := slices.DeleteFunc(x.operations(), func(op operation) bool { return op.fields != nil })
	refused, taken := 0, 0
	x.unchanged("what takes no JSON", func() bool {
		for _, op := range operations {
			for name, text := range texts {
				if op.takes(text) {
					continue
				}
				refused++
				what := fmt.Sprintf("%s with %s", op.id, name)
				switch p := x.refused(what, x.do(op.method, x.at(op, nil)+queries[op.id], text)); {
				case p == nil:
					t.Errorf("%s: taken", what)
				case !op.upload && (p.Status != 400 || !strings.Contains(p.Detail, op.id+" takes no body")):
					t.Errorf("%s: %d %s", what, p.Status, p.Detail)
				}
			}
		}
		return false
	})
	for _, op := range operations {
		others := map[string]string{}
		if op.id == "watch-job" {
			others["job"] = "job_00000000000000000000000000" // which nobody waits for
		}
		for name, text := range texts {
			if !op.takes(text) {
				continue
			}
			what := fmt.Sprintf("%s with %s", op.id, name)
			if p := x.refused(what, x.do(op.method, x.at(op, others)+queries[op.id], text)); p == nil {
				taken++
			} else if strings.Contains(p.Detail, "body") {
				t.Errorf("%s: %d %s", what, p.Status, p.Detail)
			}
		}
	}
	t.Logf("%d operations, %d texts: %d times refused, %d taken", len(operations), len(texts), refused, taken)
	if taken < len(operations) {
		t.Errorf("%d texts were taken by %d operations", taken, len(operations))
	}
}

// TestJSON sends every text to every operation that takes JSON: it is refused with the
// place where it is wrong, and changes nothing; or it is an object, and taken.
func TestJSON(t *testing.T) {
	t.Parallel()
	x := start(t)
	texts := badinput.JSON(t)
	requests, taken := 0, 0
	for _, op := range x.operations() {
		if op.fields == nil {
			continue
		}
		x.unchanged(op.id, func() (changed bool) {
			for _, name := range slices.Sorted(maps.Keys(texts)) {
				if texts[name] == "" && (op.id == "silence-member" || op.id == "resume-member") {
					continue // they need no body
				}
				what := fmt.Sprintf("%s with %s", op.id, name)
				requests++
				p := x.refused(what, x.do(op.method, x.at(op, nil), texts[name]))
				if p == nil {
					taken++
					changed = true
					if !json.Valid([]byte(texts[name])) || !strings.HasPrefix(strings.TrimSpace(texts[name]), "{") {
						t.Errorf("%s: taken", what)
					}
				} else if p.Status != 404 && p.Status != 409 && !aByte.MatchString(p.Detail) && (len(p.Errors) == 0 || p.Errors[0].Pointer == "") {
					t.Errorf("%s: neither field nor place: %d %+v", what, p.Status, p)
				}
			}
			return changed
		})
	}
	t.Logf("%d requests with %d texts, %d taken", requests, len(texts), taken)
}

// numbers are what may stand where a number is wanted, as JSON.
var numbers = []string{"-1", "-0", "4294967295", "4294967296", "1e10", "1e0", "1.0", "1.5", "1e400", "-1e400", "18446744073709551616", "9223372036854775808", "255", "256", "100", "0",
	"00", "+1", "0x1", "NaN", "null", "true", `"1"`, `""`, "[]", "[1]", "{}", strings.Repeat("9", 400), "1" + strings.Repeat("0", 400), "0." + strings.Repeat("0", 400) + "1"}

// TestNumbers puts every kind of number where one is wanted: it is refused by the name of
// its field, or given back as it is.
func TestNumbers(t *testing.T) {
	t.Parallel()
	x := start(t)
	requests, taken := 0, 0
	for _, op := range x.operations() {
		for name, f := range op.fields {
			if f.kind != "integer" {
				continue
			}
			for _, n := range numbers {
				raw := json.RawMessage(n)
				if f.list {
					raw = json.RawMessage("[" + n + "]")
				}
				body := with(x.body(op), name, rawText(raw))
				requests++
				what := fmt.Sprintf("%s with %s %.60s", op.id, name, raw)
				a := x.do(op.method, x.at(op, nil), encode(t, body))
				p := x.refused(what, a)
				switch {
				case p == nil:
					taken++
					if is := answered(t, op, name, a.body); is != nil && string(is) != n && n != "null" && !(name == "priority" && n == "0") && n != "-0" {
						t.Errorf("%s: given back as %s", what, is)
					}
					if f.list && !regexp.MustCompile(`^(\d+|-0)$`).MatchString(n) {
						t.Errorf("%s: taken", what)
					}
				case p.Status == 400 && aByte.MatchString(p.Detail): // no JSON
				case p.Status == 409 && op.id == "resolve-job":
				case len(p.Errors) == 0 || p.Errors[0].Pointer != "#/"+name && !strings.HasPrefix(p.Errors[0].Pointer, "#/"+name+"/"):
					t.Errorf("%s: does not name the field: %d %+v", what, p.Status, p)
				}
			}
		}
	}
	t.Logf("%d requests, %d taken", requests, taken)
	if taken == 0 || taken == requests {
		t.Errorf("%d of %d numbers were taken", taken, requests)
	}
}

// rawText is JSON that goes as it is, valid or not.
type rawText string
