package worker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"crier/job"
	"crier/presence"
	"crier/presence/gateway"
	"crier/state/ledger"
	"crier/state/proof"
	"crier/state/report"
)

// judge asks what was promised. The devices are the witnesses.
func (s *storm) judge() {
	s.judgeCharges()
	if s.fleet != nil {
		for _, m := range s.fleet.members {
			if m.ended() {
				s.t.Errorf("%s ended in the calm: %v", m.name, m.err)
			}
		}
	}
	for n, j := range s.jobs {
		c := s.reconcile(j.id)
		if c.Parked+c.HandedOff+c.Pending > 0 {
			s.t.Errorf("job %d is still open: %+v", n, c)
			s.tellOpen(n)
		}
		shown, speaks := map[job.Recipient]int{}, map[job.Recipient]bool{}
		for _, d := range s.devices {
			speaks[d.who] = d.speaks
			shown[d.who] += d.shown[j.id]
			if d.shown[j.id] > 1 && (d.speaks || !j.resend) {
				s.t.Errorf("job %d: device %d of %d showed it %d times (it speaks: %v)", n, d.n, d.who, d.shown[j.id], d.speaks)
				s.tell(n, d.who)
			}
			if d.have[j.id] {
				s.t.Errorf("job %d: device %d of %d was never told to forget it", n, d.n, d.who)
				s.tell(n, d.who)
			}
		}
		for who := range speaks {
			if shown[who] == 0 {
				s.judgeUnseen(n, who, speaks[who])
			}
			where, err := s.index.Where(j.id, who)
			if err != nil {
				s.t.Fatal(err)
			}
			if speaks[who] && where == job.InDoubt {
				s.t.Errorf("job %d: %d speaks and is in doubt", n, who)
				s.tell(n, who)
			}
		}
	}
}

// judgeCharges asks that nobody saw more than the caps allow, that who was held back had
// been charged as much, and that the book says what the ledger does.
func (s *storm) judgeCharges() {
	whole := map[job.Recipient]map[job.ID]bool{}
	for _, d := range s.devices {
		if whole[d.who] == nil {
			whole[d.who] = map[job.ID]bool{}
		}
		for id, n := range d.shown {
			whole[d.who][id] = whole[d.who][id] || n > 0
		}
	}
	for who, shown := range whole {
		saw, once, charged, delivered, refused, refusedOnce := 0, 0, 0, 0, 0, 0
		for n, j := range s.jobs {
			x := s.explain(n, who)
			if shown[j.id] {
				saw++
				if j.once {
					once++
				}
			}
			if x.Outcome == job.Delivered {
				delivered++
			}
			switch x.Reason {
			case job.ReasonFrequency:
				refused++
			case job.ReasonSendOnce:
				refusedOnce++
			default:
				charged++
			}
		}
		most := s.policy.Cap
		switch {
		case most > 0 && saw > most, most > 0 && refused > 0 && charged < most, most == 0 && refused > 0:
			s.t.Errorf("%d saw %d messages, was charged %d and refused %d; the cap is %d", who, saw, charged, refused, most)
		case once > 1, refusedOnce > 0 && charged == 0:
			s.t.Errorf("%d saw %d messages of one key, and was refused %d", who, once, refusedOnce)
		}
		if most == 0 {
			continue
		}
		day := uint32(time.Now().Unix() / (24 * 60 * 60))
		if used, err := s.index.Charges.Used(who, day, 0); err != nil || used < delivered || used > charged {
			s.t.Errorf("the book says that %d was charged %d messages (%v); %d were delivered and %d not refused", who, used, err, delivered, charged)
		}
	}
}

