package service

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"crier/api"
	"crier/internal/idset"
	"crier/job"
)

// eraseLook is how often it is looked whether the homes have dropped what was parked.
const eraseLook = 100 * time.Millisecond

// EraseRecipient implements api.Recipients. The record in the ledger comes last: if the
// process dies before it, a repeat takes out what is left; behind it nothing of before counts
// for the recipient any more, whoever dies: the gateways refuse its tokens, the indexes forget
// what it was charged, and the homes drop what waits. What is submitted meanwhile finds it in no set any more.
func (s *Service) EraseRecipient(ctx context.Context, who job.Recipient, req api.Erase) (api.Erasure, error) {
	out := api.Erasure{Recipient: who}
	c, err := api.CallerOf(ctx)
	if err == nil {
		err = req.Validate()
	}
	if err != nil {
		return out, err
	}
	act := api.ActOf(ctx)
	act.On(job.DefaultTenant, "recipient/"+who.String())
	act.Reason = cmp.Or(act.Reason, req.Reason)
	if out.Followed, out.Segments, err = s.Forget(ctx, who); err != nil {
		return out, fmt.Errorf("taking a recipient out of the sets: %w", err)
	}
	if out.Keys, err = s.RevokeDevices(ctx, who); err != nil {
		return out, err
	}
	if s.cfg.Whereabouts != nil {
		for _, at := range s.cfg.Whereabouts(ctx, who).Online {
			out.Connections += at.Connections
		}
	}
	if out.Parked, err = s.parkedBefore(ctx, who, math.MaxUint64); err != nil {
		return out, err
	}
	if out.Record, err = s.cfg.Erased.Erase(ctx, who, c.Key, now()); err != nil {
		return out, err
	}
	if out.Left, err = s.dropped(ctx, who, out.Record); err != nil {
		return out, err
	}
	out.Kept = slices.Clone(kept)
	return out, nil
}

// parkedBefore counts the messages of jobs accepted before a record that wait for a recipient.
func (s *Service) parkedBefore(ctx context.Context, who job.Recipient, record uint64) (n uint64, err error) {
	items, err := s.cfg.Index.ParkedOf(idset.Of(uint32(who)))
	if err != nil {
		return 0, fmt.Errorf("looking what is parked for a recipient: %w", err)
	}
	for _, it := range items {
		it.Set.Release()
		at, err := s.cfg.Jobs.Accepted(ctx, it.Job)
		if err != nil && !isCode(err, job.CodeNotFound) {
			return n, err
		}
		if at < record {
			n++
		}
	}
	return n, nil
}

// dropped waits, for as long as one waits for a record, until the index has come to that of an
// erasure, and with it forgotten what was charged, and the homes have dropped what was parked
// before it; it counts what is left then.
func (s *Service) dropped(ctx context.Context, who job.Recipient, record uint64) (left uint64, err error) {
	limit := time.NewTimer(s.cfg.Patience)
	defer limit.Stop()
	t := time.NewTicker(eraseLook)
	defer t.Stop()
	for {
		if left, err = s.parkedBefore(ctx, who, record); err != nil || left == 0 && s.cfg.Index.Watermark() > record {
			return left, err
		}
		select {
		case <-ctx.Done():
			return left, ctx.Err()
		case <-limit.C:
			return left, nil
		case <-t.C:
		}
	}
}

// kept lists what of a recipient an erasure leaves.
var kept = []api.Kept{
	{What: "its number in records of the ledger, and in packages and snapshots that jobs were sent by"},
	{What: "its number on suppression lists, which keep messages from it"},
	{What: "its number in the audit log and in backups"},
	{What: "that nobody knows whether it saw a message, until that is decided; what is parked again then is dropped"},
}
