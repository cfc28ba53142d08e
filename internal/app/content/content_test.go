package content

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crier/audience"
	"crier/audience/members"
	"crier/audience/source"
	"crier/internal/idset"
	"crier/job"
	"crier/state/blob"
	"crier/state/erased"
	"crier/state/jobs"
	"crier/state/ledger"
	"crier/state/sql"
)

// fixture is a content over a directory of blobs and a store of lists.
type fixture struct {
	*Content
	t     *testing.T
	blobs *blob.Dir
	lists *members.Store
	table *jobs.Table
	gone  *erased.Table
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	blobs, err := blob.OpenDir(filepath.Join(t.TempDir(), "blobs"))
	must(t, err)
	lists, err := members.New(members.Config{Sets: sql.NewMemory(time.Now).Sets, Blobs: blobs, Scratch: filepath.Join(t.TempDir(), "scratch")})
	must(t, err)
	log := ledger.NewMemory(ledger.MemoryConfig{})
	table, gone := jobs.New(log, log), erased.New(log)
	return &fixture{New(blobs, lists, gone, table), t, blobs, lists, table, gone}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) put(b []byte) job.Digest {
	f.t.Helper()
	digest, _, err := f.blobs.Put(f.t.Context(), bytes.NewReader(b))
	must(f.t, err)
	return digest
}

// set stores a set and gives what it is, and where.
func (f *fixture) set(ids ...uint32) (audience.Info, job.Digest) {
	f.t.Helper()
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintln(&text, id)
	}
	dir := f.t.TempDir()
	info, err := audience.Build(f.t.Context(), dir, source.NewText(source.Input{Name: "ids", File: "ids", R: io.NopCloser(strings.NewReader(text.String()))}))
	must(f.t, err)
	b, err := os.ReadFile(filepath.Join(dir, info.Name+audience.Extension))
	must(f.t, err)
	return info, f.put(b)
}

// spec is a job to some ids.
func (f *fixture) spec(n byte, ids ...uint32) job.Spec {
	f.t.Helper()
	info, digest := f.set(ids...)
	at := time.UnixMilli(1_800_000_000_000).UTC()
	return job.Spec{ID: job.NewID(at, [10]byte{n}), Account: 7, AccountName: "news", FollowersRev: 3, Package: digest, Set: info.SHA256, Recipients: info.Cardinality,
		Priority: 50, SubmittedAt: at, ExpiresAt: at.Add(time.Hour)}
}

// A package is checked before anything of it is sent: it is told by ranges, and what is
// not the set that the job names is the job's fault, for good.
func TestCheck(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3, 5, 1<<20, 7<<20, 7<<20+1)
	ranges, sizes, err := f.Check(t.Context(), spec)
	if err != nil || !slices.Equal(ranges, []job.Range{0, 1, 7}) || !slices.Equal(sizes, []int{2, 1, 2}) {
		t.Fatalf("%v, %v, %v", ranges, sizes, err)
	}
	invalid := func(what, message string, spec job.Spec) {
		t.Helper()
		_, _, err := f.Check(t.Context(), spec)
		if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", what, err)
		}
	}
	other := spec
	other.Set[0]++
	invalid("another set", "another set than the job names", other)
	other = spec
	other.Recipients++
	invalid("another number", "another set than the job names", other)
	other.Package = f.put([]byte("no package at all"))
	invalid("no package", "damaged", other)

	h, err := f.blobs.Open(t.Context(), spec.Package)
	must(t, err)
	defer h.Close()
	b, err := os.ReadFile(h.Path())
	must(t, err)
	b[len(b)-1] ^= 1
	other = spec
	other.Package = f.put(b)
	invalid("one bit of it", "damaged", other)

	other.Package = job.Digest{1}
	if _, _, err := f.Check(t.Context(), other); err == nil || job.CodeOf(err) == job.CodeInvalid {
		t.Errorf("a package that is not there, which a copy from a backup mends: %v", err)
	}
}

