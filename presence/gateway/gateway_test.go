package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// rig steps one core and keeps what it said.
type rig struct {
	*testing.T
	s       *State
	now     time.Duration
	effects []Effect
	hold    bool // appends are answered by the test
}

var (
	me     = job.Incarnation{Gateway: "gw1", Start: 7}
	writer = job.Journal{Worker: "w1", Incarnation: 3}
)

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	if cfg.Incarnation.IsZero() {
		cfg.Incarnation = me
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{T: t, s: s}
}

// do steps the core, answers appends, and lets everything leave.
func (g *rig) do(ev Event) []Effect {
	g.Helper()
	g.effects = nil
	g.step(ev)
	for !g.hold && g.s.Pending() {
		g.step(Pump{})
	}
	return g.effects
}

func (g *rig) step(ev Event) {
	var appended []job.Ref
	for _, e := range g.s.Step(g.now, ev) {
		g.effects = append(g.effects, e)
		if a, ok := e.(Append); ok {
			appended = append(appended, a.Record.Ref)
		}
	}
	for _, ref := range appended {
		if !g.hold {
			g.step(Written{ref, true})
		}
	}
}

func (g *rig) tick(d time.Duration) []Effect {
	g.now += d
	return g.do(Tick{})
}

func ref(n uint64) job.Ref { return job.Ref{Journal: writer, N: n} }

func request(n uint64, id job.ID, targets ...uint32) *handoff.Handoff {
	return &handoff.Handoff{Ref: ref(n), To: me, Job: id, Targets: idset.Of(targets...), Message: &handoff.Message{Body: []byte("text")}}
}

func (g *rig) connect(n Conn, r job.Recipient, client uint64, have ...job.ID) []Effect {
	return g.do(Connected{Conn: n, Recipient: r, Client: client, Speaks: true, Have: have})
}

// answer gives the reply to token 1 in the last effects.
func (g *rig) answer() handoff.Answer {
	g.Helper()
	for _, e := range g.effects {
		if r, ok := e.(Reply); ok {
			return r.Answer
		}
	}
	g.Fatalf("no reply in %s", describe(g.effects))
	return handoff.Answer{}
}

// says writes a report's sets in words.
func says(p handoff.Report) string {
	var parts []string
	if p.Rest == handoff.RestWaiting {
		parts = append(parts, "rest waiting")
	}
	for _, x := range []struct {
		name string
		set  *idset.Set
	}{{"acked", p.Acked}, {"waiting", p.Waiting}, {"not here", p.NotHere}, {"unacked", p.Unacked}, {"mute", p.Mute}, {"refused", p.Refused}} {
		if !x.set.IsEmpty() {
			parts = append(parts, fmt.Sprint(x.name, slices.Collect(x.set.All())))
		}
	}
	return fmt.Sprintf("v%d %s", p.Version, strings.Join(parts, " "))
}

func (g *rig) wantAnswer(kind handoff.Kind, reports ...string) {
	g.Helper()
	a := g.answer()
	var got []string
	for _, p := range a.Reports {
		got = append(got, strings.TrimSpace(says(p)))
	}
	if a.Kind != kind || !slices.Equal(got, reports) {
		g.Fatalf("answer is %s %q, want %s %q", a.Kind, got, kind, reports)
	}
}

func all[E Effect](effects []Effect) []E {
	var out []E
	for _, e := range effects {
		if x, ok := e.(E); ok {
			out = append(out, x)
		}
	}
	return out
}

// wantReport checks the one report published in the last step.
func (g *rig) wantReport(to job.Journal, want string) {
	g.Helper()
	p := all[Publish](g.effects)
	if len(p) != 1 || p[0].To != to || strings.TrimSpace(says(p[0].Report)) != want {
		g.Fatalf("published:\n%s\nwant %q to %s", describe(g.effects), want, to)
	}
}

func (g *rig) recorded(n uint64, version uint32) []Effect {
	return g.do(Recorded{handoff.Recorded{Ref: ref(n), Inc: me, Version: version}})
}

