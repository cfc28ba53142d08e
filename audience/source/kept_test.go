package source

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crier/audience"
	"crier/job"
)

// enveloped is a package as a server writes it.
func enveloped(t *testing.T, text string) []byte {
	t.Helper()
	dir := t.TempDir()
	_, err := audience.Build(t.Context(), dir, NewText(Input{Name: "x", File: "x", R: io.NopCloser(strings.NewReader(text))}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "x.crpk"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a server keeps is built like a file, under the name that it has there.
func TestBuildFromKeptSets(t *testing.T) {
	asked := map[string]string{}
	fetch := func(_ context.Context, from Format, of string, w io.Writer) error {
		asked[of] = string(from)
		_, err := w.Write(enveloped(t, "5\n70000\n"+map[string]string{"b": "4294967295\n"}[of]))
		return err
	}
	for _, from := range []Format{FormatFollowers, FormatSegment, FormatSuppression} {
		dir := t.TempDir()
		infos, err := Build(t.Context(), Config{From: from, Files: []string{"a", "b"}, Fetch: fetch}, dir)
		if err != nil || len(infos) != 2 || asked["a"] != string(from) || asked["b"] != string(from) {
			t.Fatalf("%s: %v, %v; asked for %v", from, infos, err, asked)
		}
		if a, b := contents(t, filepath.Join(dir, "a.crpk")), contents(t, filepath.Join(dir, "b.crpk")); !slices.Equal(a, []uint32{5, 70000}) ||
			!slices.Equal(b, []uint32{5, 70000, 4294967295}) {
			t.Errorf("%s: %v and %v", from, a, b)
		}
	}
	dir := t.TempDir()
	if infos, err := Build(t.Context(), Config{From: FormatSuppression, Files: []string{""}, Fetch: fetch}, dir); err != nil || infos[0].Name != "suppression" {
		t.Errorf("the global list: %v, %v", infos, err)
	}
}

// What does not come whole makes no package.
func TestKeptSetThatDoesNotCome(t *testing.T) {
	whole := enveloped(t, "1\n2\n3\n")
	bent := slices.Clone(whole)
	bent[len(bent)-1] ^= 1
	gone := errors.New("the connection is gone")
	for what, c := range map[string]struct {
		bytes []byte
		err   error
		want  string
	}{
		"nothing":        {nil, nil, "fetching segment vip: what came is no whole package"},
		"a part":         {whole[:len(whole)-1], nil, "fetching segment vip: what came is no whole package"},
		"one bit":        {bent, nil, "fetching segment vip: what came is no whole package"},
		"it breaks off":  {whole, gone, "fetching segment vip: the connection is gone"},
		"no such":        {nil, job.NotFound("there is no segment"), "there is no segment"},
		"something else": {[]byte("<html>"), nil, "fetching segment vip"},
	} {
		dir := filepath.Join(t.TempDir(), "out")
		_, err := Build(t.Context(), Config{From: FormatSegment, Files: []string{"vip"}, Fetch: func(_ context.Context, _ Format, _ string, w io.Writer) error {
			if _, err := w.Write(c.bytes); err != nil {
				return err
			}
			return c.err
		}}, dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", what, err)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("%s: left are %v", what, left)
		}
	}
	for what, cfg := range map[string]Config{
		"no server": {From: FormatSegment, Files: []string{"a"}}, "a column": {From: FormatSegment, Files: []string{"a"}, Column: "1"}, "nothing": {From: FormatFollowers},
	} {
		if what != "no server" {
			cfg.Fetch = func(context.Context, Format, string, io.Writer) error { return nil }
		}
		if err := cfg.Validate(); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}
