package sim

import "strings"

// Variant is a planted bug: a rule that the cluster breaks, and a seed that shows it.
type Variant struct {
	Name string
	Rule string // of the protocol
	Seed uint64 // 0: none is recorded
	Opts Options
}

// Planted is the planted bugs, each with the first seed that was found to show it.
func Planted() []Variant {
	v := func(name, rule string, seed uint64, r Rules) Variant {
		return Variant{name, rule, seed, Options{Seed: seed, Rules: r}}
	}
	return []Variant{
		v("retry-is-stored", "2: a retry's refusal is taken for success", 0, Rules{RetryIsStored: true}),
		v("pipelined", "1: several appends in flight", 0, Rules{Pipelined: true}),
		v("reopen-sealed", "1: an owner goes on behind the seal", 0, Rules{ReopenSealed: true}),
		v("seal-elsewhere", "3: the seal goes to another stream", 0, Rules{SealElsewhere: true}),
		v("claim-unsealed", "4: a taker claims without sealing", 0, Rules{ClaimUnsealed: true}),
		v("act-before-seal-read", "4: a taker acts before its index has read the seal", 0, Rules{ActBeforeSealRead: true}),
		v("give-before-durable", "4: a range is released while its appends are under way", 0, Rules{GiveBeforeDurable: true}),
		v("purge-all", "6: a purge takes a journal's last record", 0, Rules{PurgeAll: true}),
		v("send-before-reserve", "8: hand-offs leave before their reserve is durable", 0, Rules{SendBeforeReserve: true}),
		v("seen-by-block", "9: a hand-off is known by its job and block", 0, Rules{SeenByBlock: true}),
		v("redirect-not-here", "9: who is not here is handed to another gateway in the same reserve", 0, Rules{RedirectNotHere: true}),
		v("file-after-socket", "10: the accepted-file is written after the socket", 0, Rules{FileAfterSocket: true}),
		v("no-fence", "13: nobody is asked what was accepted", 0, Rules{NoFence: true}),
		v("silence-is-answer", "13: a fence without an answer means never accepted", 0, Rules{SilenceIsAnswer: true}),
		v("fixed-window", "14: a client keeps the last few ids", 0, Rules{FixedWindow: true}),
		v("settled-early", "14: clients may forget while a reserve is open", 0, Rules{SettledEarly: true}),
		v("two-deciders", "18: the sender decides doubt, too", 0, Rules{TwoDeciders: true}),
		v("parked-by-delivered", "19: parked is what is not delivered yet", 0, Rules{ParkedByDelivered: true}),
		v("stranded", "20: nobody looks who is online after parking", 0, Rules{Stranded: true}),
		v("drain-unreserved", "20: a drain has no reserve", 0, Rules{DrainUnreserved: true}),
		v("late-park-stays", "21: what is parked after a cancel takes no outcome", 0, Rules{LateParkStays: true}),
		v("cancel-lost", "12, 21: a taker does not know the cancel before it", 0, Rules{CancelLost: true}),
		v("late-leave-clears", "23: a late disconnect takes whoever is elsewhere", 0, Rules{LateLeaveClears: true}),
		v("wall-clock-lease", "24: leases are measured by the wall clock", 0, Rules{WallClockLease: true}),
		v("mass-take-over", "24: silence of the store counts against members", 0, Rules{MassTakeOver: true}),
		v("high-water", "outbox: the relay reads ids greater than the last", 0, Rules{HighWater: true}),
		v("recorder-skips", "projection: any newer version is applied", 0, Rules{RecorderSkips: true}),
	}
}

// Search looks for the first seed that shows a planted bug.
func Search(v Variant, limit uint64) (seed uint64, res Result, ok bool) {
	seed = limit + 1
	Many(1, limit, v.Opts, func(r Result) bool {
		if len(r.Failures) > 0 && r.Seed < seed {
			seed, res, ok = r.Seed, r, true
		}
		return !ok
	})
	return seed, res, ok
}

// Check runs a planted bug at its seed, and the rules kept at the same seed.
func (v Variant) Check() (broken, kept Result) {
	o := v.Opts
	broken = Run(o)
	o.Rules = Rules{}
	return broken, Run(o)
}

// Invariant is the name of what a failure breaks.
func Invariant(failure string) string {
	name, _, _ := strings.Cut(failure, ":")
	return name
}
