package out_test

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"pgregory.net/rapid"

	"crier/cmd/crier/out"
)

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 9999: "9,999", 10_000: "10.0k", 99_949: "99.9k", 99_950: "100k",
		999_499: "999k", 999_500: "1.00M", 1_000_000: "1.00M", 12_345_678: "12.3M", 4_294_967_296: "4.29G", 1 << 63: "9.22E"} {
		if got := out.Count(n); got != want {
			t.Errorf("Count(%d) = %s; want %s", n, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10 << 10: "10.0 KiB", 1023 << 10: "1023 KiB", 1<<20 - 1: "1.00 MiB", 10 << 30: "10.0 GiB"} {
		if got := out.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s; want %s", n, got, want)
		}
	}
}

// What is not whole never reads as whole.
func TestPercent(t *testing.T) {
	for _, c := range []struct {
		part, whole uint64
		want        string
	}{{0, 0, "100%"}, {0, 5, "0.0%"}, {1, 1000, "0.1%"}, {1, 2, "50%"}, {995, 1000, "99.5%"}, {999_999_999, 1_000_000_000, "99.9%"}, {7, 7, "100%"}} {
		if got := out.Percent(c.part, c.whole); got != c.want {
			t.Errorf("Percent(%d, %d) = %s; want %s", c.part, c.whole, got, c.want)
		}
	}
}

