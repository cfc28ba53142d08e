package api

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"crier/job"
)

// AudienceFollowers asks for a job to everyone who follows the account.
const AudienceFollowers = "followers"

// DefaultPriority is the priority of a job that asks for none.
const DefaultPriority = 50

// SubmitJob asks for a job.
type SubmitJob struct {
	Account string `json:"account" doc:"Name or id of the account that sends."`
	// Package and Audience exclude each other; one is needed.
	Package  job.Digest `json:"package,omitzero" doc:"Id of the recipient package, 64 hexadecimal characters."`
	Audience string     `json:"audience,omitzero" enum:"followers" doc:"\"followers\": everyone who follows the account at this moment."`
	// Of the recipients those stay who are in one of the segments to include, if there are
	// any, and in none of those to exclude. The segments are those of this moment.
	IncludeSegments []string `json:"include_segments,omitzero" doc:"Names of segments: who is in none of them gets nothing; absent means all are in. At most 32 with those to exclude."`
	ExcludeSegments []string `json:"exclude_segments,omitzero" doc:"Names of segments: who is in one of them gets nothing."`
	// ControlGroup is held out: the same recipients in each job of the account, and more of
	// them at a larger share.
	ControlGroup float64 `json:"control_group,omitzero" minimum:"0" maximum:"100" doc:"Percent of all recipients, such as 0.5, that are held out, always the same ones of the account; at most four decimals; absent means nobody."`
	// Body and BodyBase64 exclude each other; one is needed. UTF-8, at most job.MaxBody bytes.
	Body        string        `json:"body,omitzero" doc:"The message: UTF-8, at most 262,144 bytes."`
	BodyBase64  []byte        `json:"body_base64,omitzero" doc:"The message in base 64, instead of body."`
	Class       job.Class     `json:"class,omitzero" enum:"normal,realtime" doc:"normal (default) or realtime."`
	Priority    uint8         `json:"priority,omitzero" minimum:"1" maximum:"99" doc:"1 to 99, 99 first; absent, or 0, means 50."`
	Rate        uint32        `json:"rate,omitzero" doc:"Recipients handed to gateways a second; absent means unlimited."`
	TTL         Duration      `json:"ttl,omitzero" doc:"How long the message may wait for a login, such as 36h or 7d; absent means 7d, at most 366d."`
	OnUnknown   job.OnUnknown `json:"on_unknown,omitzero" enum:"hold,resend" doc:"What becomes of a recipient in doubt: hold (default) or resend."`
	CollapseKey string        `json:"collapse_key,omitzero" doc:"Of the messages with this key only the newest is parked for a recipient, the older ones are dropped (collapsed), and a client displays only the newest. At most 128 bytes."`
	SendOnce    *SendOnce     `json:"send_once,omitzero" doc:"Whoever got the same before does not get it again; absent means that everybody does."`
	DisplayAt   time.Time     `json:"display_at,omitzero" doc:"When clients show it; absent means at once."`
	Webhook     *job.Webhook  `json:"webhook,omitzero" doc:"Whom to tell, by a signed POST of the event, when the job comes into a state; absent means nobody. The tenant needs a webhook secret."`
	// IdempotencyKey travels in the header Idempotency-Key. Empty means none;
	// otherwise 1 to 255 printable ASCII characters.
	IdempotencyKey string `json:"-"`
}

// SendOnce says what the same is.
type SendOnce struct {
	Key    string   `json:"key,omitzero" doc:"Jobs with the same key bring the same; absent means those with the same message do. At most 128 bytes."`
	Window Duration `json:"window,omitzero" doc:"For how long, such as 36h or 7d; absent means 30d, at most 366d."`
	Scope  string   `json:"scope,omitzero" enum:"account,all" doc:"Among the jobs of the account (default), or of all accounts."`
}

// The scopes of a send-once key.
const (
	ScopeAccount = "account"
	ScopeAll     = "all"
)

