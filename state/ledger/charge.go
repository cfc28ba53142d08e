package ledger

import (
	"crier/internal/bin"
	"crier/job"
)

// Charge is the home's verdict on a part of a block, and what those whom it keeps are
// charged (rule 7). It is appended before anything of it is reserved, and stands: whoever
// works out any of its recipients again, for this job, gets the same.
type Charge struct {
	Job     job.ID
	Span    job.Span // inside one range
	IDs     uint32   // how many ids of the package lie in the span
	Dropped []Drop   // by all filters; the rest is charged
	Terms   Terms
}

// AccountOf is one account or none: its zero value is none, or all of them where that is
// asked, for accounts are numbered from 0.
type AccountOf uint64

// OneAccount is an account by its number.
func OneAccount(number uint32) AccountOf { return AccountOf(number) + 1 }

// Number gives the account's number, if it is one.
func (a AccountOf) Number() (number uint32, ok bool) { return uint32(a - 1), a != 0 }

// Terms are what each recipient of a charge is charged.
type Terms struct {
	// Day is the day against whose caps it counts, in days since 1970-01-01 of the caps'
	// zone: the home's clock says it once, and whoever reads the record has it from there.
	Day     uint32
	All     bool      // it counts against the cap over all accounts
	Account AccountOf // it counts against the cap of this account, if it is one
	// Once is the key under which they may not be sent to again; zero: there is none.
	Once job.OnceKey
	// Until is when that ends, in whole hours since 1970-01-01 UTC.
	Until uint32
}

// Range is the range that the charge lies in.
func (e *Charge) Range() job.Range { return job.Range(e.Span.Lo >> job.RangeBits) }

func (e *Charge) write(w *bin.Writer) {
	w.Fixed(e.Job[:])
	w.Span(e.Span)
	w.Uint(uint64(e.IDs))
	writeDrops(w, e.Dropped)
	e.Terms.Write(w)
}

func readCharge(r *bin.Reader) *Charge {
	return &Charge{Job: r.JobID(), Span: r.Span(), IDs: uint32(r.Max(1 << job.RangeBits)), Dropped: readDrops(r), Terms: ReadTerms(r)}
}

// Write appends the terms.
func (t Terms) Write(w *bin.Writer) {
	w.Uint(uint64(t.Day))
	w.Bool(t.All)
	w.Uint(uint64(t.Account))
	w.Fixed(t.Once[:])
	w.Uint(uint64(t.Until))
}

// ReadTerms reads what Write wrote.
func ReadTerms(r *bin.Reader) Terms {
	t := Terms{Day: uint32(r.Max(1<<32 - 1)), All: r.Bool(), Account: AccountOf(r.Max(1 << 32))}
	copy(t.Once[:], r.Fixed(len(t.Once)))
	t.Until = uint32(r.Max(1<<32 - 1))
	return t
}
