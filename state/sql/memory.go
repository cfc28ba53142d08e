package sql

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"crier/job"
	"crier/state/sql/groups"
	"crier/state/sql/rows"
)

// Memory is the twin of DB for tests: the same parts, kept in memory.
type Memory struct {
	Accounts *MemoryAccounts
	Sets     *MemorySets
	Packages *MemoryPackages
	Jobs     *MemoryJobs
	Outbox   *rows.Memory
	Segments *groups.Memory
	Salts    *groups.Memory
}

// NewMemory makes an empty store; now is the clock of created_at.
func NewMemory(now func() time.Time) *Memory {
	m := &memory{now: now, byNumber: map[uint32]Account{}, byName: map[accountName]uint32{},
		sets: map[setKey]*memorySet{}, packages: map[packageKey]Package{}, jobs: map[job.ID]Job{}, marks: map[string]uint64{},
		slices: map[sliceKey]Slice{}, outbox: rows.NewMemory(now), segments: groups.NewMemory(now)}
	return &Memory{&MemoryAccounts{m: m}, &MemorySets{m}, &MemoryPackages{m: m}, &MemoryJobs{m: m}, m.outbox, m.segments, m.segments}
}

// memory is what the parts share; mu guards all that follows it.
type memory struct {
	now func() time.Time
	sync.Mutex
	byNumber map[uint32]Account
	byName   map[accountName]uint32
	sets     map[setKey]*memorySet
	packages map[packageKey]Package
	jobs     map[job.ID]Job
	marks    map[string]uint64
	slices   map[sliceKey]Slice
	outbox   *rows.Memory
	segments *groups.Memory
}

type accountName struct{ tenant, name string }

type sliceKey struct {
	job    job.ID
	number uint32
}

type packageKey struct {
	account uint32
	name    string
}

// MemoryAccounts is the twin of Accounts.
type MemoryAccounts struct {
	m      *memory
	tenant string
}

// Of is as Accounts'.
func (s *MemoryAccounts) Of(tenant string) *MemoryAccounts { return &MemoryAccounts{s.m, tenant} }

// Create is as Accounts'.
func (s *MemoryAccounts) Create(_ context.Context, name string, number *uint32) (Account, error) {
	number, err := checkName(s.tenant, name, number)
	if err != nil {
		return Account{}, err
	}
	s.m.Lock()
	defer s.m.Unlock()
	if n, ok := s.m.byName[accountName{own(s.tenant), name}]; ok {
		return Account{}, nameTaken(s.m.byNumber[n])
	}
	var n uint32 = 1
	if number != nil {
		n = *number
	}
	for a, taken := s.m.byNumber[n]; taken; a, taken = s.m.byNumber[n] {
		if number != nil {
			return Account{}, numberTaken(a)
		}
		n++
	}
	return s.m.makeLocked(n, own(s.tenant), name), nil
}

func (m *memory) makeLocked(number uint32, tenant, name string) Account {
	a := Account{number, tenant, name, m.now().UTC()}
	m.byNumber[number], m.byName[accountName{tenant, name}] = a, number
	return a
}

// CreateMissing is as Accounts'.
func (s *MemoryAccounts) CreateMissing(_ context.Context, numbers []uint32) (int, error) {
	s.m.Lock()
	defer s.m.Unlock()
	return s.m.createMissingLocked(numbers), nil
}

func (m *memory) createMissingLocked(numbers []uint32) (created int) {
	for _, n := range numbers {
		if _, ok := m.byNumber[n]; !ok {
			m.makeLocked(n, job.DefaultTenant, numberName(n))
			created++
		}
	}
	return created
}

// Get is as Accounts'.
func (s *MemoryAccounts) Get(_ context.Context, number uint32) (Account, error) {
	s.m.Lock()
	defer s.m.Unlock()
	if a, ok := s.m.byNumber[number]; ok && (s.tenant == "" || a.Tenant == s.tenant) {
		return a, nil
	}
	return Account{}, noAccount(numberName(number))
}

