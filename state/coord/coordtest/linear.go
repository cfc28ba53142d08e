package coordtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"crier/state/coord"

	"github.com/anishathalye/porcupine"
)

// restart is the time from the end of a client to the next one.
const restart = 20 * time.Millisecond

// Linear says how to look for an order of concurrent calls.
type Linear struct {
	// Key is what they write; it is not there yet.
	Key string
	// Stores are clients of one store; each has two goroutines.
	Stores []coord.Store
	// Fault does something to the store meanwhile, and returns when it is over. The
	// calls go on for a second before it and after it, and for as long as it takes to
	// get MinKnown answers, half of them before it.
	Fault func()
	// MinKnown is how many calls must have got an answer. The run means nothing below.
	MinKnown int
	// Pace is the time between a goroutine's calls; 0: none.
	Pace time.Duration
}

// The key's states are values, each written once; "" is no key. A call that expects
// a version expects the value that its caller had with it.
type (
	linearInput struct {
		read        bool
		expect, set string // of a write; set "" deletes
	}
	linearOutput struct {
		value   string // of a read
		done    bool   // of a write: it was not refused
		unknown bool   // of a write: nobody knows
	}
)

// linearModel is one key. A write whose answer is unknown takes effect, if what it
// expects is there, at some moment after it was called; as its return is put behind
// all others, that moment may also be too late to matter.
var linearModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		at, in, out := state.(string), input.(linearInput), output.(linearOutput)
		fits := at == in.expect
		switch {
		case in.read:
			return out.value == at, at
		case out.unknown && fits, out.done && fits:
			return true, in.set
		case out.unknown:
			return true, at
		default:
			return !out.done && !fits, at
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v %+v", input, output) },
}

// linearRun is a run's history.
type linearRun struct {
	start time.Time
	mu    struct {
		sync.Mutex
		history  []porcupine.Operation
		versions map[coord.Version]string
		values   map[string]coord.Version
		clients  int
		known    int
		unknown  int
	}
}

// RunLinear fails the test if CheckLinear finds something.
func RunLinear(t *testing.T, l Linear) {
	t.Helper()
	report, err := CheckLinear(t.Context(), l)
	t.Log(report)
	if err != nil {
		t.Fatal(err)
	}
}

// CheckLinear lets clients read, write, delete and create one key while a fault
// happens, and looks for an order in which one client alone would have got the same
// answers. A client whose write has no answer starts afresh, as a process does after
// a crash.
func CheckLinear(ctx context.Context, l Linear) (report string, err error) {
	r := &linearRun{start: time.Now()}
	r.mu.versions, r.mu.values = map[coord.Version]string{}, map[string]coord.Version{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2*len(l.Stores))
	for i := range cap(errs) {
		go func() {
			random := rand.New(rand.NewPCG(7, uint64(i)))
			var err error
			for ctx.Err() == nil && err == nil {
				err = r.client(ctx, l.Stores[i%len(l.Stores)], random, l)
				wait(ctx, restart)
			}
			errs <- err
		}()
	}
	r.until(ctx, l.MinKnown/2)
	l.Fault()
	r.until(ctx, l.MinKnown)
	cancel()
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	err = errors.Join(err, r.last(l))
	r.mu.Lock()
	defer r.mu.Unlock()
	report = fmt.Sprintf("%d calls with an answer, %d without", r.mu.known, r.mu.unknown)
	if err != nil {
		return report, err
	}
	if r.mu.known < l.MinKnown {
		return report, fmt.Errorf("only %d calls got an answer, want %d", r.mu.known, l.MinKnown)
	}
	switch porcupine.CheckOperationsTimeout(linearModel, r.essence(), 30*time.Second) {
	case porcupine.Illegal:
		return report, errors.New("there is no order of the calls that explains their answers")
	case porcupine.Unknown:
		return report, errors.New("no order of the calls was found in time")
	}
	return report, nil
}

