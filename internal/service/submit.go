package service

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"crier/api"
	"crier/audience/members"
	"crier/job"
	"crier/state/jobs"
	"crier/state/sql"
)

// SubmitJob implements api.Jobs. Everything that sending needs is stored before
// the job's first record, whose append makes it accepted (and, with an idempotency
// key, decides between concurrent submits: the key makes the id, the id the
// subject, and a subject has one first record).
func (s *Service) SubmitJob(ctx context.Context, req api.SubmitJob) (api.Job, error) {
	if err := req.Validate(); err != nil { // nothing of a job that is refused is stored
		return api.Job{}, err
	}
	a, err := s.Account(ctx, req.Account)
	if err != nil {
		return api.Job{}, err
	}
	request, err := fingerprint(req, a)
	if err != nil {
		return api.Job{}, err
	}
	if req.IdempotencyKey != "" {
		j, err := s.cfg.Jobs.Get(ctx, keyID(a, req.IdempotencyKey))
		switch {
		case err == nil:
			return s.repeated(ctx, j, request)
		case !isCode(err, job.CodeNotFound):
			return api.Job{}, err
		}
	}
	hook, err := s.webhook(ctx, req, a)
	if err != nil {
		return api.Job{}, err
	}
	spec, err := s.spec(ctx, req, a)
	if err != nil {
		return api.Job{}, err
	}
	spec.Request, spec.Webhook = request, hook
	if err := spec.Validate(); err != nil {
		return api.Job{}, err
	}
	leave, err := s.quota.Enter(spec)
	if err != nil {
		return api.Job{}, err
	}
	j, isNew, err := s.cfg.Jobs.Accept(ctx, spec)
	if err != nil || !isNew {
		leave()
	}
	if err != nil {
		return api.Job{}, err
	}
	if !isNew {
		return s.repeated(ctx, j, request)
	}
	act := api.ActOf(ctx) // as who reads the ledger tells it
	act.ID, act.At = spec.ID.String(), spec.SubmittedAt
	return s.describe(ctx, j)
}

// keyID is the id that an idempotency key gives a job. No account has a slash in its
// name, so that two tenants never have the same.
func keyID(a sql.Account, key string) job.ID {
	if a.Tenant == job.DefaultTenant {
		return job.KeyID(a.Name, key)
	}
	return job.KeyID(a.Tenant+"/"+a.Name, key)
}

// repeated answers a submit whose key is known: the same job for the same request.
func (s *Service) repeated(ctx context.Context, j jobs.Job, request job.Digest) (api.Job, error) {
	api.ActOf(ctx).Forget() // the first submit is the act
	if j.Spec.Request != request {
		return api.Job{}, &job.Error{Code: job.CodeConflict, Field: "Idempotency-Key",
			Message: fmt.Sprintf("this idempotency key belongs to %s, which was another request", j.Spec.ID)}
	}
	return s.describe(ctx, j)
}

// fingerprint is the request's identity: equal for equal requests, whichever way
// the account was named, the segments ordered and the body given, and whether defaults
// were spelled out.
func fingerprint(req api.SubmitJob, a sql.Account) (job.Digest, error) {
	req.Account = a.Name
	req.Body, req.BodyBase64 = "", req.Message()
	req.Priority = cmp.Or(req.Priority, api.DefaultPriority)
	req.TTL = cmp.Or(req.TTL, api.Duration(job.DefaultTTL))
	req.DisplayAt = req.DisplayAt.UTC()
	if req.SendOnce != nil {
		once := *req.SendOnce
		once.Window, once.Scope = cmp.Or(once.Window, api.Duration(job.DefaultOnceWindow)), cmp.Or(once.Scope, api.ScopeAccount)
		req.SendOnce = &once
	}
	req.IncludeSegments, req.ExcludeSegments = sorted(req.IncludeSegments), sorted(req.ExcludeSegments)
	req.Webhook = canonical(req.Webhook)
	b, err := json.Marshal(req)
	if err != nil {
		return job.Digest{}, fmt.Errorf("encoding the request: %w", err)
	}
	return sha256.Sum256(b), nil
}

