package verdict

import (
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

// Who may get what: nobody who is out or suppressed gets anything, some of those aimed at do,
// and jobs that count together are one group.
func TestAims(t *testing.T) {
	var people []job.Recipient
	for i := range 160 {
		people = append(people, job.Recipient(1000+7*i))
	}
	began := time.Date(2026, 3, 31, 23, 59, 0, 0, time.UTC)
	a := NewAims(3, people, began)
	if len(a.Out) != 10 || len(a.Suppressed) != 10 || len(a.Some) != 20 || len(a.Barred) != 20 {
		t.Fatalf("%d are out, %d suppressed, %d aimed at, %d barred", len(a.Out), len(a.Suppressed), len(a.Some), len(a.Barred))
	}
	aimedOut := 0
	for _, r := range a.Some {
		aimedOut += one(a.Barred[r])
	}
	if aimedOut != 10 {
		t.Errorf("%d of those aimed at are barred, want half", aimedOut)
	}
	once := &api.SendOnce{Key: "once"}
	for n, req := range []api.SubmitJob{{SendOnce: once}, {Class: job.Normal}, {Class: job.Normal, IncludeSegments: []string{"some"}}, {Class: job.Realtime}, {SendOnce: once}} {
		a.Add(job.ID{byte(n)}, req)
	}
	for _, c := range []struct {
		name       string
		jobs, most int
		all, some  int // how many are due to everybody
	}{{"once", 2, 1, 140, 10}, {capped, 2, 3, 140 + 10, 20}, {job.ID{3}.String(), 1, 1, 140, 10}} {
		g := a.Group(c.name)
		if g == nil {
			t.Fatalf("there is no group %s", c.name)
		}
		if len(g.Jobs) != c.jobs || g.Least != c.most || g.Most != c.most {
			t.Errorf("%s: %d jobs, %d to %d of them", c.name, len(g.Jobs), g.Least, g.Most)
		}
		if all, some := Due([]*Group{g}, people), Due([]*Group{g}, a.Some); all != c.all || some != c.some {
			t.Errorf("%s: %d are due, %d to those aimed at, want %d and %d", c.name, all, some, c.all, c.some)
		}
	}
	if a.Group("none") != nil || len(a.Groups) != 3 {
		t.Errorf("%d groups", len(a.Groups))
	}
	for _, c := range []struct {
		after time.Duration
		most  int
	}{{59 * time.Second, 3}, {time.Minute, 6}} {
		if a.Over(began.Add(c.after)); a.Group(capped).Most != c.most || a.Group(capped).Least != 3 {
			t.Errorf("%s later: %d to %d", c.after, a.Group(capped).Least, a.Group(capped).Most)
		}
	}
}
