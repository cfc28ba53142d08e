// Package content opens what jobs send and to whom: packages, followers, segments,
// suppression lists, bodies. It guarantees that a set which somebody reads stays open.
package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/singleflight"

	"crier/audience"
	"crier/audience/members"
	"crier/filters"
	"crier/internal/idset"
	"crier/job"
	"crier/presence/handoff"
	"crier/state/blob"
	"crier/state/erased"
	"crier/state/jobs"
	"crier/state/proof"
	"crier/worker/block"
)

// openSets is how many packages and follower sets stay open, besides those in use;
// each takes at most 0.75 MiB and its mapped pages.
const openSets = 128

// openBodies is how many message bodies stay in memory, of at most 256 KiB each.
const openBodies = 64

// Content serves worker, scheduler, the parked index and the proofs.
type Content struct {
	blobs       *blob.Dir
	suppression *members.SuppressionLists
	erased      *erased.Table
	jobs        *jobs.Table

	sets   cache[job.Digest, *audience.Set]
	bodies cache[job.ID, *handoff.Message]
}

// New makes one for a process; without members it has no lists, which only a
// worker needs.
func New(blobs *blob.Dir, m *members.Store, forgotten *erased.Table, table *jobs.Table) *Content {
	return &Content{blobs: blobs, suppression: members.NewSuppressionLists(m), erased: forgotten, jobs: table,
		// A set that leaves may be in use; closed, it would fail whoever reads it.
		sets:   cache[job.Digest, *audience.Set]{limit: openSets, drop: (*audience.Set).CloseWhenUnused},
		bodies: cache[job.ID, *handoff.Message]{limit: openBodies}}
}

// Close lets go of what is open: a process that begins again makes another one. What
// somebody still reads is read to its end.
func (c *Content) Close() { c.sets.clear() }

// Set opens a blob that holds a set; it stays open here.
func (c *Content) Set(ctx context.Context, digest job.Digest) (*audience.Set, error) {
	return c.sets.get(digest, func() (*audience.Set, error) {
		h, err := c.blobs.Open(ctx, digest)
		if err != nil {
			return nil, err
		}
		defer h.Close()
		return audience.Open(h.Path())
	})
}

// Package implements block.Content.
func (c *Content) Package(ctx context.Context, spec job.Spec) (block.Package, error) {
	return c.Set(ctx, spec.Package)
}

// Lists implements block.Content.
func (c *Content) Lists(ctx context.Context, spec job.Spec) (l filters.Lists, err error) {
	if !spec.Withdraws.IsZero() {
		return filters.Lists{Mode: filters.Withdraw}, nil
	}
	if l.Followers, err = c.Set(ctx, spec.Followers); err != nil {
		return filters.Lists{}, fmt.Errorf("opening the followers of account %d at revision %d: %w", spec.Account, spec.FollowersRev, err)
	}
	l.Suppressed = suppressedBy{ctx, c, spec}
	return l, c.aim(ctx, spec, &l)
}

// aim puts in the segments and the control group of a job.
func (c *Content) aim(ctx context.Context, spec job.Spec, l *filters.Lists) (err error) {
	if l.Include, err = c.segments(ctx, spec.Include); err != nil {
		return err
	}
	l.Exclude, err = c.segments(ctx, spec.Exclude)
	l.Control = filters.ControlGroup{Share: spec.ControlGroup, Salt: spec.Salt}
	return err
}

func (c *Content) segments(ctx context.Context, all []job.Segment) (out []filters.Segment, err error) {
	for _, x := range all {
		set, err := c.Set(ctx, x.Blob)
		if err != nil {
			return nil, fmt.Errorf("opening segment %q at revision %d: %w", x.Name, x.Revision, err)
		}
		out = append(out, filters.Segment{Name: x.Name, Revision: x.Revision, Set: set})
	}
	return out, nil
}

// Filters gives the filters whose lists a job recorded, to be asked again.
func (c *Content) Filters(ctx context.Context, spec job.Spec) (out []proof.Filter, err error) {
	lists, err := c.Lists(ctx, spec)
	if err != nil {
		return nil, err
	}
	for _, stage := range filters.Recorded(lists) {
		out = append(out, stage)
	}
	return out, nil
}

// Why says in words by which of a job's lists a filter dropped a recipient; see filters.Lists.
func (c *Content) Why(ctx context.Context, spec job.Spec, reason job.Reason, who job.Recipient) (string, error) {
	switch reason {
	case job.ReasonCollapsed:
		return fmt.Sprintf("a newer message of account %s with the collapse key %q was parked for them, too", spec.AccountName, spec.CollapseKey), nil
	case job.ReasonParkCap:
		return "as many messages as may wait for one recipient (parking.cap) were parked for them after it", nil
	}
	var l filters.Lists
	if err := c.aim(ctx, spec, &l); err != nil {
		return "", err
	}
	return l.Why(reason, who)
}

// Suppressed implements worker.Content.
func (c *Content) Suppressed(ctx context.Context, account uint32, r job.Range) (*idset.Set, error) {
	set, err := c.suppression.Range(ctx, account, r)
	if err != nil {
		return nil, fmt.Errorf("reading the suppression lists of account %d: %w", account, err)
	}
	return set, nil
}