// The lists are those that the job pinned, and the suppressed are those of now.
func TestLists(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3, 5)
	if _, err := f.Lists(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "followers of account 7 at revision 3") {
		t.Errorf("followers that are not there: %v", err)
	}
	_, spec.Followers = f.set(3, 9)
	lists, err := f.Lists(t.Context(), spec)
	must(t, err)
	followers, err := lists.Followers.Range(0)
	must(t, err)
	if got := slices.Collect(followers.All()); !slices.Equal(got, []uint32{3, 9}) {
		t.Errorf("followers %v", got)
	}
	suppressed := func() []uint32 {
		t.Helper()
		set, err := lists.Suppressed.Range(0)
		must(t, err)
		return slices.Collect(set.All())
	}
	if got := suppressed(); len(got) != 0 {
		t.Errorf("suppressed %v, want nobody", got)
	}
	for key, id := range map[members.Key]uint32{members.GlobalSuppression(): 5, members.Suppression(7): 6, members.Suppression(8): 8} {
		_, err := f.lists.Add(t.Context(), key, []uint32{id})
		must(t, err)
	}
	if got := suppressed(); !slices.Equal(got, []uint32{5, 6}) {
		t.Errorf("suppressed %v, want 5 for all and 6 for the account", got)
	}
}

// Who asked to be forgotten gets nothing of jobs that were accepted before, and all of those
// that came later.
func TestWhoAskedToBeForgotten(t *testing.T) {
	f := newFixture(t)
	suppressed := map[byte][]uint32{}
	erase := func(who job.Recipient) {
		t.Helper()
		_, err := f.gone.Erase(t.Context(), who, "key", time.Now())
		must(t, err)
	}
	var specs []job.Spec
	for n := byte(1); n <= 3; n++ {
		spec := f.spec(n, 3, 5, 9)
		_, spec.Followers = f.set(3, 5, 9)
		_, _, err := f.table.Accept(t.Context(), spec)
		must(t, err)
		specs = append(specs, spec)
		erase(job.Recipient(10 * n))
	}
	erase(10)
	erase(1 << 20) // of another range
	_, err := f.lists.Add(t.Context(), members.GlobalSuppression(), []uint32{5})
	must(t, err)
	for n, spec := range specs {
		lists, err := f.Lists(t.Context(), spec)
		must(t, err)
		set, err := lists.Suppressed.Range(0)
		must(t, err)
		suppressed[byte(n)] = slices.Collect(set.All())
	}
	for n, want := range map[byte][]uint32{0: {5, 10, 20, 30}, 1: {5, 10, 20, 30}, 2: {5, 10, 30}} {
		if !slices.Equal(suppressed[n], want) {
			t.Errorf("job %d is not for %v, want %v", n+1, suppressed[n], want)
		}
	}
	stray := f.spec(4, 3)
	stray.Followers = specs[0].Followers
	lists, err := f.Lists(t.Context(), stray)
	must(t, err)
	if _, err := lists.Suppressed.Range(0); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("of a job that nobody accepted: %v", err)
	}
}

