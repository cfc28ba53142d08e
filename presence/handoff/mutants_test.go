package handoff_test

import (
	"bytes"
	"errors"
	"testing"

	"crier/internal/badinput"
	"crier/internal/bin"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
)

// message is one that can be written.
type message interface{ Bytes() []byte }

func parser[T message](parse func([]byte) (T, error)) func([]byte) (message, error) {
	return func(b []byte) (message, error) {
		m, err := parse(b)
		return m, err
	}
}

// together is messages that go in one.
type together[T message] []T

func (all together[T]) Bytes() (b []byte) {
	for _, m := range all {
		b = append(b, m.Bytes()...)
	}
	return b
}

func several[T message](parse func([]byte) ([]T, error)) func([]byte) (message, error) {
	return func(b []byte) (message, error) {
		all, err := parse(b)
		return together[T](all), err
	}
}

// TestMutants gives every decoder mutants of every message: what is taken is written and
// read again as the same, and takes no more memory than its bytes can ask for, 8 KiB for
// each container, which has at least 5 bytes.
func TestMutants(t *testing.T) {
	targets := idset.Of(5, 6, 7, 70_000, 1<<20-1)
	targets.AddSpan(job.Span{Lo: 200_000, Hi: 300_000})
	ref := job.Ref{Journal: job.Journal{Worker: "w-1", Incarnation: 3}, N: 1 << 40, Entry: 7}
	inc := job.Incarnation{Gateway: "g-1", Start: 9}
	id := job.ID{1, 2, 3}
	report := handoff.Report{Ref: ref, Inc: inc, Job: id, Version: 5, Rest: handoff.RestAcked, Waiting: idset.Of(5), Mute: idset.Of(6), Refused: idset.Of(70_000)}
	for _, c := range []struct {
		what  string
		m     message
		parse func([]byte) (message, error)
	}{
		{"hand-off", &handoff.Handoff{Ref: ref, To: inc, Job: id, Urgent: 99, Targets: targets, Settled: ref}, several(handoff.ParseHandoffs)},
		{"hand-off with a body", &handoff.Handoff{Ref: ref, To: inc, Job: id, Targets: targets, Message: &handoff.Message{Account: 7, AccountName: "news", Body: []byte("hello"),
			SentAt: 1, DisplayAt: -1, ExpiresAt: 1 << 50, CollapseKey: "k"}}, several(handoff.ParseHandoffs)},
		{"report", &report, several(handoff.ParseReports)},
		{"answer", &handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{report, report}}, several(handoff.ParseAnswers)},
		{"recorded", &handoff.Recorded{Ref: ref, Inc: inc, Version: 1, Settled: ref}, several(handoff.ParseRecorded)},
		{"two hand-offs", together[*handoff.Handoff]{{Ref: ref, To: inc, Job: id, Targets: idset.Of(9)}, {Ref: ref, To: inc, Job: job.ID{4}, Targets: targets, Message: &handoff.Message{Body: []byte("x")}}}, several(handoff.ParseHandoffs)},
		{"three reports", together[*handoff.Report]{&report, {Ref: ref, Inc: inc, Job: id}, &report}, several(handoff.ParseReports)},
		{"fence", &handoff.Fence{Journal: ref.Journal, To: inc, By: job.Journal{Worker: "w-2", Incarnation: 1}}, parser(handoff.ParseFence)},
		{"settle", &handoff.Settle{Inc: inc, Recipient: 70_000, Jobs: []job.ID{id, {9}}}, parser(handoff.ParseSettle)},
		{"announcement", &handoff.Announce{Inc: inc, Round: 2, Seq: 3, Join: targets, Leave: idset.Of(9), Hellos: []handoff.Hello{{Recipient: 5, Client: 77, Speaks: true, Have: []job.ID{id}}}}, parser(handoff.ParseAnnounce)},
		{"beat", &handoff.Beat{Inc: inc, URL: "ws://x/v1/connect", Ranges: []handoff.Announced{{Range: 3, Round: 1, Seq: 2}, {Range: 4095, Round: 1, Seq: 1}}}, parser(handoff.ParseBeat)},
		{"reception", handoff.TakenIn, parser(handoff.ParseReception)},
		{"anew", &handoff.Anew{Inc: inc, Ranges: []job.Range{1, 2, 4095}}, parser(handoff.ParseAnew)},
		{"redirect", &handoff.Redirect{Inc: inc, To: "ws://y/", Who: targets}, parser(handoff.ParseRedirect)},
		{"want", &handoff.Want{Ranges: []job.Range{7, 8}}, parser(handoff.ParseWant)},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := c.m.Bytes()
			if m, err := c.parse(b); err != nil || !bytes.Equal(m.Bytes(), b) {
				t.Fatalf("the message itself is read as %+v, %v", m, err)
			}
			badinput.Feed(t, func(n int) uint64 { return 256<<10 + 2<<10*uint64(n) }, func(m badinput.Mutant) bool {
				got, err := c.parse(m.Bytes)
				if err != nil {
					if !errors.Is(err, bin.ErrBytes) && c.what != "reception" {
						t.Errorf("%s: %v", m, err)
					}
					return false
				}
				if again, err := c.parse(got.Bytes()); err != nil || !bytes.Equal(again.Bytes(), got.Bytes()) {
					t.Errorf("%s is read, written and read as another: %v", m, err)
				}
				return true
			}, b)
		})
	}
}

// TestTogether: as many messages go in one as may, no more, and what has a message is the last.
func TestTogether(t *testing.T) {
	h := &handoff.Handoff{Ref: job.Ref{N: 1}, Job: job.ID{1}, Targets: idset.Of(9)}
	b := bytes.Repeat(h.Bytes(), handoff.Together)
	if all, err := handoff.ParseHandoffs(b); err != nil || len(all) != handoff.Together {
		t.Errorf("%d hand-offs are read: %v", len(all), err)
	}
	if all, err := handoff.ParseHandoffs(append(b, h.Bytes()...)); !errors.Is(err, bin.ErrBytes) || all != nil {
		t.Errorf("one too many: %d are read, %v", len(all), err)
	}
	for _, empty := range [][]byte{nil, {}} {
		if all, err := handoff.ParseReports(empty); !errors.Is(err, bin.ErrBytes) || all != nil {
			t.Errorf("nothing at all is read as %d reports, %v", len(all), err)
		}
	}
	body := *h
	body.Message = &handoff.Message{Body: []byte("x"), Withdraws: job.ID{5}}
	if all, err := handoff.ParseHandoffs(append(body.Bytes(), h.Bytes()...)); !errors.Is(err, bin.ErrBytes) || all != nil {
		t.Errorf("one with a message before another: %d are read, %v", len(all), err)
	}
	if all, err := handoff.ParseHandoffs(append(h.Bytes(), body.Bytes()...)); err != nil || len(all) != 2 || all[1].Message == nil {
		t.Errorf("one with a message behind another: %d are read, %v", len(all), err)
	}
}
