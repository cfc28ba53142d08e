package natsbus

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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
	routeTold = 60
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
