package ledger

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"crier/internal/badinput"
	"crier/job"
)

// samples are records of every entry, small and large ones.
func samples() (all [][]byte) {
	rng := rand.New(rand.NewPCG(7, 8))
	r, id := job.Range(3), job.ID{1, 2, 3}
	j := job.Journal{Worker: "w1", Incarnation: 7}
	ref, inc := job.Ref{Journal: j, N: 1 << 50, Entry: 9}, job.Incarnation{Gateway: "gw1", Start: 3}
	for _, n := range []int{5, 3000} {
		targets, _ := randomTargets(rng, r, 5, n)
		for _, e := range [][]Entry{
			{&Reserve{Job: id, Slice: 4, Span: job.Span{Lo: uint64(r.Lo()), Hi: uint64(r.Lo()) + 1<<20}, IDs: 77, Rest: job.Parked, Dropped: []Drop{{job.ReasonRelation, randomSet(rng, r, n)}}, Targets: targets}},
			{&Drain{Job: id, Range: r, Targets: targets}, Seal{By: j}},
			{Open{Boot: "boot"}, &Done{Job: id, Range: r, Of: ref, Inc: inc, Waiting: randomSet(rng, r, n), Mute: randomSet(rng, r, 3)}, &Doubt{Job: id, Range: r, Of: ref, Inc: inc, Final: true},
				&Decide{Job: id, Range: r, Delivered: randomSet(rng, r, n), Failed: randomSet(rng, r, 1)}, &Outcome{Job: id, Range: r, Outcome: job.Expired, Set: randomSet(rng, r, n)}},
		} {
			all = append(all, Record{Journal: j, N: 5, Nonce: [16]byte{9}, Prev: job.Digest{8}, Entries: e}.Bytes())
		}
	}
	return all
}

// TestRecordsMutated: what is taken of a mutant is written and read again as the same; what
// tells of a record without decoding it agrees; and the sets take no more memory than 128
// MiB or a fixed multiple of the bytes.
func TestRecordsMutated(t *testing.T) {
	limit := func(n int) uint64 { return 2<<20 + 8<<10*uint64(n) }
	badinput.Feed(t, limit, func(m badinput.Mutant) bool {
		b := m.Bytes
		rec, err := ParseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Errorf("%s: %v", m, err)
			}
			return false
		}
		j, n, err := NameOf(b[:min(len(b), RecordFront)])
		if err != nil || j != rec.Journal || n != rec.N {
			t.Errorf("%s is record %s/%d, by its front %s/%d, %v", m, rec.Journal, rec.N, j, n, err)
		}
		if again, err := ParseRecord(rec.Bytes()); err != nil || !bytes.Equal(again.Bytes(), rec.Bytes()) {
			t.Errorf("%s is read, written and read as another: %v", m, err)
		}
		_, entries, err := SplitRecord(b)
		if err != nil || len(entries) != len(rec.Entries) {
			t.Fatalf("%s: %d entries, %v", m, len(entries), err)
		}
		for i, e := range entries {
			topic, err := TopicOf(e)
			if err != nil {
				t.Errorf("%s: entry %d is read, but it is about %v", m, i, err)
			}
			if x, ok := rec.Entries[i].(*Reserve); ok && (topic.Job != x.Job || topic.Range != x.Range()) {
				t.Errorf("%s: entry %d is about %v, and said to be about %v", m, i, x.Job, topic)
			}
		}
		return true
	}, samples()...)
}

// TestClaimsAndFoldsMutated: records in JSON are refused or read; never more.
func TestClaimsAndFoldsMutated(t *testing.T) {
	small := func(n int) uint64 { return 256<<10 + 64*uint64(n) }
	claim := Claim{Kind: ClaimSlice, ID: "x", Epoch: 3, Journal: job.Journal{Worker: "w", Incarnation: 1}, At: time.Unix(5, 6).UTC()}
	badinput.Feed(t, small, func(m badinput.Mutant) bool {
		c, err := ParseClaim(Stored{Seq: 5, Data: m.Bytes})
		if err == nil {
			if again, err := ParseClaim(Stored{Seq: 5, Data: c.Bytes()}); err != nil || again != c {
				t.Errorf("%s is read as %+v, written, and read as %+v, %v", m, c, again, err)
			}
			SliceOf(c.Thing())
			GatewayOf(c.Thing())
		}
		return err == nil
	}, claim.Bytes())
	fold := Fold{From: 1, Through: 1000, Report: job.Digest{1}, Checkpoint: job.Digest{2}}
	badinput.Feed(t, small, func(m badinput.Mutant) bool {
		f, err := ParseFold(m.Bytes)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", m, err)
		}
		_ = f.Bytes()
		return err == nil
	}, fold.Bytes())
}
