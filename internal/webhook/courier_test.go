package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crier/internal/webhook"
	"crier/job"
	"crier/state/sql"
)

var loopback = webhook.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// clock is moved by the test.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Unix(1_800_000_000, 0).UTC().Add(time.Duration(c.at.Load()))
}

// request is what a receiver got.
type request struct {
	id, path string
	header   http.Header
	body     []byte
}

// world is a database with jobs, receivers, and couriers.
type world struct {
	t     *testing.T
	db    *sql.DB
	clock *clock
	log   bytes.Buffer
	jobs  int
	mu    struct {
		sync.Mutex
		got []request
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}}
	db, err := sql.Open(t.Context(), sql.Config{Path: filepath.Join(t.TempDir(), "crier.db"), Now: w.clock.now})
	w.must(err)
	t.Cleanup(func() { db.Close() })
	w.db = db
	_, err = db.Hooks.MakeSecret(t.Context(), job.DefaultTenant, webhook.Secret("0123456789abcdef0123456789abcdef"))
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// receiver answers by answer, and keeps what it got.
func (w *world) receiver(answer http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(w.keeping(answer))
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) keeping(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Error(err)
		}
		w.mu.Lock()
		w.mu.got = append(w.mu.got, request{r.Header.Get("webhook-id"), r.URL.Path, r.Header.Clone(), body})
		w.mu.Unlock()
		answer(rw, r)
	})
}

// requests are those to a path so far.
func (w *world) requests(path string) (all []request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.mu.got {
		if r.path == path {
			all = append(all, r)
		}
	}
	return all
}

// job projects a job that has failed, with a webhook.
func (w *world) job(url string) job.ID {
	w.t.Helper()
	w.jobs++
	at := w.clock.now()
	spec := job.Spec{ID: job.NewID(at, [10]byte{byte(w.jobs)}), Account: 7, SubmittedAt: at, ExpiresAt: at.Add(time.Hour), Webhook: &job.Webhook{URL: url}}
	var p sql.Projection
	for i, state := range []job.State{job.Submitted, job.JobFailed} {
		p.Transitions = append(p.Transitions, job.Transition{Job: spec.ID, Version: uint64(i + 1), State: state, Reason: "größer", At: at.Format(time.RFC3339Nano), Spec: spec})
	}
	p.Recorder = "r"
	w.must(w.db.Jobs.Project(w.t.Context(), p))
	return spec.ID
}

// run runs a courier until stop.
func (w *world) run(cfg webhook.Config) (c *webhook.Courier, stop func()) {
	w.t.Helper()
	cfg.Now, cfg.Chance = w.clock.now, func() float64 { return 0.5 }
	if cfg.Store == nil {
		cfg.Store = w.db.Hooks
	}
	if cfg.Guard.Allow == nil {
		cfg.Guard = loopback
	}
	cfg.Logger = slog.New(slog.NewTextHandler(&w.log, nil))
	c, err := webhook.New(cfg)
	w.must(err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				w.t.Error(err)
			}
		})
	}
	w.t.Cleanup(stop)
	return c, stop
}

// await waits until a job's deliveries are as they should be, moving no clock.
func (w *world) await(id job.ID, is func([]job.Delivery) bool) []job.Delivery {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); ; <-tick.C {
		all, err := w.db.Hooks.Of(w.t.Context(), id)
		w.must(err)
		if is(all) {
			return all
		}
		if time.Now().After(limit) {
			w.t.Fatalf("the deliveries are %+v", all)
		}
	}
}

func outcomes(want ...string) func([]job.Delivery) bool {
	return func(all []job.Delivery) bool {
		var got []string
		for _, d := range all {
			got = append(got, d.Outcome)
		}
		return slices.Equal(got, want)
	}
}

func attempts(n uint32) func([]job.Delivery) bool {
	return func(all []job.Delivery) bool { return len(all) == 1 && all[0].Attempts == n }
}

