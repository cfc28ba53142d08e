package server

import (
	"context"
	"net/http"

	"crier/api"
	"crier/job"
)

// JobInput is the part of an input that names a job in the path.
type JobInput struct {
	Job string `path:"job" doc:"Id of the job."`
}

func (s *Server) jobRoutes() {
	svc := s.cfg.Service
	handleBody(s, operation{"submit-job", http.MethodPost, "/v1/jobs", "jobs", "Submit a job: 202 once it is in the ledger", http.StatusAccepted},
		func(ctx context.Context, in *struct {
			Key  string `header:"Idempotency-Key" doc:"Same key and body: same job. Same key and another body: 409."`
			Body strictBody[api.SubmitJob]
		}) (api.Job, error) {
			req := in.Body.Value
			req.IdempotencyKey = in.Key
			if err := api.ValidateIdempotencyKey(in.Key); err != nil {
				return api.Job{}, err
			}
			return svc.SubmitJob(ctx, req)
		})
	handle(s, operation{"list-jobs", http.MethodGet, "/v1/jobs", "jobs", "List jobs, the newest first", http.StatusOK},
		func(ctx context.Context, in *struct {
			PageInput
			Account string `query:"account" doc:"Name or id of the account; absent means all."`
			State   string `query:"state" doc:"Only jobs in this state; absent means all. paused: also those that are sent and hand over nothing of what is parked."`
			Stuck   bool   `query:"stuck" doc:"true: only jobs that overstay their state, the longest first."`
		}) (api.JobList, error) {
			req := api.ListJobs{Page: in.page(), Account: in.Account, State: in.State, Stuck: in.Stuck}
			if err := req.Validate(); err != nil {
				return api.JobList{}, err
			}
			return svc.ListJobs(ctx, req)
		})
	handle(s, operation{"get-job", http.MethodGet, "/v1/jobs/{job}", "jobs", "Show a job", http.StatusOK},
		func(ctx context.Context, in *JobInput) (api.Job, error) {
			return withJob(ctx, in.Job, svc.GetJob)
		})
}

// withJob reads the id in a path and does something with it.
func withJob[O any](ctx context.Context, text string, do func(context.Context, job.ID) (O, error)) (O, error) {
	id, err := api.ParseJobID(text)
	if err != nil {
		return *new(O), err
	}
	return do(ctx, id)
}

func (s *Server) controlRoutes() {
	svc := s.cfg.Service
	type controlled struct {
		name, summary string
		do            func(context.Context, job.ID) (api.Job, error)
	}
	for _, c := range []controlled{
		{"pause", "Stop new hand-offs of a job", svc.PauseJob},
		{"resume", "Let a paused or quarantined job go on", svc.ResumeJob},
		{"cancel", "Stop a job for good", svc.CancelJob},
	} {
		handle(s, operation{c.name + "-job", http.MethodPost, "/v1/jobs/{job}/" + c.name, "jobs", c.summary, http.StatusOK},
			func(ctx context.Context, in *JobInput) (api.Job, error) {
				return withJob(ctx, in.Job, c.do)
			})
	}
	handleBody(s, operation{"recall-job", http.MethodPost, "/v1/jobs/{job}/recall", "jobs", "Stop a job for good, and take back what it delivered", http.StatusOK},
		func(ctx context.Context, in *struct {
			JobInput
			Body strictBody[api.Recall]
		}) (api.Job, error) {
			return withJob(ctx, in.Job, func(ctx context.Context, id job.ID) (api.Job, error) {
				return svc.RecallJob(ctx, id, in.Body.Value)
			})
		})
	handleBody(s, operation{"set-rate", http.MethodPut, "/v1/jobs/{job}/rate", "jobs", "Change a job's rate", http.StatusOK},
		func(ctx context.Context, in *struct {
			JobInput
			Body strictBody[api.Rate]
		}) (api.Job, error) {
			return withJob(ctx, in.Job, func(ctx context.Context, id job.ID) (api.Job, error) {
				return svc.SetRate(ctx, id, *in.Body.Value.Rate)
			})
		})
	handleBody(s, operation{"resolve-job", http.MethodPost, "/v1/jobs/{job}/resolve", "jobs", "Decide on who is in doubt, and who comes in doubt later", http.StatusOK},
		func(ctx context.Context, in *struct {
			JobInput
			Body strictBody[api.Resolve]
		}) (api.Resolution, error) {
			return withJob(ctx, in.Job, func(ctx context.Context, id job.ID) (api.Resolution, error) {
				decision, err := api.ParseDecision(in.Body.Value.Decision)
				if err != nil {
					return api.Resolution{}, err
				}
				return svc.ResolveJob(ctx, id, decision)
			})
		})
}

