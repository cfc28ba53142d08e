package badinput_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"crier/internal/badinput"
)

// TestUploads sends files that are cut, changed, of another kind or too long: none is
// taken, nothing of one is kept, and the answer names the file or the line.
func TestUploads(t *testing.T) {
	t.Parallel()
	x := start(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(strings.Repeat("1\n2\n", 5000))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	larger := envelope(t, "larger", 1, 2, 3, 70_000, 70_001, 1<<31)
	files := map[string][]string{"/v1/packages?account=sender": {""}}
	for i := 0; i < len(larger); i += 1 + i/3 {
		files["/v1/packages?account=sender"] = append(files["/v1/packages?account=sender"], string(larger[:i]), string(larger)+string(larger[:1+i]))
	}
	for m := range badinput.Mutants(300, larger, x.envelope) {
		files["/v1/packages?account=sender"] = append(files["/v1/packages?account=sender"], string(m.Bytes))
	}
	ids := []string{"1\n2\nx\n", "1\n-1\n", "1\n4294967296\n", "1\n1e10\n", "1\n1.5\n", "1,,\"2\"", "1 2\n", "\xff\xfe1\x00", strings.Repeat("9", 1<<20), "{}", string(larger),
		packed.String()[:packed.Len()/2], packed.String()[:packed.Len()-1], packed.String()[:5], packed.String() + "x"}
	edges := []string{"1 2\n1\n", "1 2\nx 2\n", "1 -2\n", "1 4294967296\n", "1 2 x\n", "1\n", string(larger), packed.String()[:packed.Len()/2]}
	files["/v1/followers/import?account=sender&format=ids"] = ids
	files["/v1/followers/import?format=edges"] = edges
	for path, all := range files {
		x.unchanged(path, func() bool {
			for i, file := range all {
				what := fmt.Sprintf("%s, file %d of %d bytes, %.40q", path, i, len(file), file)
				p := x.refused(what, x.do("POST", path, file))
				switch {
				case p == nil:
					t.Errorf("%s: taken", what)
				case len(p.Errors) == 0 || p.Errors[0].Parameter == "":
					t.Errorf("%s: neither file nor place: %+v", what, p)
				}
			}
			return false
		})
	}
}

// TestEmptyPackage: a package of nobody is one, and a job to it is over at once.
func TestEmptyPackage(t *testing.T) {
	x := start(t)
	var p struct {
		ID          string
		Cardinality uint64
	}
	x.made("POST", "/v1/packages?account=sender", string(envelope(t, "nobody")), &p)
	var j struct {
		Job, State string
		Recipients uint64
	}
	x.made("POST", "/v1/jobs", `{"account":"sender","package":"`+p.ID+`","body":"to nobody"}`, &j)
	x.made("GET", "/v1/jobs/"+j.Job+"/wait?for=completed", "", &j)
	if p.Cardinality != 0 || j.State != "completed" || j.Recipients != 0 {
		t.Errorf("a package of %d ids, a job that is %s to %d", p.Cardinality, j.State, j.Recipients)
	}
	var r struct{ Conserved bool }
	x.made("GET", "/v1/jobs/"+j.Job+"/reconcile", "", &r)
	if !r.Conserved {
		t.Error("a job to nobody does not reconcile")
	}
}

// TestTooLong: what is over a limit is refused by the limit and changes nothing, and the
// longest that is not is taken.
func TestTooLong(t *testing.T) {
	t.Parallel()
	x := start(t)
	for _, op := range x.operations() {
		if op.fields == nil {
			continue
		}
		x.unchanged(op.id, func() bool {
			body := encode(t, x.body(op))
			body = body[:len(body)-1] + strings.Repeat(" ", 2<<20) + "}"
			if a := x.do(op.method, x.at(op, nil), body); a.status != 413 {
				t.Errorf("%s with %d bytes: %d %.200s", op.id, len(body), a.status, a.body)
			}
			return false
		})
	}
	ids := strings.Repeat("1,", 100_000)
	for path, field := range map[string]string{"/v1/accounts/sender/followers/add": "ids", "/v1/suppression/add": "ids"} {
		x.unchanged(path, func() bool {
			p := x.refused(path, x.do("POST", path, `{"ids":[`+ids+`1]}`))
			if p == nil || p.Status != 413 {
				t.Errorf("%s with 100,001 ids: %+v", path, p)
			} else {
				x.names(path, p, field)
			}
			return false
		})
	}
	var c struct{ Changed uint64 }
	a := x.do("POST", "/v1/accounts/sender/followers/add", `{"ids":[`+ids[:len(ids)-1]+`]}`)
	if err := json.Unmarshal([]byte(a.body), &c); err != nil || a.status != 200 || c.Changed != 1 {
		t.Errorf("100,000 ids: %d %.200s, %v", a.status, a.body, err)
	}
}
