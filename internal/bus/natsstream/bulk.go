package natsstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// bulkAfter batches that left more behind, a follower has the server push: that
	// is twice as fast for large records and three times for small ones, but costs
	// the making of a consumer, and up to bulkWindow of memory.
	bulkAfter  = 4
	bulkWindow = 32 << 20 // the server's bound on what is sent and not confirmed
	// bulkIdle is when the server says that it has nothing more to push.
	bulkIdle = 500 * time.Millisecond
	// bulkForgotten is when it removes a consumer that nobody listens to.
	bulkForgotten = 10 * time.Second
)

// consumerConfig is what a push of records in order needs.
type consumerConfig struct {
	Name        string        `json:"name"`
	Deliver     string        `json:"deliver_subject"`
	Policy      string        `json:"deliver_policy"`
	Start       uint64        `json:"opt_start_seq"`
	Ack         string        `json:"ack_policy"`
	MaxDeliver  int           `json:"max_deliver"`
	Filters     []string      `json:"filter_subjects"`
	FlowControl bool          `json:"flow_control"`
	Heartbeat   time.Duration `json:"idle_heartbeat"`
	Inactive    time.Duration `json:"inactive_threshold"`
	Replicas    int           `json:"num_replicas"`
	Memory      bool          `json:"mem_storage"`
}

// bulk takes the records from next on as the server pushes them, until there are
// no more, and leaves the rest to batches. What is lost on the way ends it with an
// error: the follower goes on behind the last record that it took.
func (f *follower) bulk(ctx context.Context, filters ...string) error {
	f.asked++
	deliver := f.bulkInbox + strconv.FormatUint(f.asked, 10)
	pushed, done := make(chan *nats.Msg, 64), make(chan struct{})
	sub, err := f.nc.Subscribe(deliver, func(m *nats.Msg) {
		select {
		case pushed <- m:
		case <-done:
		}
	})
	if err != nil {
		return err
	}
	defer close(done)
	defer func() { _ = sub.Unsubscribe() }() // or it has ended with the connection
	if err := sub.SetPendingLimits(-1, 2*bulkWindow); err != nil {
		return err
	}
	name := strings.ReplaceAll(deliver, ".", "_") // as unique as the inbox
	var made struct {
		outcome
		Pending uint64 `json:"num_pending"`
	}
	err = f.ask(ctx, "$JS.API.CONSUMER.CREATE."+f.name+"."+name, struct {
		Stream string         `json:"stream_name"`
		Config consumerConfig `json:"config"`
	}{f.name, consumerConfig{
		Name: name, Deliver: deliver, Policy: "by_start_sequence", Start: f.next, Ack: "none", MaxDeliver: 1, Filters: filters,
		FlowControl: true, Heartbeat: bulkIdle, Inactive: bulkForgotten, Replicas: 1, Memory: true,
	}}, &made)
	if err != nil {
		return fmt.Errorf("asking for a push: %w", err)
	}
	// The server forgets it by itself if this does not reach it.
	defer func() { _ = f.nc.Publish("$JS.API.CONSUMER.DELETE."+f.name+"."+name, nil) }()
	if made.Pending == 0 {
		return nil
	}
	return f.takePushed(ctx, pushed)
}

// takePushed takes records until the server says that it has no more.
func (f *follower) takePushed(ctx context.Context, pushed <-chan *nats.Msg) error {
	silence := time.NewTimer(f.patience())
	defer silence.Stop()
	for n := uint64(0); ; {
		var m *nats.Msg
		silence.Reset(f.patience()) // the time that fn takes does not count
		select {
		case m = <-pushed:
		case <-ctx.Done():
			return ctx.Err()
		case <-silence.C:
			return fmt.Errorf("no push for %s", f.patience())
		}
		if len(m.Data) == 0 && m.Header.Get("Status") == statusControl {
			if more, err := f.control(m, n); !more {
				return err
			}
			continue
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("a push that is not understood: %w", err)
		}
		if n++; meta.Sequence.Consumer != n {
			return fmt.Errorf("a push was lost behind record %d", f.read)
		}
		if m.Subject == f.marks {
			f.passed(meta.Sequence.Stream)
			if meta.NumPending == 0 {
				return nil
			}
			continue
		}
		err = f.take(Record{Seq: meta.Sequence.Stream, Subject: m.Subject, Time: meta.Timestamp, Data: m.Data})
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
}

const statusControl = "100"

// control answers a message that is not a record, after n of them. more says that
// the push goes on.
func (f *follower) control(m *nats.Msg, n uint64) (more bool, err error) {
	confirm := m.Reply // asked to confirm what came before it
	if confirm == "" {
		confirm = m.Header.Get("Nats-Consumer-Stalled")
	}
	if confirm != "" {
		err := f.nc.Publish(confirm, nil)
		return err == nil, err
	}
	// Nothing came for a while.
	if last := m.Header.Get("Nats-Last-Consumer"); last != strconv.FormatUint(n, 10) {
		return false, fmt.Errorf("%s records were pushed, %d came", last, n)
	}
	return false, nil
}