// Find is as Accounts'.
func (s *MemoryAccounts) Find(ctx context.Context, nameOrNumber string) (Account, error) {
	if digitsOnly(nameOrNumber) {
		n, err := job.ParseRecipient(nameOrNumber)
		if err != nil || numberName(uint32(n)) != nameOrNumber {
			return Account{}, noAccount(nameOrNumber)
		}
		return s.Get(ctx, uint32(n))
	}
	s.m.Lock()
	defer s.m.Unlock()
	if n, ok := s.m.byName[accountName{own(s.tenant), nameOrNumber}]; ok {
		return s.m.byNumber[n], nil
	}
	return Account{}, noAccount(nameOrNumber)
}

// List is as Accounts'.
func (s *MemoryAccounts) List(_ context.Context, from uint32, limit int) ([]Account, error) {
	s.m.Lock()
	defer s.m.Unlock()
	var all []Account
	for _, n := range slices.Sorted(maps.Keys(s.m.byNumber)) {
		if a := s.m.byNumber[n]; n >= from && len(all) < page(limit) && (s.tenant == "" || a.Tenant == s.tenant) {
			all = append(all, a)
		}
	}
	return all, nil
}

// Count is as Accounts'.
func (s *MemoryAccounts) Count(context.Context) (uint64, error) {
	s.m.Lock()
	defer s.m.Unlock()
	return uint64(len(s.m.byNumber)), nil
}

// MemoryPackages is the twin of Packages.
type MemoryPackages struct {
	m      *memory
	tenant string
}

// Of is as Packages'.
func (s *MemoryPackages) Of(tenant string) *MemoryPackages { return &MemoryPackages{s.m, tenant} }

// Put is as Packages'.
func (s *MemoryPackages) Put(_ context.Context, p Package) (Package, error) {
	s.m.Lock()
	defer s.m.Unlock()
	key := packageKey{p.Account, p.Name}
	if old, ok := s.m.packages[key]; ok {
		if err := samePackage(old, p); err != nil {
			return Package{}, err
		}
		return old, nil
	}
	p.CreatedAt = s.m.now().UTC()
	s.m.packages[key] = p
	return p, nil
}

