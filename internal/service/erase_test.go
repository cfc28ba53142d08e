package service

import (
	"context"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/idset"
	"crier/job"
	"crier/state/ledger"
	"crier/state/parked/feed"
)

// An erasure takes the recipient out of every account's followers and every segment, whoever's
// they are, leaves the suppression lists, revokes its devices' keys, and is in the ledger; it
// counts what waited, and what still does when its patience ends. A repeat finds nothing.
func TestEraseRecipient(t *testing.T) {
	f := newFixture(t)
	f.cfg.Patience = 300 * time.Millisecond // nobody drops anything here
	acme, house := withAcme(f), as(t, job.DefaultTenant, job.Admin)
	const who, day = 3<<20 + 5, 20_500
	at := api.Whereabouts{Online: []api.Connected{{Gateway: "g-a", Connections: 2}, {Gateway: "g-b", Connections: 1}}}
	f.cfg.Whereabouts = func(_ context.Context, r job.Recipient) api.Whereabouts {
		if r != who {
			return api.Whereabouts{}
		}
		return at
	}
	f.entries(ledger.Open{Boot: "boot"})
	first := f.parkFor(acme, who, day, true)
	second := f.parkFor(house, who, day, true)
	f.parkFor(house, who+1, day, true)
	for _, name := range []string{"vip", "left", "others"} {
		_, err := f.CreateSegment(asked(t), api.CreateSegment{Name: name})
		f.must(err)
		ids := []job.Recipient{who, who + 1}
		if name == "others" {
			ids = ids[1:]
		}
		_, err = f.AddToSegment(asked(t), name, ids)
		f.must(err)
	}
	_, err := f.ArchiveSegment(asked(t), "left")
	f.must(err)
	_, err = f.AddSuppressed(asked(t), api.SuppressionChange{IDs: []job.Recipient{who}})
	f.must(err)
	recipient := job.Recipient(who)
	key, err := f.CreateKey(asked(t), api.CreateKey{Name: "phone", Role: job.Device, Recipient: &recipient})
	f.must(err)
	before := map[string]uint64{}
	for _, ctx := range []context.Context{acme, house} {
		a, err := f.GetAccount(ctx, "news")
		f.must(err)
		before[a.Tenant] = a.Followers
	}

	_, err = f.EraseRecipient(house, who, api.Erase{})
	wantError(t, "without a reason", err, job.CodeInvalid, "reason")
	_, err = f.EraseRecipient(t.Context(), who, api.Erase{Reason: "why"})
	wantError(t, "without a caller", err, job.CodeDenied, "")
	if f.cfg.Erased.Last(who) != 0 {
		t.Error("it is erased without a reason, or a caller")
	}

	act := &api.Act{}
	got, err := f.EraseRecipient(api.WithAct(house, act), who, api.Erase{Reason: "asked for it"})
	f.must(err)
	st, err := f.log.Last(asked(t), "led.erased.3145733")
	f.must(err)
	want := api.Erasure{Recipient: who, Record: st.Seq, Connections: 3, Keys: 1, Followed: 2, Segments: 2, Parked: 2, Left: 2}
	if len(got.Kept) == 0 || slices.ContainsFunc(got.Kept, func(k api.Kept) bool { return strings.Contains(k.What, "charged") }) {
		t.Errorf("kept is %+v", got.Kept)
	}
	if got.Kept = nil; !reflect.DeepEqual(got, want) {
		t.Errorf("erased is %+v, want %+v", got, want)
	}
	f.must(feed.CatchUp(asked(t), f.cfg.Index, f.log))
	for r, charged := range map[job.Recipient]int{who: 0, who + 1: 2} { // of all accounts, and of one
		if info, err := f.GetRecipient(house, r); err != nil || len(info.Frequency) != charged {
			t.Errorf("of %d is told that it was charged %+v, %v", r, info.Frequency, err)
		}
	}
	if act.Object != "recipient/3145733" || act.Reason != "asked for it" || act.Tenant != job.DefaultTenant {
		t.Errorf("the act is %+v", act)
	}
	if c, _ := api.CallerOf(house); !strings.Contains(string(st.Data), c.Key) {
		t.Errorf("the record does not say by which key: %s", st.Data)
	}
	for _, ctx := range []context.Context{acme, house} {
		a, err := f.GetAccount(ctx, "news")
		f.must(err)
		if a.Followers != before[a.Tenant]-1 {
			t.Errorf("of %s %d follow, before %d", a.Tenant, a.Followers, before[a.Tenant])
		}
	}
	for name, n := range map[string]uint64{"vip": 1, "left": 1, "others": 1} {
		if s, err := f.GetSegment(asked(t), name); err != nil || s.Recipients != n {
			t.Errorf("in %s are %d, %v", name, s.Recipients, err)
		}
	}
	if list, err := f.GetSuppression(asked(t), ""); err != nil || list.Entries != 1 {
		t.Errorf("on the suppression list are %d, %v", list.Entries, err)
	}
	if k, err := f.cfg.Store.Access.GetKey(asked(t), "", key.ID); err != nil || k.RevokedAt.IsZero() {
		t.Errorf("its key is %+v, %v", k, err)
	}

	// What the homes drop is not left; what is parked later is no matter of this erasure.
	for _, id := range []job.ID{first, second} {
		f.entries(&ledger.Outcome{Job: id, Range: 3, Outcome: job.Dropped, Reason: job.SuppressedParked, Set: idset.Of(who)})
	}
	at.Online = nil
	again, err := f.EraseRecipient(house, who, api.Erase{Reason: "again"})
	f.must(err)
	if again.Record <= got.Record || again.Followed+again.Segments+again.Parked+again.Left+uint64(again.Keys+again.Connections) != 0 {
		t.Errorf("a repeat erased %+v", again)
	}
	var kinds []string
	f.must(f.TailLedger(asked(t), api.TailLedger{Filter: ledger.AllErasures}, func(e api.LedgerEntry) error {
		kinds = append(kinds, e.Kind)
		return nil
	}))
	if !slices.Equal(kinds, []string{"erased", "erased"}) {
		t.Errorf("the records are called %v", kinds)
	}
	f.parkFor(house, who, day, false)
	if n, err := f.parkedBefore(asked(t), who, again.Record); err != nil || n != 0 {
		t.Errorf("of before %d wait, %v, though one came after", n, err)
	}
}

