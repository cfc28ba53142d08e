package level

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"crier/state/parked/kv"
)

// scriptTotal batches leave tables at two levels and a journal with a good deal in it.
const scriptTotal = 940

// made gives the files of a store with the script in it, by name.
func made(t *testing.T) map[string][]byte {
	t.Helper()
	for try := 0; ; try++ { // a compaction that ends just before the store is closed leaves one table
		files, tables := madeOnce(t)
		n := len(files[lastJournal(t, files)])
		if n >= 3*blockBytes/2 && tables >= 2 {
			return files
		}
		if try == 20 {
			t.Fatalf("the store to damage is too small: %d tables, a journal of %d bytes", tables, n)
		}
	}
}

// madeOnce gives the files of a store and how many of them are tables.
func madeOnce(t *testing.T) (files map[string][]byte, tables int) {
	t.Helper()
	dir := t.TempDir()
	db, err := Open(Config{Dir: dir, WriteBuffer: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	writeScript(t, db, 1, scriptTotal)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
		if strings.HasSuffix(e.Name(), ".ldb") {
			tables++
		}
	}
	return files, tables
}

func lastJournal(t *testing.T, files map[string][]byte) string {
	t.Helper()
	last := ""
	for name := range files {
		if strings.HasSuffix(name, ".log") {
			last = max(last, name)
		}
	}
	if last == "" {
		t.Fatal("there is no journal")
	}
	return last
}

// opened lays the files out, opens them and reads everything. The error is the
// store's, or errSilent.
func opened(t *testing.T, files map[string][]byte) (int, error) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, err := Open(Config{Dir: dir, WriteBuffer: 64 << 10})
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := db.Close(); err != nil && !IsDamaged(err) {
			t.Errorf("Close: %v", err)
		}
	}()
	return batchesIn(db)
}

func with(files map[string][]byte, name string, b []byte) map[string][]byte {
	changed := map[string][]byte{}
	for n, old := range files {
		changed[n] = old
	}
	changed[name] = b
	return changed
}

