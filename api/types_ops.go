package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"crier/job"
)

// Explanation is one recipient's outcome in a job and what proves it.
type Explanation struct {
	Job       job.ID        `json:"job"`
	Recipient job.Recipient `json:"recipient"`
	Outcome   job.Outcome   `json:"outcome"`
	Reason    job.Reason    `json:"reason" doc:"Why it was dropped or failed; empty otherwise."`
	Because   string        `json:"because,omitzero" doc:"In words, by what a filter dropped it: the segments, or its lot in the control group."`
	Evidence  []Evidence    `json:"evidence"`
}

// Evidence is one record that bears on an outcome: a record of the ledger by its
// sequence, or a record of a folded report by the report's digest.
type Evidence struct {
	Seq    uint64     `json:"seq,omitzero" doc:"Sequence in the ledger."`
	Report job.Digest `json:"report,omitzero" doc:"Digest of the report that the record was folded into."`
	Record string     `json:"record,omitzero" doc:"The record: journal/number/entry, or its number in the report."`
	Says   string     `json:"says" doc:"What it says of the recipient, in words."`
	At     time.Time  `json:"at,omitzero"`
}

// Reconciliation is the proof of the law of conservation for one job.
type Reconciliation struct {
	Job   job.ID    `json:"job"`
	State job.State `json:"state"`
	job.Counts
	Withdrawal
	// Conserved is true only if the outcome sets are pairwise disjoint subsets of
	// the package whose union it is, every done lies inside its reserve, nothing is
	// pending once the job is sent, and the filters whose lists the job recorded
	// (relation, targeting, control group), asked again, drop just whom they dropped.
	Conserved  bool     `json:"conserved"`
	Violations []string `json:"violations,omitzero" doc:"What is wrong, if it is not conserved."`
}

// TailLedger asks for records of the ledger.
type TailLedger struct {
	// From is the first sequence wanted; 0 is the first that is stored.
	From uint64
	// Filter is a subject of the ledger with NATS wildcards; empty is all.
	Filter string
	// Follow waits for more at the end.
	Follow bool
}

// Validate refuses a filter that cannot be a subject.
func (r TailLedger) Validate() error {
	if len(r.Filter) > 256 {
		return job.Invalid("filter", "a filter has at most 256 bytes", nil)
	}
	for rest, more := r.Filter, r.Filter != ""; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		wild := token == "*" || token == ">" && !more
		if token == "" || !wild && strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' || c == '*' || c == '>' }) {
			return job.Invalid("filter", fmt.Sprintf("filter %q is no subject such as led.job.*, with > at most at its end", r.Filter), nil)
		}
	}
	return nil
}

// LedgerEntry is one record of the ledger, for reading.
type LedgerEntry struct {
	Seq     uint64    `json:"seq"`
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind" doc:"accepted, transition, claim, open, reserve, done, seal and so on."`
	Bytes   int       `json:"bytes"`
	// Detail is the record's content as JSON, shortened where it holds sets.
	Detail json.RawMessage `json:"detail,omitzero"`
}

// LedgerReport is the result of reading the whole ledger.
type LedgerReport struct {
	Valid    bool           `json:"valid"`
	Streams  []LedgerStream `json:"streams"`
	Problems []string       `json:"problems,omitzero" doc:"What is wrong, each with its sequence."`
}

