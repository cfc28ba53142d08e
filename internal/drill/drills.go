package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"crier/internal/cluster"
	"crier/internal/drill/holders"
	"crier/internal/drill/verdict"
	"crier/job"
)

// Drill is a fault and what should come of it.
type Drill struct {
	Name       string
	Hypothesis string
	Limits     verdict.Limits
	// lasts is how long the fault is left; 0: until work resumed, and then what was
	// killed is started again.
	lasts time.Duration
	// holds is what of the victim others should claim: slice, job, or nothing.
	holds string
	// noticed gives when another sign than a claim showed that the fault is detected, zero
	// if none did yet, and resumed gives how long it took until what the victim did was done again; either may be nil.
	noticed func(*run, context.Context) time.Time
	resumed func(*run) *verdict.Seconds
	// outage: a database is away, in which everybody writes; see verdict.Outage.
	outage bool
	// zombie: the victim lives on with what others took over, and is void if it tried
	// nothing of that. Some of the clients are slow, so that much is open at any moment.
	zombie bool
	// taken: it is void if nobody took anything over before the fault ended.
	taken bool
	// probe is whether a job is submitted right after the fault, or else after its end.
	probe bool
	// pick names the victims.
	pick func(context.Context, *run) ([]string, error)
	// do does it, and says what it did.
	do func(context.Context, *run) (string, error)
	// undo makes all as before. It is called more than once.
	undo func(context.Context, *run) error
	// bit looks whether it has an effect, and says what shows that.
	bit func(context.Context, *run) (bool, string)
}

// What design and measurements ask for.
const (
	deadWithin    = 6 * time.Second // for a member that is gone to be noticed
	resumeWithin  = 6500 * time.Millisecond
	deadFast      = 3 * time.Second // both with the fast profile
	resumeFast    = 3500 * time.Millisecond
	apiWithin     = 2 * time.Second
	healWithin    = 10 * time.Second
	recoverWithin = time.Minute      // after a server was down
	stallWithin   = 15 * time.Second // for a cut, and for a server of several
	neverStops    = 5 * time.Second  // sending goes on through it: the longest pause between receipts
)

// CutPair is the drill that cuts what one process sends another.
const CutPair = "cut-pair"

