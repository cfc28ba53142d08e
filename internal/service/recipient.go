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
	"crier/state/proof"
	"crier/state/sql"
)

// GetRecipient implements api.Recipients. What waits, and what is charged, is as the index
// of this process has it, which has all ranges; where it is connected the members say, and what
// became of jobs the ledger.
func (s *Service) GetRecipient(ctx context.Context, who job.Recipient) (api.Recipient, error) {
	out := api.Recipient{Recipient: who, Whereabouts: api.Whereabouts{Online: []api.Connected{}}, Parked: []api.Waits{}, Frequency: []api.Used{}, Recent: []api.Recent{}}
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
	if err := s.recent(ctx, c, &out); err != nil {
		return out, fmt.Errorf("looking which jobs a recipient is in: %w", err)
	}
	return out, ctx.Err()
}

// recent lists the last jobs that have a recipient in their package, of the newest, and what
// became of them, which the ledger is read for once. What cannot be read is told of each job.
func (s *Service) recent(ctx context.Context, c api.Caller, out *api.Recipient) error {
	newest, _, err := s.cfg.Store.Jobs.Of(c.Scope()).List(ctx, sql.JobFilter{Limit: api.MaxRecentLooked})
	if err != nil {
		return err
	}
	var ids []job.ID
	var pkgs []proof.Package
	var at []int
	for _, j := range newest {
		if len(out.Recent) == api.MaxRecent {
			break
		}
		pkg, in, err := s.inPackage(ctx, j.Spec.Package, out.Recipient)
		if err == nil && !in {
			continue
		}
		x := api.Recent{Job: j.Spec.ID, Account: j.Spec.AccountName, Tenant: j.Spec.TenantOf(), State: j.State, Submitted: j.Spec.SubmittedAt}
		if err != nil {
			x.Unknown = "its package cannot be read now"
		} else {
			ids, pkgs, at = append(ids, x.Job), append(pkgs, pkg), append(at, len(out.Recent))
		}
		out.Recent = append(out.Recent, x)
	}
	stood, err := s.outcomes(ctx, out.Recipient, ids, pkgs)
	for n, i := range at {
		if err != nil {
			out.Recent[i].Unknown = "the ledger cannot be read now"
			continue
		}
		out.Recent[i].Outcome, out.Recent[i].Reason = &stood[n].Outcome, stood[n].Reason
	}
	return ctx.Err()
}

// inPackage reports whether a recipient is in a package.
func (s *Service) inPackage(ctx context.Context, digest job.Digest, who job.Recipient) (pkg proof.Package, in bool, err error) {
	set, err := s.cfg.Set(ctx, digest)
	if err != nil {
		return nil, false, err
	}
	ids, err := set.Range(who.Range())
	if err != nil {
		return nil, false, err
	}
	defer ids.Release()
	return set, ids.Has(uint32(who)), nil
}

// outcomes proves where a recipient stands in jobs, within a bound.
func (s *Service) outcomes(ctx context.Context, who job.Recipient, ids []job.ID, pkgs []proof.Package) ([]job.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	done, err := s.prove(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.prover.Outcomes(ctx, who, ids, pkgs)
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