// judgeUnseen asks why nobody saw a message.
func (s *storm) judgeUnseen(n int, who job.Recipient, speaks bool) {
	j := s.jobs[n]
	x := s.explain(n, who)
	if x.Reason == job.ReasonFrequency || x.Reason == job.ReasonSendOnce {
		return // judgeCharges asks whether that is so
	}
	if x.Outcome == job.Delivered || !j.over && (speaks || x.Outcome != job.InDoubt) {
		s.t.Errorf("job %d: %d never saw it and is %s (it speaks: %v)", n, who, x.Outcome, speaks)
		s.tell(n, who)
	}
}

func (s *storm) explain(n int, who job.Recipient) proof.Explanation {
	j := s.jobs[n]
	prover := &proof.Prover{Log: s.log, Reports: report.NewStore(s.blobs)}
	x, err := prover.Explain(context.Background(), j.id, s.content.pkg(j.id), who)
	if err != nil {
		s.t.Fatal(err)
	}
	return x
}

// tellOpen tells all that is known of those of a job about whom nothing is decided.
func (s *storm) tellOpen(n int) {
	for _, id := range slices.Sorted(maps.Keys(s.content.pkg(s.jobs[n].id))) {
		if x := s.explain(n, job.Recipient(id)); !x.Outcome.Terminal() && x.Outcome != job.InDoubt {
			s.tell(n, job.Recipient(id))
		}
	}
}

// tell prints what became of a recipient in a job, and what everybody believes of it.
func (s *storm) tell(n int, who job.Recipient) {
	j, x := s.jobs[n], s.explain(n, who)
	var b strings.Builder
	say := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	say("job %d (%s, resend %v, may be over %v): %d is %s at %s", n, j.id, j.resend, j.over, who, x.Outcome, time.Now().Format(at))
	for _, e := range x.Evidence {
		say("  %s record %d %s: %s", e.At.Format(at), e.Seq, e.Ref, e.Says)
	}
	if now, err := s.table.Get(context.Background(), j.id); err == nil {
		say("  %s, controls %+v, rate %d, expires %s", now.State, now.Controls, now.Spec.Rate, now.Spec.ExpiresAt.Format(at))
	}
	say("  range %s: %+v", who.Range(), s.claims.Of(ledger.RangeThing(who.Range())))
	for slice := range uint32(len(slicesOf)) {
		say("  slice %d: %+v", slice, s.claims.Of(ledger.SliceThing(j.id, slice)))
	}
	if s.fleet == nil {
		s.tellWorker(say, s.worker, s.planes, j.id, who)
	} else {
		for _, m := range s.fleet.members {
			if m.ended() {
				say("  %s has ended: %v", m.name, m.err)
			}
			s.tellWorker(say, m.worker, m.planes, j.id, who)
		}
	}
	for _, g := range s.gws {
		say("  %s: down %v, cut off %v, window %d", g.inc, g.down.Load(), g.cut.Load(), g.window)
	}
	for _, d := range s.devices {
		if d.who == who {
			say("  %s", d)
		}
	}
	s.t.Log(b.String())
}

const at = "15:04:05.000"

// tellWorker prints what a worker believes of a recipient.
func (s *storm) tellWorker(say func(string, ...any), w *Worker, planes *presence.Planes, id job.ID, who job.Recipient) {
	where, err := w.cfg.Index.Where(id, who)
	at, online := planes.Lookup(who)
	say("  %s: read up to %d, home %v, %s (%v), online %v at %s, full %v, silent %v, sure %s", w.journal, w.cfg.Index.Watermark(),
		w.holds.Has(who.Range()), where, err, online, at, *w.full.Load(), w.Silent(), time.Since(time.Unix(0, w.sure.Load())))
}

func (d *device) String() string {
	at, over := job.Incarnation{}, false
	var n gateway.Conn
	if d.pipe != nil {
		d.pipe.at.with(func() { at, over, n = d.pipe.at.inc, d.pipe.over, d.pipe.n })
	}
	return fmt.Sprintf("device %d of %d (speaks %v, deaf %v): connection %d at %s, over %v; has %v, showed %v", d.n, d.who, d.speaks, d.deaf, n, at, over, d.have, d.shown)
}
