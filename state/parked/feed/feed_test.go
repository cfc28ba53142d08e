package feed_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
	"crier/state/parked/feed"
	"crier/state/parked/kv"
)

var journal = job.Journal{Worker: "w", Incarnation: 1}

// filled is a ledger with so many records of a journal, of at least so many bytes each.
func filled(t *testing.T, records, bytes int) *ledger.Memory {
	t.Helper()
	log := ledger.NewMemory(ledger.MemoryConfig{})
	last := uint64(0)
	for n := range records {
		rec := ledger.Record{Journal: journal, N: uint64(n), Nonce: [16]byte{byte(n), byte(n >> 8)}}
		data := ledger.EncodeRecord(rec, [][]byte{ledger.EncodeEntry(ledger.Open{Boot: strings.Repeat("b", bytes)})})
		seq, err := log.Append(t.Context(), ledger.JournalSubject(journal), last, data)
		if err != nil {
			t.Fatal(err)
		}
		last = seq
	}
	return log
}

func open(t *testing.T) *parked.Index {
	t.Helper()
	x, err := parked.New(t.Context(), kv.NewMemory(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestFollowGivesWhatWaitsTogether: every record once and in order, several at a time, but not more
// than may be held; and the index has them by then.
func TestFollowGivesWhatWaitsTogether(t *testing.T) {
	for _, c := range []struct{ records, bytes, most int }{{500, 10, 64}, {40, 100 << 10, 11}, {3, 1000 << 10, 2}} {
		x, done := open(t), errors.New("all have come")
		seen, calls, longest := uint64(0), 0, 0
		err := feed.Follow(t.Context(), x, filled(t, c.records, c.bytes), func(records []ledger.Stored, _ []parked.Change) error {
			for _, st := range records {
				if seen++; st.Seq != seen {
					t.Errorf("record %d comes behind %d", st.Seq, seen-1)
				}
			}
			if x.Watermark() != seen+1 {
				t.Errorf("the index is at %d, the records at %d", x.Watermark(), seen)
			}
			calls, longest = calls+1, max(longest, len(records))
			if int(seen) == c.records {
				return done
			}
			return nil
		})
		if !errors.Is(err, done) {
			t.Fatalf("it ended with %v", err)
		}
		t.Logf("%d records came in %d calls, at most %d in one", c.records, calls, longest)
		if longest > c.most {
			t.Errorf("%d records of %d bytes came together, at most %d may", longest, c.bytes, c.most)
		}
	}
}

func TestFollowEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := feed.Follow(ctx, open(t), filled(t, 3, 10), func(records []ledger.Stored, _ []parked.Change) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("when its context ends it ends with %v", err)
	}
	log := filled(t, 3, 10)
	if _, err := log.Append(t.Context(), ledger.JournalSubject(journal), 3, []byte("no record")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = feed.Follow(t.Context(), open(t), log, func(records []ledger.Stored, _ []parked.Change) error {
		seen += len(records)
		return nil
	})
	if !errors.Is(err, ledger.ErrRecord) {
		t.Errorf("behind %d records, at one that is none, it ends with %v", seen, err)
	}
}

func TestCatchUpReadsAll(t *testing.T) {
	for _, n := range []int{0, 1, 64, 200} {
		x := open(t)
		if err := feed.CatchUp(t.Context(), x, filled(t, n, 10)); err != nil || x.Watermark() != uint64(max(n, 0))+1 && n > 0 {
			t.Errorf("of %d records the index has those before %d: %v", n, x.Watermark(), err)
		}
	}
}

// Erasures are taken in where they stand; claims and transitions are passed over.
func TestErasuresAreTakenIn(t *testing.T) {
	log, x := filled(t, 2, 10), open(t)
	follow := func(want uint64) {
		t.Helper()
		done := errors.New("all have come")
		err := feed.Follow(t.Context(), x, log, func(records []ledger.Stored, _ []parked.Change) error {
			if x.Watermark() >= want {
				return done
			}
			return nil
		})
		if !errors.Is(err, done) || x.Watermark() != want {
			t.Errorf("the index is at %d, want %d: %v", x.Watermark(), want, err)
		}
	}
	put := func(subject string, data []byte) {
		t.Helper()
		if _, err := log.Append(t.Context(), subject, 0, data); err != nil {
			t.Fatal(err)
		}
	}
	put(ledger.JobSubject(job.ID{1}), []byte("no record of a journal"))
	put(ledger.ErasureSubject(7), ledger.Erasure{Recipient: 7}.Bytes())
	put("led.claim.job.x", []byte("nor this"))
	follow(5)
	put(ledger.ErasureSubject(8), ledger.Erasure{Recipient: 8}.Bytes())
	if err := feed.CatchUp(t.Context(), x, log); err != nil || x.Watermark() != 7 {
		t.Errorf("the index is at %d, %v", x.Watermark(), err)
	}
}
