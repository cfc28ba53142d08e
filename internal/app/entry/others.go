package entry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"crier/job"
	"crier/scheduler/apta/node"
	"crier/scheduler/apta/transport"
	"crier/scheduler/apta/wire"
	"crier/state/coord"
)

// lookEvery is how often others' leases are looked at.
const lookEvery = 200 * time.Millisecond

// clash says why a process with a lease of its own cannot be there beside one that holds
// another. An older program's lease says no profile and no protocol.
func clash(mine, other wire.Lease) error {
	if mine.ID == other.ID {
		if node.Replaces(mine, other) {
			return nil
		}
		return job.Conflict(fmt.Sprintf("name: %q is taken by a process at %s (start %d); give this one another name and data directory, or stop that one", mine.ID, other.Addr, other.Incarnation))
	}
	if theirs, ours := max(other.Protocol, 1), max(mine.Protocol, 1); theirs != ours {
		return job.Conflict(fmt.Sprintf("cluster.id: member %s at %s speaks protocol version %d, this program %d; run the same program everywhere", other.ID, other.Addr, theirs, ours))
	}
	if theirs := other.Profile; theirs != "" && theirs != mine.Profile {
		return job.Conflict(fmt.Sprintf("cluster.profile: member %s at %s has %q, this process %q; give all members the same, and stop all to change it", other.ID, other.Addr, theirs, mine.Profile))
	}
	return nil
}

// Bounds of asking members whether they take frames: each of them, how many answer, and how
// many do not.
const (
	reachedWithin = 1500 * time.Millisecond
	mostAnswers   = 3
	mostSilent    = 6
)

// Reach asks some of the members that have a lease whether they take this process's
// frames. It refuses a process of which those that answer take none; one whom nobody
// answers may be the first that is back.
func Reach(ctx context.Context, store coord.Store, id string, probe func(ctx context.Context, addr string) error) error {
	entries, err := store.List(ctx, "members")
	if err != nil {
		return fmt.Errorf("looking who is a member: %w", err)
	}
	var away error
	answers, silent := 0, 0 // whose lease is there may be dead
	for _, e := range entries {
		var other wire.Lease
		if err := json.Unmarshal(e.Value, &other); err != nil {
			return fmt.Errorf("decoding the lease %s: %w", e.Key, err)
		}
		if other.ID == id {
			continue
		}
		try, cancel := context.WithTimeout(ctx, reachedWithin)
		err := probe(try, other.Addr)
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, transport.ErrTurnedAway):
			away = fmt.Errorf("%s: %w", other.ID, err)
			answers++
		default:
			silent++
		}
		if answers == mostAnswers || silent == mostSilent {
			break
		}
	}
	if away != nil {
		return job.Invalid("cluster.tls.ca", "cluster.tls.cert, cluster.tls.key, cluster.tls.ca: a member does not take this process's connections; "+
			"give this process TLS if the others have it, none if they have none, and a certificate by the same authority", away)
	}
	return nil
}

// Clear looks at the leases in the store until none is there beside which a process could
// not be. One that is renewed is a live process's, and the error says why; one of a dead
// process lapses, for which it waits no longer than within.
func Clear(ctx context.Context, store coord.Store, mine wire.Lease, within time.Duration) error {
	return untilClear(ctx, store, within, func(e coord.Entry) (why, err error) {
		var other wire.Lease
		if err := json.Unmarshal(e.Value, &other); err != nil {
			return nil, fmt.Errorf("decoding the lease %s: %w", e.Key, err)
		}
		if id := strings.TrimPrefix(e.Key, "members/"); other.ID == "" && id != mine.ID {
			return job.Conflict(fmt.Sprintf("nats.servers: process %s has no cluster.listen and works on this ledger alone; stop it, or make it a member", id)), nil
		}
		return clash(mine, other), nil
	})
}

// Sole is Clear for a process that knows of no others: nobody may be there beside it.
func Sole(ctx context.Context, store coord.Store, id string, within time.Duration) error {
	return untilClear(ctx, store, within, func(e coord.Entry) (why, err error) {
		other := strings.TrimPrefix(e.Key, "members/")
		if other == id {
			return nil, nil
		}
		return job.Conflict(fmt.Sprintf("cluster.listen: process %s works on the ledger in nats.servers; give this process cluster.listen, and the others' sql.dsn, blobs and keys, or another ledger", other)), nil
	})
}

// untilClear looks until no lease gives a reason why not.
func untilClear(ctx context.Context, store coord.Store, within time.Duration, whyNot func(coord.Entry) (why, err error)) error {
	seen := map[string]coord.Version{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for end := time.Now().Add(within); ; {
		why, alive, err := look(ctx, store, whyNot, seen)
		if err != nil || why == nil {
			return err
		}
		if alive || time.Now().After(end) {
			return why
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look gives a reason why not, and whether that one's lease was renewed since it was seen
// before.
func look(ctx context.Context, store coord.Store, whyNot func(coord.Entry) (why, err error), seen map[string]coord.Version) (why error, alive bool, err error) {
	entries, err := store.List(ctx, "members")
	if err != nil {
		return nil, false, fmt.Errorf("looking who is a member: %w", err)
	}
	for _, e := range entries {
		c, err := whyNot(e)
		if err != nil {
			return nil, false, err
		}
		if c == nil {
			continue
		}
		before, was := seen[e.Key]
		if seen[e.Key] = e.Version; was && before != e.Version {
			return c, true, nil
		}
		why = c
	}
	return why, false, nil
}
