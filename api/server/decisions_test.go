package server

import (
	"maps"
	"slices"
	"testing"

	"crier/api/apitest"
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
	if want := slices.Sorted(maps.Keys(decisions)); !slices.Equal(ids, want) {
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
