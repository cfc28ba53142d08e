package service

import (
	"crypto/sha256"
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
		"no segments":       func(r *api.SubmitJob) { r.IncludeSegments, r.ExcludeSegments = []string{}, []string{} },
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
		"segment":          func(r *api.SubmitJob) { r.IncludeSegments = []string{"a"} },
		"exclusion":        func(r *api.SubmitJob) { r.ExcludeSegments = []string{"a"} },
		"control":          func(r *api.SubmitJob) { r.ControlGroup = 0.5 },
	} {
		if of(other) == want {
			t.Errorf("another %s makes the same request", name)
		}
	}
	two := func(names ...string) func(*api.SubmitJob) {
		return func(r *api.SubmitJob) { r.IncludeSegments = names }
	}
	if of(two("a", "b")) != of(two("b", "a")) || of(two("a", "b")) == of(two("a")) {
		t.Error("the order of segments makes another request, or their number none")
	}
	// A key that was used before jobs had segments must find its job.
	if before := sha256.Sum256([]byte(`{"account":"news","audience":"followers","body_base64":"Yg==","priority":50,"ttl":"7d","display_at":"2026-05-01T12:00:00Z"}`)); want != before {
		t.Error("a request without segments is not the one that it was")
	}
}
