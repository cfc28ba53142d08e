// Package sim runs a whole cluster in one thread from one seed: the cores of production
// (journals, lanes, outbound, homes, tenure, arrivals, gateways, the parked index) under
// simulated workers, gateways, devices, stores and operators, while everything fails
// that may fail.
//
// It guarantees that a seed gives the same run again, event by event, and that the
// verdict comes from what the devices showed and acknowledged and from a naive reading
// of the ledger's records (package oracle), not from any of the code that is judged.
//
// Rules says which rule of the protocol the simulated cluster breaks: a planted bug that
// the verdict must find. Nothing outside this package can break one.
package sim

import (
	"io"
	"math/rand/v2"
	"time"

	"crier/internal/sim/oracle"
	"crier/internal/sim/stream"
	"crier/job"
	"crier/scheduler/apta/hint"
)

// Options say what to run. The zero value is a world made by the seed alone.
type Options struct {
	Seed    uint64
	Rules   Rules
	Workers int           // 0: 2, 3 or 5, as the seed says
	Storm   time.Duration // how long everything fails; 0: 20 to 50 s, as the seed says
	Trace   io.Writer     // every line of what happens; may be nil
}

// Rules are the rules that are broken. The zero value keeps all of them.
type Rules struct {
	SealElsewhere     bool // 3: the seal goes to another stream
	NoFence           bool // 13: nobody is asked what was accepted
	SilenceIsAnswer   bool // 13: a fence without an answer counts as "never accepted"
	ReopenSealed      bool // 1: an owner goes on behind the seal
	RetryIsStored     bool // 2: a retry's "wrong last sequence" counts as stored
	Pipelined         bool // 1: several appends in flight
	ClaimUnsealed     bool // 4: the taker claims without sealing
	SeenByBlock       bool // 9: a hand-off is known by its job and block
	RedirectNotHere   bool // 9: who is not here is handed to another gateway in the same reserve
	ParkedByDelivered bool // 19: parked is what is not delivered yet
	FixedWindow       bool // 14: a client keeps the last few ids
	TwoDeciders       bool // 18: the sender decides doubt, too
	PurgeAll          bool // 6: a purge takes a journal's last record
	LateParkStays     bool // 21: what is parked after a cancel or a recall takes no outcome
	SendBeforeReserve bool // 8: hand-offs leave before their reserve is durable
	Stranded          bool // 20: nobody looks who is online after parking
	LateLeaveClears   bool // 23: a disconnect clears whoever is online elsewhere
	WallClockLease    bool // 24: leases are measured by the wall clock
	MassTakeOver      bool // 24: silence of the store counts against members
	CancelLost        bool // 12, 21: a taker does not know the controls before it
	ControlsOfOffer   bool // 21: a slice begins with the controls that its offer found
	HighWater         bool // outbox: the relay reads ids greater than the last
	SettledEarly      bool // 14: clients may forget while a reserve is open
	DrainUnreserved   bool // 20: a drain has no reserve
	FileAfterSocket   bool // 10: the accepted-file is written later
	ActBeforeSealRead bool // 4: the taker acts before its index has read the seal
	GiveBeforeDurable bool // 4: a range is released while its appends are under way
	ChargeByBlock     bool // 7: a charge is known by the block as it was cut
	RefundTwice       bool // a charge is taken back twice
	DayOfReader       bool // the day of a charge is that of who reads it
	OldestStays       bool // of the messages with one collapse key the oldest stays
	DropTwice         bool // what is dropped while parked is recorded twice
	RecorderSkips     bool // projections take any newer version
}

// Counts are what happened, over a seed or many.
type Counts struct {
	Events        uint64 `json:"events"`
	Appends       uint64 `json:"appends"`
	Records       uint64 `json:"records"`
	Lost          uint64 `json:"messages_lost"`
	Copies        uint64 `json:"messages_copied"`
	Kills         uint64 `json:"kills"`
	Pauses        uint64 `json:"pauses"`
	Cuts          uint64 `json:"cuts"`
	Seals         uint64 `json:"seals"` // of others' journals
	TakeOvers     uint64 `json:"take_overs"`
	ZombieRefused uint64 `json:"zombie_refused"` // what a sealed or fenced journal tried in vain
	Unreadable    uint64 `json:"unreadable"`     // incarnations that cannot answer
	Shown         uint64 `json:"shown"`
	Doubts        uint64 `json:"doubts"`
	Drains        uint64 `json:"drains"`
	Charges       uint64 `json:"charges"`
	Crowded       uint64 `json:"crowded"` // dropped while parked, because it was too much
	Moves         uint64 `json:"ranges_released"`
	Purges        uint64 `json:"purges"`
	Restores      uint64 `json:"restores"`
}