// validate names the first field that is out of its bounds.
func (o *SendOnce) validate() error {
	switch {
	case o == nil:
		return nil
	case len(o.Key) > 128:
		return job.Invalid("/send_once/key", "a key of what is sent once has at most 128 bytes", nil)
	case o.Window < 0 || time.Duration(o.Window) > job.MaxTTL:
		return job.Invalid("/send_once/window", fmt.Sprintf("a window of %s: want more than 0 and at most %s", o.Window, Duration(job.MaxTTL)), nil)
	case o.Scope != "" && o.Scope != ScopeAccount && o.Scope != ScopeAll:
		return job.Invalid("/send_once/scope", fmt.Sprintf("scope %q: want account or all", o.Scope), nil)
	}
	return nil
}

// Message is the body, whichever way it was given.
func (r SubmitJob) Message() []byte {
	if r.Body != "" {
		return []byte(r.Body)
	}
	return r.BodyBase64
}

// Validate names the first field that is out of its bounds.
func (r SubmitJob) Validate() error {
	switch {
	case r.Account == "":
		return job.Invalid("account", "a job needs the account that sends it", nil)
	case r.Package.IsZero() && r.Audience == "":
		return job.Invalid("package", "a job needs a package, or the audience \"followers\"", nil)
	case !r.Package.IsZero() && r.Audience != "":
		return job.Invalid("audience", "a job has a package or an audience, not both", nil)
	case r.Audience != "" && r.Audience != AudienceFollowers:
		return job.Invalid("audience", fmt.Sprintf("audience %q: want followers", r.Audience), nil)
	case r.Priority > 99:
		return job.Invalid("priority", fmt.Sprintf("priority %d is not between 1 and 99", r.Priority), nil)
	case r.TTL < 0 || time.Duration(r.TTL) > job.MaxTTL:
		return job.Invalid("ttl", fmt.Sprintf("a time to live of %s: want more than 0 and at most %s", r.TTL, Duration(job.MaxTTL)), nil)
	case len(r.CollapseKey) > 128:
		return job.Invalid("collapse_key", "a collapse key has at most 128 bytes", nil)
	}
	if err := cmp.Or(r.SendOnce.validate(), r.Webhook.Validate()); err != nil {
		return err
	}
	if err := ValidateIdempotencyKey(r.IdempotencyKey); err != nil {
		return err
	}
	if err := r.validateTargets(); err != nil {
		return err
	}
	return r.validateBody()
}

func (r SubmitJob) validateBody() error {
	field, body := "body", r.Message()
	if len(r.BodyBase64) > 0 {
		field = "body_base64"
	}
	switch {
	case r.Body != "" && len(r.BodyBase64) > 0:
		return job.Invalid(field, "a job has body or body_base64, not both", nil)
	case len(body) == 0:
		return job.Invalid(field, "a job needs a message", nil)
	case len(body) > job.MaxBody:
		return &job.Error{Code: job.CodeTooLarge, Field: field,
			Message: fmt.Sprintf("a message of %d bytes is over %d", len(body), job.MaxBody)}
	case !utf8.Valid(body):
		return job.Invalid(field, "a message is UTF-8, this one is not", nil)
	}
	return nil
}

// ValidateIdempotencyKey refuses a key that cannot travel in a header.
func ValidateIdempotencyKey(key string) error {
	if len(key) > 255 {
		return job.Invalid("Idempotency-Key", fmt.Sprintf("an idempotency key has at most 255 characters, this one has %d", len(key)), nil)
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return job.Invalid("Idempotency-Key",
				fmt.Sprintf("an idempotency key has printable ASCII characters without spaces; character %d is none", i+1), nil)
		}
	}
	return nil
}

