package decision

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"crier/api"
	"crier/job"
)

// Audited are the ids of the operations that change something, of which the audit log tells.
func Audited() []string {
	return slices.DeleteFunc(Operations(), func(id string) bool { return decisions[id].Changes == Nothing })
}

// Results are the words of the audit log for how an act ended. What a limit refused is not
// in it.
func Results() []string {
	return []string{"done", string(job.CodeInvalid), string(job.CodeNotFound), string(job.CodeConflict), string(job.CodeDenied), string(job.CodeTooLarge),
		string(job.CodeUnavailable), string(job.CodeFull), "internal"}
}

// ValidateAudit refuses filters of the audit log that no act can match, for there is no such
// word.
func ValidateAudit(r api.ListAudit) error {
	return cmp.Or(known("operation", r.Operation, Audited()), known("result", r.Result, Results()))
}

// known refuses a word that is none of a list, which it names.
func known(field, word string, words []string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return job.Invalid(field, fmt.Sprintf("%s %q: want one of %s", field, api.Printable(word), strings.Join(words, ", ")), nil)
}
