package node

import (
	"context"
	"time"

	"crier/scheduler/apta/wire"
)

// Transport carries frames between members; package transport has them.
type Transport interface {
	// Addr is where this member hears, as others dial it.
	Addr() string
	// Send puts a frame on its way. It never waits, and the frame may be lost.
	Send(addr string, frame []byte)
	// Run receives until ctx ends and then releases everything. deliver may be called
	// by several goroutines.
	Run(ctx context.Context, deliver func(frame []byte)) error
}

// Leases is the members' leases in the coordination store. All methods are safe for
// concurrent use. Any error but the context's own may hide that the store did what it
// was asked.
type Leases interface {
	// Renew writes a lease that is there for ttl from when the store took it, or makes
	// it anew if it has lapsed. It is idempotent. It replaces a lease that is there if
	// that is of the same process (nonce) and not of a higher incarnation, or of the
	// same home (not 0) and a lower incarnation; else ok is false and holder is whose
	// it is. It may be called for any member's lease.
	Renew(ctx context.Context, l wire.Lease, ttl time.Duration) (holder wire.Lease, ok bool, err error)
	// Release removes a lease if it is still of this process. It is idempotent.
	Release(ctx context.Context, l wire.Lease) error
	// Watch calls seen for each lease that is there, and when one is there, is another
	// or is gone (alive is false, and only the ID counts), in order for each member;
	// renewals may be left out. It calls sawAll when all that the store had when it was
	// asked has been seen, at least every second while the store answers. It returns
	// when ctx ends, or an error, after which it is called again, and begins anew. It calls
	// both one at a time.
	Watch(ctx context.Context, seen func(l wire.Lease, alive bool), sawAll func()) error
}

// Application is what the member's owner does for it. All methods but Beat may take
// their time; they are called by goroutines of their own, Changed and Silenced by one each.
type Application interface {
	// Beat reports whether the application's own loop goes on. It must not wait. A
	// member whose application does not says no hello and renews no lease.
	Beat() bool
	// Changed tells that the view or the member's own state is another, with the newest
	// of both; what was passed quickly is left out.
	Changed(s *Snapshot)
	// Silenced keeps what an operator wants of the member for its next start, whose
	// Config.Silence it is. What was passed quickly is left out, the last one never.
	Silenced(reason string)
	// Rejoin releases what the member holds, or seals its journal; it returns the
	// incarnation that the member goes on with. It was cut off, and others may have
	// taken what it held. An error leads to another try.
	Rejoin(ctx context.Context) (incarnation uint32, err error)
	// Execute does what another member asked for, and returns the answer. The other
	// one may have given up.
	Execute(ctx context.Context, from, kind string, body []byte) ([]byte, error)
}
