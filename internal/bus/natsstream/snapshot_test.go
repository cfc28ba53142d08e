package natsstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
)

// all gives every record of a stream, in words.
func all(t *testing.T, st *Stream) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out []string
	err := st.Follow(ctx, 1, ">", func(r Record) error {
		out = append(out, fmt.Sprint(r.Seq, r.Subject, r.Time.UnixNano(), string(r.Data)))
		return nil
	}, cancel)
	if !errors.Is(err, context.Canceled) && err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSnapshot copies a stream with gaps while it grows, and makes it again elsewhere.
func TestSnapshot(t *testing.T) {
	s, st, nc := serve(t)
	fill(t, s, st, 3000, 700)
	if err := st.Purge(t.Context(), "s.a", 2000); err != nil { // the s.b between stay
		t.Fatal(err)
	}
	want := all(t, st)
	if len(want) >= 3000 || len(want) < 1000 {
		t.Fatalf("%d records are left", len(want))
	}
	var copied bytes.Buffer
	grow := &onWrite{to: &copied, fn: func() {
		if _, err := st.Append(t.Context(), Put{Subject: "s.late", Data: []byte("late")}); err != nil {
			t.Error(err)
		}
	}}
	begun := 0
	snap, err := st.Snapshot(t.Context(), grow, func() { begun++ })
	if err != nil {
		t.Fatal(err)
	}
	if begun != 1 || snap.Last != 3000 || snap.Records != uint64(len(want)) {
		t.Errorf("the copy has %d records up to %d, want %d up to 3000", snap.Records, snap.Last, len(want))
	}
	if info, err := st.Info(t.Context()); err != nil || info.Last <= snap.Last {
		t.Fatalf("the stream did not grow meanwhile: %+v, %v", info, err)
	}
	nc.Close()

	dir := t.TempDir()
	restored := func() (*natsbus.Server, *Stream) {
		t.Helper()
		s, err := natsbus.Start(natsbus.Config{Dir: dir, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Shutdown)
		if copied.Len() > 0 {
			if err := s.Restore(snap.Config, &copied); err != nil {
				t.Fatal(err)
			}
		}
		nc, err := s.Connect(t.Name())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		st, err := Open(t.Context(), nc, Config{Stream: "S", Subjects: []string{"s.>"}, MaxBytes: 1 << 30, Wait: time.Second, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		return s, st
	}
	other, again := restored()
	if got := all(t, again); !slices.Equal(got, want) {
		t.Fatalf("restored are %d records, not the %d that were copied", len(got), len(want))
	}
	other.Shutdown()
	_, again = restored()
	if got := all(t, again); !slices.Equal(got, want) {
		t.Errorf("after a restart there are %d records, not %d", len(got), len(want))
	}
	seq, err := again.Append(t.Context(), Put{Subject: "s.new", Data: []byte("x")})
	if err != nil || seq != 3001 {
		t.Errorf("the next record is %d, %v; want 3001", seq, err)
	}
	if _, err := again.Append(t.Context(), Put{Subject: "s.b", Last: 1, Data: []byte("x")}); !errors.Is(err, ErrConflict) {
		t.Errorf("an append that expects an old record: %v", err)
	}
}

// TestSnapshotNobodyTakes: an error of who takes the copy ends it, and the stream goes on.
func TestSnapshotNobodyTakes(t *testing.T) {
	s, st, _ := serve(t)
	fill(t, s, st, 1000, 900)
	refused := errors.New("the disk is full")
	if _, err := st.Snapshot(t.Context(), &onWrite{err: refused}, nil); !errors.Is(err, refused) || !strings.Contains(err.Error(), "stream S") {
		t.Errorf("copying to a full disk: %v", err)
	}
	var b bytes.Buffer
	if _, err := st.Snapshot(t.Context(), &b, nil); err != nil {
		t.Errorf("the next copy: %v", err)
	}
}

// onWrite calls fn before the first write.
type onWrite struct {
	to  *bytes.Buffer
	fn  func()
	err error
}

// Write implements io.Writer.
func (w *onWrite) Write(b []byte) (int, error) {
	if w.fn != nil {
		w.fn()
		w.fn = nil
	}
	if w.err != nil {
		return 0, w.err
	}
	return w.to.Write(b)
}
