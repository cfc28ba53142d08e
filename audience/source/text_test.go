package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"crier/audience/audiencetest"
	"crier/job"
)

func input(r io.Reader) Input { return Input{Name: "p", File: "in.txt", R: io.NopCloser(r)} }

// naive reads an id text by its description, all at once.
func naive(text string) (ids []uint32, ok bool) {
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.SplitSeq(text, "\n") {
		parts := strings.Split(line, ",")
		for i, part := range parts {
			part = strings.Trim(part, " \t\r")
			if part == "" && i == len(parts)-1 && (i == 0 || len(strings.Trim(parts[i-1], " \t\r")) > 0) {
				continue // an empty line, or a comma at its end
			}
			id, err := strconv.ParseUint(part, 10, 32)
			if err != nil || len(part) > maxToken {
				return nil, false
			}
			ids = append(ids, uint32(id))
		}
	}
	return ids, true
}

func packed(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

func TestTextForms(t *testing.T) {
	for text, want := range map[string][]uint32{
		"":                            nil,
		"\n\r\n \t\n":                 nil,
		"1":                           {1},
		"1\n2\n":                      {1, 2},
		"1\r\n2\r\n\r\n3\r":           {1, 2, 3},
		"3,1,2":                       {3, 1, 2},
		"3,1,\n2,\r\n":                {3, 1, 2},
		" 7 , 8\t,9 \n\t10":           {7, 8, 9, 10},
		"0,4294967295,0000000001,007": {0, 1<<32 - 1, 1, 7},
		strings.Repeat("0", 63) + "5": {5},
		"\ufeff5\n6":                  {5, 6},
		packed("5\n6,7\n"):            {5, 6, 7},
		packed("\ufeff5"):             {5},
	} {
		for _, n := range []int{1, 2, 100} {
			if got, err := audiencetest.Read(context.Background(), NewText(input(strings.NewReader(text))), n); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q in batches of %d: %v, want %v (%v)", text, n, got, want, err)
			}
		}
	}
}

func TestTextErrorsSayWhere(t *testing.T) {
	long := strings.Repeat("1\n", bufferSize) + strings.Repeat("22,", bufferSize)
	for text, want := range map[string]string{
		"-5":                            `in.txt: line 1, column 1: recipient "-5" is negative`,
		"1\n2, -5":                      `in.txt: line 2, column 4: recipient "-5" is negative`,
		"1\r\n\r\n4294967296\r\n":       `in.txt: line 3, column 1: recipient "4294967296" is over 4294967295`,
		"99999999999999999999999999999": `in.txt: line 1, column 1: recipient "99999999999999999999999999999" is over 4294967295`,
		"18446744073709551617":          `in.txt: line 1, column 1: recipient "18446744073709551617" is over 4294967295`,
		"12,x9":                         `in.txt: line 1, column 4: recipient "x9" is not a number`,
		"12,9x,1":                       `in.txt: line 1, column 4: recipient "9x" is not a number`,
		"+5":                            `in.txt: line 1, column 1: recipient "+5" is not a number`,
		"0x10":                          `in.txt: line 1, column 1: recipient "0x10" is not a number`,
		"1.5":                           `in.txt: line 1, column 1: recipient "1.5" is not a number`,
		"1_000":                         `in.txt: line 1, column 1: recipient "1_000" is not a number`,
		"id\n5":                         `in.txt: line 1, column 1: recipient "id" is not a number`,
		"1 2":                           `in.txt: line 1, column 3: a comma or the end of the line is missing before this`,
		"1\r2":                          `in.txt: line 1, column 3: a comma or the end of the line is missing before this`,
		"1;2":                           `in.txt: line 1, column 1: recipient "1;2" is not a number`,
		"1,,2":                          `in.txt: line 1, column 3: an id is missing before the comma`,
		"1\n,2":                         `in.txt: line 2, column 1: an id is missing before the comma`,
		"\ufeff1,x":                     `in.txt: line 1, column 3: recipient "x" is not a number`,
		"1\n\x00":                       `in.txt: line 2, column 1: recipient "\x00" is not a number`,
		"1\n٣":                          `in.txt: line 2, column 1: recipient "٣" is not a number`,
		long + "x":                      fmt.Sprintf(`in.txt: line %d, column %d: recipient "x" is not a number`, bufferSize+1, 3*bufferSize+1),
		strings.Repeat("0", 64) + "5":   `in.txt: line 1, column 1: recipient "0000000000000000000000000000000000000000…" has more than 64 characters`,
		strings.Repeat("y", 1<<20):      `in.txt: line 1, column 1: recipient "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…" has more than 64 characters`,
	} {
		_, err := audiencetest.Read(context.Background(), NewText(input(strings.NewReader(text))), 1000)
		var where *SyntaxError
		if job.CodeOf(err) != job.CodeInvalid || !errors.As(err, &where) || where.Error() != want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// Lines that are left out count as lines, also of a gzipped text, whatever they hold.
func TestTextSkip(t *testing.T) {
	for _, c := range []struct {
		text string
		skip int
		want []uint32
		err  string
	}{
		{"id\n5\n6\n", 1, []uint32{5, 6}, ""},
		{"5\n6", 0, []uint32{5, 6}, ""},
		{"a\r\n,,\n7", 2, []uint32{7}, ""},
		{packed("id\n5\n6\n"), 1, []uint32{5, 6}, ""},
		{packed("\ufeffid\n5"), 1, []uint32{5}, ""},
		{strings.Repeat("y", 3*bufferSize) + "\n5", 1, []uint32{5}, ""},
		{strings.Repeat("y", bufferSize), 1, nil, ""},
		{"id", 1, nil, ""},
		{"id\n", 1, nil, ""},
		{"id\n5\n6\n7,x\n", 2, nil, `in.txt: line 4, column 3: recipient "x" is not a number`},
		{"id\n", 2, nil, "the file has fewer lines than are to be skipped"},
		{"", 1, nil, "the file has fewer lines than are to be skipped"},
	} {
		in := input(strings.NewReader(c.text))
		in.Skip = c.skip
		got, err := audiencetest.Read(context.Background(), NewText(in), 100)
		if c.err == "" && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%.40q without %d lines: %v, want %v (%v)", c.text, c.skip, got, c.want, err)
		}
		if c.err != "" && (job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%.40q without %d lines: %v, want %s", c.text, c.skip, err, c.err)
		}
	}
}

func TestDamagedGzip(t *testing.T) {
	whole := packed(strings.Repeat("123456\n", 10000))
	for _, text := range []string{whole[:len(whole)-1], whole[:5], whole[:len(whole)-8] + "12345678", whole[:30] + "\xff\xff\xff" + whole[33:]} {
		if _, err := audiencetest.Read(context.Background(), NewText(input(strings.NewReader(text))), 1000); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%d of %d bytes: %v", len(text), len(whole), err)
		}
	}
}

