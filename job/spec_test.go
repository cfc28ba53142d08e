package job_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"crier/job"
)

var at = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func good() job.Spec {
	return job.Spec{ID: job.ID{1}, Package: job.Digest{2}, Priority: 50, SubmittedAt: at, ExpiresAt: at.Add(time.Hour)}
}

func segments(n int) (out []job.Segment) {
	for i := range n {
		out = append(out, job.Segment{Name: fmt.Sprint("s", i), Number: uint32(i), Blob: job.Digest{1}})
	}
	return out
}

func TestSpecValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		field  string // "" if it is valid
		change func(*job.Spec)
	}{
		{"", func(*job.Spec) {}},
		{"id", func(s *job.Spec) { s.ID = job.ID{} }},
		{"package", func(s *job.Spec) { s.Package = job.Digest{} }},
		{"priority", func(s *job.Spec) { s.Priority = 0 }},
		{"", func(s *job.Spec) { s.Priority = 1 }},
		{"", func(s *job.Spec) { s.Priority = 99 }},
		{"priority", func(s *job.Spec) { s.Priority = 100 }},
		{"", func(s *job.Spec) { s.BodyBytes = 262144 }},
		{"body", func(s *job.Spec) { s.BodyBytes = 262145 }},
		{"ttl", func(s *job.Spec) { s.ExpiresAt = at }},
		{"ttl", func(s *job.Spec) { s.ExpiresAt = at.Add(-time.Hour) }},
		{"ttl", func(s *job.Spec) { s.ExpiresAt = time.Time{} }},
		{"", func(s *job.Spec) { s.ExpiresAt = at.Add(time.Nanosecond) }},
		{"", func(s *job.Spec) { s.ExpiresAt = at.AddDate(0, 0, 366) }},
		{"ttl", func(s *job.Spec) { s.ExpiresAt = at.AddDate(0, 0, 366).Add(1) }},
		{"ttl", func(s *job.Spec) { s.ExpiresAt = at.AddDate(5000, 0, 0) }},
		{"", func(s *job.Spec) { s.CollapseKey = strings.Repeat("k", 128) }},
		{"class", func(s *job.Spec) { s.Class = 2 }},
		{"on_unknown", func(s *job.Spec) { s.OnUnknown = 2 }},
		{"collapse_key", func(s *job.Spec) { s.CollapseKey = strings.Repeat("k", 129) }},
		{"priority", func(s *job.Spec) { s.Priority, s.BodyBytes, s.ExpiresAt = 0, 1<<31, at }}, // the first of them
		{"", func(s *job.Spec) { s.Include, s.Exclude = segments(20), segments(12) }},
		{"include_segments", func(s *job.Spec) { s.Include, s.Exclude = segments(20), segments(13) }},
		{"include_segments", func(s *job.Spec) { s.Include = []job.Segment{{Name: "vip"}} }},
		{"exclude_segments", func(s *job.Spec) { s.Exclude = []job.Segment{{Blob: job.Digest{1}}} }},
		{"control_group", func(s *job.Spec) { s.ControlGroup = 1 }},
		{"", func(s *job.Spec) { s.ControlGroup, s.Salt = job.Everybody, job.Digest{1} }},
		{"control_group", func(s *job.Spec) { s.ControlGroup, s.Salt = job.Everybody+1, job.Digest{1} }},
	} {
		s := good()
		c.change(&s)
		err := s.Validate()
		var e *job.Error
		switch {
		case c.field == "":
			if err != nil {
				t.Errorf("%+v: %v", s, err)
			}
		case !errors.As(err, &e) || e.Field != c.field || e.Message == "":
			t.Errorf("%+v: %v; want an error about %s", s, err, c.field)
		case (e.Code == job.CodeTooLarge) != (c.field == "body") || e.Code != job.CodeTooLarge && e.Code != job.CodeInvalid:
			t.Errorf("%s: code %s", c.field, e.Code)
		}
	}
}