// Job is a job as it stands.
type Job struct {
	Job            job.ID            `json:"job"`
	State          job.State         `json:"state"`
	Version        uint64            `json:"version" doc:"Number of the state in the job's life; each change adds one."`
	Reason         string            `json:"reason,omitzero" doc:"In words: why it came to this state."`
	WaitingOn      string            `json:"waiting_on,omitzero" doc:"In words: what it waits for."`
	Owner          string            `json:"owner,omitzero" enum:"api,scheduler,workers,operator" doc:"Who moves it on; absent when it is over."`
	Due            time.Time         `json:"due,omitzero" doc:"From when on it overstays its state, if nothing is done of it until then; absent if it may stay."`
	Overstayed     bool              `json:"overstayed,omitzero" doc:"It is in its state for longer than that is meant to last."`
	Tries          uint32            `json:"tries,omitzero" doc:"How often it was taken from its scheduler because it overstayed this state."`
	Paused         bool              `json:"paused" doc:"It was paused, by an operator or by the restore of a backup."`
	PausedBy       string            `json:"paused_by,omitzero" doc:"Id of the key that paused it; restore: the restore of a backup did. Absent if that is not known."`
	PausedWhy      string            `json:"paused_why,omitzero" doc:"The reason that was given for the pause."`
	Account        string            `json:"account"`
	AccountID      uint32            `json:"account_id"`
	Tenant         string            `json:"tenant"`
	SubmittedBy    string            `json:"submitted_by,omitzero" doc:"Id of the key that submitted it; absent if it is from before there were keys."`
	Class          job.Class         `json:"class" enum:"normal,realtime"`
	Priority       uint8             `json:"priority"`
	Rate           uint32            `json:"rate" doc:"Recipients a second as it is now; 0 is unlimited."`
	OnUnknown      job.OnUnknown     `json:"on_unknown" enum:"hold,resend"`
	Decision       string            `json:"decision,omitzero" doc:"An operator's decision on who is or comes in doubt, instead of on_unknown: resend or drop."`
	Package        job.Digest        `json:"package" doc:"SHA-256 of the canonical set of its recipients."`
	Recipients     uint64            `json:"recipients"`
	Revision       uint64            `json:"followers_revision" doc:"Revision of the account's followers that it uses."`
	Include        []SegmentRef      `json:"include_segments,omitzero" doc:"Who is in none of these is dropped; absent means nobody is."`
	Exclude        []SegmentRef      `json:"exclude_segments,omitzero" doc:"Who is in one of these is dropped."`
	ControlGroup   float64           `json:"control_group,omitzero" doc:"Percent of all recipients that are held out."`
	BodyBytes      uint32            `json:"body_bytes"`
	CollapseKey    string            `json:"collapse_key,omitzero"`
	SendOnce       *Once             `json:"send_once,omitzero"`
	IdempotencyKey string            `json:"idempotency_key,omitzero"`
	SubmittedAt    time.Time         `json:"submitted_at"`
	UpdatedAt      time.Time         `json:"updated_at" doc:"When it came to this state."`
	DisplayAt      time.Time         `json:"display_at,omitzero"`
	ExpiresAt      time.Time         `json:"expires_at"`
	Withdraws      job.ID            `json:"withdraws,omitzero" doc:"It has no message, but takes back that of this recalled job."`
	Webhook        *job.WebhookState `json:"webhook,omitzero" doc:"Who is told of its states."`
	// Counts is the progress as far as it is known; reconcile gives the proof.
	Counts job.Counts `json:"counts"`
	Withdrawal
}

// Withdrawal is what becomes of what a recalled job had delivered.
type Withdrawal struct {
	Withdrawal job.ID `json:"withdrawal,omitzero" doc:"Of a recalled job: the job that takes its message back from whoever has it."`
	Withdrawn  uint64 `json:"withdrawn,omitzero" doc:"How many recipients' clients have taken it back. Who had it stays counted as delivered."`
	// Withdrawing goes down to 0, at the latest at the end of the withdrawal's time to live.
	Withdrawing uint64 `json:"withdrawing,omitzero" doc:"From how many recipients it is still being taken back; absent when that is done."`
	Refused     uint64 `json:"withdrawal_refused,omitzero" doc:"How many recipients' clients cannot take a message back, and keep it."`
}

// Once is what a job sends once.
type Once struct {
	Key    job.OnceKey `json:"key" doc:"Stands for the key and its scope, or for the message: equal in all jobs that bring the same."`
	Window Duration    `json:"window"`
}

// Done is the number of recipients that the job has dealt with once: all but
// the pending ones.
func (j Job) Done() uint64 {
	if j.Counts.Pending > j.Recipients {
		return 0
	}
	return j.Recipients - j.Counts.Pending
}

// JobStates lists the states of a job by name, in the order of its life.
func JobStates() (names []string) {
	for s := job.Submitted; s <= job.FailedOver; s++ {
		names = append(names, s.String())
	}
	return names
}

// ListJobs asks for jobs. Empty filters match all.
type ListJobs struct {
	Page
	// Account is a name or an id.
	Account string
	// State is the only state wanted, by its name; paused is also what is sent and was paused.
	State string
	// Stuck asks for those only that overstay their state, the longest first.
	Stuck bool
}

