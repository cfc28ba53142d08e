package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"crier/api"
	"crier/audience"
	"crier/audience/members"
	"crier/audience/source"
	"crier/job"
	"crier/state/sql/groups"
)

// CreateSegment implements api.Segments.
func (s *Service) CreateSegment(ctx context.Context, req api.CreateSegment) (api.Segment, error) {
	if err := req.Validate(); err != nil {
		return api.Segment{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+req.Name)
	x, err := s.cfg.Store.Segments.Create(ctx, req.Name)
	if err != nil {
		return api.Segment{}, err
	}
	return s.describeSegment(ctx, x)
}

// ListSegments implements api.Segments.
func (s *Service) ListSegments(ctx context.Context, req api.ListSegments) (api.SegmentList, error) {
	list := api.SegmentList{Segments: []api.Segment{}}
	if err := req.Validate(); err != nil {
		return list, err
	}
	found, err := s.cfg.Store.Segments.List(ctx, req.Archived, req.Cursor, req.Size()+1)
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
func (s *Service) GetSegment(ctx context.Context, name string) (api.Segment, error) {
	x, err := s.cfg.Store.Segments.Find(ctx, name)
	if err != nil {
		return api.Segment{}, err
	}
	return s.describeSegment(ctx, x)
}

func (s *Service) describeSegment(ctx context.Context, x groups.Segment) (api.Segment, error) {
	head, err := s.cfg.Members.Head(ctx, members.Segment(x.Number))
	return api.Segment{Name: x.Name, Recipients: head.Cardinality, Revision: head.Revision, CreatedAt: x.CreatedAt, ArchivedAt: x.ArchivedAt}, err
}

// ArchiveSegment implements api.Segments.
func (s *Service) ArchiveSegment(ctx context.Context, name string) (api.Segment, error) {
	return s.archive(ctx, name, true)
}

// RestoreSegment implements api.Segments.
func (s *Service) RestoreSegment(ctx context.Context, name string) (api.Segment, error) {
	return s.archive(ctx, name, false)
}

func (s *Service) archive(ctx context.Context, name string, archived bool) (api.Segment, error) {
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+name)
	x, err := s.cfg.Store.Segments.Archive(ctx, name, archived)
	if err != nil {
		return api.Segment{}, err
	}
	return s.describeSegment(ctx, x)
}

// inUse finds a segment that is not archived. Segments are the default tenant's: for
// others there are none.
func (s *Service) inUse(ctx context.Context, name string) (groups.Segment, error) {
	c, err := api.CallerOf(ctx)
	if err != nil {
		return groups.Segment{}, err
	}
	if !c.Sees(job.DefaultTenant) {
		return groups.Segment{}, job.NotFound(fmt.Sprintf("there is no segment %q", api.Printable(name)))
	}
	x, err := s.cfg.Store.Segments.Find(ctx, name)
	if err == nil && !x.ArchivedAt.IsZero() {
		err = job.Conflict(fmt.Sprintf("segment %q is archived; restore it first", name))
	}
	return x, err
}

// AddToSegment implements api.Segments.
func (s *Service) AddToSegment(ctx context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return s.changeSegment(ctx, name, ids, s.cfg.Members.Add)
}

// RemoveFromSegment implements api.Segments.
func (s *Service) RemoveFromSegment(ctx context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return s.changeSegment(ctx, name, ids, s.cfg.Members.Remove)
}

func (s *Service) changeSegment(ctx context.Context, name string, ids []job.Recipient, do change) (api.SegmentChange, error) {
	x, err := s.inUse(ctx, name)
	if err != nil {
		return api.SegmentChange{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+x.Name)
	r, err := do(ctx, members.Segment(x.Number), plain(ids))
	return api.SegmentChange{Segment: x.Name, Changed: r.Changed, Unchanged: r.Already + r.Repeated, Recipients: r.Cardinality, Revision: r.Revision}, err
}

// ImportSegment implements api.Segments.
func (s *Service) ImportSegment(ctx context.Context, name string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	x, err := s.inUse(ctx, name)
	if err != nil {
		return api.IDsImport{}, err
	}
	api.ActOf(ctx).On(job.DefaultTenant, "segment/"+x.Name)
	return s.importIDs(ctx, members.Segment(x.Number), req, body)
}

// ImportSuppressed implements api.Suppression.
func (s *Service) ImportSuppressed(ctx context.Context, account string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	_, key, err := s.suppression(ctx, account)
	if err != nil {
		return api.IDsImport{}, err
	}
	return s.importIDs(ctx, key, req, body)
}

// importIDs puts a file of ids into a set.
func (s *Service) importIDs(ctx context.Context, key members.Key, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	if err := req.Validate(); err != nil {
		return api.IDsImport{}, err
	}
	src := source.NewText(source.Input{Name: "input", File: "input", R: io.NopCloser(body), Skip: req.Skip})
	defer src.Close()
	r, err := s.cfg.Members.ImportIDs(ctx, key, src)
	return api.IDsImport{Read: r.Read, Repeated: r.Repeated, Already: r.Already, Added: r.Added, Recipients: r.Cardinality, Revision: r.Revision}, refused(err)
}

// ListSuppression implements api.Suppression. The first page begins with the global list;
// a cursor is the account that comes next.
func (s *Service) ListSuppression(ctx context.Context, page api.Page) (api.SuppressionLists, error) {
	list := api.SuppressionLists{Lists: []api.SuppressionList{}}
	if err := page.Validate(); err != nil {
		return list, err
	}
	c, err := api.CallerOf(ctx)
	if err != nil {
		return list, err
	}
	from := uint64(0)
	if page.Cursor != "" {
		if from, err = strconv.ParseUint(page.Cursor, 10, 32); err != nil {
			return list, job.Invalid("cursor", "that cursor is no list's of suppression lists; start without one", nil)
		}
	} else if c.IsOperator() {
		if err := s.globalList(ctx, &list); err != nil {
			return list, err
		}
	}
	most := page.Size() - len(list.Lists)
	heads, err := s.cfg.Store.Sets.Scan(ctx, members.KindSuppression, uint32(from), most+1)
	if err != nil {
		return list, err
	}
	for i, h := range heads {
		if i == most {
			list.Next = strconv.FormatUint(uint64(h.Owner), 10)
			break
		}
		a, err := s.cfg.Store.Accounts.Of(c.Scope()).Get(ctx, h.Owner)
		if isCode(err, job.CodeNotFound) {
			continue // another tenant's: a page may have fewer than it was asked for
		}
		if err != nil {
			return list, err
		}
		list.Lists = append(list.Lists, api.SuppressionList{Account: a.Name, AccountID: &a.Number, Entries: h.Cardinality, Revision: h.Revision})
	}
	return list, nil
}

// globalList begins a list of lists.
func (s *Service) globalList(ctx context.Context, list *api.SuppressionLists) error {
	global, err := s.GetSuppression(ctx, "")
	if err == nil && global.Revision > 0 {
		list.Lists = append(list.Lists, global)
	}
	return err
}

// ExportSet implements api.Packages: the set is written to a scratch file a range at a
// time, and from there.
func (s *Service) ExportSet(ctx context.Context, req api.ExportSet, w io.Writer) (err error) {
	if err := req.Validate(); err != nil {
		return err
	}
	name, key, err := s.keptSet(ctx, req)
	var wrong *job.Error
	if errors.As(err, &wrong) && wrong.Field != "" {
		of := *wrong
		of.Field = "of" // whatever it names
		err = &of
	}
	if err != nil {
		return err
	}
	set, err := s.cfg.Members.Current(ctx, key)
	if err != nil {
		return err
	}
	defer set.Close() // only read
	draft, err := s.draft(ctx, strings.ReplaceAll(name, `\`, "_"), set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	f, err := os.Open(draft.Path())
	if err != nil {
		return fmt.Errorf("reading the export: %w", err)
	}
	defer f.Close() // only read
	_, err = io.Copy(w, f)
	return err
}

// keptSet finds the set that an export is of, and what its package is called.
func (s *Service) keptSet(ctx context.Context, req api.ExportSet) (name string, key members.Key, err error) {
	switch req.Kind {
	case api.SetSegment:
		c, err := api.CallerOf(ctx)
		if err == nil && !c.Sees(job.DefaultTenant) {
			err = job.NotFound(fmt.Sprintf("there is no segment %q", api.Printable(req.Of)))
		}
		if err != nil {
			return "", members.Key{}, err
		}
		x, err := s.cfg.Store.Segments.Find(ctx, req.Of)
		return x.Name, members.Segment(x.Number), err
	case api.SetFollowers:
		a, err := s.account(ctx, req.Of)
		return a.Name, members.Followers(a.Number), err
	}
	list, key, err := s.suppression(ctx, req.Of)
	if list.Account == "" {
		list.Account = api.SetSuppression
	}
	return list.Account, key, err
}

// draft writes a set as the file of a package.
func (s *Service) draft(ctx context.Context, name string, set audience.Ranged) (*audience.Draft, error) {
	w, err := audience.NewWriter(s.cfg.Scratch, name)
	if err != nil {
		return nil, storing(err)
	}
	defer w.Abort()
	for q := range set.Ranges() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ids, err := set.Range(q)
		if err != nil {
			return nil, err
		}
		err = w.Add(ids)
		ids.Release()
		if err != nil {
			return nil, storing(err)
		}
	}
	d, err := w.Finish(0)
	if err != nil {
		return nil, storing(err)
	}
	return d, nil
}

// aim puts in the segments and the control group that a job asks for, as they are now.
// All segments are looked for before one is fixed.
func (s *Service) aim(ctx context.Context, req api.SubmitJob, spec *job.Spec) error {
	include, err := s.findSegments(ctx, "include_segments", req.IncludeSegments)
	if err != nil {
		return err
	}
	exclude, err := s.findSegments(ctx, "exclude_segments", req.ExcludeSegments)
	if err != nil {
		return err
	}
	if spec.Include, err = s.pinSegments(ctx, include); err != nil {
		return err
	}
	if spec.Exclude, err = s.pinSegments(ctx, exclude); err != nil {
		return err
	}
	if spec.ControlGroup, err = job.PercentOf(req.ControlGroup); err != nil || spec.ControlGroup.IsZero() {
		return err
	}
	spec.Salt, err = s.cfg.Store.Salts.Of(ctx, spec.Account)
	return err
}

// findSegments finds segments that a field of a request names.
func (s *Service) findSegments(ctx context.Context, field string, names []string) (found []groups.Segment, err error) {
	for _, name := range names {
		x, err := s.inUse(ctx, name)
		var known *job.Error
		if errors.As(err, &known) && (known.Code == job.CodeNotFound || known.Code == job.CodeConflict) {
			return nil, &job.Error{Code: known.Code, Field: field, Message: known.Message}
		}
		if err != nil {
			return nil, err
		}
		found = append(found, x)
	}
	return found, nil
}

// pinSegments fixes segments at their revisions.
func (s *Service) pinSegments(ctx context.Context, found []groups.Segment) (out []job.Segment, err error) {
	for _, x := range found {
		pin, err := s.cfg.Members.Pin(ctx, members.Segment(x.Number))
		if err != nil {
			return nil, fmt.Errorf("fixing segment %s: %w", x.Name, err)
		}
		out = append(out, job.Segment{Name: x.Name, Number: x.Number, Revision: pin.Revision, Blob: pin.Blob, Recipients: pin.Cardinality})
	}
	return out, nil
}

// refs are a job's segments as users see them.
func refs(segments []job.Segment) (out []api.SegmentRef) {
	for _, x := range segments {
		out = append(out, api.SegmentRef{Name: x.Name, Revision: x.Revision, Recipients: x.Recipients})
	}
	return out
}

// sorted is a list of names in one order.
func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }
