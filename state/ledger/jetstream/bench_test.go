package jetstream_test

import (
	"fmt"
	"testing"
	"time"

	"crier/internal/bus/natsbus"
	"crier/state/ledger"
	"crier/state/ledger/jetstream"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// BenchmarkAppend is one journal's appends: conditional, one in flight, on disk.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{512, 176 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := open(b, start(b, natsbus.Config{}), 64<<30)
			data := pattern(size)
			b.SetBytes(int64(size))
			var last uint64
			for b.Loop() {
				seq, err := l.Append(b.Context(), journal, last, data)
				if err != nil {
					b.Fatal(err)
				}
				last = seq
			}
		})
	}
}

// BenchmarkFollow replays a stream of eight journals after a start of the server.
func BenchmarkFollow(b *testing.B) {
	for _, c := range []struct{ size, total int }{{512, 32 << 20}, {64 << 10, 256 << 20}, {1 << 20, 512 << 20}} {
		b.Run(fmt.Sprint(c.size), func(b *testing.B) {
			l, n := filled(b, c.size, c.total)
			for _, filter := range []string{"led.>", "led.j.w.3"} {
				b.Run(filter, func(b *testing.B) {
					want := n
					if filter != "led.>" {
						want = n / 8
					}
					b.SetBytes(int64(want * c.size))
					for b.Loop() {
						got := 0
						err := ledger.ReadAll(b.Context(), l, 1, filter, func(ledger.Stored) error {
							got++
							return nil
						})
						if err != nil || got != want {
							b.Fatalf("read %d records, want %d: %v", got, want, err)
						}
					}
					b.ReportMetric(float64(want)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
				})
			}
		})
	}
}

// BenchmarkGet reads single records.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{512, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l, n := filled(b, size, 200*size)
			b.SetBytes(int64(size))
			i := 0
			for b.Loop() {
				if _, err := l.Get(b.Context(), uint64(i%n+1)); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkReadShort reads the few records of one subject, as for one job.
func BenchmarkReadShort(b *testing.B) {
	l, _ := filled(b, 512, 8*5*512)
	for b.Loop() {
		got := 0
		err := ledger.ReadAll(b.Context(), l, 1, "led.j.w.3", func(ledger.Stored) error {
			got++
			return nil
		})
		if err != nil || got != 5 {
			b.Fatalf("read %d records: %v", got, err)
		}
	}
}

// filled stores total bytes in records of a size, quickly, and starts anew.
func filled(b *testing.B, size, total int) (l *jetstream.Log, n int) {
	b.Helper()
	dir := b.TempDir()
	s, err := natsbus.Start(natsbus.Config{Dir: dir, Unsynced: true})
	if err != nil {
		b.Fatal(err)
	}
	open(b, s, 64<<30)
	nc, err := s.Connect("fill")
	if err != nil {
		b.Fatal(err)
	}
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(32))
	if err != nil {
		b.Fatal(err)
	}
	data := pattern(size)
	n = total / size
	for i := range n {
		last := uint64(max(i-7, 0)) // the condition is stored with the record, as Append does it
		if _, err := js.PublishAsync(fmt.Sprintf("led.j.w.%d", i%8), data,
			natsjs.WithExpectLastSequencePerSubject(last), natsjs.WithStallWait(10*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	nc.Close()
	s.Shutdown()
	return open(b, start(b, natsbus.Config{Dir: dir}), 64<<30), n
}

func pattern(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7)
	}
	return data
}