// TestFlippedBits flips one bit of one file at a time: the store must say that it
// is damaged, at the latest when it is read, or hold what some number of the
// script's batches leave.
func TestFlippedBits(t *testing.T) {
	files := made(t)
	names := []string{}
	for name := range files {
		if len(files[name]) == 0 || strings.HasPrefix(name, "LOG") {
			continue
		}
		rest := maps.Clone(files)
		delete(rest, name)
		// A table that a compaction left behind, for want of time to remove it, does not matter.
		if n, err := opened(t, rest); err != nil || n != scriptTotal {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	rnd := rand.New(rand.NewPCG(6, 7))
	noticed, whole, prefix := 0, 0, 0
	for i := range 200 {
		name := names[i%len(names)]
		b := bytes.Clone(files[name])
		bit := rnd.IntN(8 * len(b))
		b[bit/8] ^= 1 << (bit % 8)
		n, err := opened(t, with(files, name, b))
		switch {
		case errors.Is(err, errSilent):
			t.Errorf("bit %d of %s: %v", bit, name, err)
		case IsDamaged(err):
			noticed++
		case err != nil:
			t.Errorf("bit %d of %s: %v, which does not say that the store is damaged", bit, name, err)
		case n == scriptTotal:
			whole++
		default:
			prefix++
			if !strings.HasSuffix(name, ".log") {
				t.Errorf("bit %d of %s takes batches away: %d are left", bit, name, n)
			}
		}
	}
	t.Logf("of 200 flipped bits %d were noticed, %d did not matter, %d looked like a torn end", noticed, whole, prefix)
	if noticed < 150 {
		t.Errorf("only %d of 200 flipped bits were noticed", noticed)
	}
}

// TestTornJournal cuts the last journal off anywhere: what is left is a prefix of
// the batches, and no damage.
func TestTornJournal(t *testing.T) {
	files := made(t)
	name := lastJournal(t, files)
	whole := files[name]
	rnd := rand.New(rand.NewPCG(10, 11))
	sizes := []int{0, 1, chunkHeader - 1, chunkHeader, blockBytes - 1, blockBytes, blockBytes + 3, len(whole) - 1}
	for range 30 {
		sizes = append(sizes, rnd.IntN(len(whole)))
	}
	slices.Sort(sizes)
	before := 0
	for _, size := range sizes {
		n, err := opened(t, with(files, name, whole[:size]))
		if err != nil || n < before || n >= scriptTotal {
			t.Fatalf("a journal of %d bytes cut to %d: %d batches, %v (%d with less)", len(whole), size, n, err, before)
		}
		before = n
		// The same, where the file system has given space that was never filled.
		padded := append(bytes.Clone(whole[:size]), make([]byte, min(1000, blockBytes-size%blockBytes))...)
		if m, err := opened(t, with(files, name, padded)); err != nil && !IsDamaged(err) || err == nil && m != n {
			t.Fatalf("a journal cut to %d bytes with zeros behind: %d batches, %v; want %d", size, m, err, n)
		}
	}
}

// TestMissingParts takes whole parts away.
func TestMissingParts(t *testing.T) {
	files := made(t)
	name := lastJournal(t, files)
	for what, damaged := range map[string]map[string][]byte{
		"a block of the journal": with(files, name, slices.Delete(bytes.Clone(files[name]), 0, blockBytes)),
		"zeros for a sector":     with(files, name, zeroed(files[name], 4096, 4608)),
		"half of a manifest":     without(files, "MANIFEST", func(b []byte) []byte { return b[:len(b)/2] }),
		"a bit of a manifest":    without(files, "MANIFEST", func(b []byte) []byte { return b[:len(b)-3] }),
		"all tables":             without(files, ".ldb", func([]byte) []byte { return nil }),
		"CURRENT":                without(files, "CURRENT", func([]byte) []byte { return nil }),
	} {
		if n, err := opened(t, damaged); !IsDamaged(err) {
			t.Errorf("without %s: %d batches, %v; want ErrDamaged", what, n, err)
		}
	}
}

func zeroed(b []byte, from, to int) []byte {
	b = bytes.Clone(b)
	clear(b[from:to])
	return b
}

// without changes the files whose names contain a part; nil removes one.
func without(files map[string][]byte, part string, change func([]byte) []byte) map[string][]byte {
	changed := map[string][]byte{}
	for name, b := range files {
		if strings.Contains(name, part) {
			if b = change(b); b == nil {
				continue
			}
		}
		changed[name] = b
	}
	return changed
}

// journalOf writes a journal with the library's own writer: batches that begin at
// the given numbers with two changes each.
func journalOf(t *testing.T, dir string, number int, firsts ...int) string {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("%06d.log", number))
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := journal.NewWriter(f)
	for _, first := range firsts {
		b, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		head := binary.LittleEndian.AppendUint64(nil, uint64(first))
		head = binary.LittleEndian.AppendUint32(head, 2)
		if _, err := b.Write(append(head, make([]byte, 40_000)...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func cut(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-10); err != nil {
		t.Fatal(err)
	}
}

// TestCheckJournals replaces the journals of a store whose tables have no change
// yet, so that the first one is change 1, and whose first journal is number 2.
func TestCheckJournals(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string)
		says string // empty: nothing is wrong
	}{
		{"no journal", func(*testing.T, string) {}, ""},
		{"an empty one", func(t *testing.T, dir string) { journalOf(t, dir, 3) }, ""},
		{"one", func(t *testing.T, dir string) { journalOf(t, dir, 3, 1, 3, 5, 7) }, ""},
		{"two that follow", func(t *testing.T, dir string) { journalOf(t, dir, 3, 1, 3); journalOf(t, dir, 12, 5, 7) }, ""},
		{"the last one torn", func(t *testing.T, dir string) { journalOf(t, dir, 3, 1, 3); cut(t, journalOf(t, dir, 4, 5, 7)) }, ""},
		{"torn before an empty one", func(t *testing.T, dir string) { cut(t, journalOf(t, dir, 3, 1, 3)); journalOf(t, dir, 4) }, ""},
		{"torn before one with batches", func(t *testing.T, dir string) { cut(t, journalOf(t, dir, 3, 1, 3)); journalOf(t, dir, 4, 3) }, "in the middle"},
		{"a start cut short", func(t *testing.T, dir string) { journalOf(t, dir, 3, 0, 2) }, ""},
		{"a gap at the start", func(t *testing.T, dir string) { journalOf(t, dir, 3, 3, 5) }, "some are missing"},
		{"a gap within", func(t *testing.T, dir string) { journalOf(t, dir, 3, 1, 5) }, "some are missing"},
		{"a gap between", func(t *testing.T, dir string) { journalOf(t, dir, 3, 1, 3); journalOf(t, dir, 4, 7) }, "some are missing"},
		{"an empty one before one with batches", func(t *testing.T, dir string) { journalOf(t, dir, 3); journalOf(t, dir, 4, 7) }, "some are missing"},
		{"out of order", func(t *testing.T, dir string) { journalOf(t, dir, 3, 1, 3, 1) }, "some are missing"},
		{"one that is in tables", func(t *testing.T, dir string) { cut(t, journalOf(t, dir, 0, 50)); journalOf(t, dir, 3, 1) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := Open(Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			old, err := filepath.Glob(filepath.Join(dir, "*.log"))
			if err != nil || len(old) != 1 {
				t.Fatalf("the journals are %v, %v", old, err)
			}
			if err := os.Remove(old[0]); err != nil {
				t.Fatal(err)
			}
			c.make(t, dir)
			files, err := storage.OpenFile(dir, false)
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			err = checkJournals(files)
			if c.says == "" && err != nil {
				t.Fatal(err)
			}
			if c.says != "" && (!errors.Is(err, kv.ErrDamaged) || !strings.Contains(err.Error(), c.says)) {
				t.Fatalf("checkJournals: %v, want ErrDamaged with %q", err, c.says)
			}
		})
	}
}

// TestPosition reads positions out of edits.
func TestPosition(t *testing.T) {
	varint, name := binary.AppendUvarint, func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	edit := name([]byte{1}, "order")
	edit = varint(append(edit, 2), 300)
	edit = varint(append(edit, 3), 301)
	edit = binary.AppendUvarint(append(edit, 4), 1<<40)
	edit = name(append(edit, 5, 2), "key")
	edit = varint(append(edit, 6, 1), 70)
	edit = name(name(varint(varint(append(edit, 7, 1), 71), 1<<20), "first"), "")
	edit = varint(append(edit, 9), 1)
	var p position
	if err := p.edit(edit); err != nil || p != (position{300, 1 << 40}) {
		t.Fatalf("the position is %+v, %v", p, err)
	}
	if err := p.edit(edit[:len(edit)-1]); err == nil {
		t.Error("an edit that breaks off passes")
	}
	if err := p.edit([]byte{77}); err == nil {
		t.Error("an unknown field passes")
	}
}
