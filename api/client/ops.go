package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"crier/api"
	"crier/job"
)

// query makes a query of pairs, without the empty ones.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func paged(p api.Page, pairs ...string) url.Values {
	q := query(append(pairs, "cursor", p.Cursor)...)
	if p.Limit != 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

func accountPath(account, rest string) string {
	return "/v1/accounts/" + url.PathEscape(account) + rest
}

func jobPath(id job.ID, rest string) string { return "/v1/jobs/" + id.String() + rest }

// CreateAccount implements Service.
func (c *Client) CreateAccount(ctx context.Context, req api.CreateAccount) (api.Account, error) {
	return call[api.Account](ctx, c, request{method: http.MethodPost, path: "/v1/accounts", json: req, once: true})
}

// ListAccounts implements Service.
func (c *Client) ListAccounts(ctx context.Context, page api.Page) (api.AccountList, error) {
	return call[api.AccountList](ctx, c, request{method: http.MethodGet, path: "/v1/accounts", query: paged(page)})
}

// GetAccount implements Service.
func (c *Client) GetAccount(ctx context.Context, account string) (api.Account, error) {
	if account == "." || account == ".." || account == "" {
		return api.Account{}, job.NotFound("there is no account " + strconv.Quote(account))
	}
	return call[api.Account](ctx, c, request{method: http.MethodGet, path: accountPath(account, "")})
}

// AddFollowers implements Service.
func (c *Client) AddFollowers(ctx context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return call[api.FollowersChange](ctx, c, request{method: http.MethodPost, path: accountPath(account, "/followers/add"), json: api.IDs{IDs: ids}})
}

// RemoveFollowers implements Service.
func (c *Client) RemoveFollowers(ctx context.Context, account string, ids []job.Recipient) (api.FollowersChange, error) {
	return call[api.FollowersChange](ctx, c, request{method: http.MethodPost, path: accountPath(account, "/followers/remove"), json: api.IDs{IDs: ids}})
}

// ImportFollowers implements Service.
func (c *Client) ImportFollowers(ctx context.Context, req api.ImportFollowers, body io.Reader) (api.FollowersImport, error) {
	q := query("format", req.Format, "account", req.Account)
	if req.Skip != 0 {
		q.Set("skip", strconv.Itoa(req.Skip))
	}
	return call[api.FollowersImport](ctx, c, request{method: http.MethodPost, path: "/v1/followers/import", query: q,
		upload: body, timeout: c.cfg.LongTimeout})
}

// AddSuppressed implements Service.
func (c *Client) AddSuppressed(ctx context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return call[api.SuppressionList](ctx, c, request{method: http.MethodPost, path: "/v1/suppression/add", json: req})
}

// RemoveSuppressed implements Service.
func (c *Client) RemoveSuppressed(ctx context.Context, req api.SuppressionChange) (api.SuppressionList, error) {
	return call[api.SuppressionList](ctx, c, request{method: http.MethodPost, path: "/v1/suppression/remove", json: req})
}

// GetSuppression implements Service.
func (c *Client) GetSuppression(ctx context.Context, account string) (api.SuppressionList, error) {
	return call[api.SuppressionList](ctx, c, request{method: http.MethodGet, path: "/v1/suppression", query: query("account", account)})
}

// ImportPackage implements Service.
func (c *Client) ImportPackage(ctx context.Context, req api.ImportPackage, body io.Reader) (api.Package, error) {
	return call[api.Package](ctx, c, request{method: http.MethodPost, path: "/v1/packages",
		query: query("account", req.Account, "name", req.Name), upload: body, timeout: c.cfg.LongTimeout})
}

// ListPackages implements Service.
func (c *Client) ListPackages(ctx context.Context, account string, page api.Page) (api.PackageList, error) {
	return call[api.PackageList](ctx, c, request{method: http.MethodGet, path: "/v1/packages", query: paged(page, "account", account)})
}

// GetPackage implements Service.
func (c *Client) GetPackage(ctx context.Context, id job.Digest) (api.Package, error) {
	return call[api.Package](ctx, c, request{method: http.MethodGet, path: "/v1/packages/" + id.String()})
}

// SubmitJob implements Service.
func (c *Client) SubmitJob(ctx context.Context, req api.SubmitJob) (api.Job, error) {
	r := request{method: http.MethodPost, path: "/v1/jobs", json: req, once: req.IdempotencyKey == ""}
	if req.IdempotencyKey != "" {
		if err := api.ValidateIdempotencyKey(req.IdempotencyKey); err != nil {
			return api.Job{}, err
		}
		r.header = map[string]string{"Idempotency-Key": req.IdempotencyKey}
	}
	return call[api.Job](ctx, c, r)
}

