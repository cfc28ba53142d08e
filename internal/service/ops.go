package service

import (
	"context"
	"time"

	"crier/api"
	"crier/job"
)

// Status implements api.Operations.
func (s *Service) Status(ctx context.Context) (api.Status, error) {
	st := s.cfg.Status(ctx)
	counts, err := s.cfg.Store.Jobs.CountByState(ctx)
	if err != nil {
		st.Healthy = false
		st.Problems = append(st.Problems, "the SQL store does not answer: "+err.Error())
	}
	st.Jobs = counts
	if live := s.cfg.Jobs.Live(); len(live) > 0 {
		j := live[0]
		st.Oldest = &api.Waiting{Job: j.Spec.ID, State: j.State, Since: j.Since, WaitingOn: s.cfg.WaitingOn(j.Spec.ID)}
	}
	return st, nil
}

// MintToken implements api.Operations.
func (s *Service) MintToken(_ context.Context, req api.MintToken) (api.Token, error) {
	ttl := req.TTL
	if ttl == 0 {
		ttl = api.DefaultTokenTTL
	}
	token, expires, err := s.cfg.Keys.Mint(job.Recipient(*req.Recipient), time.Duration(ttl))
	return api.Token{Token: token, Recipient: *req.Recipient, Expires: expires}, err
}