// Add sums up.
func (c *Counts) Add(o Counts) {
	for _, x := range [][2]*uint64{{&c.Events, &o.Events}, {&c.Appends, &o.Appends}, {&c.Records, &o.Records}, {&c.Lost, &o.Lost},
		{&c.Copies, &o.Copies}, {&c.Kills, &o.Kills}, {&c.Pauses, &o.Pauses}, {&c.Cuts, &o.Cuts}, {&c.Seals, &o.Seals},
		{&c.TakeOvers, &o.TakeOvers}, {&c.ZombieRefused, &o.ZombieRefused}, {&c.Unreadable, &o.Unreadable}, {&c.Shown, &o.Shown},
		{&c.Doubts, &o.Doubts}, {&c.Drains, &o.Drains}, {&c.Charges, &o.Charges}, {&c.Crowded, &o.Crowded}, {&c.Moves, &o.Moves}, {&c.Purges, &o.Purges}, {&c.Restores, &o.Restores}} {
		*x[0] += *x[1]
	}
}

// Result is a run and its verdict.
type Result struct {
	Seed     uint64   `json:"seed"`
	Hash     uint64   `json:"hash"`
	Failures []string `json:"failures,omitempty"`
	Last     []string `json:"last,omitempty"` // what happened before the first failure
	Counts   Counts   `json:"counts"`
}

// Run runs one seed. A panic of a core is a failure of the run.
func Run(opts Options) (res Result) {
	w := newWorld(opts)
	defer func() {
		if p := recover(); p != nil {
			if opts.Trace != nil {
				panic(p)
			}
			w.fail("panic", "%v", p)
		}
		w.counts.Events, w.counts.Records = w.events, w.ledger.Len()
		res = Result{Seed: opts.Seed, Hash: w.hash, Failures: w.failures, Counts: w.counts}
		if len(w.failures) > 0 {
			res.Last = w.lines
		}
	}()
	w.build()
	w.rage()
	w.heal()
	w.judge()
	return res
}

// World is the cluster and what is around it.
type World struct {
	opts   Options
	rules  Rules
	rng    *rand.Rand
	now    time.Duration
	agenda agenda
	events uint64
	nonces uint32

	procs     []*proc
	cuts      map[[2]int]bool
	lastAt    map[route]time.Duration
	weather   weather
	calm      bool // nothing fails any more
	ledger    *stream.Stream
	controls  *stream.Stream
	followers []*follower

	ledgerHost, coordHost *proc
	coord                 *coord
	apta                  bool // members are apta's
	leases                map[string]held
	tables                map[string]*hint.Table
	workers               []*worker
	gateways              []*gatewayHost
	devices               []*device
	jobs                  []*jobInfo
	byID                  map[jobID]*jobInfo
	people                []uint32
	fold                  *oracle.Fold
	outbox                *outbox

	ranges       []job.Range
	devicesMade  int
	windowed     bool
	healed       time.Duration
	folded       uint64 // the last journal record that the oracle has read
	elsewhere    map[job.Journal]bool
	resent       map[jobID]bool // an operator had their doubt sent again
	checkpoint   []byte
	checkpointAt uint64 // its watermark

	failures []string
	broken   string // set when going on makes no sense
	lines    []string
	hash     uint64
	counts   Counts
	checked  uint64 // samples of the index against the oracle
}

func newWorld(opts Options) *World {
	w := &World{opts: opts, rules: opts.Rules, rng: rand.New(rand.NewPCG(opts.Seed, 0x637269657273696d)), cuts: map[[2]int]bool{},
		lastAt: map[route]time.Duration{}, ledger: stream.New(), controls: stream.New(), byID: map[jobID]*jobInfo{},
		leases: map[string]held{}, tables: map[string]*hint.Table{}, elsewhere: map[job.Journal]bool{}, resent: map[jobID]bool{}}
	w.now = time.Hour
	w.apta = opts.Seed%2 == 0 && !w.rules.WallClockLease && !w.rules.MassTakeOver
	return w
}
