package authority_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"crier/api"
	"crier/internal/auth"
	"crier/internal/authority"
	"crier/job"
	"crier/state/sql/access"
)

const adminKey = "crier_the-admin"

type admin struct{}

func (admin) VerifyAdmin(key string) error {
	if key != adminKey {
		return errors.New("no")
	}
	return nil
}

// store is a store that may be away, or not answer at all.
type store struct {
	mu struct {
		sync.Mutex
		changes access.Changes
		numbers []uint64 // of the keys, in their order
		err     error
		hang    bool
		looks   int
		used    map[string]time.Time
	}
}

func (s *store) Since(ctx context.Context, number uint64) (access.Changes, error) {
	s.mu.Lock()
	s.mu.looks++
	hang := s.mu.hang
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return access.Changes{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return access.Changes{}, s.mu.err
	}
	out := access.Changes{Through: s.mu.changes.Through, Tenants: s.mu.changes.Tenants}
	for i, k := range s.mu.changes.Keys {
		if s.mu.numbers[i] > number {
			out.Keys = append(out.Keys, k)
		}
	}
	return out, nil
}

func (s *store) Used(_ context.Context, at map[string]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return s.mu.err
	}
	for id, t := range at {
		s.mu.used[id] = t
	}
	return nil
}

// put stores a key, new or changed.
func (s *store) put(k access.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes.Through++
	s.mu.changes.Keys = append(s.mu.changes.Keys, k)
	s.mu.numbers = append(s.mu.numbers, s.mu.changes.Through)
}

func (s *store) fail(err error, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.err, s.mu.hang = err, hang
}

func newStore() *store {
	s := &store{}
	s.mu.used = map[string]time.Time{}
	return s
}

// secret makes a key and what is stored of it.
func secret(t *testing.T, id string) (string, access.Key) {
	t.Helper()
	key, err := auth.NewKey(nonzero{})
	if err != nil {
		t.Fatal(err)
	}
	if id != "key_1" { // any other bits
		key, err = auth.NewKey(strings.NewReader(strings.Repeat(id, 32)))
		if err != nil {
			t.Fatal(err)
		}
	}
	return key, access.Key{ID: id, Hash: auth.HashKey(key), Name: "name of " + id, Role: job.Submitter, Tenant: "acme"}
}

type nonzero struct{}

func (nonzero) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(i + 1)
	}
	return len(b), nil
}

// trial runs an authority over a store in a bubble of time.
func trial(t *testing.T, test func(t *testing.T, s *store, a *authority.Authority)) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := authority.New(authority.Config{Admin: admin{}, Store: s, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		test(t, s, a)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func wantCaller(t *testing.T, a *authority.Authority, key, id string) {
	t.Helper()
	c, err := a.Identify(t.Context(), key)
	if id == "" {
		if job.CodeOf(err) != job.CodeDenied || key != "" && strings.Contains(err.Error(), key) || c.Key != "" {
			t.Errorf("a key that is none: %+v, %v", c, err)
		}
		return
	}
	if err != nil || c.Key != id {
		t.Errorf("it is the key of %+v, %v; want %s", c, err, id)
	}
}

func TestIdentify(t *testing.T) {
	trial(t, func(t *testing.T, s *store, a *authority.Authority) {
		one, kept := secret(t, "key_1")
		two, _ := secret(t, "key_2")
		r := job.Recipient(5)
		kept.Recipient = &r
		s.put(kept)
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		c, err := a.Identify(t.Context(), one)
		if err != nil || c.Name != "name of key_1" || c.Role != job.Submitter || c.Tenant != "acme" || *c.Recipient != 5 || c.IsOperator() {
			t.Errorf("it is the key of %+v, %v", c, err)
		}
		if c, err := a.Identify(t.Context(), adminKey); err != nil || !c.IsOperator() {
			t.Errorf("the admin is %+v, %v", c, err)
		}
		for _, bad := range []string{"", two, one + "x", one[:len(one)-1], strings.ToUpper(one), "crk_", adminKey + "x", kept.Hash.String(), "key_1"} {
			wantCaller(t, a, bad, "")
		}
	})
}

// A key that was made elsewhere works at once; wrong keys cannot make the store work hard.
func TestAKeyThatIsNotKnownIsLookedFor(t *testing.T) {
	trial(t, func(t *testing.T, s *store, a *authority.Authority) {
		one, kept := secret(t, "key_1")
		s.put(kept)
		wantCaller(t, a, one, "key_1")
		wrong, _ := secret(t, "key_2")
		time.Sleep(time.Second)
		s.mu.Lock()
		before := s.mu.looks
		s.mu.Unlock()
		for range 1000 {
			wantCaller(t, a, wrong, "")
			wantCaller(t, a, "crk_not-even-of-the-form", "")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.mu.looks - before; n != 1 {
			t.Errorf("%d looks for a thousand wrong keys at one moment", n)
		}
	})
}

// A key that is revoked in another process is refused here within five seconds, whenever
// that is between two looks.
func TestRevokedElsewhere(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second, 1999 * time.Millisecond, 2001 * time.Millisecond} {
		trial(t, func(t *testing.T, s *store, a *authority.Authority) {
			one, kept := secret(t, "key_1")
			s.put(kept)
			wantCaller(t, a, one, "key_1")
			time.Sleep(after)
			kept.RevokedAt = time.Now()
			s.put(kept)
			time.Sleep(5 * time.Second)
			wantCaller(t, a, one, "")
		})
	}
}

// While the store is away what was in force stays so, and what is revoked meanwhile is
// refused within five seconds of its answering again; also when it does not even refuse.
func TestWithoutTheStore(t *testing.T) {
	for name, hang := range map[string]bool{"it refuses": false, "it hangs": true} {
		t.Run(name, func(t *testing.T) {
			trial(t, func(t *testing.T, s *store, a *authority.Authority) {
				one, kept := secret(t, "key_1")
				s.put(kept)
				wantCaller(t, a, one, "key_1")
				s.fail(errors.New("no answer"), hang)
				time.Sleep(time.Hour)
				wantCaller(t, a, one, "key_1")
				if age := a.Age(); age < time.Hour-5*time.Second || age > time.Hour+5*time.Second {
					t.Errorf("the store has been away for an hour, and not for %s", age)
				}
				began := time.Now()
				wrong, made := secret(t, "key_2")
				wantCaller(t, a, wrong, "")
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("a wrong key took %s", took)
				}
				kept.RevokedAt = time.Now()
				s.put(kept)
				s.put(made)
				s.fail(nil, false)
				time.Sleep(5 * time.Second)
				wantCaller(t, a, one, "")
				wantCaller(t, a, wrong, "key_2")
			})
		})
	}
}

// A store that was put back to an earlier state, or made anew, is the one that counts.
func TestAnOlderStore(t *testing.T) {
	trial(t, func(t *testing.T, s *store, a *authority.Authority) {
		one, kept := secret(t, "key_1")
		two, late := secret(t, "key_2")
		s.put(kept)
		s.put(late)
		wantCaller(t, a, two, "key_2")
		s.mu.Lock()
		s.mu.changes.Keys, s.mu.numbers, s.mu.changes.Through = s.mu.changes.Keys[:1], s.mu.numbers[:1], 1
		s.mu.Unlock()
		time.Sleep(5 * time.Second)
		wantCaller(t, a, one, "key_1")
		wantCaller(t, a, two, "")
	})
}

// Many keys that are not known, at a store that does not answer, do not pile up.
func TestWrongKeysWhileTheStoreHangs(t *testing.T) {
	trial(t, func(t *testing.T, s *store, a *authority.Authority) {
		one, kept := secret(t, "key_1")
		s.put(kept)
		wantCaller(t, a, one, "key_1")
		s.fail(nil, true)
		wrong, _ := secret(t, "key_2")
		var all sync.WaitGroup
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			all.Go(func() {
				began := time.Now()
				wantCaller(t, a, wrong, "")
				if took := time.Since(began); took > time.Second {
					t.Errorf("a wrong key took %s", took)
				}
			})
		}
		all.Wait()
		wantCaller(t, a, one, "key_1")
	})
}