// ListJobs implements Service.
func (c *Client) ListJobs(ctx context.Context, req api.ListJobs) (api.JobList, error) {
	q := paged(req.Page, "account", req.Account, "state", req.State)
	if req.Stuck {
		q.Set("stuck", "true")
	}
	return call[api.JobList](ctx, c, request{method: http.MethodGet, path: "/v1/jobs", query: q})
}

// GetJob implements Service.
func (c *Client) GetJob(ctx context.Context, id job.ID) (api.Job, error) {
	return call[api.Job](ctx, c, request{method: http.MethodGet, path: jobPath(id, "")})
}

// WatchJob implements Service. It outlives restarts of the server.
func (c *Client) WatchJob(ctx context.Context, id job.ID, fn func(api.Job) error) error {
	return c.patiently(ctx, func() (progress bool, err error) {
		over := false
		err = follow(ctx, c, request{method: http.MethodGet, path: jobPath(id, "/watch")}, func(j api.Job) error {
			progress, over = true, j.State.Terminal()
			return fn(j)
		})
		if err == nil && !over {
			err = &job.Error{Code: job.CodeUnavailable, Message: "the server ended the watch before the job was over"}
		}
		return progress, err
	})
}

// WaitJob implements Service by long polls. It outlives restarts of the server.
func (c *Client) WaitJob(ctx context.Context, id job.ID, req api.WaitJob) (api.Job, error) {
	if err := req.Validate(); err != nil {
		return api.Job{}, err
	}
	var end <-chan time.Time
	if req.Timeout > 0 {
		t := time.NewTimer(req.Timeout)
		defer t.Stop()
		end = t.C
	}
	poll := api.MaxWait
	if req.Timeout > 0 {
		poll = min(poll, req.Timeout)
	}
	var last api.Job
	err := c.patiently(ctx, func() (bool, error) {
		progress := false
		for {
			j, err := call[api.Job](ctx, c, request{method: http.MethodGet, path: jobPath(id, "/wait"),
				query:   query("for", req.For.String(), "timeout", api.Duration(poll).String()),
				timeout: poll + c.cfg.Timeout})
			if err != nil {
				return progress, err
			}
			progress, last = true, j
			if j.State.Reached(req.For) {
				return true, nil
			}
			select {
			case <-end:
				return true, nil
			default:
			}
		}
	})
	return last, err
}

func (c *Client) control(ctx context.Context, id job.ID, verb string) (api.Job, error) {
	return call[api.Job](ctx, c, request{method: http.MethodPost, path: jobPath(id, "/"+verb)})
}

// PauseJob implements Service.
func (c *Client) PauseJob(ctx context.Context, id job.ID) (api.Job, error) {
	return c.control(ctx, id, "pause")
}

// ResumeJob implements Service.
func (c *Client) ResumeJob(ctx context.Context, id job.ID) (api.Job, error) {
	return c.control(ctx, id, "resume")
}

// CancelJob implements Service.
func (c *Client) CancelJob(ctx context.Context, id job.ID) (api.Job, error) {
	return c.control(ctx, id, "cancel")
}

// RecallJob implements Service.
func (c *Client) RecallJob(ctx context.Context, id job.ID, req api.Recall) (api.Job, error) {
	return call[api.Job](ctx, c, request{method: http.MethodPost, path: jobPath(id, "/recall"), json: req})
}

// SetRate implements Service.
func (c *Client) SetRate(ctx context.Context, id job.ID, rate uint32) (api.Job, error) {
	return call[api.Job](ctx, c, request{method: http.MethodPut, path: jobPath(id, "/rate"), json: api.Rate{Rate: &rate}})
}

// ResolveJob implements Service.
func (c *Client) ResolveJob(ctx context.Context, id job.ID, decision job.Decision) (api.Resolution, error) {
	return call[api.Resolution](ctx, c, request{method: http.MethodPost, path: jobPath(id, "/resolve"), json: api.Resolve{Decision: api.DecisionName(decision)}})
}

// ExplainJob implements Service.
func (c *Client) ExplainJob(ctx context.Context, id job.ID, r job.Recipient) (api.Explanation, error) {
	return call[api.Explanation](ctx, c, request{method: http.MethodGet, path: jobPath(id, "/recipients/"+r.String())})
}