// until waits for a second, and then until some calls have got an answer.
func (r *linearRun) until(ctx context.Context, known int) {
	wait(ctx, time.Second)
	for end := time.Now().Add(patience); ctx.Err() == nil && time.Now().Before(end); wait(ctx, restart) {
		r.mu.Lock()
		enough := r.mu.known >= known
		r.mu.Unlock()
		if enough {
			return
		}
	}
}

// last reads what is there in the end.
func (r *linearRun) last(l Linear) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	called := time.Since(r.start)
	e, err := l.Stores[0].Get(ctx, l.Key)
	if err != nil && !errors.Is(err, coord.ErrNotFound) {
		return fmt.Errorf("reading what is there in the end: %w", err)
	}
	return r.record(0, linearInput{read: true}, linearOutput{value: string(e.Value)}, called, e)
}

// essence leaves out the writes without an answer whose value nobody saw, for the
// search would try each of them everywhere. They had no effect before the last read:
// what changes a value must have seen it, and the last read saw another.
func (r *linearRun) essence() []porcupine.Operation {
	seen := map[string]bool{"": true}
	for _, op := range r.mu.history {
		seen[op.Output.(linearOutput).value] = true
	}
	return slices.DeleteFunc(slices.Clone(r.mu.history), func(op porcupine.Operation) bool {
		return op.Output.(linearOutput).unknown && !seen[op.Input.(linearInput).set]
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// client is one client's life, until a write of it has no answer.
func (r *linearRun) client(ctx context.Context, s coord.Store, random *rand.Rand, l Linear) error {
	r.mu.Lock()
	r.mu.clients++
	id := r.mu.clients
	r.mu.Unlock()
	var have coord.Entry // what this client knows; Version 0: no key
	for n := 0; ctx.Err() == nil; n++ {
		if l.Pace > 0 {
			wait(ctx, l.Pace)
		}
		called := time.Since(r.start)
		in, out := linearInput{expect: string(have.Value)}, linearOutput{}
		var v coord.Version
		var err error
		switch k := random.IntN(10); {
		case k < 4 || n == 0:
			in = linearInput{read: true}
			have, err = s.Get(ctx, l.Key)
			if errors.Is(err, coord.ErrNotFound) {
				have, err = coord.Entry{}, nil
			}
			if err != nil {
				continue // it changed nothing and says nothing
			}
			out.value, v = string(have.Value), have.Version
		case k < 6 && have.Version != 0:
			err = s.Delete(ctx, l.Key, have.Version)
			have.Value = nil
		default:
			in.set = fmt.Sprintf("%d-%d", id, n)
			v, err = s.Put(ctx, l.Key, []byte(in.set), have.Version)
			have.Value = []byte(in.set)
		}
		have.Version = v
		out.done = err == nil
		out.unknown = err != nil && !errors.Is(err, coord.ErrConflict)
		if err := r.record(id, in, out, called, have); err != nil || out.unknown {
			return err
		}
		if err != nil {
			have = coord.Entry{} // somebody was quicker: a create will conflict, or a read tell
		}
	}
	return nil
}

// record keeps a call, and judges that a version comes with one value, and a value
// with one version.
func (r *linearRun) record(id int, in linearInput, out linearOutput, called time.Duration, have coord.Entry) error {
	op := porcupine.Operation{ClientId: id, Input: in, Output: out, Call: int64(called), Return: int64(time.Since(r.start))}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out.unknown {
		op.Return = math.MaxInt64
		r.mu.unknown++
	} else {
		r.mu.known++
	}
	r.mu.history = append(r.mu.history, op)
	if have.Version == 0 {
		return nil
	}
	value := string(have.Value)
	if was, ok := r.mu.versions[have.Version]; ok && was != value {
		return fmt.Errorf("version %d came with %q and with %q", have.Version, was, value)
	}
	if was, ok := r.mu.values[value]; ok && was != have.Version {
		return fmt.Errorf("%q was written once and came with version %d and with version %d", value, was, have.Version)
	}
	r.mu.versions[have.Version], r.mu.values[value] = value, have.Version
	return nil
}
