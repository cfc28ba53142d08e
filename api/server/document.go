package server

import (
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"crier/api"
	"crier/api/problem"
	"crier/job"
)

// param is a query parameter of an operation that huma does not serve; all are text.
type param struct {
	name, doc string
	required  bool
	oneOf     []string // the only values; empty: any
}

// The query parameters of what plainRoutes registers.
var (
	importFollowersQuery = []param{
		{"format", "edges (a line is \"src dst\": recipient src follows the account whose id is dst; accounts that are missing are made) or ids (a recipient a line, for one account).", true, []string{"edges", "ids"}},
		{"account", "Name or id of the account. With ids it is needed; with edges only those that lead to it are taken.", false, nil},
		{"skip", "Lines to leave out at the start.", false, nil},
	}
	importPackageQuery = []param{
		{"account", "Name or id of the account that will send to it.", true, nil},
		{"name", "Name of the package; absent means the one in the file.", false, nil},
	}
	importIDsQuery        = []param{{"skip", "Lines to leave out at the start.", false, nil}}
	importSuppressedQuery = append([]param{{"account", "Name or id of the account; absent means the global list.", false, nil}}, importIDsQuery...)
	exportQuery           = []param{{"of", "Name of the segment, or name or id of the account; of suppression, absent means the global list.", false, nil}}
	exportJobQuery        = []param{
		{"outcome", "Outcomes, with commas between them, such as failed,expired: one of " + outcomeNames() + "; dropped and failed may have a reason behind a colon, such as dropped:relation.", true, nil},
		{"format", "package (a recipient package, .crpk, as the body of import-package; absent means this) or ids (one a line, ascending).", false, []string{api.FormatPackage, api.FormatIDs}},
	}
	tailLedgerQuery = []param{
		{"from", "First sequence wanted; absent means the first that is stored.", false, nil},
		{"filter", "Subject, with * and >, such as led.job.>; absent means all.", false, nil},
		{"follow", "true: wait for more at the end; absent means false.", false, nil},
	}
	tailEventsQuery = []param{
		{"since", "Cursor of an event: what comes behind it; or a length of time such as 1h: what was published within it. Absent means the first that is stored.", false, nil},
		{"job", "Id of the one job whose events are wanted; absent means all.", false, nil},
		{"kind", "The one kind of events that is wanted: about jobs, slices, sets of recipients, or controls (a job was paused or resumed, or its rate changed); absent means all.", false, job.EventKinds()},
		{"follow", "true: wait for more at the end; absent means false.", false, nil},
	}
	waitJobQuery = []param{
		{"for", "sent (all who are online are handled, the rest is parked) or completed (nobody is left); absent means sent. A job that is over ends the wait, too.", false, []string{"sent", "completed"}},
		{"timeout", "How long to wait, such as 10s; absent means 30s, which is the most. Then the job comes as it is.", false, nil},
	}
)

// outcomeNames lists the outcomes of a recipient.
func outcomeNames() string {
	var names []string
	for _, o := range job.Outcomes() {
		names = append(names, o.String())
	}
	return strings.Join(names, ", ")
}

// document adds an operation that huma does not serve to the OpenAPI document.
func (s *Server) document(o operation, contentType string, answer any, query ...param) *huma.Operation {
	op := o.huma()
	op.Parameters = append(op.Parameters, o.reason()...)
	registry := s.doc.OpenAPI().Components.Schemas
	for _, p := range query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.doc, Required: p.required,
			Schema: &huma.Schema{Type: huma.TypeString, Enum: words(p.oneOf)}})
	}
	for name, doc := range map[string]string{"job": "Id of the job.", "segment": "Name of the segment.", "kind": "One of " + strings.Join(api.SetKinds, ", ") + "."} {
		if strings.Contains(o.path, "{"+name+"}") {
			op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Description: doc, Required: true,
				Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	op.Responses = map[string]*huma.Response{strconv.Itoa(o.status): {
		Description: http.StatusText(o.status),
		Content:     map[string]*huma.MediaType{contentType: {Schema: registry.Schema(reflect.TypeOf(answer), true, "")}},
	}}
	problems := map[string]*huma.MediaType{"application/problem+json": {Schema: registry.Schema(reflect.TypeOf(problem.Problem{}), true, "")}}
	for _, status := range append(op.Errors, http.StatusUnprocessableEntity, http.StatusInternalServerError) {
		op.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: problems}
	}
	s.doc.OpenAPI().AddOperation(&op)
	return &op
}

// correct mends what huma says of every operation: unsigned numbers of 32 bits do not
// fit into its int32, and only what was made has a place.
func (s *Server) correct() {
	doc := s.doc.OpenAPI()
	for _, schema := range doc.Components.Schemas.Map() {
		for _, f := range schema.Properties {
			widen(f)
			widen(f.Items)
			of, _ := f.AdditionalProperties.(*huma.Schema) // of a map
			widen(of)
		}
	}
	if j := doc.Components.Schemas.Map()["Job"]; j != nil { // there is none if the server cannot work
		j.Properties["state"].Enum = words(api.JobStates())
	}
	if p := doc.Components.Schemas.Map()["Problem"]; p != nil {
		code := p.Properties["code"]
		code.Enum = words(problem.Codes())
		for _, k := range problem.Kinds() {
			code.Description += fmt.Sprintf("\n- %s (%d): %s %s", k.Code, k.Status, k.Means, k.Do)
		}
	}
	for _, of := range []string{"Webhook", "WebhookState"} {
		if w := doc.Components.Schemas.Map()[of]; w != nil {
			w.Properties["on"].Items.Enum = words(api.JobStates())
		}
	}
	if jobs := doc.Paths["/v1/jobs"]; jobs != nil && jobs.Get != nil {
		for _, p := range jobs.Get.Parameters {
			if p.Name == "state" {
				p.Schema.Enum = words(api.JobStates())
				p.Schema.PrecomputeMessages() // huma made them before
			}
		}
	}
	for _, path := range doc.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Patch, path.Delete} {
			if op != nil && op.RequestBody == nil {
				s.noBody[op.OperationID] = withoutBody(op)
			}
		}
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post} {
			if op != nil && op.Responses["200"] != nil {
				delete(op.Responses["200"].Headers, "Location")
			}
		}
	}
}

// withoutBody says that an operation takes no body, and where its parameters go.
func withoutBody(op *huma.Operation) string {
	var places []string
	for _, in := range []string{"path", "query", "header"} {
		var names []string
		for _, p := range op.Parameters {
			if p.In == in {
				names = append(names, p.Name)
			}
		}
		if names != nil {
			places = append(places, "into the "+in+" ("+strings.Join(names, ", ")+")")
		}
	}
	if places == nil {
		return op.OperationID + " takes no body, and has no parameters"
	}
	return op.OperationID + " takes no body; its parameters go " + strings.Join(places, " and ")
}

// words is an enumeration; nil is none.
func words(list []string) (enum []any) {
	for _, w := range list {
		enum = append(enum, w)
	}
	return enum
}

func widen(schema *huma.Schema) {
	if schema != nil && schema.Format == "int32" {
		schema.Format = "int64"
	}
}
