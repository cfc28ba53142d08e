package numbers

import (
	"encoding/binary"
	"testing"

	"crier/job"
	"crier/state/parked/kv"
	"crier/state/parked/row"
)

func id(n uint64) job.ID {
	var id job.ID
	binary.LittleEndian.PutUint64(id[:], n*0x9e3779b97f4a7c15)
	return id
}

// Jobs are numbered in the order in which they are given numbers, once each, whether or not the
// table remembers them, and as others will see it only when it is written.
func TestNumbers(t *testing.T) {
	store := kv.NewMemory()
	rows := kv.NewOverlay(store)
	table := New(store)
	ahead := Ahead{Table: table, Rows: rows}
	for n := range uint64(3 * most) {
		for _, of := range []uint64{n, n / 2} {
			var b kv.Batch
			got, err := ahead.Give(&b, id(of))
			if err != nil || got != Number(of+1) {
				t.Fatalf("job %d has number %d, want %d: %v", of, got, of+1, err)
			}
			if err := rows.Hold(&b); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := ahead.Of(id(n)); err != nil || got != Number(n+1) {
			t.Fatalf("job %d has number %d ahead: %v", n, got, err)
		}
		if n%100 > 0 {
			continue
		}
		if got, err := table.Of(id(n)); err != nil || got != 0 {
			t.Fatalf("job %d has number %d before it is written: %v", n, got, err)
		}
		if err := rows.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, table := range []*Table{table, New(store)} {
		for n := range uint64(3 * most) {
			got, err := table.Of(id(n))
			if err != nil || got != Number(n+1) {
				t.Fatalf("job %d has number %d: %v", n, got, err)
			}
			if of, err := table.Job(got); err != nil || of != id(n) {
				t.Fatalf("number %d is job %s: %v", got, of, err)
			}
			if len(table.mu.job) > most || len(table.mu.number) > most {
				t.Fatalf("%d and %d are remembered", len(table.mu.job), len(table.mu.number))
			}
		}
	}
	if _, err := table.Job(3*most + 1); err == nil {
		t.Error("a number that none has is a job's")
	}
}

func TestNumbersThatAreNone(t *testing.T) {
	store := kv.NewMemory()
	var b kv.Batch
	b.Put(row.Global(rowNumber, make([]byte, 16)), []byte{1})
	b.Put(row.Global(rowJob, []byte{0, 0, 0, 1}), []byte{1})
	b.Put(row.Global(rowCount), []byte{0xff, 0xff, 0xff, 0xff})
	if err := store.Write(&b); err != nil {
		t.Fatal(err)
	}
	table := New(store)
	if _, err := table.Of(job.ID{}); err == nil {
		t.Error("a number of a byte is taken")
	}
	if _, err := table.Job(1); err == nil {
		t.Error("a job of a byte is taken")
	}
	if _, err := (Ahead{table, kv.NewOverlay(store)}).Give(&b, job.ID{1}); err == nil {
		t.Error("a number is given beyond the last")
	}
}
