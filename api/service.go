// Package api is what Crier offers to its users: one Go interface (Service), its
// requests and answers. Its errors travel as api/problem says.
//
// The server (api/server) puts a Service on the network, the client (api/client)
// is one more Service that asks a server, and api/apitest has one in memory. The
// command line uses the interface alone.
//
// It guarantees that a request that passes Validate is within every written limit.
package api

import (
	"context"
	"io"

	"crier/job"
)

// Service is everything that can be asked of Crier. All methods are safe for
// concurrent use. Errors that a user can act on are *job.Error; any other error
// is internal. Requests are valid in the sense of their Validate methods.
//
// An account is referred to by its name or its id; a name wins over an id.
//
// Who asks stands in the context (WithCaller). What belongs to another tenant is not
// found, and not in lists; whoever asks without a caller is denied everything.
type Service interface {
	Accounts
	Followers
	Suppression
	Segments
	Packages
	Jobs
	Controls
	Proofs
	Recipients
	Events
	Cluster
	Operations
	Access
}

// Accounts are the senders.
type Accounts interface {
	// CreateAccount makes an account. A name that is taken is a conflict.
	CreateAccount(ctx context.Context, req CreateAccount) (Account, error)
	// ListAccounts gives the accounts in the order of their ids.
	ListAccounts(ctx context.Context, page Page) (AccountList, error)
	// GetAccount gives one account, or not found.
	GetAccount(ctx context.Context, account string) (Account, error)
}

// Followers are the sets of recipients that follow an account.
type Followers interface {
	// AddFollowers adds ids; those that follow already count as unchanged. Idempotent.
	AddFollowers(ctx context.Context, account string, ids []job.Recipient) (FollowersChange, error)
	// RemoveFollowers takes ids out; those that do not follow count as unchanged. Idempotent.
	RemoveFollowers(ctx context.Context, account string, ids []job.Recipient) (FollowersChange, error)
	// ImportFollowers reads a file of edges or ids to its end. Nothing is kept
	// unless all of it was good. Idempotent.
	ImportFollowers(ctx context.Context, req ImportFollowers, body io.Reader) (FollowersImport, error)
}

// Suppression holds the lists of recipients who get nothing: a global one, and
// one for each account. An empty account means the global list.
type Suppression interface {
	// AddSuppressed puts ids on a list; what is parked for them is dropped. Idempotent.
	AddSuppressed(ctx context.Context, req SuppressionChange) (SuppressionList, error)
	// RemoveSuppressed takes ids off a list. Idempotent.
	RemoveSuppressed(ctx context.Context, req SuppressionChange) (SuppressionList, error)
	// ImportSuppressed reads a file of ids to its end and puts them on a list. Nothing is
	// kept unless all of it was good. Idempotent.
	ImportSuppressed(ctx context.Context, account string, req ImportIDs, body io.Reader) (IDsImport, error)
	// ListSuppression gives the accounts' lists that were ever written to, in the order of
	// the accounts' ids, the global one before them.
	ListSuppression(ctx context.Context, page Page) (SuppressionLists, error)
	// GetSuppression describes a list; one that was never written to is empty.
	GetSuppression(ctx context.Context, account string) (SuppressionList, error)
}

// Segments are named sets of recipients. They belong to no account; a job may aim at
// some and leave others out, and keeps to what was in them when it was submitted. None is
// deleted, for jobs name them: one that is archived can be neither changed nor named by a
// new job, until it is restored.
type Segments interface {
	// CreateSegment makes a segment. A name that is taken is a conflict.
	CreateSegment(ctx context.Context, req CreateSegment) (Segment, error)
	// ListSegments gives segments by their names.
	ListSegments(ctx context.Context, req ListSegments) (SegmentList, error)
	// GetSegment gives one segment, archived or not, or not found.
	GetSegment(ctx context.Context, segment string) (Segment, error)
	// AddToSegment adds ids; those that are in already count as unchanged. Idempotent.
	AddToSegment(ctx context.Context, segment string, ids []job.Recipient) (SegmentChange, error)
	// RemoveFromSegment takes ids out; those that are not in count as unchanged. Idempotent.
	RemoveFromSegment(ctx context.Context, segment string, ids []job.Recipient) (SegmentChange, error)
	// ImportSegment reads a file of ids to its end and adds them. Nothing is kept unless
	// all of it was good. Idempotent.
	ImportSegment(ctx context.Context, segment string, req ImportIDs, body io.Reader) (IDsImport, error)
	// ArchiveSegment takes a segment out of use. Jobs that name it are not touched. Idempotent.
	ArchiveSegment(ctx context.Context, segment string) (Segment, error)
	// RestoreSegment undoes ArchiveSegment. Idempotent.
	RestoreSegment(ctx context.Context, segment string) (Segment, error)
}