// randomText makes a text with all that is allowed, and now and then with more.
func randomText(rng *rand.Rand, n int, bad bool) string {
	var b strings.Builder
	pieces := []string{"\n", "\n", "\n", ",", ",", "\r\n", " ,", ", ", "\t,\t", "\n\n", ",\n"}
	wrong := []string{",,", " ", "-", "x", "99999999999", "\r"}
	for range n {
		b.WriteString(strconv.FormatUint(uint64(rng.Uint32()>>rng.Uint32N(32)), 10))
		if bad && rng.IntN(2*n) == 0 {
			b.WriteString(wrong[rng.IntN(len(wrong))])
		}
		b.WriteString(pieces[rng.IntN(len(pieces))])
	}
	return b.String()
}

// TestTextAgreesWithTheNaiveReader reads texts longer than the buffer, cut in
// pieces in different ways.
func TestTextAgreesWithTheNaiveReader(t *testing.T) {
	refused := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rng.IntN(500)
		if seed%50 == 0 {
			n = 100000
		}
		text := randomText(rng, n, seed%2 == 0)
		want, ok := naive(text)
		var r io.Reader = strings.NewReader(text)
		switch seed % 3 {
		case 1:
			r = iotest.OneByteReader(r)
		case 2:
			r = iotest.DataErrReader(iotest.HalfReader(r))
		}
		got, err := audiencetest.Read(context.Background(), NewText(input(r)), 1+rng.IntN(3000))
		if (err == nil) != ok || ok && !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d ids, want %d (%v): %.80q", seed, len(got), len(want), err, text)
		}
		if !ok {
			refused++
		}
	}
	if refused < 15 {
		t.Errorf("only %d texts were bad", refused)
	}
}

func TestTextPassesErrorsOfReadingOn(t *testing.T) {
	broken := errors.New("the disk is broken")
	_, err := audiencetest.Read(context.Background(), NewText(input(io.MultiReader(strings.NewReader("1\n2\n"), iotest.ErrReader(broken)))), 10)
	if !errors.Is(err, broken) || job.CodeOf(err) != "" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewText(input(strings.NewReader("1"))).NextBatch(ctx, make([]uint32, 5)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"1,2\r\n3", " 1 ,\n\n2,", "-1", "1,,2", "4294967296", "00000000000000000000009", "\ufeff1", "1 2", packed("1,2")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "\x1f\x8b") {
			_, _ = audiencetest.Read(context.Background(), NewText(input(strings.NewReader(text))), 100)
			return
		}
		want, ok := naive(text)
		got, err := audiencetest.Read(context.Background(), NewText(input(strings.NewReader(text))), 3)
		if (err == nil) != ok || ok && !slices.Equal(got, want) {
			t.Fatalf("%v, want %v, %v (%v)", got, want, ok, err)
		}
		if err != nil && job.CodeOf(err) != job.CodeInvalid {
			t.Fatal(err)
		}
	})
}

func BenchmarkText(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, mask := range map[string]uint32{"ten digits": 1<<32 - 1, "seven digits": 1<<23 - 1} {
		var text []byte
		const n = 2_000_000
		for range n {
			text = strconv.AppendUint(text, uint64(rng.Uint32()&mask), 10)
			text = append(text, '\n')
		}
		b.Run(name, func(b *testing.B) {
			ids := make([]uint32, 1<<16)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s := NewText(input(bytes.NewReader(text)))
				for {
					if _, err := s.NextBatch(context.Background(), ids); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mids/s")
		})
	}
}
