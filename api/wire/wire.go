// Package wire is the JSON of the API: how values are written, and how strictly they are
// read.
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"crier/api"
	"crier/api/problem"
	"crier/job"
)

// Marshal writes a value of package api as the server does: fields in their
// order, maps sorted, no null for an empty list.
func Marshal(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true))
}

// strict is how Decode reads. A null leaves a field as if it were absent, but in a
// list of ids it would be taken for recipient 0.
var strict = json.JoinOptions(json.RejectUnknownMembers(true),
	json.WithUnmarshalers(json.UnmarshalFromFunc(func(dec *jsontext.Decoder, _ *job.Recipient) error {
		if dec.PeekKind() == 'n' {
			return errors.New("null is no recipient id")
		}
		return errors.ErrUnsupported // it is read as usual
	})))

// Decode reads one JSON value and nothing after it. Invalid UTF-8, lone
// surrogates, duplicate names, names in another case, unknown names and ids that are
// null are refused; the error is a problem that points at the place.
func Decode(data []byte, into any) error {
	err := json.Unmarshal(data, into, strict)
	if err == nil {
		return nil
	}
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		p := problem.New(http.StatusBadRequest, string(job.CodeInvalid),
			fmt.Sprintf("the body is not one strict JSON value: byte %d: %s", syntax.ByteOffset, reason(syntax.Err)))
		p.Errors = []problem.FieldError{{Detail: reason(syntax.Err), Pointer: "#" + api.Printable(string(syntax.JSONPointer))}}
		return p
	}
	var meaning *json.SemanticError
	if errors.As(err, &meaning) {
		why := reason(meaning.Err)
		switch {
		case meaning.Err == nil:
			why = fmt.Sprintf("a JSON %s cannot stand here", meaning.JSONKind)
		case errors.Is(meaning.Err, strconv.ErrSyntax):
			why = "want a whole number"
			if reflect.Zero(meaning.GoType).CanUint() {
				why += " from 0 on"
			}
		}
		at := api.Printable(string(meaning.JSONPointer))
		detail := "the body has a field that cannot be read: "
		if at != "" {
			detail += at[1:] + ": "
		}
		p := problem.New(http.StatusUnprocessableEntity, string(job.CodeInvalid), detail+why)
		p.Errors = []problem.FieldError{{Detail: why, Pointer: "#" + at}}
		return p
	}
	return problem.New(http.StatusBadRequest, string(job.CodeInvalid), "the body cannot be read as JSON")
}

// reason words the cause of a JSON error without the decoder's prefix.
func reason(err error) string {
	var clock *time.ParseError
	switch {
	case err == nil:
		return "malformed"
	case errors.As(err, &clock):
		return fmt.Sprintf("time %q: want one such as 2026-05-01T12:00:00Z", api.Printable(clock.Value))
	case errors.Is(err, json.ErrUnknownName):
		return "unknown field"
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "duplicate field"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	}
	return api.Printable(string(bytes.TrimPrefix([]byte(err.Error()), []byte("jsontext: "))))
}
