package job

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// MaxBody is the largest body of a message, in bytes.
const MaxBody = 256 << 10

// DefaultTTL is how long a recipient who is offline can still get the message.
const DefaultTTL = 7 * 24 * time.Hour

// MaxTTL is the longest time to live that a job may ask for.
const MaxTTL = 366 * 24 * time.Hour

// Class separates urgent jobs from the rest.
type Class uint8

// The classes.
const (
	Normal   Class = iota
	Realtime       // by priority, 99 first, then age; ahead of every normal job
)

// String is the word used in the API and the CLI.
func (c Class) String() string {
	switch c {
	case Normal:
		return "normal"
	case Realtime:
		return "realtime"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// MarshalText writes what String writes.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads "normal" or "realtime"; nothing means normal.
func (c *Class) UnmarshalText(b []byte) error {
	switch string(b) {
	case "normal", "":
		*c = Normal
	case "realtime":
		*c = Realtime
	default:
		return fmt.Errorf("class %q: want normal or realtime", b)
	}
	return nil
}

// OnUnknown is the job's policy for a recipient in doubt.
type OnUnknown uint8

// The policies.
const (
	Hold   OnUnknown = iota // stays in doubt until decided; failed(unknown) at the time to live
	Resend                  // sent again at the next login
)

// String is the word used in the API and the CLI.
func (p OnUnknown) String() string {
	switch p {
	case Hold:
		return "hold"
	case Resend:
		return "resend"
	}
	return fmt.Sprintf("on_unknown(%d)", uint8(p))
}

// MarshalText writes what String writes.
func (p OnUnknown) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads "hold" or "resend"; nothing means hold.
func (p *OnUnknown) UnmarshalText(b []byte) error {
	switch string(b) {
	case "hold", "":
		*p = Hold
	case "resend":
		*p = Resend
	default:
		return fmt.Errorf("on_unknown %q: want hold or resend", b)
	}
	return nil
}

// MaxSegments is the most segments that one job may name.
const MaxSegments = 32

// Segment is a segment at the revision that a job recorded.
type Segment struct {
	Name       string `json:"name"` // as it was, so that sending needs no SQL
	Number     uint32 `json:"number"`
	Revision   uint64 `json:"revision"`
	Blob       Digest `json:"blob"`       // holds it at that revision
	Recipients uint64 `json:"recipients"` // its cardinality
}

// Spec is a job as accepted: it is written to the ledger once and never changes.
// What may change later (rate, pause, cancel, recall) are controls.
type Spec struct {
	ID             ID        `json:"id"`
	Account        uint32    `json:"account"`                // the account's number
	AccountName    string    `json:"account_name"`           // as it was, so that sending needs no SQL
	Package        Digest    `json:"package"`                // blob that holds the recipient package
	Set            Digest    `json:"set"`                    // SHA-256 of its canonical set
	Recipients     uint64    `json:"recipients"`             // its cardinality
	FollowersRev   uint64    `json:"followers_rev"`          // revision of the account's followers
	Followers      Digest    `json:"followers"`              // blob of the followers at that revision
	Include        []Segment `json:"include,omitempty"`      // who is in none of them is dropped; none: nobody is
	Exclude        []Segment `json:"exclude,omitempty"`      // who is in one of them is dropped
	ControlGroup   Percent   `json:"control_group,omitzero"` // share of recipients that is held out
	Salt           Digest    `json:"salt,omitzero"`          // of the account, that decides who; zero without a control group
	Body           Digest    `json:"body"`                   // blob that holds the body
	BodyBytes      uint32    `json:"body_bytes"`
	Class          Class     `json:"class"`
	Priority       uint8     `json:"priority"` // 1..99, 99 first
	Rate           uint32    `json:"rate"`     // recipients a second; 0 is unlimited
	OnUnknown      OnUnknown `json:"on_unknown"`
	CollapseKey    string    `json:"collapse_key,omitempty"`
	Withdraws      ID        `json:"withdraws,omitzero"`  // the recalled job whose message clients are to take back; it has no body then
	SendOnce       *SendOnce `json:"send_once,omitempty"` // nil: as often as jobs ask for it
	Webhook        *Webhook  `json:"webhook,omitempty"`   // nil: nobody outside is told
	Request        Digest    `json:"request"`             // SHA-256 of the submitted request, for idempotency
	IdempotencyKey string    `json:"idempotency_key,omitempty"`
	Nonce          Digest    `json:"nonce"` // random: tells one submit from another
	SubmittedAt    time.Time `json:"submitted_at"`
	DisplayAt      time.Time `json:"display_at,omitzero"`
	ExpiresAt      time.Time `json:"expires_at"`
	Tenant         string    `json:"tenant,omitempty"`       // who owns it; see TenantOf
	SubmittedBy    string    `json:"submitted_by,omitempty"` // id of the key
	Why            string    `json:"why,omitempty"`          // the submitter's reason
}

// TenantOf is the tenant that owns the job. Jobs from before there were tenants say
// nothing: they are the default tenant's.
func (s Spec) TenantOf() string { return cmp.Or(s.Tenant, DefaultTenant) }

// Validate names the first field that is out of its bounds.
func (s Spec) Validate() error {
	switch {
	case s.ID.IsZero():
		return Invalid("id", "a job needs an id", nil)
	case s.Package.IsZero():
		return Invalid("package", "a job needs a recipient package", nil)
	case s.Priority < 1 || s.Priority > 99:
		return Invalid("priority", fmt.Sprintf("priority %d is not between 1 and 99", s.Priority), nil)
	case s.Class > Realtime:
		return Invalid("class", fmt.Sprintf("%s is neither normal nor realtime", s.Class), nil)
	case s.OnUnknown > Resend:
		return Invalid("on_unknown", fmt.Sprintf("%s is neither hold nor resend", s.OnUnknown), nil)
	case s.BodyBytes > MaxBody:
		return &Error{Code: CodeTooLarge, Field: "body", Message: fmt.Sprintf("body of %d bytes is over %d", s.BodyBytes, MaxBody)}
	case s.Withdraws == s.ID:
		return Invalid("withdraws", "a job cannot withdraw itself", nil)
	case !s.Withdraws.IsZero() && (s.BodyBytes > 0 || !s.Body.IsZero()):
		return Invalid("body", "a job that withdraws another has no message of its own", nil)
	case !s.ExpiresAt.After(s.SubmittedAt):
		return Invalid("ttl", "the time to live must be positive", nil)
	case s.ExpiresAt.Sub(s.SubmittedAt) > MaxTTL:
		return Invalid("ttl", fmt.Sprintf("the time to live is over %d days", MaxTTL/(24*time.Hour)), nil)
	case len(s.CollapseKey) > 128:
		return Invalid("collapse_key", "a collapse key has at most 128 bytes", nil)
	case s.SendOnce != nil && s.SendOnce.Key.IsZero():
		return Invalid("send_once", "what is sent once needs a key", nil)
	case s.SendOnce != nil && (s.SendOnce.Window <= 0 || s.SendOnce.Window > MaxTTL):
		return Invalid("send_once.window", fmt.Sprintf("the window of what is sent once must be positive and at most %d days", MaxTTL/(24*time.Hour)), nil)
	}
	if err := s.Webhook.Validate(); err != nil {
		return err
	}
	return s.validateAudience()
}

func (s Spec) validateAudience() error {
	switch {
	case slices.ContainsFunc(s.Include, Segment.isLoose):
		return Invalid("include_segments", "a segment is not fixed at a revision", nil)
	case slices.ContainsFunc(s.Exclude, Segment.isLoose):
		return Invalid("exclude_segments", "a segment is not fixed at a revision", nil)
	case len(s.Include)+len(s.Exclude) > MaxSegments:
		return Invalid("include_segments", fmt.Sprintf("a job names at most %d segments, this one %d", MaxSegments, len(s.Include)+len(s.Exclude)), nil)
	case s.ControlGroup.Validate() != nil:
		return Invalid("control_group", fmt.Sprintf("a control group of %s is more than everybody", s.ControlGroup), nil)
	case !s.ControlGroup.IsZero() && s.Salt.IsZero():
		return Invalid("control_group", "a control group needs the account's salt", nil)
	}
	return nil
}

// isLoose reports whether the segment names no set.
func (s Segment) isLoose() bool { return s.Name == "" || s.Blob.IsZero() }

// Control is an instruction to a job that is under way. A nil field changes
// nothing; controls add up in the order of the ledger.
type Control struct {
	Pause  *bool     `json:"pause,omitempty"`
	Again  uint64    `json:"again,omitempty"` // the version of the job's quarantine that this ends
	Cancel bool      `json:"cancel,omitempty"`
	Recall bool      `json:"recall,omitempty"`
	Rate   *uint32   `json:"rate,omitempty"`  // recipients a second; 0 is unlimited
	Doubt  *Decision `json:"doubt,omitempty"` // ends a hold of what is in doubt
	By     string    `json:"by,omitempty"`    // id of the key of who asked
	Why    string    `json:"why,omitempty"`   // the reason that was given
	At     time.Time `json:"at"`
}

// Decision is what an operator orders for recipients in doubt.
type Decision uint8

// The decisions.
const (
	DecideResend Decision = iota + 1 // parked again, flagged
	DecideDrop                       // failed(unknown)
)

// Controls is the sum of a job's controls.
type Controls struct {
	Paused    bool
	PausedBy  string // id of the key of who paused it, or RestoreKey; "" if that is not known
	PausedWhy string // the reason that was given for it
	Again     uint64 // the highest version whose quarantine was ended; 0 if none was
	Cancelled bool
	Recalled  bool
	Reason    string // of the first recall
	Rate      *uint32
	Doubt     Decision // the latest, 0 if none was given
}

// Apply adds one control. A cancel is final, and so is a recall: a cancel that comes after
// it changes nothing. Either ends a pause, and of what comes after it, whoever sent that
// without having heard of it, only another recall and a decision on doubt count.
func (c *Controls) Apply(x Control) {
	if c.Over() == Parked {
		c.apply(x)
	}
	c.Cancelled = c.Cancelled || x.Cancel && !c.Recalled
	if x.Recall && !c.Recalled {
		c.Recalled, c.Reason = true, x.Why
	}
	c.Paused = c.Paused && c.Over() == Parked
	if x.Doubt != nil {
		c.Doubt = *x.Doubt
	}
}

// apply adds what counts only while the job may be sent.
func (c *Controls) apply(x Control) {
	if x.Pause != nil {
		c.Paused, c.PausedBy, c.PausedWhy = *x.Pause, "", ""
	}
	if x.Pause != nil && *x.Pause {
		c.PausedBy, c.PausedWhy = x.By, x.Why
	}
	c.Again = max(c.Again, x.Again)
	if x.Rate != nil {
		c.Rate = x.Rate
	}
}

// PauseReason is the reason of the state that a pause leads to.
func (c Controls) PauseReason() string {
	switch {
	case c.PausedBy == RestoreKey:
		return "a backup was restored"
	case c.PausedWhy != "":
		return "pause was asked for: " + c.PausedWhy
	}
	return "pause was asked for"
}

// RecallReason is the reason of the state that a recall leads to.
func (c Controls) RecallReason() string {
	if c.Reason == "" {
		return "recall was asked for"
	}
	return "recall was asked for: " + c.Reason
}

// Over is what becomes of those whom the job has not reached: Cancelled or Recalled, or
// Parked while it may be sent. What was cancelled before a recall stays cancelled.
func (c Controls) Over() Outcome {
	switch {
	case c.Cancelled:
		return Cancelled
	case c.Recalled:
		return Recalled
	}
	return Parked
}
