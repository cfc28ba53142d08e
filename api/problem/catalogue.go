package problem

import (
	"net/http"
	"slices"

	"crier/job"
)

// Codes of a problem that no *job.Error has.
const (
	CodeInternal = "internal"
	CodeMethod   = "method_not_allowed"
)

// Kind is what a code stands for. The OpenAPI document and the command line say what is
// here.
type Kind struct {
	Code   string `json:"code"`
	Status int    `json:"status"`                   // of an answer with it
	Others []int  `json:"other_statuses,omitempty"` // that an answer with it may have instead
	Means  string `json:"means"`
	Do     string `json:"do"` // what to do about it
}

// kinds is the catalogue: every code that a problem may have.
var kinds = []Kind{
	{string(job.CodeInvalid), http.StatusUnprocessableEntity, []int{http.StatusBadRequest, http.StatusUnsupportedMediaType}, "The request has a field that cannot be, or is not in the form that is asked for; nothing was done. If it cannot be read at all the status is 400, and 415 if its body is of another media type.",
		"Mend the field that the error names; the same request is refused again."},
	{string(job.CodeNotFound), http.StatusNotFound, nil, "There is no such object, or it belongs to another tenant than the key that asks.",
		"See with the list of such objects what there is (crier job ls, crier account ls), and whose key it is (crier key ls)."},
	{string(job.CodeConflict), http.StatusConflict, nil, "It exists already with other contents, or what it is about is in a state that forbids this; nothing was done.",
		"Look at the object first (crier job info): it may be over, archived or taken. With an idempotency key, send the same request or use another key."},
	{string(job.CodeDenied), http.StatusForbidden, []int{http.StatusUnauthorized}, "There is no key, it is not valid, or it may not do this; nothing was done. Without a valid key the status is 401.",
		"Set CRIER_TOKEN to a key whose role may do it; the error names the role. An admin makes one: crier key create NAME --role ROLE."},
	{string(job.CodeTooLarge), http.StatusRequestEntityTooLarge, nil, "It is over a written limit, of the server or of the tenant; nothing was done.",
		"Send less, or in several parts; of ids, import a file. For a tenant's own limits: crier tenant info."},
	{string(job.CodeUnavailable), http.StatusServiceUnavailable, nil, "The server, or a store that it needs, does not answer at the moment. What is being sent goes on.",
		"Try the same again after a moment (Retry-After says when); if it stays so, see crier status for what does not answer."},
	{string(job.CodeFull), http.StatusInsufficientStorage, nil, "The ledger, or the disk, is so full that nothing more is accepted; what was accepted is kept.",
		"Free space on the disk, or raise limits.ledger if the error names the ledger; crier check tells of both, even while the disk is full. Then try the same again: it is accepted once there is room."},
	{string(job.CodeLimited), http.StatusTooManyRequests, nil, "A limit of the tenant is reached: jobs under way, or requests a second.",
		"Wait as long as Retry-After says, or until a job is over; crier tenant info shows the limits, and an operator changes them: crier tenant limits."},
	{CodeMethod, http.StatusMethodNotAllowed, nil, "The path exists, but does not take that HTTP method.",
		"Use a method that the header Allow names; GET /openapi.json has all operations."},
	{CodeInternal, http.StatusInternalServerError, nil, "Something went wrong that the caller has no part in. For a request that is not idempotent it is unknown whether it took effect.",
		"Look for the request id in the server's log. Try again what is idempotent; of the rest see first whether it took effect."},
}

// Kinds is the catalogue.
func Kinds() []Kind { return slices.Clone(kinds) }

// Codes lists the codes.
func Codes() (codes []string) {
	for _, k := range kinds {
		codes = append(codes, k.Code)
	}
	return codes
}

// Lookup finds what a code stands for.
func Lookup(code string) (Kind, bool) {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Code == code })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

// Has reports whether an answer with the code may have a status.
func (k Kind) Has(status int) bool { return k.Status == status || slices.Contains(k.Others, status) }

// isOfService reports whether a *job.Error may have the code.
func (k Kind) isOfService() bool { return k.Code != CodeInternal && k.Code != CodeMethod }
