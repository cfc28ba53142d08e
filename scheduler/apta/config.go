package apta

import (
	"errors"
	"fmt"
	"time"

	"crier/job"
	"crier/scheduler/apta/link"
	"crier/scheduler/apta/timing"
)

// Config describes a member.
type Config struct {
	// Cluster names the cluster; hellos of another one are refused. Required.
	Cluster string
	// ID names the member in its cluster. Required; see job.ValidName.
	ID string
	// Incarnation is this start's number. It is above those of all earlier starts
	// that owned anything; the first is 1.
	Incarnation uint32
	// Nonce is a random number of this process, not 0, by which two with one id are
	// told apart.
	Nonce uint64
	// Home names the data directory whose lock the process holds; 0 if it has none.
	// A process of the same id and home and a higher incarnation is the successor of
	// one that is dead; any other with the same id is a duplicate.
	Home uint64
	// Addr is where this member hears others, as they can dial it. Required.
	Addr string
	// Weights are the member's shares.
	Weights link.Weights
	// Seeds are addresses to call when there is no neighbour: configured ones and
	// those of peers known from before.
	Seeds []string
	// Timers are the same for all members. Default timing.Default.
	Timers timing.Timers
	// ClockLimit is by how much a member's wall clock may be off. Default 2 min.
	ClockLimit time.Duration
	// Silence is what Silenced told last in earlier starts; "" is nothing.
	Silence string
	// Seed of all that is random.
	Seed uint64
}

func (c Config) withDefaults() Config {
	if c.Timers == (timing.Timers{}) {
		c.Timers = timing.Default()
	}
	if c.ClockLimit == 0 {
		c.ClockLimit = 2 * time.Minute
	}
	return c
}

// Validate names the field that cannot be used.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case !job.ValidName(c.Cluster):
		return fmt.Errorf("membership configuration: Cluster %q is no name", c.Cluster)
	case !job.ValidName(c.ID):
		return fmt.Errorf("membership configuration: ID %q is no name", c.ID)
	case c.Nonce == 0 || c.Incarnation == 0:
		return errors.New("membership configuration: Nonce or Incarnation is 0")
	case c.Addr == "" || len(c.Addr) > link.MaxAddr:
		return fmt.Errorf("membership configuration: Addr %q is empty or longer than %d bytes", c.Addr, link.MaxAddr)
	case c.ClockLimit < time.Second:
		return fmt.Errorf("membership configuration: ClockLimit %s is below 1s", c.ClockLimit)
	}
	for _, s := range c.Seeds {
		if s == "" || len(s) > link.MaxAddr {
			return fmt.Errorf("membership configuration: Seeds: address %q is empty or longer than %d bytes", s, link.MaxAddr)
		}
	}
	return c.Timers.Validate()
}