// Packages are recipient packages that were handed in, or are made of sets that are kept.
type Packages interface {
	// ImportPackage reads a package in its envelope (.crpk) to its end and keeps
	// it for an account. Idempotent: the same set gives the same package.
	ImportPackage(ctx context.Context, req ImportPackage, body io.Reader) (Package, error)
	// ListPackages gives packages, the newest first; an empty account means all.
	ListPackages(ctx context.Context, account string, page Page) (PackageList, error)
	// GetPackage gives one package by its id, or not found.
	GetPackage(ctx context.Context, id job.Digest) (Package, error)
	// ExportSet writes a set that is kept, as it is at this moment, as a package in its
	// envelope. Unless it returns nil, what was written is to be thrown away.
	ExportSet(ctx context.Context, req ExportSet, w io.Writer) error
}

// Jobs are sends.
type Jobs interface {
	// SubmitJob accepts a job: when it returns, the job is in the ledger. With an
	// idempotency key it is idempotent; the same key with another request is a
	// conflict. Without one, an error other than a *job.Error leaves it unknown.
	SubmitJob(ctx context.Context, req SubmitJob) (Job, error)
	// ListJobs gives jobs, the newest first.
	ListJobs(ctx context.Context, req ListJobs) (JobList, error)
	// GetJob gives one job, or not found.
	GetJob(ctx context.Context, id job.ID) (Job, error)
	// WatchJob calls fn with the job as it is, then after each change, at most a
	// few times a second, and returns nil after the call with a terminal state.
	// It returns fn's error at once, and ctx's when ctx ends.
	WatchJob(ctx context.Context, id job.ID, fn func(Job) error) error
	// WaitJob returns the job once its state has reached req.For or is terminal,
	// or as it stands when req.Timeout has passed.
	WaitJob(ctx context.Context, id job.ID, req WaitJob) (Job, error)
}

// Controls change a job that is under way. Each is a record in the ledger when
// it returns, and idempotent. A job that is over answers conflict, but for a recall. So does
// one of which a cancel or a recall is recorded to PauseJob, ResumeJob and SetRate.
type Controls interface {
	// PauseJob stops new hand-offs until ResumeJob.
	PauseJob(ctx context.Context, id job.ID) (Job, error)
	// ResumeJob undoes PauseJob.
	ResumeJob(ctx context.Context, id job.ID) (Job, error)
	// CancelJob stops the job for good; who has no outcome yet is cancelled.
	CancelJob(ctx context.Context, id job.ID) (Job, error)
	// RecallJob takes the job back: it stops as by a cancel, and whoever may have seen its
	// message is asked to take it off the display. Nothing undoes it. Of one that is recalled
	// already the first reason stands: with another one it is a conflict.
	RecallJob(ctx context.Context, id job.ID, req Recall) (Job, error)
	// SetRate changes the rate, in recipients handed to gateways a second; 0 is unlimited.
	SetRate(ctx context.Context, id job.ID, rate uint32) (Job, error)
	// ResolveJob ends the hold of the recipients who are in doubt.
	ResolveJob(ctx context.Context, id job.ID, decision job.Decision) (Resolution, error)
}

// Proofs are what the ledger shows. It changes nothing.
type Proofs interface {
	// ExplainJob gives one recipient's outcome with its evidence. A recipient who
	// is not in the job's package is not found.
	ExplainJob(ctx context.Context, id job.ID, r job.Recipient) (Explanation, error)
	// ReconcileJob proves the law of conservation for a job by set algebra, and asks the
	// filters again whose lists the job recorded.
	ReconcileJob(ctx context.Context, id job.ID) (Reconciliation, error)
	// ExportJob writes who of a job's package stands where the request says, as a package in
	// its envelope or as ids: all of them at one moment. Unless it returns nil, what was
	// written is to be thrown away. A job that is not conserved is a conflict.
	ExportJob(ctx context.Context, id job.ID, req ExportJob, w io.Writer) error
	// TailLedger calls fn for each record that the request asks for, in the order
	// of the ledger, each once; with Follow it goes on until ctx ends.
	TailLedger(ctx context.Context, req TailLedger, fn func(LedgerEntry) error) error
	// VerifyLedger reads the whole ledger and checks each journal's chain.
	VerifyLedger(ctx context.Context) (LedgerReport, error)
}

