package lastmile

import (
	"fmt"
	"slices"
	"time"
)

// What is wanted of a gateway.
const (
	WantRatio         = 0.6      // of the bare loop's rate
	WantPerConnection = 16 << 10 // bytes of an idle connection at most
)

// Result is what a run measured.
type Result struct {
	Connections int `json:"connections"`
	Messages    int `json:"messages"` // of the server in all rounds; each acknowledged, and recorded by the ledger
	FrameBytes  int `json:"frame_bytes"`
	AckBytes    int `json:"ack_bytes"`

	MessagesPerS float64 `json:"messages_per_s"` // the median round
	BarePerS     float64 `json:"bare_per_s"`     // the median round
	Ratio        float64 `json:"ratio"`          // the median of the rounds' ratios
	WantRatio    float64 `json:"want_ratio"`
	// CPURatio is the processor time of the bare loop's server for a message against ours: what
	// the ratio would be if nothing but these two took time. The machine's load is not in it.
	CPURatio float64 `json:"cpu_ratio"`
	PerRound []Speed `json:"rounds"`

	RSSPerConnection  uint64 `json:"rss_per_connection"`  // idle; resident memory with garbage and what the runtime keeps
	HeapPerConnection uint64 `json:"heap_per_connection"` // idle; heap and stacks in use
	WantPerConnection uint64 `json:"want_per_connection"`

	Conserved  bool     `json:"conserved"`
	Twice      int      `json:"twice"`
	Violations []string `json:"violations,omitempty"` // of what was promised
	Missed     []string `json:"missed,omitempty"`     // of what was wanted
}

// Speed is one round.
type Speed struct {
	MessagesPerS float64 `json:"messages_per_s"`
	BarePerS     float64 `json:"bare_per_s"`
	Ratio        float64 `json:"ratio"`
	CPUMicros    float64 `json:"cpu_us_per_message"` // of the server: all of it, from the submits to the ledger
	BareMicros   float64 `json:"bare_cpu_us_per_message"`
}

// Spent is what one side took for its messages.
type Spent struct{ Time, CPU time.Duration }

func (r *Result) add(messages int, crier, bare Spent) {
	r.Messages += messages
	n := float64(messages)
	s := Speed{MessagesPerS: n / crier.Time.Seconds(), BarePerS: n / bare.Time.Seconds(),
		CPUMicros: crier.CPU.Seconds() * 1e6 / n, BareMicros: bare.CPU.Seconds() * 1e6 / n}
	s.Ratio = s.MessagesPerS / s.BarePerS
	r.PerRound = append(r.PerRound, s)
}

func (r *Result) violate(format string, a ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, a...))
}

// seen compares what the readers got from one side with what that side sent to all.
func (r *Result) seen(side string, got Report, sent []string, connections int) {
	for _, id := range sent {
		if n := got.Jobs[id]; n != connections {
			r.violate("%d of %d readers got message %s from %s", n, connections, id, side)
		}
	}
	for id := range got.Jobs {
		if !slices.Contains(sent, id) {
			r.violate("readers got message %s, which %s did not send", id, side)
		}
	}
	if got.Twice > 0 {
		r.violate("%d messages from %s came twice", got.Twice, side)
	}
	if got.Strange > 0 {
		r.violate("%d ids were to be forgotten that readers did not remember", got.Strange)
	}
	if got.Ended > 0 || got.Error != "" {
		r.violate("%d connections to %s were lost: %s", got.Ended, side, got.Error)
	}
}

// conclude works out the medians, and what they lack.
func (r *Result) conclude(of Run) {
	r.Connections, r.WantRatio, r.WantPerConnection = of.Connections, WantRatio, WantPerConnection
	r.MessagesPerS = median(r.PerRound, func(s Speed) float64 { return s.MessagesPerS })
	r.BarePerS = median(r.PerRound, func(s Speed) float64 { return s.BarePerS })
	r.Ratio = median(r.PerRound, func(s Speed) float64 { return s.Ratio })
	if ours := median(r.PerRound, func(s Speed) float64 { return s.CPUMicros }); ours > 0 {
		r.CPURatio = median(r.PerRound, func(s Speed) float64 { return s.BareMicros }) / ours
	}
	if r.Ratio < WantRatio {
		r.Missed = append(r.Missed, fmt.Sprintf("%.2f of the bare loop's rate; wanted are %.2f", r.Ratio, WantRatio))
	}
	if r.RSSPerConnection > WantPerConnection {
		r.Missed = append(r.Missed, fmt.Sprintf("%d bytes for an idle connection; wanted are at most %d", r.RSSPerConnection, WantPerConnection))
	}
}

// median is the middle one, of an even number the lower of two.
func median(rounds []Speed, of func(Speed) float64) float64 {
	var all []float64
	for _, s := range rounds {
		all = append(all, of(s))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}