func (s *Server) proofRoutes() {
	svc := s.cfg.Service
	handle(s, operation{"explain-job", http.MethodGet, "/v1/jobs/{job}/recipients/{recipient}", "jobs", "One recipient's outcome, with its evidence", http.StatusOK},
		func(ctx context.Context, in *struct {
			JobInput
			Recipient string `path:"recipient" doc:"Recipient id, 0 to 4294967295."`
		}) (api.Explanation, error) {
			return withJob(ctx, in.Job, func(ctx context.Context, id job.ID) (api.Explanation, error) {
				r, err := job.ParseRecipient(in.Recipient)
				if err != nil {
					return api.Explanation{}, job.Invalid("recipient", api.Printable(err.Error()), nil)
				}
				return svc.ExplainJob(ctx, id, r)
			})
		})
	handle(s, operation{"reconcile-job", http.MethodGet, "/v1/jobs/{job}/reconcile", "jobs", "Prove that nothing of a job is lost or counted twice, and that its filters dropped whom they should", http.StatusOK},
		func(ctx context.Context, in *JobInput) (api.Reconciliation, error) {
			return withJob(ctx, in.Job, svc.ReconcileJob)
		})
	handle(s, operation{"get-recipient", http.MethodGet, "/v1/recipients/{recipient}", "recipients", "Where a recipient is connected, what waits for it, what it was charged, and what became of the last jobs", http.StatusOK},
		func(ctx context.Context, in *struct {
			Recipient string `path:"recipient" doc:"Recipient id, 0 to 4294967295."`
		}) (api.Recipient, error) {
			r, err := job.ParseRecipient(in.Recipient)
			if err != nil {
				return api.Recipient{}, job.Invalid("recipient", api.Printable(err.Error()), nil)
			}
			return svc.GetRecipient(ctx, r)
		})
	handleBody(s, operation{"erase-recipient", http.MethodPost, "/v1/recipients/{recipient}/erase", "recipients", "Forget a recipient: its tokens, its connections, what waits for it, what it was charged, and its place in sets", http.StatusOK},
		func(ctx context.Context, in *struct {
			Recipient string `path:"recipient" doc:"Recipient id, 0 to 4294967295."`
			Body      strictBody[api.Erase]
		}) (api.Erasure, error) {
			r, err := job.ParseRecipient(in.Recipient)
			if err != nil {
				return api.Erasure{}, job.Invalid("recipient", api.Printable(err.Error()), nil)
			}
			return svc.EraseRecipient(ctx, r, in.Body.Value)
		})
	handle(s, operation{"verify-ledger", http.MethodGet, "/v1/ledger/verify", "ledger", "Read the whole ledger and check every chain", http.StatusOK},
		func(ctx context.Context, _ *struct{}) (api.LedgerReport, error) {
			return svc.VerifyLedger(ctx)
		})
}

func (s *Server) operationRoutes() {
	svc := s.cfg.Service
	handle(s, operation{"status", http.MethodGet, "/v1/status", "operations", "The one-screen summary", http.StatusOK},
		func(ctx context.Context, _ *struct{}) (api.Status, error) {
			return svc.Status(ctx)
		})
	handleBody(s, operation{"mint-token", http.MethodPost, "/v1/tokens", "operations", "Make a token with which a recipient connects", http.StatusCreated},
		func(ctx context.Context, in *struct {
			Body strictBody[api.MintToken]
		}) (api.Token, error) {
			return svc.MintToken(ctx, in.Body.Value)
		})
}