// Recipients is what is known of single recipients.
type Recipients interface {
	// GetRecipient tells where a recipient is connected, what waits for it, what it was charged,
	// and what became of the last jobs. It answers within a bound, and says what it could not
	// tell by then. Every number is a recipient: of one that nobody knows there is nothing to tell.
	GetRecipient(ctx context.Context, r job.Recipient) (Recipient, error)
	// EraseRecipient forgets a recipient as it is now: its tokens and its devices' keys are
	// refused, its connections closed, what waits for it is dropped, and it is taken out of all
	// followers and segments. It waits, within a bound, until what waits is dropped, and tells
	// what is kept all the same. It may be repeated: the last time counts.
	EraseRecipient(ctx context.Context, r job.Recipient, req Erase) (Erasure, error)
}

// Events are notices of what happens to jobs. They are kept for a while only; the
// ledger knows better.
type Events interface {
	// TailEvents calls fn for each event that the request asks for, in the order in
	// which they were published; with Follow it goes on until ctx ends. A cursor that
	// the stream has not reached is invalid; behind one whose event was dropped it
	// begins at the first that is left.
	TailEvents(ctx context.Context, req TailEvents, fn func(Event) error) error
}

// Cluster is what the processes that work together know of each other. What differs
// from one to the other is told as the process sees it that answers.
type Cluster interface {
	// ListMembers gives all members, by id; each is asked about itself, within a bound.
	ListMembers(ctx context.Context) (MemberList, error)
	// GetMember gives one member, or not found.
	GetMember(ctx context.Context, id string) (Member, error)
	// SilenceMember asks a member to hand over what it holds and to take nothing new,
	// until ResumeMember; the answer may be from before it obeyed. Idempotent. A process
	// that has nobody to hand over to answers conflict.
	SilenceMember(ctx context.Context, id string, req Operate) (Member, error)
	// ResumeMember undoes SilenceMember. Idempotent.
	ResumeMember(ctx context.Context, id string, req Operate) (Member, error)
	// Ring says who should hold what by the hint, and who does by the claims.
	Ring(ctx context.Context, req AskRing) (Ring, error)
	// ListJournals gives the journals of the ledger, by name.
	ListJournals(ctx context.Context, page Page) (JournalList, error)
	// ListLanes asks each worker, within a bound, what its lanes are at.
	ListLanes(ctx context.Context) (LaneList, error)
}

// Operations are for whoever runs the server.
type Operations interface {
	// Status is the one-screen summary. It answers also when the server is not healthy.
	Status(ctx context.Context) (Status, error)
	// Backup writes a copy of everything that was acknowledged before, as a tar file that
	// Receive of internal/app/backup lays out. After an error what was written is none.
	Backup(ctx context.Context, w io.Writer) error
	// MintToken makes a token with which a recipient connects to a gateway.
	MintToken(ctx context.Context, req MintToken) (Token, error)
}

// Access is who may use the API, and who did what.
type Access interface {
	// Self describes the key that asks.
	Self(ctx context.Context) (Key, error)
	// CreateKey makes a key and shows it, this once.
	CreateKey(ctx context.Context, req CreateKey) (NewKey, error)
	// ListKeys gives keys in the order of their making; an empty tenant means all that
	// the caller sees.
	ListKeys(ctx context.Context, tenant string, page Page) (KeyList, error)
	// RevokeKey ends a key for good, within seconds in every process. Idempotent.
	RevokeKey(ctx context.Context, id string) (Key, error)
	// CreateTenant makes a tenant. A name that is taken is a conflict.
	CreateTenant(ctx context.Context, req CreateTenant) (Tenant, error)
	// ListTenants gives the tenants by name.
	ListTenants(ctx context.Context, page Page) (TenantList, error)
	// GetTenant gives one tenant, or not found.
	GetTenant(ctx context.Context, name string) (Tenant, error)
	// SetLimits changes the limits that are given. Idempotent.
	SetLimits(ctx context.Context, name string, req SetLimits) (Tenant, error)
	// MakeWebhookSecret makes the secret that signs a tenant's webhooks and shows it, this
	// once. The former ones sign, too, for a day longer.
	MakeWebhookSecret(ctx context.Context, tenant string) (WebhookSecret, error)
	// ListAudit gives acts, the newest first.
	ListAudit(ctx context.Context, req ListAudit) (AuditList, error)
}
