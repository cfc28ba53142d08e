package coord_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/state/coord"
	"crier/state/coord/coordtest"
)

func TestMemoryLinear(t *testing.T) {
	t.Parallel()
	m := coord.NewMemory(nil)
	coordtest.RunLinear(t, coordtest.Linear{
		Key: "x", Stores: []coord.Store{m, m}, MinKnown: 500, Pace: time.Millisecond,
		Fault: func() { m.SetDown(true); m.SetDown(false) },
	})
}

func TestMemoryOutage(t *testing.T) {
	t.Parallel()
	m := coord.NewMemory(nil)
	coordtest.RunOutage(t, coordtest.Outage{
		A: m, B: m, Wait: time.Second,
		Down: func() { m.SetDown(true) }, Up: func() { m.SetDown(false) },
	})
}

// stale answers reads as they were a while ago, as a server does that lags.
type stale struct {
	coord.Store
	mu   sync.Mutex
	read time.Time
	e    coord.Entry
	err  error
}

func (s *stale) Get(ctx context.Context, key string) (coord.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) > 20*time.Millisecond {
		s.e, s.err = s.Store.Get(context.WithoutCancel(ctx), key) // the answer is for others, too
		s.read = time.Now()
	}
	return s.e, s.err
}

// lives counts a key's versions from 1 in each of its lives.
type lives struct {
	coord.Store
	mu      sync.Mutex
	value   []byte
	version coord.Version
}

func (l *lives) Get(context.Context, string) (coord.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version == 0 {
		return coord.Entry{}, coord.ErrNotFound
	}
	return coord.Entry{Value: l.value, Version: l.version}, nil
}

func (l *lives) Put(_ context.Context, _ string, value []byte, expect coord.Version) (coord.Version, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version != expect {
		return 0, coord.ErrConflict
	}
	l.value = value
	l.version++
	return l.version, nil
}

func (l *lives) Delete(_ context.Context, _ string, expect coord.Version) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.version != expect {
		return coord.ErrConflict
	}
	l.version = 0
	return nil
}

// doubled says of some writes that their answer is unknown, and stores their values
// once more some writes later.
type doubled struct {
	coord.Store
	mu    sync.Mutex
	n     int
	value []byte
}

func (d *doubled) Put(ctx context.Context, key string, value []byte, expect coord.Version) (coord.Version, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.Store.Put(ctx, key, value, expect)
	if err != nil {
		return v, err
	}
	switch d.n++; d.n % 20 {
	case 10:
		d.value = bytes.Clone(value)
		return 0, errors.New("no answer")
	case 0:
		d.Store.Put(ctx, key, d.value, v)
	}
	return v, nil
}

// TestLinearFinds plants bugs: the check must find each.
func TestLinearFinds(t *testing.T) {
	for name, c := range map[string]struct {
		store coord.Store
		says  string
	}{
		"stale reads":                     {&stale{Store: coord.NewMemory(nil)}, "no order"},
		"versions that come again":        {&lives{}, "version"},
		"a write that takes effect twice": {&doubled{Store: coord.NewMemory(nil)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, err := coordtest.CheckLinear(t.Context(), coordtest.Linear{Key: "x", Stores: []coord.Store{c.store, c.store}, Fault: func() {}, Pace: time.Millisecond})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%s: %v", report, err)
			}
		})
	}
}
