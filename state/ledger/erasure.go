package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"crier/job"
)

// AllErasures is where the erasures of all recipients go.
const (
	AllErasures = "led.erased.*"
	erasedRoot  = "led.erased."
)

// Erasure says that a recipient asked to be forgotten: for them, what stands before this
// record does not count any more. It is never purged.
type Erasure struct {
	Recipient job.Recipient `json:"recipient"`
	At        time.Time     `json:"at"`
	Key       string        `json:"key"` // with which it was asked for
}

// ErasureSubject is where the erasures of one recipient go.
func ErasureSubject(who job.Recipient) string { return erasedRoot + who.String() }

// IsErasure reports whether a subject is where somebody's erasures go.
func IsErasure(subject string) bool { return strings.HasPrefix(subject, erasedRoot) }

// Bytes encodes the erasure.
func (e Erasure) Bytes() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("encoding an erasure: %v", err)) // its fields cannot fail
	}
	return b
}

// ParseErasure decodes the record of an erasure, of the recipient that its subject names.
func ParseErasure(st Stored) (Erasure, error) {
	var e Erasure
	if err := json.Unmarshal(st.Data, &e); err != nil {
		return e, fmt.Errorf("%w: decoding the erasure in record %d: %w", ErrRecord, st.Seq, err)
	}
	if st.Subject != ErasureSubject(e.Recipient) {
		return e, fmt.Errorf("%w: the erasure in record %d is of another recipient than its subject", ErrRecord, st.Seq)
	}
	return e, nil
}
