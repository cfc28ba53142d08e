package server

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"crier/api"
	"crier/job"
)

// SegmentInput is the part of an input that names a segment in the path.
type SegmentInput struct {
	Segment string `path:"segment" doc:"Name of the segment."`
}

func segmentPath(name string) string { return "/v1/segments/" + url.PathEscape(name) }

func (s *Server) segmentRoutes() {
	svc := s.cfg.Service
	handleBody(s, operation{"create-segment", http.MethodPost, "/v1/segments", "segments", "Create a segment", http.StatusCreated},
		func(ctx context.Context, in *struct {
			Body strictBody[api.CreateSegment]
		}) (api.Segment, error) {
			return svc.CreateSegment(ctx, in.Body.Value)
		})
	handle(s, operation{"list-segments", http.MethodGet, "/v1/segments", "segments", "List segments by their names", http.StatusOK},
		func(ctx context.Context, in *struct {
			PageInput
			Archived bool `query:"archived" doc:"true: those that are archived, instead of the others."`
		}) (api.SegmentList, error) {
			return svc.ListSegments(ctx, api.ListSegments{Page: in.page(), Archived: in.Archived})
		})
	for _, o := range []struct {
		verb, summary string
		do            func(context.Context, string) (api.Segment, error)
	}{{"archive", "Take a segment out of use", svc.ArchiveSegment}, {"restore", "Take an archived segment into use again", svc.RestoreSegment}} {
		handle(s, operation{o.verb + "-segment", http.MethodPost, "/v1/segments/{segment}/" + o.verb, "segments", o.summary, http.StatusOK},
			func(ctx context.Context, in *SegmentInput) (api.Segment, error) { return o.do(ctx, in.Segment) })
	}
	handle(s, operation{"get-segment", http.MethodGet, "/v1/segments/{segment}", "segments", "Show a segment", http.StatusOK},
		func(ctx context.Context, in *SegmentInput) (api.Segment, error) {
			return svc.GetSegment(ctx, in.Segment)
		})
	type change struct {
		SegmentInput
		Body strictBody[api.IDs]
	}
	handleBody(s, operation{"add-to-segment", http.MethodPost, "/v1/segments/{segment}/add", "segments", "Add recipients to a segment", http.StatusOK},
		func(ctx context.Context, in *change) (api.SegmentChange, error) {
			return svc.AddToSegment(ctx, in.Segment, in.Body.Value.IDs)
		})
	handleBody(s, operation{"remove-from-segment", http.MethodPost, "/v1/segments/{segment}/remove", "segments", "Remove recipients from a segment", http.StatusOK},
		func(ctx context.Context, in *change) (api.SegmentChange, error) {
			return svc.RemoveFromSegment(ctx, in.Segment, in.Body.Value.IDs)
		})
}

// setUploads registers the imports of files of ids.
func (s *Server) setUploads() {
	s.upload(s.importSegment, operation{"import-segment", http.MethodPost, "/v1/segments/{segment}/import", "segments",
		"Import a file of ids into a segment; it may be gzipped", http.StatusOK}, api.IDsImport{}, importIDsQuery...)
	s.upload(s.importSuppressed, operation{"import-suppressed", http.MethodPost, "/v1/suppression/import", "suppression",
		"Import a file of ids into a suppression list; it may be gzipped", http.StatusOK}, api.IDsImport{}, importSuppressedQuery...)
}

func (s *Server) importSegment(r *http.Request) (any, error) {
	req, err := importIDs(r)
	if err != nil {
		return nil, err
	}
	return s.cfg.Service.ImportSegment(r.Context(), r.PathValue("segment"), req, r.Body)
}

func (s *Server) importSuppressed(r *http.Request) (any, error) {
	req, err := importIDs(r)
	if err != nil {
		return nil, err
	}
	return s.cfg.Service.ImportSuppressed(r.Context(), r.URL.Query().Get("account"), req, r.Body)
}

func importIDs(r *http.Request) (req api.ImportIDs, err error) {
	if req.Skip, err = skipQuery(r); err != nil {
		return req, err
	}
	return req, req.Validate()
}

// skipQuery reads how many lines of a file are left out.
func skipQuery(r *http.Request) (int, error) {
	text := r.URL.Query().Get("skip")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, job.Invalid("skip", "skip is a number of lines", nil)
	}
	return n, nil
}