// ofLocked lists an account's packages by name.
func (s *MemoryPackages) ofLocked(account uint32) []Package {
	var all []Package
	for _, p := range s.m.packages {
		if p.Account == account {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Package) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Get is as Packages'.
func (s *MemoryPackages) Get(_ context.Context, account uint32, set job.Digest) (Package, error) {
	s.m.Lock()
	defer s.m.Unlock()
	for _, p := range s.ofLocked(account) {
		if p.Set == set {
			return p, nil
		}
	}
	return Package{}, noPackage(account, set.String())
}

// ByName is as Packages'.
func (s *MemoryPackages) ByName(_ context.Context, account uint32, name string) (Package, error) {
	s.m.Lock()
	defer s.m.Unlock()
	if p, ok := s.m.packages[packageKey{account, name}]; ok {
		return p, nil
	}
	return Package{}, noPackage(account, name)
}

// List is as Packages'.
func (s *MemoryPackages) List(_ context.Context, account uint32, after string, limit int) ([]Package, error) {
	s.m.Lock()
	defer s.m.Unlock()
	all := slices.DeleteFunc(s.ofLocked(account), func(p Package) bool { return p.Name <= after })
	return all[:min(len(all), page(limit))], nil
}

// MemoryJobs is the twin of Jobs.
type MemoryJobs struct {
	m      *memory
	tenant string
}

// Of is as Jobs'.
func (s *MemoryJobs) Of(tenant string) *MemoryJobs { return &MemoryJobs{s.m, tenant} }

// sees reports whether a job is among them.
func (s *MemoryJobs) sees(j Job) bool { return s.tenant == "" || j.Spec.TenantOf() == s.tenant }

// Project is as Jobs'.
func (s *MemoryJobs) Project(_ context.Context, p Projection) error {
	s.m.Lock()
	defer s.m.Unlock()
	jobs := maps.Clone(s.m.jobs) // put in place only if all of it applies
	var events []job.Event
	for _, t := range p.Transitions {
		j := jobs[t.Job]
		apply, at, err := next(j.Version, t)
		if err != nil {
			return err
		}
		if !apply {
			continue
		}
		if t.Version == 1 {
			j.Spec = t.Spec
		}
		j.Version, j.State, j.Reason, j.StateAt = t.Version, t.State, t.Reason, at.UTC()
		jobs[t.Job] = j
		events = append(events, job.Event{Job: t.Job, Version: t.Version, State: t.State.String(), Reason: t.Reason, At: j.StateAt})
	}
	for _, c := range p.Counts {
		j, ok := jobs[c.Job]
		if !ok {
			return noJob(c.Job)
		}
		if c.AsOf > j.CountsAsOf {
			j.Counts, j.CountsAsOf = c.Counts, c.AsOf
			j.Counts.Dropped = maps.Clone(c.Counts.Dropped)
			jobs[c.Job] = j
		}
	}
	s.m.jobs = jobs
	s.m.outbox.Add(events...)
	mark := recorderMark(p.Recorder)
	s.m.marks[mark] = max(s.m.marks[mark], p.Through)
	return nil
}

// Watermark is as Jobs'.
func (s *MemoryJobs) Watermark(_ context.Context, recorder string) (uint64, error) {
	s.m.Lock()
	defer s.m.Unlock()
	return s.m.marks[recorderMark(recorder)], nil
}

// Get is as Jobs'.
func (s *MemoryJobs) Get(_ context.Context, id job.ID) (Job, error) {
	s.m.Lock()
	defer s.m.Unlock()
	if j, ok := s.m.jobs[id]; ok {
		return j, nil
	}
	return Job{}, noJob(id)
}

func (c cursor) compare(d cursor) int {
	return cmp.Or(cmp.Compare(c.submitted, d.submitted), cmp.Compare(c.id.String(), d.id.String()))
}

// List is as Jobs'.
func (s *MemoryJobs) List(_ context.Context, f JobFilter) ([]Job, string, error) {
	s.m.Lock()
	defer s.m.Unlock()
	var before cursor
	if f.Cursor != "" {
		var err error
		if before, err = parseCursor(f.Cursor); err != nil {
			return nil, "", err
		}
	}
	var found []Job
	for _, j := range s.m.jobs {
		if s.sees(j) && (f.Account == nil || *f.Account == j.Spec.Account) &&
			(len(f.States) == 0 || slices.Contains(f.States, j.State)) &&
			(f.Cursor == "" || placeOf(j).compare(before) < 0) {
			found = append(found, j)
		}
	}
	slices.SortFunc(found, func(a, b Job) int { return placeOf(b).compare(placeOf(a)) })
	found, next := cutPage(found, page(f.Limit), cursorOf)
	return found, next, nil
}

// CountByState is as Jobs'.
func (s *MemoryJobs) CountByState(context.Context) (map[job.State]uint64, error) {
	s.m.Lock()
	defer s.m.Unlock()
	counts := map[job.State]uint64{}
	for _, j := range s.m.jobs {
		if s.sees(j) {
			counts[j.State]++
		}
	}
	return counts, nil
}

// OldestOpen is as Jobs'.
func (s *MemoryJobs) OldestOpen(context.Context) (oldest Job, ok bool, err error) {
	s.m.Lock()
	defer s.m.Unlock()
	for _, j := range s.m.jobs {
		if !j.State.Terminal() && (!ok || placeOf(j).compare(placeOf(oldest)) < 0) {
			oldest, ok = j, true
		}
	}
	return oldest, ok, nil
}
