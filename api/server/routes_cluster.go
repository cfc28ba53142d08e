package server

import (
	"context"
	"net/http"

	"crier/api"
)

// MemberInput is the part of an input that names a member in the path.
type MemberInput struct {
	Member string `path:"member" doc:"Id of the member."`
}

func (s *Server) clusterRoutes() {
	svc := s.cfg.Service
	handle(s, operation{"list-members", http.MethodGet, "/v1/members", "cluster", "List the members of the cluster, as this process sees them", http.StatusOK},
		func(ctx context.Context, _ *struct{}) (api.MemberList, error) {
			return svc.ListMembers(ctx)
		})
	handle(s, operation{"get-member", http.MethodGet, "/v1/members/{member}", "cluster", "Show a member", http.StatusOK},
		func(ctx context.Context, in *MemberInput) (api.Member, error) {
			return svc.GetMember(ctx, in.Member)
		})
	for _, c := range []struct {
		name, summary string
		do            func(context.Context, string, api.Operate) (api.Member, error)
	}{
		{"silence", "Let a member hand over what it holds and take nothing new", svc.SilenceMember},
		{"resume", "Let a silent member take work again", svc.ResumeMember},
	} {
		handleBody(s, operation{c.name + "-member", http.MethodPost, "/v1/members/{member}/" + c.name, "cluster", c.summary, http.StatusOK},
			func(ctx context.Context, in *struct {
				MemberInput
				Body strictBody[api.Operate]
			}) (api.Member, error) {
				return c.do(ctx, in.Member, in.Body.Value)
			})
		// huma asks for a body by what it has written down: a reason need not be given.
		s.doc.OpenAPI().Paths["/v1/members/{member}/"+c.name].Post.RequestBody.Required = false
	}
	handle(s, operation{"get-ring", http.MethodGet, "/v1/ring", "cluster", "Who should hold what, and who does", http.StatusOK},
		func(ctx context.Context, in *struct {
			PageInput
			Kind string `query:"kind" doc:"range, job, slice or journal; absent means range."`
			Diff bool   `query:"diff" doc:"true: list what differs; absent means false."`
		}) (api.Ring, error) {
			req := api.AskRing{Page: in.page(), Kind: in.Kind, Diff: in.Diff}
			if err := req.Validate(); err != nil {
				return api.Ring{}, err
			}
			return svc.Ring(ctx, req)
		})
	handle(s, operation{"list-journals", http.MethodGet, "/v1/journals", "cluster", "List the journals of the ledger, by name", http.StatusOK},
		func(ctx context.Context, in *struct{ PageInput }) (api.JournalList, error) {
			return svc.ListJournals(ctx, in.page())
		})
	handle(s, operation{"list-lanes", http.MethodGet, "/v1/lanes", "cluster", "What the lanes of all workers are at", http.StatusOK},
		func(ctx context.Context, _ *struct{}) (api.LaneList, error) {
			return svc.ListLanes(ctx)
		})
}
