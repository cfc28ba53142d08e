// Package sqltest is the suite that every SQL store passes.
package sqltest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"crier/audience/members"
	"crier/job"
	"crier/state/outbox"
	"crier/state/sql"
	"crier/state/sql/groups"
)

// Accounts is what a store of accounts offers.
type Accounts interface {
	Create(ctx context.Context, name string, number *uint32) (sql.Account, error)
	CreateMissing(ctx context.Context, numbers []uint32) (int, error)
	Get(ctx context.Context, number uint32) (sql.Account, error)
	Find(ctx context.Context, nameOrNumber string) (sql.Account, error)
	List(ctx context.Context, from uint32, limit int) ([]sql.Account, error)
	Count(ctx context.Context) (uint64, error)
}

// Packages is what a store of packages' descriptions offers.
type Packages interface {
	Put(ctx context.Context, p sql.Package) (sql.Package, error)
	Get(ctx context.Context, account uint32, set job.Digest) (sql.Package, error)
	ByName(ctx context.Context, account uint32, name string) (sql.Package, error)
	List(ctx context.Context, account uint32, after string, limit int) ([]sql.Package, error)
	Newest(ctx context.Context, account *uint32, cursor string, limit int) ([]sql.Package, string, error)
	BySet(ctx context.Context, set job.Digest) (sql.Package, error)
}

// Jobs is what a store of jobs' projections offers.
type Jobs interface {
	Project(ctx context.Context, p sql.Projection) error
	Watermark(ctx context.Context, recorder string) (uint64, error)
	Get(ctx context.Context, id job.ID) (sql.Job, error)
	List(ctx context.Context, f sql.JobFilter) ([]sql.Job, string, error)
	CountByState(ctx context.Context) (map[job.State]uint64, error)
	OldestOpen(ctx context.Context) (sql.Job, bool, error)
	ProjectSlices(ctx context.Context, statuses []sql.Slice) error
	Slices(ctx context.Context, id job.ID, from uint32, limit int) ([]sql.Slice, error)
}

// Segments is what a store of segments' names offers.
type Segments interface {
	Create(ctx context.Context, name string) (groups.Segment, error)
	Find(ctx context.Context, name string) (groups.Segment, error)
	List(ctx context.Context, archived bool, after string, limit int) ([]groups.Segment, error)
	Archive(ctx context.Context, name string, archived bool) (groups.Segment, error)
}

// Salts is what a store of accounts' salts offers.
type Salts interface {
	Of(ctx context.Context, account uint32) (job.Digest, error)
}

// Store is a store with all its parts.
type Store struct {
	Accounts Accounts
	Sets     members.Sets
	Packages Packages
	Jobs     Jobs
	Outbox   outbox.Rows
	Of       func(tenant string) Tenanted
	Segments Segments
	Salts    Salts
	clock    *Clock
}

// Tenanted is the part of a store that a tenant sees.
type Tenanted struct {
	Accounts Accounts
	Packages Packages
	Jobs     Jobs
}

// Clock is the time of the stores under test.
type Clock struct{ at atomic.Int64 }

// Now gives the time.
func (c *Clock) Now() time.Time { return Start().Add(time.Duration(c.at.Load())) }

// advance lets a second pass.
func (c *Clock) advance() { c.at.Add(int64(time.Second)) }

// heavy tests change so much in one call that beside others, on a busy machine, it may last
// longer than a call may: they run alone.
var heavy = map[string]bool{"accounts: bulk and pages": true, "events: a lot": true, "sets: large changes": true, "sets: many": true}

