package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"crier/api"
	"crier/job"
)

// segment makes a request about a segment. What is no name in a path names no segment.
func segment[O any](ctx context.Context, c *Client, name, rest string, r request) (O, error) {
	if name == "." || name == ".." || name == "" {
		var none O
		return none, job.NotFound("there is no segment " + strconv.Quote(name) + "; create it first")
	}
	r.path = "/v1/segments/" + url.PathEscape(name) + rest
	return call[O](ctx, c, r)
}

// CreateSegment implements Service.
func (c *Client) CreateSegment(ctx context.Context, req api.CreateSegment) (api.Segment, error) {
	return call[api.Segment](ctx, c, request{method: http.MethodPost, path: "/v1/segments", json: req, once: true})
}

// ListSegments implements Service.
func (c *Client) ListSegments(ctx context.Context, req api.ListSegments) (api.SegmentList, error) {
	q := paged(req.Page)
	if req.Archived {
		q.Set("archived", "true")
	}
	return call[api.SegmentList](ctx, c, request{method: http.MethodGet, path: "/v1/segments", query: q})
}

// GetSegment implements Service.
func (c *Client) GetSegment(ctx context.Context, name string) (api.Segment, error) {
	return segment[api.Segment](ctx, c, name, "", request{method: http.MethodGet})
}

// AddToSegment implements Service.
func (c *Client) AddToSegment(ctx context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return segment[api.SegmentChange](ctx, c, name, "/add", request{method: http.MethodPost, json: api.IDs{IDs: ids}})
}

// RemoveFromSegment implements Service.
func (c *Client) RemoveFromSegment(ctx context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return segment[api.SegmentChange](ctx, c, name, "/remove", request{method: http.MethodPost, json: api.IDs{IDs: ids}})
}

// ImportSegment implements Service.
func (c *Client) ImportSegment(ctx context.Context, name string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	return segment[api.IDsImport](ctx, c, name, "/import", request{method: http.MethodPost, query: skipping(req), upload: body, timeout: c.cfg.LongTimeout})
}

func skipping(req api.ImportIDs, pairs ...string) url.Values {
	q := query(pairs...)
	if req.Skip != 0 {
		q.Set("skip", strconv.Itoa(req.Skip))
	}
	return q
}

// ArchiveSegment implements Service.
func (c *Client) ArchiveSegment(ctx context.Context, name string) (api.Segment, error) {
	return segment[api.Segment](ctx, c, name, "/archive", request{method: http.MethodPost})
}

// RestoreSegment implements Service.
func (c *Client) RestoreSegment(ctx context.Context, name string) (api.Segment, error) {
	return segment[api.Segment](ctx, c, name, "/restore", request{method: http.MethodPost})
}

// ImportSuppressed implements Service.
func (c *Client) ImportSuppressed(ctx context.Context, account string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	return call[api.IDsImport](ctx, c, request{method: http.MethodPost, path: "/v1/suppression/import", query: skipping(req, "account", account),
		upload: body, timeout: c.cfg.LongTimeout})
}

// ListSuppression implements Service.
func (c *Client) ListSuppression(ctx context.Context, page api.Page) (api.SuppressionLists, error) {
	return call[api.SuppressionLists](ctx, c, request{method: http.MethodGet, path: "/v1/suppression/lists", query: paged(page)})
}

// ExportSet implements Service.
func (c *Client) ExportSet(ctx context.Context, req api.ExportSet, w io.Writer) error {
	if err := req.Validate(); err != nil {
		return err
	}
	return c.download(ctx, request{method: http.MethodGet, path: "/v1/sets/" + req.Kind, query: query("of", req.Of)}, w)
}
