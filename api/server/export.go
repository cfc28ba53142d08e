package server

import (
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"crier/api"
)

// exportTimeout is how long a client may take to read a piece of an export.
const exportTimeout = time.Minute

// exportRoute registers the export of sets, whose answer is a file.
func (s *Server) exportRoute() {
	op := s.document(operation{"export-set", http.MethodGet, "/v1/sets/{kind}", "packages",
		"Followers, a suppression list or a segment, as it is, as a recipient package", http.StatusOK}, "application/octet-stream", "", exportQuery...)
	op.Responses["200"].Content["application/octet-stream"].Schema = &huma.Schema{Type: huma.TypeString, Format: "binary"}
	s.route("export-set", "GET /v1/sets/{kind}", s.guarded(s.uploads, func(w http.ResponseWriter, r *http.Request) {
		if err := knownQuery(r, exportQuery); err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
			return
		}
		req := api.ExportSet{Kind: r.PathValue("kind"), Of: r.URL.Query().Get("of")}
		out := &download{w: w, control: http.NewResponseController(w)}
		err := req.Validate()
		if err == nil {
			err = s.cfg.Service.ExportSet(r.Context(), req, out)
		}
		_ = out.control.SetWriteDeadline(time.Time{}) // the connection may serve other requests
		switch {
		case err == nil:
		case !out.begun:
			s.writeProblem(w, r, s.problem(r.Context(), err).AsParameters())
		default:
			if !errors.Is(err, errGone) {
				s.problem(r.Context(), err) // for the log
			}
			panic(http.ErrAbortHandler) // or a part would be taken for the whole
		}
	}))
}

// download is the answer to an export. The status is sent with the first piece.
type download struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// Write implements io.Writer.
func (d *download) Write(b []byte) (int, error) {
	if !d.begun {
		d.begun = true
		d.w.Header().Set("Content-Type", "application/octet-stream")
		d.w.Header().Set("Cache-Control", "no-store")
		d.w.WriteHeader(http.StatusOK)
	}
	// A writer without deadlines, as tests have, is used without them.
	_ = d.control.SetWriteDeadline(time.Now().Add(exportTimeout))
	n, err := d.w.Write(b)
	if err != nil {
		err = errors.Join(errGone, err)
	}
	return n, err
}
