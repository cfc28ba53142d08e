package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/api/problem"
	"crier/job"
)

type valid interface{ Validate() error }

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("segment ", i))
	}
	return out
}

// Each case is a good request with one thing wrong, and the field that must be named.
func TestValidateNamesTheField(t *testing.T) {
	submit := func(change func(*api.SubmitJob)) api.SubmitJob {
		r := api.SubmitJob{Account: "a", Audience: "followers", Body: "hi"}
		change(&r)
		return r
	}
	rcpt := job.Recipient(0)
	for _, c := range []struct {
		name  string
		req   valid
		field string // empty: it must pass
	}{
		{"submit", submit(func(*api.SubmitJob) {}), ""},
		{"submit by package", submit(func(r *api.SubmitJob) { r.Audience, r.Package = "", job.Digest{1} }), ""},
		{"erase", api.Erase{Reason: "they asked for it"}, ""},
		{"erase without a reason", api.Erase{}, "reason"},
		{"erase for a reason of two lines", api.Erase{Reason: "they\nasked"}, "reason"},
		{"no account", submit(func(r *api.SubmitJob) { r.Account = "" }), "account"},
		{"no recipients", submit(func(r *api.SubmitJob) { r.Audience = "" }), "package"},
		{"two audiences", submit(func(r *api.SubmitJob) { r.Package = job.Digest{1} }), "audience"},
		{"odd audience", submit(func(r *api.SubmitJob) { r.Audience = "everyone" }), "audience"},
		{"no body", submit(func(r *api.SubmitJob) { r.Body = "" }), "body"},
		{"two bodies", submit(func(r *api.SubmitJob) { r.BodyBase64 = []byte("x") }), "body_base64"},
		{"largest body", submit(func(r *api.SubmitJob) { r.Body = strings.Repeat("x", 256<<10) }), ""},
		{"body too large", submit(func(r *api.SubmitJob) { r.Body = strings.Repeat("x", 256<<10+1) }), "body"},
		{"body not UTF-8", submit(func(r *api.SubmitJob) { r.Body, r.BodyBase64 = "", []byte{0xff} }), "body_base64"},
		{"priority", submit(func(r *api.SubmitJob) { r.Priority = 100 }), "priority"},
		{"ttl", submit(func(r *api.SubmitJob) { r.TTL = api.Duration(367 * 24 * time.Hour) }), "ttl"},
		{"send-once key", submit(func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Key: strings.Repeat("k", 129)} }), "/send_once/key"},
		{"send-once window", submit(func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Window: -1} }), "/send_once/window"},
		{"send-once window too long", submit(func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Window: api.Duration(job.MaxTTL) + 1} }), "/send_once/window"},
		{"send-once scope", submit(func(r *api.SubmitJob) { r.SendOnce = &api.SendOnce{Scope: "world"} }), "/send_once/scope"},
		{"collapse key", submit(func(r *api.SubmitJob) { r.CollapseKey = strings.Repeat("k", 129) }), "collapse_key"},
		{"idempotency key", submit(func(r *api.SubmitJob) { r.IdempotencyKey = "a b" }), "Idempotency-Key"},
		{"long key", submit(func(r *api.SubmitJob) { r.IdempotencyKey = strings.Repeat("k", 256) }), "Idempotency-Key"},
		{"segments", submit(func(r *api.SubmitJob) { r.IncludeSegments, r.ExcludeSegments = names(20), []string{"x"} }), ""},
		{"segment without a name", submit(func(r *api.SubmitJob) { r.IncludeSegments = []string{"a", ""} }), "include_segments"},
		{"segment that no segment can be", submit(func(r *api.SubmitJob) { r.ExcludeSegments = []string{"a/b"} }), "exclude_segments"},
		{"segment twice", submit(func(r *api.SubmitJob) { r.ExcludeSegments = []string{"a", "b", "a"} }), "exclude_segments"},
		{"segment in and out", submit(func(r *api.SubmitJob) { r.IncludeSegments, r.ExcludeSegments = []string{"a", "b"}, []string{"b"} }), "exclude_segments"},
		{"most segments", submit(func(r *api.SubmitJob) { r.IncludeSegments = names(32) }), ""},
		{"too many segments", submit(func(r *api.SubmitJob) { r.IncludeSegments, r.ExcludeSegments = names(32), []string{"x"} }), "include_segments"},
		{"control group", submit(func(r *api.SubmitJob) { r.ControlGroup = 0.0001 }), ""},
		{"everybody in control", submit(func(r *api.SubmitJob) { r.ControlGroup = 100 }), ""},
		{"negative control group", submit(func(r *api.SubmitJob) { r.ControlGroup = -1 }), "control_group"},
		{"control group of too many", submit(func(r *api.SubmitJob) { r.ControlGroup = 100.5 }), "control_group"},
		{"control group too fine", submit(func(r *api.SubmitJob) { r.ControlGroup = 0.00005 }), "control_group"},
		{"no control group", submit(func(r *api.SubmitJob) { r.ControlGroup = math.NaN() }), "control_group"},
		{"segment", api.CreateSegment{Name: "Über 18"}, ""},
		{"slash in a segment", api.CreateSegment{Name: "a/b"}, "name"},
		{"skip of ids", api.ImportIDs{Skip: -1}, "skip"},
		{"import of ids", api.ImportIDs{}, ""},
		{"export of followers", api.ExportSet{Kind: "followers", Of: "a"}, ""},
		{"export of the global list", api.ExportSet{Kind: "suppression"}, ""},
		{"export of nobody's followers", api.ExportSet{Kind: "followers"}, "of"},
		{"export of no segment", api.ExportSet{Kind: "segment"}, "of"},
		{"name", api.CreateAccount{Name: "Ärzte & Söhne 42"}, ""},
		{"no name", api.CreateAccount{}, "name"},
		{"slash", api.CreateAccount{Name: "a/b"}, "name"},
		{"dots", api.CreateAccount{Name: ".."}, "name"},
		{"new line", api.CreateAccount{Name: "a\nb"}, "name"},
		{"escape", api.CreateAccount{Name: "\x1b[31m"}, "name"},
		{"right to left", api.CreateAccount{Name: "a\u202eb"}, "name"},
		{"name not UTF-8", api.CreateAccount{Name: "a\xff"}, "name"},
		{"space", api.CreateAccount{Name: " a"}, "name"},
		{"no ids", api.IDs{}, "ids"},
		{"too many ids", api.IDs{IDs: make([]job.Recipient, api.MaxIDs+1)}, "ids"},
		{"most ids", api.IDs{IDs: make([]job.Recipient, api.MaxIDs)}, ""},
		{"no suppressed", api.SuppressionChange{}, "ids"},
		{"format", api.ImportFollowers{Format: "xml"}, "format"},
		{"ids without account", api.ImportFollowers{Format: "ids"}, "account"},
		{"longest account name", api.CreateAccount{Name: strings.Repeat("n", api.MaxAccountName)}, ""},
		{"long account name", api.CreateAccount{Name: strings.Repeat("n", api.MaxAccountName+1)}, "name"},
		{"edges", api.ImportFollowers{Format: "edges"}, ""},
		{"skip", api.ImportFollowers{Format: "edges", Skip: -1}, "skip"},
		{"package", api.ImportPackage{Account: "a"}, ""},
		{"package of nobody", api.ImportPackage{}, "account"},
		{"package name", api.ImportPackage{Account: "a", Name: "x/y"}, "name"},
		{"limit", api.Page{Limit: 501}, "limit"},
		{"cursor", api.Page{Cursor: strings.Repeat("c", 257)}, "cursor"},
		{"state", api.ListJobs{State: "dancing"}, "state"},
		{"wait", api.WaitJob{For: job.Queued}, "for"},
		{"timeout", api.WaitJob{For: job.Sent, Timeout: -1}, "timeout"},
		{"rate", api.Rate{}, "rate"},
		{"decision", api.Resolve{Decision: "shrug"}, "decision"},
		{"filter", api.TailLedger{Filter: "led. job"}, "filter"},
		{"filter of all", api.TailLedger{}, ""},
		{"filter of jobs", api.TailLedger{Filter: "led.*.>"}, ""},
		{"filter without a token", api.TailLedger{Filter: "led..job"}, "filter"},
		{"filter of dots", api.TailLedger{Filter: "."}, "filter"},
		{"filter behind all", api.TailLedger{Filter: "led.>.job"}, "filter"},
		{"recall without a reason", api.Recall{}, "reason"},
		{"recall for a reason", api.Recall{Reason: "Tippfehler – neu um 12 Uhr"}, ""},
		{"long reason of a recall", api.Recall{Reason: strings.Repeat("r", 257)}, "reason"},
		{"reason of a recall that rings", api.Recall{Reason: "a\a"}, "reason"},
		{"operate", api.Operate{}, ""},
		{"operate for a reason", api.Operate{Reason: "Umbau – bis 12 Uhr"}, ""},
		{"longest reason", api.Operate{Reason: strings.Repeat("r", 256)}, ""},
		{"long reason", api.Operate{Reason: strings.Repeat("r", 257)}, "reason"},
		{"reason of two lines", api.Operate{Reason: "a\nb"}, "reason"},
		{"reason not UTF-8", api.Operate{Reason: "a\xff"}, "reason"},
		{"ring", api.AskRing{}, ""},
		{"ring of slices", api.AskRing{Kind: "slice", Diff: true, Page: api.Page{Limit: 500}}, ""},
		{"odd ring", api.AskRing{Kind: "king"}, "kind"},
		{"ring limit", api.AskRing{Page: api.Page{Limit: 501}}, "limit"},
		{"token", api.MintToken{Recipient: &rcpt}, ""},
		{"token of nobody", api.MintToken{}, "recipient"},
		{"token for ever", api.MintToken{Recipient: &rcpt, TTL: api.Duration(367 * 24 * time.Hour)}, "ttl"},
	} {
		err := c.req.Validate()
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v; want it to pass", c.name, err)
			}
			continue
		}
		p := problem.Of(err)
		if err == nil || p.Status/100 != 4 {
			t.Errorf("%s: %v; want it refused", c.name, err)
			continue
		}
		var back *job.Error
		if !errors.As(p.Err(), &back) || back.Field != c.field {
			t.Errorf("%s: %v names field %+v; want %s", c.name, err, p.Errors, c.field)
		}
	}
}

func TestMessageIsTheBodyEitherWay(t *testing.T) {
	for _, r := range []api.SubmitJob{{Body: "hé"}, {BodyBase64: []byte("hé")}} {
		if !bytes.Equal(r.Message(), []byte("h\xc3\xa9")) {
			t.Errorf("%+v: message is %q", r, r.Message())
		}
	}
}
