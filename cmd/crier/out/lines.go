package out

import (
	"fmt"
	"strings"

	"crier/api"
	"crier/job"
)

// A stream has no table, whose widths would need all of it; its items are lines.

// stamp is how a line writes a time.
const stamp = "2006-01-02T15:04:05.000Z"

// EntryLine is a record of the ledger as a line.
func EntryLine(e api.LedgerEntry) string {
	return fmt.Sprintf("%8d  %s  %-12s  %s  %s", e.Seq, e.Time.UTC().Format(stamp), Clean(e.Kind), Clean(e.Subject), Clean(string(e.Detail)))
}

// The lines of events, in full and where they would not fit: seconds are whole then, and of
// "version" there is its first letter.
const (
	eventFull, eventShort = "%8d  %s  %-11s  %s", "%6d  %s  %-11s  %s"
	stampShort            = "2006-01-02T15:04:05Z"
	narrow                = 92 // columns, in which the full line of a job's state fits
)

// EventLine is an event as a line for a width; what does not fit goes on below, beside what
// it is about. A width of 0 is no limit.
func EventLine(e api.Event, width int) string {
	form, at, version := eventFull, stamp, "version "
	if width > 0 && width < narrow {
		form, at, version = eventShort, stampShort, "v"
	}
	what := fmt.Sprintf("%s  %s%d", e.Job, version, e.Version)
	switch e.Kind() {
	case job.EventOfControl:
		what = e.Job.String() + controlled(e, form == eventShort)
	case job.EventOfSlice:
		what = fmt.Sprintf("%s slice %d  %s%d", e.Job, *e.Slice, version, e.Version)
	case job.EventOfSet:
		what = fmt.Sprintf("%s  revision %d: %s, now %s", strings.TrimSpace(Clean(e.Set.Kind)+" "+Clean(e.Set.Name)), e.Version, change(e), Exact(e.Set.Recipients))
	}
	line := fmt.Sprintf(form, e.Cursor, e.At.UTC().Format(at), Clean(e.State), what)
	column := len(line) - len(what)
	if e.Alert != "" {
		line += "  ALERT " + Clean(e.Alert)
	}
	if e.Reason != "" {
		line += "  " + Clean(e.Reason)
	}
	return Hang(line, width, column)
}

// controlled is what stands behind the job of a control.
func controlled(e api.Event, short bool) string {
	switch {
	case e.Rate == nil && short:
		return ""
	case e.Rate == nil:
		return "  control"
	case *e.Rate == 0 && short:
		return "  no limit"
	case *e.Rate == 0:
		return "  control  unlimited"
	case short:
		return fmt.Sprintf("  %d/s", *e.Rate)
	}
	return "  control  " + Many(uint64(*e.Rate), "recipient") + " a second"
}

// change is how many recipients came into a set or left it, with a sign.
func change(e api.Event) string {
	sign := map[string]string{job.SetAdded: "+", job.SetRemoved: "-"}[e.State]
	return sign + Exact(e.Set.Changed)
}

// Extent puts the extent of a stream of the ledger, or of its reports, in words.
func Extent(s api.LedgerStream) string {
	d := fmt.Sprintf("%s (%d to %d), %s", Many(s.Records, "record"), s.First, s.Last, Bytes(s.Bytes))
	if s.Limit > 0 {
		d += " of " + Bytes(s.Limit)
	}
	if s.Journals > 0 {
		d += fmt.Sprintf(", %s, %s sealed", Many(s.Journals, "journal"), Count(s.Sealed))
	}
	return d
}
