package api

import (
	"fmt"
	"slices"
	"strings"

	"crier/job"
)

// AuditedOperations are the ids of the operations that change something, of which the audit
// log tells.
func AuditedOperations() []string { return slices.Clone(audited) }

// AuditResults are the words for how an act ended.
func AuditResults() []string { return slices.Clone(auditResults) }

var (
	audited = []string{"add-followers", "add-suppressed", "add-to-segment", "archive-segment", "backup", "cancel-job", "create-account", "create-key", "create-segment",
		"create-tenant", "erase-recipient", "import-followers", "import-package", "import-segment", "import-suppressed", "make-webhook-secret", "mint-token", "pause-job",
		"recall-job", "remove-followers", "remove-from-segment", "remove-suppressed", "resolve-job", "restore-segment", "resume-job", "resume-member", "revoke-key",
		"set-limits", "set-rate", "silence-member", "submit-job"}
	auditResults = []string{"done", string(job.CodeInvalid), string(job.CodeNotFound), string(job.CodeConflict), string(job.CodeDenied), string(job.CodeTooLarge),
		string(job.CodeUnavailable), string(job.CodeFull), "internal"}
)

// known refuses a word that is none of a list, which it names.
func known(field, word string, words []string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return job.Invalid(field, fmt.Sprintf("%s %q: want one of %s", field, Printable(word), strings.Join(words, ", ")), nil)
}
