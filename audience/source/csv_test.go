package source

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"crier/audience/audiencetest"
	"crier/job"
)

func readCSV(text, column string) ([]uint32, error) {
	c, err := NewCSV(input(strings.NewReader(text)), column)
	if err != nil {
		return nil, err
	}
	return audiencetest.Read(context.Background(), c, 3)
}

func TestCSVForms(t *testing.T) {
	for _, c := range []struct {
		text, column string
		want         []uint32
	}{
		{"", "", nil},
		{"id\n", "", nil},
		{"id\n", "id", nil},
		{"1\n2\n", "", []uint32{1, 2}},
		{"1\r\n2", "1", []uint32{1, 2}},
		{"id,name\n1,a\n2,b\n", "", []uint32{1, 2}},
		{",id\n0,7\n1,8\n", "2", []uint32{7, 8}},
		{",id\n0,7\n1,8\n", "", []uint32{0, 1}},
		{"name,user id\nx, 7 \n\"y, z\nmore\",8\n", "user id", []uint32{7, 8}},
		{"a, id \n1,2", "id", []uint32{2}},
		{"\ufeffid,x\n4,5", "id", []uint32{4}},
		{"\ufeff\"id\",x\n\"4\",5", "id", []uint32{4}},
		{packed("id\n4\n5"), "", []uint32{4, 5}},
		{"4,x\n5\n\n6,y,z\n", "1", []uint32{4, 5, 6}},
		{"a,b,c\n1,2,3", "03", []uint32{3}},
	} {
		if got, err := readCSV(c.text, c.column); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q, column %q: %v, want %v (%v)", c.text, c.column, got, c.want, err)
		}
	}
}

func TestCSVErrorsSayWhere(t *testing.T) {
	for _, c := range []struct{ text, column, want string }{
		{"id\n-1", "", `in.txt: line 2, column 1: recipient "-1" is negative`},
		{"-1\n", "", `in.txt: line 1, column 1: recipient "-1" is negative`},
		{"name,id\nx,1\ny,4294967296", "id", `in.txt: line 3, column 3: recipient "4294967296" is over 4294967295`},
		{"id\n1\nid\n", "", `in.txt: line 3, column 1: recipient "id" is not a number`},
		{"id\n\"\"\n", "", `in.txt: line 2, column 1: recipient "" is not a number`},
		{"a\n1.0", "", `in.txt: line 2, column 1: recipient "1.0" is not a number`},
		{"a,b\n1,2\n3\n", "2", `in.txt: line 3, column 1: the record has 1 columns, column 2 is wanted`},
		{"a,b\n1,2", "c", `in.txt: line 1, column 1: the header has no column "c"`},
		{"a,b,a\n1,2,3", "a", `in.txt: line 1, column 5: the header has the column "a" twice`},
		{"1\n2\"\n", "", `in.txt: line 2, column 2: bare " in non-quoted-field`},
		{"1\n\"2", "", `in.txt: line 2, column 3: extraneous or missing " in quoted-field`},
		{"1\n\"" + strings.Repeat("x\n", maxRecord), "", `in.txt: line 2, column 1: a record is longer than 1 MiB; is a quote not closed?`},
		{strings.Repeat("x", 3*maxRecord), "", `in.txt: line 1, column 1: a record is longer than 1 MiB; is a quote not closed?`},
	} {
		_, err := readCSV(c.text, c.column)
		var where *SyntaxError
		if job.CodeOf(err) != job.CodeInvalid || !errors.As(err, &where) || where.Error() != c.want {
			t.Errorf("%.40q, column %q: %v, want %s", c.text, c.column, err, c.want)
		}
	}
	for _, column := range []string{"0", "00", "99999999999999999999"} {
		if _, err := readCSV("1", column); job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "column") {
			t.Errorf("column %q: %v", column, err)
		}
	}
}

// TestCSVAgreesWithTheWriter reads what encoding/csv writes, quotes and all.
func TestCSVAgreesWithTheWriter(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.UseCRLF = seed%2 == 0
		cell := func() string {
			return []string{"", "x", `a "quote"`, "two\nlines", "a,b", "12"}[rng.IntN(6)]
		}
		var want []uint32
		_ = w.Write([]string{"first", "id", "last"})
		for range 500 {
			want = append(want, rng.Uint32())
			_ = w.Write([]string{cell(), strconv.FormatUint(uint64(want[len(want)-1]), 10), cell()})
		}
		w.Flush()
		for _, column := range []string{"2", "id"} {
			if got, err := readCSV(b.String(), column); err != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d, column %s: %d ids, want %d (%v)", seed, column, len(got), len(want), err)
			}
		}
	}
}

// endless is a quote that is never closed.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	if e.read == 0 {
		b[0] = '"'
	}
	e.read += len(b)
	return len(b), nil
}

func TestCSVMemoryIsBounded(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	e := &endless{}
	c, err := NewCSV(input(e), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audiencetest.Read(context.Background(), c, 10); !errors.Is(err, errLongRecord) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 || e.read > 2<<20 {
		t.Errorf("%d bytes were allocated, %d read", n, e.read)
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("id,x\n1,2", "id")
	f.Add("1,2\n3,\"4\"", "2")
	f.Fuzz(func(t *testing.T, text, column string) {
		ids, err := readCSV(text, column)
		if err != nil && job.CodeOf(err) != job.CodeInvalid {
			t.Fatal(err)
		}
		if err == nil && strings.Count(text, "\n")+1 < len(ids) {
			t.Fatalf("%d ids in %q", len(ids), text)
		}
	})
}
