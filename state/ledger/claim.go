package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"crier/job"
)

// Subjects of the ledger stream and of the stream of controls.
const (
	Stream        = "LEDGER"
	ControlStream = "CTL"

	AllSubjects  = "led.>"
	AllJournals  = "led.j.>"
	AllJobs      = "led.job.*"
	AllClaims    = "led.claim.>"
	AllControls  = "ctl.*"
	journalRoot  = "led.j."
	jobRoot      = "led.job."
	claimRoot    = "led.claim."
	controlsRoot = "ctl."
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
)

// Claim is the exclusive right to act on something; its epoch only grows (rule 4).
type Claim struct {
	Kind    ClaimKind   `json:"kind"`
	ID      string      `json:"id"`
	Epoch   uint64      `json:"epoch"`
	Journal job.Journal `json:"journal"` // of the claimant
	At      time.Time   `json:"at"`
}

// ClaimSubject is where the claims of one thing go.
func ClaimSubject(k ClaimKind, id string) string { return claimRoot + string(k) + "." + id }

// Bytes encodes the claim.
func (c Claim) Bytes() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("encoding a claim: %v", err)) // its fields cannot fail
	}
	return b
}

// ParseClaim decodes a claim.
func ParseClaim(b []byte) (Claim, error) {
	var c Claim
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("decoding a claim: %w", err)
	}
	return c, nil
}

// Take makes a journal's owner the holder of something, if nobody holds it or
// free says that its holder is dead (its journal is sealed). It is idempotent: who
// holds it already gets the claim as it stands. A living holder is a conflict. It
// tries again, ever more slowly, as long as the ledger is read but not written, until
// ctx ends.
func Take(ctx context.Context, l Log, mine Claim, free func(job.Journal) bool) (Claim, error) {
	subject := ClaimSubject(mine.Kind, mine.ID)
	for wait := firstTakeWait; ; {
		var last Claim
		st, err := l.Last(ctx, subject)
		switch {
		case err == nil:
			if last, err = ParseClaim(st.Data); err != nil {
				return last, err
			}
		case !errors.Is(err, ErrNoRecord):
			return last, fmt.Errorf("reading the claim of %s %s: %w", mine.Kind, mine.ID, err)
		}
		if last.Journal == mine.Journal {
			return last, nil
		}
		if !last.Journal.IsZero() && !free(last.Journal) {
			return last, job.Conflict(fmt.Sprintf("%s %s is held by %s", mine.Kind, mine.ID, last.Journal))
		}
		mine.Epoch = last.Epoch + 1
		if _, err := l.Append(ctx, subject, st.Seq, mine.Bytes()); err != nil {
			if errors.Is(err, ErrFull) || !pause(ctx, wait) {
				return last, fmt.Errorf("claiming %s %s: %w", mine.Kind, mine.ID, err)
			}
			wait = min(2*wait, lastTakeWait)
		}
		// Stored or not, the next reading of the claim tells (rule 2).
	}
}

// Pauses of Take after an append that was not stored, for all that it knows.
const (
	firstTakeWait = 5 * time.Millisecond
	lastTakeWait  = time.Second
)

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
