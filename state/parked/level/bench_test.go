package level

import (
	"encoding/binary"
	"fmt"
	"testing"

	"crier/state/parked/kv"
)

// BenchmarkPut100k writes 100,000 rows of 512 bytes, in batches as large as one
// entry of a record makes them.
func BenchmarkPut100k(b *testing.B) {
	for _, perBatch := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(perBatch), func(b *testing.B) {
			value := make([]byte, 512)
			for i := range value {
				value[i] = byte(i * i)
			}
			const rows = 100_000
			b.SetBytes(rows * 512)
			for b.Loop() {
				db, err := Open(Config{Dir: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				for i := 0; i < rows; {
					var batch kv.Batch
					for ; len(batch.Ops) < perBatch && i < rows; i++ {
						batch.Put(scattered(i), value)
					}
					if err := db.Write(&batch); err != nil {
						b.Fatal(err)
					}
				}
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// scattered gives key i of an order that is not the order of the keys.
func scattered(i int) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(i)*0x9e3779b97f4a7c15)
}

// BenchmarkDiskAfterRounds parks and drains 100,000 rows ten times and reports
// what is then on disk, with nothing in the store.
func BenchmarkDiskAfterRounds(b *testing.B) {
	value := make([]byte, 512)
	for b.Loop() {
		db, err := Open(Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		for round := range 10 {
			for _, drain := range []bool{false, true} {
				for i := 0; i < 100_000; {
					var batch kv.Batch
					for ; len(batch.Ops) < 256 && i < 100_000; i++ {
						key := scattered(round<<20 + i)
						if drain {
							batch.Delete(key)
						} else {
							binary.BigEndian.PutUint64(value, uint64(i)*0x9e3779b97f4a7c15)
							batch.Put(key, value)
						}
					}
					if err := db.Write(&batch); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		n, err := db.Size()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "bytes-on-disk")
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
