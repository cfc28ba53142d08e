package job_test

import (
	"encoding"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/job"
)

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// base32 writes an id as one large number, by way of math/big.
func base32(id job.ID) string {
	digits := new(big.Int).SetBytes(id[:]).Text(32)
	out := strings.Map(func(r rune) rune { return rune(crockford[strings.IndexRune("0123456789abcdefghijklmnopqrstuv", r)]) }, digits)
	return "job_" + strings.Repeat("0", 26-len(out)) + out
}

func TestIDIsANumberInBase32(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := job.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if got := id.String(); got != base32(id) {
			t.Fatalf("%x is written %s, want %s", id[:], got, base32(id))
		}
		roundTrip(t, id, job.ParseID)
		if back, err := job.ParseID("job_" + strings.ToLower(id.String()[4:])); err != nil || back != id {
			t.Fatalf("%s in lower case: %s, %v", id, back, err)
		}
	})
}

// The example of the ULID specification: its time is 2016-07-30T23:54:10.259Z.
func TestNewIDIsAULID(t *testing.T) {
	want, err := job.ParseID("job_01ARZ3NDEKTSV4RRFFQ69G5FAV")
	if err != nil {
		t.Fatal(err)
	}
	got := job.NewID(time.Date(2016, 7, 30, 23, 54, 10, 259e6, time.UTC), [10]byte(want[6:]))
	if got != want {
		t.Errorf("made %s, want %s", got, want)
	}
}

func TestIDsSortByTime(t *testing.T) {
	ms := rapid.Int64Range(0, 1<<48-1)
	random := rapid.SliceOfN(rapid.Byte(), 10, 10)
	rapid.Check(t, func(t *rapid.T) {
		a, b := ms.Draw(t, "a"), ms.Draw(t, "b")
		x := job.NewID(time.UnixMilli(a), [10]byte(random.Draw(t, "random a"))).String()
		y := job.NewID(time.UnixMilli(b), [10]byte(random.Draw(t, "random b"))).String()
		if a < b && x >= y || a > b && x <= y {
			t.Fatalf("%d is %s, %d is %s", a, x, b, y)
		}
	})
}

func TestKeyIDSeparatesAccountAndKey(t *testing.T) {
	seen := map[job.ID]string{}
	for _, c := range [][2]string{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"b", "a"}, {"a", "B"}, {"A", "b"}} {
		id := job.KeyID(c[0], c[1])
		if before, ok := seen[id]; ok {
			t.Errorf("account %q, key %q has the id of %s", c[0], c[1], before)
		}
		seen[id] = c[0] + "/" + c[1]
		if id != job.KeyID(c[0], c[1]) {
			t.Errorf("account %q, key %q has two ids", c[0], c[1])
		}
	}
}

// value is what a complete value type has.
type value interface {
	comparable
	String() string
	encoding.TextMarshaler
}

// roundTrip takes a value through its text, by each of the ways there are.
func roundTrip[T value](t *rapid.T, v T, parse func(string) (T, error)) {
	t.Helper()
	text, err := v.MarshalText()
	if err != nil {
		t.Fatalf("%v: MarshalText: %v", v, err)
	}
	if s := v.String(); s != string(text) {
		t.Fatalf("String is %q, MarshalText %q", s, text)
	}
	if parse != nil {
		if back, err := parse(string(text)); err != nil || back != v {
			t.Fatalf("%q is parsed as %v, %v", text, back, err)
		}
	}
	var back T
	if err := any(&back).(encoding.TextUnmarshaler).UnmarshalText(text); err != nil || back != v {
		t.Fatalf("%q is unmarshalled as %v, %v", text, back, err)
	}
	type box struct{ V T }
	b, err := json.Marshal(box{v})
	if err != nil {
		t.Fatalf("%v: JSON: %v", v, err)
	}
	var out box
	if err := json.Unmarshal(b, &out); err != nil || out.V != v {
		t.Fatalf("%s is decoded as %v, %v", b, out.V, err)
	}
}

func genName() *rapid.Generator[string] { return rapid.StringMatching(`[a-zA-Z0-9_-]{1,64}`) }

