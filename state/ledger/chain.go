package ledger

import (
	"encoding/json"
	"fmt"

	"crier/job"
)

// Chains follows the journals of a ledger and checks, record by record, that each
// counts up, that each record holds the hash of the one before, and that nothing
// follows a seal.
type Chains struct{ journals map[job.Journal]link }

type link struct {
	n      uint64
	hash   job.Digest
	sealed bool
}

// NewChains starts at the beginning of a ledger. A journal whose first records
// are purged is taken up where it starts.
func NewChains() *Chains { return &Chains{journals: map[job.Journal]link{}} }

// Check takes the next record of the stream and says what is wrong with it, in
// words; "" if nothing is.
func (c *Chains) Check(st Stored) string {
	name, err := JournalOf(st.Subject)
	if err != nil {
		return ""
	}
	rec, err := ParseRecord(st.Data)
	if err != nil {
		return err.Error()
	}
	before, known := c.journals[name]
	c.journals[name] = link{rec.N, HashOf(st.Data), before.sealed || rec.Sealed()}
	switch {
	case rec.Journal != name:
		return fmt.Sprintf("it says that it is %s's and stands under %s", rec.Journal, name)
	case !known && rec.N == 0 && !rec.Prev.IsZero():
		return "it is the first of its journal and names one before it"
	case !known:
		return ""
	case before.sealed:
		return fmt.Sprintf("it follows the seal of %s", name)
	case rec.N != before.n+1:
		return fmt.Sprintf("it is number %d of %s after number %d", rec.N, name, before.n)
	case rec.Prev != before.hash:
		return fmt.Sprintf("it is not the successor of number %d of %s: the hash differs", before.n, name)
	}
	return ""
}

// Journals is the number of journals met and how many of them are sealed.
func (c *Chains) Journals() (all, sealed uint64) {
	for _, l := range c.journals {
		all++
		if l.sealed {
			sealed++
		}
	}
	return all, sealed
}

var kindNames = map[byte]string{kindOpen: "open", kindReserve: "reserve", kindDrain: "drain", kindDone: "done", kindDoubt: "doubt",
	kindDecide: "decide", kindOutcome: "outcome", kindSeal: "seal", kindCharge: "charge"}

// KindOf is an entry's kind in words.
func KindOf(e Entry) string { return kindNames[e.kind()] }

// Describe makes a record readable: its entries as JSON, sets by their sizes.
func Describe(r Record) json.RawMessage {
	type object = map[string]any
	var entries []object
	for i, e := range r.Entries {
		o := object{"entry": i, "kind": KindOf(e)}
		switch e := e.(type) {
		case *Charge:
			o["job"], o["span"], o["ids"], o["dropped"], o["day"] = e.Job, e.Span, e.IDs, sizesOf(e.Dropped), e.Terms.Day
			o["all_accounts"] = e.Terms.All
			if number, ok := e.Terms.Account.Number(); ok {
				o["account"] = number
			}
			o["send_once"], o["until"] = fmt.Sprintf("%x", e.Terms.Once), e.Terms.Until
		case *Reserve:
			o["job"], o["slice"], o["span"], o["ids"], o["rest"] = e.Job, e.Slice, e.Span, e.IDs, e.Rest
			o["dropped"], o["targets"] = sizesOf(e.Dropped), e.Targets.sizes()
		case *Drain:
			o["job"], o["range"], o["targets"] = e.Job, e.Range.String(), e.Targets.sizes()
		case *Done:
			o["job"], o["range"], o["of"], o["gateway"] = e.Job, e.Range.String(), e.Of.String(), e.Inc
			o["waiting"], o["not_here"], o["unacknowledged"] = e.Waiting.Card(), e.NotHere.Card(), e.Unacked.Card()
			o["mute"], o["refused"] = e.Mute.Card(), e.Refused.Card()
		case *Doubt:
			o["job"], o["range"], o["of"], o["gateway"], o["final"] = e.Job, e.Range.String(), e.Of.String(), e.Inc, e.Final
		case *Decide:
			o["job"], o["range"] = e.Job, e.Range.String()
			o["delivered"], o["parked"], o["failed"] = e.Delivered.Card(), e.Parked.Card(), e.Failed.Card()
		case *Outcome:
			o["job"], o["range"], o["outcome"], o["reason"], o["ids"] = e.Job, e.Range.String(), e.Outcome, e.Reason, e.Set.Card()
		case Seal:
			o["by"] = e.By
		}
		entries = append(entries, o)
	}
	b, err := json.Marshal(object{"journal": r.Journal, "n": r.N, "entries": entries})
	if err != nil {
		panic(fmt.Sprintf("describing a record: %v", err)) // its fields cannot fail
	}
	return b
}

func sizesOf(drops []Drop) map[string]int {
	out := map[string]int{}
	for _, d := range drops {
		out[d.Reason.String()] = d.Set.Card()
	}
	return out
}

func (t Targets) sizes() map[string]int {
	out := map[string]int{}
	for i, inc := range t.Incs {
		out[inc.String()] = t.Sets[i].Card()
	}
	return out
}