// GetRecipient implements Service.
func (c *Client) GetRecipient(ctx context.Context, r job.Recipient) (api.Recipient, error) {
	return call[api.Recipient](ctx, c, request{method: http.MethodGet, path: "/v1/recipients/" + r.String()})
}

// EraseRecipient implements Service.
func (c *Client) EraseRecipient(ctx context.Context, r job.Recipient, req api.Erase) (api.Erasure, error) {
	return call[api.Erasure](ctx, c, request{method: http.MethodPost, path: "/v1/recipients/" + r.String() + "/erase", json: req, timeout: c.cfg.LongTimeout})
}

// ReconcileJob implements Service.
func (c *Client) ReconcileJob(ctx context.Context, id job.ID) (api.Reconciliation, error) {
	return call[api.Reconciliation](ctx, c, request{method: http.MethodGet, path: jobPath(id, "/reconcile"), timeout: c.cfg.LongTimeout})
}

// ExportJob implements Service.
func (c *Client) ExportJob(ctx context.Context, id job.ID, req api.ExportJob, w io.Writer) error {
	return c.download(ctx, request{method: http.MethodGet, path: jobPath(id, "/recipients"), query: query("outcome", req.StandingText(), "format", req.Format)}, w)
}

// TailLedger implements Service. After a cut it goes on where it was; without
// Follow the end of the stream is the end.
func (c *Client) TailLedger(ctx context.Context, req api.TailLedger, fn func(api.LedgerEntry) error) error {
	return c.patiently(ctx, func() (progress bool, err error) {
		q := query("filter", req.Filter)
		if req.From != 0 {
			q.Set("from", strconv.FormatUint(req.From, 10))
		}
		if req.Follow {
			q.Set("follow", "true")
		}
		err = follow(ctx, c, request{method: http.MethodGet, path: "/v1/ledger", query: q}, func(e api.LedgerEntry) error {
			progress, req.From = true, e.Seq+1
			return fn(e)
		})
		if err == nil && req.Follow {
			err = &job.Error{Code: job.CodeUnavailable, Message: "the server ended the stream"}
		}
		return progress, err
	})
}

// TailEvents implements Service. After a cut it goes on behind the last event it got, or
// asks again from the same moment on; without Follow the end of the stream ends it.
func (c *Client) TailEvents(ctx context.Context, req api.TailEvents, fn func(api.Event) error) error {
	began, within := time.Now(), req.Within
	return c.patiently(ctx, func() (progress bool, err error) {
		if req.Within != 0 {
			req.Within = within + api.Duration(time.Since(began).Truncate(time.Millisecond))
		}
		q := query("since", req.SinceText(), "kind", req.Kind)
		if !req.Job.IsZero() {
			q.Set("job", req.Job.String())
		}
		if req.Follow {
			q.Set("follow", "true")
		}
		err = follow(ctx, c, request{method: http.MethodGet, path: "/v1/events", query: q}, func(e api.Event) error {
			progress, req.After, req.Within = true, e.Cursor, 0
			return fn(e)
		})
		if err == nil && req.Follow {
			err = &job.Error{Code: job.CodeUnavailable, Message: "the server ended the stream"}
		}
		return progress, err
	})
}

// VerifyLedger implements Service.
func (c *Client) VerifyLedger(ctx context.Context) (api.LedgerReport, error) {
	return call[api.LedgerReport](ctx, c, request{method: http.MethodGet, path: "/v1/ledger/verify", timeout: c.cfg.LongTimeout})
}

// Status implements Service.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return call[api.Status](ctx, c, request{method: http.MethodGet, path: "/v1/status"})
}

// Backup implements Service. It is not tried again: what was written cannot be taken back.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(c.cfg.LongTimeout, func() { cancel(errSilent) })
	defer silence.Stop()
	r := request{method: http.MethodGet, path: "/v1/backup"}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	part := make([]byte, 1<<20)
	for {
		n, err := resp.Body.Read(part)
		silence.Reset(c.cfg.LongTimeout)
		if n > 0 {
			if _, err := w.Write(part[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() == nil:
			return &job.Error{Code: job.CodeUnavailable, Message: "the backup broke off; the server's log says why, if it was the server", Err: err}
		case err != nil:
			return c.cut(ctx, r, err)
		}
	}
}

// MintToken implements Service.
func (c *Client) MintToken(ctx context.Context, req api.MintToken) (api.Token, error) {
	return call[api.Token](ctx, c, request{method: http.MethodPost, path: "/v1/tokens", json: req, once: true})
}
