package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"crier/internal/sim"
)

// flags are what to run.
type flags struct {
	seeds, from, seed      uint64
	planted, search, twice bool
	trace                  bool
	variant, output        string
	workers                int
	limit                  uint64
	last                   int
}

func command() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:           "crier-sim",
		Short:         "Run the whole cluster in simulation, and judge it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		Example: `  crier-sim --seeds 2000 --planted -o json   what make sim does
  crier-sim --seed 17 --trace                one seed, with all that happens in it
  crier-sim --planted-search --variant no-fence`,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.OutOrStdout()) },
	}
	fs := c.Flags()
	fs.Uint64Var(&f.seeds, "seeds", 0, "how many seeds to run")
	fs.Uint64Var(&f.from, "from", 1, "the first of them")
	fs.Uint64Var(&f.seed, "seed", 0, "run this one seed")
	fs.BoolVar(&f.trace, "trace", false, "with --seed: print all that happens")
	fs.BoolVar(&f.twice, "twice", false, "run each seed twice and compare")
	fs.BoolVar(&f.planted, "planted", false, "run each planted bug at its seed, and the rules kept at the same seed")
	fs.BoolVar(&f.search, "planted-search", false, "look for the first seed that shows each planted bug")
	fs.Uint64Var(&f.limit, "limit", 10000, "with --planted-search: how many seeds to look through")
	fs.StringVar(&f.variant, "variant", "", "this planted bug only; with --seed or --seeds: run with it")
	fs.IntVar(&f.workers, "workers", 0, "how many workers; 0: as the seed says")
	fs.IntVar(&f.last, "last", 40, "how many events of a failed seed are printed")
	fs.StringVarP(&f.output, "output", "o", "table", "table or json")
	return c
}

// report is what is printed.
type report struct {
	Seeds        uint64         `json:"seeds"`
	Failures     int            `json:"failures"`
	PlantedFound int            `json:"planted_found"`
	PlantedTotal int            `json:"planted_total"`
	Zombies      uint64         `json:"zombie_refused"`
	Seconds      float64        `json:"seconds"`
	Counts       sim.Counts     `json:"counts"`
	Failed       []sim.Result   `json:"failed,omitempty"`
	Planted      []plantedEntry `json:"planted,omitempty"`
}

type plantedEntry struct {
	Name  string `json:"name"`
	Rule  string `json:"rule"`
	Seed  uint64 `json:"seed"`
	Found string `json:"found"`
	Kept  string `json:"kept,omitempty"` // what failed although the rules were kept
}

func (f *flags) run(out io.Writer) error {
	if f.output != "table" && f.output != "json" {
		return fmt.Errorf("--output %q: want table or json", f.output)
	}
	if f.seeds == 0 && f.seed == 0 && !f.planted && !f.search {
		return errors.New("nothing to do: want --seeds, --seed, --planted or --planted-search")
	}
	began := time.Now()
	var r report
	opts, err := f.options()
	if err != nil {
		return err
	}
	if f.seed > 0 {
		f.one(opts, &r)
	}
	if f.seeds > 0 {
		f.many(opts, &r)
	}
	if f.planted || f.search {
		f.plants(&r)
	}
	r.Zombies, r.Seconds = r.Counts.ZombieRefused, time.Since(began).Seconds()
	if err := f.print(out, &r); err != nil {
		return err
	}
	switch {
	case r.Failures > 0:
		return fmt.Errorf("%d failures", r.Failures)
	case r.PlantedFound < r.PlantedTotal:
		return fmt.Errorf("%d of %d planted bugs were not found", r.PlantedTotal-r.PlantedFound, r.PlantedTotal)
	case f.seeds >= 100 && r.Zombies == 0 && f.variant == "":
		return errors.New("no zombie was refused: these seeds mean nothing")
	}
	return nil
}

func (f *flags) options() (sim.Options, error) {
	opts := sim.Options{Workers: f.workers}
	if f.variant == "" {
		return opts, nil
	}
	for _, v := range sim.Planted() {
		if v.Name == f.variant {
			opts.Rules = v.Opts.Rules
			return opts, nil
		}
	}
	return opts, fmt.Errorf("--variant %q: there is no such planted bug", f.variant)
}

func (f *flags) one(opts sim.Options, r *report) {
	opts.Seed = f.seed
	if f.trace {
		opts.Trace = os.Stderr
	}
	r.add(sim.Run(opts))
}

func (r *report) add(res sim.Result) {
	r.Seeds++
	r.Counts.Add(res.Counts)
	if len(res.Failures) > 0 {
		if r.Failures++; len(r.Failed) < 20 {
			r.Failed = append(r.Failed, res)
		}
	}
}

func (f *flags) many(opts sim.Options, r *report) {
	sim.Many(f.from, f.seeds, opts, func(res sim.Result) bool {
		if f.twice {
			again := opts
			again.Seed = res.Seed
			if second := sim.Run(again); second.Hash != res.Hash {
				res.Failures = append(res.Failures, fmt.Sprintf("determinism: the second run's hash is %x, the first's %x", second.Hash, res.Hash))
			}
		}
		r.add(res)
		return true
	})
}

func (f *flags) plants(r *report) {
	for _, v := range sim.Planted() {
		if f.variant != "" && v.Name != f.variant {
			continue
		}
		r.PlantedTotal++
		e := plantedEntry{Name: v.Name, Rule: v.Rule, Seed: v.Seed}
		if f.search {
			if seed, what, ok := sim.Search(v, f.limit); ok {
				e.Seed, e.Found = seed, what
			}
		} else if v.Seed > 0 {
			if e.Found, e.Kept = v.Check(); e.Kept != "" {
				r.Failures++
			}
		}
		if e.Found != "" {
			r.PlantedFound++
		}
		r.Planted = append(r.Planted, e)
	}
}

func (f *flags) print(out io.Writer, r *report) error {
	if f.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	for _, res := range r.Failed {
		fmt.Fprintf(out, "seed %d (crier-sim --seed %d --trace shows all of it):\n", res.Seed, res.Seed)
		for _, line := range res.Last[max(0, len(res.Last)-f.last):] {
			fmt.Fprintln(out, "   ", line)
		}
		for _, what := range res.Failures {
			fmt.Fprintln(out, "  ", what)
		}
	}
	for _, e := range r.Planted {
		fmt.Fprintf(out, "%-22s seed %-6d %s\n", e.Name, e.Seed, e.Found)
		if e.Kept != "" {
			fmt.Fprintf(out, "%-22s with the rules kept: %s\n", "", e.Kept)
		}
	}
	_, err := fmt.Fprintf(out, "%d seeds, %d failures, %d of %d planted bugs found, %d attempts of zombies refused, %.1f s\n",
		r.Seeds, r.Failures, r.PlantedFound, r.PlantedTotal, r.Zombies, r.Seconds)
	return err
}
