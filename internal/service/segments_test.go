package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crier/api"
	"crier/api/problem"
	"crier/audience"
	"crier/job"
)

// segment makes a segment with recipients of range 3.
func (f *fixture) segment(name string, ids ...int) {
	f.t.Helper()
	_, err := f.CreateSegment(asked(f.t), api.CreateSegment{Name: name})
	f.must(err)
	f.into(name, ids...)
}

func (f *fixture) into(name string, ids ...int) {
	f.t.Helper()
	if len(ids) == 0 {
		return
	}
	_, err := f.AddToSegment(asked(f.t), name, inRange3(ids...))
	f.must(err)
}

func inRange3(ids ...int) (out []job.Recipient) {
	for _, id := range ids {
		out = append(out, job.Recipient(3<<20+id))
	}
	return out
}

func TestSegmentLife(t *testing.T) {
	f := newFixture(t)
	ctx := asked(t)
	made, err := f.CreateSegment(ctx, api.CreateSegment{Name: "Über 18"})
	f.must(err)
	if made.Name != "Über 18" || made.Recipients != 0 || made.Revision != 0 || made.CreatedAt.IsZero() || !made.ArchivedAt.IsZero() {
		t.Errorf("made is %+v", made)
	}
	_, err = f.CreateSegment(ctx, api.CreateSegment{Name: "Über 18"})
	wantError(t, "a name that is taken", err, job.CodeConflict, "name")
	_, err = f.CreateSegment(ctx, api.CreateSegment{Name: "a/b"})
	wantError(t, "a name that no path has", err, job.CodeInvalid, "name")

	c, err := f.AddToSegment(ctx, "Über 18", []job.Recipient{1, 4294967295, 1})
	if want := (api.SegmentChange{Segment: "Über 18", Changed: 2, Unchanged: 1, Recipients: 2, Revision: 1}); err != nil || c != want {
		t.Errorf("added: %+v, %v", c, err)
	}
	c, err = f.RemoveFromSegment(ctx, "Über 18", []job.Recipient{1, 5})
	if want := (api.SegmentChange{Segment: "Über 18", Changed: 1, Unchanged: 1, Recipients: 1, Revision: 2}); err != nil || c != want {
		t.Errorf("removed: %+v, %v", c, err)
	}
	i, err := f.ImportSegment(ctx, "Über 18", api.ImportIDs{Skip: 1}, strings.NewReader(zipped("id\n7\n8,7\n4294967295\n")))
	if want := (api.IDsImport{Read: 4, Repeated: 1, Already: 1, Added: 2, Recipients: 3, Revision: 3}); err != nil || i != want {
		t.Errorf("imported: %+v, %v", i, err)
	}
	_, err = f.ImportSegment(ctx, "Über 18", api.ImportIDs{}, strings.NewReader("9\nx\n"))
	wantError(t, "a bad line", err, job.CodeInvalid, "file")
	if !strings.Contains(err.Error(), "line 2") {
		t.Errorf("it is not said where: %v", err)
	}
	_, err = f.ImportSegment(ctx, "Über 18", api.ImportIDs{Skip: -1}, strings.NewReader("9\n"))
	wantError(t, "a negative number of lines", err, job.CodeInvalid, "skip")
	if got, err := f.GetSegment(ctx, "Über 18"); err != nil || got.Recipients != 3 || got.Revision != 3 {
		t.Errorf("it is %+v, %v", got, err)
	}

	old, err := f.ArchiveSegment(ctx, "Über 18")
	if err != nil || old.ArchivedAt.IsZero() || old.Recipients != 3 {
		t.Errorf("archived: %+v, %v", old, err)
	}
	for what, try := range map[string]func(name string) error{
		"adding":   func(n string) error { _, err := f.AddToSegment(ctx, n, []job.Recipient{1}); return err },
		"removing": func(n string) error { _, err := f.RemoveFromSegment(ctx, n, []job.Recipient{1}); return err },
		"importing": func(n string) error {
			_, err := f.ImportSegment(ctx, n, api.ImportIDs{}, strings.NewReader("1"))
			return err
		},
	} {
		wantError(t, what+" to an archived one", try("Über 18"), job.CodeConflict, "")
		wantError(t, what+" to none", try("nothing"), job.CodeNotFound, "")
	}
	if got, err := f.GetSegment(ctx, "Über 18"); err != nil || got != old {
		t.Errorf("it changed: %+v, %v", got, err)
	}
	if back, err := f.RestoreSegment(ctx, "Über 18"); err != nil || !back.ArchivedAt.IsZero() {
		t.Errorf("restored: %+v, %v", back, err)
	}
	f.into("Über 18", 1)
	for what, do := range map[string]func(context.Context, string) (api.Segment, error){"get": f.GetSegment, "archive": f.ArchiveSegment, "restore": f.RestoreSegment} {
		_, err := do(ctx, "nothing")
		wantError(t, what, err, job.CodeNotFound, "")
	}
}

