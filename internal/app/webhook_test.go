package app_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crier/api"
	"crier/internal/app"
	"crier/job"
)

// hookRequest is what a receiver got of a webhook.
type hookRequest struct {
	id, stamp, signature string
	body                 []byte
}

// TestWebhook submits a job whose end is told: signed with the secret that the tenant was
// shown, and shown with the job.
func TestWebhook(t *testing.T) {
	t.Parallel()
	got := make(chan hookRequest, 100)
	var asked atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if asked.Add(1) == 1 { // it comes again, after some seconds
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		got <- hookRequest{r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), r.Header.Get("webhook-signature"), body}
	}))
	t.Cleanup(receiver.Close)
	ready, _ := startHouse(t, func(cfg *app.Config) { cfg.Webhooks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	h := &house{t: t, url: ready.API}
	boot := h.dial(ready.Token)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := boot.CreateTenant(ctx, api.CreateTenant{Name: "acme"})
	h.must(err)
	key, err := boot.CreateKey(ctx, api.CreateKey{Name: "k", Role: job.Admin, Tenant: "acme"})
	h.must(err)
	acme := h.dial(key.Secret)
	_, err = acme.CreateAccount(ctx, api.CreateAccount{Name: "news"})
	h.must(err)
	_, err = acme.AddFollowers(ctx, "news", []job.Recipient{1})
	h.must(err)
	req := api.SubmitJob{Account: "news", Audience: api.AudienceFollowers, Body: "x", Webhook: &job.Webhook{URL: receiver.URL + "/hook", On: []string{"sent", "cancelled"}}}
	refused := func(what string, code job.Code, words string) {
		t.Helper()
		_, err := acme.SubmitJob(ctx, req)
		var e *job.Error
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, words) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("without a secret", job.CodeConflict, "crier webhook secret")
	secret, err := acme.MakeWebhookSecret(ctx, "acme")
	h.must(err)
	if _, err := acme.MakeWebhookSecret(ctx, "default"); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("another tenant's secret: %v", err)
	}
	good := req.Webhook.URL
	for url, words := range map[string]string{"https://10.0.0.1/": "not allowed", "https://[::1]/": "not allowed", "http://1.1.1.1/": "not allowed", "https://u:p@example.com": "no user"} {
		req.Webhook.URL = url
		refused(url, job.CodeInvalid, words)
	}
	req.Webhook.URL = good
	req.IdempotencyKey = "k"
	j, err := acme.SubmitJob(ctx, req)
	h.must(err)
	req.Webhook = &job.Webhook{URL: good, On: []string{"cancelled", "sent"}} // the same, in another order
	again, err := acme.SubmitJob(ctx, req)
	if err != nil || again.Job != j.Job {
		t.Errorf("the same submit again: %s, %v", again.Job, err)
	}
	_, err = acme.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent, Timeout: 30 * time.Second})
	h.must(err)
	_, err = acme.CancelJob(ctx, j.Job)
	h.must(err)
	raw, ok := strings.CutPrefix(secret.Secret, "whsec_")
	signing, err := base64.StdEncoding.DecodeString(raw)
	if err != nil || !ok || len(signing) != 32 {
		t.Fatalf("the secret is %s, %v", secret.Secret, err)
	}
	states := map[string]bool{}
	for range 2 {
		select {
		case r := <-got:
			mac := hmac.New(sha256.New, signing)
			fmt.Fprintf(mac, "%s.%s.%s", r.id, r.stamp, r.body)
			if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.signature != want {
				t.Errorf("signed %s, want %s", r.signature, want)
			}
			var e struct {
				Job     job.ID
				Version uint64
				State   string
			}
			if err := json.Unmarshal(r.body, &e); err != nil || e.Job != j.Job || r.id != fmt.Sprintf("%s/%d", e.Job, e.Version) {
				t.Errorf("%s tells %s, %v", r.id, r.body, err)
			}
			states[e.State] = true
		case <-ctx.Done():
			t.Fatalf("only %v were told", states)
		}
	}
	if !states["sent"] || !states["cancelled"] {
		t.Errorf("%v were told", states)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		j, err = acme.GetJob(ctx, j.Job)
		h.must(err)
		d := j.Webhook.Deliveries
		if len(d) == 2 && d[0].Outcome == job.DeliveryDelivered && d[1].Outcome == job.DeliveryDelivered {
			if d[0].State != "sent" || d[1].State != "cancelled" || d[0].Attempts+d[1].Attempts != 3 || d[0].Status != 200 {
				t.Errorf("deliveries %+v", d)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("deliveries %+v", d)
		}
	}
	_, metrics, _ := h.ask(http.MethodGet, "", cell{"/metrics", ""})
	for _, want := range []string{`crier_webhooks_total{of="delivered"} 2`, `crier_webhooks_total{of="failed"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	audit, err := acme.ListAudit(ctx, api.ListAudit{Operation: "make-webhook-secret", Result: "done"})
	if err != nil || len(audit.Acts) != 1 || audit.Acts[0].Object != "tenant/acme" || audit.Acts[0].Key != key.ID {
		t.Errorf("the audit log has %+v, %v", audit.Acts, err)
	}
}