// All lists the drills.
func All() []Drill {
	return []Drill{
		killed(Drill{Name: "kill-worker", holds: "slice", resumed: (*run).resumedSlices, Limits: verdict.Limits{Detected: deadWithin, Resumed: resumeWithin},
			Hypothesis: "Another worker seals the dead one's journal, fences its gateways and sends on: nobody misses a message or sees one twice."}),
		killed(Drill{Name: "kill-scheduler", holds: "job", resumed: (*run).resumedJobs, Limits: verdict.Limits{Resumed: resumeWithin, Stall: neverStops},
			Hypothesis: "Other schedulers claim the dead one's jobs; what is being sent does not pause."}),
		killed(Drill{Name: "kill-gateway", noticed: (*run).clientsLost, resumed: (*run).resumedClients, Limits: verdict.Limits{Resumed: healWithin},
			Hypothesis: "Its clients connect to the other gateway, name what they have, and get what they have not."}),
		killed(Drill{Name: "kill-api", resumed: (*run).probeTaken, Limits: verdict.Limits{Resumed: apiWithin, Stall: neverStops},
			Hypothesis: "A caller with the same idempotency key is answered by another API process; what is being sent does not pause."}),
		killed(Drill{Name: "kill-relay", resumed: (*run).event, Limits: verdict.Limits{Resumed: healWithin, Stall: neverStops},
			Hypothesis: "Another relay publishes what the dead one did not."}),
		{Name: "pause-worker", Hypothesis: "Others take over from a worker that does not move; when it goes on, nothing of what it still believes has an effect.",
			Limits: verdict.Limits{Detected: deadWithin, Resumed: resumeWithin}, lasts: 20 * time.Second, holds: "slice", resumed: (*run).resumedSlices, taken: true, zombie: true, probe: true,
			pick: pickBusiest("worker", "slice"), do: pause, undo: goOn, bit: isPaused},
		{Name: "pause-scheduler", Hypothesis: "Other schedulers move on the jobs of one that does not move; when it goes on, it moves nothing that is another's.",
			Limits: verdict.Limits{Resumed: resumeWithin, Stall: neverStops}, lasts: 20 * time.Second, holds: "job", resumed: (*run).resumedJobs, taken: true, probe: true,
			pick: pickBusiest("scheduler", "job"), do: pause, undo: goOn, bit: isPaused},
		{Name: "pause-gateway", Hypothesis: "What a gateway that does not move has accepted waits or is in doubt; its clients get each message once, here or elsewhere.",
			Limits: verdict.Limits{CaughtUp: healWithin, Stall: stallWithin}, lasts: 20 * time.Second, probe: true,
			pick: pickFirst("gateway"), do: pause, undo: goOn, bit: isPaused},
		{Name: CutPair, Hypothesis: "One way between two processes lets nothing through: they find other ways, or others take over.",
			Limits: verdict.Limits{CaughtUp: healWithin, Stall: stallWithin}, lasts: 20 * time.Second, holds: "slice", noticed: (*run).movedAway, probe: true,
			pick: pickPair, do: cut, undo: func(ctx context.Context, r *run) error { return r.cluster.Heal(ctx) }, bit: cutBites},
		{Name: "stop-zookeeper", Hypothesis: "Without the coordination store sending goes on; what lacks it catches up when it is back.",
			Limits: verdict.Limits{CaughtUp: recoverWithin, Stall: neverStops, Agreed: recoverWithin}, lasts: 20 * time.Second, outage: true,
			pick: pickKind(cluster.ZooKeeper), do: kill, undo: start, bit: areGone},
		{Name: "stop-zookeeper-node", Hypothesis: "One server of the coordination store dies: the others answer, and nobody takes anybody for dead.",
			Limits: verdict.Limits{CaughtUp: healWithin, Stall: neverStops}, lasts: 20 * time.Second,
			pick: pickNode(cluster.ZooKeeper), do: kill, undo: start, bit: areGone},
		{Name: "stop-mysql", Hypothesis: "Without the database sending goes on; what lacks it catches up when it is back.",
			Limits: verdict.Limits{CaughtUp: recoverWithin, Stall: neverStops, Agreed: recoverWithin}, lasts: 20 * time.Second, outage: true,
			pick: pickKind(cluster.MariaDB), do: kill, undo: start, bit: areGone},
		{Name: "stop-nats-node", Hypothesis: "The NATS server that leads the ledger dies: nothing is sent until another leads, and nothing is lost.",
			Limits: verdict.Limits{CaughtUp: recoverWithin, Stall: stallWithin}, lasts: 20 * time.Second,
			pick: pickLeader, do: kill, undo: start, bit: areGone},
		{Name: "stop-nats-follower", Hypothesis: "A NATS server that does not lead the ledger dies: who used it uses another, and what is being sent hardly pauses.",
			Limits: verdict.Limits{CaughtUp: recoverWithin, Stall: stallWithin}, lasts: 20 * time.Second,
			pick: pickFollower, do: kill, undo: start, bit: areGone},
	}
}

// killed completes a drill that kills a process of the role in its name: the one that
// holds most of the load, or the first.
func killed(d Drill) Drill {
	role := strings.TrimPrefix(d.Name, "kill-")
	d.pick = pickFirst(role)
	if d.holds != "" {
		d.pick = pickBusiest(role, d.holds)
	}
	d.probe, d.do, d.undo, d.bit = true, kill, start, areGone
	return d
}

// by gives the drill on a cluster with a profile, whose take-overs are sooner.
func (d Drill) by(profile string) Drill {
	if profile != "fast" {
		return d
	}
	if d.Limits.Detected == deadWithin {
		d.Limits.Detected = deadFast
	}
	if d.Limits.Resumed == resumeWithin {
		d.Limits.Resumed = resumeFast
	}
	return d
}

