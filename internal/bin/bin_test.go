package bin_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// item is one value with the ways to write and to read it.
type item struct {
	kind  string
	value any
	write func(*bin.Writer)
	read  func(*bin.Reader) any
}

func genItem() *rapid.Generator[item] {
	text := rapid.OneOf(rapid.String(), rapid.Just(""), rapid.StringN(200, 300, -1))
	raw := rapid.SliceOfN(rapid.Byte(), 0, 300)
	return rapid.Custom(func(t *rapid.T) item {
		switch kind := rapid.SampledFrom([]string{"uint", "byte", "bool", "bytes", "string", "fixed", "journal", "incarnation", "ref", "job", "digest",
			"set", "span"}).Draw(t, "kind"); kind {
		case "uint":
			v := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 127, 128, 1 << 32, math.MaxUint64})).Draw(t, "v")
			return item{kind, v, func(w *bin.Writer) { w.Uint(v) }, func(r *bin.Reader) any { return r.Uint() }}
		case "byte":
			v := rapid.Byte().Draw(t, "v")
			return item{kind, v, func(w *bin.Writer) { w.Byte(v) }, func(r *bin.Reader) any { return r.Byte() }}
		case "bool":
			v := rapid.Bool().Draw(t, "v")
			return item{kind, v, func(w *bin.Writer) { w.Bool(v) }, func(r *bin.Reader) any { return r.Bool() }}
		case "bytes":
			v := raw.Draw(t, "v")
			return item{kind, string(v), func(w *bin.Writer) { w.Bytes(v) }, func(r *bin.Reader) any { return string(r.Bytes()) }}
		case "string":
			v := text.Draw(t, "v")
			return item{kind, v, func(w *bin.Writer) { w.String(v) }, func(r *bin.Reader) any { return r.String() }}
		case "fixed":
			v := raw.Draw(t, "v")
			return item{kind, string(v), func(w *bin.Writer) { w.Fixed(v) }, func(r *bin.Reader) any { return string(r.Fixed(len(v))) }}
		case "journal":
			v := job.Journal{Worker: text.Draw(t, "worker"), Incarnation: rapid.Uint32().Draw(t, "n")}
			return item{kind, v, func(w *bin.Writer) { w.Journal(v) }, func(r *bin.Reader) any { return r.Journal() }}
		case "incarnation":
			v := job.Incarnation{Gateway: text.Draw(t, "gateway"), Start: rapid.Uint32().Draw(t, "n")}
			return item{kind, v, func(w *bin.Writer) { w.Incarnation(v) }, func(r *bin.Reader) any { return r.Incarnation() }}
		case "ref":
			v := job.Ref{Journal: job.Journal{Worker: text.Draw(t, "worker"), Incarnation: rapid.Uint32().Draw(t, "n")},
				N: rapid.Uint64().Draw(t, "record"), Entry: rapid.Uint16().Draw(t, "entry")}
			return item{kind, v, func(w *bin.Writer) { w.Ref(v) }, func(r *bin.Reader) any { return r.Ref() }}
		case "job":
			v := job.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v"))
			return item{kind, v, func(w *bin.Writer) { w.Fixed(v[:]) }, func(r *bin.Reader) any { return r.JobID() }}
		case "digest":
			v := job.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "v"))
			return item{kind, v, func(w *bin.Writer) { w.Fixed(v[:]) }, func(r *bin.Reader) any { return r.Digest() }}
		case "span":
			lo := rapid.Uint64Range(0, 1<<32).Draw(t, "lo")
			v := job.Span{Lo: lo, Hi: rapid.Uint64Range(lo, 1<<32).Draw(t, "hi")}
			return item{kind, v, func(w *bin.Writer) { w.Span(v) }, func(r *bin.Reader) any { return r.Span() }}
		default:
			ids := rapid.SliceOfNDistinct(rapid.Uint32Range(5<<20, 6<<20-1), 0, 50, rapid.ID).Draw(t, "ids")
			slices.Sort(ids)
			set := idset.New(5)
			for _, id := range ids {
				set.Add(id)
			}
			return item{kind, fmt.Sprint("0005", ids), func(w *bin.Writer) { w.Set(set) }, func(r *bin.Reader) any {
				s := r.Set()
				return fmt.Sprint(s.Range.String(), slices.Collect(s.All()))
			}}
		}
	})
}

