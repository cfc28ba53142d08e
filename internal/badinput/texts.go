package badinput

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"crier/internal/testdata"
)

// JSON gives the texts of the JSON test suite by their names, y_, n_, i_ and others,
// and some that it lacks.
func JSON(t testing.TB) map[string]string {
	t.Helper()
	texts := map[string]string{
		"own/n_nothing": "", "own/n_utf8": "{\"name\":\"\xff\"}", "own/i_lone_surrogate": `{"name":"\ud800"}`, "own/n_two": `{"name":"a"}{}`,
		"own/i_duplicate": `{"name":"a","name":"b"}`, "own/i_case": `{"Name":"a"}`, "own/i_unknown": `{"name":"a","none of it":1}`,
		"own/y_null": `null`, "own/y_true": `true`, "own/y_number": `1`, "own/y_string": `"name"`, "own/y_array": `[]`, "own/y_object": `{}`,
		"own/n_deep_arrays": strings.Repeat(`[`, 100_000), "own/n_deep_objects": strings.Repeat(`{"a":`, 100_000),
		"own/i_deep_arrays": strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000), "own/i_deep_field": `{"name":` + strings.Repeat(`[`, 9_000) + strings.Repeat(`]`, 9_000) + `}`,
		"own/n_bom": "\ufeff{}", "own/n_nan": `{"name":NaN}`, "own/n_comment": `{/**/}`, "own/n_single_quotes": `{'name':'a'}`, "own/i_big_number": `{"rate":1e400}`,
		"own/i_long_number": `{"rate":` + strings.Repeat("9", 100_000) + `}`, "own/i_many_fields": `{` + strings.Repeat(`"x":1,`, 50_000) + `"x":1}`,
	}
	at, ok := testdata.Path(t, "badinput/jsontestsuite_even.tar.gz")
	if !ok {
		return texts
	}
	f, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if path.Ext(h.Name) == ".json" {
			texts[h.Name] = string(data)
		}
	}
}

// Strings gives naughty strings: valid UTF-8, and some that are not.
func Strings(t testing.TB) []string {
	t.Helper()
	all := []string{"", " ", "undefined", "null", "0", "-1", "1e10", "NaN", "true", "\u202etest", "\ufeffa", "\u200b", "<script>alert(0)</script>", "Ω≈ç√∫", "👩🏽",
		"a\x00b", "\x00", "a\nb", "a\r\nX-Other: 1", "\x1b[31mred", "'; DROP TABLE accounts; --", "%2e%2e", "%00", "a?b#c", "a;b", "a&b=c", "+", "%", `\`, `"`, "{{7*7}}", "${x}", "%s%n%d",
		"\xff", "a\xc0\xaf", "\xed\xa0\x80", "e\u0301", "\u00e9", "ﬃ", "İı", strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("é", 64), strings.Repeat("é", 65), strings.Repeat("long ", 2000)}
	at, ok := testdata.Path(t, "badinput/blns_even.json")
	if !ok {
		return all
	}
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	var more []string
	if err := json.Unmarshal(data, &more); err != nil {
		t.Fatal(err)
	}
	return append(all, more...)
}

// Paths gives names that lead astray where they are used as paths.
func Paths(t testing.TB) []string {
	t.Helper()
	all := []string{".", "..", "/", "//", "../../etc/passwd", "/etc/passwd", `..\..\boot.ini`, "C:\\", "CON", "con.txt", "NUL", "LPT1", "~", "~root", "a/../b", "./a", "a/", "/a", "a//b",
		"%2e%2e%2fetc", "..%c0%af", "..;/a", "\x00", "a\x00.crpk", "-rf", "--help", ".hidden", "a:b", "\u2024\u2024/", "\uff0e\uff0e\uff0f", "A\u030a", strings.Repeat("../", 40) + "etc/passwd",
		strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a", 4097), strings.Repeat("a/", 500)}
	for _, name := range []string{"deep_traversal.txt", "directory_traversal.txt", "List_Of_File_To_Include.txt"} {
		at, ok := testdata.Path(t, "badinput/paths/"+name)
		if !ok {
			return all
		}
		data, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' || r == '\r' })...)
	}
	return all
}
