package service

import (
	"context"
	"fmt"
	"slices"

	"crier/api"
	"crier/job"
	"crier/state/sql"
)

// webhook is the webhook that a job asks for, if it can be told anything; nil if it asks
// for none.
func (s *Service) webhook(ctx context.Context, req api.SubmitJob, a sql.Account) (*job.Webhook, error) {
	if req.Webhook == nil {
		return nil, nil
	}
	if s.cfg.CheckWebhook != nil {
		if err := s.cfg.CheckWebhook(req.Webhook.URL); err != nil {
			return nil, err
		}
	}
	secrets, err := s.cfg.Store.Hooks.Secrets(ctx, a.Tenant)
	if err == nil && len(secrets) == 0 {
		err = &job.Error{Code: job.CodeConflict, Field: "webhook",
			Message: fmt.Sprintf("tenant %s has no secret to sign webhooks with; an admin makes one with \"crier webhook secret\"", a.Tenant)}
	}
	return req.Webhook, err
}

// canonical is a webhook as it is compared: the default is spelled out, and the states are
// in one order.
func canonical(w *job.Webhook) *job.Webhook {
	if w == nil {
		return nil
	}
	return &job.Webhook{URL: w.URL, On: slices.Sorted(slices.Values(w.Wants()))}
}

// hookOf is a job's webhook as users see it, without deliveries.
func hookOf(spec job.Spec) *job.WebhookState {
	if spec.Webhook == nil {
		return nil
	}
	return &job.WebhookState{Webhook: *spec.Webhook}
}

// told puts in how far a job's webhook was told. While the SQL store does not answer, the
// rest of the job is shown.
func (s *Service) told(ctx context.Context, x *api.Job) {
	if x.Webhook != nil {
		x.Webhook.Deliveries, _ = s.cfg.Store.Hooks.Of(ctx, x.Job)
	}
}
