package badinput_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"crier/audience"
	"crier/internal/idset"
)

// operation is one that the server's own description lists.
type operation struct {
	id, method, path string
	inPath, inQuery  []string
	upload           bool
	fields           map[string]field // of the JSON body, by their paths, such as limits/jobs; nil if it takes none
}

type field struct {
	kind string // string, integer, or that of its items
	list bool
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Items      *schema
	Properties map[string]*schema
}

// kind is the first of the types that is not null.
func (s *schema) kind() string {
	switch k := s.Type.(type) {
	case string:
		return k
	case []any:
		for _, one := range k {
			if one != "null" {
				return one.(string)
			}
		}
	}
	return ""
}

// operations reads the document that the server serves, so that none is forgotten.
func (x *server) operations() []operation {
	x.t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
			RequestBody *struct {
				Content map[string]struct{ Schema *schema }
			}
		}
		Components struct{ Schemas map[string]*schema }
	}
	x.made("GET", "/openapi.json", "", &doc)
	var all []operation
	for path, methods := range doc.Paths {
		for method, m := range methods {
			op := operation{id: m.OperationID, method: strings.ToUpper(method), path: path}
			for _, p := range m.Parameters {
				switch p.In {
				case "path":
					op.inPath = append(op.inPath, p.Name)
				case "query":
					op.inQuery = append(op.inQuery, p.Name)
				}
			}
			if m.RequestBody != nil {
				body, isJSON := m.RequestBody.Content["application/json"]
				op.upload = !isJSON
				if isJSON {
					op.fields = map[string]field{}
					gather(op.fields, "", body.Schema, doc.Components.Schemas)
				}
			}
			all = append(all, op)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	bodies, uploads := 0, 0
	for _, op := range all {
		if len(op.fields) > 0 {
			bodies++
		}
		if op.upload {
			uploads++
		}
	}
	if len(all) < 36 || bodies < 10 || uploads < 2 {
		x.t.Fatalf("the document lists only %d operations, %d with JSON, %d with files", len(all), bodies, uploads)
	}
	return all
}

// gather collects the fields of an object, and of those inside it.
func gather(into map[string]field, within string, s *schema, all map[string]*schema) {
	if named, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		s = all[named]
	}
	for name, f := range s.Properties {
		switch {
		case f.Ref != "" || f.kind() == "object":
			gather(into, within+name+"/", f, all)
		case f.kind() == "array":
			into[within+name] = field{f.Items.kind(), true}
		default:
			into[within+name] = field{f.kind(), false}
		}
	}
}

// with is a body in which the field at a path is another one.
func with(body map[string]any, path string, value any) map[string]any {
	body = maps.Clone(body)
	if body == nil {
		body = map[string]any{}
	}
	outer, inner, nested := strings.Cut(path, "/")
	if nested {
		in, _ := body[outer].(map[string]any)
		value = with(in, inner, value)
	}
	body[outer] = value
	return body
}

// answered is the field of an answer that tells what a field of the request became, as it
// is written there; nil if there is none.
func answered(t *testing.T, op operation, path, answer string) json.RawMessage {
	t.Helper()
	if op.id == "set-limits" {
		path = "limits/" + path
	}
	raw := json.RawMessage(answer)
	for name := range strings.SplitSeq(path, "/") {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatalf("%s: %v in %.200s", op.id, err, answer)
		}
		if raw = fields[name]; raw == nil {
			return nil
		}
	}
	return raw
}

// body is a body that the operation takes, as its fields; the test fails for an operation
// that it has never heard of.
func (x *server) body(op operation) map[string]any {
	x.t.Helper()
	bodies := map[string]map[string]any{
		"create-account":    {"name": x.unused()},
		"add-followers":     {"ids": []any{7}},
		"remove-followers":  {"ids": []any{8}},
		"add-suppressed":    {"account": "sender", "ids": []any{9}},
		"remove-suppressed": {"account": "sender", "ids": []any{9}},
		"submit-job":        {"account": "sender", "audience": "followers", "body": "x"},
		"recall-job":        {"reason": "x"},
		"set-rate":          {"rate": 0},
		"resolve-job":       {"decision": "drop"},
		"mint-token":        {"recipient": 7},
		"erase-recipient":   {"reason": "x"},
		"silence-member":    {"reason": "x"},
		"resume-member":     {"reason": "x"},

		"create-segment":      {"name": "another"},
		"add-to-segment":      {"ids": []any{7}},
		"remove-from-segment": {"ids": []any{8}},

		"create-key":    {"name": "another", "role": "device", "recipient": 7},
		"create-tenant": {"name": x.unused()},
		"set-limits":    {"jobs": 0, "recipients": 0},
	}
	b, ok := bodies[op.id]
	if !ok {
		x.t.Fatalf("operation %s takes a body that this test does not know", op.id)
	}
	return b
}

// unused is a name that nothing has yet.
func (x *server) unused() string {
	x.unusedNames++
	return fmt.Sprintf("another-%d", x.unusedNames)
}

// at is the operation's path with what is there in its place; others are escaped texts.
func (x *server) at(op operation, others map[string]string) string {
	path := op.path
	for name, is := range map[string]string{"account": "sender", "job": x.job, "package": x.pkg, "recipient": "7", "member": x.member, "segment": "seg", "kind": "followers", "tenant": "acme", "key": x.key} {
		if name == "recipient" && op.id == "erase-recipient" {
			is = "8" // nobody listens there
		}
		if other, ok := others[name]; ok {
			is = other
		}
		path = strings.ReplaceAll(path, "{"+name+"}", is)
	}
	if strings.Contains(path, "{") {
		x.t.Fatalf("operation %s has a path that this test does not know: %s", op.id, path)
	}
	return path
}

// encode writes a body; a string that is not UTF-8 goes as it is.
func encode(t *testing.T, fields map[string]any) string {
	t.Helper()
	var parts []string
	for name, v := range fields {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case string:
			b = quote(v)
		case map[string]any:
			b = []byte(encode(t, v))
		case rawText:
			b = []byte(v)
		}
		parts = append(parts, `"`+name+`":`+string(b))
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ",") + "}"
}

// quote writes a JSON string byte by byte.
func quote(s string) []byte {
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// envelope makes a package.
func envelope(t *testing.T, name string, ids ...uint32) []byte {
	t.Helper()
	w, err := audience.NewWriter(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if len(ids) > 0 {
		if err := w.Add(idset.Of(ids...)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := w.Finish(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(); err != nil {
		t.Fatal(err)
	}
	return b
}
