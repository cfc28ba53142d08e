package row

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// A stretch from a prefix to what is after it has just what starts with it.
func TestAfter(t *testing.T) {
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xfe, 0xff}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		prefix, k := key.Draw(t, "prefix"), key.Draw(t, "key")
		end := After(prefix)
		in := bytes.Compare(prefix, k) <= 0 && (end == nil || bytes.Compare(k, end) < 0)
		if in != bytes.HasPrefix(k, prefix) {
			t.Fatalf("%x from %x to %x: %v", k, prefix, end, in)
		}
	})
}