func TestValuesRoundTrip(t *testing.T) {
	enum := func(n int) *rapid.Generator[uint8] { return rapid.Uint8Range(0, uint8(n-1)) }
	rapid.Check(t, func(t *rapid.T) {
		roundTrip(t, job.Journal{Worker: genName().Draw(t, "worker"), Incarnation: rapid.Uint32().Draw(t, "n")}, job.ParseJournal)
		roundTrip(t, job.Incarnation{Gateway: genName().Draw(t, "gateway"), Start: rapid.Uint32().Draw(t, "n")}, job.ParseIncarnation)
		if d := job.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")); !d.IsZero() {
			roundTrip(t, d, job.ParseDigest)
		}
		roundTrip(t, job.State(enum(22).Draw(t, "state")), nil)
		roundTrip(t, job.SliceState(enum(10).Draw(t, "slice")), nil)
		roundTrip(t, job.Outcome(enum(10).Draw(t, "outcome")), nil)
		roundTrip(t, job.Reason(enum(13).Draw(t, "reason")), nil)
		roundTrip(t, job.Class(enum(2).Draw(t, "class")), nil)
		roundTrip(t, job.OnUnknown(enum(2).Draw(t, "on_unknown")), nil)
		r := job.Recipient(rapid.Uint32().Draw(t, "recipient"))
		if back, err := job.ParseRecipient(r.String()); err != nil || back != r {
			t.Fatalf("%s is parsed as %v, %v", r, back, err)
		}
		if lo := r.Range().Lo(); uint32(r)-lo >= 1<<20 || lo%(1<<20) != 0 {
			t.Fatalf("recipient %s is in the range that starts at %d", r, lo)
		}
	})
}

// A value that this version does not know is shown as what it is, and not read back.
func TestUnknownValuesAreShownAsWhatTheyAre(t *testing.T) {
	for want, v := range map[string]interface{ String() string }{"state(200)": job.State(200), "slice state(200)": job.SliceState(200),
		"outcome(200)": job.Outcome(200), "reason(200)": job.Reason(200), "class(200)": job.Class(200), "on_unknown(200)": job.OnUnknown(200),
		"class(2)": job.Class(2), "on_unknown(2)": job.OnUnknown(2)} {
		b, err := v.(encoding.TextMarshaler).MarshalText()
		if v.String() != want || string(b) != want || err != nil {
			t.Errorf("%s is shown as %q, written as %q, %v", want, v.String(), b, err)
		}
	}
	for _, into := range []encoding.TextUnmarshaler{new(job.Class), new(job.OnUnknown)} {
		if err := into.UnmarshalText([]byte("class(2)")); err == nil {
			t.Errorf("%T: class(2) is read", into)
		}
	}
}

// An unset value is written as nothing, and nothing is read as unset.
func TestUnsetValues(t *testing.T) {
	for _, v := range []interface {
		encoding.TextMarshaler
		IsZero() bool
	}{job.Journal{}, job.Incarnation{}, job.Digest{}} {
		b, err := v.MarshalText()
		if err != nil || len(b) > 0 || !v.IsZero() {
			t.Errorf("%T: %q, %v, zero: %v", v, b, err, v.IsZero())
		}
	}
	j, inc, d := job.Journal{Worker: "w"}, job.Incarnation{Gateway: "g"}, job.Digest{1}
	for _, p := range []encoding.TextUnmarshaler{&j, &inc, &d} {
		if err := p.UnmarshalText(nil); err != nil {
			t.Errorf("%T: %v", p, err)
		}
	}
	if !j.IsZero() || !inc.IsZero() || !d.IsZero() {
		t.Errorf("nothing is read as %v, %v, %v", j, inc, d)
	}
	if (job.ID{}).IsZero() == (job.ID{15: 1}).IsZero() || (job.Ref{}).IsZero() == (job.Ref{N: 1}).IsZero() {
		t.Error("IsZero does not tell an unset id or reference from a set one")
	}
}