// lasting gives the drill with a fault of another length; 0 is its own. One that is over
// before anybody is taken for dead is asked for no take-over.
func (d Drill) lasting(t time.Duration) Drill {
	if t == 0 {
		return d
	}
	if d.lasts = t; t < deadWithin {
		d.taken, d.zombie, d.Limits = false, false, verdict.Limits{CaughtUp: healWithin, Stall: stallWithin}
	}
	return d
}

// Find finds a drill by its name.
func Find(name string) (Drill, error) {
	var names []string
	for _, d := range All() {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Drill{}, job.NotFound(fmt.Sprintf("there is no drill %q; there are %s", name, strings.Join(names, ", ")))
}

func pickFirst(role string) func(context.Context, *run) ([]string, error) {
	return func(context.Context, *run) ([]string, error) { return []string{role + "-1"}, nil }
}

// pickBusiest picks the process of a role that holds most of the load.
func pickBusiest(role, kind string) func(context.Context, *run) ([]string, error) {
	return func(_ context.Context, r *run) ([]string, error) {
		processes, err := r.cluster.Role(role)
		if err != nil {
			return nil, err
		}
		names := make([]string, len(processes))
		for i, p := range processes {
			names[i] = p.Name
		}
		victim := holders.Busiest(r.claims.All, names, kind, time.Now(), r.load)
		if victim == "" {
			return nil, fmt.Errorf("no %s holds a %s of the load", role, kind)
		}
		return []string{victim}, nil
	}
}

func pickKind(kind cluster.Kind) func(context.Context, *run) ([]string, error) {
	return func(_ context.Context, r *run) (names []string, err error) {
		all, err := r.cluster.Processes()
		for _, p := range all {
			if p.Kind == kind {
				names = append(names, p.Name)
			}
		}
		return names, err
	}
}

// pickNode picks one server of several; one that is alone is another drill.
func pickNode(kind cluster.Kind) func(context.Context, *run) ([]string, error) {
	return func(ctx context.Context, r *run) ([]string, error) {
		names, err := pickKind(kind)(ctx, r)
		if err != nil {
			return nil, err
		}
		if len(names) < 2 {
			return nil, fmt.Errorf("the cluster has no second %s", kind)
		}
		return names[:1], nil
	}
}

// pickFollower picks a NATS server that does not lead the ledger.
func pickFollower(ctx context.Context, r *run) ([]string, error) {
	leader, err := r.ledgerLeader(ctx)
	if err != nil {
		return nil, err
	}
	names, err := pickKind(cluster.NATS)(ctx, r)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == leader })
	if len(names) == 0 {
		return nil, errors.New("the cluster has no second NATS server")
	}
	return names[:1], nil
}

func pickLeader(ctx context.Context, r *run) ([]string, error) {
	name, err := r.ledgerLeader(ctx)
	return []string{name}, err
}

// pickPair picks who is cut: as told, or the busiest worker from its NATS server.
func pickPair(ctx context.Context, r *run) ([]string, error) {
	if r.cfg.CutFrom != "" {
		state, err := r.cluster.State()
		if err != nil {
			return nil, err
		}
		flows, err := r.cluster.Flows(ctx)
		if err != nil {
			return nil, err
		}
		return talking(state.Processes, flows, r.cfg.CutFrom, r.cfg.CutTo)
	}
	who, err := pickBusiest("worker", "slice")(ctx, r)
	if err != nil {
		return nil, err
	}
	server, err := r.natsOf(ctx, who[0])
	return append(who, server), err
}

// talking finds the two processes that are called so, by their name, role or kind, of
// which the first sends the second most.
func talking(processes []cluster.Record, flows []cluster.Flow, from, to string) ([]string, error) {
	called := func(process, so string) bool {
		return process == so || slices.ContainsFunc(processes, func(p cluster.Record) bool { return p.Name == process && Class(p) == so })
	}
	if err := known(processes, from, to); err != nil {
		return nil, err
	}
	var most cluster.Flow
	for _, f := range flows {
		if f.Bytes > most.Bytes && called(f.From, from) && called(f.To, to) {
			most = f
		}
	}
	if most.Bytes == 0 {
		return nil, fmt.Errorf("no %s sends any %s anything", from, to)
	}
	return []string{most.From, most.To}, nil
}

