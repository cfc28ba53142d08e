package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"crier/internal/bin"
	"crier/job"
)

// FoldSubject is where it is recorded what was folded.
const FoldSubject = "led.fold"

// Fold says that a stretch of the journals' records stands in a report, and, if it
// is the last of a folding, where a checkpoint of the parked index as of its end is.
// What is before a fold with a checkpoint may be purged.
type Fold struct {
	From    uint64 `json:"from"`    // the stretch is [From, Through)
	Through uint64 `json:"through"` // of the next fold, From
	// Report is the blob with the stretch's records; zero if there were none.
	Report  job.Digest `json:"report,omitzero"`
	Records uint64     `json:"records"`
	// Checkpoint is the blob with the index; zero if another fold follows at once.
	Checkpoint job.Digest `json:"checkpoint,omitzero"`
	At         time.Time  `json:"at"`
}

// Folds is everything that was folded so far.
type Folds struct {
	List []Fold
	Last uint64 // sequence of the record of the last one; 0 if there is none
}

// Through is the sequence up to which the journals are folded.
func (f Folds) Through() uint64 {
	if len(f.List) == 0 {
		return 1
	}
	return f.List[len(f.List)-1].Through
}

// Checkpoint gives the last fold that has a checkpoint.
func (f Folds) Checkpoint() (Fold, bool) {
	for i := len(f.List) - 1; i >= 0; i-- {
		if !f.List[i].Checkpoint.IsZero() {
			return f.List[i], true
		}
	}
	return Fold{}, false
}

// ReadFolds reads what was folded so far. A gap between two folds is ErrRecord: what
// was in it may be gone.
func ReadFolds(ctx context.Context, l Log) (Folds, error) {
	var fs Folds
	err := ReadAll(ctx, l, 1, FoldSubject, func(st Stored) error {
		f, err := ParseFold(st.Data)
		if err != nil {
			return fmt.Errorf("record %d: %w", st.Seq, err)
		}
		if f.From != fs.Through() || f.Through < f.From {
			return fmt.Errorf("%w: record %d folds [%d, %d) after %d", ErrRecord, st.Seq, f.From, f.Through, fs.Through())
		}
		fs.List, fs.Last = append(fs.List, f), st.Seq
		return nil
	})
	if err != nil {
		return Folds{}, fmt.Errorf("reading what was folded: %w", err)
	}
	return fs, nil
}

// Bytes encodes the fold.
func (f Fold) Bytes() []byte {
	b, err := json.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("encoding a fold: %v", err)) // its fields cannot fail
	}
	return b
}

// ParseFold decodes a fold.
func ParseFold(b []byte) (Fold, error) {
	var f Fold
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("%w: decoding a fold: %w", ErrRecord, err)
	}
	return f, nil
}

// Topic is what an entry is about, as far as it can be told without decoding it.
type Topic struct {
	Job   job.ID // zero for Open and Seal
	Range job.Range
	Voids bool // Seal: what follows it in its journal is void (rule 3)
}

// TopicOf tells what an encoded entry is about.
func TopicOf(entry []byte) (Topic, error) {
	r := bin.NewReader(entry)
	var t Topic
	switch k := r.Byte(); k {
	case kindOpen:
	case kindSeal:
		t.Voids = true
	case kindReserve:
		t.Job = r.JobID()
		r.Uint() // the slice
		t.Range = job.Range(r.Max(1<<32) >> job.RangeBits)
	case kindCharge:
		t.Job = r.JobID()
		t.Range = job.Range(r.Max(1<<32) >> job.RangeBits)
	case kindDrain, kindDone, kindDoubt, kindDecide, kindOutcome:
		t.Job, t.Range = r.JobID(), readRange(r)
	default:
		r.Fail(fmt.Errorf("kind %d is unknown to this version", k))
	}
	if err := r.Err(false); err != nil {
		return t, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return t, nil
}

// Voids knows which entries are void (rule 3): what follows a seal in its journal.
// Its zero value is ready. All seals are noted in the order of the ledger before it is
// asked.
type Voids struct{ seals map[job.Journal]place }

// place is where in the ledger an entry stands. Numbers in a journal do not tell:
// who writes behind a seal may use any.
type place struct {
	seq   uint64
	entry uint16
}

func (p place) before(o place) bool { return p.seq < o.seq || p.seq == o.seq && p.entry < o.entry }

// Note takes in an entry of the record seq, if it is a seal.
func (v *Voids) Note(seq uint64, ref job.Ref, e Entry) {
	if _, ok := e.(Seal); !ok {
		return
	}
	if v.seals == nil {
		v.seals = map[job.Journal]place{}
	}
	if _, sealed := v.seals[ref.Journal]; !sealed {
		v.seals[ref.Journal] = place{seq, ref.Entry}
	}
}

// Has reports whether an entry of the record seq is void.
func (v *Voids) Has(seq uint64, ref job.Ref) bool {
	at, ok := v.seals[ref.Journal]
	return ok && at.before(place{seq, ref.Entry})
}