func TestOrderOfEffects(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.hold = true
	g.do(HandedOff{request(1, jobID(1), 5, 6), 1})
	if len(g.effects) != 1 || len(all[Append](g.effects)) != 1 {
		t.Fatalf("before the file has it: %s", describe(g.effects))
	}
	g.do(HandedOff{request(1, jobID(1), 5, 6), 2})
	g.wantAnswer(handoff.InProgress)
	if g.s.Pending() {
		t.Fatal("something may leave before the file has it")
	}
	g.do(Written{ref(1), true})
	g.wantAnswer(handoff.Accepted, "v1 rest waiting not here[6]")
	if g.do(Pump{}); len(all[Deliver](g.effects)) != 1 {
		t.Fatalf("pump gives %s", describe(g.effects))
	}
}

func TestAFullFileAcceptsNothing(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.hold = true
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	g.do(Written{ref(1), false})
	g.wantAnswer(handoff.InProgress)
	if g.s.Pending() || g.s.Open() != 0 {
		t.Fatal("something is left of a reserve that the file did not take")
	}
	g.hold = false
	g.do(HandedOff{request(1, jobID(1), 5), 2})
	g.wantAnswer(handoff.Accepted, "v1 rest waiting")
}

func TestAnswersInTheirOrder(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	h := request(1, jobID(1), 5)
	h.Message = nil
	g.do(HandedOff{h, 1})
	g.wantAnswer(handoff.NeedBody)
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	g.wantAnswer(handoff.Accepted, "v1 rest waiting")
	g.do(Acked{1, []job.ID{jobID(1)}})
	g.wantReport(writer, "v2")
	g.do(HandedOff{h, 1})
	g.wantAnswer(handoff.Accepted, "v2")

	by := job.Journal{Worker: "w2", Incarnation: 1}
	g.do(Fenced{handoff.Fence{Journal: writer, To: me, By: by}, 1})
	g.wantAnswer(handoff.Fenced, "v2")
	g.do(HandedOff{h, 1}) // seen goes before fenced
	g.wantAnswer(handoff.Accepted, "v2")
	g.recorded(1, 2)
	g.do(HandedOff{h, 1}) // closed here, above the watermark
	g.wantAnswer(handoff.Settled)
	g.do(HandedOff{request(2, jobID(1), 5), 1})
	g.wantAnswer(handoff.Fenced)
	late := request(4, jobID(1), 5)
	late.Settled = ref(4)
	g.do(HandedOff{late, 1}) // settled goes before fenced
	g.wantAnswer(handoff.Settled)
	empty := request(9, jobID(1))
	empty.Ref.Journal = by
	g.do(HandedOff{empty, 1})
	g.wantAnswer(handoff.Accepted, "v1")
	if n := g.s.Stats().Fenced; n != 4 { // those of writer since the fence, and no other's
		t.Errorf("%d hand-offs of fenced journals are counted, want 4", n)
	}
}

