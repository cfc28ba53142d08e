package entry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"crier/internal/app/datadir"
	"crier/internal/app/member"
	"crier/job"
	"crier/state/ledger"
)

// unclaimed is how many starts of a process whose directory was lost may have come behind
// the last one that the ledger tells of: not every start claims anything.
const unclaimed = 64

// Number looks whether the ledger knows a process of this name by the number of this start
// or a later one: its data directory was lost, or is an old copy. By such a number it would be
// taken for one that is over, and an old copy does not know what was accepted since. If the name is
// among what is begun anew the directory goes on behind all that are known.
func (d *Desk) Number(ctx context.Context, data string, n *datadir.Node, log *slog.Logger) error {
	last, err := lastStart(ctx, d.log, n.Name)
	switch {
	case err != nil:
		return fmt.Errorf("reading in the ledger which starts of this process there were: %w", err)
	case last < n.Starts:
		return nil
	case slices.Contains(d.adopt, "name"):
		log.Warn("the data directory is begun anew; what its starts before accepted is in doubt", "name", n.Name, "start", last+unclaimed)
		return datadir.Anew(data, n, last+unclaimed)
	}
	return job.Conflict(fmt.Sprintf("name: the ledger knows a process %q with the start number %d, and this data directory counts %d: it is another one, or an old copy; "+
		"give this process the data directory that it had, or another name, or, if that directory is lost for good, start it once with cluster.adopt: [name]", n.Name, last, n.Starts))
}

// lastStart is the highest number of a start of a process by what it claimed, and by what
// others claimed of it; 0 if there is none.
func lastStart(ctx context.Context, log ledger.Log, name string) (last uint32, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	read := false
	err = log.Follow(ctx, 1, ledger.AllClaims, func(st ledger.Stored) error {
		c, err := ledger.ParseClaim(st)
		if err != nil {
			return err
		}
		if member.Of(c.Journal.Worker) == name {
			last = max(last, c.Journal.Incarnation)
		}
		if inc, ok := ledger.GatewayOf(c.Thing()); ok && member.Of(inc.Gateway) == name {
			last = max(last, inc.Start)
		}
		if c.Kind == ledger.ClaimJournal {
			if j, err := job.ParseJournal(c.ID); err == nil && member.Of(j.Worker) == name {
				last = max(last, j.Incarnation)
			}
		}
		return nil
	}, func() { read = true; stop() })
	if read && errors.Is(err, context.Canceled) {
		err = nil
	}
	return last, err
}
