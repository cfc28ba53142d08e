package api

import (
	"time"

	"crier/job"
)

// MaxParkedShown is how many of the messages that wait for a recipient are listed.
const MaxParkedShown = 50

// Recipient is what is known of a recipient at this moment.
type Recipient struct {
	Recipient job.Recipient `json:"recipient"`
	Whereabouts
	Parked      []Waits `json:"parked" doc:"What waits for its login, of the caller's tenant, in the order in which it was parked; the first 50."`
	ParkedTotal uint64  `json:"parked_total" doc:"How much that is in all."`
	Frequency   []Used  `json:"frequency" doc:"What it was charged on the day, of the caller's tenant, if there is a cap."`
	Day         string  `json:"day,omitzero" doc:"The last day on which anybody of its range was charged anything; absent: nobody was."`
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
	Job     job.ID    `json:"job"`
	Account string    `json:"account"`
	Tenant  string    `json:"tenant"`
	Since   time.Time `json:"since,omitzero" doc:"When it was parked; absent if that record is folded."`
	Expires time.Time `json:"expires"`
	Maybe   bool      `json:"maybe_seen" doc:"It was written to a connection that ended before it was acknowledged."`
}

// Used is how many messages a recipient was charged on a day.
type Used struct {
	Account   string `json:"account,omitzero" doc:"Absent: of all accounts together, of which only keys of the default tenant are told."`
	AccountID uint32 `json:"account_id,omitzero"`
	Messages  int    `json:"messages"`
}