// known refuses what is no process, role or kind of a cluster; "" is as the drill chooses.
func known(processes []cluster.Record, names ...string) error {
	for _, so := range names {
		if so != "" && !slices.ContainsFunc(processes, func(p cluster.Record) bool { return p.Name == so || Class(p) == so }) {
			return job.Invalid("cut", fmt.Sprintf("cut: the cluster has no process, role or kind %q", so), nil)
		}
	}
	return nil
}

// Class is what stands for a process in a pair: its role, or its kind if it is a server.
func Class(p cluster.Record) string {
	if p.Role != "" {
		return p.Role
	}
	return string(p.Kind)
}

// victims are the processes that are hurt.
func (r *run) victims() ([]*cluster.Process, error) {
	var list []*cluster.Process
	for _, name := range r.report.Fault.Victims {
		p, err := r.cluster.Process(name)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// each does something to all victims at once.
func (r *run) each(do func(*cluster.Process) error) error {
	list, err := r.victims()
	if err != nil {
		return err
	}
	errs := make(chan error, len(list))
	for _, p := range list {
		go func() { errs <- do(p) }()
	}
	for range list {
		err = errors.Join(err, <-errs)
	}
	return err
}

func kill(_ context.Context, r *run) (string, error) {
	return "kill -9", r.each((*cluster.Process).Kill)
}

func pause(_ context.Context, r *run) (string, error) {
	return "SIGSTOP", r.each((*cluster.Process).Pause)
}

func goOn(_ context.Context, r *run) error { return r.each((*cluster.Process).Continue) }

func start(ctx context.Context, r *run) error {
	list, err := r.victims()
	if err != nil {
		return err
	}
	return r.startAll(ctx, list)
}

func cut(ctx context.Context, r *run) (string, error) {
	from, to := r.report.Fault.Victims[0], r.report.Fault.Victims[1]
	cuts, how := []cluster.Cut{{From: from, To: to, Mode: cluster.Hold}}, "nothing goes from the first to the second"
	if r.cfg.Both {
		cuts, how = cluster.BothWays(from, to, cluster.Hold), "nothing goes between them"
	}
	return how, r.cluster.Cut(ctx, cuts...)
}

// areGone: the processes are not there, and nobody answers where they did.
func areGone(_ context.Context, r *run) (bool, string) {
	list, err := r.victims()
	if err != nil {
		return false, err.Error()
	}
	for _, p := range list {
		if l := p.Life(); l != cluster.Gone {
			return false, fmt.Sprintf("%s is %s", p.Name, l)
		}
		if address, ok := answers(p); ok {
			return false, fmt.Sprintf("something answers at %s, where %s did", address, p.Name)
		}
	}
	return true, "gone, and connections to it are refused"
}

func isPaused(_ context.Context, r *run) (bool, string) {
	list, err := r.victims()
	if err != nil {
		return false, err.Error()
	}
	for _, p := range list {
		if l := p.Life(); l != cluster.Paused {
			return false, fmt.Sprintf("%s is %s", p.Name, l)
		}
	}
	return true, "it is stopped"
}

func cutBites(ctx context.Context, r *run) (bool, string) {
	cuts, err := r.cluster.Cuts(ctx)
	if err != nil {
		return false, err.Error()
	}
	bit := slices.ContainsFunc(cuts, cluster.Cut.Bit)
	var what []string
	for _, c := range cuts {
		what = append(what, fmt.Sprintf("from %s to %s %d bytes and %d connections were held", c.From, c.To, c.Held, c.Dials))
	}
	slices.Sort(what)
	proof := strings.Join(what, "; ")
	if !bit {
		proof += ": nothing but signs of life went there"
	}
	return bit, proof
}
