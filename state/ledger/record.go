package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
)

// MaxRecord is the size, in bytes, from which on a journal starts another record.
const MaxRecord = 1 << 20

// MaxEntries is the largest number of entries in one record.
const MaxEntries = 4096

// MaxContainers is the largest number of containers, of 8 KiB in memory each, that
// the sets of one record have together: 128 MiB. A record of one entry may have more.
// Without it a record of 1 MiB could take 1 GiB, for a set of one id has 9 bytes.
const MaxContainers = 1 << 14

// ErrRecord is wrapped by errors about bytes that are no record.
var ErrRecord = errors.New("not a journal record")

// Record is one append to a journal (protocol rule 1). Its bytes are hashed into
// the next one, so that a journal is a chain from its open to its seal.
type Record struct {
	Journal job.Journal
	N       uint64     // 0, 1, 2, …
	Nonce   [16]byte   // tells my append from another's with the same number
	Prev    job.Digest // SHA-256 of the record before; zero for the first
	Entries []Entry
}

// Entry is one of Open, Charge, Reserve, Drain, Done, Doubt, Decide, Outcome, Seal.
type Entry interface {
	kind() byte
	write(*bin.Writer)
}

// Open is the first entry of a journal.
type Open struct {
	Boot string // the machine's boot id, for whoever reads the history
}

// Reserve takes a block (rule 8): what is neither dropped nor a target is given
// Rest by this very record.
type Reserve struct {
	Job     job.ID
	Slice   uint32
	Span    job.Span // inside one range
	IDs     uint32   // how many ids of the package lie in the span
	Rest    job.Outcome
	Dropped []Drop
	Targets Targets
}

// Drop is the ids that one filter took out.
type Drop struct {
	Reason job.Reason
	Set    *idset.Set
}

// Drain takes parked recipients of one job and range and hands them over
// (rule 20). All of its ids are targets.
type Drain struct {
	Job     job.ID
	Range   job.Range
	Targets Targets
}

// Done tells where the targets of a reserve stand at one incarnation (rule 11):
// those in no set are delivered. It is cumulative, like the report behind it;
// what is still in Waiting stays open.
type Done struct {
	Job     job.ID
	Range   job.Range
	Of      job.Ref
	Inc     job.Incarnation
	Waiting *idset.Set // still handed off
	NotHere *idset.Set // parked
	Unacked *idset.Set // parked, flagged: may have been seen
	Mute    *idset.Set // in doubt
	Refused *idset.Set // failed(refused)
}

// Doubt says that nobody can tell what became of the open targets of a reserve
// at one incarnation: for now, and a later Done of the same two decides it; or
// for good (Final), because the incarnation is over and left nothing readable,
// and the home decides (rule 18).
type Doubt struct {
	Job   job.ID
	Range job.Range
	Of    job.Ref
	Inc   job.Incarnation
	Final bool
}

// Decide ends the doubt about recipients, whichever reserves it came from.
type Decide struct {
	Job       job.ID
	Range     job.Range
	Delivered *idset.Set // a client has it
	Parked    *idset.Set // parked again, flagged
	Failed    *idset.Set // failed(unknown)
}

// Outcome ends the waiting of parked recipients (rule 21).
type Outcome struct {
	Job     job.ID
	Range   job.Range
	Outcome job.Outcome
	Reason  job.Reason // with Dropped and Failed
	Set     *idset.Set
}

// Seal is the last entry of a journal: nothing after it counts.
type Seal struct {
	By job.Journal // zero if an owner sealed its own old journal before it had a new one
}

const (
	kindOpen = iota + 1
	kindReserve
	kindDrain
	kindDone
	kindDoubt
	kindDecide
	kindOutcome
	kindSeal
	kindCharge
)

func (Open) kind() byte     { return kindOpen }
func (*Reserve) kind() byte { return kindReserve }
func (*Drain) kind() byte   { return kindDrain }
func (*Done) kind() byte    { return kindDone }
func (*Doubt) kind() byte   { return kindDoubt }
func (*Decide) kind() byte  { return kindDecide }
func (*Outcome) kind() byte { return kindOutcome }
func (Seal) kind() byte     { return kindSeal }
func (*Charge) kind() byte  { return kindCharge }

const recordMagic = "CJ\x02"

// EncodeEntry gives the bytes of one entry, as they stand in a record.
func EncodeEntry(e Entry) []byte {
	var w bin.Writer
	w.Byte(e.kind())
	e.write(&w)
	return w.B
}

// EncodeRecord gives the bytes of a record whose entries are encoded already.
func EncodeRecord(r Record, entries [][]byte) []byte {
	size := 128
	for _, e := range entries {
		size += len(e) + 4
	}
	w := bin.Writer{B: make([]byte, 0, size)}
	w.Fixed([]byte(recordMagic))
	w.Journal(r.Journal)
	w.Uint(r.N)
	w.Fixed(r.Nonce[:])
	w.Fixed(r.Prev[:])
	w.Uint(uint64(len(entries)))
	for _, e := range entries {
		w.Bytes(e)
	}
	return w.B
}

// Bytes encodes the record.
func (r Record) Bytes() []byte {
	entries := make([][]byte, len(r.Entries))
	for i, e := range r.Entries {
		entries[i] = EncodeEntry(e)
	}
	return EncodeRecord(r, entries)
}

// HashOf is the value of Prev in the record that follows these bytes.
func HashOf(record []byte) job.Digest { return sha256.Sum256(record) }

// Sealed reports whether the record holds a seal.
func (r Record) Sealed() bool {
	for _, e := range r.Entries {
		if _, ok := e.(Seal); ok {
			return true
		}
	}
	return false
}

// SealAfter makes the record that ends a journal behind its last one, which is zero if it
// has none; sealed says that there is nothing to do, because that one ended it.
func SealAfter(j job.Journal, last Stored, by job.Journal, nonce [16]byte) (seal Record, sealed bool, err error) {
	seal = Record{Journal: j, Nonce: nonce, Entries: []Entry{Seal{By: by}}}
	if last.Seq == 0 {
		return seal, false, nil
	}
	rec, err := ParseRecord(last.Data)
	if err != nil {
		return Record{}, false, err
	}
	seal.N, seal.Prev = rec.N+1, HashOf(last.Data)
	return seal, rec.Sealed(), nil
}

// ParseRecord decodes a record. The sets it returns are its own.
func ParseRecord(b []byte) (Record, error) {
	rec, entries, err := SplitRecord(b)
	if err != nil {
		return Record{}, err
	}
	held := 0
	for i, body := range entries {
		e, err := ParseEntry(body)
		if err != nil {
			return Record{}, fmt.Errorf("entry %d of %s/%d: %w", i, rec.Journal, rec.N, err)
		}
		if held += Containers(e); held > MaxContainers && len(entries) > 1 {
			return Record{}, fmt.Errorf("%w: %s/%d has more than %d containers", ErrRecord, rec.Journal, rec.N, MaxContainers)
		}
		rec.Entries = append(rec.Entries, e)
	}
	return rec, nil
}

// Containers counts the containers that an entry's sets hold in memory.
func Containers(e Entry) (n int) {
	switch e := e.(type) {
	case *Charge:
		n = held(e.Dropped)
	case *Reserve:
		n = e.Targets.held() + held(e.Dropped)
	case *Drain:
		n = e.Targets.held()
	case *Done:
		for _, s := range e.sets() {
			n += (*s).Held()
		}
	case *Decide:
		n = e.Delivered.Held() + e.Parked.Held() + e.Failed.Held()
	case *Outcome:
		n = e.Set.Held()
	}
	return n
}

func held(drops []Drop) (n int) {
	for _, d := range drops {
		n += d.Set.Held()
	}
	return n
}