func TestExact(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 20_001: "20,001", 1_234_567: "1,234,567", math.MaxUint64: "18,446,744,073,709,551,615"} {
		if got := out.Exact(n); got != want {
			t.Errorf("%d is %s; want %s", n, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	p := &out.Printer{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for d, want := range map[time.Duration]string{0: "0s ago", 59 * time.Second: "59s ago", 61 * time.Second: "1m1s ago", 2 * time.Hour: "2h ago",
		26 * time.Hour: "1d2h ago", -7 * 24 * time.Hour: "in 7d", -(7*24*time.Hour - time.Second): "in 7d", -(6*24*time.Hour + 22*time.Hour): "in 6d22h", -(time.Hour - time.Millisecond): "in 1h", -1500 * time.Millisecond: "in 2s", -90 * time.Minute: "in 1h30m"} {
		if got := p.Ago(p.Now.Add(-d)); got != want {
			t.Errorf("%v: %s; want %s", d, got, want)
		}
	}
	if got := p.Ago(time.Time{}); got != "-" {
		t.Errorf("no time: %s", got)
	}
}

type thing struct {
	Name  string            `json:"name"`
	Big   uint64            `json:"big"`
	Empty []string          `json:"empty"`
	Map   map[string]uint64 `json:"map"`
}

func render(t *testing.T, f out.Format, v any) string {
	t.Helper()
	var b bytes.Buffer
	if err := (&out.Printer{W: &b, Format: f}).Print(v, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFormatsAreRaw(t *testing.T) {
	v := []thing{{"007", 18446744073709551615, nil, map[string]uint64{"b": 1, "a": 2}}, {"yes: #x", 1, []string{"2026-01-02T03:04:05Z"}, nil}}
	for f, want := range map[out.Format]string{
		out.Lines: `{"name":"007","big":18446744073709551615,"empty":[],"map":{"a":2,"b":1}}
{"name":"yes: #x","big":1,"empty":["2026-01-02T03:04:05Z"],"map":{}}
`,
		out.JSON: `[
  {
    "name": "007",
    "big": 18446744073709551615,
    "empty": [],
    "map": {
      "a": 2,
      "b": 1
    }
  },
  {
    "name": "yes: #x",
    "big": 1,
    "empty": [
      "2026-01-02T03:04:05Z"
    ],
    "map": {}
  }
]
`,
		out.YAML: `- name: "007"
  big: 18446744073709551615
  empty: []
  map:
    a: 2
    b: 1
- name: 'yes: #x'
  big: 1
  empty:
    - "2026-01-02T03:04:05Z"
  map: {}
`,
	} {
		if got := render(t, f, v); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", f, got, want)
		}
	}
	if got := render(t, out.Lines, v[1]); !strings.HasPrefix(got, `{"name":"yes: #x"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("one object as lines: %s", got)
	}
}

// No cell can bring more than text to a terminal, and no row is wider than the
// width as long as the columns that do not give way fit.
func TestTablesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(60, 200).Draw(t, "width")
		g := out.Grid{Columns: []out.Column{{Name: "id", Right: true}, {Name: "name", Flex: 1}, {Name: "note", Wide: true}, {Name: "more", Flex: 2}}}
		for range rapid.IntRange(1, 5).Draw(t, "rows") {
			g.Rows = append(g.Rows, []string{"12345", rapid.String().Draw(t, "name"), rapid.String().Draw(t, "note"), rapid.String().Draw(t, "more")})
		}
		p := &out.Printer{Format: out.Table, Width: width}
		got := p.Render(g)
		for l := range strings.Lines(got) {
			l = strings.TrimSuffix(l, "\n")
			if !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("the row %q is not text", l)
			}
			if w := text.StringWidth(l); w > width {
				t.Fatalf("the row %q has %d columns of %d", l, w, width)
			}
		}
		if n := strings.Count(got, "\n"); n != len(g.Rows)+1 {
			t.Fatalf("%d lines for %d rows:\n%s", n, len(g.Rows), got)
		}
	})
}

func TestColor(t *testing.T) {
	g := func() out.Grid {
		return out.Grid{States: []string{"state"}, Rows: [][]string{{"state", "sent"}, {"parked", "no"}}}
	}
	if got := (&out.Printer{}).Render(g()); strings.Contains(got, "\x1b") {
		t.Errorf("colour without being asked: %q", got)
	}
	if got := (&out.Printer{Color: true}).Render(g()); !strings.Contains(got, "\x1b[32msent\x1b[0m") {
		t.Errorf("no colour: %q", got)
	} else if strings.Count(got, "\x1b") != 2 {
		t.Errorf("what is no state has a colour: %q", got)
	}
	list := out.Grid{Columns: []out.Column{{Name: "name"}, {Name: "state", State: true}}, Rows: [][]string{{"failed", "sent"}}}
	if got := (&out.Printer{Color: true}).Render(list); !strings.Contains(got, "failed  \x1b[32msent\x1b[0m") {
		t.Errorf("the list is %q", got)
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := out.NewProgress(&b, 80)
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 11 {
		if err := p.Update(start.Add(time.Duration(i)*time.Second), "sending", uint64(i)*100_000, 1_000_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Done(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\r")[1:]
	for i, want := range map[int]string{
		0:  "sending  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  0/1.00M  0.0%\x1b[K",
		4:  "sending  ██████████████░░░░░░░░░░░░░░░░░░░░░░░  400k/1.00M  40%  100k/s  ETA 6s\x1b[K",
		10: "sending  ████████████████████████████████████████  1.00M/1.00M  100%  100k/s\x1b[K",
	} {
		if lines[i] != want {
			t.Errorf("line %d:\n%q\nwant\n%q", i, lines[i], want)
		}
	}
	for _, l := range lines {
		if w := text.StringWidthWithoutEscSequences(l); w >= 80 {
			t.Errorf("%q has %d columns", l, w)
		}
	}
}

func TestNarrowProgress(t *testing.T) {
	var b bytes.Buffer
	p := out.NewProgress(&b, 20)
	if err := p.Update(time.Time{}, "sending", 1, 2); err != nil {
		t.Fatal(err)
	}
	if w := text.StringWidthWithoutEscSequences(strings.TrimPrefix(b.String(), "\r")); w >= 20 {
		t.Errorf("%q has %d columns of 20", b.String(), w)
	}
	b.Reset()
	if err := out.NewProgress(&b, 20).Done(); err != nil || b.Len() != 0 {
		t.Errorf("a line that was never drawn was ended: %q, %v", b.String(), err)
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range out.Formats() {
		if got, err := out.ParseFormat(f); err != nil || string(got) != f {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := out.ParseFormat("xml"); err == nil {
		t.Error("xml was accepted")
	}
}

// Folding keeps every word whole and in order, and no line is wider than it need be.
func TestFold(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{{"", 5, ""}, {"as it is", 0, "as it is"}, {"as  it is", 9, "as  it is"}, {"one two three", 7, "one two\nthree"}, {"a verylongword b", 4, "a\nverylongword\nb"},
		{"日本 の ニュース", 7, "日本 の\nニュース"}, {"first line\nsecond", 6, "first\nline\nsecond"}} {
		if got := out.Fold(c.text, c.width); got != c.want {
			t.Errorf("%q in %d columns is %q, want %q", c.text, c.width, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-z]{1,12}`)).Draw(t, "words")
		width := rapid.IntRange(1, 30).Draw(t, "width")
		got := out.Fold(strings.Join(words, " "), width)
		if strings.Join(strings.Fields(got), " ") != strings.Join(words, " ") {
			t.Fatalf("the words are %q", got)
		}
		lines := strings.Split(got, "\n")
		for i, l := range lines {
			if len(l) > width && strings.Contains(l, " ") {
				t.Fatalf("%q is too wide", l)
			}
			if i > 0 && len(lines[i-1])+1+len(strings.Fields(l)[0]) <= width {
				t.Fatalf("%q has room for the first word of %q", lines[i-1], l)
			}
		}
	})
}

// A column that folds keeps all of its text within the width.
func TestAColumnThatFolds(t *testing.T) {
	p := &out.Printer{Width: 24}
	got := p.Render(out.Grid{Columns: []out.Column{{Name: "name"}, {Name: "what", Flex: 1, Wrap: true}},
		Rows: [][]string{{"a", "one two three four five six"}, {"b", "seven"}}})
	if want := "NAME  WHAT\na     one two three four\n      five six\nb     seven\n"; got != want {
		t.Errorf("it is\n%swant\n%s", got, want)
	}
	got = p.Render(out.Grid{Rows: [][]string{{"token", strings.Repeat("x", 40)}, {"why", "one two three four five six"}}})
	if want := "token  " + strings.Repeat("x", 40) + "\nwhy    one two three\n       four five six\n"; got != want {
		t.Errorf("it is\n%swant\n%s", got, want)
	}
	got = p.Render(out.Grid{Rows: [][]string{{"package", strings.Repeat("x", 22)}, {"why", "one two three"}}})
	if want := "package\n  " + strings.Repeat("x", 22) + "\nwhy      one two three\n"; got != want {
		t.Errorf("a word that has room below its name: it is\n%swant\n%s", got, want)
	}
}

// A column that may stands below its row if there is no room, also if the row has more lines.
func TestBelow(t *testing.T) {
	grid := out.Grid{Columns: []out.Column{{Name: "why", Below: true}, {Name: "name"}, {Name: "what", Flex: 1, Wrap: true}},
		Rows: [][]string{{"because of something", "a", "one two three four five six"}, {"", "b", "x"}, {"a short word", "c", "y"}}}
	for width, want := range map[int]string{
		24: "NAME  WHAT\na     one two three four\n      five six\n  why: because of\n    something\nb     x\nc     y\n  why: a short word\n",
		60: "WHY                   NAME  WHAT\nbecause of something  a     one two three four five six\n                      b     x\na short word          c     y\n",
	} {
		if got := (&out.Printer{Width: width}).Render(grid); got != want {
			t.Errorf("at %d columns it is\n%swant\n%s", width, got, want)
		}
	}
}

// A state that goes on in a further line has its colour in both, and nothing beside it has.
func TestColorOfLines(t *testing.T) {
	p := &out.Printer{Width: 16, Color: true}
	got := p.Render(out.Grid{Columns: []out.Column{{Name: "id"}, {Name: "state", State: true, Flex: 2, Wrap: true}}, Rows: [][]string{{"job_1", "sent (withdrawal)"}}})
	if want := "ID     STATE\njob_1  \x1b[32msent\x1b[0m\n       \x1b[32m(withdrawal)\x1b[0m\n"; got != want {
		t.Errorf("it is\n%q, want\n%q", got, want)
	}
}

// Columns for which there was no room are named, in their order, for the last table.
func TestLeftOut(t *testing.T) {
	grid := func(*out.Printer) out.Grid {
		return out.Grid{Columns: []out.Column{{Name: "id"}, {Name: "note", Wide: true}, {Name: "name"}, {Name: "why", Wide: true}},
			Rows: [][]string{{"1", "twelve words", "a", "because of it"}}}
	}
	for _, c := range []struct {
		width int
		want  string
	}{{0, ""}, {80, ""}, {24, "WHY"}, {12, "NOTE WHY"}, {80, ""}} {
		p := &out.Printer{W: io.Discard, Width: c.width}
		for range 2 { // it is that of the last one
			if err := p.Print(nil, grid); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(p.LeftOut(), " "); got != c.want {
			t.Errorf("at %d columns it leaves out %q, want %q", c.width, got, c.want)
		}
	}
}
