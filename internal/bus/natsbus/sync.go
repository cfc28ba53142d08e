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

// ErrUntold is wrapped when nobody says whether the servers sync always, because they are
// not embedded in processes that would.
var ErrUntold = errors.New("the servers are not those of Crier processes, which would say whether they sync always")

var errNotSystem = errors.New("asking the servers whether they sync always: the user of nats.system is not of the system account")

const (
	// syncWithin bounds CheckSync and CheckTold.
	syncWithin = 8 * time.Second
	// answersWithin is how long servers have for one question.
	answersWithin = 2 * time.Second
	// syncEvery is how often WatchSync asks: a server that was down at the start, or
	// was started again with other settings, is noticed so.
	syncEvery = 15 * time.Second

	// toldWithin is how long those who would say so have to be there: a server that has just
	// started takes connections a moment before its process does.
	toldWithin = 3 * time.Second

	varz = "$SYS.REQ.SERVER.PING.VARZ" // answered by servers, to users of the system account
	told = "crier.nats.sync"           // answered by TellSync, to everybody, in the same form
)

// syncConfig is whether a server syncs always.
type syncConfig struct {
	SyncAlways bool `json:"sync_always"`
}

// syncMeta is of how many servers its cluster is.
type syncMeta struct {
	Size int `json:"cluster_size"`
}

// syncAnswer is the part of a server's answer that counts.
type syncAnswer struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		JetStream struct {
			Config *syncConfig `json:"config"`
			Meta   *syncMeta   `json:"meta"`
		} `json:"jetstream"`
	} `json:"data"`
}

// CheckSync asks all servers of a cluster, over a connection to their system account,
// whether they sync each record before they acknowledge it, and returns with
// ErrUnsynced if one does not. A server that is down cannot be asked: it is enough
// that most answer, for these decide what is acknowledged; WatchSync asks the others
// when they are back. An ordinary account's view of the servers and streams does not show
// it; see CheckTold.
func CheckSync(ctx context.Context, system *nats.Conn) error {
	return askUntil(ctx, system, varz)
}

// CheckTold is CheckSync of servers that are embedded in other processes, over an ordinary
// connection: the processes tell it. With ErrUntold nobody does.
func CheckTold(ctx context.Context, nc *nats.Conn) error {
	return askUntil(ctx, nc, told)
}

// TellSync has the process say, over a connection to its server, whether that syncs each
// record before it acknowledges it; see CheckTold. It does so until the connection ends.
func (s *Server) TellSync(nc *nats.Conn) error {
	_, err := nc.Subscribe(told, func(m *nats.Msg) {
		if b, err := json.Marshal(s.syncAnswer()); err == nil { // there is nothing that has no form
			_ = m.Respond(b) // or the connection has ended
		}
	})
	if err != nil {
		return fmt.Errorf("telling whether the bus server syncs always: %w", err)
	}
	return nil
}

// syncAnswer is what the server runs with, and how many there are to be.
func (s *Server) syncAnswer() (a syncAnswer) {
	a.Server.Name = s.nats.Name()
	js := s.nats.JetStreamConfig()
	if js == nil {
		return a
	}
	a.Data.JetStream.Config = &syncConfig{js.SyncAlways}
	a.Data.JetStream.Meta = &syncMeta{max(1, len(s.cfg.Routes))}
	return a
}

// askUntil asks until there is an answer that will stay, or time is up.
func askUntil(ctx context.Context, nc *nats.Conn, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, syncWithin)
	defer cancel()
	for began := time.Now(); ; {
		err := askSync(ctx, nc, subject)
		if err == nil || errors.Is(err, ErrUnsynced) || errors.Is(err, errNotSystem) || errors.Is(err, ErrUntold) && time.Since(began) > toldWithin {
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
	return watch(ctx, system, CheckSync, log)
}

// WatchTold is WatchSync with CheckTold.
func WatchTold(ctx context.Context, nc *nats.Conn, log *slog.Logger) error {
	return watch(ctx, nc, CheckTold, log)
}

func watch(ctx context.Context, nc *nats.Conn, check func(context.Context, *nats.Conn) error, log *slog.Logger) error {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch err := check(ctx, nc); {
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
func askSync(ctx context.Context, nc *nats.Conn, subject string) error {
	inbox := nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // or it has ended with the connection
	if err := nc.PublishRequest(subject, inbox, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	var synced, unsynced []string
	size := 1
	for len(synced)+len(unsynced) < size {
		m, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, nats.ErrNoResponders) || err == nil && m.Header.Get("Status") == noResponders {
			if subject == told {
				return ErrUntold
			}
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
