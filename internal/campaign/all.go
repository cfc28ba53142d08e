package campaign

import (
	"context"
	"slices"
	"strings"
	"time"

	"crier/internal/cluster"
	"crier/internal/drill"
)

// Everything is each drill in its usual forms: every process of a role killed, a worker
// paused for less and for more than it takes to be missed, each server cut off, the two
// databases for minutes, and one way cut between every two that talk to each other in the
// cluster of a directory. What the cluster has no process for is left out.
func Everything(ctx context.Context, dir string) ([]Step, error) {
	c, err := cluster.Load(dir)
	if err != nil {
		return nil, err
	}
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, d := range drill.All() {
		if fits(d.Name, s.Topology) {
			steps = append(steps, forms(d.Name)...)
		}
	}
	if !s.Topology.Proxy {
		return steps, nil
	}
	flows, err := c.Flows(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs(s.Processes, flows) {
		steps = append(steps, Step{Drill: drill.CutPair, From: p[0], To: p[1], Rounds: 1})
	}
	return steps, nil
}

// often is the rounds of the drills whose times are held against a p99.
const often = 20

// forms is the usual forms of a drill.
func forms(name string) []Step {
	steps := func(rounds int, lasts ...time.Duration) (list []Step) {
		for _, t := range lasts {
			list = append(list, Step{Drill: name, For: t, Rounds: rounds})
		}
		return list
	}
	switch name {
	case "kill-worker", "kill-scheduler":
		return steps(often, 0)
	case "pause-worker":
		return steps(1, time.Second, 10*time.Second, time.Minute)
	case "stop-zookeeper", "stop-mysql":
		return steps(1, 0, 2*time.Minute)
	case drill.CutPair: // by the pairs that talk
		return nil
	}
	return steps(1, 0)
}

// fits reports whether a cluster has what a drill takes away one of several of.
func fits(name string, t cluster.Topology) bool {
	switch name {
	case "stop-zookeeper-node":
		return t.ZooKeeper > 1
	case "stop-nats-node", "stop-nats-follower":
		return t.NATS > 1
	case "kill-worker", "pause-worker":
		return t.Worker > 1
	case "kill-scheduler", "pause-scheduler":
		return t.Scheduler > 1
	case "kill-gateway":
		return t.Gateway > 1
	case "kill-api":
		return t.API > 1
	case "kill-relay":
		return t.Relay > 1
	}
	return true
}

// pairs is the ordered pairs of roles and kinds of which one of the first sends one of
// the second anything.
func pairs(processes []cluster.Record, flows []cluster.Flow) (list [][2]string) {
	class := map[string]string{}
	for _, p := range processes {
		class[p.Name] = drill.Class(p)
	}
	for _, f := range flows {
		p := [2]string{class[f.From], class[f.To]}
		if f.Bytes > 0 && p[0] != "" && p[1] != "" && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0]+","+a[1], b[0]+","+b[1]) })
	return list
}
