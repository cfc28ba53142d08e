package apitest

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"crier/api"
	"crier/job"
)

// segment is a segment of the fake.
type segment struct {
	api.Segment
	ids map[job.Recipient]bool
}

// onSegment does something with a segment and tells how it then is.
func (f *Fake) onSegment(method, name string, changing bool, do func(*segment) error) (api.Segment, error) {
	if err := f.enter(method); err != nil {
		return api.Segment{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.segmentLocked(name)
	if err != nil {
		return api.Segment{}, err
	}
	if changing && !s.ArchivedAt.IsZero() {
		return api.Segment{}, job.Conflict(fmt.Sprintf("segment %q is archived", name))
	}
	if err := do(s); err != nil {
		return api.Segment{}, err
	}
	s.Recipients = uint64(len(s.ids))
	return s.Segment, nil
}

func (f *Fake) segmentLocked(name string) (*segment, error) {
	for _, s := range f.mu.segments {
		if s.Name == name {
			return s, nil
		}
	}
	return nil, job.NotFound(fmt.Sprintf("there is no segment %q; create it first", name))
}

// CreateSegment implements api.Service.
func (f *Fake) CreateSegment(_ context.Context, req api.CreateSegment) (api.Segment, error) {
	if err := f.enter("CreateSegment"); err != nil {
		return api.Segment{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.segmentLocked(req.Name); err == nil {
		return api.Segment{}, &job.Error{Code: job.CodeConflict, Field: "name", Message: fmt.Sprintf("there is a segment %q already", req.Name)}
	}
	s := &segment{api.Segment{Name: req.Name, CreatedAt: f.Now()}, map[job.Recipient]bool{}}
	f.mu.segments = append(f.mu.segments, s)
	return s.Segment, nil
}

// ListSegments implements api.Service.
func (f *Fake) ListSegments(_ context.Context, req api.ListSegments) (api.SegmentList, error) {
	if err := f.enter("ListSegments"); err != nil {
		return api.SegmentList{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var match []api.Segment
	for _, s := range f.mu.segments {
		if s.ArchivedAt.IsZero() != req.Archived {
			match = append(match, s.Segment)
		}
	}
	slices.SortFunc(match, func(a, b api.Segment) int { return cmp.Compare(a.Name, b.Name) })
	items, next, err := cut(match, req.Page)
	return api.SegmentList{Segments: items, Next: next}, err
}

// GetSegment implements api.Service.
func (f *Fake) GetSegment(_ context.Context, name string) (api.Segment, error) {
	return f.onSegment("GetSegment", name, false, func(*segment) error { return nil })
}

func (f *Fake) changeSegment(method, name string, ids []job.Recipient, in bool) (api.SegmentChange, error) {
	out := api.SegmentChange{Segment: name}
	s, err := f.onSegment(method, name, true, func(s *segment) error {
		out.Changed = flip(s.ids, ids, in)
		s.Revision += min(out.Changed, 1)
		return nil
	})
	if err != nil {
		return api.SegmentChange{}, err
	}
	out.Unchanged, out.Recipients, out.Revision = uint64(len(ids))-out.Changed, s.Recipients, s.Revision
	return out, nil
}

// AddToSegment implements api.Service.
func (f *Fake) AddToSegment(_ context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return f.changeSegment("AddToSegment", name, ids, true)
}

// RemoveFromSegment implements api.Service.
func (f *Fake) RemoveFromSegment(_ context.Context, name string, ids []job.Recipient) (api.SegmentChange, error) {
	return f.changeSegment("RemoveFromSegment", name, ids, false)
}

// readIDs reads ids of a file that is not gzipped.
func readIDs(req api.ImportIDs, body io.Reader) (ids []job.Recipient, err error) {
	scan := bufio.NewScanner(body)
	for n := 1; scan.Scan(); n++ {
		if n <= req.Skip {
			continue
		}
		for _, w := range strings.FieldsFunc(scan.Text(), func(r rune) bool { return r == ' ' || r == ',' }) {
			id, err := job.ParseRecipient(w)
			if err != nil {
				return nil, job.Invalid("file", fmt.Sprintf("input: line %d: %s; nothing was kept", n, err), nil)
			}
			ids = append(ids, id)
		}
	}
	return ids, scan.Err()
}

// take puts ids into a set and counts them.
func take(set map[job.Recipient]bool, ids []job.Recipient) (out api.IDsImport) {
	once := slices.Compact(slices.Sorted(slices.Values(ids)))
	out.Read, out.Repeated = uint64(len(ids)), uint64(len(ids)-len(once))
	out.Added = flip(set, once, true)
	out.Already, out.Recipients = uint64(len(once))-out.Added, uint64(len(set))
	return out
}

// ImportSegment implements api.Service.
func (f *Fake) ImportSegment(_ context.Context, name string, req api.ImportIDs, body io.Reader) (out api.IDsImport, err error) {
	_, err = f.onSegment("ImportSegment", name, true, func(s *segment) error {
		ids, err := readIDs(req, body)
		if err != nil {
			return err
		}
		out = take(s.ids, ids)
		s.Revision += min(out.Added, 1)
		out.Revision = s.Revision
		return nil
	})
	return out, err
}

// ArchiveSegment implements api.Service.
func (f *Fake) ArchiveSegment(_ context.Context, name string) (api.Segment, error) {
	return f.onSegment("ArchiveSegment", name, false, func(s *segment) error {
		if s.ArchivedAt.IsZero() {
			s.ArchivedAt = f.Now()
		}
		return nil
	})
}

// RestoreSegment implements api.Service.
func (f *Fake) RestoreSegment(_ context.Context, name string) (api.Segment, error) {
	return f.onSegment("RestoreSegment", name, false, func(s *segment) error {
		s.ArchivedAt = api.Segment{}.ArchivedAt
		return nil
	})
}

// ImportSuppressed implements api.Service for files that are not gzipped.
func (f *Fake) ImportSuppressed(_ context.Context, account string, req api.ImportIDs, body io.Reader) (api.IDsImport, error) {
	if err := f.enter("ImportSuppressed"); err != nil {
		return api.IDsImport{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := ""
	if account != "" {
		a, err := f.findLocked(account)
		if err != nil {
			return api.IDsImport{}, err
		}
		name = a.Name
	}
	ids, err := readIDs(req, body)
	if err != nil {
		return api.IDsImport{}, err
	}
	out := take(f.listLocked(name), ids)
	f.mu.revisions[name] += min(out.Added, 1)
	out.Revision = f.mu.revisions[name]
	return out, nil
}

// listLocked gives a suppression list by its account's name.
func (f *Fake) listLocked(name string) map[job.Recipient]bool {
	if f.mu.suppressed[name] == nil {
		f.mu.suppressed[name] = map[job.Recipient]bool{}
	}
	return f.mu.suppressed[name]
}

// ListSuppression implements api.Service.
func (f *Fake) ListSuppression(_ context.Context, page api.Page) (api.SuppressionLists, error) {
	if err := f.enter("ListSuppression"); err != nil {
		return api.SuppressionLists{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []api.SuppressionList
	describe := func(name string, id *uint32) {
		if n := f.mu.revisions[name]; n > 0 {
			all = append(all, api.SuppressionList{Account: name, AccountID: id, Entries: uint64(len(f.mu.suppressed[name])), Revision: n})
		}
	}
	describe("", nil)
	for _, a := range f.mu.accounts {
		describe(a.Name, &a.ID)
	}
	items, next, err := cut(all, page)
	return api.SuppressionLists{Lists: items, Next: next}, err
}

// ExportSet implements api.Service. Without Pack the package is its ids as text.
func (f *Fake) ExportSet(_ context.Context, req api.ExportSet, w io.Writer) error {
	if err := f.enter("ExportSet"); err != nil {
		return err
	}
	ids, err := f.kept(req)
	if err != nil {
		return err
	}
	b := []byte(fmt.Sprintln(ids))
	if f.Pack != nil {
		if b, err = f.Pack(cmp.Or(req.Of, req.Kind), ids); err != nil {
			return err
		}
	}
	_, err = w.Write(b)
	return err
}

// kept gives the ids of a set in their order.
func (f *Fake) kept(req api.ExportSet) ([]job.Recipient, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Kind == api.SetSegment {
		s, err := f.segmentLocked(req.Of)
		if err != nil {
			return nil, err
		}
		return slices.Sorted(maps.Keys(s.ids)), nil
	}
	name, set := "", map[job.Recipient]bool{}
	if req.Of != "" {
		a, err := f.findLocked(req.Of)
		if err != nil {
			return nil, err
		}
		name, set = a.Name, f.mu.followers[a.ID]
	}
	if req.Kind == api.SetSuppression {
		set = f.mu.suppressed[name]
	}
	return slices.Sorted(maps.Keys(set)), nil
}

// refsLocked gives segments as a job records them.
func (f *Fake) refsLocked(field string, names []string) (refs []api.SegmentRef, err error) {
	for _, name := range names {
		s, err := f.segmentLocked(name)
		if err != nil {
			return nil, &job.Error{Code: job.CodeNotFound, Field: field, Message: err.Error()}
		}
		if !s.ArchivedAt.IsZero() {
			return nil, &job.Error{Code: job.CodeConflict, Field: field, Message: fmt.Sprintf("segment %q is archived", name)}
		}
		refs = append(refs, api.SegmentRef{Name: name, Revision: s.Revision, Recipients: s.Recipients})
	}
	return refs, nil
}
