package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"crier/api"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked"
)

// GetRecipient implements api.Recipients. What waits, and what is charged, is as the index
// of this process has it, which has all ranges; where it is connected the members say.
func (s *Service) GetRecipient(ctx context.Context, who job.Recipient) (api.Recipient, error) {
	out := api.Recipient{Recipient: who, Whereabouts: api.Whereabouts{Online: []api.Connected{}}, Parked: []api.Waits{}, Frequency: []api.Used{}}
	c, err := api.CallerOf(ctx)
	if err != nil {
		return out, err
	}
	if c.Sees(job.DefaultTenant) && s.cfg.Whereabouts != nil {
		out.Whereabouts = s.cfg.Whereabouts(ctx, who)
	}
	if err := s.waiting(ctx, c, &out); err != nil {
		return out, fmt.Errorf("looking what is parked for a recipient: %w", err)
	}
	if err := s.used(ctx, c, &out); err != nil {
		return out, fmt.Errorf("looking what a recipient was charged: %w", err)
	}
	return out, ctx.Err()
}

// waiting lists what is parked for a recipient.
func (s *Service) waiting(ctx context.Context, c api.Caller, out *api.Recipient) error {
	items, err := s.cfg.Index.ParkedOf(idset.Of(uint32(out.Recipient)))
	if err != nil {
		return err
	}
	for _, it := range items {
		it.Set.Release()
		spec, err := s.cfg.Jobs.Spec(ctx, it.Job)
		switch {
		case isCode(err, job.CodeNotFound), err == nil && !c.Sees(spec.TenantOf()):
			continue
		case err != nil:
			return err
		}
		if out.ParkedTotal++; out.ParkedTotal > api.MaxParkedShown {
			continue
		}
		since, err := s.parkedAt(ctx, it.Number)
		if err != nil {
			return err
		}
		out.Parked = append(out.Parked, api.Waits{Job: it.Job, Account: spec.AccountName, Tenant: spec.TenantOf(), Since: since, Expires: spec.ExpiresAt, Withdraws: spec.Withdraws, Maybe: it.Flagged})
	}
	return nil
}

// parkedAt is when the record was stored that parked something; zero if it is folded.
func (s *Service) parkedAt(ctx context.Context, n parked.Number) (time.Time, error) {
	st, err := s.cfg.Log.Get(ctx, n.Seq)
	if errors.Is(err, ledger.ErrNoRecord) {
		return time.Time{}, nil
	}
	return st.Time.Round(0), err
}

// Caps is how many messages a recipient gets in a day, of all accounts and of one; 0 is any
// number.
type Caps struct {
	Day, Zone    string // as time.DateOnly has it; whose day
	All, Account int
}

// used lists what a recipient was charged today, or, where the caps are not known, on the
// last day on which its range was.
func (s *Service) used(ctx context.Context, c api.Caller, out *api.Recipient) error {
	day, counts, err := s.cfg.Index.Charges.Day(out.Recipient)
	if err != nil {
		return err
	}
	if day != 0 {
		out.Day = time.Unix(int64(day)*24*60*60, 0).UTC().Format(time.DateOnly)
	}
	var caps Caps
	if s.cfg.Caps != nil {
		caps = s.cfg.Caps(now())
	}
	if caps.All+caps.Account > 0 {
		out.Zone = caps.Zone
	}
	if caps.All+caps.Account > 0 && out.Day < caps.Day { // what was charged before counts no longer
		out.Day, counts = caps.Day, nil
	}
	if _, charged := counts[ledger.AccountOf(0)]; caps.All > 0 && !charged && c.Sees(job.DefaultTenant) {
		out.Frequency = append(out.Frequency, api.Used{Cap: caps.All})
	}
	for _, account := range slices.Sorted(maps.Keys(counts)) {
		number, one := account.Number()
		u := api.Used{Messages: counts[account], Cap: caps.All}
		if !one && !c.Sees(job.DefaultTenant) {
			continue
		}
		if one {
			a, err := s.cfg.Store.Accounts.Of(c.Scope()).Get(ctx, number)
			if isCode(err, job.CodeNotFound) {
				continue // another tenant's
			}
			if err != nil {
				return err
			}
			u.Account, u.AccountID, u.Cap = a.Name, &number, caps.Account
		}
		out.Frequency = append(out.Frequency, u)
	}
	return nil
}