// A transition comes back from the ledger as it went in, whatever is unset.
func TestTransitionRoundTrip(t *testing.T) {
	digest := rapid.Custom(func(t *rapid.T) job.Digest { return job.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest")) })
	when := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "unset") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		s := job.Spec{ID: job.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), Account: rapid.Uint32().Draw(t, "account"),
			Package: digest.Draw(t, "package"), Set: digest.Draw(t, "set"), Recipients: rapid.Uint64().Draw(t, "recipients"),
			FollowersRev: rapid.Uint64().Draw(t, "rev"), Body: digest.Draw(t, "body"), BodyBytes: rapid.Uint32().Draw(t, "bytes"),
			Class: job.Class(rapid.Uint8Range(0, 1).Draw(t, "class")), Priority: rapid.Uint8().Draw(t, "priority"), Rate: rapid.Uint32().Draw(t, "rate"),
			OnUnknown: job.OnUnknown(rapid.Uint8Range(0, 1).Draw(t, "policy")), CollapseKey: rapid.String().Draw(t, "collapse"),
			IdempotencyKey: rapid.String().Draw(t, "key"), Nonce: digest.Draw(t, "nonce"),
			Include: segments(rapid.IntRange(0, 3).Draw(t, "include")), Exclude: segments(rapid.IntRange(0, 3).Draw(t, "exclude")),
			ControlGroup: job.Percent(rapid.Uint32Range(0, 1_000_000).Draw(t, "control group")), Salt: digest.Draw(t, "salt"),
			SubmittedAt: when.Draw(t, "submitted"), DisplayAt: when.Draw(t, "display"), ExpiresAt: when.Draw(t, "expires")}
		tr := job.Transition{Job: s.ID, Version: rapid.Uint64().Draw(t, "version"), State: job.State(rapid.Uint8Range(0, 21).Draw(t, "state")),
			Reason: rapid.String().Draw(t, "reason"), At: at.Format(time.RFC3339Nano), Spec: s}
		b, err := json.Marshal(tr)
		if err != nil {
			t.Fatal(err)
		}
		var back job.Transition
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tr, back); d != "" {
			t.Fatalf("%s\n%s", b, d)
		}
	})
}

// A spec that was stored before jobs had segments and a control group is read as one
// that has none, and a spec that has none is written without a word of them.
func TestSpecOfBefore(t *testing.T) {
	some := strings.Repeat("02", 32)
	stored := `{"id":"job_04000000000000000000000000","account":7,"account_name":"news","package":"` + some + `","set":"` + some + `","recipients":9,` +
		`"followers_rev":3,"followers":"` + some + `","body":"` + some + `","body_bytes":5,"class":"normal","priority":50,"rate":0,"on_unknown":"hold",` +
		`"request":"","nonce":"` + some + `","submitted_at":"2026-03-01T12:00:00.123456789Z","expires_at":"2026-03-01T13:00:00.123456789Z"}`
	var s job.Spec
	if err := json.Unmarshal([]byte(stored), &s); err != nil || s.Validate() != nil {
		t.Fatalf("%v, %v", err, s.Validate())
	}
	if s.Account != 7 || s.FollowersRev != 3 || s.Include != nil || s.Exclude != nil || s.ControlGroup != 0 || !s.Salt.IsZero() {
		t.Errorf("%+v", s)
	}
	if b, err := json.Marshal(s); err != nil || string(b) != stored {
		t.Errorf("it is written anew as\n%s, %v; want\n%s", b, err, stored)
	}
}

