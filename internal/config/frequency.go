package config

import (
	"fmt"
	"slices"
	"time"

	"crier/job"
)

// Frequency is how many messages a recipient gets in a day. All workers have the same.
type Frequency struct {
	// Cap is the most messages of all accounts together, up to 10000. Default: 0, any number.
	Cap int `koanf:"cap"`
	// AccountCap is the most messages of one account. Default: 0, any number.
	AccountCap int `koanf:"account_cap"`
	// Zone is the time zone whose days count, such as Asia/Shanghai. Default: UTC.
	Zone string `koanf:"zone"`
	// Exempt are classes of jobs, normal or realtime, that are neither held back nor
	// counted. Default: none.
	Exempt []string `koanf:"exempt"`
	// Slots are Cap times of the day, such as 09:00: one more message may be sent from each
	// of them on. Default: none; all of them at any time.
	Slots []string `koanf:"slots"`
}

// MaxCap is the highest cap.
const MaxCap = 10_000

var frequencySettings = []setting{
	{"frequency.cap", "frequency-cap", "messages that a recipient gets in a day, of all accounts together; 0 is any number"},
	{"frequency.account_cap", "frequency-account-cap", "messages that a recipient gets of one account in a day; 0 is any number"},
	{"frequency.zone", "frequency-zone", "time zone whose days count, such as Asia/Shanghai (default: UTC)"},
	{"frequency.exempt", "frequency-exempt", "classes of jobs that are neither held back nor counted, separated by commas"},
	{"frequency.slots", "frequency-slots", "as many times of the day as the cap, such as 09:00,18:00: from each on, one more message may be sent (default: all at any time)"},
}

// Location is the zone.
func (f Frequency) Location() (*time.Location, error) {
	loc, err := time.LoadLocation(f.Zone) // "" is UTC
	if err != nil || f.Zone == "Local" {
		return nil, job.Invalid("frequency.zone", fmt.Sprintf("frequency.zone: %q is no time zone such as Asia/Shanghai", f.Zone), nil)
	}
	return loc, nil
}

// Classes are the exempt classes.
func (f Frequency) Classes() ([]job.Class, error) {
	var out []job.Class
	for _, text := range f.Exempt {
		var c job.Class
		if err := c.UnmarshalText([]byte(text)); err != nil || text == "" {
			return nil, job.Invalid("frequency.exempt", fmt.Sprintf("frequency.exempt: %q is neither normal nor realtime", text), nil)
		}
		out = append(out, c)
	}
	return out, nil
}

// Times are the slots as times since midnight.
func (f Frequency) Times() ([]time.Duration, error) {
	var out []time.Duration
	for _, text := range f.Slots {
		t, err := time.Parse("15:04", text)
		if err != nil {
			return nil, job.Invalid("frequency.slots", fmt.Sprintf("frequency.slots: %q is no time of the day such as 09:00", text), nil)
		}
		out = append(out, time.Duration(t.Hour())*time.Hour+time.Duration(t.Minute())*time.Minute)
	}
	if !slices.IsSorted(out) {
		return nil, job.Invalid("frequency.slots", "frequency.slots: the times of the day are not in order", nil)
	}
	return out, nil
}

func (f Frequency) validate() error {
	for key, n := range map[string]int{"frequency.cap": f.Cap, "frequency.account_cap": f.AccountCap} {
		if n < 0 || n > MaxCap {
			return job.Invalid(key, fmt.Sprintf("%s: %d is not between 0 and %d", key, n, MaxCap), nil)
		}
	}
	if _, err := f.Location(); err != nil {
		return err
	}
	if _, err := f.Classes(); err != nil {
		return err
	}
	times, err := f.Times()
	if err == nil && len(times) > 0 && len(times) != f.Cap {
		err = job.Invalid("frequency.slots", fmt.Sprintf("frequency.slots: %d times of the day for frequency.cap %d; each message has one, or none has", len(times), f.Cap), nil)
	}
	return err
}
