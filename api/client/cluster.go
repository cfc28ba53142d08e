package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"crier/api"
	"crier/job"
)

// ofMember makes a request about a member; a name that would change the path is nobody's.
func ofMember(ctx context.Context, c *Client, id string, r request) (api.Member, error) {
	if !job.ValidName(id) {
		return api.Member{}, job.NotFound("there is no member " + strconv.Quote(id) + "; crier member ls names those there are")
	}
	r.path = "/v1/members/" + url.PathEscape(id) + r.path
	return call[api.Member](ctx, c, r)
}

// ListMembers implements Service.
func (c *Client) ListMembers(ctx context.Context) (api.MemberList, error) {
	return call[api.MemberList](ctx, c, request{method: http.MethodGet, path: "/v1/members"})
}

// GetMember implements Service.
func (c *Client) GetMember(ctx context.Context, id string) (api.Member, error) {
	return ofMember(ctx, c, id, request{method: http.MethodGet})
}

// SilenceMember implements Service.
func (c *Client) SilenceMember(ctx context.Context, id string, req api.Operate) (api.Member, error) {
	return ofMember(ctx, c, id, request{method: http.MethodPost, path: "/silence", json: req})
}

// ResumeMember implements Service.
func (c *Client) ResumeMember(ctx context.Context, id string, req api.Operate) (api.Member, error) {
	return ofMember(ctx, c, id, request{method: http.MethodPost, path: "/resume", json: req})
}

// Ring implements Service.
func (c *Client) Ring(ctx context.Context, req api.AskRing) (api.Ring, error) {
	q := paged(req.Page, "kind", req.Kind)
	if req.Diff {
		q.Set("diff", "true")
	}
	return call[api.Ring](ctx, c, request{method: http.MethodGet, path: "/v1/ring", query: q})
}

// ListJournals implements Service.
func (c *Client) ListJournals(ctx context.Context, page api.Page) (api.JournalList, error) {
	return call[api.JournalList](ctx, c, request{method: http.MethodGet, path: "/v1/journals", query: paged(page)})
}

// ListLanes implements Service.
func (c *Client) ListLanes(ctx context.Context) (api.LaneList, error) {
	return call[api.LaneList](ctx, c, request{method: http.MethodGet, path: "/v1/lanes"})
}
