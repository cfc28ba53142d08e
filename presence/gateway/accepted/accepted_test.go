package accepted_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/accepted"
	"crier/presence/gateway/accepted/acceptedtest"
)

// directory is a machine with files. A store that was not closed is simply left: its
// mapping lives on, as the pages of a killed process do.
type directory struct {
	t    *testing.T
	dir  string
	boot int
}

func (d *directory) Open(start uint32) (acceptedtest.Store, gateway.History, error) {
	f, h, err := accepted.Open(accepted.Config{Dir: d.dir, Incarnation: job.Incarnation{Gateway: "gw1", Start: start},
		Boot: fmt.Sprint("boot", d.boot), SegmentBytes: 1 << 20, Limit: 2 << 20})
	if err == nil {
		d.t.Cleanup(func() { f.Close() })
	}
	return f, h, err
}

func (d *directory) Reboot()    { d.boot++ }
func (d *directory) Limit() int { return 200 }

type memory struct{ *accepted.Disk }

func (m memory) Open(start uint32) (acceptedtest.Store, gateway.History, error) {
	return m.Disk.Open(start)
}
func (m memory) Limit() int { return 200 }

func TestFiles(t *testing.T) {
	acceptedtest.Run(t, func(t *testing.T) acceptedtest.Machine {
		return &directory{t: t, dir: filepath.Join(t.TempDir(), "accepted")}
	})
}

func TestMemory(t *testing.T) {
	acceptedtest.Run(t, func(t *testing.T) acceptedtest.Machine {
		d := accepted.NewDisk()
		d.Limit = 150
		return memory{d}
	})
}

// left gives a directory in which start 1 has left two records, and its segment.
func left(t *testing.T) (*directory, string) {
	d := &directory{t: t, dir: t.TempDir()}
	s, _, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(2) {
		if err := s.Append(acceptedtest.Record(n+1, 5, 6, 7)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := filepath.Glob(filepath.Join(d.dir, "accepted-*"))
	if err != nil || len(all) != 1 {
		t.Fatalf("segments %v: %v", all, err)
	}
	return d, all[0]
}

// change rewrites a segment.
func change(t *testing.T, path string, fn func([]byte) []byte) {
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, fn(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// records finds where the records of a segment begin, from their sizes.
func records(b []byte) []int {
	var at []int
	for i := 4096; ; {
		size := int(b[i]) | int(b[i+1])<<8
		if size == 0 {
			return append(at, i)
		}
		at = append(at, i)
		i += size
	}
}

// TestATornTailIsNotThere: a process killed while it wrote a record has not stored
// its size, whatever else it stored. The record was not answered.
func TestATornTailIsNotThere(t *testing.T) {
	d, path := left(t)
	change(t, path, func(b []byte) []byte {
		at := records(b)
		copy(b[at[2]+4:], "half of a record")
		return b
	})
	_, h, err := d.Open(2)
	if err != nil || len(h.Ended) != 1 || h.Ended[0].Unreadable || len(h.Ended[0].Records) != 2 {
		t.Fatalf("history %+v: %v", h, err)
	}
}

// TestAnyChangedByteIsNoticed flips each byte of the records and of the header in
// turn. The acknowledgement words have a copy instead of a check: a flip there takes
// an acknowledgement away at most.
func TestAnyChangedByteIsNoticed(t *testing.T) {
	_, path := left(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := records(whole)
	for i := range at[1] {
		if i >= 80 && i < 4096 || i < 80 && i%5 > 0 {
			continue // nothing is there; and some of the header is enough
		}
		d := &directory{t: t, dir: t.TempDir()}
		b := slices.Clone(whole)
		b[i] ^= 0x10
		if err := os.WriteFile(filepath.Join(d.dir, filepath.Base(path)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, h, err := d.Open(2)
		if err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		if h.Ended[0].Unreadable {
			continue
		}
		harmless := len(h.Ended[0].Records) == 2
		for _, r := range h.Ended[0].Records {
			for rank := range r.IDs {
				harmless = harmless && !r.Acked.Has(rank) && r.IDs[rank] == uint32(5+rank) && r.Mute.Has(rank) == (rank == 2)
			}
		}
		if !harmless {
			t.Fatalf("byte %d is changed and believed: %+v", i, h)
		}
		if in := i - at[0]; i >= at[0] && in < 16 {
			t.Fatalf("byte %d of a record's head is not noticed", in)
		}
	}
}

func TestACutSegmentIsUnreadable(t *testing.T) {
	for _, n := range []int{0, 100, 4096, 4100, 5000} {
		d, path := left(t)
		change(t, path, func(b []byte) []byte { return b[:min(n, records(b)[1]+8)] })
		_, h, err := d.Open(2)
		if err != nil || len(h.Ended) != 1 || !h.Ended[0].Unreadable {
			t.Fatalf("cut to %d bytes: %+v %v", n, h, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("the unreadable segment stays")
		}
	}
}

func TestHistoryFile(t *testing.T) {
	d, _ := left(t)
	path := filepath.Join(d.dir, "history.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Open(2); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Fatalf("a damaged history: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Open(1); job.CodeOf(err) != job.CodeConflict {
		t.Fatalf("a start that left a segment, without the history: %v", err)
	}
	_, h, err := d.Open(2)
	if err != nil || h.First != 1 || len(h.Ended[0].Records) != 2 {
		t.Fatalf("without the history: %+v %v", h, err)
	}
}

// TestDiskIsGivenBack: segments whose reserves are closed are removed, and a
// temporary file of a killed process too.
func TestDiskIsGivenBack(t *testing.T) {
	d, path := left(t)
	tmp := filepath.Join(d.dir, "accepted-0000000001-000009.tmp")
	if err := os.WriteFile(tmp, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, h, err := d.Open(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the temporary file stays")
	}
	for _, r := range h.Ended[0].Records {
		if err := s.Free(1, r.Ref); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the segment of start 1 stays")
	}
	ids := make([]uint32, 0, 20000)
	for i := range uint32(20000) {
		ids = append(ids, i*3)
	}
	for n := range uint64(500) { // many times the limit, closed as they come
		r := acceptedtest.Record(n, ids...)
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
		if err := s.Free(2, r.Ref); err != nil {
			t.Fatal(err)
		}
		if all, _ := filepath.Glob(filepath.Join(d.dir, "accepted-*")); len(all) > 2 {
			t.Fatalf("%d segments", len(all))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if all, _ := filepath.Glob(filepath.Join(d.dir, "accepted-*")); len(all) != 0 {
		t.Fatalf("%v stay after everything is closed", all)
	}
}

func TestTheLargestRecordFits(t *testing.T) {
	d := &directory{t: t, dir: t.TempDir()}
	s, _, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	var in, away []uint32
	for i := range uint32(1 << 20) {
		if i%2 == 0 {
			in = append(in, i)
		} else {
			away = append(away, i)
		}
	}
	r := acceptedtest.Record(1, in...)
	r.Away = away
	if err := s.Append(r); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	f, _, err := accepted.Open(accepted.Config{Dir: b.TempDir(), Incarnation: job.Incarnation{Gateway: "gw1", Start: 1}})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var ids []uint32
	for i := range uint32(300) {
		ids = append(ids, i*200)
	}
	n := uint64(0)
	for b.Loop() {
		n++
		r := acceptedtest.Record(n, ids...)
		if err := f.Append(r); err != nil {
			b.Fatal(err)
		}
		for rank := range uint32(300) {
			f.Mark(r.Ref, rank)
		}
		if err := f.Free(1, r.Ref); err != nil {
			b.Fatal(err)
		}
	}
}