func TestOtherIncarnations(t *testing.T) {
	record := Record{Ref: ref(1), Job: jobID(1), IDs: []uint32{5, 6, 7}, Away: []uint32{9}, Mute: MakeBits(3), Acked: MakeBits(3)}
	record.Acked.Set(0)
	record.Mute.Set(2)
	g := newRig(t, Config{History: History{First: 3, Ended: []Ended{
		{Start: 4, Records: []Record{record}}, {Start: 5, Unreadable: true}}}})
	h := request(1, jobID(1), 5, 6, 7, 9)
	for _, x := range []struct {
		inc  job.Incarnation
		want handoff.Kind
	}{
		{job.Incarnation{Gateway: "gw1", Start: 2}, handoff.Stranger},   // before the files' memory
		{job.Incarnation{Gateway: "gw1", Start: 3}, handoff.Over},       // left nothing
		{job.Incarnation{Gateway: "gw1", Start: 5}, handoff.Unreadable}, //
		{job.Incarnation{Gateway: "gw1", Start: 8}, handoff.Stranger},   // not yet
		{job.Incarnation{Gateway: "gw2", Start: 4}, handoff.Stranger},
	} {
		h.To = x.inc
		g.do(HandedOff{h, 1})
		g.wantAnswer(x.want)
		g.do(Fenced{handoff.Fence{Journal: writer, To: x.inc}, 1})
		g.wantAnswer(x.want)
	}
	last := "v4294967295 not here[9] unacked[6] mute[7]"
	h.To = job.Incarnation{Gateway: "gw1", Start: 4}
	g.do(HandedOff{h, 1})
	g.wantAnswer(handoff.Over, last)
	g.do(Fenced{handoff.Fence{Journal: writer, To: h.To}, 1})
	g.wantAnswer(handoff.Over, last)
	other := request(2, jobID(1), 5)
	other.To = h.To
	g.do(HandedOff{other, 1}) // never accepted there
	g.wantAnswer(handoff.Over)

	g.connect(1, 5, 1, jobID(1))
	if g.do(Recorded{handoff.Recorded{Ref: ref(1), Inc: h.To, Version: 2}}); len(g.effects) != 0 {
		t.Fatalf("a Recorded from that incarnation's life: %s", describe(g.effects))
	}
	g.do(Recorded{handoff.Recorded{Ref: ref(1), Inc: h.To, Version: lastWord}})
	if f := all[Free](g.effects); len(f) != 1 || f[0] != (Free{4, ref(1)}) {
		t.Fatalf("the last word is recorded: %s", describe(g.effects))
	}
	if told := all[SendSettled](g.tick(500 * time.Millisecond)); len(told) != 1 || told[0].Conn != 1 {
		t.Fatalf("the client that has it is not told: %s", describe(g.effects))
	}
}

func TestWhoEndsHow(t *testing.T) {
	g := newRig(t, Config{})
	for r := range job.Recipient(5) {
		g.do(Connected{Conn: Conn(r), Recipient: r, Client: uint64(r + 1), Speaks: r != 2})
	}
	g.do(Connected{Conn: 10, Recipient: 4, Client: 44}) // a second device of 4, which does not speak
	g.do(HandedOff{request(1, jobID(1), 0, 1, 2, 3, 4, 8), 1})
	g.wantAnswer(handoff.Accepted, "v1 rest waiting not here[8]")
	for _, ev := range []Event{
		Acked{0, []job.ID{jobID(1), jobID(9)}},
		Disconnected{Conn: 1},
		Disconnected{Conn: 2},
		Disconnected{Conn: 3, Unwritten: []job.ID{jobID(1)}},
		Disconnected{Conn: 10},
	} {
		if g.do(ev); len(all[Publish](g.effects)) != 0 {
			t.Fatalf("%T: a report before it is due: %s", ev, describe(g.effects))
		}
	}
	g.tick(time.Second)
	g.wantReport(writer, "v2 waiting[4] not here[3 8] unacked[1] mute[2]")
	g.do(Disconnected{Conn: 4})
	g.wantReport(writer, "v3 not here[3 8] unacked[1] mute[2 4]")
}

// TestWhatIsQueuedIsNotGivenUp has two reserves with one job: the socket that got it
// by the first ends while the second is queued for another device.
func TestWhatIsQueuedIsNotGivenUp(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	g.connect(2, 5, 2)
	g.hold = true
	g.do(HandedOff{request(2, jobID(1), 5), 1})
	g.do(Written{ref(2), true})
	g.do(Disconnected{Conn: 1})
	g.wantReport(writer, "v2 unacked[5]")
	g.do(Pump{})
	if d := all[Deliver](g.effects); len(d) != 1 || !slices.Equal(d[0].Conns, []Conn{2}) {
		t.Fatalf("sent: %s", describe(g.effects))
	}
	g.do(Acked{2, []job.ID{jobID(1)}})
	g.wantReport(writer, "v2")
}

