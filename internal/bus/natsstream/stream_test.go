package natsstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		want error // nil: none of the named ones
	}{
		{10071, "wrong last sequence: 5", ErrConflict},
		{10164, "wrong last sequence", ErrConflict},
		{10077, "maximum bytes exceeded", ErrFull},
		{10077, "message too large", nil},
		{10047, "insufficient storage resources available", ErrFull},
		{10023, "insufficient resources", ErrFull},
		{10002, "resource limits exceeded for account", ErrFull},
		{10074, "no reply or too long", nil},
	} {
		err := refusal(&apiError{ErrCode: c.code, Description: c.text})
		for _, is := range []error{ErrConflict, ErrFull} {
			if errors.Is(err, is) != (is == c.want) {
				t.Errorf("%d %q is %v: %v", c.code, c.text, is, errors.Is(err, is))
			}
		}
		var api *apiError
		if !errors.As(err, &api) || api.ErrCode != c.code {
			t.Errorf("%d: the server's error is not in %v", c.code, err)
		}
	}
}

// TestFollowWithoutHints follows a stream that others write who tell nobody.
func TestFollowWithoutHints(t *testing.T) {
	_, st, nc := serve(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	fn, n := expect(1, "s.>", 8)
	ended := make(chan error, 1)
	go func() {
		ended <- st.Follow(t.Context(), 1, "s.>", func(r Record) error {
			if err := fn(r); err != nil {
				return err
			}
			if n.Load() == 3 {
				return errEnough
			}
			return nil
		}, nil)
	}()
	for i := uint64(1); i <= 3; i++ {
		if _, err := js.Publish(t.Context(), subjectOf(i), textOf(i, 8)); err != nil {
			t.Fatal(err)
		}
		stored := time.Now()
		for n.Load() < int64(i) {
			if time.Since(stored) > 10*time.Second {
				t.Fatalf("record %d is not followed", i)
			}
			select {
			case err := <-ended:
				if i < 3 || !errors.Is(err, errEnough) {
					t.Fatal(err)
				}
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

var errEnough = errors.New("enough")

// TestBatchNoticesALoss gives a follower answers of which one is missing.
func TestBatchNoticesALoss(t *testing.T) {
	_, st, nc := serve(t)
	record := func(seq, previous string) *nats.Msg {
		return &nats.Msg{Data: []byte("x"), Header: nats.Header{"Nats-Sequence": {seq}, "Nats-Last-Sequence": {previous},
			"Nats-Subject": {"s.a"}, "Nats-Time-Stamp": {"2020-01-01T00:00:00Z"}}}
	}
	end := func(previous, pending string) *nats.Msg {
		return &nats.Msg{Header: nats.Header{"Status": {statusEnd}, "Nats-Last-Sequence": {previous}, "Nats-Num-Pending": {pending}}}
	}
	for _, c := range []struct {
		name    string
		answers []*nats.Msg
		got     int
		more    bool
		ok      bool
	}{
		{"whole", []*nats.Msg{record("3", "0"), record("5", "3"), end("5", "0")}, 2, false, true},
		{"whole, and more", []*nats.Msg{record("3", "0"), end("3", "7")}, 1, true, true},
		{"one missing", []*nats.Msg{record("3", "0"), record("7", "5"), end("7", "0")}, 1, false, false},
		{"the first missing", []*nats.Msg{record("5", "3"), end("5", "0")}, 0, false, false},
		{"the last missing", []*nats.Msg{record("3", "0"), end("5", "0")}, 1, false, false},
		{"the end missing", []*nats.Msg{record("3", "0")}, 1, false, false},
		{"refused", []*nats.Msg{{Header: nats.Header{"Status": {"408"}, "Description": {"Bad Request"}}}}, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *st
			s.direct = "fake.direct" // the test answers in the server's place
			sub, err := nc.Subscribe(s.direct, func(m *nats.Msg) {
				late := record("9", "0") // the answer to an older request
				late.Subject = strings.TrimSuffix(m.Reply, "1") + "0"
				_ = nc.PublishMsg(late)
				for _, a := range c.answers {
					a.Subject = m.Reply
					_ = nc.PublishMsg(a)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			got := 0
			f := &follower{Stream: &s, next: 1, pattern: "s.>", fn: func(Record) error { got++; return nil }, hint: make(chan struct{}, 1)}
			if err := f.subscribe(); err != nil {
				t.Fatal(err)
			}
			defer f.unsubscribe()
			more, err := f.batch(t.Context())
			if got != c.got || more != c.more || (err == nil) != c.ok {
				t.Fatalf("%d records, more %v, %v; want %d, %v, ok %v", got, more, err, c.got, c.more, c.ok)
			}
		})
	}
}

// TestLeaderDecides has a server that answers direct gets but is behind: what the
// leader has comes from the leader, and nothing is "all" before it has said so.
func TestLeaderDecides(t *testing.T) {
	_, st, nc := serve(t)
	s := *st
	s.direct, s.info, s.leader = "fake.direct", "fake.info", "fake.leader"
	answer := func(subject string, make func(m *nats.Msg) *nats.Msg) {
		sub, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.RespondMsg(make(m)) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	answer(s.direct, func(*nats.Msg) *nats.Msg {
		return &nats.Msg{Header: nats.Header{"Status": {statusNone}}}
	})
	answer(s.info, func(*nats.Msg) *nats.Msg {
		return &nats.Msg{Data: []byte(`{"state": {"first_seq": 1, "last_seq": 6}}`)}
	})
	asked := 0
	answer(s.leader, func(m *nats.Msg) *nats.Msg {
		switch asked++; {
		case asked == 1:
			return &nats.Msg{Data: []byte(`{"error": {"code": 503, "err_code": 10008, "description": "no leader"}}`)}
		case strings.Contains(string(m.Data), `"seq":1,`):
			return &nats.Msg{Data: []byte(`{"message": {"seq": 5, "subject": "s.a", "data": "eA==", "time": "2020-01-01T00:00:00Z"}}`)}
		default:
			return &nats.Msg{Data: []byte(`{"error": {"code": 404, "err_code": 10037, "description": "no message found"}}`)}
		}
	})
	var got []uint64
	err := readToEnd(t.Context(), &s, 1, "s.>", func(r Record) error {
		got = append(got, r.Seq)
		return nil
	})
	if err != nil || len(got) != 1 || got[0] != 5 {
		t.Fatalf("records %v, %v; want record 5", got, err)
	}
}

// TestSubjectsInPages lists more subjects than the server names in one answer; the
// test answers in its place, a few at a time.
func TestSubjectsInPages(t *testing.T) {
	_, st, nc := serve(t)
	s := *st
	s.info = "fake.info"
	const total, page = 2345, 100
	sub, err := nc.Subscribe(s.info, func(m *nats.Msg) {
		var asked struct {
			Filter string `json:"subjects_filter"`
			Offset int    `json:"offset"`
		}
		if err := json.Unmarshal(m.Data, &asked); err != nil || asked.Filter != "s.*" {
			t.Errorf("asked %s: %v", m.Data, err)
		}
		subjects := map[string]uint64{}
		for i := asked.Offset; i < min(asked.Offset+page, total); i++ {
			subjects[fmt.Sprintf("s.%d", i)] = uint64(i + 1)
		}
		answer, err := json.Marshal(map[string]any{"total": total, "offset": asked.Offset, "limit": page, "state": map[string]any{"subjects": subjects}})
		if err != nil {
			t.Error(err)
		}
		_ = m.Respond(answer)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	got, err := s.Subjects(t.Context(), "s.*")
	if err != nil || len(got) != total {
		t.Fatalf("%d subjects, %v; want %d", len(got), err, total)
	}
	for i := range total {
		if got[fmt.Sprintf("s.%d", i)] != uint64(i+1) {
			t.Fatalf("subject %d is missing", i)
		}
	}
}

// Processes that start together make one stream, each with a limit of its own.
func TestManyMakeOneStream(t *testing.T) {
	srv, _, _ := serve(t)
	for round := range 10 {
		var made sync.WaitGroup
		for i := range int64(4) {
			made.Go(func() {
				nc, err := srv.Connect(t.Name())
				if err != nil {
					t.Error(err)
					return
				}
				defer nc.Close()
				cfg := Config{Stream: fmt.Sprint("MANY", round), Subjects: []string{fmt.Sprintf("m%d.>", round)}, MaxBytes: 1<<20 + i, Wait: time.Second, Logger: quiet}
				if _, err := Open(t.Context(), nc, cfg); err != nil {
					t.Error(err)
				}
			})
		}
		made.Wait()
	}
}
