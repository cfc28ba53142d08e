package level_test

import (
	"strings"
	"testing"

	"crier/state/parked/kv"
	"crier/state/parked/kvtest"
	"crier/state/parked/level"
)

func TestKV(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Store { return open(t, level.Config{Dir: t.TempDir()}) })
}

// TestSmallTables runs the suite with so small a table in memory that most of it
// happens on disk.
func TestSmallTables(t *testing.T) {
	kvtest.Run(t, func(t *testing.T) kv.Store { return open(t, level.Config{Dir: t.TempDir(), WriteBuffer: 4 << 10}) })
}

func open(t testing.TB, cfg level.Config) *level.KV {
	t.Helper()
	db, err := level.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

func TestReopened(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		db, err := level.Open(level.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for i := range byte(round) {
			if v, err := db.Get([]byte{i}); err != nil || string(v) != "value" {
				t.Fatalf("round %d: key %d is %q, %v", round, i, v, err)
			}
		}
		var b kv.Batch
		b.Put([]byte{byte(round)}, []byte("value"))
		if err := db.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	open(t, level.Config{Dir: dir})
	if _, err := level.Open(level.Config{Dir: dir}); err == nil || level.IsDamaged(err) {
		t.Fatalf("a second Open: %v", err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for field, cfg := range map[string]level.Config{
		"Dir":         {},
		"WriteBuffer": {Dir: "x", WriteBuffer: -1},
		"BlockCache":  {Dir: "x", BlockCache: -1},
	} {
		if _, err := level.Open(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Open with a bad %s: %v", field, err)
		}
	}
}
