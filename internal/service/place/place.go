// Package place is where lists that are made from the table of jobs, and not from SQL, have
// a job: what their cursors say.
//
// It guarantees that a place reads as it was written, and that of two jobs one comes first.
package place

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"crier/api"
	"crier/job"
)

// Place is where a job stands in a list.
type Place struct {
	By int64 // what the list goes by, ascending, such as a time in Unix nanoseconds
	ID job.ID
}

// Compare orders places.
func (p Place) Compare(o Place) int {
	return cmp.Or(cmp.Compare(p.By, o.By), strings.Compare(string(p.ID[:]), string(o.ID[:])))
}

// String writes what Parse reads.
func (p Place) String() string { return strconv.FormatInt(p.By, 10) + "." + p.ID.String() }

// Parse reads a cursor; an empty one stands before all.
func Parse(s string) (p Place, err error) {
	if s == "" {
		return Place{By: math.MinInt64}, nil
	}
	by, id, _ := strings.Cut(s, ".")
	if p.By, err = strconv.ParseInt(by, 10, 64); err == nil {
		p.ID, err = job.ParseID(id)
	}
	if err != nil {
		return p, job.Invalid("cursor", fmt.Sprintf("cursor %q is none that a list gave", api.Printable(s)), err)
	}
	return p, nil
}
