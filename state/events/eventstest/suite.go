// Package eventstest is the suite that every stream of events passes.
package eventstest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"crier/job"
	"crier/state/events"
)

// Log is a stream of events.
type Log interface {
	Publish(ctx context.Context, e job.Event) error
	Follow(ctx context.Context, q events.Query, fn func(events.Stored) error, caughtUp func()) error
}

// limit bounds each test.
const limit = 20 * time.Second

// Run holds streams that open makes, each empty, to the suite.
func Run(t *testing.T, open func(t *testing.T) Log) {
	for name, test := range map[string]func(*testing.T, context.Context, Log){
		"order, jobs and cursors": order, "kinds": kinds, "repeats": repeats, "what comes later": later, "since a time": since, "what is refused": refused,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			test(t, ctx, open(t))
		})
	}
}

// Event makes an event of job n, or of one of its slices.
func Event(n byte, slice int, version uint64) job.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	e := job.Event{Job: job.NewID(at, [10]byte{n}), Version: version, State: "sending", Reason: "größer", At: at.Add(time.Duration(version))}
	if slice >= 0 {
		number := uint32(slice)
		e.Slice, e.Reason = &number, ""
	}
	return e
}

func alert(n byte, version uint64) job.Event {
	e := Event(n, -1, version)
	e.Alert = job.Overstayed
	return e
}

func publish(t *testing.T, ctx context.Context, l Log, all ...job.Event) {
	t.Helper()
	for _, e := range all {
		if err := l.Publish(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
}

// Read gives what is stored.
func Read(ctx context.Context, l Log, q events.Query) (all []events.Stored, err error) {
	done := errors.New("caught up")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = l.Follow(ctx, q, func(s events.Stored) error { all = append(all, s); return nil }, func() { cancel(done) })
	if errors.Is(context.Cause(ctx), done) {
		err = nil
	}
	return all, err
}

func want(t *testing.T, ctx context.Context, what string, l Log, q events.Query, want ...job.Event) []events.Stored {
	t.Helper()
	stored, err := Read(ctx, l, q)
	var got []job.Event
	for i, s := range stored {
		got = append(got, s.Event)
		if i > 0 && s.Cursor <= stored[i-1].Cursor {
			t.Errorf("%s: cursor %d after %d", what, s.Cursor, stored[i-1].Cursor)
		}
	}
	if err != nil || len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: %+v, %v; want %+v", what, got, err, want)
	}
	return stored
}

func order(t *testing.T, ctx context.Context, l Log) {
	want(t, ctx, "nothing", l, events.Query{})
	all := []job.Event{Event(1, -1, 1), Event(2, -1, 1), Event(1, 0, 1), Event(1, 4095, 7), Event(1, -1, 2), Event(2, 0, 1)}
	publish(t, ctx, l, all...)
	stored := want(t, ctx, "all", l, events.Query{}, all...)
	for i := range stored {
		want(t, ctx, "behind a cursor", l, events.Query{After: stored[i].Cursor}, all[i+1:]...)
	}
	one, other := all[0].Job, all[1].Job
	want(t, ctx, "of one job", l, events.Query{Job: &one}, all[0], all[2], all[3], all[4])
	want(t, ctx, "of one job behind a cursor", l, events.Query{Job: &other, After: stored[1].Cursor}, all[5])
	want(t, ctx, "of no job", l, events.Query{Job: &job.ID{9}})
}

// kinds follows the events of each kind apart, and tells those of sets that have the same
// number from each other.
func kinds(t *testing.T, ctx context.Context, l Log) {
	set := func(kind string, revision uint64) job.Event {
		return job.Event{Set: &job.SetChange{Kind: kind, Name: "größer", Number: 1, Tenant: "acme", Recipients: revision, Changed: 1}, Version: revision, State: job.SetAdded}
	}
	all := []job.Event{set("followers", 1), Event(1, -1, 1), set("suppression", 1), Event(1, 1, 1), set("followers", 2)}
	publish(t, ctx, l, append(all, all...)...)
	want(t, ctx, "all, each once", l, events.Query{}, all...)
	want(t, ctx, "of sets", l, events.Query{Kind: "set"}, all[0], all[2], all[4])
	want(t, ctx, "of jobs", l, events.Query{Kind: "job"}, all[1])
	want(t, ctx, "of slices", l, events.Query{Kind: "slice"}, all[3])
	want(t, ctx, "of one job", l, events.Query{Job: &all[1].Job}, all[1], all[3])
}

func repeats(t *testing.T, ctx context.Context, l Log) {
	all := []job.Event{Event(1, -1, 1), Event(1, 1, 1), Event(1, 11, 1), Event(1, -1, 11), alert(1, 1), alert(1, 11), alert(2, 1)}
	for range 3 {
		publish(t, ctx, l, all...)
	}
	want(t, ctx, "each once", l, events.Query{}, all...)
}

func later(t *testing.T, ctx context.Context, l Log) {
	publish(t, ctx, l, Event(1, -1, 1))
	enough := errors.New("enough")
	n := uint64(0)
	err := l.Follow(ctx, events.Query{}, func(s events.Stored) error {
		if n++; s.Version != n {
			t.Errorf("version %d, want %d", s.Version, n)
		}
		if n == 20 {
			return enough
		}
		return l.Publish(ctx, Event(1, -1, n+1))
	}, nil)
	if !errors.Is(err, enough) {
		t.Errorf("after %d events: %v", n, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Follow(ctx, events.Query{}, func(events.Stored) error { return nil }, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a follower whose context has ended: %v", err)
	}
}

func since(t *testing.T, ctx context.Context, l Log) {
	first, second := Event(1, -1, 1), Event(1, -1, 2)
	publish(t, ctx, l, first)
	want(t, ctx, "since long ago", l, events.Query{Since: time.Now().Add(-time.Hour)}, first)
	between := time.Now()
	for !time.Now().After(between.Add(2 * time.Millisecond)) { // the stream's clock is this one's
	}
	publish(t, ctx, l, second)
	want(t, ctx, "since between", l, events.Query{Since: between.Add(time.Millisecond)}, second)
	want(t, ctx, "since later", l, events.Query{Since: time.Now().Add(time.Hour)})
}

func refused(t *testing.T, ctx context.Context, l Log) {
	for _, e := range []job.Event{{}, {Job: job.ID{1}, Version: 1, State: "sent", Alert: "boom"}, {Job: job.ID{1}, State: "sent"}, {Job: job.ID{1}, Slice: new(uint32), Control: true, Version: 1, State: "pause"}, {Job: job.ID{1}, Version: 1}} {
		if err := l.Publish(ctx, e); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("publishing %+v: %v", e, err)
		}
	}
	publish(t, ctx, l, Event(1, -1, 1))
	stored := want(t, ctx, "one", l, events.Query{}, Event(1, -1, 1))
	want(t, ctx, "behind the last", l, events.Query{After: stored[0].Cursor})
	if _, err := Read(ctx, l, events.Query{After: stored[0].Cursor + 1}); job.CodeOf(err) != job.CodeInvalid {
		t.Errorf("a cursor beyond the end: %v", err)
	}
}
