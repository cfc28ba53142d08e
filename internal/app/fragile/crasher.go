package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"crier/job"
	"crier/presence/gateway"
	"crier/presence/gateway/ws"
	"crier/state/ledger"
	"crier/state/parked/kv"
)

// crasher ends its own process at one point, and writes down which it passed.
type crasher struct {
	at     string
	passed *os.File
	mu     struct {
		sync.Mutex
		seen map[string]bool
	}
}

func (c *crasher) pass(when string, writes ...string) {
	for _, w := range writes {
		name := when + " " + w
		if name == c.at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it is gone
		}
		c.mu.Lock()
		if !c.mu.seen[name] {
			c.mu.seen[name] = true
			fmt.Fprintln(c.passed, name)
		}
		c.mu.Unlock()
	}
}

// around does a write between its two points. What was refused was not written.
func (c *crasher) around(write func() error, names ...string) error {
	c.pass("before", names...)
	err := write()
	if err == nil {
		c.pass("after", names...)
	}
	return err
}

// fragileLog is a log whose writes are points.
type fragileLog struct {
	ledger.Log
	*crasher
}

func (l fragileLog) Append(ctx context.Context, subject string, last uint64, data []byte) (seq uint64, err error) {
	err = l.around(func() error {
		seq, err = l.Log.Append(ctx, subject, last, data)
		return err
	}, recordNames(subject, data)...)
	return seq, err
}

func (l fragileLog) Purge(ctx context.Context, subject string, before uint64) error {
	return l.around(func() error { return l.Log.Purge(ctx, subject, before) }, "purge")
}

// recordNames is what a record tells, in the words of the ledger.
func recordNames(subject string, data []byte) (names []string) {
	switch {
	case strings.HasPrefix(subject, "led.j."):
		r, err := ledger.ParseRecord(data)
		if err != nil {
			panic(err)
		}
		for _, e := range r.Entries {
			_, name, _ := strings.Cut(fmt.Sprintf("%T", e), ".")
			if name = strings.ToLower(name); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names
	case strings.HasPrefix(subject, "led.job."):
		var tr job.Transition
		if err := json.Unmarshal(data, &tr); err != nil {
			panic(err)
		}
		return []string{"job " + tr.State.String()}
	case strings.HasPrefix(subject, "led.claim."):
		c, err := ledger.ParseClaim(ledger.Stored{Subject: subject, Data: data})
		if err != nil {
			panic(err)
		}
		if c.Journal == (job.Journal{}) {
			return []string{"release " + string(c.Kind)}
		}
		return []string{"claim " + string(c.Kind)}
	case strings.HasPrefix(subject, "ctl."):
		var c job.Control
		if err := json.Unmarshal(data, &c); err != nil {
			panic(err)
		}
		switch {
		case c.Recall:
			return []string{"control recall"}
		case c.Cancel:
			return []string{"control cancel"}
		}
		return []string{"control"}
	}
	return []string{strings.TrimPrefix(subject, "led.")}
}

// fragileIndex is an index whose writes are points.
type fragileIndex struct {
	kv.Store
	*crasher
}

func (x fragileIndex) Write(b *kv.Batch) error {
	return x.around(func() error { return x.Store.Write(b) }, "index")
}

// fragileAccepted is an accepted-file whose writes are points.
type fragileAccepted struct {
	ws.Accepted
	*crasher
}

func (f fragileAccepted) Append(r gateway.Record) error {
	return f.around(func() error { return f.Accepted.Append(r) }, "accepted")
}

func (f fragileAccepted) Mark(ref job.Ref, rank uint32) {
	_ = f.around(func() error { f.Accepted.Mark(ref, rank); return nil }, "acknowledged")
}

func (f fragileAccepted) Free(start uint32, ref job.Ref) error {
	return f.around(func() error { return f.Accepted.Free(start, ref) }, "freed")
}