func TestAReportIsRepeatedAsItWasUntilRecorded(t *testing.T) {
	g := newRig(t, Config{})
	for r := range job.Recipient(3) {
		g.connect(Conn(r), r, 1)
	}
	g.do(HandedOff{request(1, jobID(1), 0, 1, 2), 1})
	if g.tick(5 * time.Second); len(all[Publish](g.effects)) != 0 {
		t.Fatal("a report although everything waits")
	}
	g.do(Acked{0, []job.ID{jobID(1)}})
	g.tick(100 * time.Millisecond)
	g.wantReport(writer, "v2 rest waiting acked[0]")
	g.do(Acked{1, []job.ID{jobID(1)}})
	if g.tick(900 * time.Millisecond); len(all[Publish](g.effects)) != 0 {
		t.Fatal("two partial reports within a second")
	}
	g.tick(200 * time.Millisecond)
	g.wantReport(writer, "v3 waiting[2]")
	g.tick(time.Second)
	g.wantReport(writer, "v3 waiting[2]")

	// A Recorded of an earlier version settles what that one said, and no more.
	g.recorded(1, 2)
	if told := all[SendSettled](g.tick(500 * time.Millisecond)); len(told) != 1 || told[0].Conn != 0 {
		t.Fatalf("version 2 is recorded: %s", describe(g.effects))
	}
	g.recorded(1, 3)
	if g.tick(2 * time.Second); len(all[Publish](g.effects)) != 0 {
		t.Fatal("a recorded report is repeated")
	}
	g.do(Acked{2, []job.ID{jobID(1)}})
	g.wantReport(writer, "v4")
	g.recorded(1, 3)
	if g.s.Open() != 1 {
		t.Fatal("closed by the Recorded of an earlier version")
	}
	if g.recorded(1, 4); len(all[Free](g.effects)) != 1 || g.s.Open() != 0 {
		t.Fatalf("not closed: %s", describe(g.effects))
	}
}

func TestCopyOfAPartialReportLooksThePast(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(0, 0, 1)
	g.connect(1, 1, 1)
	g.do(HandedOff{request(1, jobID(1), 0, 1), 1})
	r := g.s.reserves[ref(1)]
	r.version = lastPartial
	g.do(Acked{0, []job.ID{jobID(1)}})
	g.do(HandedOff{request(1, jobID(1), 0, 1), 2})
	g.wantAnswer(handoff.Accepted, "v250 rest waiting")
	g.do(Acked{1, []job.ID{jobID(1)}})
	g.wantReport(writer, "v251")
}

func TestHaveAndAcknowledgementsCountEverywhere(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.connect(2, 6, 1)
	g.do(HandedOff{request(1, jobID(1), 5, 6), 1})
	// 5 comes back with a new connection and has it; the old one is replaced.
	g.connect(3, 5, 1, jobID(1))
	if c := all[Close](g.effects); len(c) != 1 || c[0] != (Close{1, Replaced, ""}) {
		t.Fatalf("the former connection: %s", describe(g.effects))
	}
	if m := all[Mark](g.effects); len(m) != 1 || m[0] != (Mark{ref(1), 0}) {
		t.Fatalf("what the client has is not marked in the file: %s", describe(g.effects))
	}
	// 6 acknowledges on a second connection what it got on the first.
	g.do(Connected{Conn: 4, Recipient: 6})
	g.do(Acked{4, []job.ID{jobID(1)}})
	if m := all[Mark](g.effects); len(m) != 1 || m[0] != (Mark{ref(1), 1}) {
		t.Fatalf("the acknowledgement is not marked: %s", describe(g.effects))
	}
	g.wantReport(writer, "v2")
	// What they have counts at once in another hand-off.
	g.do(HandedOff{request(2, jobID(1), 5, 6), 1})
	g.wantAnswer(handoff.Accepted, "v1")
	if len(all[Deliver](g.effects)) != 0 {
		t.Fatalf("sent to clients that have it: %s", describe(g.effects))
	}
}