// Run holds stores that open makes, each empty and with the clock given, to the
// suite.
func Run(t *testing.T, open func(t *testing.T, clock *Clock) Store) {
	for name, test := range map[string]func(*testing.T, Store){
		"accounts: names and numbers":        accountNames,
		"accounts: refused names":            accountRefusals,
		"accounts: the smallest free number": accountNumbers,
		"accounts: bulk and pages":           accountBulk,
		"tenants: each sees its own":         tenantsApart,
		"packages":                           packages,
		"packages: the newest first":         packagesNewest,
		"jobs: versions":                     jobVersions,
		"jobs: all or nothing":               jobAtomic,
		"jobs: counts":                       jobCounts,
		"jobs: lists":                        jobLists,
		"jobs: recorders at once":            jobRecorders,
		"slices":                             slicesLatest,
		"slices: projectors at once":         slicesAtOnce,
		"events: each transition once":       eventsOnce,
		"events: leases, marks, sweeping":    eventsLeases,
		"events: a lot":                      eventsMany,
		"events: changes of sets":            eventsOfSets,
		"events: sets wait for jobs":         eventsOfSetsWait,
		"accounts: many at once":             accountsAtOnce,
		"names: byte by byte":                namesByByte,
		"text: whatever users write":         userText,
		"sets: increments":                   setIncrements,
		"sets: all or nothing":               setAtomic,
		"sets: accounts":                     setAccounts,
		"sets: snapshots":                    setSnapshots,
		"sets: large changes":                setLarge,
		"sets: many":                         setMany,
		"segments: names and numbers":        segmentNames,
		"segments: archived and restored":    segmentArchive,
		"segments: many at once":             segmentsAtOnce,
		"salts":                              saltsStay,
	} {
		t.Run(name, func(t *testing.T) {
			if !heavy[name] {
				t.Parallel()
			}
			clock := &Clock{}
			s := open(t, clock)
			s.clock = clock
			test(t, s)
		})
	}
}

// Start is the time at which the clock starts.
func Start() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, what string, err error, code job.Code) {
	t.Helper()
	if job.CodeOf(err) != code {
		t.Errorf("%s: %v, want code %s", what, err, code)
	}
}

func number(n uint32) *uint32 { return &n }

func accountNames(t *testing.T, s Store) {
	ctx := t.Context()
	a, err := s.Accounts.Create(ctx, "Weather Office", nil)
	must(t, err)
	if want := (sql.Account{Number: 1, Tenant: "default", Name: "Weather Office", CreatedAt: Start()}); a != want {
		t.Errorf("created %+v, want %+v", a, want)
	}
	zero, err := s.Accounts.Create(ctx, "zero", number(0))
	must(t, err)
	top, err := s.Accounts.Create(ctx, "grüße", number(4294967295))
	must(t, err)
	byDigits, err := s.Accounts.Create(ctx, "77", nil)
	must(t, err)
	if byDigits.Number != 77 {
		t.Errorf("account 77 got number %d", byDigits.Number)
	}
	for key, want := range map[string]sql.Account{"Weather Office": a, "1": a, "zero": zero, "0": zero,
		"grüße": top, "4294967295": top, "77": byDigits} {
		if got, err := s.Accounts.Find(ctx, key); err != nil || got != want {
			t.Errorf("find %q: %+v, %v", key, got, err)
		}
	}
	if got, err := s.Accounts.Get(ctx, 4294967295); err != nil || got != top {
		t.Errorf("get: %+v, %v", got, err)
	}
	for _, key := range []string{"weather office", "2", "99999999999", "", "-1", "00"} {
		_, err := s.Accounts.Find(ctx, key)
		wantCode(t, "find "+key, err, job.CodeNotFound)
	}
	_, err = s.Accounts.Create(ctx, "zero", nil)
	wantCode(t, "a name twice", err, job.CodeConflict)
	_, err = s.Accounts.Create(ctx, "other", number(0))
	wantCode(t, "a number twice", err, job.CodeConflict)
	_, err = s.Accounts.Create(ctx, "1", nil)
	wantCode(t, "a number that a named account has", err, job.CodeConflict)
}

