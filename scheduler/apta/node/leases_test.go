package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"crier/scheduler/apta/node"
	"crier/scheduler/apta/node/nodetest"
	"crier/scheduler/apta/wire"
	"crier/state/coord"
)

// overCoord is the leases over the coordination seam: that they can be kept there is
// what it shows. Members live under members/<id>.
type overCoord struct{ store coord.Store }

var _ node.Leases = overCoord{}

const tries = 4

func (o overCoord) Renew(ctx context.Context, l wire.Lease, ttl time.Duration) (wire.Lease, bool, error) {
	value, err := json.Marshal(l)
	if err != nil {
		return wire.Lease{}, false, err
	}
	for range tries {
		there, version, err := o.get(ctx, l.ID)
		if err != nil {
			return wire.Lease{}, false, err
		}
		if version > 0 && !node.Replaces(l, there) {
			return there, false, nil
		}
		if _, err = o.store.Lease(ctx, "members/"+l.ID, value, version, ttl); !errors.Is(err, coord.ErrConflict) {
			return wire.Lease{}, err == nil, err
		}
	}
	return wire.Lease{}, false, coord.ErrConflict
}

func (o overCoord) get(ctx context.Context, id string) (l wire.Lease, v coord.Version, err error) {
	e, err := o.store.Get(ctx, "members/"+id)
	if errors.Is(err, coord.ErrNotFound) {
		return l, 0, nil
	}
	if err != nil {
		return l, 0, err
	}
	return l, e.Version, json.Unmarshal(e.Value, &l)
}

func (o overCoord) Release(ctx context.Context, l wire.Lease) error {
	there, version, err := o.get(ctx, l.ID)
	if err != nil || version == 0 || there.Nonce != l.Nonce {
		return err
	}
	if err := o.store.Delete(ctx, "members/"+l.ID, version); !errors.Is(err, coord.ErrConflict) {
		return err
	}
	return nil
}

func (o overCoord) Watch(ctx context.Context, seen func(wire.Lease, bool), sawAll func()) error {
	return o.store.Watch(ctx, "members", func(c coord.Change) error {
		var l wire.Lease
		if c.Gone {
			l.ID = strings.TrimPrefix(c.Key, "members/")
		} else if err := json.Unmarshal(c.Value, &l); err != nil {
			return nil // not ours
		}
		seen(l, !c.Gone)
		return nil
	}, sawAll)
}

func times(n int, l node.Leases) []node.Leases {
	list := make([]node.Leases, n)
	for i := range list {
		list[i] = l
	}
	return list
}

func TestLeasesInMemory(t *testing.T) {
	nodetest.Leases(t, func(_ *testing.T, n int) []node.Leases { return times(n, node.NewMemory()) }, time.Second)
}

func TestLeasesOverCoord(t *testing.T) {
	nodetest.Leases(t, func(_ *testing.T, n int) []node.Leases { return times(n, overCoord{coord.NewMemory(nil)}) }, time.Second)
}