func TestASecondDeviceGetsWhatTheFirstHas(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1, jobID(1))
	g.connect(2, 5, 2)
	g.hold = true
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	if a := all[Append](g.effects); len(a) != 1 || !a[0].Record.Acked.Has(0) {
		t.Fatalf("the record: %s", describe(g.effects))
	}
	g.do(Written{ref(1), true})
	g.wantAnswer(handoff.Accepted, "v1")
	// Recorded before anything left: the id is not settled while the queue holds it.
	g.recorded(1, 1)
	if g.tick(time.Second); len(all[SendSettled](g.effects)) != 0 {
		t.Fatalf("told to forget what is queued: %s", describe(g.effects))
	}
	g.connect(3, 5, 3) // younger than the acceptance
	g.do(Pump{})
	if d := all[Deliver](g.effects); len(d) != 1 || !slices.Equal(d[0].Conns, []Conn{2}) {
		t.Fatalf("sent: %s", describe(g.effects))
	}
	g.do(Settled{handoff.Settle{Inc: me, Recipient: 5, Jobs: []job.ID{jobID(1)}}})
	if told := all[SendSettled](g.tick(time.Second)); len(told) != 1 || told[0].Conn != 1 {
		t.Fatalf("told: %s", describe(g.effects))
	}
	g.do(Acked{2, []job.ID{jobID(1)}})
	if told := all[SendSettled](g.tick(time.Second)); len(told) != 1 || told[0].Conn != 2 {
		t.Fatalf("the second device, after its acknowledgement: %s", describe(g.effects))
	}
}

func TestSettledBatchLeavesOutWhatIsUnacknowledged(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	var ids []job.ID
	for i := range settledBatch + 1 {
		ids = append(ids, jobID(i))
		g.do(HandedOff{request(uint64(i+1), jobID(i), 5), 1})
	}
	g.do(Settled{handoff.Settle{Inc: me, Recipient: 5, Jobs: ids}})
	if len(g.effects) != 0 {
		t.Fatalf("settled before the client acknowledged: %s", describe(g.effects))
	}
	g.do(Acked{1, ids[:settledBatch]})
	if told := all[SendSettled](g.effects); len(told) != 1 || !slices.Equal(told[0].IDs, ids[:settledBatch]) {
		t.Fatalf("a full batch: %s", describe(g.effects))
	}
	if g.tick(time.Second); len(all[SendSettled](g.effects)) != 0 {
		t.Fatalf("told to forget what it has not acknowledged: %s", describe(g.effects))
	}
}

func TestWindow(t *testing.T) {
	g := newRig(t, Config{Window: 3})
	g.connect(1, 5, 1, jobID(100))
	g.hold = true
	for i := range 4 {
		g.do(HandedOff{request(uint64(i+1), jobID(i), 5), 1})
		if i < 2 {
			if len(all[Append](g.effects)) != 1 {
				t.Fatalf("hand-off %d: %s", i, describe(g.effects))
			}
			continue
		}
		g.wantAnswer(handoff.Accepted, "v1 not here[5]")
	}
	g.hold = false
	g.do(Written{ref(1), true})
	g.do(Settled{handoff.Settle{Inc: me, Recipient: 5, Jobs: []job.ID{jobID(100)}}})
	g.tick(time.Second)
	g.do(HandedOff{request(9, jobID(9), 5), 1})
	g.wantAnswer(handoff.Accepted, "v1 rest waiting")
	g.do(HandedOff{request(10, jobID(10), 5), 1})
	g.wantAnswer(handoff.Accepted, "v1 not here[5]")
}

func TestUrgentPassesInsideABlock(t *testing.T) {
	g := newRig(t, Config{})
	var many []uint32
	for r := range uint32(3000) {
		many = append(many, r)
		g.connect(Conn(r), job.Recipient(r), 1)
	}
	g.hold = true
	g.do(HandedOff{request(1, jobID(1), many...), 1})
	g.do(Written{ref(1), true})
	g.do(Pump{})
	urgent := request(2, jobID(2), 7, 8)
	urgent.Urgent = 99
	g.do(HandedOff{urgent, 1})
	g.do(Written{ref(2), true})
	var order []string
	for g.s.Pending() {
		for _, d := range all[Deliver](g.do(Pump{})) {
			order = append(order, fmt.Sprint(d.Job[7], "×", len(d.Conns)))
		}
	}
	if want := []string{"2×2", "1×1022", "1×954"}; !slices.Equal(order, want) {
		t.Fatalf("left in the order %v, want %v", order, want)
	}
}

