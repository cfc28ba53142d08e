package job

import (
	"fmt"
	"strconv"
	"strings"
)

// Journal names one worker incarnation's sequence of appends to the ledger.
type Journal struct {
	Worker      string
	Incarnation uint32
}

// Incarnation names one start of a gateway; a restart is another incarnation.
type Incarnation struct {
	Gateway string
	Start   uint32
}

// Ref is the identity of a reserve: its journal, its record number there and
// its place in the record. A hand-off carries it (protocol rule 9).
type Ref struct {
	Journal Journal
	N       uint64
	Entry   uint16
}

// String writes the journal as worker.incarnation, a token of a subject.
func (j Journal) String() string { return name(j.Worker, j.Incarnation) }

// IsZero reports whether the journal is unset.
func (j Journal) IsZero() bool { return j == Journal{} }

// MarshalText writes what String writes.
func (j Journal) MarshalText() ([]byte, error) { return []byte(j.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (j *Journal) UnmarshalText(b []byte) error {
	v, err := ParseJournal(string(b))
	*j = v
	return err
}

// ParseJournal reads what Journal.String writes.
func ParseJournal(s string) (Journal, error) {
	w, n, err := parseName("journal", s)
	return Journal{w, n}, err
}

// String writes the incarnation as gateway.start.
func (i Incarnation) String() string { return name(i.Gateway, i.Start) }

// IsZero reports whether the incarnation is unset.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// MarshalText writes what String writes.
func (i Incarnation) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (i *Incarnation) UnmarshalText(b []byte) error {
	v, err := ParseIncarnation(string(b))
	*i = v
	return err
}

// ParseIncarnation reads what Incarnation.String writes.
func ParseIncarnation(s string) (Incarnation, error) {
	g, n, err := parseName("gateway incarnation", s)
	return Incarnation{g, n}, err
}

// String writes the reference as journal/n/entry.
func (r Ref) String() string { return fmt.Sprintf("%s/%d/%d", r.Journal, r.N, r.Entry) }

// IsZero reports whether the reference is unset.
func (r Ref) IsZero() bool { return r == Ref{} }

// Before orders two references of the same journal.
func (r Ref) Before(o Ref) bool { return r.N < o.N || r.N == o.N && r.Entry < o.Entry }

func name(base string, n uint32) string {
	if base == "" {
		return ""
	}
	return base + "." + strconv.FormatUint(uint64(n), 10)
}

func parseName(what, s string) (string, uint32, error) {
	if s == "" {
		return "", 0, nil
	}
	i := strings.LastIndexByte(s, '.')
	if i > 0 && ValidName(s[:i]) {
		// One spelling only: a name is a subject, and w.1 is not the subject w.01.
		if n, err := strconv.ParseUint(s[i+1:], 10, 32); err == nil && name(s[:i], uint32(n)) == s {
			return s[:i], uint32(n), nil
		}
	}
	return "", 0, fmt.Errorf("%s %q: want name.number", what, s)
}

// ValidName reports whether s can name a worker, a gateway or an account: 1 to
// 64 of a–z, A–Z, 0–9, "-" and "_", so that it is one token of a NATS subject.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
