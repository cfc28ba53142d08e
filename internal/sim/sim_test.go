package sim

import (
	"slices"
	"testing"
	"time"
)

// A few seeds keep every promise; make sim runs 2,000.
func TestSeeds(t *testing.T) {
	t.Parallel()
	var zombies uint64
	Many(1, 60, Options{}, func(r Result) bool {
		zombies += r.Counts.ZombieRefused
		for _, what := range r.Failures {
			t.Errorf("seed %d: %s", r.Seed, what)
		}
		return true
	})
	if zombies == 0 {
		t.Error("no zombie tried anything: these seeds mean nothing")
	}
}

// What is called a simulation of faults has some.
func TestTheWeatherIsBad(t *testing.T) {
	t.Parallel()
	c := Many(1000, 40, Options{}, func(Result) bool { return true })
	for name, n := range map[string]uint64{"messages lost": c.Lost, "copies": c.Copies, "kills": c.Kills, "pauses": c.Pauses, "cuts": c.Cuts,
		"seals": c.Seals, "take-overs": c.TakeOvers, "incarnations that cannot be read": c.Unreadable, "doubts": c.Doubts, "drains": c.Drains,
		"ranges released": c.Moves, "dropped while parked": c.Crowded, "purges": c.Purges, "restores": c.Restores, "messages shown": c.Shown} {
		if n == 0 {
			t.Errorf("%s: none in 40 seeds", name)
		}
	}
}

// A seed gives the same run again, event by event.
func TestDeterminism(t *testing.T) {
	t.Parallel()
	o := Options{Storm: 5 * time.Second}
	Many(1, 200, o, func(r Result) bool {
		again := o
		again.Seed = r.Seed
		if second := Run(again); second.Hash != r.Hash || second.Counts != r.Counts || !slices.Equal(second.Failures, r.Failures) {
			t.Errorf("seed %d: %x and %x, %+v and %+v", r.Seed, r.Hash, second.Hash, r.Counts, second.Counts)
		}
		return true
	})
}

// Each planted bug is found at its seed by the invariant that it breaks, and the rules
// that are kept stand at the same seed.
func TestPlanted(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range Planted() {
		if seen[v.Name] || v.Opts.Rules == (Rules{}) || v.Seed == 0 {
			t.Errorf("%s: is there twice, breaks no rule, or has no seed", v.Name)
		}
		seen[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			broken, kept := v.Check()
			if broken == "" {
				t.Errorf("seed %d does not show that %s (%s)", v.Seed, v.Rule, v.Shows)
			}
			if kept != "" {
				t.Errorf("seed %d fails with the rules kept: %s", v.Seed, kept)
			}
		})
	}
	if len(seen) < 20 {
		t.Errorf("only %d planted bugs", len(seen))
	}
}
