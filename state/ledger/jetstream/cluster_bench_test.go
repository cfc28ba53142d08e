package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"crier/internal/servers"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"
)

// elsewhere runs a benchmark on one server elsewhere and on three, all of which sync
// always.
func elsewhere(b *testing.B, run func(b *testing.B, open func(b *testing.B) *jetstream.Log)) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("R%d", n), func(b *testing.B) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: b.TempDir(), Servers: n})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Kill()
			run(b, func(b *testing.B) *jetstream.Log {
				l, err := jetstream.Open(b.Context(), dialAs(b, c, servers.NATSUser), jetstream.Config{Stream: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: 64 << 30, Replicas: n, Logger: discard})
				if err != nil {
					b.Fatal(err)
				}
				return l
			})
		})
	}
}

// BenchmarkJournals has 16 journals append records of 1 KiB, each one at a time.
func BenchmarkJournals(b *testing.B) {
	elsewhere(b, func(b *testing.B, open func(b *testing.B) *jetstream.Log) {
		const journals = 16
		var logs [journals]*jetstream.Log
		var last [journals]uint64
		for i := range logs {
			logs[i] = open(b)
		}
		data := pattern(1 << 10)
		b.SetBytes(1 << 10)
		for b.Loop() {
			// A round of 64 records of each journal.
			var wg sync.WaitGroup
			for i := range logs {
				wg.Go(func() {
					for range 64 {
						seq, err := logs[i].Append(b.Context(), fmt.Sprintf("led.j.w.%d", i), last[i], data)
						if err != nil {
							b.Error(err)
							return
						}
						last[i] = seq
					}
				})
			}
			wg.Wait()
		}
		b.SetBytes(0)
		b.ReportMetric(float64(b.N*journals*64)/b.Elapsed().Seconds(), "records/s")
	})
}

// BenchmarkAppendElsewhere has one journal append, one record at a time.
func BenchmarkAppendElsewhere(b *testing.B) {
	elsewhere(b, func(b *testing.B, open func(b *testing.B) *jetstream.Log) {
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprint(size), func(b *testing.B) {
				l, data, last := open(b), pattern(size), uint64(0)
				subject := fmt.Sprintf("led.j.%d.%d", size, time.Now().UnixNano())
				b.SetBytes(int64(size))
				for b.Loop() {
					seq, err := l.Append(b.Context(), subject, last, data)
					if err != nil {
						b.Fatal(err)
					}
					last = seq
				}
			})
		}
	})
}

// BenchmarkReadsElsewhere has the last record read, and the records of one subject.
func BenchmarkReadsElsewhere(b *testing.B) {
	elsewhere(b, func(b *testing.B, open func(b *testing.B) *jetstream.Log) {
		l := open(b)
		for i := range 3000 {
			if _, err := l.Append(b.Context(), fmt.Sprintf("led.job.%d", i), 0, pattern(512)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run("last", func(b *testing.B) {
			for b.Loop() {
				if _, err := l.Last(b.Context(), "led.job.7"); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, filter := range []string{"led.job.7", "led.>"} {
			b.Run("all of "+filter, func(b *testing.B) {
				for b.Loop() {
					if err := ledger.ReadAll(b.Context(), l, 1, filter, func(ledger.Stored) error { return nil }); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}