func accountRefusals(t *testing.T, s Store) {
	long := fmt.Sprintf("%0*d", sql.MaxName+1, 7)
	for _, name := range []string{"", " a", "a ", "a\nb", "a\x00", "\xff", long, "007", "4294967296", "x\u2028"} {
		_, err := s.Accounts.Create(t.Context(), name, nil)
		wantCode(t, fmt.Sprintf("name %q", name), err, job.CodeInvalid)
	}
	_, err := s.Accounts.Create(t.Context(), "5", number(6))
	wantCode(t, "a name that is another number", err, job.CodeInvalid)
	if n, err := s.Accounts.Count(t.Context()); n != 0 || err != nil {
		t.Errorf("%d accounts after refusals, %v", n, err)
	}
}

func accountNumbers(t *testing.T, s Store) {
	ctx := t.Context()
	taken := []uint32{0, 2, 3, 5}
	for n := range uint32(1200) {
		taken = append(taken, n+10)
	}
	if n, err := s.Accounts.CreateMissing(ctx, taken); err != nil || n != len(taken) {
		t.Fatalf("created %d of %d: %v", n, len(taken), err)
	}
	for i, want := range []uint32{1, 4, 6, 7, 8, 9, 1210, 1211} {
		a, err := s.Accounts.Create(ctx, fmt.Sprintf("name %d", i), nil)
		must(t, err)
		if a.Number != want {
			t.Errorf("account %d got number %d, want %d", i, a.Number, want)
		}
	}
	_, err := s.Accounts.Create(ctx, "1212", nil)
	must(t, err)
	if a, err := s.Accounts.Create(ctx, "last", nil); err != nil || a.Number != 1213 {
		t.Errorf("the last got %d, %v", a.Number, err)
	}
}

func accountBulk(t *testing.T, s Store) {
	ctx := t.Context()
	_, err := s.Accounts.Create(ctx, "seven", number(7))
	must(t, err)
	var numbers []uint32
	for i := range uint32(2345) {
		numbers = append(numbers, (i*7919)%2345)
	}
	for _, want := range []int{2344, 0} {
		if n, err := s.Accounts.CreateMissing(ctx, numbers); err != nil || n != want {
			t.Errorf("created %d, %v; want %d", n, err, want)
		}
	}
	if n, err := s.Accounts.CreateMissing(ctx, nil); n != 0 || err != nil {
		t.Errorf("none: %d, %v", n, err)
	}
	var next uint32
	for page := range 24 {
		list, err := s.Accounts.List(ctx, next, 100)
		must(t, err)
		if want := min(100, 2345-100*page); len(list) != want {
			t.Fatalf("page %d has %d accounts, want %d", page, len(list), want)
		}
		for _, a := range list {
			name := fmt.Sprint(a.Number)
			if a.Number == 7 {
				name = "seven"
			}
			if a.Number != next || a.Name != name {
				t.Fatalf("%+v, want number %d", a, next)
			}
			next++
		}
	}
	if list, err := s.Accounts.List(ctx, 0, 5000); err != nil || len(list) != 1000 {
		t.Errorf("the largest page has %d, %v", len(list), err)
	}
	if list, err := s.Accounts.List(ctx, 0, 0); err != nil || len(list) != 100 {
		t.Errorf("the usual page has %d, %v", len(list), err)
	}
	if n, err := s.Accounts.Count(ctx); n != 2345 || err != nil {
		t.Errorf("%d accounts, %v", n, err)
	}
}

