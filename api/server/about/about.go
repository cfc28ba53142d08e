// Package about tells what a request is about, as far as logs may have it.
//
// It guarantees that no key which somebody took for a name gets into a log.
package about

import (
	"bytes"
	"io"
	"net/http"
	"regexp"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"crier/api"
	"crier/job"
)

var secrets = regexp.MustCompile(`(crk|crier)_[A-Za-z0-9_-]+`)

var recipients = regexp.MustCompile(`(/recipients/)[^/]+`)

// Loggable is a path without what may be a key, which somebody took for an id, and without
// numbers of recipients, which are in no log.
func Loggable(path string) string {
	return recipients.ReplaceAllString(secrets.ReplaceAllString(path, "${1}_..."), "${1}_")
}

// Path is what an act is about, as far as the path says it; the service knows better
// what it found.
func Path(r *http.Request) string {
	for _, kind := range []string{"account", "job", "member", "key", "tenant", "segment"} {
		if name := r.PathValue(kind); name != "" && (kind != "key" || api.ValidateKeyID(name) == nil) {
			return kind + "/" + api.Printable(name)
		}
	}
	if who, err := job.ParseRecipient(r.PathValue("recipient")); err == nil {
		return "recipient/" + who.String()
	}
	return ""
}

// named are the operations that say in their body what they are about, and of which kind
// that is.
var named = map[string]string{"create-account": "account", "create-segment": "segment", "create-tenant": "tenant", "create-key": "key", "mint-token": "recipient", "submit-job": "account"}

// namedWithin is how much is read of the body of who is denied, in bytes.
const namedWithin = 4 << 10

// Body is what an act is about by its body, which nobody else reads of who is denied; ""
// if that does not say it, or is long. What is to be made has no id yet: its name stands there.
func Body(r *http.Request, operationID string) string {
	kind := named[operationID]
	if kind == "" {
		return ""
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, namedWithin))
	if operationID == "submit-job" { // its message may be long
		return printableName(kind, accountIn(data))
	}
	var body struct {
		Name      string         `json:"name"`
		Recipient *job.Recipient `json:"recipient"`
	}
	if err != nil || json.Unmarshal(data, &body) != nil {
		return ""
	}
	switch {
	case kind == "recipient" && body.Recipient != nil:
		return kind + "/" + body.Recipient.String()
	case kind != "recipient":
		return printableName(kind, body.Name)
	}
	return ""
}

// printableName is an object by its name, which may be a key that somebody took for one.
func printableName(kind, name string) string {
	if name == "" {
		return ""
	}
	return kind + "/" + api.Printable(secrets.ReplaceAllString(name, "${1}_..."))
}

// accountIn is the account in the beginning of a request for a job; "" if it is not there.
func accountIn(data []byte) (account string) {
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return ""
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			return ""
		}
		field := string(name)
		value, err := d.ReadValue()
		switch {
		case err != nil:
			return ""
		case field == `"account"` && json.Unmarshal(value, &account) == nil:
			return account
		}
	}
	return ""
}