// spec stores what the job needs and describes it.
func (s *Service) spec(ctx context.Context, req api.SubmitJob, a sql.Account) (job.Spec, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return job.Spec{}, err
	}
	at := now()
	ttl := cmp.Or(time.Duration(req.TTL), job.DefaultTTL)
	spec := job.Spec{Account: a.Number, AccountName: a.Name, Class: req.Class, Priority: cmp.Or(req.Priority, api.DefaultPriority), Rate: req.Rate, OnUnknown: req.OnUnknown,
		CollapseKey: req.CollapseKey, IdempotencyKey: req.IdempotencyKey, SubmittedAt: at, DisplayAt: req.DisplayAt, ExpiresAt: at.Add(ttl),
		Tenant: a.Tenant, SubmittedBy: c.Key, Why: api.ActOf(ctx).Reason}
	if spec.Rate, err = s.quota.Rate(a.Tenant, req.Rate); err != nil {
		return spec, err
	}
	if !spec.DisplayAt.Before(spec.ExpiresAt) {
		return spec, job.Invalid("display_at", "display_at is not before the message expires; a longer ttl is needed", nil)
	}
	rand.Read(spec.Nonce[:]) // never fails
	spec.ID = job.NewID(at, [10]byte(spec.Nonce[:10]))
	if req.IdempotencyKey != "" {
		spec.ID = keyID(a, req.IdempotencyKey)
	}
	if req.Audience == "" { // before anything is stored: it may be unknown
		if err := s.findPackage(ctx, req, a, &spec); err != nil {
			return spec, err
		}
	}
	if err := s.aim(ctx, req, &spec); err != nil {
		return spec, err
	}
	pin, err := s.cfg.Members.Pin(ctx, members.Followers(a.Number))
	if err != nil {
		return spec, fmt.Errorf("fixing the followers of account %s: %w", a.Name, err)
	}
	spec.Followers, spec.FollowersRev = pin.Blob, pin.Revision
	if req.Audience == api.AudienceFollowers {
		set, err := s.cfg.Set(ctx, pin.Blob)
		if err != nil {
			return spec, fmt.Errorf("opening the followers of account %s: %w", a.Name, err)
		}
		spec.Package, spec.Set, spec.Recipients = pin.Blob, set.Info().SHA256, pin.Cardinality
	}
	if err := s.quota.Size(spec); err != nil {
		return spec, err
	}
	api.ActOf(ctx).On(a.Tenant, "job/"+spec.ID.String())
	body, size, err := s.cfg.Blobs.Put(ctx, bytes.NewReader(req.Message()))
	if err != nil {
		return spec, fmt.Errorf("storing the body: %w", err)
	}
	spec.Body, spec.BodyBytes = body, uint32(size)
	if once := req.SendOnce; once != nil {
		scope, text := a.Number, once.Key
		if once.Scope == api.ScopeAll {
			scope = 0
			if a.Tenant != job.DefaultTenant { // all accounts are the tenant's; no tenant has a slash in its name
				text = a.Tenant + "/" + cmp.Or(text, body.String())
			}
		}
		spec.SendOnce = &job.SendOnce{Key: job.KeyOnce(scope, text, body), Window: cmp.Or(time.Duration(once.Window), job.DefaultOnceWindow)}
	}
	return spec, nil
}

// findPackage puts in the package that was handed in before.
func (s *Service) findPackage(ctx context.Context, req api.SubmitJob, a sql.Account, spec *job.Spec) error {
	p, err := s.cfg.Store.Packages.Get(ctx, a.Number, req.Package)
	if isCode(err, job.CodeNotFound) {
		return &job.Error{Code: job.CodeNotFound, Field: "package",
			Message: fmt.Sprintf("account %s has no package %s; import it first", a.Name, req.Package)}
	}
	if err != nil {
		return err
	}
	spec.Package, spec.Set, spec.Recipients = p.Blob, p.Set, p.Cardinality
	return nil
}