func packages(t *testing.T, s Store) {
	ctx := t.Context()
	d := func(b byte) job.Digest { return job.Digest{0: b, 31: 9} }
	p := sql.Package{Account: 4294967295, Name: "b", Set: d(1), Blob: d(2), Cardinality: 1 << 32, Min: 0, Max: 4294967295,
		Repeated: 3, Bytes: 1 << 40}
	stored, err := s.Packages.Put(ctx, p)
	must(t, err)
	p.CreatedAt = Start()
	if stored != p {
		t.Errorf("stored %+v, want %+v", stored, p)
	}
	again := p
	again.Blob, again.Repeated = d(5), 0
	if got, err := s.Packages.Put(ctx, again); err != nil || got != p {
		t.Errorf("again: %+v, %v", got, err)
	}
	other := p
	other.Set = d(6)
	_, err = s.Packages.Put(ctx, other)
	wantCode(t, "another set by the same name", err, job.CodeConflict)
	other.Name = "c"
	third := p
	third.Name = "a"
	elsewhere := p
	elsewhere.Account = 0
	for _, x := range []*sql.Package{&other, &third, &elsewhere} {
		*x, err = s.Packages.Put(ctx, *x)
		must(t, err)
	}
	if got, err := s.Packages.Get(ctx, p.Account, d(1)); err != nil || got != third {
		t.Errorf("by set: %+v, %v", got, err)
	}
	if got, err := s.Packages.ByName(ctx, p.Account, "b"); err != nil || got != p {
		t.Errorf("by name: %+v, %v", got, err)
	}
	_, err = s.Packages.Get(ctx, 0, d(6))
	wantCode(t, "another account's set", err, job.CodeNotFound)
	_, err = s.Packages.ByName(ctx, 0, "c")
	wantCode(t, "another account's name", err, job.CodeNotFound)
	first, err := s.Packages.List(ctx, p.Account, "", 2)
	must(t, err)
	rest, err := s.Packages.List(ctx, p.Account, "b", 2)
	must(t, err)
	if len(first) != 2 || first[0] != third || first[1] != p || len(rest) != 1 || rest[0] != other {
		t.Errorf("listed %+v and %+v", first, rest)
	}
}

// pages reads a list of total items to its end and holds each page but the last to
// be full, and the last to have something, if there is anything, and no next.
func pages[T any](t *testing.T, limit, total int, list func(cursor string) ([]T, string, error)) (got []T) {
	t.Helper()
	for cursor := ""; ; {
		page, next, err := list(cursor)
		must(t, err)
		if want := min(limit, total-len(got)); len(page) != want {
			t.Fatalf("after %d of %d a page has %d, want %d", len(got), total, len(page), want)
		}
		got, cursor = append(got, page...), next
		if more := len(got) < total; (next != "") != more {
			t.Fatalf("after %d of %d the next page is %q", len(got), total, next)
		}
		if next == "" {
			return got
		}
	}
}

// packagesNewest compares every list with one made by filtering a slice.
func packagesNewest(t *testing.T, s Store) {
	ctx := t.Context()
	var all []sql.Package // the newest first
	for i := range 30 {
		p, err := s.Packages.Put(ctx, sql.Package{Account: uint32(i % 3), Name: fmt.Sprintf("n.%02d", i), Set: job.Digest{byte(i % 7)}, Blob: job.Digest{1}})
		must(t, err)
		all = append([]sql.Package{p}, all...)
		if i%4 == 3 {
			s.clock.advance()
		}
	}
	slices.SortStableFunc(all, func(a, b sql.Package) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name))
	})
	for _, account := range []*uint32{nil, number(0), number(2), number(9)} {
		want := slices.DeleteFunc(slices.Clone(all), func(p sql.Package) bool { return account != nil && p.Account != *account })
		for _, limit := range []int{4, 5, 10, 29, 30} { // the last page is full, or not
			got := pages(t, limit, len(want), func(cursor string) ([]sql.Package, string, error) {
				return s.Packages.Newest(ctx, account, cursor, limit)
			})
			if !slices.Equal(got, want) {
				t.Errorf("account %v, %d a page: %d packages, want %d", account, limit, len(got), len(want))
			}
		}
	}
	for _, cursor := range []string{"x", "1.2", "1.x.n"} {
		_, _, err := s.Packages.Newest(ctx, nil, cursor, 4)
		wantCode(t, "cursor "+cursor, err, job.CodeInvalid)
	}
	for set := range byte(7) {
		if got, err := s.Packages.BySet(ctx, job.Digest{set}); err != nil || got.Name != fmt.Sprintf("n.%02d", set) {
			t.Errorf("set %d: %+v, %v", set, got, err)
		}
	}
	_, err := s.Packages.BySet(ctx, job.Digest{99})
	wantCode(t, "no such set", err, job.CodeNotFound)
}
