package block

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"crier/internal/bus"
	"crier/internal/guard"
	"crier/internal/inhand"
	"crier/job"
	"crier/state/ledger"
)

// A sender asks the home of a block's range what becomes of its recipients: who is
// dropped and who is where. Only the home knows what belongs to a recipient.

// question is what a sender asks another worker.
type question struct {
	Job  job.ID   `json:"job"`
	Span job.Span `json:"span"`
}

// validate refuses what is no block: it lies in one range (rule 7).
func (q question) validate() error {
	if err := q.Span.Validate(); err != nil {
		return err
	}
	if q.Span.IsEmpty() || q.Span.Lo>>job.RangeBits != (q.Span.Hi-1)>>job.RangeBits {
		return fmt.Errorf("%s is no part of one range", q.Span)
	}
	return nil
}

// The first byte of the answer to a question; after answered comes the entry of a
// reserve, after excused and broken why not.
const (
	answered = iota + 1
	excused
	notHome
	broken
)

const (
	homeWait = 3 * time.Second // for the home's answer, or for somebody to be home
	homePoll = 200 * time.Millisecond
	// learnFor is how long a new home listens before it says who is online: each gateway
	// tells it within a second.
	learnFor = 1500 * time.Millisecond
)

var errNotHome = errors.New("the worker asked is not the home of the range any more")

// To is where a worker is asked for blocks of the ranges it is home to.
func To(worker string) string { return "crier.home." + worker + ".block" }

// verdict fills in who of a block is dropped and who is a target, as the home of its
// range says; that may be this worker.
func (m *Maker) verdict(ctx context.Context, spec job.Spec, res *ledger.Reserve) error {
	return m.atHome(ctx, res.Range(), func(ctx context.Context) error {
		return m.decide(ctx, spec, res)
	}, func(ctx context.Context, home string) error {
		return m.askHome(ctx, home, res)
	})
}

// homed waits until a range has a home that knows who is online, or is another's.
func (m *Maker) homed(ctx context.Context, r job.Range) error {
	return m.atHome(ctx, r, func(ctx context.Context) error {
		return m.learn(ctx, r)
	}, func(context.Context, string) error { return nil })
}

// atHome does one thing if this worker is home to a range and the other if another is. It waits
// until somebody is, but not for long.
func (m *Maker) atHome(ctx context.Context, r job.Range, here func(context.Context) error, there func(_ context.Context, home string) error) error {
	ctx, cancel := context.WithTimeout(ctx, homeWait)
	defer cancel()
	for {
		changed := m.cfg.Holds.Changed()
		err := errNotHome
		if home := m.cfg.Home(r); m.cfg.Holds.Has(r) {
			err = here(ctx)
		} else if home != "" && home != m.cfg.Name {
			err = there(ctx, home)
		}
		if !errors.Is(err, errNotHome) && !errors.Is(err, bus.ErrNoResponders) {
			return err
		}
		m.cfg.Want(r)
		select {
		case <-changed:
		case <-time.After(homePoll):
		case <-ctx.Done():
			return fmt.Errorf("nobody is home to range %s: %w", r, err)
		}
	}
}

// askHome asks another worker.
func (m *Maker) askHome(ctx context.Context, home string, res *ledger.Reserve) error {
	b, err := json.Marshal(question{res.Job, res.Span})
	if err != nil {
		return fmt.Errorf("asking for a block: %w", err)
	}
	answer, err := m.cfg.Bus.Request(ctx, To(home), b)
	if err != nil {
		return fmt.Errorf("asking the home %s of range %s: %w", home, res.Range(), err)
	}
	if len(answer) == 0 {
		return fmt.Errorf("the home %s of range %s gave an empty answer", home, res.Range())
	}
	switch answer[0] {
	case answered:
		e, err := ledger.ParseEntry(answer[1:])
		got, ok := e.(*ledger.Reserve)
		if err != nil || !ok || got.Job != res.Job || got.Span != res.Span {
			return fmt.Errorf("the home %s of range %s answered something else: %w", home, res.Range(), err)
		}
		res.Dropped, res.Targets = got.Dropped, got.Targets
		return nil
	case notHome:
		return errNotHome
	case broken:
		return &guard.Broken{What: fmt.Sprintf("at the home %s: %s", home, answer[1:])}
	}
	return fmt.Errorf("the home %s of range %s: %s", home, res.Range(), answer[1:])
}

// Answer answers another worker about a block of a range that this one is home to.
func (m *Maker) Answer(ctx context.Context, msg bus.Msg) {
	var ask question
	var answer []byte
	err := guard.Run(func() (err error) {
		if err := json.Unmarshal(msg.Data, &ask); err != nil {
			return fmt.Errorf("reading a question for a block: %w", err)
		}
		answer, err = m.answer(ctx, ask)
		return err
	})
	if err != nil {
		m.cfg.Logger.Warn("a block that another worker sends", "job", ask.Job.String(), "span", ask.Span.String(), "error", err)
		kind := byte(excused)
		if b := guard.Of(err); b != nil {
			kind = broken
			m.cfg.Logger.Error("a block broke the home's work on it", "job", ask.Job.String(), "span", ask.Span.String(), "stack", b.Stack)
		}
		answer = append([]byte{kind}, err.Error()...)
	}
	if err := msg.Respond(answer); err != nil {
		m.cfg.Logger.Debug("answering for a block", "error", err)
	}
}

func (m *Maker) answer(ctx context.Context, ask question) ([]byte, error) {
	if err := ask.validate(); err != nil {
		return nil, err
	}
	res := &ledger.Reserve{Job: ask.Job, Span: ask.Span}
	if !m.cfg.Holds.Has(res.Range()) {
		return []byte{notHome}, nil
	}
	j, err := m.cfg.Job(ctx, ask.Job)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, homeWait)
	defer cancel()
	if err := m.learn(ctx, res.Range()); errors.Is(err, errNotHome) {
		return []byte{notHome}, nil
	} else if err != nil {
		return nil, err
	}
	err = m.cfg.InHand.Do(ctx, inhand.Work{Kind: inhand.Asked, Job: ask.Job, At: ask.Span.Lo, Again: j.Controls.Again}, func() error {
		return m.decide(ctx, j.Spec, res)
	})
	if errors.Is(err, errNotHome) {
		return []byte{notHome}, nil
	} else if err != nil {
		return nil, err
	}
	return append([]byte{answered}, ledger.EncodeEntry(res)...), nil
}

// WantHomes wakes the homes of the ranges of what is to be sent, so that no block has
// to wait for one.
func (m *Maker) WantHomes(todo []job.Span) {
	var ranges []job.Range
	for _, s := range todo {
		r := job.Range(s.Lo >> job.RangeBits)
		if n := len(ranges); m.cfg.Home(r) == "" && (n == 0 || ranges[n-1] != r) {
			ranges = append(ranges, r)
		}
	}
	if len(ranges) > 0 {
		m.cfg.Want(ranges...)
	}
}

// learn waits until a new home knows who is online.
func (m *Maker) learn(ctx context.Context, r job.Range) error {
	age, first, ok := m.cfg.Holds.Age(r)
	if left := learnFor - age; ok && left > 0 && !first {
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return fmt.Errorf("learning who is online in range %s: %w", r, ctx.Err())
		}
		ok = m.cfg.Holds.Has(r)
	}
	if !ok {
		return errNotHome
	}
	return nil
}