// SplitRecord decodes a record but for its entries, whose bytes it gives; they
// share the record's memory.
func SplitRecord(b []byte) (rec Record, entries [][]byte, err error) {
	r := bin.NewReader(b)
	if string(r.Fixed(len(recordMagic))) != recordMagic {
		return rec, nil, fmt.Errorf("%w: it starts with other bytes", ErrRecord)
	}
	rec.Journal, rec.N = r.Journal(), r.Uint()
	copy(rec.Nonce[:], r.Fixed(len(rec.Nonce)))
	rec.Prev = r.Digest()
	for range r.Max(MaxEntries) {
		body := r.Bytes()
		if r.Err(false) != nil {
			break
		}
		entries = append(entries, body)
	}
	if err := r.Err(true); err != nil {
		return Record{}, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return rec, entries, nil
}

// RecordFront is the most bytes of a record that NameOf needs.
const RecordFront = len(recordMagic) + 2 + 64 + binary.MaxVarintLen32 + binary.MaxVarintLen64

// NameOf reads a record's journal and number off its first bytes.
func NameOf(b []byte) (j job.Journal, n uint64, err error) {
	r := bin.NewReader(b)
	if string(r.Fixed(len(recordMagic))) != recordMagic {
		return j, 0, fmt.Errorf("%w: it starts with other bytes", ErrRecord)
	}
	j, n = r.Journal(), r.Uint()
	if err := r.Err(false); err != nil {
		return j, 0, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return j, n, nil
}

// ParseEntry decodes an entry as it stands in a record.
func ParseEntry(b []byte) (Entry, error) {
	e, err := readEntry(bin.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return e, nil
}

func readEntry(r *bin.Reader) (Entry, error) {
	var e Entry
	switch k := r.Byte(); k {
	case kindOpen:
		e = Open{Boot: r.String()}
	case kindReserve:
		e = readReserve(r)
	case kindDrain:
		e = &Drain{Job: r.JobID(), Range: readRange(r), Targets: readTargets(r)}
	case kindDone:
		e = readDone(r)
	case kindDoubt:
		e = &Doubt{Job: r.JobID(), Range: readRange(r), Of: r.Ref(), Inc: r.Incarnation(), Final: r.Bool()}
	case kindDecide:
		e = &Decide{Job: r.JobID(), Range: readRange(r), Delivered: r.Set(), Parked: r.Set(), Failed: r.Set()}
	case kindOutcome:
		e = &Outcome{Job: r.JobID(), Range: readRange(r), Outcome: job.Outcome(r.Max(uint64(job.Failed))),
			Reason: job.Reason(r.Byte()), Set: r.Set()}
	case kindSeal:
		e = Seal{By: r.Journal()}
	case kindCharge:
		e = readCharge(r)
	default:
		r.Fail(fmt.Errorf("kind %d is unknown to this version", k))
	}
	return e, r.Err(true)
}

func readRange(r *bin.Reader) job.Range { return job.Range(r.Max(job.Ranges - 1)) }

func (e Open) write(w *bin.Writer) { w.String(e.Boot) }

func (e *Reserve) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Uint(uint64(e.Slice))
	w.Span(e.Span)
	w.Uint(uint64(e.IDs))
	w.Byte(byte(e.Rest))
	writeDrops(w, e.Dropped)
	e.Targets.write(w)
}

func readReserve(r *bin.Reader) *Reserve {
	e := &Reserve{Job: r.JobID(), Slice: uint32(r.Max(1<<32 - 1)), Span: r.Span(), IDs: uint32(r.Max(1 << job.RangeBits)),
		Rest: job.Outcome(r.Max(uint64(job.Failed)))}
	e.Dropped = readDrops(r)
	e.Targets = readTargets(r)
	return e
}

func writeDrops(w *bin.Writer, drops []Drop) {
	w.Uint(uint64(len(drops)))
	for _, d := range drops {
		w.Byte(byte(d.Reason))
		w.Set(d.Set)
	}
}

func readDrops(r *bin.Reader) (drops []Drop) {
	for range r.Max(255) {
		drops = append(drops, Drop{job.Reason(r.Byte()), r.Set()})
	}
	return drops
}

// Range is the range that the block lies in.
func (e *Reserve) Range() job.Range { return job.Range(e.Span.Lo >> job.RangeBits) }

func (e *Drain) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Uint(uint64(e.Range))
	e.Targets.write(w)
}

func (e *Done) sets() [5]**idset.Set {
	return [5]**idset.Set{&e.Waiting, &e.NotHere, &e.Unacked, &e.Mute, &e.Refused}
}

func (e *Done) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Uint(uint64(e.Range))
	w.Ref(e.Of)
	w.Incarnation(e.Inc)
	for _, s := range e.sets() {
		w.Bool(!(*s).IsEmpty())
		if !(*s).IsEmpty() {
			w.Set(*s)
		}
	}
}

func readDone(r *bin.Reader) *Done {
	e := &Done{Job: r.JobID(), Range: readRange(r), Of: r.Ref(), Inc: r.Incarnation()}
	for _, s := range e.sets() {
		if r.Bool() {
			*s = r.Set()
		}
	}
	return e
}

func (e *Doubt) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Uint(uint64(e.Range))
	w.Ref(e.Of)
	w.Incarnation(e.Inc)
	w.Bool(e.Final)
}

func (e *Decide) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Uint(uint64(e.Range))
	w.Set(e.Delivered)
	w.Set(e.Parked)
	w.Set(e.Failed)
}

func (e *Outcome) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Uint(uint64(e.Range))
	w.Byte(byte(e.Outcome))
	w.Byte(byte(e.Reason))
	w.Set(e.Set)
}

func (e Seal) write(w *bin.Writer) { w.Journal(e.By) }
