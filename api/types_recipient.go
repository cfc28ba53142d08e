package api

import (
	"time"

	"crier/job"
)

// MaxParkedShown is how many of the messages that wait for a recipient are listed, MaxRecent how
// many of the last jobs that have it in their package, looked for among MaxRecentLooked of the newest.
const MaxParkedShown, MaxRecent, MaxRecentLooked = 50, 10, 100

// Recipient is what is known of a recipient at this moment.
type Recipient struct {
	Recipient job.Recipient `json:"recipient"`
	Whereabouts
	Parked      []Waits  `json:"parked" doc:"What waits for its login, of the caller's tenant, in the order in which it was parked; the first 50."`
	ParkedTotal uint64   `json:"parked_total" doc:"How much that is in all."`
	Frequency   []Used   `json:"frequency" doc:"What it was charged on the day, of the caller's tenant, if there is a cap."`
	Zone        string   `json:"zone,omitzero" doc:"The time zone whose day that is, as the process that answers is configured; absent if it is without caps."`
	Recent      []Recent `json:"recent" doc:"The last 10 jobs of the caller's tenant that have it in their package, the newest first, as far as they are among the tenant's newest 100."`
	Day         string   `json:"day,omitzero" doc:"Today, if the process that answers is configured with caps; else the last day on which anybody of its range was charged anything. Absent: nobody was."`
}

// Whereabouts is where a recipient is connected. Only keys of the default tenant are told.
type Whereabouts struct {
	Online  []Connected `json:"online" doc:"The gateways to which it is connected. Empty for keys of other tenants than default."`
	Home    string      `json:"home,omitzero" doc:"The worker that is home to it."`
	Primary string      `json:"primary,omitzero" doc:"The gateway, and which start of it, to which its messages are handed, as the home has it."`
	Silent  []Silent    `json:"silent,omitzero" doc:"Members that did not answer: it may be connected there."`
}

// Connected is a recipient's connections to one gateway.
type Connected struct {
	Gateway     string    `json:"gateway"`
	Connections int       `json:"connections"`
	Since       time.Time `json:"since" doc:"When the oldest of them was made."`
}

// Waits is a message that waits for a recipient.
type Waits struct {
	Job       job.ID    `json:"job"`
	Account   string    `json:"account"`
	Tenant    string    `json:"tenant"`
	Since     time.Time `json:"since,omitzero" doc:"When it was parked; absent if that record is folded."`
	Expires   time.Time `json:"expires"`
	Withdraws job.ID    `json:"withdraws,omitzero" doc:"It has no message, but asks to take that of this recalled job off the display."`
	Maybe     bool      `json:"maybe_seen" doc:"It was written to a connection that ended before it was acknowledged."`
}

// Recent is one of the last jobs that have a recipient in their package.
type Recent struct {
	Job       job.ID       `json:"job"`
	Account   string       `json:"account"`
	Tenant    string       `json:"tenant"`
	State     job.State    `json:"state"`
	Submitted time.Time    `json:"submitted_at"`
	Outcome   *job.Outcome `json:"outcome,omitzero" doc:"What became of it for the recipient, as explain-job tells with evidence."`
	Reason    job.Reason   `json:"reason,omitzero" doc:"Why it was dropped or failed."`
	Unknown   string       `json:"unknown,omitzero" doc:"Instead of an outcome: why it cannot be told now, or not even whether the recipient is in the package."`
}

// Used is how many messages a recipient was charged on a day.
type Used struct {
	Account   string  `json:"account,omitzero" doc:"Absent: of all accounts together, of which only keys of the default tenant are told."`
	AccountID *uint32 `json:"account_id,omitzero"`
	Messages  int     `json:"messages"`
	Cap       int     `json:"cap,omitzero" doc:"How many it gets in a day, as the process that answers is configured; absent: any number."`
}

// Erase asks to forget a recipient.
type Erase struct {
	Reason string `json:"reason" doc:"Why, for the audit log: printable text of at most 256 bytes. It must be given."`
}

// Validate refuses a reason that is missing or cannot stand on a terminal.
func (r Erase) Validate() error {
	if r.Reason == "" {
		return job.Invalid("reason", "say why a recipient is erased, for the audit log", nil)
	}
	return validateReason(r.Reason)
}

// Erasure is what was erased of a recipient, by this request.
type Erasure struct {
	Recipient   job.Recipient `json:"recipient"`
	Record      uint64        `json:"record" doc:"Sequence of the record in the ledger before which nothing counts for the recipient any more."`
	Connections int           `json:"connections" doc:"Its connections, which are closed."`
	Keys        int           `json:"keys" doc:"Keys of its devices, which are revoked."`
	Followed    uint64        `json:"followed" doc:"Accounts that it does not follow any more."`
	Segments    uint64        `json:"segments" doc:"Segments that it is not in any more."`
	Parked      uint64        `json:"parked" doc:"Messages that waited for it, which are dropped: suppressed."`
	Left        uint64        `json:"left" doc:"Those of them that are not dropped yet; they are when their range has a home."`
	Kept        []Kept        `json:"kept" doc:"What is kept of it all the same."`
}

// Kept is something that an erasure leaves.
type Kept struct {
	What string `json:"what"`
}