// LedgerStream is the size of one stream of the ledger.
type LedgerStream struct {
	Name     string `json:"name"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Records  uint64 `json:"records"`
	Bytes    uint64 `json:"bytes"`
	Limit    uint64 `json:"limit" doc:"Bytes it may have; 0 for the reports, which only the disk limits."`
	Journals uint64 `json:"journals"`
	Sealed   uint64 `json:"sealed" doc:"How many of its journals are sealed."`
}

// Status is the one-screen summary of a server.
type Status struct {
	Healthy    bool                 `json:"healthy"`
	Since      time.Time            `json:"since" doc:"Since when it is healthy, or is not."`
	Problems   []string             `json:"problems,omitzero" doc:"Why it is not healthy."`
	Version    string               `json:"version"`
	StartedAt  time.Time            `json:"started_at"`
	Roles      []string             `json:"roles"`
	Online     uint64               `json:"online" doc:"Recipients who are online, as far as the members answered."`
	Sockets    uint64               `json:"sockets" doc:"Open connections of recipients, as far as the members answered."`
	Silent     []Silent             `json:"silent,omitzero" doc:"Members that did not answer: what they know is not counted."`
	IndexLag   *uint64              `json:"index_lag_ms,omitzero" doc:"By how many milliseconds the index of what is parked is behind the ledger; absent: it is not known."`
	Jobs       map[job.State]uint64 `json:"jobs" doc:"How many jobs are in each state."`
	Oldest     *Waiting             `json:"oldest_waiting,omitzero" doc:"The job that has waited longest, one that is blocked before any other."`
	Overstayed uint64               `json:"overstayed" doc:"How many jobs are in their state for longer than that is meant to last."`
	Stores     []Store              `json:"stores"`
	Disks      []Disk               `json:"disks,omitzero" doc:"The file systems of the members that answered."`
}

// Waiting is a job that waits, and on what.
type Waiting struct {
	Job       job.ID    `json:"job"`
	State     job.State `json:"state"`
	Since     time.Time `json:"since"`
	WaitingOn string    `json:"waiting_on"`
	Blocked   bool      `json:"blocked" doc:"It is to go on by itself: it waits neither for logins, nor for a time, nor for an operator, and is not being sent."`
}

// Store is one store's size on disk.
type Store struct {
	Name     string   `json:"name"`
	Bytes    uint64   `json:"bytes"`
	Limit    uint64   `json:"limit,omitzero" doc:"Bytes it may have; absent if nothing but the disk limits it."`
	Replicas int      `json:"replicas,omitzero" doc:"Of a stream: how many servers are to keep each record."`
	Missing  []string `json:"missing,omitzero" doc:"Those of them that do not keep it now, each with why. As long as most keep it, it goes on."`
}

// Disk is a file system and how full it is.
type Disk struct {
	Member  string   `json:"member" doc:"Whose it is."`
	Of      []string `json:"of" doc:"What is on it: data, ledger, parked, accepted (what gateways accepted), blobs."`
	Used    uint64   `json:"used"`
	Size    uint64   `json:"size" doc:"Bytes that are used or free; without what is kept for root."`
	Percent float64  `json:"percent" doc:"How much is used."`
	Level   string   `json:"level" doc:"ok, warning or critical; it falls when the use is 2 percent below the limit."`
	Warn    float64  `json:"warn" doc:"Percent from which on it is a warning."`
	Crit    float64  `json:"crit" doc:"Percent from which on it is critical."`
}

// DefaultTokenTTL is how long a token is good for if no time is asked for.
const DefaultTokenTTL = Duration(24 * time.Hour)

// MintToken asks for a recipient's token.
type MintToken struct {
	// Recipient is a pointer so that its absence is not taken for recipient 0.
	Recipient *job.Recipient `json:"recipient"`
	TTL       Duration       `json:"ttl,omitzero" doc:"How long it is good for, such as 12h or 30d; absent means 24h, at most 366d."`
}

// Validate refuses a missing recipient and a time out of its bounds.
func (r MintToken) Validate() error {
	if r.Recipient == nil {
		return job.Invalid("recipient", "a recipient is needed", nil)
	}
	if r.TTL < 0 || time.Duration(r.TTL) > job.MaxTTL {
		return job.Invalid("ttl", fmt.Sprintf("a token cannot be good for %s: want at most %s", r.TTL, Duration(job.MaxTTL)), nil)
	}
	return nil
}

// Token lets a recipient connect to a gateway.
type Token struct {
	Token     string        `json:"token"`
	Recipient job.Recipient `json:"recipient"`
	Expires   time.Time     `json:"expires"`
}

// FormatPackage is a recipient package in its envelope (.crpk).
const FormatPackage = "package"

// ExportJob asks for the recipients of a job who stand somewhere.
type ExportJob struct {
	// Standings are where; who stands at one of them is in the export.
	Standings []job.Standing
	// Format is FormatPackage, which empty means, or FormatIDs.
	Format string
}

// ParseStandings reads what StandingText writes: delivered,dropped:relation.
func ParseStandings(text string) (all []job.Standing, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		s, err := job.ParseStanding(Printable(part))
		if err != nil {
			return nil, job.Invalid("outcome", err.Error(), nil)
		}
		all = append(all, s)
	}
	return all, nil
}

// StandingText is the list of outcomes as it stands in a query.
func (r ExportJob) StandingText() string {
	var all []string
	for _, s := range r.Standings {
		all = append(all, s.String())
	}
	return strings.Join(all, ",")
}

// Chosen reports whether who stands at s is in the export.
func (r ExportJob) Chosen(s job.Standing) bool {
	return slices.ContainsFunc(r.Standings, func(x job.Standing) bool { return x.Has(s) })
}

// Validate refuses an export of nobody, a standing that there is not or that is named
// twice, and an unknown format.
func (r ExportJob) Validate() error {
	if len(r.Standings) == 0 {
		return job.Invalid("outcome", "which recipients? Name outcomes, such as failed,expired or dropped:relation", nil)
	}
	for i, s := range r.Standings {
		if err := s.Validate(); err != nil {
			return job.Invalid("outcome", err.Error(), nil)
		}
		if slices.Contains(r.Standings[:i], s) {
			return job.Invalid("outcome", fmt.Sprintf("outcome %s is named twice", s), nil)
		}
	}
	if r.Format != "" && r.Format != FormatPackage && r.Format != FormatIDs {
		return job.Invalid("format", fmt.Sprintf("format %q: want package or ids", Printable(r.Format)), nil)
	}
	return nil
}
