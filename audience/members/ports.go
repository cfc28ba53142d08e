package members

import (
	"context"
	"errors"
	"io"
	"iter"

	"crier/job"
	"crier/state/blob"
)

// Errors of a Sets store.
var (
	// ErrStale: the set is no longer at the revision that a change builds on.
	// Nothing was stored; read the set again.
	ErrStale = errors.New("the set has another revision")
	// ErrNoSnapshot: there is no snapshot of that revision, or no longer.
	ErrNoSnapshot = errors.New("there is no snapshot of that revision")
)

// Head is the newest state of a set. Of a set that was never changed all but the
// key is zero.
type Head struct {
	Key
	Revision       uint64
	Cardinality    uint64
	Snapshot       Snapshot // the newest; zero if there is none
	Increments     int      // those after the snapshot
	IncrementBytes uint64   // the size of their sets
}

// Snapshot says that a set, at a revision, is what a blob holds.
type Snapshot struct {
	Revision    uint64
	Blob        job.Digest
	Cardinality uint64
	Pinned      bool // kept after a newer one, because a job may name it
}

// Increment is what one revision changed. Both sets are encoded as sets of
// ascending ranges, one after the other.
type Increment struct {
	Revision    uint64
	Adds        []byte // none of them was in the set before
	Removes     []byte // each of them was
	Cardinality uint64 // of the set after it
}

// Change makes the next revision of a set: by an increment, or, if it is a large
// one, by a snapshot. A change that has neither makes no revision.
type Change struct {
	Key
	Base        uint64 // the revision it builds on
	Adds        []byte
	Removes     []byte
	Snapshot    job.Digest // zero, or the blob that holds the set after the change
	Cardinality uint64     // of the set after it
	MakeAccount bool       // make the account that owns the set if there is none
}

// IsEmpty reports whether the change makes no revision.
func (c Change) IsEmpty() bool {
	return len(c.Adds) == 0 && len(c.Removes) == 0 && c.Snapshot.IsZero()
}

// Sets keeps heads, increments and the places of snapshots. All methods are safe
// for concurrent use, and what a method stored is durable when it returns.
type Sets interface {
	// Head gives the newest state of a set.
	Head(ctx context.Context, key Key) (Head, error)
	// Scan gives the newest states of up to limit sets of a kind that were ever
	// changed, in ascending order of owner, starting with owner from.
	Scan(ctx context.Context, kind Kind, from uint32, limit int) ([]Head, error)
	// Load gives one set's head and the increments after its snapshot, in
	// ascending order of revision, both as of one moment.
	Load(ctx context.Context, key Key) (Head, []Increment, error)
	// Append stores all the changes or, if one cannot be stored or carries an
	// error, none, and tells how many accounts it made. A change whose Base is
	// not the set's revision is ErrStale. It is not idempotent: a repetition is
	// ErrStale. No key may occur twice.
	Append(ctx context.Context, changes iter.Seq2[Change, error]) (accounts int, err error)
	// AddSnapshot records a snapshot of a revision that the set has reached
	// (ErrStale if not). The newest replaces the increments up to it, and older
	// ones that are not pinned are forgotten. It is idempotent; a pinned
	// snapshot stays pinned.
	AddSnapshot(ctx context.Context, key Key, s Snapshot) error
	// SnapshotAt gives the snapshot of exactly that revision, or ErrNoSnapshot.
	SnapshotAt(ctx context.Context, key Key, revision uint64) (Snapshot, error)
}

// Blobs keeps the snapshots' bytes under their digest.
type Blobs interface {
	// Put stores bytes durably; equal bytes are one blob.
	Put(ctx context.Context, r io.Reader) (job.Digest, int64, error)
	// Open gives a blob for reading.
	Open(ctx context.Context, digest job.Digest) (*blob.Handle, error)
}
