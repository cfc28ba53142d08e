package source

import (
	"archive/zip"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"crier/audience/audiencetest"
	"crier/internal/badinput"
	"crier/internal/testdata"
	"crier/job"
)

// TestBitmapsMutated: mutants of real bitmaps, of those with 64 bits, too, and of the
// malformed ones, are refused by the file's name, or read as the library reads them, in
// memory that the input justifies.
func TestBitmapsMutated(t *testing.T) {
	samples := map[string][]byte{}
	for _, sub := range []string{"valid32", "valid64"} {
		dir, ok := testdata.Path(t, "roaring/"+sub)
		if !ok {
			for seed := range uint64(3) {
				b, err := someBitmap(seed).ToBytes()
				if err != nil {
					t.Fatal(err)
				}
				samples["made "+string('0'+rune(seed))] = b
			}
			samples["made 64"] = java64(someBitmap(3))
			break
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) == 0 {
			t.Fatal(err)
		}
		for _, e := range entries {
			if samples[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	number := map[string]int{}
	for name, b := range samples {
		number[name] = badinput.Number(t, b)
	}
	for name, b := range hostile(t) {
		samples[name], number[name] = b, 200
	}
	accepted, tried := 0, 0
	for name, b := range samples {
		for m := range badinput.Mutants(number[name], b, samples["mixed.portable"]) {
			tried++
			took := badinput.Allocated(func() {
				ids, r := make([]uint32, 1000), NewRoaring(input(bytes.NewReader(m.Bytes)))
				for err := error(nil); err == nil; {
					_, err = r.NextBatch(context.Background(), ids)
				}
			})
			if limit := 2<<20 + 8*uint64(len(m.Bytes)); took > limit {
				t.Fatalf("%s, %s: %d bytes were allocated, more than %d", name, m, took, limit)
			}
			if checkRoaring(t, m.Bytes) {
				accepted++
			}
		}
	}
	t.Logf("%d mutants of %d samples, %d accepted", tried, len(samples), accepted)
	if accepted == 0 || accepted > tried/2 {
		t.Errorf("%d of %d mutants were accepted", accepted, tried)
	}
}

// TestFilesMutated: mutants of texts, CSV files, and both packed, are refused with a
// place in the file, or give ids.
func TestFilesMutated(t *testing.T) {
	text, table := "1,2\r\n3\n\n 4 ,5\n4294967295\n", "name,id\n\"a, b\",7\nc,8\n"
	zipped := makeZip(t, member{name: "a/b.txt", text: text}, member{name: "c.csv", text: table})
	accepted, tried := 0, 0
	hold := func(m badinput.Mutant, what string, ids []uint32, err error) {
		tried++
		if err == nil {
			accepted++
		} else if job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%s, %s: %v", what, m, err)
		}
		if len(ids) > 100*(len(m.Bytes)+1) {
			t.Errorf("%s, %s: %d ids", what, m, len(ids))
		}
	}
	for what, sample := range map[string]string{"text": text, "packed text": packed(text)} {
		for m := range badinput.Mutants(badinput.Most, []byte(sample), []byte(table)) {
			ids, err := audiencetest.Read(context.Background(), NewText(input(bytes.NewReader(m.Bytes))), 100)
			hold(m, what, ids, err)
		}
	}
	for what, sample := range map[string]string{"CSV": table, "packed CSV": packed(table)} {
		for m := range badinput.Mutants(badinput.Most, []byte(sample), []byte(text)) {
			ids, err := readCSV(string(m.Bytes), "id")
			hold(m, what, ids, err)
		}
	}
	for m := range badinput.Mutants(badinput.Most, []byte(zipped), []byte(text)) {
		var ids []uint32
		members, err := readZip("x.zip", bytes.NewReader(m.Bytes), int64(len(m.Bytes)))
		for _, f := range members {
			got, e := readMember(f)
			if err == nil {
				err = e
			}
			ids = append(ids, got...)
		}
		hold(m, "zip", ids, err)
	}
	t.Logf("%d mutants, %d accepted", tried, accepted)
	if accepted == 0 {
		t.Error("no mutant was accepted: the samples are no good ones")
	}
}

func readMember(f *zip.File) ([]uint32, error) {
	s, err := openMember(Input{Name: "p", File: "x.zip:" + f.Name}, f, "")
	if err != nil {
		return nil, err
	}
	return audiencetest.Read(context.Background(), s, 100)
}
