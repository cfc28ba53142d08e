package level

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"crier/state/parked/kv"
)

// The tests of this package write one script of batches, whose state after n
// batches is known: script says what batch n does, stateAfter what is there then.

const scriptRows = 97

func scriptBatch(n int) *kv.Batch {
	var b kv.Batch
	for _, op := range scriptOps(n) {
		if op.Value == nil {
			b.Delete(op.Key)
		} else {
			b.Put(op.Key, op.Value)
		}
	}
	return &b
}

func scriptOps(n int) []kv.Op {
	rnd := rand.New(rand.NewPCG(uint64(n), 5))
	value := make([]byte, 10+rnd.IntN(600))
	for i := range value {
		value[i] = byte(rnd.Uint32())
	}
	ops := []kv.Op{
		{Key: []byte("mark"), Value: binary.BigEndian.AppendUint32(nil, uint32(n))},
		{Key: rowKey(n % scriptRows), Value: value},
	}
	if n%5 == 0 {
		ops = append(ops, kv.Op{Key: rowKey((n + 50) % scriptRows)})
	}
	return ops
}

func rowKey(i int) []byte { return fmt.Appendf(nil, "row %03d", i) }

// stateAfter is what the script's first n batches leave.
func stateAfter(n int) map[string][]byte {
	state := map[string][]byte{}
	for i := 1; i <= n; i++ {
		for _, op := range scriptOps(i) {
			if op.Value == nil {
				delete(state, string(op.Key))
			} else {
				state[string(op.Key)] = op.Value
			}
		}
	}
	return state
}

// batchesIn tells how many of the script's batches a store has. It is an error if
// it does not hold exactly what these leave.
func batchesIn(db kv.Store) (int, error) {
	got := map[string][]byte{}
	err := db.Scan(nil, nil, func(k, v []byte) error {
		got[string(k)] = bytes.Clone(v)
		return nil
	})
	if err != nil {
		return 0, err
	}
	n := 0
	if m := got["mark"]; m != nil {
		n = int(binary.BigEndian.Uint32(m))
	}
	want := stateAfter(n)
	if len(got) != len(want) {
		return 0, fmt.Errorf("%w: %d rows after %d batches, want %d", errSilent, len(got), n, len(want))
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			return 0, fmt.Errorf("%w: the row %q after %d batches", errSilent, k, n)
		}
		one, err := db.Get([]byte(k))
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(one, v) {
			return 0, fmt.Errorf("%w: Get of the row %q after %d batches", errSilent, k, n)
		}
	}
	return n, nil
}

// errSilent is what must never be: another content without an error of the store.
var errSilent = fmt.Errorf("wrong without a word")

func writeScript(t testing.TB, db kv.Store, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := db.Write(scriptBatch(n)); err != nil {
			t.Fatalf("batch %d: %v", n, err)
		}
	}
}

func holds(t *testing.T, db kv.Store, want int) {
	t.Helper()
	if n, err := batchesIn(db); err != nil || n != want {
		t.Fatalf("the store has %d batches (%v), want %d", n, err, want)
	}
}