func TestUnacknowledgedCloses(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	if g.tick(29 * time.Second); len(all[Close](g.effects)) != 0 {
		t.Fatal("closed too early")
	}
	if c := all[Close](g.tick(time.Second)); len(c) != 1 || c[0] != (Close{1, Unacknowledged, ""}) {
		t.Fatalf("after 30 s: %s", describe(g.effects))
	}
	if c := all[Close](g.tick(10 * time.Second)); len(c) != 0 {
		t.Fatal("closed twice")
	}
	g.do(HandedOff{request(2, jobID(2), 5), 1}) // it is as good as gone
	g.wantAnswer(handoff.Accepted, "v1 not here[5]")
	g.do(Disconnected{Conn: 1})
	g.wantReport(writer, "v2 unacked[5]")
}

func TestFenceWhileTheFileIsWritten(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	g.hold = true
	g.do(HandedOff{request(1, jobID(1), 5), 1})
	f := Fenced{handoff.Fence{Journal: writer, To: me, By: job.Journal{Worker: "w2", Incarnation: 1}}, 2}
	g.do(f)
	g.wantAnswer(handoff.InProgress)
	g.do(HandedOff{request(2, jobID(1), 5), 3})
	g.wantAnswer(handoff.Fenced)
	g.hold = false
	g.do(Written{ref(1), true})
	g.do(f)
	g.wantAnswer(handoff.Fenced, "v1 rest waiting")
	// Reports go to all who fenced it: a late copy must not turn them away.
	g.do(Fenced{handoff.Fence{Journal: writer, To: me, By: job.Journal{Worker: "w3", Incarnation: 1}}, 2})
	g.do(f)
	g.do(Acked{1, []job.ID{jobID(1)}})
	var to []string
	for _, p := range all[Publish](g.effects) {
		to = append(to, p.To.String())
	}
	if !slices.Equal(to, []string{"w2.1", "w3.1"}) {
		t.Fatalf("reports go to %v", to)
	}
}

// TestAnAnswerTooLargeIsGivenInParts has more reports than one message holds, in
// this incarnation and in an earlier one.
func TestAnAnswerTooLargeIsGivenInParts(t *testing.T) {
	const many = 60
	wide := make([]uint32, 50_000)
	for i := range wide {
		wide[i] = uint32(i) * 20
	}
	var records []Record
	for n := range uint64(many) {
		records = append(records, Record{Ref: ref(n + 1), IDs: wide, Mute: MakeBits(len(wide)), Acked: MakeBits(len(wide))})
	}
	g := newRig(t, Config{ReserveBytes: 1 << 30, History: History{First: 1, Ended: []Ended{{Start: 6, Records: records}}}})
	for n := range uint64(many) {
		g.do(HandedOff{request(n+1, jobID(1), wide...), 1})
	}
	by := job.Journal{Worker: "w2", Incarnation: 1}
	for _, inc := range []job.Incarnation{me, {Gateway: "gw1", Start: 6}} {
		rounds := 0
		for ; ; rounds++ {
			g.do(Fenced{handoff.Fence{Journal: writer, To: inc, By: by}, 1})
			a := g.answer()
			if n := len(a.Bytes()); n > maxAnswer {
				t.Fatalf("an answer of %d bytes", n)
			}
			if a.Kind != handoff.InProgress {
				break
			}
			for _, p := range all[Publish](g.effects) {
				if p.To != by {
					t.Fatalf("a report goes to %s", p.To)
				}
				g.do(Recorded{handoff.Recorded{Ref: p.Report.Ref, Inc: inc, Version: p.Report.Version}})
			}
			if rounds > many {
				t.Fatal("no progress")
			}
		}
		if rounds == 0 {
			t.Fatalf("%s answered %d large reports at once", inc, many)
		}
	}
}

func TestWhatCannotBeShownIsRefused(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	h := request(1, jobID(1), 5, 6)
	h.Message.Body = []byte{0xff}
	g.do(HandedOff{h, 1})
	g.wantAnswer(handoff.Accepted, "v1 refused[5 6]")
	h.Message = nil
	g.do(HandedOff{h, 1})
	g.wantAnswer(handoff.Accepted, "v1 refused[5 6]")
	if g.recorded(1, 1); g.s.Open() != 0 || len(g.effects) != 0 {
		t.Fatalf("recorded: %s", describe(g.effects))
	}
}

