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
		{"hand-off", &handoff.Handoff{Ref: ref, To: inc, Job: id, Urgent: 99, Targets: targets, Settled: ref}, parser(handoff.ParseHandoff)},
		{"hand-off with a body", &handoff.Handoff{Ref: ref, To: inc, Job: id, Targets: targets, Message: &handoff.Message{Account: 7, AccountName: "news", Body: []byte("hello"),
			SentAt: 1, DisplayAt: -1, ExpiresAt: 1 << 50, CollapseKey: "k"}}, parser(handoff.ParseHandoff)},
		{"report", &report, parser(handoff.ParseReport)},
		{"answer", &handoff.Answer{Kind: handoff.Accepted, Reports: []handoff.Report{report, report}}, parser(handoff.ParseAnswer)},
		{"recorded", &handoff.Recorded{Ref: ref, Inc: inc, Version: 1, Settled: ref}, parser(handoff.ParseRecorded)},
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
