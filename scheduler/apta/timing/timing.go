// Package timing is the times of the membership protocol, and the helpers of the cores
// for them: moments, spacing and variation. No clock is read here.
package timing

import (
	"fmt"
	"time"
)

// Instant is a moment of a member's monotonic clock. The clock starts at an hour or
// later, so that every moment that counts, and those shortly before, are above 0,
// which is never.
type Instant int64

// Add gives a later moment.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Since is the time from an earlier moment.
func (i Instant) Since(o Instant) time.Duration { return time.Duration(i - o) }

// Lasting is something that counts once it has lasted, and until it has been over for as
// long.
type Lasting struct {
	Since  Instant // since when it is as it is
	is     bool
	counts bool
}

// Note says how it is now.
func (l *Lasting) Note(now Instant, is bool) {
	if is != l.is {
		l.is, l.Since = is, now
	}
}

// Counts reports whether it counts now, if it is to last so long.
func (l *Lasting) Counts(now Instant, long time.Duration) bool {
	if now.Since(l.Since) >= long {
		l.counts = l.is
	}
	return l.counts
}

// Now is a moment by a member's two clocks.
type Now struct {
	Mono Instant
	Wall time.Time
}

// Timers are the times of the protocol. All members of a cluster use the same ones.
type Timers struct {
	Profile      string        // names the set; members of another one are refused
	Hello        time.Duration // between two hellos to a neighbour
	Jitter       int           // percent by which Hello varies
	Dead         time.Duration // silence after which a neighbour is lost, at full own health
	Originate    time.Duration // between two own records; doubles up to OriginateMax
	OriginateMax time.Duration
	Compute      time.Duration // before routes are computed; doubles up to ComputeMax
	ComputeMax   time.Duration
	Refresh      time.Duration // an own record is sent anew
	MaxAge       time.Duration // a record that was not is over
	Retransmit   time.Duration // a record that was not acknowledged is sent again
	Pace         time.Duration // between two batches of records to a neighbour
	Lazy         time.Duration // records that change nobody's view are passed on together, this often
	ViewHash     time.Duration // before a record is sent for the view's hash alone
	Lease        time.Duration // a member's lease
	Renew        time.Duration // between two renewals
	Answer       time.Duration // for an answer of the coordination store, or by way of a neighbour
	Margin       time.Duration // the fence is this long before the lease may lapse
	Look         time.Duration // between two looks at the leases, if the store has to be asked
	Redial       time.Duration // whoever is registered and not reachable is called again
	Join         time.Duration // JOINING waits no longer for agreement
	BadHealth    time.Duration // of bad health before SILENCE
}

// The names of the sets.
const (
	Standard = "standard"
	Quick    = "fast"
)

// Of gives the set with a name.
func Of(profile string) (Timers, error) {
	switch profile {
	case Standard:
		return Default(), nil
	case Quick:
		return Fast(), nil
	}
	return Timers{}, fmt.Errorf("membership timers: profile %q is none of %s, %s", profile, Standard, Quick)
}

// Default is the set Standard: it notices a crash within 2.5 s.
func Default() Timers {
	return Timers{Profile: Standard, Hello: 500 * time.Millisecond, Jitter: 10, Dead: 2 * time.Second,
		Originate: 100 * time.Millisecond, OriginateMax: 2 * time.Second, Compute: 50 * time.Millisecond, ComputeMax: 2 * time.Second,
		Refresh: time.Minute, MaxAge: 4 * time.Minute, Retransmit: 250 * time.Millisecond, Pace: 20 * time.Millisecond, Lazy: 500 * time.Millisecond, ViewHash: time.Second,
		Lease: 5 * time.Second, Renew: 1250 * time.Millisecond, Answer: 500 * time.Millisecond, Margin: 2 * time.Second, Look: 500 * time.Millisecond,
		Redial: 30 * time.Second, Join: 3 * time.Second, BadHealth: 10 * time.Second}
}

// Fast is the set Quick: it notices a crash within a second, for networks that are never
// slow.
func Fast() Timers {
	t := Default()
	t.Profile = Quick
	t.Hello, t.Dead, t.Retransmit = 200*time.Millisecond, 800*time.Millisecond, 100*time.Millisecond
	// A lease is whole seconds in the stores: 2.5 s would lapse after three.
	t.Lease, t.Renew, t.Answer, t.Margin, t.Look = 2*time.Second, 450*time.Millisecond, 200*time.Millisecond, 800*time.Millisecond, 200*time.Millisecond
	t.Redial = 10 * time.Second
	return t
}

// Validate says which timer does not fit the others.
func (t Timers) Validate() error {
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{t.Hello > 0 && t.Jitter >= 0 && t.Jitter <= 50, "Hello is not above 0, or Jitter not within 0 and 50 percent"},
		{t.Dead >= 2*t.Hello, "Dead is below two Hello: one lost hello would cost a link"},
		{t.Originate > 0 && t.OriginateMax >= t.Originate, "Originate is not within 0 and OriginateMax"},
		{t.Compute > 0 && t.ComputeMax >= t.Compute, "Compute is not within 0 and ComputeMax"},
		{t.Refresh > 0 && t.MaxAge >= 2*t.Refresh, "MaxAge is below two Refresh"},
		{t.Retransmit > 0 && t.Pace > 0 && t.Lazy > 0 && t.ViewHash > 0, "Retransmit, Pace, Lazy or ViewHash is not above 0"},
		{t.Renew > 0 && t.Answer > 0 && t.Margin > 0, "Renew, Answer or Margin is not above 0"},
		{t.Renew+2*t.Answer < t.Lease-t.Margin, "Lease is below Renew + 2 Answer + Margin: one lost answer would cost it"},
		{t.Lease%time.Second == 0, "Lease is not whole seconds: the stores round it up"},
		{t.Look > 0 && t.Look <= t.Lease/4, "Look is not within 0 and a quarter of Lease"},
		{t.Redial > 0 && t.Join > 0 && t.BadHealth > 0, "Redial, Join or BadHealth is not above 0"},
	} {
		if !c.ok {
			return fmt.Errorf("membership timers: %s", c.what)
		}
	}
	return nil
}

// Throttle spaces what may come in bursts: as long as something has to wait for the
// gap after the one before it, the gap doubles; when nothing had to, it is small again.
type Throttle struct {
	Least, Most time.Duration
	gap         time.Duration
	last        Instant
	waits       bool
}

// After is when something that was asked for now may be done: after a wait, and not
// too soon after the last time. It is called once for each Done.
func (t *Throttle) After(now Instant, wait time.Duration) Instant {
	at, free := now.Add(wait), t.last.Add(t.gap)
	t.waits = free > at
	return max(at, free)
}

// Done notes that it is done.
func (t *Throttle) Done(now Instant) {
	if t.waits {
		t.gap = min(2*t.gap, t.Most)
	} else {
		t.gap = t.Least
	}
	t.last = now
}

// Random is a sequence of numbers that look random (splitmix64), by its seed.
type Random uint64

// Next gives the next number.
func (r *Random) Next() uint64 {
	*r += 0x9e3779b97f4a7c15
	x := uint64(*r)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Vary varies a time by a percentage.
func (r *Random) Vary(d time.Duration, percent int) time.Duration {
	if percent == 0 {
		return d
	}
	span := d * time.Duration(percent) / 100
	return d - span + time.Duration(r.Next()%uint64(2*span+1))
}