// SuppressionVersion implements worker.Content.
func (c *Content) SuppressionVersion() uint64 { return c.suppression.Version() }

// suppressedBy is who must get nothing of a job, as it is when it is asked: who is on a
// suppression list, and who asked to be forgotten after the job was accepted.
type suppressedBy struct {
	ctx  context.Context
	c    *Content
	spec job.Spec
}

// Range implements filters.Set.
func (s suppressedBy) Range(r job.Range) (*idset.Set, error) {
	set, err := s.c.Suppressed(s.ctx, s.spec.Account, r)
	if err != nil {
		return nil, err
	}
	if !s.c.erased.Any(r) {
		return set, nil
	}
	at, err := s.c.jobs.Accepted(s.ctx, s.spec.ID)
	if err != nil {
		set.Release()
		return nil, err
	}
	gone := s.c.erased.After(at, r)
	set.Or(gone)
	gone.Release()
	return set, nil
}

// Message implements worker.Content.
func (c *Content) Message(ctx context.Context, spec job.Spec) (*handoff.Message, error) {
	if !spec.Withdraws.IsZero() {
		return &handoff.Message{Account: spec.Account, AccountName: spec.AccountName, SentAt: spec.SubmittedAt.UnixMilli(),
			ExpiresAt: spec.ExpiresAt.UnixMilli(), Withdraws: spec.Withdraws}, nil
	}
	return c.bodies.get(spec.ID, func() (*handoff.Message, error) {
		h, err := c.blobs.Open(ctx, spec.Body)
		if err != nil {
			return nil, fmt.Errorf("opening the body of job %s: %w", spec.ID, err)
		}
		defer h.Close()
		body := make([]byte, h.Size())
		if _, err := h.ReadAt(body, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading the body of job %s: %w", spec.ID, err)
		}
		m := &handoff.Message{Account: spec.Account, AccountName: spec.AccountName, Body: body, SentAt: spec.SubmittedAt.UnixMilli(),
			ExpiresAt: spec.ExpiresAt.UnixMilli(), CollapseKey: spec.CollapseKey}
		if !spec.DisplayAt.IsZero() {
			m.DisplayAt = spec.DisplayAt.UnixMilli()
		}
		return m, nil
	})
}

// Check implements scheduler.Packages: the whole package is read and compared
// with its digest before anything of it is sent.
func (c *Content) Check(ctx context.Context, spec job.Spec) (ranges []job.Range, sizes []int, err error) {
	s, err := c.Set(ctx, spec.Package)
	if err == nil {
		err = s.Verify(ctx)
	}
	switch {
	case audience.IsFormat(err):
		return nil, nil, job.Invalid("package", "the stored package is damaged", err)
	case err != nil:
		return nil, nil, err
	case s.Info().SHA256 != spec.Set || s.Cardinality() != spec.Recipients:
		return nil, nil, job.Invalid("package", "the stored package is another set than the job names", nil)
	}
	for r, n := range s.Ranges() {
		ranges, sizes = append(ranges, r), append(sizes, n)
	}
	return ranges, sizes, nil
}

// cache keeps the values used last. Its zero value needs a limit.
type cache[K comparable, V any] struct {
	limit  int
	drop   func(V) // of a value that leaves; may be nil
	making singleflight.Group
	mu     struct {
		sync.Mutex
		values map[K]V
		order  []K // least recently used first
	}
}

// get gives the value of a key, making it if it is absent: once for all who ask meanwhile,
// and without holding up those who ask for another, for the store may be slow.
func (c *cache[K, V]) get(k K, make func() (V, error)) (V, error) {
	if v, ok := c.have(k); ok {
		return v, nil
	}
	made, err, _ := c.making.Do(fmt.Sprint(k), func() (any, error) {
		if v, ok := c.have(k); ok {
			return v, nil
		}
		v, err := make()
		if err == nil {
			c.put(k, v)
		}
		return v, err
	})
	v, _ := made.(V)
	return v, err
}

func (c *cache[K, V]) have(k K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.mu.values[k]
	if ok {
		c.touch(k)
	}
	return v, ok
}

// put adds a value that is not there.
func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.values == nil {
		c.mu.values = map[K]V{}
	}
	if len(c.mu.order) >= c.limit {
		old := c.mu.order[0]
		c.mu.order = c.mu.order[1:]
		if c.drop != nil {
			c.drop(c.mu.values[old])
		}
		delete(c.mu.values, old)
	}
	c.mu.values[k] = v
	c.mu.order = append(c.mu.order, k)
}

// clear has all values leave.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drop != nil {
		for _, v := range c.mu.values {
			c.drop(v)
		}
	}
	c.mu.values, c.mu.order = nil, nil
}

func (c *cache[K, V]) touch(k K) {
	for i, x := range c.mu.order {
		if x == k {
			c.mu.order = append(append(c.mu.order[:i:i], c.mu.order[i+1:]...), k)
			return
		}
	}
}

// PackageRange implements parked.Packages.
func (c *Content) PackageRange(ctx context.Context, id job.ID, r job.Range) (*idset.Set, error) {
	spec, err := c.jobs.Spec(ctx, id)
	if err != nil {
		return nil, err
	}
	pkg, err := c.Package(ctx, spec)
	if err != nil {
		return nil, err
	}
	return pkg.Range(r)
}