func TestBadText(t *testing.T) {
	long := strings.Repeat("a", 65)
	for what, bad := range map[string][]string{
		"id": {"", "job_", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "job_01ARZ3NDEKTSV4RRFFQ69G5FA", "job_01ARZ3NDEKTSV4RRFFQ69G5FAVX",
			"job_81ARZ3NDEKTSV4RRFFQ69G5FAV", "job_01ARZ3NDEKTSV4RRFFQ69G5FAU", "job_01ARZ3NDEKTSV4RRFFQ69G5FA ", "JOB_01ARZ3NDEKTSV4RRFFQ69G5FAV"},
		"digest":     {"00", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("g", 64), " " + strings.Repeat("0", 63)},
		"journal":    {"w", "w.", ".1", "w.-1", "w.+1", "w.4294967296", "w.1 ", "w x.1", "a.b.1", "w.x", "w.01", "w.00", long + ".1", "é.1"},
		"state":      {"", "Sent", "sent ", "state(3)", "22"},
		"slice":      {"", "Sent", "slice state(99)"},
		"outcome":    {"", "Delivered", "handed-off", "outcome(10)"},
		"reason":     {"Relation", "reason(1)", "none"},
		"class":      {"Normal", "urgent", "1"},
		"on_unknown": {"drop", "Hold", "0"},
		"recipient":  {"", "-", "-1", "+1", "1.5", "4294967296", "99999999999999999999", " 1", "0x1", "1_0"},
	} {
		for _, s := range bad {
			if err := read(what, s); err == nil {
				t.Errorf("%s %q is taken", what, s)
			} else if s != "" && !strings.Contains(err.Error(), s) {
				t.Errorf("%s %q: the error does not show it: %v", what, s, err)
			}
		}
	}
}

// read reads a text as the named type.
func read(what, s string) error {
	var err error
	switch what {
	case "id":
		err = new(job.ID).UnmarshalText([]byte(s))
	case "digest":
		_, err = job.ParseDigest(s)
	case "journal":
		_, err = job.ParseJournal(s)
		if _, other := job.ParseIncarnation(s); (err == nil) != (other == nil) {
			return nil // an incarnation's name has the same form
		}
	case "recipient":
		_, err = job.ParseRecipient(s)
	default:
		err = map[string]encoding.TextUnmarshaler{"state": new(job.State), "slice": new(job.SliceState), "outcome": new(job.Outcome),
			"reason": new(job.Reason), "class": new(job.Class), "on_unknown": new(job.OnUnknown)}[what].UnmarshalText([]byte(s))
	}
	return err
}

// What is parsed is written as it was: a name has one spelling, for it is a subject.
func TestNamesHaveOneSpelling(t *testing.T) {
	near := rapid.StringOfN(rapid.SampledFrom([]rune("aZ-_.019+ é")), 0, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		s := near.Draw(t, "name")
		if j, err := job.ParseJournal(s); err == nil && j.String() != s {
			t.Fatalf("%q is taken as %q", s, j)
		}
		if job.ValidName(s) && strings.ContainsAny(s, ". *>") {
			t.Fatalf("%q is valid, but no token of a subject", s)
		}
	})
}

// References of a journal are in order by record, then entry.
func TestRefOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.Custom(func(t *rapid.T) job.Ref {
			return job.Ref{Journal: job.Journal{Worker: "w"}, N: rapid.Uint64Range(0, 3).Draw(t, "n"), Entry: rapid.Uint16Range(0, 3).Draw(t, "entry")}
		})
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		order := slices.Compare([]uint64{a.N, uint64(a.Entry)}, []uint64{b.N, uint64(b.Entry)})
		if a.Before(b) != (order < 0) {
			t.Fatalf("%s before %s: %v", a, b, a.Before(b))
		}
	})
}

func TestSpan(t *testing.T) {
	for _, c := range []struct {
		s     job.Span
		valid bool
		in    []job.Recipient
		out   []job.Recipient
	}{
		{job.Span{}, true, nil, []job.Recipient{0, 1}},
		{job.Span{Lo: 5, Hi: 7}, true, []job.Recipient{5, 6}, []job.Recipient{4, 7}},
		{job.Span{Lo: 0, Hi: 1 << 32}, true, []job.Recipient{0, 1<<32 - 1}, nil},
		{job.Span{Lo: 7, Hi: 5}, false, nil, []job.Recipient{5, 6, 7}},
		{job.Span{Lo: 0, Hi: 1<<32 + 1}, false, []job.Recipient{0}, nil},
	} {
		if err := c.s.Validate(); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.s, err)
		}
		if c.s.IsEmpty() != (len(c.in) == 0) {
			t.Errorf("%s is empty: %v", c.s, c.s.IsEmpty())
		}
		for _, r := range c.in {
			if !c.s.Has(r) {
				t.Errorf("%s has not %s", c.s, r)
			}
		}
		for _, r := range c.out {
			if c.s.Has(r) {
				t.Errorf("%s has %s", c.s, r)
			}
		}
	}
}
