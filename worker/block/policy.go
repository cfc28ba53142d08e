package block

import (
	"fmt"
	"math"
	"slices"
	"time"

	"crier/job"
	"crier/state/ledger"
)

// Policy is how many messages a recipient gets in a day. All homes have the same.
type Policy struct {
	Cap        int             // messages of all accounts together; 0: any number
	AccountCap int             // messages of one account; 0: any number
	Zone       *time.Location  // whose days; default: UTC
	Exempt     []job.Class     // these neither count nor are held back
	Slots      []time.Duration // of the day, ascending: one of Cap's messages from each on; default: all at once
}

// Validate says what is wrong with the policy.
func (p Policy) Validate() error {
	switch {
	case p.Cap < 0 || p.Cap > job.MaxCap:
		return fmt.Errorf("a cap of %d messages a day is not between 0 and %d", p.Cap, job.MaxCap)
	case p.AccountCap < 0 || p.AccountCap > job.MaxCap:
		return fmt.Errorf("a cap of %d messages of an account a day is not between 0 and %d", p.AccountCap, job.MaxCap)
	case len(p.Slots) > 0 && len(p.Slots) != p.Cap:
		return fmt.Errorf("%d times of the day for a cap of %d messages; each message has one, or none has", len(p.Slots), p.Cap)
	case !slices.IsSorted(p.Slots):
		return fmt.Errorf("the times of the day are not in order")
	}
	for _, at := range p.Slots {
		if at < 0 || at >= 24*time.Hour {
			return fmt.Errorf("%s is no time of a day", at)
		}
	}
	return nil
}

// terms gives what recipients of a job are charged now, and whether they are charged
// anything. What takes a message back is no message: it costs nothing and is not held back.
func (p Policy) terms(spec job.Spec, now time.Time) (t ledger.Terms, charged bool) {
	if !spec.Withdraws.IsZero() {
		return t, false
	}
	if !slices.Contains(p.Exempt, spec.Class) {
		t.All = p.Cap > 0
		if p.AccountCap > 0 {
			t.Account = ledger.OneAccount(spec.Account)
		}
	}
	if t.All || t.Account != 0 {
		t.Day = p.day(now)
	}
	if spec.SendOnce != nil {
		t.Once = spec.SendOnce.Key
		t.Until = hourFrom(now.Add(spec.SendOnce.Window))
	}
	return t, t != ledger.Terms{}
}

func (p Policy) zone() *time.Location {
	if p.Zone == nil {
		return time.UTC
	}
	return p.Zone
}

// day numbers the days of the zone's calendar from 1970-01-01 on.
func (p Policy) day(now time.Time) uint32 {
	y, m, d := now.In(p.zone()).Date()
	return uint32(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60))
}

// Date is the day of a time in the zone, as time.DateOnly has it.
func (p Policy) Date(now time.Time) string { return now.In(p.zone()).Format(time.DateOnly) }

// released is how many messages of the day a recipient may have had by now: what was not
// taken before carries over. The clock of the zone says so, also on a day of 23 hours.
func (p Policy) released(now time.Time) int {
	if len(p.Slots) == 0 {
		return p.Cap
	}
	h, m, s := now.In(p.zone()).Clock()
	at := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
	n := 0
	for n < len(p.Slots) && p.Slots[n] <= at {
		n++
	}
	return n
}

// hourOf is the whole hours from 1970-01-01 UTC to a time, hourFrom those to the next full
// hour.
func hourOf(at time.Time) uint32   { return uint32(min(at.Unix()/3600, math.MaxUint32)) }
func hourFrom(at time.Time) uint32 { return hourOf(at.Add(time.Hour - 1)) }
