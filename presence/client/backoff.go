package client

import (
	"errors"
	"net/url"
	"time"
)

// Backoff is how long a client waits between connections. Zero fields take their
// defaults. A wait is between half of the length named and all of it, at random.
type Backoff struct {
	// Min is the first wait; each further one is twice as long. Default: 200 ms.
	Min time.Duration
	// Max is the longest wait. Default: 30 s.
	Max time.Duration
	// Denied is the wait after the gateway has denied the token and there is no other.
	// Default: 5 min.
	Denied time.Duration
	// Healthy is how long a connection must last for the next wait to be Min again; a
	// connection that brought a new message does it too. Default: 10 s.
	Healthy time.Duration
}

func (b *Backoff) validate() error {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&b.Min, 200 * time.Millisecond}, {&b.Max, 30 * time.Second}, {&b.Denied, 5 * time.Minute}, {&b.Healthy, 10 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	if b.Min < 0 || b.Max < b.Min || b.Denied < 0 || b.Healthy < 0 {
		return errors.New("client: Config.Backoff: want 0 < Min ≤ Max, and nothing negative")
	}
	return nil
}

// maxRedirects is how many redirects in a row a client follows.
const maxRedirects = 5

// ending says how a connection ended, or that it did not come about.
type ending struct {
	err      error    // why; nil if the client ended it
	healthy  bool     // it brought a new message, or lasted
	redirect *url.URL // the gateway named another one
	denied   bool     // the token was denied
	renewed  bool     // and there is another one
	replaced bool     // by a newer connection of the same client id
}

// retry decides where to connect next, and when. It is pure; one goroutine owns it.
type retry struct {
	backoff Backoff
	random  func() float64
	home    *url.URL
	others  []*url.URL // further homes, the next one first
	tries   int        // waits since the last healthy connection
	hops    int        // redirects in a row
	fresh   bool       // the present token came by a renewal and has not worked yet
}

// after takes the end of a connection and gives the next address and the wait
// before it. tooMany reports that a redirect was not followed.
func (r *retry) after(e ending) (next *url.URL, wait time.Duration, tooMany bool) {
	if e.healthy {
		r.tries, r.hops, r.fresh = 0, 0, false
	}
	switch {
	case e.redirect != nil && r.hops < maxRedirects:
		r.hops++
		return e.redirect, 0, false
	case e.denied && e.renewed && !r.fresh:
		r.fresh = true
		return r.home, 0, false
	case e.denied:
		r.fresh = false
		return r.home, r.jitter(r.backoff.Denied), false
	case e.replaced:
		return r.home, r.jitter(r.backoff.Max), false
	}
	if e.redirect != nil {
		r.hops, tooMany = 0, true
	} else if len(r.others) > 0 {
		r.home, r.others = r.others[0], append(r.others[1:], r.home)
	}
	wait = r.backoff.Max
	if r.tries < 40 && r.backoff.Min<<r.tries>>r.tries == r.backoff.Min {
		wait = min(wait, r.backoff.Min<<r.tries)
	}
	r.tries++
	return r.home, r.jitter(wait), tooMany
}

func (r *retry) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(r.random()*float64(d-d/2))
}
