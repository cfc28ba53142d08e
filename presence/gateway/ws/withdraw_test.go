package ws

import (
	"fmt"
	"testing"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// withdraw hands a withdrawal off.
func (w *world) withdraw(id, of job.ID, targets ...uint32) job.Ref {
	w.t.Helper()
	w.n++
	ref := job.Ref{Journal: w.journal, N: w.n}
	a := w.ask(&handoff.Handoff{Ref: ref, To: w.g.cfg.Core.Incarnation, Job: id, Targets: idset.Of(targets...),
		Message: &handoff.Message{AccountName: "news", SentAt: 1_700_000_000_123, ExpiresAt: 1_800_000_000_000, Withdraws: of}})
	for i := range a.Reports {
		w.record(&a.Reports[i])
	}
	return ref
}

// A withdrawal goes, by either wire, to who says that it can, is acknowledged and settled
// like a message, and is never shown as one to the others.
func TestWithdrawals(t *testing.T) {
	w := newWorld(t, nil)
	able := w.dial("r5")
	able.say(`{"type":"hello","client":"c5","have":[],"can":["fly","withdraw"]}`)
	able.expect("hello")
	unable := w.connect(6)
	stream := &reader{w: w, who: 7, query: "client=tab&have=&can=withdraw"}
	stream.open()
	old := &reader{w: w, who: 8, query: "client=tab&have="}
	old.open()
	w.eventually("all are here", func() bool { return len(w.joined) == 4 })
	id, of := jobID(2), jobID(1)
	ref := w.withdraw(id, of, 5, 6, 7, 8)
	for _, f := range []map[string]any{able.expect("withdraw"), stream.expect("withdraw")} {
		if f["id"] != id.String() || fmt.Sprint(f["ids"]) != "["+of.String()+"]" || f["account"] != "news" || f["sent_at"] != "2023-11-14T22:13:20.123Z" {
			t.Errorf("withdraw %v", f)
		}
		if _, has := f["body"]; has {
			t.Errorf("a withdrawal has a body: %v", f)
		}
	}
	if stream.lastID != id.String() {
		t.Errorf("the stream's id is %q", stream.lastID)
	}
	able.ack(id.String())
	stream.acknowledge(id.String())
	if acked, p := w.ends(ref, 5, 6, 7, 8); !acked.Equal(idset.Of(5, 7)) || !p.Refused.Equal(idset.Of(6, 8)) {
		t.Errorf("acknowledged by %v, refused %v", acked, p.Refused)
	}
	able.expect("settled")
	stream.expect("settled")
	_, last := w.handOff(jobID(3), "what comes next", 6, 8)
	unable.expect("message") // the first frame that these get
	old.expect("message")
	unable.ack(jobID(3).String())
	old.acknowledge(jobID(3).String())
	w.ends(last, 6, 8)
}