// The sum of controls has, of each instruction, the last; but a cancel stands, ends a pause,
// and is the last that says how to send.
func TestControlsAddUp(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) job.Control {
		c := job.Control{Cancel: rapid.IntRange(0, 4).Draw(t, "cancel") == 0}
		if rapid.Bool().Draw(t, "has pause") {
			v := rapid.Bool().Draw(t, "pause")
			c.Pause = &v
		}
		if rapid.Bool().Draw(t, "has rate") {
			v := rapid.Uint32Range(0, 2).Draw(t, "rate")
			c.Rate = &v
		}
		if rapid.Bool().Draw(t, "has doubt") {
			v := rapid.SampledFrom([]job.Decision{job.DecideResend, job.DecideDrop}).Draw(t, "doubt")
			c.Doubt = &v
		}
		return c
	})
	rapid.Check(t, func(t *rapid.T) {
		given := rapid.SliceOfN(gen, 0, 8).Draw(t, "controls")
		var got, want job.Controls
		for _, c := range given {
			got.Apply(c)
		}
		steering := given // up to the first cancel
		if i := slices.IndexFunc(given, func(c job.Control) bool { return c.Cancel }); i >= 0 {
			want.Cancelled, steering = true, given[:i+1]
		}
		for _, c := range steering {
			if c.Rate != nil {
				want.Rate = c.Rate
			}
			if c.Pause != nil {
				want.Paused = *c.Pause && !want.Cancelled
			}
		}
		for _, c := range given {
			if c.Doubt != nil {
				want.Doubt = *c.Doubt
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

// Who paused a job is told as long as it is paused, and why.
func TestWhoPaused(t *testing.T) {
	yes, no := true, false
	var c job.Controls
	for _, x := range []struct {
		job.Control
		by, why, reason string
	}{
		{job.Control{Pause: &yes, By: job.RestoreKey, Why: "who knows"}, job.RestoreKey, "who knows", "a backup was restored"},
		{job.Control{Rate: new(uint32), By: "key_1"}, job.RestoreKey, "who knows", "a backup was restored"},
		{job.Control{Pause: &no, By: "key_1", Why: "all is well"}, "", "", "pause was asked for"},
		{job.Control{Pause: &yes, By: "key_2"}, "key_2", "", "pause was asked for"},
		{job.Control{Pause: &yes, By: "key_2", Why: "too fast"}, "key_2", "too fast", "pause was asked for: too fast"},
	} {
		c.Apply(x.Control)
		if c.PausedBy != x.by || c.PausedWhy != x.why || c.PauseReason() != x.reason {
			t.Errorf("%+v, %s; want %+v", c, c.PauseReason(), x)
		}
	}
}

// The law of conservation adds up every number that a user is shown, so the sum is
// taken here from what is shown.
func TestCountsAddUpAllThatIsShown(t *testing.T) {
	n := rapid.Uint64Range(0, 1<<32)
	rapid.Check(t, func(t *rapid.T) {
		c := job.Counts{Package: n.Draw(t, "package"), Delivered: n.Draw(t, "delivered"), HandedOff: n.Draw(t, "handed off"), Parked: n.Draw(t, "parked"),
			Pending: n.Draw(t, "pending"), InDoubt: n.Draw(t, "in doubt"), Expired: n.Draw(t, "expired"), Recalled: n.Draw(t, "recalled"),
			Cancelled: n.Draw(t, "cancelled"), Failed: n.Draw(t, "failed"), Dropped: map[job.Reason]uint64{}}
		for _, r := range []job.Reason{job.ReasonRelation, job.ReasonSuppressed, job.ReasonCollapsed} {
			c.Dropped[r] = n.Draw(t, "dropped")
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		shown := struct {
			Dropped map[string]uint64 `json:"dropped"`
		}{}
		all := map[string]any{}
		if err := json.Unmarshal(b, &shown); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		var sum, open, terminal, dropped uint64
		for _, v := range shown.Dropped {
			dropped += v
		}
		for _, o := range job.Outcomes() {
			v := dropped
			if o != job.Dropped {
				v = uint64(all[o.String()].(float64))
			}
			sum += v
			if o.Terminal() {
				terminal += v
			} else {
				open += v
			}
		}
		if c.DroppedTotal() != dropped || c.Sum() != sum || c.Open() != open || open+terminal != sum {
			t.Fatalf("%s: dropped %d, sum %d, open %d", b, c.DroppedTotal(), c.Sum(), c.Open())
		}
		var back job.Counts
		if err := json.Unmarshal(b, &back); err != nil || !cmp.Equal(c, back) {
			t.Fatalf("%s comes back as %+v, %v", b, back, err)
		}
	})
}

func TestReasonsGoWithAnOutcome(t *testing.T) {
	failed := map[string]bool{"refused": true, "tries": true, "unknown": true}
	for r := job.ReasonRelation; r <= job.ReasonUnknown; r++ {
		want := job.Dropped
		if failed[r.String()] {
			want = job.Failed
		}
		if r.Outcome() != want {
			t.Errorf("%s goes with %s", r, r.Outcome())
		}
	}
}

func TestErrorsHaveACode(t *testing.T) {
	for _, c := range []struct {
		err  error
		code job.Code
	}{
		{nil, ""},
		{io.EOF, ""},
		{job.Invalid("rate", "too much", nil), job.CodeInvalid},
		{fmt.Errorf("setting the rate: %w", job.Invalid("rate", "too much", io.EOF)), job.CodeInvalid},
		{errors.Join(io.EOF, job.NotFound("no job")), job.CodeNotFound},
		{job.Conflict("it is over"), job.CodeConflict},
	} {
		if got := job.CodeOf(c.err); got != c.code {
			t.Errorf("%v has code %q, want %q", c.err, got, c.code)
		}
	}
	err := job.Invalid("rate", "too much", io.EOF)
	if !errors.Is(err, io.EOF) || err.Error() != "too much: EOF" {
		t.Errorf("the cause is lost: %v", err)
	}
}