func TestListSegments(t *testing.T) {
	f := newFixture(t)
	for _, n := range []string{"c", "a", "d", "b", "gone"} {
		f.segment(n, 1)
	}
	_, err := f.ArchiveSegment(asked(t), "gone")
	f.must(err)
	var got []string
	cursor := ""
	for range 2 {
		list, err := f.ListSegments(asked(t), api.ListSegments{Page: api.Page{Limit: 2, Cursor: cursor}})
		f.must(err)
		for _, s := range list.Segments {
			got = append(got, s.Name)
		}
		cursor = list.Next
	}
	if !slices.Equal(got, []string{"a", "b", "c", "d"}) || cursor != "" {
		t.Errorf("listed are %v, then %q", got, cursor)
	}
	list, err := f.ListSegments(asked(t), api.ListSegments{Archived: true})
	if err != nil || len(list.Segments) != 1 || list.Segments[0].Name != "gone" || list.Segments[0].Recipients != 1 {
		t.Errorf("archived are %+v, %v", list, err)
	}
}

func TestImportAndListSuppression(t *testing.T) {
	f := newFixture(t)
	ctx := asked(t)
	lists := func(page api.Page) (got []string, next string) {
		t.Helper()
		all, err := f.ListSuppression(ctx, page)
		f.must(err)
		for _, l := range all.Lists {
			got = append(got, fmt.Sprintf("%s:%d@%d", l.Account, l.Entries, l.Revision))
		}
		return got, all.Next
	}
	if got, next := lists(api.Page{}); len(got) > 0 || next != "" {
		t.Errorf("at first there are %v", got)
	}
	for _, account := range []string{"news", "empty", ""} {
		i, err := f.ImportSuppressed(ctx, account, api.ImportIDs{}, strings.NewReader("1\n2,2\n3\n"))
		if want := (api.IDsImport{Read: 4, Repeated: 1, Added: 3, Recipients: 3, Revision: 1}); err != nil || i != want {
			t.Errorf("into the list of %q: %+v, %v", account, i, err)
		}
	}
	_, err := f.RemoveSuppressed(ctx, api.SuppressionChange{Account: "empty", IDs: []job.Recipient{1, 2, 3}})
	f.must(err)
	all := []string{":3@1", "empty:0@2", "news:3@1"}
	if got, next := lists(api.Page{}); !slices.Equal(got, all) || next != "" {
		t.Errorf("lists: %v, then %q", got, next)
	}
	var paged []string
	page := api.Page{Limit: 1}
	for range all {
		got, next := lists(page)
		paged, page.Cursor = append(paged, got...), next
	}
	if !slices.Equal(paged, all) || page.Cursor != "" {
		t.Errorf("by pages: %v, then %q", paged, page.Cursor)
	}
	before := f.kept()
	_, err = f.ImportSuppressed(ctx, "nobody", api.ImportIDs{}, strings.NewReader("1"))
	wantError(t, "the list of nobody", err, job.CodeNotFound, "account")
	_, err = f.ImportSuppressed(ctx, "", api.ImportIDs{}, strings.NewReader("9\n-1\n"))
	wantError(t, "a bad line", err, job.CodeInvalid, "file")
	_, err = f.ListSuppression(ctx, api.Page{Cursor: "x"})
	wantError(t, "an odd cursor", err, job.CodeInvalid, "cursor")
	if l, err := f.GetSuppression(ctx, ""); err != nil || l.Entries != 3 || !slices.Equal(before, f.kept()) {
		t.Errorf("a refused file left %+v, %v", l, err)
	}
}

