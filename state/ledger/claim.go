package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"crier/internal/pause"
	"crier/job"
)

// Subjects of the ledger stream and of the stream of controls.
const (
	Stream        = "LEDGER"
	ControlStream = "CTL"

	AllSubjects    = "led.>"
	ClusterSubject = "led.cluster" // whose ledger it is
	AllJournals    = "led.j.>"
	AllJobs        = "led.job.*"
	AllClaims      = "led.claim.>"
	AllControls    = "ctl.*"
	journalRoot    = "led.j."
	jobRoot        = "led.job."
	claimRoot      = "led.claim."
	controlsRoot   = "ctl."
)

// JournalSubject is where a journal's records go.
func JournalSubject(j job.Journal) string { return journalRoot + j.String() }

// JournalOf reads the journal's name off its subject.
func JournalOf(subject string) (job.Journal, error) {
	if len(subject) <= len(journalRoot) || subject[:len(journalRoot)] != journalRoot {
		return job.Journal{}, fmt.Errorf("subject %q is no journal's", subject)
	}
	return job.ParseJournal(subject[len(journalRoot):])
}

// IsJournal reports whether a subject is a journal's.
func IsJournal(subject string) bool { return strings.HasPrefix(subject, journalRoot) }

// JobSubject is where a job's transitions go.
func JobSubject(id job.ID) string { return jobRoot + id.String() }

// ControlSubject is where a job's controls go.
func ControlSubject(id job.ID) string { return controlsRoot + id.String() }

// ControlJob reads the job off a control's subject.
func ControlJob(subject string) (job.ID, error) {
	if len(subject) <= len(controlsRoot) {
		return job.ID{}, fmt.Errorf("subject %q is no control's", subject)
	}
	return job.ParseID(subject[len(controlsRoot):])
}

// ClaimKind says what is claimed.
type ClaimKind string

// What can be claimed. A claim on a job never authorises sending.
const (
	ClaimJob     ClaimKind = "job"
	ClaimSlice   ClaimKind = "slice"
	ClaimRange   ClaimKind = "range"
	ClaimJournal ClaimKind = "journal" // a sealed one, to close its open reserves (rule 12)
	ClaimRole    ClaimKind = "role"    // what one process at a time does for all: recorder, folder
	ClaimGateway ClaimKind = "gateway" // an incarnation of a gateway, to say for good that it is over (rule 24)
)

// Claim is the exclusive right to act on something; its epoch only grows (rule 4).
// One that names no journal is a release: its owner gave it up, and whoever has read
// all that the owner appended about it may take it.
type Claim struct {
	Kind    ClaimKind   `json:"kind"`
	ID      string      `json:"id"`
	Epoch   uint64      `json:"epoch"`
	Journal job.Journal `json:"journal"` // of the claimant
	At      time.Time   `json:"at"`
	After   uint64      `json:"after,omitempty"` // with a release: the sequence of the last record of its owner's journal
	// Tries is how often in a row the thing was taken from an owner that did not get on with
	// it. Of a job: within the version Of of it.
	Tries uint32 `json:"tries,omitempty"`
	Of    uint64 `json:"of,omitempty"`
	Seq   uint64 `json:"-"` // of this record
}

// Thing is what a claim is about.
func (c Claim) Thing() Thing { return Thing{c.Kind, c.ID} }

// Thing is something that can be claimed.
type Thing struct {
	Kind ClaimKind
	ID   string
}

// rangeThings are made once: a worker goes over all of them again and again.
var rangeThings = func() (all [job.Ranges]Thing) {
	for r := range all {
		all[r] = Thing{ClaimRange, job.Range(r).String()}
	}
	return all
}()

// RangeThing is the claim on being the home of a range.
func RangeThing(r job.Range) Thing { return rangeThings[r] }

// JobThing is the claim on moving a job on.
func JobThing(id job.ID) Thing { return Thing{ClaimJob, id.String()} }

// SliceThing is the claim on sending a slice.
func SliceThing(id job.ID, number uint32) Thing {
	return Thing{ClaimSlice, fmt.Sprintf("%s-%d", id, number)}
}

// SliceOf reads what SliceThing made.
func SliceOf(t Thing) (id job.ID, number uint32, ok bool) {
	name, n, found := strings.Cut(t.ID, "-")
	if t.Kind != ClaimSlice || !found {
		return id, 0, false
	}
	id, err := job.ParseID(name)
	k, err2 := strconv.ParseUint(n, 10, 32)
	return id, uint32(k), err == nil && err2 == nil
}

// JournalThing is the claim on closing what a sealed journal left open.
func JournalThing(j job.Journal) Thing { return Thing{ClaimJournal, j.String()} }

// GatewayThing is the claim by which an incarnation of a gateway is over.
func GatewayThing(inc job.Incarnation) Thing { return Thing{ClaimGateway, inc.String()} }

// GatewayOf reads what GatewayThing made.
func GatewayOf(t Thing) (job.Incarnation, bool) {
	inc, err := job.ParseIncarnation(t.ID)
	return inc, t.Kind == ClaimGateway && err == nil
}

// String is the kind and the name.
func (t Thing) String() string { return string(t.Kind) + " " + t.ID }

// ClaimSubject is where the claims of one thing go.
func ClaimSubject(t Thing) string { return claimRoot + string(t.Kind) + "." + t.ID }

// Bytes encodes the claim.
func (c Claim) Bytes() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("encoding a claim: %v", err)) // its fields cannot fail
	}
	return b
}

// ParseClaim decodes the record of a claim.
func ParseClaim(st Stored) (Claim, error) {
	var c Claim
	if err := json.Unmarshal(st.Data, &c); err != nil {
		return c, fmt.Errorf("decoding the claim in record %d: %w", st.Seq, err)
	}
	c.Seq = st.Seq
	return c, nil
}

