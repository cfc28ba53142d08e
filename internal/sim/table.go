package sim

import "strings"

// Variant is a planted bug: a rule that the cluster breaks, and a seed that shows it.
type Variant struct {
	Name  string
	Rule  string // of the protocol
	Shows string // the invariant that it breaks
	Seed  uint64 // 0: none is recorded
	Opts  Options
}

// Planted is the planted bugs, each with the first seed that was found to show it.
func Planted() []Variant {
	v := func(name, rule, shows string, seed uint64, r Rules) Variant {
		return Variant{name, rule, shows, seed, Options{Seed: seed, Rules: r}}
	}
	return []Variant{
		v("retry-is-stored", "2: a retry's refusal is taken for success", "I6", 3188, Rules{RetryIsStored: true}),
		v("pipelined", "1: several appends in flight", "I6", 1, Rules{Pipelined: true}),
		v("reopen-sealed", "1: an owner goes on behind the seal", "I6", 155, Rules{ReopenSealed: true}),
		v("seal-elsewhere", "3: the seal goes to another stream", "I7", 6, Rules{SealElsewhere: true}),
		v("claim-unsealed", "4: a taker claims without sealing", "I7", 6, Rules{ClaimUnsealed: true}),
		v("act-before-seal-read", "4: a taker acts before its index has read the seal", "I1", 833, Rules{ActBeforeSealRead: true}),
		v("give-before-durable", "4: a range is released while its appends are under way", "I7", 19, Rules{GiveBeforeDurable: true}),
		v("purge-all", "6: a purge takes a journal's last record", "I6", 3, Rules{PurgeAll: true}),
		v("send-before-reserve", "8: hand-offs leave before their reserve is durable", "I3", 99, Rules{SendBeforeReserve: true}),
		v("seen-by-block", "9: a hand-off is known by its job and block", "I4", 2, Rules{SeenByBlock: true}),
		v("redirect-not-here", "9: who is not here is handed to another gateway in the same reserve", "I3", 308, Rules{RedirectNotHere: true}),
		v("file-after-socket", "10: the accepted-file is written after the socket", "I3", 51, Rules{FileAfterSocket: true}),
		v("no-fence", "13: nobody is asked what was accepted", "I3", 19, Rules{NoFence: true}),
		v("silence-is-answer", "13: a fence without an answer means never accepted", "I3", 321, Rules{SilenceIsAnswer: true}),
		v("fixed-window", "14: a client keeps the last few ids", "I3", 35, Rules{FixedWindow: true}),
		v("settled-early", "14: clients may forget while a reserve is open", "I3", 1, Rules{SettledEarly: true}),
		v("two-deciders", "18: the sender decides doubt, too", "I7", 7, Rules{TwoDeciders: true}),
		v("parked-by-delivered", "19: parked is what is not delivered yet", "I1", 2, Rules{ParkedByDelivered: true}),
		v("stranded", "20: nobody looks who is online after parking", "I21", 1, Rules{Stranded: true}),
		v("drain-unreserved", "20: a drain has no reserve", "I3", 2, Rules{DrainUnreserved: true}),
		v("late-park-stays", "21: what is parked after a cancel or a recall takes no outcome", "I2", 1, Rules{LateParkStays: true}),
		v("cancel-lost", "12, 21: a taker does not know the cancel before it", "I12", 2, Rules{CancelLost: true}),
		v("controls-of-offer", "21: a slice begins with the controls that its offer found", "I12", 660, Rules{ControlsOfOffer: true}),
		v("late-leave-clears", "23: a late disconnect takes whoever is elsewhere", "I21", 1, Rules{LateLeaveClears: true}),
		v("wall-clock-lease", "24: leases are measured by the wall clock", "I7", 12, Rules{WallClockLease: true}),
		v("mass-take-over", "24: silence of the store counts against members", "I7", 7, Rules{MassTakeOver: true}),
		v("charge-by-block", "7: a charge is known by the block as it was cut", "charge", 15, Rules{ChargeByBlock: true}),
		v("refund-twice", "7: a charge is taken back twice", "charge", 11, Rules{RefundTwice: true}),
		v("day-of-reader", "7: the day of a charge is that of who reads it", "charge", 7, Rules{DayOfReader: true}),
		v("oldest-stays", "parking: of the messages with one collapse key the oldest stays", "crowd", 28, Rules{OldestStays: true}),
		v("drop-twice", "parking: what is dropped while parked is recorded twice", "I1", 3, Rules{DropTwice: true}),
		v("high-water", "outbox: the relay reads ids greater than the last", "I2", 1, Rules{HighWater: true}),
		v("recorder-skips", "projection: any newer version is applied", "I2", 174, Rules{RecorderSkips: true}),
	}
}

// Search looks for the first seed that shows a planted bug.
func Search(v Variant, limit uint64) (seed uint64, what string, ok bool) {
	seed = limit + 1
	Many(1, limit, v.Opts, func(r Result) bool {
		if found := v.Found(r); found != "" && r.Seed < seed {
			seed, what, ok = r.Seed, found, true
		}
		return !ok
	})
	return seed, what, ok
}

// Found gives the failure by which a run shows the planted bug, or "".
func (v Variant) Found(r Result) string {
	for _, what := range r.Failures {
		if strings.HasPrefix(what, v.Shows+":") {
			return what
		}
	}
	return ""
}

// Check runs a planted bug at its seed, and the rules kept at the same seed. It gives the
// failure by which the first shows the bug, and the first one of the second; "" if there
// is none.
func (v Variant) Check() (broken, kept string) {
	broken = v.Found(Run(v.Opts))
	o := v.Opts
	o.Rules = Rules{}
	if r := Run(o); len(r.Failures) > 0 {
		kept = r.Failures[0]
	}
	return broken, kept
}
