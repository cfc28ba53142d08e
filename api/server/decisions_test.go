package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"crier/api/apitest"
	"crier/api/decision"
)

// Every operation has a decision, and every decision an operation.
func TestDecisionsAreThoseOfTheDocument(t *testing.T) {
	s, err := New(Config{Service: apitest.New(), Keys: apitest.Keys("k"), Trail: apitest.Trail{}})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, item := range s.doc.OpenAPI().Paths {
		if item.Delete != nil || item.Patch != nil || item.Head != nil || item.Options != nil || item.Trace != nil {
			t.Error("there are methods that this test does not look at")
		}
		if item.Get != nil {
			ids = append(ids, item.Get.OperationID)
		}
		if item.Put != nil {
			ids = append(ids, item.Put.OperationID)
		}
		if item.Post != nil {
			ids = append(ids, item.Post.OperationID)
		}
	}
	slices.Sort(ids)
	if want := decision.Operations(); !slices.Equal(ids, want) {
		t.Errorf("there are decisions about\n%v\nand the operations\n%v", want, ids)
	}
}

func TestAnOperationWithoutADecision(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an operation about which nobody decided is served")
		}
	}()
	(&Server{}).admits("dance", nil)
}

// What was registered past the decisions is served to nobody, the admin included.
func TestAPathWithoutADecision(t *testing.T) {
	s, err := New(Config{Service: apitest.New(), Keys: apitest.Keys("k"), Trail: apitest.Trail{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.mux.HandleFunc("GET /v1/dance", func(http.ResponseWriter, *http.Request) { t.Error("it was served") })
	r := httptest.NewRequest("GET", "/v1/dance", nil)
	r.Header.Set("Authorization", "Bearer k")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("it is answered %d", w.Code)
	}
}