// TestSigned takes a request apart as a receiver does, by the text of the specification.
func TestSigned(t *testing.T) {
	w := newWorld(t)
	r := w.receiver(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) })
	w.clock.at.Add(int64(time.Hour))
	_, err := w.db.Hooks.MakeSecret(t.Context(), job.DefaultTenant, webhook.Secret("another secret of thirty-two byt"))
	w.must(err)
	id := w.job(r.URL + "/signed?token=x")
	w.run(webhook.Config{Owner: "a"})
	w.await(id, outcomes(job.DeliveryDelivered))
	all := w.requests("/signed")
	if len(all) != 1 {
		t.Fatalf("%d requests", len(all))
	}
	h := all[0].header
	if h.Get("Content-Type") != "application/json" || h.Get("webhook-id") != id.String()+"/2" || h.Get("webhook-timestamp") != fmt.Sprint(w.clock.now().Unix()) {
		t.Errorf("headers %v", h)
	}
	var e struct {
		Job, State, Reason string
		Version            int
		At                 time.Time
	}
	if err := json.Unmarshal(all[0].body, &e); err != nil || e.Job != id.String() || e.State != "failed" || e.Reason != "größer" || e.Version != 2 || !e.At.Equal(w.clock.now()) {
		t.Errorf("the body is %s, %v", all[0].body, err)
	}
	signatures := strings.Fields(h.Get("webhook-signature"))
	for i, secret := range []string{"another secret of thirty-two byt", "0123456789abcdef0123456789abcdef"} {
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), all[0].body)
		if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); len(signatures) != 2 || signatures[i] != want {
			t.Errorf("the signatures are %q, want %q", signatures, want)
		}
	}
}

