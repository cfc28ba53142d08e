package wire_test

import (
	"errors"
	"maps"
	"path"
	"strings"
	"testing"

	"crier/api"
	"crier/api/problem"
	"crier/api/wire"
	"crier/internal/badinput"
)

// strictCases stand in for the real suite where that is absent, and hold what it lacks.
var strictCases = map[string]string{
	"y_object.json": `{"a":1}`, "y_surrogates.json": `"\ud83d\ude00"`, "y_space.json": " [1]\n",
	"n_utf8.json": "\"\xff\"", "n_overlong.json": "\"\xc0\xaf\"", "n_lone_surrogate.json": `"\ud83d"`, "n_duplicate.json": `{"a":1,"a":2}`,
	"n_trailing.json": `{} x`, "n_two.json": `1 2`, "n_comma.json": `[1,]`, "n_empty.json": ``, "n_bom.json": "\ufeff{}", "n_nan.json": `NaN`, "n_single.json": `{'a':1}`,
}

// suite gives the files of the real suite and the cases above.
func suite(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, text := range strictCases {
		files["own/"+name] = text
	}
	maps.Copy(files, badinput.Suite(t))
	return files
}

// What is wrong with a field says which it is, and what is wanted.
func TestDecodeNamesTheField(t *testing.T) {
	for text, want := range map[string]string{
		`{"rate":-1}`: "rate: want a whole number from 0 on", `{"rate":1.5}`: "rate: want a whole number from 0 on", `{"rate":"x"}`: "rate: a JSON string cannot stand here",
		`{"send_once":{"winow":1}}`: "send_once/winow: unknown field",
	} {
		if err := wire.Decode([]byte(text), new(api.SubmitJob)); err == nil || err.Error() != "the body has a field that cannot be read: "+want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Every file that is no JSON is refused with a problem of status 4xx; every
// one that is passes, except those that strictness refuses.
func TestDecodeOnTheSuite(t *testing.T) {
	refusedThough := func(name string) bool { return strings.Contains(name, "duplicated_key") }
	yes, no := 0, 0
	for name, text := range suite(t) {
		var v any
		err := wire.Decode([]byte(text), &v)
		var p *problem.Problem
		if err != nil && (!errors.As(err, &p) || p.Status/100 != 4) {
			t.Errorf("%s: refused with %v, which is no problem of the client", name, err)
		}
		switch base := path.Base(name); {
		case strings.HasPrefix(base, "n_"):
			no++
			if err == nil {
				t.Errorf("%s: accepted %.60q", name, text)
			}
		case strings.HasPrefix(base, "y_"):
			yes++
			if (err != nil) != refusedThough(base) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	t.Logf("%d valid and %d invalid texts", yes, no)
	if yes < 3 || no < 11 {
		t.Errorf("only %d valid and %d invalid texts were tried", yes, no)
	}
}

// A null among ids would be recipient 0; where one id is wanted it is an absent one.
func TestNullIsNoRecipient(t *testing.T) {
	var ids api.IDs
	err := wire.Decode([]byte(`{"ids":[1,null]}`), &ids)
	var p *problem.Problem
	if !errors.As(err, &p) || len(p.Errors) != 1 || p.Errors[0].Pointer != "#/ids/1" || !strings.Contains(p.Detail, "null is no recipient id") {
		t.Errorf("[1,null] is read as %v, %v", ids.IDs, err)
	}
	for text, want := range map[string]bool{`{"recipient":null}`: false, `{"recipient":0}`: true} {
		var token api.MintToken
		if err := wire.Decode([]byte(text), &token); err != nil || (token.Recipient != nil) != want {
			t.Errorf("%s is read as %v, %v", text, token.Recipient, err)
		}
	}
}

func TestDecodePointsAtThePlace(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"x","Name":"y"}`: "#/Name",
		`{"NAME":"x"}`:            "#/NAME",
		`{"name":"x","name":"y"}`: "#/name",
		`{"name":"x","extra":1}`:  "#/extra",
		`{"name":1}`:              "#/name",
		"{\"name\":\"\xff\"}":     "#/name",
		`{"name":"\udc00"}`:       "#/name",
		`["name"]`:                "#",
		"{\"" + strings.Repeat("\xff", 4000) + "\":1}": "#",
	} {
		var into api.CreateAccount
		err := wire.Decode([]byte(text), &into)
		var p *problem.Problem
		if !errors.As(err, &p) || len(p.Errors) != 1 {
			t.Errorf("%.60q: %v; want one problem", text, err)
			continue
		}
		if p.Errors[0].Pointer != want {
			t.Errorf("%.60q: points at %q (%s); want %q", text, p.Errors[0].Pointer, p.Detail, want)
		}
		if len(p.Detail) > 600 {
			t.Errorf("%.60q: the detail has %d bytes", text, len(p.Detail))
		}
	}
}
