package natsstream

import (
	"fmt"
	"time"
)

const (
	// unheardFor is when a leader takes a server for gone, by the servers' own measure.
	unheardFor = 10 * time.Second
	// behindBy is how many records a server may be behind that is heard: at any moment of
	// a busy stream one is some records behind, and one that comes back is many.
	behindBy = 1000
)

// groupAnswer is what a leader says of the servers that keep a stream besides it.
type groupAnswer struct {
	Leader   string `json:"leader"`
	Replicas []struct {
		Name    string        `json:"name"`
		Current bool          `json:"current"`
		Offline bool          `json:"offline"`
		Active  time.Duration `json:"active"` // since it was heard; 0: never by this leader
		Lag     uint64        `json:"lag"`
	} `json:"replicas"`
}

// missing says which of so many servers do not keep what is stored now, and why.
func (g groupAnswer) missing(wanted int) (all []string) {
	for _, r := range g.Replicas {
		switch {
		case r.Offline:
			all = append(all, r.Name+" is offline")
		case r.Active >= unheardFor:
			all = append(all, fmt.Sprintf("%s has not been heard for %s", r.Name, r.Active.Round(time.Second)))
		case !r.Current && r.Active == 0:
			all = append(all, r.Name+" has not been heard by the server that leads")
		case !r.Current && r.Lag > behindBy:
			all = append(all, fmt.Sprintf("%s is %d records behind", r.Name, r.Lag))
		}
	}
	for range wanted - 1 - len(g.Replicas) {
		all = append(all, "a server that none was found for")
	}
	return all
}