// Validate refuses an unknown state and a bad page.
func (r ListJobs) Validate() error {
	if err := r.Page.Validate(); err != nil {
		return err
	}
	if r.State == "" {
		return nil
	}
	var s job.State
	if err := s.UnmarshalText([]byte(r.State)); err != nil {
		return job.Invalid("state", fmt.Sprintf("state %q: want one of %s", Printable(r.State), strings.Join(JobStates(), ", ")), nil)
	}
	return nil
}

// JobList is one page of jobs.
type JobList struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next,omitzero" doc:"Cursor of the next page; absent on the last."`
}

// MaxWait is the longest that one request waits for a job; the client asks again.
const MaxWait = 30 * time.Second

// WaitJob says what to wait for.
type WaitJob struct {
	// For is job.Sent or job.Completed.
	For job.State
	// Timeout is how long to wait at most; 0 is until the context ends.
	Timeout time.Duration
}

// Validate refuses states that one cannot wait for.
func (r WaitJob) Validate() error {
	if r.For != job.Sent && r.For != job.Completed {
		return job.Invalid("for", fmt.Sprintf("cannot wait for %s: want sent or completed", r.For), nil)
	}
	if r.Timeout < 0 {
		return job.Invalid("timeout", "a timeout is not negative", nil)
	}
	return nil
}

// Rate asks for another rate.
type Rate struct {
	// Rate is a pointer so that its absence is not taken for unlimited.
	Rate *uint32 `json:"rate" doc:"Recipients handed to gateways a second; 0 is unlimited."`
}

// Validate refuses a missing rate.
func (r Rate) Validate() error {
	if r.Rate == nil {
		return job.Invalid("rate", "a rate is needed; 0 is unlimited", nil)
	}
	return nil
}

// Recall asks to take a job back.
type Recall struct {
	Reason string `json:"reason" doc:"Why, in words, for the audit log and whoever looks at the job: printable text of at most 256 bytes. It must be given."`
}

// Validate refuses a reason that is missing or cannot stand on a terminal.
func (r Recall) Validate() error {
	if r.Reason == "" {
		return job.Invalid("reason", "say why a job is recalled, for the audit log", nil)
	}
	return validateReason(r.Reason)
}

// Resolve asks to end the hold of what is in doubt.
type Resolve struct {
	Decision string `json:"decision" enum:"resend,drop" doc:"resend: sent again to those who are or come online; drop: given up, failed(unknown)."`
}

// Validate refuses any other word than resend and drop.
func (r Resolve) Validate() error {
	_, err := ParseDecision(r.Decision)
	return err
}

// ParseDecision reads resend or drop.
func ParseDecision(s string) (job.Decision, error) {
	switch s {
	case "resend":
		return job.DecideResend, nil
	case "drop":
		return job.DecideDrop, nil
	}
	return 0, job.Invalid("decision", fmt.Sprintf("decision %q: want resend or drop", s), nil)
}

// DecisionName is the word that ParseDecision reads.
func DecisionName(d job.Decision) string {
	switch d {
	case job.DecideResend:
		return "resend"
	case job.DecideDrop:
		return "drop"
	}
	return ""
}

// Resolution says what ending a hold did.
type Resolution struct {
	Job      job.ID `json:"job"`
	Decision string `json:"decision"`
	Resolved uint64 `json:"resolved" doc:"How many recipients were in doubt, whom the decision is about."`
}

// ParseJobID reads a job's id. What cannot be one names no job: not found.
func ParseJobID(s string) (job.ID, error) {
	id, err := job.ParseID(s)
	if err != nil {
		return id, &job.Error{Code: job.CodeNotFound, Field: "job", Message: "there is no job " + Printable(s) + "; an id is job_ and 26 characters"}
	}
	return id, nil
}

// ParsePackageID reads a package's id. What cannot be one names no package: not found.
func ParsePackageID(s string) (job.Digest, error) {
	id, err := job.ParseDigest(s)
	if err != nil {
		return id, &job.Error{Code: job.CodeNotFound, Field: "package", Message: "there is no package " + Printable(s) + "; an id has 64 hexadecimal characters"}
	}
	return id, nil
}
