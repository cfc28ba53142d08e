package natsstream

import (
	"encoding/json"
	"slices"
	"testing"
)

// Answers of servers, and who of them is told to be missing.
func TestMissingReplicas(t *testing.T) {
	for _, c := range []struct {
		wanted int
		answer string
		want   []string
	}{
		{1, `{"leader":"n1"}`, nil},
		{3, `{"leader":"n1","replicas":[{"name":"n2","current":true,"active":20000},{"name":"n3","current":true,"active":999999999}]}`, nil},
		{3, `{"leader":"n1","replicas":[{"name":"n2","current":false,"active":20000,"lag":3},{"name":"n3","current":true,"active":1}]}`, nil},
		{3, `{"leader":"n1","replicas":[{"name":"n2","current":false,"offline":true,"active":3000000000},{"name":"n3","current":true,"active":1}]}`, []string{"n2 is offline"}},
		{3, `{"leader":"n1","replicas":[{"name":"n2","current":true,"active":1},{"name":"n3","current":false,"active":185000000000,"lag":7}]}`, []string{"n3 has not been heard for 3m5s"}},
		{3, `{"leader":"n1","replicas":[{"name":"n2","current":false,"active":0,"lag":40},{"name":"n3","current":false,"active":90000,"lag":1001}]}`,
			[]string{"n2 has not been heard by the server that leads", "n3 is 1001 records behind"}},
		{3, `{"leader":"n1","replicas":[{"name":"n2","current":true,"active":1}]}`, []string{"a server that none was found for"}},
		{3, `{"leader":"n1"}`, []string{"a server that none was found for", "a server that none was found for"}},
	} {
		var g groupAnswer
		if err := json.Unmarshal([]byte(c.answer), &g); err != nil {
			t.Fatal(err)
		}
		if got := g.missing(c.wanted); !slices.Equal(got, c.want) {
			t.Errorf("of %s are missing %q, want %q", c.answer, got, c.want)
		}
	}
}
