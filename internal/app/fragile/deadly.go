package main

import (
	"context"
	"os"
	"syscall"

	"crier/filters"
	"crier/internal/idset"
	"crier/job"
)

// deadly are the filters of production, and one more if the process is to die at a recipient.
func deadly(at int64) func(filters.Lists) filters.Chain {
	if at < 0 {
		return nil
	}
	return func(l filters.Lists) filters.Chain { return append(filters.New(l), killer(at)) }
}

// killer is a filter that ends its process at a recipient, as a lack of memory does.
type killer uint32

// Reason is what the filter drops for; it drops nobody.
func (killer) Reason() job.Reason { return job.ReasonRelation }

// Refuse refuses nobody.
func (k killer) Refuse(_ context.Context, in *idset.Set) (*idset.Set, error) {
	if in.Has(uint32(k)) {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it is gone
	}
	return idset.New(in.Range), nil
}
