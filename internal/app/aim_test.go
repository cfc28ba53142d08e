package app_test

import (
	"context"
	le "encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"crier/api"
	"crier/internal/crowd"
	"crier/job"
)

// heldOut is the rule of the control group for one recipient, digit by digit, as its
// definition has it.
func heldOut(salt job.Digest, id uint32, percent *big.Rat) bool {
	lot := new(big.Rat)
	for d := range uint32(32) {
		in := le.LittleEndian.AppendUint64(nil, xxhash.Sum64(salt[:]))
		in = le.LittleEndian.AppendUint32(in, id/64)
		in = le.LittleEndian.AppendUint32(in, d)
		if xxhash.Sum64(in)>>(id%64)&1 == 1 {
			lot.Add(lot, big.NewRat(1, 2<<d))
		}
	}
	return lot.Mul(lot, big.NewRat(100, 1)).Cmp(percent) < 0
}

// saltOf reads the salt that a job recorded from the ledger.
func (x *trial) saltOf(ctx context.Context, id job.ID) (salt job.Digest) {
	x.t.Helper()
	x.must(x.svc.TailLedger(ctx, api.TailLedger{Filter: "led.job." + id.String()}, func(e api.LedgerEntry) error {
		if e.Kind != "accepted" {
			return nil
		}
		var first struct{ Spec struct{ Salt job.Digest } }
		err := json.Unmarshal(e.Detail, &first)
		salt = first.Spec.Salt
		return err
	}))
	if salt.IsZero() {
		x.t.Fatal("the job recorded no salt")
	}
	return salt
}

// aimed is a world whose sets this test keeps as maps, beside the server's.
type aimed struct {
	*trial
	ids                                    []uint32
	followers, suppressed, vip, news, left ids
}

// some gives each id with a probability.
func some(rng *rand.Rand, all []uint32, p float64) ids {
	set := ids{}
	for _, id := range all {
		if rng.Float64() < p {
			set[id] = true
		}
	}
	return set
}

// file writes a set, in no order.
func (set ids) file(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "ids.txt")
	var b strings.Builder
	for id := range set {
		fmt.Fprintln(&b, id)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newAimed(t *testing.T, rng *rand.Rand) *aimed {
	x := &aimed{trial: &trial{t: t, cfg: newTrialConfig(t), members: map[job.Recipient]crowd.Kind{}, due: map[job.Recipient]bool{}}}
	x.start(context.Background())
	for id := uint32(0); len(x.ids) < 5000; id += 1 + rng.Uint32N(3000) { // over eight ranges
		x.ids = append(x.ids, id)
	}
	x.followers, x.suppressed = some(rng, x.ids, 0.9), some(rng, x.ids, 0.1)
	x.vip, x.news, x.left = some(rng, x.ids, 0.4), some(rng, x.ids, 0.4), some(rng, x.ids, 0.1)
	x.cli(nil, "account", "create", "aiming")
	x.cli(nil, "followers", "import", "--format", "ids", "--account", "aiming", x.followers.file(t))
	x.cli(nil, "suppression", "import", "--account", "aiming", x.suppressed.file(t))
	for name, set := range map[string]ids{"vip": x.vip, "news": x.news, "left": x.left} {
		x.cli(nil, "segment", "create", name)
		x.cli(nil, "segment", "import", name, set.file(t))
	}
	return x
}

// fate is the reason for which a recipient is dropped, by the sets of this test.
func (x *aimed) fate(id uint32, salt job.Digest, percent *big.Rat) job.Reason {
	switch {
	case !x.followers[id]:
		return job.ReasonRelation
	case x.suppressed[id]:
		return job.ReasonSuppressed
	case !x.vip[id] && !x.news[id] || x.left[id]:
		return job.ReasonTargeting
	case heldOut(salt, id, percent):
		return job.ReasonControl
	}
	return job.NoReason
}

// connect brings some recipients online, of each fate.
func (x *aimed) connect(ctx context.Context, clients int) {
	var members []crowd.Member
	for i := range clients {
		id := job.Recipient(x.ids[i*len(x.ids)/clients])
		token, err := x.svc.MintToken(ctx, api.MintToken{Recipient: &id})
		x.must(err)
		members = append(members, crowd.Member{Recipient: id, Token: token.Token, Kind: crowd.Speaks})
		x.members[id] = crowd.Speaks
	}
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Connect: members}, &rep))
}

// turn makes the segments other ones: who was in is out.
func (x *aimed) turn() {
	all := ids{}
	for _, id := range x.ids {
		all[id] = true
	}
	for name, set := range map[string]ids{"vip": x.vip, "news": x.news, "left": x.left} {
		other := ids{}
		for id := range all {
			if !set[id] {
				other[id] = true
			}
		}
		x.cli(nil, "segment", "import", name, other.file(x.t))
		var in []job.Recipient
		for id := range set {
			in = append(in, job.Recipient(id))
		}
		_, err := x.svc.RemoveFromSegment(context.Background(), name, in)
		x.must(err)
	}
}