// TestSignature is the example in the documents of the reference implementations.
func TestSignature(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	webhook.Sign(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`), []webhook.Secret{secret})
	if got := h.Get("webhook-signature"); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signed %s", got)
	}
	if got := webhook.Secret(secret).String(); got != "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" {
		t.Errorf("the secret is written %s", got)
	}
}

// TestFailing has a receiver fail in every way before it takes the delivery: the id stays,
// and the pauses are kept.
func TestFailing(t *testing.T) {
	w := newWorld(t)
	var n atomic.Int64
	elsewhere := w.receiver(func(http.ResponseWriter, *http.Request) {})
	r := w.receiver(func(rw http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 1:
			rw.WriteHeader(http.StatusInternalServerError)
		case 2:
			http.Redirect(rw, r, elsewhere.URL+"/elsewhere", http.StatusTemporaryRedirect)
		case 3:
			rw.Header().Set("Retry-After", "600")
			rw.WriteHeader(http.StatusTooManyRequests)
		case 4:
			panic(http.ErrAbortHandler)
		default:
			_, _ = rw.Write(bytes.Repeat([]byte("x"), 1<<20)) // it is read in part only
		}
	})
	id := w.job(r.URL + "/failing")
	c, _ := w.run(webhook.Config{Owner: "a"})
	for i, want := range []struct {
		pause  time.Duration
		status int
		error  string
	}{{5 * time.Second, 500, "500"}, {15 * time.Second, 307, "redirects are not followed"}, {600 * time.Second, 429, "429"}, {135 * time.Second, 0, "EOF"}} {
		d := w.await(id, attempts(uint32(i+1)))[0]
		if d.Outcome != job.DeliveryOpen || d.Status != want.status || !strings.Contains(d.Error, want.error) || d.Due.Sub(w.clock.now()) != want.pause {
			t.Errorf("after attempt %d: %+v, due in %s; want %+v", i+1, d, d.Due.Sub(w.clock.now()), want)
		}
		w.clock.at.Add(int64(want.pause - time.Second))
		c.Notify()
		w.clock.at.Add(int64(time.Second))
		c.Notify()
	}
	d := w.await(id, outcomes(job.DeliveryDelivered))[0]
	if d.Attempts != 5 || d.Status != 200 || d.Error != "" {
		t.Errorf("at last %+v", d)
	}
	all := w.requests("/failing")
	for _, x := range all {
		if x.id != id.String()+"/2" || !bytes.Equal(x.body, all[0].body) {
			t.Errorf("a repeat has the id %s and the body %s", x.id, x.body)
		}
	}
	if len(all) != 5 || len(w.requests("/elsewhere")) != 0 {
		t.Errorf("%d requests, %d where a redirect leads", len(all), len(w.requests("/elsewhere")))
	}
	if s := c.Stats(); s.Delivered.Load() != 1 || s.Failed.Load() != 4 || s.Gone.Load()+s.GivenUp.Load() != 0 {
		t.Errorf("counted %d delivered and %d failed", s.Delivered.Load(), s.Failed.Load())
	}
}

// TestGoneAndGivenUp ends what a receiver wants no more, and what no day was enough for.
func TestGoneAndGivenUp(t *testing.T) {
	w := newWorld(t)
	gone := w.receiver(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) })
	failing := w.receiver(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	a, b := w.job(gone.URL+"/gone"), w.job(failing.URL+"/failing?secret=1")
	c, stop := w.run(webhook.Config{Owner: "a"})
	w.await(a, outcomes(job.DeliveryGone))
	w.await(b, attempts(1))
	w.clock.at.Add(int64(25 * time.Hour))
	c.Notify()
	d := w.await(b, outcomes(job.DeliveryGivenUp))[0]
	if d.Attempts != 2 || d.Status != 502 || d.Error == "" || !d.Ended.Equal(w.clock.now()) || !d.Due.IsZero() {
		t.Errorf("given up: %+v", d)
	}
	stop()
	if s := c.Stats(); s.Gone.Load() != 1 || s.GivenUp.Load() != 1 {
		t.Errorf("counted %d gone and %d given up", s.Gone.Load(), s.GivenUp.Load())
	}
	if log := w.log.String(); !strings.Contains(log, "a webhook is given up") || !strings.Contains(log, b.String()) || strings.Contains(log, "secret=1") {
		t.Errorf("the log is %s", log)
	}
	if n := len(w.requests("/gone")); n != 1 {
		t.Errorf("who is gone got %d requests", n)
	}
}

// dying is a store whose courier dies before it records.
type dying struct {
	webhook.Store
	die func()
}

func (d dying) Record(context.Context, string, webhook.Task, webhook.Verdict) error {
	d.die()
	return errors.New("dead")
}

// TestKilledBetweenAnswerAndRecord ends a courier when the receiver has taken the delivery
// and nobody has written it: the next one sends it again, by the same id, when the lease of
// the dead one is over, and not before.
func TestKilledBetweenAnswerAndRecord(t *testing.T) {
	w := newWorld(t)
	r := w.receiver(func(http.ResponseWriter, *http.Request) {})
	id := w.job(r.URL + "/twice")
	dead := make(chan struct{})
	var once sync.Once
	_, stop := w.run(webhook.Config{Owner: "a", Store: dying{w.db.Hooks, func() { once.Do(func() { close(dead) }) }}})
	<-dead
	stop()
	next, _ := w.run(webhook.Config{Owner: "b"})
	other := w.job(r.URL + "/other")
	w.await(other, outcomes(job.DeliveryDelivered)) // it has looked
	if n := len(w.requests("/twice")); n != 1 {
		t.Fatalf("%d requests while the lease of the dead one lasts", n)
	}
	w.clock.at.Add(int64(time.Minute))
	next.Notify()
	if d := w.await(id, outcomes(job.DeliveryDelivered))[0]; d.Attempts != 1 {
		t.Errorf("%+v", d)
	}
	all := w.requests("/twice")
	if len(all) != 2 || all[0].id != all[1].id || !bytes.Equal(all[0].body, all[1].body) {
		t.Errorf("requests %+v", all)
	}
}

// TestStalling has a receiver that does not answer: others are told meanwhile, and no more
// than some wait for it.
func TestStalling(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	var at, most atomic.Int64
	stalling := w.receiver(func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), at.Add(1)))
		<-release
		at.Add(-1)
	})
	var stuck []job.ID
	for range 20 {
		stuck = append(stuck, w.job(stalling.URL+"/stalling"))
	}
	prompt := w.receiver(func(http.ResponseWriter, *http.Request) {})
	// Another host by name; its address is the same.
	var told []job.ID
	for range 10 {
		told = append(told, w.job(strings.Replace(prompt.URL, "127.0.0.1", "localhost", 1)+"/prompt"))
	}
	w.run(webhook.Config{Owner: "a"})
	for _, id := range told {
		w.await(id, outcomes(job.DeliveryDelivered))
	}
	if n := most.Load(); n == 0 || n > 4 {
		t.Errorf("%d requests at once to a receiver that stalls", n)
	}
	close(release)
	for _, id := range stuck {
		w.await(id, outcomes(job.DeliveryDelivered))
	}
	if n := most.Load(); n > 4 {
		t.Errorf("%d requests at once to one receiver", n)
	}
}

// TestNotAllowed has a name resolve to an address of this machine, and a receiver with TLS
// there: nothing connects.
func TestNotAllowed(t *testing.T) {
	w := newWorld(t)
	plain := w.receiver(func(http.ResponseWriter, *http.Request) {})
	secure := httptest.NewTLSServer(w.keeping(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(secure.Close)
	trusting := func(tr *http.Transport) {
		tr.TLSClientConfig = &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	}
	elsewhere := webhook.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	port := func(s *httptest.Server) string { return s.URL[strings.LastIndex(s.URL, ":"):] }
	a, b := w.job("http://localhost"+port(plain)+"/plain"), w.job("https://localhost"+port(secure)+"/secure")
	_, stop := w.run(webhook.Config{Owner: "a", Guard: elsewhere, Transport: trusting})
	for _, id := range []job.ID{a, b} {
		if d := w.await(id, attempts(1))[0]; d.Status != 0 || !strings.Contains(d.Error, "is not allowed") {
			t.Errorf("%+v", d)
		}
	}
	stop()
	if n := len(w.requests("/plain")) + len(w.requests("/secure")); n != 0 {
		t.Errorf("%d requests came to where none may", n)
	}
	// Where it is allowed, the certificate decides; the example's name is in it.
	w.clock.at.Add(int64(time.Minute))
	ok := w.job(secure.URL + "/ok")
	w.run(webhook.Config{Owner: "b", Transport: trusting})
	w.await(ok, outcomes(job.DeliveryDelivered))
	if d := w.await(b, attempts(2))[0]; !strings.Contains(d.Error, "certificate") {
		t.Errorf("a certificate of another name: %+v", d)
	}
}

// TestWithoutSecret sends nothing unsigned.
func TestWithoutSecret(t *testing.T) {
	w := newWorld(t)
	r := w.receiver(func(http.ResponseWriter, *http.Request) {})
	at := w.clock.now()
	spec := job.Spec{ID: job.NewID(at, [10]byte{9}), Tenant: "acme", SubmittedAt: at, ExpiresAt: at.Add(time.Hour), Webhook: &job.Webhook{URL: r.URL + "/x", On: []string{"submitted"}}}
	w.must(w.db.Jobs.Project(t.Context(), sql.Projection{Recorder: "r", Transitions: []job.Transition{{Job: spec.ID, Version: 1, State: job.Submitted, At: at.Format(time.RFC3339Nano), Spec: spec}}}))
	w.run(webhook.Config{Owner: "a"})
	if d := w.await(spec.ID, attempts(1))[0]; !strings.Contains(d.Error, "no webhook secret") || len(w.requests("/x")) != 0 {
		t.Errorf("%+v after %d requests", d, len(w.requests("/x")))
	}
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]webhook.Config{"store": {Owner: "a"}, "owner": {Store: dying{}}} {
		if _, err := webhook.New(cfg); err == nil {
			t.Errorf("a courier without %s", name)
		}
	}
}
