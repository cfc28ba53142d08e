package client

// Store remembers the ids of messages that were shown and are not settled. It
// belongs to one installation and one recipient: all recipients of a job get the
// same message id, so two people who use one device in turn need two stores, or the
// second does not see what the first has seen. A Client calls it from one goroutine
// at a time. Memory and File implement it.
type Store interface {
	// Load gives the id of this installation and the ids remembered, in any order. A
	// Client asks once each Run.
	Load() (client string, ids []string, err error)

	// Add remembers an id. When it has returned nil, the id survives the end of the
	// process. Idempotent. After an error the id may be remembered or not, and the
	// same Add comes again.
	Add(id string) error

	// Forget removes ids; unknown ones are ignored. Idempotent. After an error, or a
	// power cut before Sync, they may still be remembered, which does no harm.
	Forget(ids []string) error

	// Sync makes what Add and Forget did survive a power cut. After an error nothing
	// done since the last Sync is certain, and Sync comes again before anything that
	// relies on it.
	Sync() error
}
