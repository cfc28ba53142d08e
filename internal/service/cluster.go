package service

import (
	"cmp"
	"context"
	"strconv"

	"crier/api"
	"crier/job"
)

// Cluster is what this process knows of those it works with. All methods are safe for
// concurrent use; each is bounded in time although it asks others.
type Cluster interface {
	// Members gives all members by id, or only one; that is none if it is not known.
	Members(ctx context.Context, only string) ([]api.Member, error)
	// Operate asks a member to be silent, or to resume. Idempotent. A member that is not
	// known is not found.
	Operate(ctx context.Context, id string, silence bool, reason string) error
	// Ring compares hint and claims.
	Ring(ctx context.Context, req api.AskRing) (api.Ring, error)
	// Journals gives a page of the journals of the ledger.
	Journals(ctx context.Context, page api.Page) (api.JournalList, error)
	// Lanes asks all workers.
	Lanes(ctx context.Context) (api.LaneList, error)
}

// ListMembers implements api.Cluster.
func (s *Service) ListMembers(ctx context.Context) (api.MemberList, error) {
	all, err := s.cfg.Cluster.Members(ctx, "")
	return api.MemberList{Members: all}, err
}

// GetMember implements api.Cluster.
func (s *Service) GetMember(ctx context.Context, id string) (api.Member, error) {
	if job.ValidName(id) {
		found, err := s.cfg.Cluster.Members(ctx, id)
		if err != nil {
			return api.Member{}, err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return api.Member{}, job.NotFound("there is no member " + strconv.Quote(api.Printable(id)) + "; crier member ls names those there are")
}

// SilenceMember implements api.Cluster.
func (s *Service) SilenceMember(ctx context.Context, id string, req api.Operate) (api.Member, error) {
	return s.operate(ctx, id, true, req)
}

// ResumeMember implements api.Cluster.
func (s *Service) ResumeMember(ctx context.Context, id string, req api.Operate) (api.Member, error) {
	return s.operate(ctx, id, false, req)
}

func (s *Service) operate(ctx context.Context, id string, silence bool, req api.Operate) (api.Member, error) {
	m, err := s.GetMember(ctx, id)
	if err != nil {
		return api.Member{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "member/"+m.ID)
	req.Reason = cmp.Or(req.Reason, api.ActOf(ctx).Reason)
	if api.ActOf(ctx).Reason == "" {
		api.ActOf(ctx).Reason = req.Reason
	}
	if err := s.cfg.Cluster.Operate(ctx, id, silence, req.Reason); err != nil {
		return api.Member{}, err
	}
	return s.GetMember(ctx, id)
}

// Ring implements api.Cluster.
func (s *Service) Ring(ctx context.Context, req api.AskRing) (api.Ring, error) {
	if err := req.Validate(); err != nil {
		return api.Ring{}, err
	}
	if req.Kind == "" {
		req.Kind = api.RingRange
	}
	return s.cfg.Cluster.Ring(ctx, req)
}

// ListJournals implements api.Cluster.
func (s *Service) ListJournals(ctx context.Context, page api.Page) (api.JournalList, error) {
	if err := page.Validate(); err != nil {
		return api.JournalList{}, err
	}
	return s.cfg.Cluster.Journals(ctx, page)
}

// ListLanes implements api.Cluster.
func (s *Service) ListLanes(ctx context.Context) (api.LaneList, error) {
	return s.cfg.Cluster.Lanes(ctx)
}