// TestAims sends a job that includes two segments, excludes one and holds out a control
// group. While it is sent the segments are turned around and one is archived, and the
// server is killed and started again; what becomes of each recipient is still what sets
// computed here say of the moment of the submit.
func TestAims(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	x := newAimed(t, rand.New(rand.NewPCG(2026, 11)))
	x.connect(ctx, 250)
	dir := t.TempDir()
	everybody := ids{}
	for _, id := range x.ids {
		everybody[id] = true
	}
	x.cli(nil, "package", "build", "--from", "ids", "--name", "all", everybody.file(t), "--out", dir)
	var j struct{ Job job.ID }
	x.cli(&j, "job", "submit", "--account", "aiming", "--package", filepath.Join(dir, "all.crpk"), "--body", "hear ye", "--rate", "15",
		"--include", "vip", "--include", "news", "--exclude", "left", "--control-group", "12.5")
	salt, percent := x.saltOf(ctx, j.Job), big.NewRat(125, 10)
	fates := map[job.Reason]uint64{}
	for _, id := range x.ids {
		fates[x.fate(id, salt, percent)]++
	}
	for id := range x.members {
		x.due[id] = x.fate(uint32(id), salt, percent) == job.NoReason
		if !x.due[id] {
			delete(x.due, id)
		}
	}
	if at := x.watchTo(ctx, j.Job, 0.2); at >= 0.8 {
		t.Fatalf("void: %.0f %% was done before the segments were changed", 100*at)
	}
	x.turn()
	_, err := x.svc.ArchiveSegment(ctx, "vip")
	x.must(err)
	at := x.watchTo(ctx, j.Job, 0.4)
	x.srv.Kill()
	if at >= 0.95 {
		t.Fatalf("void: %.0f %% was done when the server was killed", 100*at)
	}
	x.cfg.Listen = mustHost(t, x.srv.API)
	x.restart(ctx)
	_, err = x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
	x.must(err)
	x.quiet(ctx, j.Job)

	rec, err := x.svc.ReconcileJob(ctx, j.Job)
	x.must(err)
	info, err := x.svc.GetJob(ctx, j.Job)
	x.must(err)
	for reason, want := range fates {
		if reason != job.NoReason && (rec.Counts.Dropped[reason] != want || info.Counts.Dropped[reason] != want || want == 0) {
			t.Errorf("dropped for %s: the proof says %d, info %d, want %d", reason, rec.Counts.Dropped[reason], info.Counts.Dropped[reason], want)
		}
	}
	if !rec.Conserved || rec.Delivered != uint64(len(x.due)) || rec.Delivered+rec.Parked != fates[job.NoReason] || len(rec.Counts.Dropped) != 4 {
		t.Errorf("%+v; want %d delivered and %d parked, %v", rec, len(x.due), fates[job.NoReason]-uint64(len(x.due)), rec.Violations)
	}
	var rep crowd.Report
	x.must(x.child.Ask(crowd.Request{Report: &j.Job}, &rep))
	for id := range x.members {
		if shown := rep.Shown[id]; shown != map[bool]int{true: 1}[x.due[id]] {
			t.Errorf("recipient %s showed it %d times; due is %v", id, shown, x.due[id])
		}
	}
	x.explained(ctx, j.Job, salt, percent)
	x.grows(ctx, j.Job, filepath.Join(dir, "all.crpk"), salt)
	x.must(x.srv.Stop())
}

// explained asks about some recipients of each fate, and by what it is shown.
func (x *aimed) explained(ctx context.Context, id job.ID, salt job.Digest, percent *big.Rat) {
	asked := map[string]int{}
	for _, who := range x.ids {
		fate, because := x.fate(who, salt, percent), ""
		switch {
		case fate == job.ReasonTargeting && x.left[who]:
			because = `in segment "left" at revision 1, which the job excludes`
		case fate == job.ReasonTargeting:
			because = `in none of the segments that the job includes: segment "vip" at revision 1, segment "news" at revision 1`
		case fate == job.ReasonControl:
			because = "in the control group of 12.5%: its lot is "
		}
		kind := fate.String() + because
		if asked[kind]++; asked[kind] > 3 {
			continue
		}
		e, err := x.svc.ExplainJob(ctx, id, job.Recipient(who))
		x.must(err)
		if e.Reason != fate || (e.Outcome == job.Dropped) != (fate != job.NoReason) || !strings.HasPrefix(e.Because, because) || (because == "") != (e.Because == "") {
			x.t.Errorf("recipient %d: %+v; want %q because %q", who, e, fate, because)
		}
	}
	if len(asked) != 6 {
		x.t.Errorf("there are recipients of %d kinds only: %v", len(asked), asked)
	}
}

// grows sends to the same package with a larger control group: the same salt holds out
// those of the smaller one, and more.
func (x *aimed) grows(ctx context.Context, first job.ID, file string, salt job.Digest) {
	var j struct{ Job job.ID }
	x.cli(&j, "job", "submit", "--account", "aiming", "--package", file, "--body", "more", "--control-group", "40.25")
	_, err := x.svc.WaitJob(ctx, j.Job, api.WaitJob{For: job.Sent})
	x.must(err)
	if again := x.saltOf(ctx, j.Job); again != salt {
		x.t.Error("the account's salt changed")
	}
	want, smaller := uint64(0), slices.Clone(x.ids)
	for _, id := range x.ids {
		if x.followers[id] && !x.suppressed[id] && heldOut(salt, id, big.NewRat(4025, 100)) {
			want++
		}
	}
	rec, err := x.svc.ReconcileJob(ctx, j.Job)
	x.must(err)
	if rec.Counts.Dropped[job.ReasonControl] != want || rec.Counts.Dropped[job.ReasonTargeting] != 0 {
		x.t.Errorf("dropped are %v, want %d held out", rec.Counts.Dropped, want)
	}
	smaller = slices.DeleteFunc(smaller, func(id uint32) bool { return x.fate(id, salt, big.NewRat(125, 10)) != job.ReasonControl })
	for _, id := range smaller[:5] {
		e, err := x.svc.ExplainJob(ctx, j.Job, job.Recipient(id))
		x.must(err)
		if e.Reason != job.ReasonControl {
			x.t.Errorf("recipient %d is held out of %s and here %s: %+v", id, first, e.Outcome, e)
		}
	}
}