// ErrHeld is wrapped when what is to be claimed has a living owner.
var ErrHeld = errors.New("ledger: it is held by another")

// ErrBehind is wrapped when whoever claims has not yet read what was appended before
// the thing became free; it may try again when it has.
var ErrBehind = errors.New("ledger: what was appended before is not read yet")

// Taker says who claims, and what it knows.
type Taker struct {
	Journal job.Journal
	// Sealed reports whether a journal is sealed and everything up to its seal is read:
	// its owner has no effect any more.
	Sealed func(job.Journal) bool
	// Read is the sequence below which it has read every journal record; nil if that does
	// not matter for what is claimed.
	Read func() uint64
}

// Next decides, from the last claim on a thing, about taking it: it gives the claim to be
// appended behind the last one; the last one itself if it is the taker's already; or
// ErrHeld or ErrBehind.
func (by Taker) Next(last Claim, at time.Time) (Claim, error) {
	switch {
	case last.Journal == by.Journal:
		return last, nil
	case !last.Journal.IsZero() && !by.Sealed(last.Journal):
		return last, fmt.Errorf("%w: %s has the %s", ErrHeld, last.Journal, last.Thing())
	case last.Journal.IsZero() && by.Read != nil && by.Read() <= last.After:
		return last, fmt.Errorf("%w: the %s was released after record %d", ErrBehind, last.Thing(), last.After)
	}
	return Claim{Kind: last.Kind, ID: last.ID, Epoch: last.Epoch + 1, Journal: by.Journal, At: at.UTC(), Tries: last.Tries, Of: last.Of}, nil
}

// Release decides, from the last claim on its thing, about giving a claim up: ok is false
// if it is not the last one any more, because it was given up already or taken.
func (c Claim) Release(last Claim, after uint64, at time.Time) (free Claim, ok bool) {
	if last.Journal != c.Journal || last.Epoch != c.Epoch {
		return last, false
	}
	return Claim{Kind: c.Kind, ID: c.ID, Epoch: last.Epoch + 1, After: after, At: at.UTC(), Tries: last.Tries, Of: last.Of}, true
}

// Take makes a journal's owner the holder of a thing, if nobody holds it, or its
// holder released it or is sealed, and the taker has read all that was appended
// before. It is idempotent: who holds it already gets the claim as it stands. A living
// holder is ErrHeld. It tries again, ever more slowly, as long as the ledger is read
// but not written, until ctx ends.
func Take(ctx context.Context, l Log, thing Thing, by Taker) (Claim, error) {
	for wait := firstTakeWait; ; {
		last, err := LastClaim(ctx, l, thing)
		if err != nil {
			return last, err
		}
		mine, err := by.Next(last, time.Now())
		if err != nil || mine.Epoch == last.Epoch {
			return last, err
		}
		mine.Seq, err = l.Append(ctx, ClaimSubject(thing), last.Seq, mine.Bytes())
		if err == nil {
			return mine, nil
		}
		if errors.Is(err, ErrFull) || !pause.For(ctx, wait) {
			return last, fmt.Errorf("claiming the %s: %w", thing, err)
		}
		wait = min(2*wait, lastTakeWait)
		// Stored or not, the next reading of the claim tells (rule 2).
	}
}

// Give releases a claim, if it is still the last one. Its owner has appended all that it
// ever appends about the thing, the last of it in record after or before. It is
// idempotent, and tries again like Take.
func Give(ctx context.Context, l Log, c Claim, after uint64) error {
	for wait := firstTakeWait; ; wait = min(2*wait, lastTakeWait) {
		last, err := LastClaim(ctx, l, c.Thing())
		if err != nil {
			return err
		}
		free, ok := c.Release(last, after, time.Now())
		if !ok {
			return nil
		}
		if _, err = l.Append(ctx, ClaimSubject(c.Thing()), last.Seq, free.Bytes()); err == nil {
			return nil
		}
		if errors.Is(err, ErrFull) || !pause.For(ctx, wait) {
			return fmt.Errorf("releasing the %s: %w", c.Thing(), err)
		}
	}
}

// TakeAway releases a job's claim in the place of its owner, who did not move the job on
// from a version, if it is still the last claim. Who is taken from has no effect that
// matters: each transition expects the one before. It is idempotent, and does not wait
// for a ledger that is not written.
func TakeAway(ctx context.Context, l Log, c Claim, version uint64, at time.Time) error {
	last, err := LastClaim(ctx, l, c.Thing())
	if err != nil {
		return err
	}
	free, ok := c.Release(last, 0, at)
	if !ok {
		return nil
	}
	if free.Of != version {
		free.Tries, free.Of = 0, version
	}
	free.Tries++
	if _, err := l.Append(ctx, ClaimSubject(c.Thing()), last.Seq, free.Bytes()); err != nil {
		return fmt.Errorf("taking the %s from %s: %w", c.Thing(), c.Journal, err)
	}
	return nil
}

// LastClaim reads the last claim on a thing; one with epoch 0 says that there was none.
func LastClaim(ctx context.Context, l Log, thing Thing) (Claim, error) {
	st, err := l.Last(ctx, ClaimSubject(thing))
	if errors.Is(err, ErrNoRecord) {
		return Claim{Kind: thing.Kind, ID: thing.ID}, nil
	}
	if err != nil {
		return Claim{}, fmt.Errorf("reading the claim on the %s: %w", thing, err)
	}
	return ParseClaim(st)
}

// Pauses of Take after an append that was not stored, for all that it knows.
const (
	firstTakeWait = 5 * time.Millisecond
	lastTakeWait  = time.Second
)