func (g *rig) withdraw(n uint64, targets ...uint32) []Effect {
	h := request(n, jobID(1), targets...)
	h.Message = &handoff.Message{Withdraws: jobID(9)}
	return g.do(HandedOff{h, 1})
}

// A withdrawal goes to those clients only that said that they know what it is; where there
// is none it is refused, unless a hello may still come.
func TestWhoGetsAWithdrawal(t *testing.T) {
	g := newRig(t, Config{})
	can := func(n Conn, r job.Recipient, can bool, have ...job.ID) {
		g.do(Connected{Conn: n, Recipient: r, Client: uint64(n), Speaks: true, Withdraws: can, Have: have})
	}
	can(1, 5, true)
	can(2, 6, false)
	can(3, 7, false)
	can(4, 7, true)
	can(5, 8, false, jobID(1))             // has it, wherever it got it
	g.do(Connected{Conn: 6, Recipient: 9}) // says nothing
	g.withdraw(1, 5, 6, 7, 8, 9, 10)       // 10 is not there
	g.wantAnswer(handoff.Accepted, "v1 rest waiting acked[8] not here[9 10] refused[6]")
	for _, d := range all[Deliver](g.effects) {
		if !slices.Equal(d.Conns, []Conn{1, 4}) || d.Message.Withdraws != jobID(9) {
			t.Errorf("it leaves for %v: %+v", d.Conns, d.Message)
		}
	}
	if a := all[Append](g.effects); len(a) != 1 || !slices.Equal(a[0].Record.IDs, []uint32{5, 7, 8}) || !slices.Equal(a[0].Record.Away, []uint32{6, 9, 10}) {
		t.Errorf("the accepted-file: %+v", a)
	}
	g.do(Acked{Conn: 1, IDs: []job.ID{jobID(1)}})
	g.do(Acked{Conn: 4, IDs: []job.ID{jobID(1)}})
	g.wantReport(writer, "v2 not here[9 10] refused[6]")
	if g.recorded(1, 2); g.s.Open() != 0 {
		t.Errorf("%d reserves are open", g.s.Open())
	}
	if got := g.s.Stats(); got.Refused != 1 || got.ReserveBytes != 0 {
		t.Errorf("%+v", got)
	}
	g.tick(10 * time.Second)
	g.withdraw(2, 9)
	g.wantAnswer(handoff.Accepted, "v1 refused[9]")
	g.do(Connected{Conn: 6, Recipient: 9, Client: 6, Speaks: true, Withdraws: true}) // a hello that came late
	g.withdraw(3, 9)
	g.wantAnswer(handoff.Accepted, "v1 rest waiting")
}

func TestMemoryIsBounded(t *testing.T) {
	g := newRig(t, Config{Reserves: 3, BodyBytes: job.MaxBody})
	g.connect(1, 5, 1)
	big := func(n uint64) *handoff.Handoff {
		h := request(n, jobID(int(n)), 5)
		h.Message.Body = []byte(strings.Repeat("x", job.MaxBody-1000))
		return h
	}
	g.hold = true
	g.do(HandedOff{big(1), 1})
	g.do(HandedOff{big(2), 1}) // no room for its body while the first has not left
	g.wantAnswer(handoff.InProgress)
	g.hold = false
	g.do(Written{ref(1), true})
	g.do(HandedOff{big(2), 1})
	g.wantAnswer(handoff.Accepted, "v1 rest waiting")
	first := big(1)
	first.Ref, first.Message = ref(3), nil
	g.do(HandedOff{first, 1}) // its body had to go
	g.wantAnswer(handoff.NeedBody)
	g.do(HandedOff{request(4, jobID(2), 6), 1})
	g.do(HandedOff{request(5, jobID(2), 5), 1})
	g.wantAnswer(handoff.InProgress)
	g.do(Acked{1, []job.ID{jobID(1), jobID(2)}})
	g.recorded(1, 2)
	g.do(HandedOff{request(5, jobID(2), 5), 1}) // closed ones count until the watermark passes
	g.wantAnswer(handoff.InProgress)
	h := request(5, jobID(2), 5)
	h.Settled = ref(1)
	g.do(HandedOff{h, 1})
	g.wantAnswer(handoff.Accepted, "v1")
}

