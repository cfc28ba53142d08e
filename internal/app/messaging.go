package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"crier/internal/bus/natsbus"
	"crier/job"
	"crier/state/ledger"
)

// Messaging says where the bus and the streams are. The zero value is a server
// embedded in this process, alone.
type Messaging struct {
	// An embedded server of a cluster of three; see natsbus.Config.
	Name          string // default the node's
	ClusterListen string // host:port for the other servers; empty: there are none
	Routes        []string

	Servers []string // URLs of servers elsewhere; nothing is embedded then

	// Files, so that no secret is on a command line.
	Token  string // of either
	Creds  string // who connects to Servers
	System string // who asks Servers whether they sync always
	TLS    natsbus.TLS
	// SyncAttested says that Servers sync always, for want of somebody to ask. Servers that
	// are embedded in processes of Crier need neither: these are asked.
	SyncAttested bool

	Replicas int // servers that keep each record, 1 or 3; default 1
}

// alone reports whether the server is inside and has no others.
func (m Messaging) alone() bool { return len(m.Servers) == 0 && m.ClusterListen == "" }

// openNATS connects to the bus, and starts its server if that is inside.
func (a *app) openNATS(ctx context.Context) (err error) {
	if len(a.cfg.Messaging.Servers) > 0 {
		return a.connectElsewhere(ctx)
	}
	m := a.cfg.Messaging
	if a.natsToken, err = m.token(); err != nil {
		return job.Invalid("nats.token", "nats.token: give a file that this process may read, with one word", err)
	}
	if m.Name == "" {
		m.Name = a.node.Name
	}
	a.nats, err = natsbus.Start(natsbus.Config{Dir: a.path("nats"), Listen: a.cfg.NATS, Token: a.natsToken,
		Name: m.Name, ClusterListen: m.ClusterListen, Routes: m.Routes, Logger: a.log})
	if err != nil {
		return err
	}
	a.onClose("NATS server", func() error { a.nats.Shutdown(); return nil })
	if a.conn, err = a.nats.Connect("crier " + a.node.Name); err != nil {
		return err
	}
	a.onClose("NATS connection", func() error { a.conn.Close(); return nil })
	if err := a.nats.TellSync(a.conn); err != nil {
		return err
	}
	return a.nats.Await(ctx, a.conn, ledger.Stream, m.Replicas)
}

// token reads the token, or makes one up for a server that nobody else needs.
func (m Messaging) token() (string, error) {
	if m.Token != "" {
		return natsbus.ReadToken(m.Token)
	}
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:]), nil
}

// connectElsewhere connects to servers that others run, and sees to it that what
// they acknowledge is on their disks.
func (a *app) connectElsewhere(ctx context.Context) error {
	m := a.cfg.Messaging
	d, who, err := a.cfg.dialAs("crier " + a.node.Name)
	if err != nil {
		return err
	}
	if m.SyncAttested {
		a.log.Warn("nobody asks the NATS servers whether they sync always; it is attested", "setting", "nats.sync_attested")
	} else {
		if a.system, err = a.cfg.checkSync(ctx, d.Name+" system"); err != nil {
			return err
		}
		a.onClose("NATS system connection", func() error { a.system.Close(); return nil })
	}
	if a.conn, err = natsbus.Connect(d); err != nil {
		return unconnected(who, err)
	}
	a.onClose("NATS connection", func() error { a.conn.Close(); return nil })
	return nil
}

// asksProcesses reports whether nobody but the processes in which the servers may be
// embedded can tell whether these sync always.
func (m Messaging) asksProcesses() bool {
	return len(m.Servers) > 0 && m.System == "" && !m.SyncAttested
}

// dialAs is a connection to servers elsewhere, and the setting that says who connects.
func (c *Config) dialAs(name string) (d natsbus.Dial, who string, err error) {
	d, who = c.dial(name), "nats.creds"
	switch m := c.Messaging; {
	case m.Token != "":
		who = "nats.token"
		d.Token, err = natsbus.ReadToken(m.Token)
	case m.Creds != "":
		d.Creds, err = natsbus.ReadCreds(m.Creds)
	}
	if err != nil {
		err = job.Invalid(who, who+": give a file that this process may read", err)
	}
	return d, who, err
}

// dial is a connection to servers elsewhere, without who connects.
func (c *Config) dial(name string) natsbus.Dial {
	return natsbus.Dial{URL: strings.Join(c.Messaging.Servers, ","), TLS: c.Messaging.TLS, Name: name, Logger: c.Logger}
}

// checkSync refuses servers that do not sync always, and gives the connection over which
// they, or the processes that they are in, were asked.
func (c *Config) checkSync(ctx context.Context, name string) (*natsbus.Conn, error) {
	d, who, err := c.dialAs(name)
	check := natsbus.CheckTold
	if !c.Messaging.asksProcesses() {
		d, who, check = c.dial(name), "nats.system", natsbus.CheckSync
		if d.Creds, err = natsbus.ReadCreds(c.Messaging.System); err != nil {
			err = job.Invalid(who, who+": give a file that this process may read", err)
		}
	}
	if err != nil {
		return nil, err
	}
	system, err := natsbus.Connect(d)
	if err != nil {
		return nil, unconnected(who, err)
	}
	if err := check(ctx, system); err != nil {
		system.Close()
		return nil, unsynced(who, err)
	}
	return system, nil
}

// synced gives no error when the servers elsewhere sync always.
func (c *Config) synced(ctx context.Context) error {
	system, err := c.checkSync(ctx, "crier system")
	if err == nil {
		system.Close()
	}
	return err
}

// unconnected names the setting because of which there is no connection; who is that of
// who connects.
func unconnected(who string, err error) error {
	if errors.Is(err, natsbus.ErrDenied) {
		return job.Invalid(who, who+": give a user, or a token, of the servers in nats.servers", err)
	}
	return &job.Error{Code: job.CodeUnavailable, Field: "nats.servers", Message: "nats.servers: no NATS server answers there; start one or correct the addresses", Err: err}
}

// unsynced names the setting by which a server was found not to sync, or nobody to tell.
func unsynced(who string, err error) error {
	switch {
	case errors.Is(err, natsbus.ErrUnsynced):
		return job.Invalid(who, "the servers in nats.servers, asked by way of "+who, err)
	case errors.Is(err, natsbus.ErrUntold):
		return job.Invalid("nats.system", "nats.system: the servers in nats.servers are not embedded in processes of Crier, which would say whether they sync always: "+
			"give a file with a user of their system account, who can ask them; or nats.sync_attested, if you know that they do", err)
	}
	return fmt.Errorf("%s: %w", who, err)
}

// watchStreams ends with an error when the streams cannot be relied on any more: an
// embedded server could not write, or one elsewhere was started without syncing. That
// a disk elsewhere is full is not known here; appends say so.
func (a *app) watchStreams(ctx context.Context) error {
	switch {
	case a.nats != nil:
		return a.nats.Watch(ctx)
	case a.system != nil && a.cfg.Messaging.asksProcesses():
		return natsbus.WatchTold(ctx, a.system, a.log)
	case a.system != nil:
		return natsbus.WatchSync(ctx, a.system, a.log)
	}
	<-ctx.Done()
	return nil
}

// natsReady is where other processes reach an embedded server, and its token.
func (a *app) natsReady() (url, token string) {
	if a.nats == nil || a.nats.URL() == "" {
		return "", ""
	}
	return a.nats.URL(), a.natsToken
}
