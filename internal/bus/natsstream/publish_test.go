package natsstream

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestPublish stores each id once within the window, drops the oldest records beyond
// the limit, and finds records by their time.
func TestPublish(t *testing.T) {
	_, _, nc := serve(t)
	cfg := Config{Stream: "E", Subjects: []string{"e.>"}, MaxBytes: 64 << 10, DiscardOld: true, Duplicates: time.Hour, Wait: time.Second, Logger: quiet}
	st, err := Open(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		id        string
		seq       uint64
		duplicate bool
	}{{"a/1", 1, false}, {"a/2", 2, false}, {"a/1", 1, true}, {"a/3", 3, false}, {"a/2", 2, true}} {
		seq, duplicate, err := st.Publish(t.Context(), "e.a", c.id, []byte(c.id))
		if err != nil || seq != c.seq || duplicate != c.duplicate {
			t.Errorf("publish %d: %d, duplicate %v, %v; want %+v", i, seq, duplicate, err, c)
		}
	}
	if _, _, err := st.Publish(t.Context(), "e.a", "x", make([]byte, MaxRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large record: %v", err)
	}
	first, err := st.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, _, err := st.Publish(t.Context(), fmt.Sprint("e.", i%2), fmt.Sprint("b/", i), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := st.Info(t.Context())
	if err != nil || info.Last != 203 || info.First < 100 || info.Bytes > info.Limit {
		t.Fatalf("after 200 KB in 64: %+v, %v", info, err)
	}
	middle, err := st.Get(t.Context(), 180)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pattern string
		at      time.Time
		want    uint64
	}{{"e.>", first.Time, info.First}, {"e.>", middle.Time, 180}, {"e.0", middle.Time, 180}, {"e.1", middle.Time, 181}, {"e.none", first.Time, 204}, {"e.>", middle.Time.Add(time.Hour), 204}} {
		if got, err := st.Since(t.Context(), c.pattern, c.at); err != nil || got != c.want {
			t.Errorf("%s since %s: %d, %v; want %d", c.pattern, c.at, got, err, c.want)
		}
	}
	cfg.MaxBytes, cfg.Duplicates = 32<<10, time.Minute // what may be dropped need not fit
	if st, err = Open(t.Context(), nc, cfg); err != nil {
		t.Fatal(err)
	}
	if info, err := st.Info(t.Context()); err != nil || info.Bytes > 32<<10 || info.Limit != 32<<10 {
		t.Errorf("after the limit fell: %+v, %v", info, err)
	}
	cfg.DiscardOld = false
	if _, err := Open(t.Context(), nc, cfg); err == nil {
		t.Error("a stream that drops was taken for one that refuses")
	}
	cfg.Duplicates = 1
	if cfg.Validate() == nil {
		t.Error("a window of a nanosecond is taken")
	}
}
