package holders

import (
	"testing"
	"time"

	"crier/api"
	"crier/job"
)

func at(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)) }

func TestClaims(t *testing.T) {
	c := func(ms int, kind, id string, epoch uint64, worker string, incarnation uint32) Claim {
		return Claim{Kind: kind, ID: id, Epoch: epoch, Journal: job.Journal{Worker: worker, Incarnation: incarnation}, At: at(ms)}
	}
	all := []Claim{
		c(0, "slice", "j1-0", 1, "w-worker-1", 1), c(10, "slice", "j1-1", 1, "w-worker-2", 1), c(20, "slice", "j2-0", 1, "w-worker-1", 1),
		c(30, "job", "j1", 1, "s-scheduler-1", 1), c(40, "slice", "j3-0", 1, "w-worker-1", 1),
		c(100, "slice", "j1-0", 2, "w-worker-1", 2), // the same process, again
		c(200, "slice", "j2-0", 2, "", 0),           // given up
		c(300, "slice", "j2-0", 3, "w-worker-2", 1), c(400, "slice", "j2-0", 4, "w-worker-3", 1),
	}
	jobs := map[string]bool{"j1": true, "j2": true}
	was := Held(all, "worker-1", "slice", at(50), jobs)
	if len(was) != 2 || was["j1-0"].Epoch != 1 || was["j2-0"].Epoch != 1 {
		t.Errorf("worker-1 held %v", was)
	}
	got := Taken(all, was)
	if len(got) != 1 || !got["j2-0"].Equal(at(300)) {
		t.Errorf("taken over: %v", got)
	}
	names := []string{"worker-1", "worker-2", "worker-3"}
	if who := Busiest(all, names, "slice", at(50), jobs); who != "worker-1" {
		t.Errorf("the busiest is %q", who)
	}
	if who := Busiest(all, names, "slice", at(50), map[string]bool{"j9": true}); who != "" {
		t.Errorf("the busiest of none is %q", who)
	}
}

// A claim that somebody else makes has moved, also if its holder gave it up; one that its
// own process makes again has not, nor one that nobody had.
func TestMoved(t *testing.T) {
	c := func(ms int, kind, id, worker string) Claim {
		x := Claim{Kind: kind, ID: id, At: at(ms)}
		if worker != "" {
			x.Journal = job.Journal{Worker: worker, Incarnation: 1}
		}
		return x
	}
	all := []Claim{
		c(0, "range", "0001", "w-worker-1"), c(0, "range", "0002", "w-worker-1"), c(0, "role", "0001", "w-worker-1"), c(0, "slice", "s", "w-worker-1"),
		c(50, "range", "0001", "w-worker-2"),                               // before
		c(110, "range", "0001", "w-worker-3"),                              // 1
		c(120, "range", "0002", ""), c(130, "range", "0002", "w-worker-2"), // 2
		c(140, "role", "0001", "h-worker-1"), c(150, "slice", "new", "w-worker-2"), // the same process; nobody's
		c(300, "slice", "s", "w-worker-2"), // after
	}
	got := Moved(all, at(100), at(200))
	if len(got) != 2 || got[0].ID != "0001" || got[0].Was != "worker-2" || got[1].ID != "0002" || got[1].Was != "worker-1" || got[1].Process() != "worker-2" {
		t.Errorf("moved: %+v", got)
	}
}

// A record behind a seal is stale, whoever wrote it and however often it is read on.
func TestStale(t *testing.T) {
	var j Journals
	for i, c := range []struct {
		subject, kind string
		stale         int
	}{
		{"led.j.w-a.1", "open", 0}, {"led.j.w-b.1", "record", 0}, {"led.j.w-a.1", "reserve", 0}, {"led.j.w-a.1", "seal", 0}, {"led.j.w-b.1", "done", 0},
		{"led.j.w-a.2", "open", 0}, {"led.j.w-a.1", "done", 1}, {"led.j.w-b.1", "seal", 1}, {"led.j.w-b.1", "record", 2}, {"led.j.w-a.2", "reserve", 2},
	} {
		seq := uint64(10 + 3*i)
		j.Take(api.LedgerEntry{Seq: seq, Subject: c.subject, Kind: c.kind})
		if j.Stale != c.stale || j.Next != seq+1 {
			t.Errorf("after record %d, %s of %s: %d are stale, reading goes on at %d", seq, c.kind, c.subject, j.Stale, j.Next)
		}
	}
}
