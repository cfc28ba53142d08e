package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrUnsynced is wrapped when a server acknowledges records that its disk may not have.
var ErrUnsynced = errors.New("a server acknowledges records before its disk has them")

var errNotSystem = errors.New("asking the servers whether they sync always: the user of nats.system is not of the system account")

const (
	// syncWithin bounds CheckSync.
	syncWithin = 8 * time.Second
	// answersWithin is how long servers have for one question.
	answersWithin = 2 * time.Second
	// syncEvery is how often WatchSync asks: a server that was down at the start, or
	// was started again with other settings, is noticed so.
	syncEvery = 15 * time.Second

	varz = "$SYS.REQ.SERVER.PING.VARZ"
)

// syncAnswer is the part of a server's answer that counts.
type syncAnswer struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		JetStream struct {
			Config *struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
			Meta *struct {
				Size int `json:"cluster_size"`
			} `json:"meta"`
		} `json:"jetstream"`
	} `json:"data"`
}

// CheckSync asks all servers of a cluster, over a connection to their system account,
// whether they sync each record before they acknowledge it, and returns with
// ErrUnsynced if one does not. A server that is down cannot be asked: it is enough
// that most answer, for these decide what is acknowledged; WatchSync asks the others
// when they are back. There is no other way to learn it: an ordinary account's view
// of the servers and streams does not show it.
func CheckSync(ctx context.Context, system *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, syncWithin)
	defer cancel()
	for {
		err := askSync(ctx, system)
		if err == nil || errors.Is(err, ErrUnsynced) || errors.Is(err, errNotSystem) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("asking the servers whether they sync always: %w", err)
		case <-time.After(reconnectWait):
		}
	}
}

// WatchSync asks again and again and returns with ErrUnsynced when a server does not
// sync always, and with nil when ctx ends. One such server of three is enough to lose what
// is acknowledged: it stores a record with one other, loses it with its power, and makes with
// the third, which never had it, a majority that goes on without.
func WatchSync(ctx context.Context, system *nats.Conn, log *slog.Logger) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch err := CheckSync(ctx, system); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrUnsynced):
			return err
		case err != nil:
			log.Warn("most servers do not answer whether they sync always", "error", err)
		}
	}
}

// askSync asks once.
func askSync(ctx context.Context, system *nats.Conn) error {
	inbox := nats.NewInbox()
	sub, err := system.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // or it has ended with the connection
	if err := system.PublishRequest(varz, inbox, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	var synced, unsynced []string
	size := 1
	for len(synced)+len(unsynced) < size {
		m, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, nats.ErrNoResponders) || err == nil && m.Header.Get("Status") == noResponders {
			return errNotSystem
		}
		if err != nil {
			break // the rest does not answer
		}
		var a syncAnswer
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return fmt.Errorf("an answer that is not understood: %w", err)
		}
		name, js := a.Server.Name, a.Data.JetStream
		switch {
		case js.Config == nil || slices.Contains(synced, name) || slices.Contains(unsynced, name):
			continue // it has no streams
		case js.Config.SyncAlways:
			synced = append(synced, name)
		default:
			unsynced = append(unsynced, name)
		}
		if js.Meta != nil {
			size = max(size, js.Meta.Size)
		}
	}
	if len(unsynced) > 0 {
		return fmt.Errorf("%w: %s; set sync_interval: always in jetstream {} of its configuration and start it again", ErrUnsynced, strings.Join(unsynced, ", "))
	}
	if len(synced) <= size/2 {
		return fmt.Errorf("%d of %d servers with streams answer", len(synced), size)
	}
	return nil
}