func TestConfigNamesTheField(t *testing.T) {
	for want, cfg := range map[string]Config{
		"incarnation": {Incarnation: job.Incarnation{Gateway: "a b"}},
		"window":      {Incarnation: me, Window: 1000},
		"ack_within":  {Incarnation: me, AckWithin: -1},
		"memory":      {Incarnation: me, BodyBytes: 1},
	} {
		_, err := New(cfg)
		if e, ok := err.(*job.Error); !ok || e.Field != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// BenchmarkOneMessageEach takes one message to 50,000 recipients from the hand-off to
// settled.
func BenchmarkOneMessageEach(b *testing.B) {
	const people = 50_000
	s, err := New(Config{Incarnation: me})
	if err != nil {
		b.Fatal(err)
	}
	targets := idset.New(0)
	for r := range uint32(people) {
		targets.Add(r)
		s.Step(0, Connected{Conn: Conn(r), Recipient: job.Recipient(r), Client: 1, Speaks: true})
	}
	n := uint64(0)
	now := time.Duration(0)
	for b.Loop() {
		n++
		now += time.Second
		ids := []job.ID{jobID(int(n))}
		s.Step(now, HandedOff{&handoff.Handoff{Ref: ref(n), To: me, Job: ids[0], Targets: targets, Settled: ref(n - 1), Message: &handoff.Message{}}, 1})
		s.Step(now, Written{ref(n), true})
		for s.Pending() {
			s.Step(now, Pump{})
		}
		for r := range Conn(people) {
			s.Step(now, Acked{r, ids})
		}
		s.Step(now, Recorded{handoff.Recorded{Ref: ref(n), Inc: me, Version: 2, Settled: ref(n)}})
		s.Step(now+scanEvery, Tick{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*people), "ns/recipient")
	if st := s.Stats(); st.Settled != uint64(b.N)*people || st.Reserves != 0 {
		b.Fatalf("stats %+v", st)
	}
}

// What a client may forget is told before the next message, in the same step, or by itself
// after a while.
func TestSettledIDsLeaveWithTheNextMessage(t *testing.T) {
	g := newRig(t, Config{})
	g.connect(1, 5, 1)
	for n := uint64(1); n <= 2; n++ {
		g.do(HandedOff{request(n, jobID(int(n)), 5), 1})
		if told := all[SendSettled](g.effects); len(told) != int(n-1) {
			t.Fatalf("message %d: %s", n, describe(g.effects))
		}
		if n == 2 {
			at := slices.IndexFunc(g.effects, func(e Effect) bool { _, is := e.(SendSettled); return is })
			told := g.effects[at].(SendSettled)
			if _, next := g.effects[at+1].(Deliver); !next || told.Conn != 1 || !slices.Equal(told.IDs, []job.ID{jobID(1)}) {
				t.Fatalf("message 2: %s", describe(g.effects))
			}
		}
		g.do(Acked{1, []job.ID{jobID(int(n))}})
		g.recorded(n, 2)
		if told := all[SendSettled](g.effects); len(told) != 0 {
			t.Fatalf("message %d is told at once: %s", n, describe(g.effects))
		}
	}
	told := all[SendSettled](g.tick(500 * time.Millisecond))
	if len(told) != 1 || !slices.Equal(told[0].IDs, []job.ID{jobID(2)}) {
		t.Fatalf("nothing more came: %s", describe(g.effects))
	}
}

// A window that is more than half full is not kept waiting for room.
func TestSettledIDsMakeRoom(t *testing.T) {
	g := newRig(t, Config{Window: 4})
	g.connect(1, 5, 1)
	for n := uint64(1); n <= 3; n++ {
		g.do(HandedOff{request(n, jobID(int(n)), 5), 1})
	}
	g.do(Acked{1, []job.ID{jobID(1), jobID(2)}})
	g.recorded(1, 2)
	if told := all[SendSettled](g.effects); len(told) != 1 {
		t.Fatalf("three of four: %s", describe(g.effects))
	}
	g.recorded(2, 2)
	if told := all[SendSettled](g.effects); len(told) != 0 {
		t.Fatalf("two of four: %s", describe(g.effects))
	}
}