// An erasure waits until the index of its process has come to the record, and does not answer
// before what was charged is forgotten.
func TestErasureWaitsForTheIndex(t *testing.T) {
	f := newFixture(t)
	const who, day = 3<<20 + 5, 20_500
	house := as(t, job.DefaultTenant, job.Admin)
	f.entries(ledger.Open{Boot: "boot"})
	f.parkFor(house, who+1, day, true) // so that somebody is charged, and nobody waits for
	id := f.submitSeen(toFollowers(""))
	span := job.Span{Lo: who, Hi: who + 1}
	f.entries(&ledger.Charge{Job: id, Span: span, IDs: 1, Terms: ledger.Terms{Day: day, All: true, Once: job.OnceKey{1}, Until: 24*day + 70}})
	fed := make(chan error, 1)
	go func() {
		for f.cfg.Erased.Last(who) == 0 {
			runtime.Gosched()
		}
		fed <- feed.CatchUp(context.Background(), f.cfg.Index, f.log)
	}()
	_, err := f.EraseRecipient(house, who, api.Erase{Reason: "asked for it"})
	f.must(err)
	if n, err := f.cfg.Index.Charges.Used(who, day, 0); err != nil || n != 0 {
		t.Errorf("when it is answered it is charged %d, %v", n, err)
	}
	if s, err := f.cfg.Index.Charges.Marked(3, job.OnceKey{1}, 24*day); err != nil || !s.IsEmpty() {
		t.Errorf("when it is answered it got what is sent once: %v, %v", s, err)
	}
	f.must(<-fed)
}
