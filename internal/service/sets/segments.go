package sets

import (
	"context"
	"fmt"
	"io"

	"crier/api"
	"crier/audience/members"
	"crier/audience/source"
	"crier/job"
	"crier/state/sql/groups"
)

// CreateSegment implements api.Segments.
func (s *Sets) CreateSegment(ctx context.Context, req api.CreateSegment) (api.Segment, error) {
	if err := req.Validate(); err != nil {
		return api.Segment{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+req.Name)
	x, err := s.Store.Segments.Create(ctx, req.Name)
	if err != nil {
		return api.Segment{}, err
	}
	return s.describeSegment(ctx, x)
}

// ListSegments implements api.Segments.
func (s *Sets) ListSegments(ctx context.Context, req api.ListSegments) (api.SegmentList, error) {
	list := api.SegmentList{Segments: []api.Segment{}}
	if err := req.Validate(); err != nil {
		return list, err
	}
	found, err := s.Store.Segments.List(ctx, req.Archived, req.Cursor, req.Size()+1)
	if err != nil {
		return list, err
	}
	for i, x := range found {
		if i == req.Size() {
			list.Next = found[i-1].Name
			break
		}
		d, err := s.describeSegment(ctx, x)
		if err != nil {
			return list, err
		}
		list.Segments = append(list.Segments, d)
	}
	return list, nil
}

// GetSegment implements api.Segments.
func (s *Sets) GetSegment(ctx context.Context, name string) (api.Segment, error) {
	x, err := s.Store.Segments.Find(ctx, name)
	if err != nil {
		return api.Segment{}, err
	}
	return s.describeSegment(ctx, x)
}

func (s *Sets) describeSegment(ctx context.Context, x groups.Segment) (api.Segment, error) {
	head, err := s.Members.Head(ctx, members.Segment(x.Number))
	return api.Segment{Name: x.Name, Recipients: head.Cardinality, Revision: head.Revision, CreatedAt: x.CreatedAt, ArchivedAt: x.ArchivedAt}, err
}

// ArchiveSegment implements api.Segments.
func (s *Sets) ArchiveSegment(ctx context.Context, name string) (api.Segment, error) {
	return s.archive(ctx, name, true)
}

// RestoreSegment implements api.Segments.
func (s *Sets) RestoreSegment(ctx context.Context, name string) (api.Segment, error) {
	return s.archive(ctx, name, false)
}

func (s *Sets) archive(ctx context.Context, name string, archived bool) (api.Segment, error) {
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+name)
	x, err := s.Store.Segments.Archive(ctx, name, archived)
	if err != nil {
		return api.Segment{}, err
	}
	return s.describeSegment(ctx, x)
}

// InUse finds a segment that is not archived. Segments are the default tenant's: for
// others there are none.
func (s *Sets) InUse(ctx context.Context, name string) (groups.Segment, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return groups.Segment{}, err
	}
	if !c.Sees(job.DefaultTenant) {
		return groups.Segment{}, job.NotFound(fmt.Sprintf("there is no segment %q", api.Printable(name)))
	}
	x, err := s.Store.Segments.Find(ctx, name)
	if err == nil && !x.ArchivedAt.IsZero() {
		err = job.Conflict(fmt.Sprintf("segment %q is archived; restore it first", name))
	}
	return x, err
}

// AddToSegment implements api.Segments.
func (s *Sets) AddToSegment(ctx context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return s.changeSegment(ctx, name, ids, s.Members.Add)
}

// RemoveFromSegment implements api.Segments.
func (s *Sets) RemoveFromSegment(ctx context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return s.changeSegment(ctx, name, ids, s.Members.Remove)
}

func (s *Sets) changeSegment(ctx context.Context, name string, ids []job.Recipient, do change) (api.SegmentChange, error) {
	x, err := s.InUse(ctx, name)
	if err != nil {
		return api.SegmentChange{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+x.Name)
	r, err := do(ctx, members.Segment(x.Number), plain(ids))
	return api.SegmentChange{Segment: x.Name, Changed: r.Changed, Unchanged: r.Already + r.Repeated, Recipients: r.Cardinality, Revision: r.Revision}, err
}

// ImportSegment implements api.Segments.
func (s *Sets) ImportSegment(ctx context.Context, name string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	x, err := s.InUse(ctx, name)
	if err != nil {
		return api.IDsImport{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+x.Name)
	return s.importIDs(ctx, members.Segment(x.Number), req, body)
}

// importIDs puts a file of ids into a set.
func (s *Sets) importIDs(ctx context.Context, key members.Key, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	if err := req.Validate(); err != nil {
		return api.IDsImport{}, err
	}
	src := source.NewText(source.Input{Name: "input", File: "input", R: io.NopCloser(body), Skip: req.Skip})
	defer src.Close()
	r, err := s.Members.ImportIDs(ctx, key, src)
	return api.IDsImport{Read: r.Read, Repeated: r.Repeated, Already: r.Already, Added: r.Added, Recipients: r.Cardinality, Revision: r.Revision}, refused(err)
}
