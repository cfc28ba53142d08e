package servers

import "testing"

// Whoever plans a cluster asks for ports several times, and starts its servers later.
func TestPortsAreGivenOnce(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		ports, err := Ports(20)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ports {
			if p < firstPort || p >= pastPorts || seen[p] {
				t.Fatalf("port %d is out of bounds, or given a second time", p)
			}
			seen[p] = true
		}
	}
}