func readAll(b []byte, items []item) ([]any, error) {
	r := bin.NewReader(b)
	out := make([]any, len(items))
	for i, it := range items {
		out[i] = it.read(r)
	}
	return out, r.Err(true)
}

// What is written is read; a part of it, or more than it, is an error.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(genItem(), 0, 6).Draw(t, "items")
		var w bin.Writer
		for _, it := range items {
			it.write(&w)
		}
		got, err := readAll(w.B, items)
		if err != nil {
			t.Fatal(err)
		}
		for i, it := range items {
			if !reflect.DeepEqual(got[i], it.value) {
				t.Fatalf("%s %#v is read as %#v", it.kind, it.value, got[i])
			}
		}
		if _, err := readAll(append(slices.Clone(w.B), 0), items); !errors.Is(err, bin.ErrBytes) {
			t.Fatalf("a byte too many: %v", err)
		}
		if n := len(w.B); n > 0 {
			cut := rapid.IntRange(0, n-1).Draw(t, "cut")
			if _, err := readAll(w.B[:cut], items); !errors.Is(err, bin.ErrBytes) {
				t.Fatalf("%d of %d bytes: %v", cut, n, err)
			}
		}
	})
}

// After the first error nothing more is read, and the first error stays.
func TestReaderKeepsItsFirstError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(genItem(), 1, 6).Draw(t, "items")
		var w bin.Writer
		for _, it := range items {
			it.write(&w)
		}
		first := errors.New("the caller does not like it")
		r := bin.NewReader(w.B)
		r.Fail(first)
		r.Fail(errors.New("another"))
		for _, it := range items {
			var none bin.Reader
			if got, want := it.read(r), it.read(&none); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s after an error: %#v, want %#v", it.kind, got, want)
			}
		}
		if err := r.Err(true); !errors.Is(err, first) || !errors.Is(err, bin.ErrBytes) || r.Len() != 0 {
			t.Fatalf("%v, %d bytes left", err, r.Len())
		}
	})
}

