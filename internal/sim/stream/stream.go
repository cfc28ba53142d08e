// Package stream is the ledger's stream as the simulator has it: one thread, no waiting,
// and every record that was ever stored, purged or not, for the judge.
//
// It implements ledger.Log for whoever reads; what gets lost, late or doubled on the way
// to it is the simulator's.
package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"crier/internal/bus/subject"
	"crier/state/ledger"
)

// Stream is a stream. The zero value is empty.
type Stream struct {
	// OnStored, if set, is told each record right after it was stored.
	OnStored func(ledger.Stored)
	records  []ledger.Stored
	purged   map[uint64]bool
	last     map[string][]uint64 // sequences of each subject
	now      time.Time
}

var _ ledger.Log = (*Stream)(nil)

// New makes an empty stream.
func New() *Stream { return &Stream{last: map[string][]uint64{}, purged: map[uint64]bool{}} }

// Any is a condition that always holds: no rule-keeping owner appends so.
const Any = ^uint64(0)

// Store appends, if the subject's last sequence is the expected one.
func (s *Stream) Store(now time.Time, subj string, last uint64, data []byte) (uint64, error) {
	have := s.Tip(subj)
	if have != last && last != Any {
		return 0, fmt.Errorf("storing in %s after %d: %w (%d)", subj, last, ledger.ErrConflict, have)
	}
	s.now = now
	st := ledger.Stored{Seq: uint64(len(s.records)) + 1, Subject: subj, Time: now, Data: data}
	s.records = append(s.records, st)
	s.last[subj] = append(s.last[subj], st.Seq)
	if s.OnStored != nil {
		s.OnStored(st)
	}
	return st.Seq, nil
}

// Tip is the sequence of a subject's last record, 0 if it has none.
func (s *Stream) Tip(subj string) uint64 {
	if seqs := s.last[subj]; len(seqs) > 0 {
		return seqs[len(seqs)-1]
	}
	return 0
}

// Len is the sequence of the last record of all.
func (s *Stream) Len() uint64 { return uint64(len(s.records)) }

// All is every record that was ever stored.
func (s *Stream) All() []ledger.Stored { return s.records }

// At gives the record with a sequence; ok is false if it is purged.
func (s *Stream) At(seq uint64) (st ledger.Stored, ok bool) {
	return s.records[seq-1], !s.purged[seq]
}

// Append implements ledger.Log.
func (s *Stream) Append(_ context.Context, subj string, last uint64, data []byte) (uint64, error) {
	return s.Store(s.now, subj, last, data)
}

// Last implements ledger.Log.
func (s *Stream) Last(_ context.Context, subj string) (ledger.Stored, error) {
	tip := s.Tip(subj)
	if tip == 0 {
		return ledger.Stored{}, fmt.Errorf("reading the last record of %s: %w", subj, ledger.ErrNoRecord)
	}
	return s.records[tip-1], nil
}

// Get implements ledger.Log.
func (s *Stream) Get(_ context.Context, seq uint64) (ledger.Stored, error) {
	if seq == 0 || seq > s.Len() || s.purged[seq] {
		return ledger.Stored{}, fmt.Errorf("reading record %d: %w", seq, ledger.ErrNoRecord)
	}
	return s.records[seq-1], nil
}

// Follow implements ledger.Log for ledger.ReadAll, whose caughtUp ends ctx: it gives what
// there is, and returns.
func (s *Stream) Follow(ctx context.Context, from uint64, filter string, fn func(ledger.Stored) error, caughtUp func()) error {
	for _, st := range s.records[max(from, 1)-1:] {
		if s.purged[st.Seq] || !subject.Match(filter, st.Subject) {
			continue
		}
		if err := fn(st); err != nil {
			return err
		}
	}
	if caughtUp != nil {
		caughtUp()
	}
	return ctx.Err()
}

// Subjects implements ledger.Log.
func (s *Stream) Subjects(_ context.Context, filter string) (map[string]uint64, error) {
	found := map[string]uint64{}
	for subj, seqs := range s.last {
		if len(seqs) > 0 && subject.Match(filter, subj) {
			found[subj] = uint64(len(seqs))
		}
	}
	return found, nil
}

// Under lists the subjects that begin with a prefix, sorted.
func (s *Stream) Under(prefix string) []string {
	var found []string
	for subj, seqs := range s.last {
		if len(seqs) > 0 && strings.HasPrefix(subj, prefix) {
			found = append(found, subj)
		}
	}
	slices.Sort(found)
	return found
}

// Purge implements ledger.Log.
func (s *Stream) Purge(_ context.Context, subj string, before uint64) error {
	s.Drop(subj, min(before, s.Tip(subj)))
	return nil
}

// Drop removes a subject's records below a sequence, its last one too.
func (s *Stream) Drop(subj string, before uint64) {
	seqs := s.last[subj]
	n, _ := slices.BinarySearch(seqs, before)
	for _, seq := range seqs[:n] {
		s.purged[seq] = true
	}
	s.last[subj] = slices.Clone(seqs[n:])
}

// Usage implements ledger.Log.
func (s *Stream) Usage(context.Context) (ledger.Usage, error) {
	u := ledger.Usage{First: 1, Last: s.Len(), Limit: 1 << 30}
	for s.purged[u.First] {
		u.First++
	}
	return u, nil
}