// A use is not a write, but is noted within seconds, as it was; what the store does not take
// is told again.
func TestUseIsNotedSoon(t *testing.T) {
	trial(t, func(t *testing.T, s *store, a *authority.Authority) {
		one, kept := secret(t, "key_1")
		s.put(kept)
		used := func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.mu.used["key_1"]
		}
		time.Sleep(17 * time.Second)
		at := time.Now()
		for range 100 {
			wantCaller(t, a, one, "key_1")
		}
		if !used().IsZero() {
			t.Error("a use is a write")
		}
		for _, out := range []time.Duration{0, 3 * time.Minute} {
			s.fail(errors.New("no answer"), false)
			time.Sleep(out)
			s.fail(nil, false)
			time.Sleep(10 * time.Second)
			if !used().Equal(at) {
				t.Errorf("used at %s, noted is %s", at, used())
			}
			at = time.Now()
			wantCaller(t, a, one, "key_1")
		}
	})
}

func TestRequestsASecond(t *testing.T) {
	trial(t, func(t *testing.T, s *store, a *authority.Authority) {
		s.mu.changes.Through = 1
		s.mu.changes.Tenants = []access.Tenant{{Name: "acme", Limits: job.Limits{Requests: 10, Jobs: 3}}, {Name: "other"}}
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l := a.Limits("acme"); l != (job.Limits{Requests: 10, Jobs: 3}) || a.Limits("other") != (job.Limits{}) || a.Limits("nobody") != (job.Limits{}) {
			t.Errorf("acme's limits are %+v", l)
		}
		c := api.Caller{Key: "key_1", Tenant: "acme"}
		passed, refused := 0, 0
		for range 100 { // ten a second more than the limit, for ten seconds
			for range 2 {
				switch err := a.Admit(c); {
				case err == nil:
					passed++
				default:
					refused++
					var e *job.Error
					if !errors.As(err, &e) || e.Code != job.CodeLimited || e.After <= 0 || e.After > time.Second || !strings.Contains(e.Message, "acme") {
						t.Fatalf("over the limit: %v", err)
					}
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		if passed < 100 || passed > 110 || passed+refused != 200 {
			t.Errorf("%d passed and %d did not, in ten seconds", passed, refused)
		}
		for range 1000 {
			if a.Admit(api.Caller{Key: "key_2", Tenant: "other"}) != nil || a.Admit(api.Operator()) != nil {
				t.Fatal("who has no limit is refused")
			}
		}
		time.Sleep(2 * time.Second)
		s.put(access.Key{ID: "key_9"}) // something else changes: what was used up stays so
		for range 10 {
			if a.Admit(c) != nil {
				t.Fatal("a second's worth is refused")
			}
		}
		if err := a.Refresh(t.Context()); err != nil || a.Admit(c) == nil {
			t.Errorf("a change elsewhere gave the tenant more, %v", err)
		}
	})
}

func TestWithoutAStoreOnlyTheAdminGetsIn(t *testing.T) {
	a := authority.New(authority.Config{Admin: admin{}})
	one, _ := secret(t, "key_1")
	wantCaller(t, a, one, "")
	if c, err := a.Identify(t.Context(), adminKey); err != nil || !c.IsOperator() {
		t.Errorf("the admin is %+v, %v", c, err)
	}
}
