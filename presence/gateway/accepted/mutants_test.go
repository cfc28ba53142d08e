package accepted_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"crier/internal/badinput"
	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
	"crier/presence/gateway/accepted/acceptedtest"
)

// TestMutatedSegments: of a segment that was changed anywhere the next start reads what was
// accepted, or says that it cannot: a record that it gives is one that was written. But for
// acknowledgements: they may be lost, and are believed if both copies are changed.
func TestMutatedSegments(t *testing.T) {
	_, path := left(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := records(whole)
	end := at[len(at)-1] + 64
	dir := t.TempDir()
	file := filepath.Join(dir, filepath.Base(path))
	open := func(b []byte) gateway.History {
		all, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, old := range all {
			if err := os.Remove(old); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, h, err := accepted.Open(accepted.Config{Dir: dir, Incarnation: job.Incarnation{Gateway: "gw1", Start: 2}, Boot: "boot0", SegmentBytes: 1 << 20, Limit: 2 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return h
	}
	written := map[uint64]gateway.Record{}
	for _, r := range open(whole).Ended[0].Records {
		written[r.Ref.N] = r
	}
	if len(written) != 2 || !reflect.DeepEqual(written[1].IDs, acceptedtest.Record(1, 5, 6, 7).IDs) {
		t.Fatalf("the segment itself is read as %+v", written)
	}
	unreadable, readable := 0, 0
	parts := map[string]struct{ from, to int }{"header": {0, 96}, "records": {4096, end}}
	for what, part := range parts {
		for m := range badinput.Mutants(400, whole[part.from:part.to], whole[at[1]:at[2]]) {
			if what == "header" { // what follows stays where it is
				m.Bytes = append(m.Bytes, make([]byte, part.to)...)[:part.to]
			}
			b := append(append(append([]byte{}, whole[:part.from]...), m.Bytes...), whole[part.to:]...)
			if m.Seed%8 > 0 { // the file has its length, or the one that the change makes
				b = append(b, make([]byte, max(0, len(whole)-len(b)))...)[:len(whole)]
			}
			h := open(b)
			if len(h.Ended) == 0 && binary.LittleEndian.Uint32(b[4096:]) == 0 {
				continue // a record without a size is not there
			}
			if len(h.Ended) != 1 {
				t.Fatalf("%s, %s: history %+v", what, m, h)
			}
			if h.Ended[0].Unreadable {
				unreadable++
				continue
			}
			readable++
			for _, r := range h.Ended[0].Records {
				w, ok := written[r.Ref.N]
				one, two := at[min(r.Ref.N, 2)]-16, at[min(r.Ref.N, 2)]-8 // the copies of the acknowledgements
				both := !bytes.Equal(b[one:two], whole[one:two]) && !bytes.Equal(b[two:two+8], whole[two:two+8])
				for i := range r.Acked {
					ok = ok && (both || r.Acked[i]&^w.Acked[i] == 0)
				}
				r.Acked, w.Acked = nil, nil
				if !ok || !reflect.DeepEqual(r, w) {
					t.Errorf("%s, %s is believed: %+v", what, m, r)
				}
			}
		}
	}
	t.Logf("%d unreadable, %d readable", unreadable, readable)
	if unreadable == 0 || readable == 0 {
		t.Errorf("%d unreadable, %d readable", unreadable, readable)
	}
}