func TestBadBytes(t *testing.T) {
	huge := bytes.Repeat([]byte{0xff}, 9)
	for _, c := range []struct {
		name string
		b    []byte
		read func(*bin.Reader)
	}{
		{"no integer", nil, func(r *bin.Reader) { r.Uint() }},
		{"half an integer", []byte{0x80}, func(r *bin.Reader) { r.Uint() }},
		{"an integer over 64 bits", append(huge, 2), func(r *bin.Reader) { r.Uint() }},
		{"over the limit", []byte{11}, func(r *bin.Reader) { r.Max(10) }},
		{"an incarnation over 32 bits", []byte{1, 'w', 0x80, 0x80, 0x80, 0x80, 0x10}, func(r *bin.Reader) { r.Journal() }},
		{"a start over 32 bits", []byte{1, 'g', 0x80, 0x80, 0x80, 0x80, 0x10}, func(r *bin.Reader) { r.Incarnation() }},
		{"an entry over 16 bits", []byte{1, 'w', 0, 0, 0x80, 0x80, 4}, func(r *bin.Reader) { r.Ref() }},
		{"a string longer than the bytes", []byte{3, 'a', 'b'}, func(r *bin.Reader) { _ = r.String() }},
		{"a string of 2^63 bytes", append(huge, 1), func(r *bin.Reader) { r.Bytes() }},
		{"a negative number of bytes", []byte{1, 2}, func(r *bin.Reader) { r.Fixed(-1) }},
		{"too few bytes", []byte{1, 2}, func(r *bin.Reader) { r.Fixed(3) }},
		{"a truth value of 2", []byte{2}, func(r *bin.Reader) { r.Bool() }},
		{"a span that ends before it starts", []byte{2, 1}, func(r *bin.Reader) { r.Span() }},
		{"a span that leaves the id space", []byte{0, 0x81, 0x80, 0x80, 0x80, 0x10}, func(r *bin.Reader) { r.Span() }},
		{"a set of range 4096", []byte{0, 0x10, 0, 0}, func(r *bin.Reader) { r.Set() }},
	} {
		r := bin.NewReader(c.b)
		c.read(r)
		if err := r.Err(false); !errors.Is(err, bin.ErrBytes) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A string is the caller's own; bytes are shared, but cannot grow into what follows.
func TestWhoOwnsWhatIsRead(t *testing.T) {
	var w bin.Writer
	w.String("text")
	w.Bytes([]byte("raw"))
	w.String("next")
	r := bin.NewReader(w.B)
	s, b := r.String(), r.Bytes()
	_ = append(b, "XXXXX"...)
	if next := r.String(); next != "next" {
		t.Errorf("an append to what was read changes what follows to %q", next)
	}
	clear(w.B)
	if s != "text" {
		t.Errorf("the string changed to %q with the reader's memory", s)
	}
}

// FuzzReader reads arbitrary bytes by an arbitrary program: no panic, no more
// memory than the bytes justify, and an error or bytes left that add up.
func FuzzReader(f *testing.F) {
	var w bin.Writer
	w.Ref(job.Ref{Journal: job.Journal{Worker: "w", Incarnation: 1}, N: 1 << 40, Entry: 7})
	w.Span(job.Span{Lo: 64, Hi: 1 << 32})
	set := idset.New(3)
	set.AddSpan(job.Span{Lo: 3<<20 + 5, Hi: 3<<20 + 300000})
	w.Set(set)
	w.String("text")
	w.Bool(true)
	w.Fixed(make([]byte, 48))
	whole := []byte{6, 10, 9, 4, 2, 7, 8}
	f.Add(whole, w.B)
	f.Add(whole, w.B[:len(w.B)/2])
	f.Add([]byte{3, 4, 5, 6}, append(bytes.Repeat([]byte{0xff}, 9), 1))
	f.Add([]byte{9, 9, 9}, []byte{0, 0, 0xff, 0xff, 2, 1, 0, 0, 0, 0xff, 0xff, 2, 1, 0})
	f.Add([]byte{9}, []byte{0, 0, 1, 0, 0, 0xff, 0xff})
	f.Add([]byte{0, 1, 2, 11}, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2})
	f.Fuzz(func(t *testing.T, program, b []byte) {
		if len(program) > 64 {
			return
		}
		kept := bytes.Clone(b)
		r := bin.NewReader(b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sets := run(r, program)
		runtime.ReadMemStats(&after)
		// A set takes at most its 16 containers of 8 KiB, an error a few words; the
		// rest is what tests and the runtime do beside it.
		if took, limit := after.TotalAlloc-before.TotalAlloc, uint64(4*len(b)+sets*(140<<10)+64<<10); took > limit {
			t.Errorf("reading %d bytes took %d bytes of memory, more than %d", len(b), took, limit)
		}
		if r.Len() > len(b) || r.Err(false) != nil && (r.Len() != 0 || !errors.Is(r.Err(false), bin.ErrBytes)) {
			t.Errorf("%d of %d bytes are left, error %v", r.Len(), len(b), r.Err(false))
		}
		if !bytes.Equal(b, kept) {
			t.Error("reading changed the bytes")
		}
	})
}

// run reads one value an instruction, and counts the sets among them.
func run(r *bin.Reader, program []byte) (sets int) {
	reads := []func(){
		func() { r.Uint() }, func() { r.Max(1 << 20) }, func() { r.Bool() }, func() { r.Bytes() }, func() { _ = r.String() },
		func() { r.Incarnation() }, func() { r.Ref() }, func() { r.JobID() }, func() { r.Digest() },
		func() { sets++; r.Set() }, func() { r.Span() }, func() { r.Fixed(len(program) - 4) },
	}
	for _, p := range program {
		reads[int(p)%len(reads)]()
	}
	return sets
}
