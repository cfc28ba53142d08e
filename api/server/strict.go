package server

import (
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"crier/api/problem"
	"crier/api/wire"
	"crier/job"
)

// validator is a request that knows its bounds.
type validator interface{ Validate() error }

// strictBody is a JSON body that is decoded once, strictly, and validated. huma
// decodes into it by way of strictFormat, documents it as T, and asks Resolve
// for the errors, so that they keep their status and their pointer.
type strictBody[T validator] struct {
	Value T
	err   error
}

// receive is what strictFormat hands the body to.
func (b *strictBody[T]) receive(data []byte) {
	if jsontext.Value(data).Kind() == 'n' { // a null would leave every field as if it were absent
		b.err = bodyProblem(http.StatusUnprocessableEntity, "the body is null; an object is needed")
		return
	}
	if b.err = wire.Decode(data, &b.Value); b.err == nil {
		b.err = b.Value.Validate()
	}
}

// bodyProblem is about the body as a whole.
func bodyProblem(status int, detail string) *problem.Problem {
	p := problem.New(status, string(job.CodeInvalid), detail)
	p.Errors = []problem.FieldError{{Detail: detail, Pointer: "#"}}
	return p
}

// Resolve reports what was wrong with the body.
func (b *strictBody[T]) Resolve(huma.Context) []error {
	if b.err == nil {
		return nil
	}
	return []error{problem.Of(b.err)}
}

// Schema documents the body as T.
func (strictBody[T]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}

// strictFormat is the only format that the server reads and writes.
var strictFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		data, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
		if err != nil {
			return fmt.Errorf("write %T as JSON: %w", v, err)
		}
		_, err = w.Write(append(data, '\n'))
		return err
	},
	Unmarshal: func(data []byte, v any) error {
		if b, ok := v.(interface{ receive([]byte) }); ok {
			b.receive(data)
			return nil
		}
		return wire.Decode(data, v)
	},
}
