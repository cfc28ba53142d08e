package report_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/ledger"
	"crier/state/report"
)

// random makes records of a few journals about a few jobs and ranges.
func random(rng *rand.Rand, n int) []ledger.Stored {
	var out []ledger.Stored
	seq := uint64(rng.IntN(1000) + 1)
	for i := range n {
		j := job.Journal{Worker: []string{"w", "a-much-longer-name-of-a-worker"}[rng.IntN(2)], Incarnation: rng.Uint32N(3)}
		rec := ledger.Record{Journal: j, N: rng.Uint64N(1 << 40)}
		for range 1 + rng.IntN(5) {
			id, r := job.ID{byte(rng.IntN(3) + 1)}, job.Range(rng.IntN(3)*1000)
			set := idset.New(r)
			for range rng.IntN(50) {
				set.Add(r.Lo() + rng.Uint32N(1<<20))
			}
			rec.Entries = append(rec.Entries, []ledger.Entry{
				ledger.Open{Boot: "b"}, ledger.Seal{},
				&ledger.Outcome{Job: id, Range: r, Outcome: job.Expired, Set: set},
				&ledger.Reserve{Job: id, Span: job.Span{Lo: uint64(r.Lo()) + 64, Hi: uint64(r.Lo()) + 128}, Rest: job.Parked},
				&ledger.Doubt{Job: id, Range: r, Inc: job.Incarnation{Gateway: "g"}},
			}[rng.IntN(5)])
		}
		seq += 1 + rng.Uint64N(3)
		out = append(out, ledger.Stored{Seq: seq, Subject: ledger.JournalSubject(j), Data: rec.Bytes(), Time: time.Unix(int64(i), 5).UTC()})
	}
	return out
}

func written(t interface{ Fatal(...any) }, records []ledger.Stored) []byte {
	var b bytes.Buffer
	w, err := report.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range records {
		if err := w.Add(st); err != nil {
			t.Fatal(err)
		}
	}
	size := w.Bytes()
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	if uint64(b.Len()) != size+16 {
		t.Fatal("the writer misjudges its size")
	}
	return b.Bytes()
}

// key says all of an entry that a reader can see.
func key(e report.Entry) string {
	return fmt.Sprint(e.Seq, e.Ref, e.Time.UnixNano(), fmt.Sprintf("%x", ledger.EncodeEntry(e.Entry)))
}

// naive finds entries by decoding all records.
func naive(t interface{ Fatal(...any) }, records []ledger.Stored, want func(e ledger.Entry) bool) (out []string) {
	for _, st := range records {
		rec, err := ledger.ParseRecord(st.Data)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range rec.Entries {
			if want(e) {
				out = append(out, key(report.Entry{Seq: st.Seq, Time: st.Time, Entry: e, Ref: job.Ref{Journal: rec.Journal, N: rec.N, Entry: uint16(i)}}))
			}
		}
	}
	return out
}

func about(e ledger.Entry) (job.ID, job.Range) {
	switch e := e.(type) {
	case *ledger.Outcome:
		return e.Job, e.Range
	case *ledger.Reserve:
		return e.Job, e.Range()
	case *ledger.Doubt:
		return e.Job, e.Range
	}
	return job.ID{}, 0
}

func TestAReportHasWhatWasInTheLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		records := random(rng, rapid.IntRange(0, 40).Draw(t, "records"))
		b := written(t, records)
		r, err := report.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		if err := r.Records(func(st ledger.Stored) error {
			if want := records[i]; st.Seq != want.Seq || st.Subject != want.Subject || !st.Time.Equal(want.Time) || !bytes.Equal(st.Data, want.Data) {
				t.Fatalf("record %d is %+v, want %+v", i, st, want)
			}
			i++
			return nil
		}); err != nil || i != len(records) {
			t.Fatalf("%d of %d records, %v", i, len(records), err)
		}
		for n := range 4 {
			id := job.ID{byte(n + 1)}
			var ranges []job.Range
			for _, rg := range []job.Range{0, 1, 1000, 2000, job.Ranges - 1} {
				var got []string
				err := r.Entries(id, rg, func(e report.Entry) error { got = append(got, key(e)); return nil })
				want := naive(t, records, func(e ledger.Entry) bool { j, x := about(e); return j == id && x == rg })
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("entries of %s in %s: %v, %v; want %v", id, rg, got, err, want)
				}
				if len(want) > 0 {
					ranges = append(ranges, rg)
				}
			}
			if got, err := r.Ranges(id); err != nil || !slices.Equal(got, ranges) {
				t.Fatalf("ranges of %s: %v, %v; want %v", id, got, err, ranges)
			}
		}
		var voids []string
		err = r.Voids(func(e report.Entry) error { voids = append(voids, key(e)); return nil })
		want := naive(t, records, func(e ledger.Entry) bool {
			_, ok := e.(ledger.Seal)
			return ok
		})
		if err != nil || !slices.Equal(voids, want) {
			t.Fatalf("seals: %v, %v; want %v", voids, err, want)
		}
	})
}

// readAll reads everything of a report that may be damaged.
func readAll(b []byte) error {
	r, err := report.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	nothing := func(report.Entry) error { return nil }
	err = errors.Join(r.Voids(nothing), r.Records(func(ledger.Stored) error { return nil }))
	for n := range 4 {
		for _, rg := range []job.Range{0, 1000, 2000} {
			err = errors.Join(err, r.Entries(job.ID{byte(n)}, rg, nothing))
		}
		_, e := r.Ranges(job.ID{byte(n)})
		err = errors.Join(err, e)
	}
	return err
}

// FuzzOpen asks that bytes which are no report are refused, and hurt nobody.
func FuzzOpen(f *testing.F) {
	b := written(f, random(rand.New(rand.NewPCG(1, 2)), 20))
	f.Add(b)
	for i := 0; i < len(b); i += 7 {
		c := bytes.Clone(b)
		c[i] ^= 0x11
		f.Add(c)
		f.Add(b[:i])
	}
	f.Fuzz(func(_ *testing.T, b []byte) { _ = readAll(b) })
}

// TestARowOfNoRange: behind the last number that a range can have comes the first again.
func TestARowOfNoRange(t *testing.T) {
	id, j := job.ID{1}, job.Journal{Worker: "w", Incarnation: 1}
	rec := ledger.Record{Journal: j, Entries: []ledger.Entry{&ledger.Doubt{Job: id, Range: 7}}}
	b := written(t, []ledger.Stored{{Seq: 1, Subject: ledger.JournalSubject(j), Data: rec.Bytes()}})
	const row, foot, rangeAt = 48, 16, 16
	copy(b[len(b)-foot-row+rangeAt:], "\xff\xff")
	r, err := report.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Ranges(id); !errors.Is(err, report.ErrReport) {
		t.Errorf("%v, %v; want ErrReport", got, err)
	}
}

// TestStoreRefusesADamagedReport changes a byte of a blob.
func TestStoreRefusesADamagedReport(t *testing.T) {
	ctx := context.Background()
	blobs := blob.NewMemory(0)
	digest, _, err := blobs.Put(ctx, bytes.NewReader(written(t, random(rand.New(rand.NewPCG(3, 4)), 20))))
	if err != nil {
		t.Fatal(err)
	}
	whole := report.NewStore(blobs)
	for range 2 {
		_, c, err := whole.Open(ctx, digest)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	blobs.Damage(digest)
	if _, _, err := report.NewStore(blobs).Open(ctx, digest); !errors.Is(err, blob.ErrDamaged) {
		t.Fatalf("a damaged report: %v, want ErrDamaged", err)
	}
	none, _, err := blobs.Put(ctx, io.LimitReader(rand.NewChaCha8([32]byte{}), 500))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := report.NewStore(blobs).Open(ctx, none); !errors.Is(err, report.ErrReport) {
		t.Fatalf("a blob that is no report: %v, want ErrReport", err)
	}
}
