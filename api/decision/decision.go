// Package decision is the one table of who may do which operation of the API.
package decision

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"crier/api"
	"crier/job"
)

// scope is whose keys an operation is for.
type scope uint8

const (
	anyTenant scope = iota // what it is about belongs to the key's tenant
	house                  // of the default tenant only: it is about what all share
	operator               // the admin key of the data directory only
)

// Effect is what an operation changes, and so where its act is written.
type Effect uint8

// The effects.
const (
	Nothing   Effect = iota
	InSQL            // the act is written in the transaction of the change
	InLedger         // the ledger's record says who did it; the act is a copy
	Elsewhere        // the act is written by itself, before the answer
)

// Decision is who may do what. The admin key of the data directory may do everything.
type Decision struct {
	roles []job.Role
	of    scope
	// Changes is what it changes.
	Changes Effect
}

var (
	anybody = []job.Role{job.Viewer, job.Submitter, job.Admin, job.Device}
	viewers = []job.Role{job.Viewer, job.Submitter, job.Admin}
	senders = []job.Role{job.Submitter, job.Admin}
	admins  = []job.Role{job.Admin}
)

// decisions is who may do each operation. A device's key sees only its own recipient;
// recipients connect with tokens, at the gateway, and not with keys.
var decisions = map[string]Decision{
	"get-self":          {anybody, anyTenant, Nothing},
	"list-accounts":     {viewers, anyTenant, Nothing},
	"get-account":       {viewers, anyTenant, Nothing},
	"create-account":    {admins, anyTenant, InSQL},
	"add-followers":     {senders, anyTenant, InSQL},
	"remove-followers":  {senders, anyTenant, InSQL},
	"import-followers":  {senders, anyTenant, InSQL},
	"get-suppression":   {viewers, anyTenant, Nothing},
	"add-suppressed":    {senders, anyTenant, InSQL},
	"remove-suppressed": {admins, anyTenant, InSQL}, // somebody did not want to get anything
	"list-suppression":  {viewers, anyTenant, Nothing},
	"import-suppressed": {senders, anyTenant, InSQL},
	// Segments belong to the default tenant.
	"list-segments":       {viewers, house, Nothing},
	"get-segment":         {viewers, house, Nothing},
	"create-segment":      {admins, house, InSQL},
	"archive-segment":     {admins, house, InSQL},
	"restore-segment":     {admins, house, InSQL},
	"add-to-segment":      {senders, house, InSQL},
	"remove-from-segment": {senders, house, InSQL},
	"import-segment":      {senders, house, InSQL},
	"export-set":          {senders, anyTenant, Nothing},
	"list-packages":       {viewers, anyTenant, Nothing},
	"get-package":         {viewers, anyTenant, Nothing},
	"import-package":      {senders, anyTenant, InSQL},
	"list-jobs":           {viewers, anyTenant, Nothing},
	"get-job":             {viewers, anyTenant, Nothing},
	"watch-job":           {viewers, anyTenant, Nothing},
	"wait-job":            {viewers, anyTenant, Nothing},
	"explain-job":         {anybody, anyTenant, Nothing},
	"reconcile-job":       {viewers, anyTenant, Nothing},
	"export-job":          {senders, anyTenant, Nothing},
	"get-recipient":       {viewers, anyTenant, Nothing},
	"erase-recipient":     {admins, house, Elsewhere}, // the sets of all tenants, and what all of them sent
	"tail-events":         {viewers, anyTenant, Nothing},
	"submit-job":          {senders, anyTenant, InLedger},
	"pause-job":           {senders, anyTenant, InLedger},
	"resume-job":          {senders, anyTenant, InLedger},
	"cancel-job":          {senders, anyTenant, InLedger},
	"recall-job":          {senders, anyTenant, InLedger},
	"set-rate":            {senders, anyTenant, InLedger},
	"resolve-job":         {senders, anyTenant, InLedger},
	"create-key":          {admins, anyTenant, InSQL},
	"list-keys":           {admins, anyTenant, Nothing},
	"revoke-key":          {admins, anyTenant, InSQL},
	"make-webhook-secret": {admins, anyTenant, InSQL},
	"get-tenant":          {viewers, anyTenant, Nothing},
	"list-audit":          {admins, anyTenant, Nothing},
	"list-tenants":        {admins, operator, Nothing},
	"create-tenant":       {admins, operator, InSQL},
	"set-limits":          {admins, operator, InSQL},
	// All tenants share the recipients: a token is a right to read what all of them send.
	"mint-token":     {admins, house, Elsewhere},
	"status":         {viewers, house, Nothing},
	"list-members":   {viewers, house, Nothing},
	"get-member":     {viewers, house, Nothing},
	"list-journals":  {viewers, house, Nothing},
	"silence-member": {admins, house, Elsewhere},
	"resume-member":  {admins, house, Elsewhere},
	// These name jobs of all tenants.
	"get-ring":      {admins, operator, Nothing},
	"list-lanes":    {admins, operator, Nothing},
	"tail-ledger":   {admins, operator, Nothing},
	"verify-ledger": {admins, operator, Nothing},
	"backup":        {admins, operator, Elsewhere}, // all there is, its keys too, leaves
}

// Allows refuses a caller what is not for it.
func (d Decision) Allows(c api.Caller, operationID string) error {
	switch {
	case c.IsOperator():
		return nil
	case d.of == operator:
		return denied("%s is for the admin key of the data directory only", operationID)
	case d.of == house && c.Tenant != job.DefaultTenant:
		return denied("%s is for keys of the tenant %s only", operationID, job.DefaultTenant)
	case !slices.Contains(d.roles, c.Role):
		var names []string
		for _, r := range d.roles {
			names = append(names, r.String())
		}
		return denied("%s is not for the role %s; it takes a key of the role %s", operationID, c.Role, strings.Join(names, " or "))
	}
	return nil
}

func denied(format string, a ...any) error {
	return &job.Error{Code: job.CodeDenied, Message: fmt.Sprintf(format, a...)}
}

// Of gives the decision about an operation; ok is false if nobody has decided.
func Of(operationID string) (d Decision, ok bool) {
	d, ok = decisions[operationID]
	return d, ok
}

// Operations are the ids of all operations about which there is a decision.
func Operations() []string { return slices.Sorted(maps.Keys(decisions)) }