// An export is a package of just who is in the set at that moment, and leaves nothing.
func TestExportSet(t *testing.T) {
	f := newFixture(t)
	ctx := asked(t)
	f.segment(`vi\p`, 1, 2, 1<<20)
	f.segment("nobody yet")
	_, err := f.AddSuppressed(ctx, api.SuppressionChange{IDs: []job.Recipient{7, 4294967295}})
	f.must(err)
	_, err = f.AddSuppressed(ctx, api.SuppressionChange{Account: "news", IDs: []job.Recipient{8}})
	f.must(err)
	news := make([]job.Recipient, 1000)
	for i := range news {
		news[i] = job.Recipient(3<<20 + i)
	}
	before := f.kept()
	for _, c := range []struct {
		req  api.ExportSet
		name string
		want []job.Recipient
	}{
		{api.ExportSet{Kind: api.SetSegment, Of: `vi\p`}, "vi_p", inRange3(1, 2, 1<<20)},
		{api.ExportSet{Kind: api.SetSegment, Of: "nobody yet"}, "nobody yet", nil},
		{api.ExportSet{Kind: api.SetSuppression}, "suppression", []job.Recipient{7, 4294967295}},
		{api.ExportSet{Kind: api.SetSuppression, Of: "news"}, "news", []job.Recipient{8}},
		{api.ExportSet{Kind: api.SetSuppression, Of: "empty"}, "empty", nil},
		{api.ExportSet{Kind: api.SetFollowers, Of: fmt.Sprint(f.news.ID)}, "news", news},
	} {
		var b bytes.Buffer
		f.must(f.ExportSet(ctx, c.req, &b))
		path := filepath.Join(t.TempDir(), "x.crpk")
		f.must(os.WriteFile(path, b.Bytes(), 0o600))
		info, err := audience.Inspect(ctx, path)
		f.must(err)
		set, err := audience.Open(path)
		f.must(err)
		var got []job.Recipient
		for r := range set.Ranges() {
			ids, err := set.Range(r)
			f.must(err)
			for id := range ids.All() {
				got = append(got, job.Recipient(id))
			}
		}
		f.must(set.Close())
		if !slices.Equal(got, c.want) || info.Name != c.name {
			t.Errorf("%+v: package %q of %d, want %q of %d", c.req, info.Name, len(got), c.name, len(c.want))
		}
	}
	for what, c := range map[string]struct {
		req  api.ExportSet
		code job.Code
	}{
		"no segment":       {api.ExportSet{Kind: api.SetSegment, Of: "nothing"}, job.CodeNotFound},
		"nobody":           {api.ExportSet{Kind: api.SetFollowers, Of: "nobody"}, job.CodeNotFound},
		"an odd kind":      {api.ExportSet{Kind: "king"}, job.CodeNotFound},
		"a segment's name": {api.ExportSet{Kind: api.SetSegment}, job.CodeInvalid},
	} {
		var b bytes.Buffer
		if err := f.ExportSet(ctx, c.req, &b); job.CodeOf(err) != c.code || b.Len() > 0 {
			t.Errorf("%s: %v after %d bytes", what, err, b.Len())
		}
	}
	if err := f.ExportSet(ctx, api.ExportSet{Kind: api.SetSuppression}, full{}); !errors.Is(err, errFull) {
		t.Errorf("to a full disk: %v", err)
	}
	if after := f.kept(); !slices.Equal(before, after) {
		t.Errorf("left are %v, before there were %v", after, before)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("no room")

// ids reads a blob that holds a set.
func (f *fixture) ids(blob job.Digest) (got []job.Recipient) {
	f.t.Helper()
	set, err := f.set(asked(f.t), blob)
	f.must(err)
	for r := range set.Ranges() {
		ids, err := set.Range(r)
		f.must(err)
		for id := range ids.All() {
			got = append(got, job.Recipient(id))
		}
	}
	return got
}

// A job records its segments as they are at its submit; what becomes of them later, even
// that they are archived, changes nothing of it.
func TestSubmitFixesTheSegments(t *testing.T) {
	f := newFixture(t)
	ctx := asked(t)
	f.segment("vip", 1, 2)
	f.segment("new")
	f.segment("left", 3)
	aimed := func(key string) api.SubmitJob {
		return toFollowers(key, func(r *api.SubmitJob) {
			r.IncludeSegments, r.ExcludeSegments, r.ControlGroup = []string{"vip", "new"}, []string{"left"}, 12.5
		})
	}
	first := f.submit(aimed("k"))
	f.into("vip", 5)
	f.into("left", 1)
	_, err := f.ArchiveSegment(ctx, "left")
	f.must(err)
	again := f.submit(toFollowers("k", func(r *api.SubmitJob) {
		r.IncludeSegments, r.ExcludeSegments, r.ControlGroup = []string{"new", "vip"}, []string{"left"}, 12.5
	}))
	if again.Job != first.Job {
		t.Errorf("the repetition is job %s, not %s", again.Job, first.Job)
	}
	s := f.accepted()[0].Spec
	if len(s.Include) != 2 || len(s.Exclude) != 1 || s.ControlGroup != 125_000 || s.Salt.IsZero() {
		t.Fatalf("the spec is %+v", s)
	}
	for _, c := range []struct {
		got      job.Segment
		name     string
		revision uint64
		want     []job.Recipient
	}{{s.Include[0], "vip", 1, inRange3(1, 2)}, {s.Include[1], "new", 0, nil}, {s.Exclude[0], "left", 1, inRange3(3)}} {
		if c.got.Name != c.name || c.got.Revision != c.revision || c.got.Recipients != uint64(len(c.want)) || !slices.Equal(f.ids(c.got.Blob), c.want) {
			t.Errorf("%s is %+v with %v", c.name, c.got, f.ids(c.got.Blob))
		}
	}
	told, err := f.GetJob(ctx, first.Job)
	f.must(err)
	want := api.SegmentRef{Name: "vip", Revision: 1, Recipients: 2}
	if len(told.Include) != 2 || told.Include[0] != want || len(told.Exclude) != 1 || told.ControlGroup != 12.5 {
		t.Errorf("told is %+v", told)
	}
	_, err = f.RestoreSegment(ctx, "left")
	f.must(err)
	f.submit(aimed(""))
	if now := f.accepted()[1].Spec; now.Include[0].Revision != 2 || !slices.Equal(f.ids(now.Include[0].Blob), inRange3(1, 2, 5)) || now.Salt != s.Salt {
		t.Errorf("the next job has %+v", now)
	}
	f.submit(toFollowers("", func(r *api.SubmitJob) { r.Account, r.ControlGroup = "empty", 1 }))
	f.submit(toFollowers(""))
	if other, none := f.accepted()[2].Spec, f.accepted()[3].Spec; other.Salt == s.Salt || !none.Salt.IsZero() || none.Include != nil {
		t.Errorf("another account's salt is %s, and without a control group %+v", other.Salt, none)
	}
}

// What a job may not name is told before anything of it is stored.
func TestSubmitRefusesSegments(t *testing.T) {
	f := newFixture(t)
	f.segment("vip", 1)
	f.segment("old", 1)
	_, err := f.ArchiveSegment(asked(t), "old")
	f.must(err)
	before := f.kept()
	for _, c := range []struct {
		change func(*api.SubmitJob)
		code   job.Code
		field  string
	}{
		{func(r *api.SubmitJob) { r.IncludeSegments = []string{"vip", "nothing"} }, job.CodeNotFound, "include_segments"},
		{func(r *api.SubmitJob) { r.ExcludeSegments = []string{"nothing"} }, job.CodeNotFound, "exclude_segments"},
		{func(r *api.SubmitJob) { r.IncludeSegments = []string{"old"} }, job.CodeConflict, "include_segments"},
		{func(r *api.SubmitJob) { r.IncludeSegments, r.ExcludeSegments = []string{"vip"}, []string{"old"} }, job.CodeConflict, "exclude_segments"},
		{func(r *api.SubmitJob) { r.ExcludeSegments = []string{"vip", "vip"} }, job.CodeInvalid, "exclude_segments"},
		{func(r *api.SubmitJob) { r.ControlGroup = 101 }, job.CodeInvalid, "control_group"},
	} {
		_, err := f.SubmitJob(asked(t), toFollowers("", c.change))
		wantError(t, "a job", err, c.code, c.field)
		if p := problem.Of(err); p.Status/100 != 4 {
			t.Errorf("%v is answered %d", err, p.Status)
		}
	}
	if got := f.kept(); !slices.Equal(got, before) {
		t.Errorf("kept are %v, before there were %v", got, before)
	}
}
