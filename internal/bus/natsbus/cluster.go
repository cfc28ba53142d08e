package natsbus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crier/internal/pause"
)

const (
	clusterName = "crier"
	// routeUser is whom servers of a cluster take each other for; the password is the
	// token.
	routeUser = "route"
	// A server that does not answer two pings is cut off, so that what waits behind
	// it is told.
	routePing     = 2 * time.Second
	routePingsOut = 2
	// routeTold is how many tries of a server that is away, a second apart, pass until it is
	// told again.
	routeTold  = 60
	awaitAsk   = 2 * time.Second // for an answer about the stream
	awaitEvery = 250 * time.Millisecond
	awaitSay   = 40 // looks between two words that it waits
)

func (c Config) validCluster() error {
	if c.ClusterListen == "" {
		if len(c.Routes) > 0 {
			return errors.New("bus configuration: Routes are given without ClusterListen")
		}
		return nil
	}
	if _, _, err := address("ClusterListen", c.ClusterListen); err != nil {
		return err
	}
	switch {
	case c.Name == "":
		return errors.New("bus configuration: Name is empty; a server of a cluster needs one of its own")
	case c.Token == "":
		return errors.New("bus configuration: Token is empty; servers of a cluster need one, the same on all")
	case len(c.Routes) == 0:
		return errors.New("bus configuration: Routes is empty; a cluster has other servers")
	}
	for _, r := range c.Routes {
		if _, _, err := address("Routes", r); err != nil {
			return err
		}
	}
	return nil
}

// cluster sets the options of a server that has others beside it.
func (c Config) cluster(o *server.Options) error {
	o.ServerName = c.Name
	if c.ClusterListen == "" {
		return nil
	}
	host, port, err := address("ClusterListen", c.ClusterListen)
	if err != nil {
		return err
	}
	o.Cluster = server.ClusterOpts{
		Name: clusterName, Host: host, Port: port, Username: routeUser, Password: c.Token,
		PingInterval: routePing, MaxPingsOut: routePingsOut,
	}
	o.ConnectErrorReports, o.ReconnectErrorReports = routeTold, routeTold
	if c.Listen == "" {
		// The server begins to look for others only when it takes clients somewhere.
		o.DontListen, o.Host, o.Port, o.Cluster.NoAdvertise = false, "127.0.0.1", server.RANDOM_PORT, true
	}
	for _, r := range c.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", User: url.UserPassword(routeUser, c.Token), Host: r})
	}
	return nil
}

// ClusterAddress is where the other servers of a cluster reach this one; empty
// without a cluster.
func (s *Server) ClusterAddress() string {
	if a := s.nats.ClusterAddr(); a != nil {
		return fmt.Sprint(a)
	}
	return ""
}

// Await waits, for as long as ctx lasts, until as many servers of a cluster are there as it
// takes to make a stream with so many replicas, or to go on with it; others may be started much
// later.
func (s *Server) Await(ctx context.Context, conn *nats.Conn, stream string, replicas int) error {
	if s.cfg.ClusterListen == "" {
		return nil
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("asking the bus server about the stream %s: %w", stream, err)
	}
	for n := 0; ; n++ {
		why := s.lacks(ctx, js, stream, replicas)
		if why == nil {
			return nil
		}
		if n%awaitSay == 0 {
			s.cfg.Logger.Warn("waiting for the other servers in nats.routes", "there", s.nats.NumRemotes()+1, "routes", s.cfg.Routes, "replicas", replicas, "stream", stream, "why", why)
		}
		if !pause.For(ctx, awaitEvery) {
			return fmt.Errorf("waiting for the other servers in nats.routes, of which %d are there, this one among them: %w", s.nats.NumRemotes()+1, ctx.Err())
		}
	}
}

// lacks says why a stream can neither be used nor made.
func (s *Server) lacks(ctx context.Context, js jetstream.JetStream, stream string, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, awaitAsk)
	defer cancel()
	st, err := js.Stream(ctx, stream)
	switch here := s.nats.NumRemotes() + 1; {
	case err == nil && st.CachedInfo().Cluster != nil && st.CachedInfo().Cluster.Leader == "":
		return errors.New("nobody leads the stream: too few of the servers that keep it are there")
	case errors.Is(err, jetstream.ErrStreamNotFound) && here < replicas:
		return fmt.Errorf("the stream is not made yet, which takes %d servers", replicas)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	}
	return err
}