// The segments are those that the job recorded, opened by their blobs; the control group is
// the job's; and why somebody was dropped is said from the same.
func TestListsOfAJobThatAims(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3, 5)
	_, spec.Followers = f.set(3, 5, 9)
	spec.Include = []job.Segment{{Name: "vip", Number: 4, Revision: 2}, {Name: "new", Number: 5, Revision: 7}}
	_, spec.Include[0].Blob = f.set(3)
	_, spec.Include[1].Blob = f.set(5, 1<<20)
	spec.Exclude = []job.Segment{{Name: "left", Number: 6, Revision: 1, Blob: job.Digest{1}}}
	spec.ControlGroup, spec.Salt = 250_000, job.Digest{9}
	for what, try := range map[string]func() error{
		"lists": func() error { _, err := f.Lists(t.Context(), spec); return err },
		"why":   func() error { _, err := f.Why(t.Context(), spec, job.ReasonTargeting, 3); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), `segment "left" at revision 1`) {
			t.Errorf("%s, of a segment that is not there: %v", what, err)
		}
	}
	_, spec.Exclude[0].Blob = f.set(5)
	lists, err := f.Lists(t.Context(), spec)
	must(t, err)
	var got []string
	for _, x := range append(slices.Clone(lists.Include), lists.Exclude...) {
		for _, r := range []job.Range{0, 1} {
			ids, err := x.Range(r)
			must(t, err)
			got = append(got, fmt.Sprint(x, slices.Collect(ids.All())))
		}
	}
	want := []string{`segment "vip" at revision 2 [3]`, `segment "vip" at revision 2 []`, `segment "new" at revision 7 [5]`, `segment "new" at revision 7 [1048576]`,
		`segment "left" at revision 1 [5]`, `segment "left" at revision 1 []`}
	if !slices.Equal(got, want) || lists.Control.Share != 250_000 || lists.Control.Salt != (job.Digest{9}) {
		t.Errorf("%q and %+v", got, lists.Control)
	}
	again, err := f.Filters(t.Context(), spec)
	must(t, err)
	var reasons []job.Reason
	for _, x := range again {
		reasons = append(reasons, x.Reason())
		if refused, err := x.Refuse(t.Context(), idset.Of(3, 4, 5)); x.Reason() == job.ReasonTargeting && (err != nil || !slices.Equal(slices.Collect(refused.All()), []uint32{4, 5})) {
			t.Errorf("asked again: %v, %v", slices.Collect(refused.All()), err)
		}
	}
	if !slices.Equal(reasons, []job.Reason{job.ReasonRelation, job.ReasonTargeting, job.ReasonControl}) {
		t.Errorf("asked again are %v", reasons)
	}
	for reason, want := range map[job.Reason]string{job.ReasonTargeting: `in segment "left" at revision 1, which the job excludes`, job.ReasonRelation: ""} {
		if got, err := f.Why(t.Context(), spec, reason, 5); err != nil || got != want {
			t.Errorf("%s: %q, %v", reason, got, err)
		}
	}
	if got, err := f.Why(t.Context(), spec, job.ReasonControl, 5); err != nil || !strings.Contains(got, "its lot is") {
		t.Errorf("control group: %q, %v", got, err)
	}
}

func TestMessage(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3)
	spec.Body, spec.CollapseKey = f.put([]byte("Hear ye!")), "one"
	m, err := f.Message(t.Context(), spec)
	must(t, err)
	if string(m.Body) != "Hear ye!" || m.Account != 7 || m.AccountName != "news" || m.CollapseKey != "one" ||
		m.SentAt != spec.SubmittedAt.UnixMilli() || m.ExpiresAt != spec.ExpiresAt.UnixMilli() || m.DisplayAt != 0 {
		t.Errorf("%+v", m)
	}
	later := spec
	later.ID[0]++
	later.DisplayAt = spec.SubmittedAt.Add(time.Minute)
	if m, err := f.Message(t.Context(), later); err != nil || m.DisplayAt != later.DisplayAt.UnixMilli() {
		t.Errorf("shown later: %+v, %v", m, err)
	}
	gone := spec
	gone.ID[0] += 2
	gone.Body = job.Digest{1}
	if _, err := f.Message(t.Context(), gone); err == nil || !strings.Contains(err.Error(), "the body of job "+gone.ID.String()) {
		t.Errorf("a body that is not there: %v", err)
	}
}

