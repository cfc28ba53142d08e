package service

import (
	"testing"
	"time"

	"crier/api"
	"crier/job"
	"crier/state/sql"
)

// TestFingerprint holds that one request written in several ways is one request,
// and that each field makes another one.
func TestFingerprint(t *testing.T) {
	a := sql.Account{Number: 7, Name: "news"}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	base := api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "b", DisplayAt: at}
	of := func(change func(*api.SubmitJob)) job.Digest {
		req := base
		change(&req)
		d, err := fingerprint(req, a)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := of(func(*api.SubmitJob) {})
	for name, same := range map[string]func(*api.SubmitJob){
		"number for a name": func(r *api.SubmitJob) { r.Account = "7" },
		"base 64":           func(r *api.SubmitJob) { r.Body, r.BodyBase64 = "", []byte("b") },
		"default priority":  func(r *api.SubmitJob) { r.Priority = api.DefaultPriority },
		"default ttl":       func(r *api.SubmitJob) { r.TTL = api.Duration(job.DefaultTTL) },
		"another zone":      func(r *api.SubmitJob) { r.DisplayAt = at.In(time.FixedZone("", 3600)) },
	} {
		if of(same) != want {
			t.Errorf("%s makes another request", name)
		}
	}
	for name, other := range map[string]func(*api.SubmitJob){
		"body":             func(r *api.SubmitJob) { r.Body = "c" },
		"package":          func(r *api.SubmitJob) { r.Audience, r.Package = "", job.Digest{1} },
		"class":            func(r *api.SubmitJob) { r.Class = job.Realtime },
		"priority":         func(r *api.SubmitJob) { r.Priority = 51 },
		"rate":             func(r *api.SubmitJob) { r.Rate = 1 },
		"ttl":              func(r *api.SubmitJob) { r.TTL = api.Duration(job.DefaultTTL + 1) },
		"on unknown":       func(r *api.SubmitJob) { r.OnUnknown = job.Resend },
		"send once":        func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{} },
		"send-once key":    func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Key: "k"} },
		"send-once window": func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Window: 1} },
		"send-once scope":  func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Scope: api.ScopeAll} },
		"collapse key":     func(r *api.SubmitJob) { r.CollapseKey = "k" },
		"display at":       func(r *api.SubmitJob) { r.DisplayAt = at.Add(1) },
	} {
		if of(other) == want {
			t.Errorf("another %s makes the same request", name)
		}
	}
}