// A set that has left the cache is read to the end by whoever has it, and is opened anew
// for whoever wants it then.
func TestASetThatLeavesStaysOpen(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3, 5)
	pkg, err := f.Package(t.Context(), spec)
	must(t, err)
	for n := range uint32(openSets) {
		_, digest := f.set(n, n+1000)
		_, err := f.Set(t.Context(), digest)
		must(t, err)
	}
	again, err := f.Package(t.Context(), spec)
	must(t, err)
	if again == pkg {
		t.Fatal("it has not left: the test means nothing")
	}
	for _, p := range []interface{ Cardinality() uint64 }{pkg.(*audience.Set), again.(*audience.Set)} {
		if p.Cardinality() != 2 {
			t.Errorf("it has %d ids, want 2", p.Cardinality())
		}
	}
	ids, err := pkg.Range(0)
	if err != nil || !slices.Equal(slices.Collect(ids.All()), []uint32{3, 5}) {
		t.Errorf("%v", err)
	}
}

// Of a content that is closed no set stays mapped: a process makes many of them.
func TestNothingStaysOpen(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3, 5)
	mapped := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		must(t, err)
		h, err := f.blobs.Open(t.Context(), spec.Package)
		must(t, err)
		defer h.Close()
		return strings.Count(string(b), h.Path())
	}
	_, err := f.Package(t.Context(), spec)
	must(t, err)
	if mapped() != 1 {
		t.Fatal("it is not mapped: the test means nothing")
	}
	f.Close()
	for range 100 {
		if runtime.GC(); mapped() == 0 {
			return
		}
	}
	t.Error("it is still mapped")
}

// The index asks by the job alone.
func TestPackageRange(t *testing.T) {
	f := newFixture(t)
	spec := f.spec(1, 3, 1<<20)
	if _, err := f.PackageRange(t.Context(), spec.ID, 0); job.CodeOf(err) != job.CodeNotFound {
		t.Errorf("of a job that is not: %v", err)
	}
	_, _, err := f.table.Accept(t.Context(), spec)
	must(t, err)
	ids, err := f.PackageRange(t.Context(), spec.ID, 1)
	if err != nil || !slices.Equal(slices.Collect(ids.All()), []uint32{1 << 20}) {
		t.Errorf("%v", err)
	}
}

// The cache keeps what was used last, tells of what leaves, and keeps no failure.
func TestCache(t *testing.T) {
	var left []int
	c := cache[string, int]{limit: 2, drop: func(v int) { left = append(left, v) }}
	made := 0
	get := func(k string, v int) int {
		got, err := c.get(k, func() (int, error) { made++; return v, nil })
		must(t, err)
		return got
	}
	get("a", 1)
	get("b", 2)
	get("a", 9) // b is the one used longest ago
	get("c", 3)
	if !slices.Equal(left, []int{2}) || made != 3 || get("a", 9) != 1 {
		t.Errorf("left %v, made %d times", left, made)
	}
	broken := errors.New("broken")
	if _, err := c.get("d", func() (int, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if len(left) != 1 || get("d", 4) != 4 || !slices.Equal(left, []int{2, 3}) {
		t.Errorf("left %v", left)
	}
}

// What is slow to open holds up nobody who needs something else, and is opened once for all
// who need it.
func TestASlowValueHoldsUpNobodyElse(t *testing.T) {
	c := cache[string, int]{limit: 2}
	slow, begun, opened := make(chan struct{}), make(chan struct{}), 0
	var wg sync.WaitGroup
	first := func() (int, error) {
		opened++
		close(begun)
		<-slow
		return 1, nil
	}
	for range 3 {
		wg.Go(func() {
			if v, err := c.get("slow", first); err != nil || v != 1 {
				t.Errorf("the slow one is %d, %v", v, err)
			}
		})
	}
	<-begun
	other := make(chan struct{})
	go func() {
		defer close(other)
		if v, err := c.get("other", func() (int, error) { return 2, nil }); err != nil || v != 2 {
			t.Errorf("the other one is %d, %v", v, err)
		}
	}()
	select {
	case <-other:
	case <-time.After(5 * time.Second):
		t.Error("it waits for the slow one")
	}
	close(slow)
	wg.Wait()
	<-other
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
}
