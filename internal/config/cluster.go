package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"crier/job"
)

// Cluster is about the other processes that share this one's work. Processes of one
// cluster have the same NATS servers, SQL database, coordination store, blobs and keys.
type Cluster struct {
	// ID is the cluster's; a member of another is refused. Default: crier.
	ID string `koanf:"id"`
	// Listen is an address, host:port, at which other members reach this one; they are
	// told it, so that it names this host. Default: none, and this process is alone.
	Listen string `koanf:"listen"`
	// Advertise is the address, host:port, at which other members reach this one, if it
	// is not Listen: a forwarded port. Default: Listen.
	Advertise string `koanf:"advertise"`
	// Seeds are addresses of some members to begin with. Members that are registered in
	// the coordination store are found without. Default: none.
	Seeds []string `koanf:"seeds"`
	// Profile is standard, or fast: a member that is gone is noticed in half the time, for
	// twice the traffic. All members have the same. Default: standard.
	Profile string `koanf:"profile"`
	// TLS secures what members say to each other. All members have it, or none.
	TLS ClusterTLS `koanf:"tls"`
	// Adopt are settings (blobs, keys, sql.dsn, coordination.root) of what all members
	// share and was lost for good: what is there instead, without a mark of a cluster, is
	// begun with; and name, if it is this process's data directory that was. Default: none,
	// and a process with something else there is refused.
	Adopt []string `koanf:"adopt"`
}

// ClusterTLS names files in PEM, all three or none. A member is whoever has a certificate
// that the authority signed, at both ends of a connection; names in it do not count, so
// that the authority is to be one of the cluster's own. Default: none, and no TLS.
type ClusterTLS struct {
	Cert string `koanf:"cert"` // this member's certificate, and those between it and the authority's
	Key  string `koanf:"key"`  // its key
	CA   string `koanf:"ca"`   // the authority's certificate; several while it changes
}

// Coordination is about the store of leases and statuses.
type Coordination struct {
	// ZooKeeper are addresses of its servers. Default: none; NATS keeps them.
	ZooKeeper []string `koanf:"zookeeper"`
	// Root is the node of ZooKeeper under which everything is; it must exist, but for its
	// last part. Default: /crier.
	Root string `koanf:"root"`
}

var clusterSettings = []setting{
	{"name", "name", "name of this process among the others; it stays with its data directory (default: a random one)"},
	{"gateway_url", "gateway-url", "URL at which clients reach this process's gateway (default: by --listen)"},
	{"blobs", "blobs", "directory of packages, bodies and reports, which all processes of a cluster share (default: in --data)"},
	{"keys", "keys", "directory of keys, which all processes of a cluster share (default: --data)"},
	{"cluster.id", "cluster-id", "name of the cluster"},
	{"cluster.listen", "cluster-listen", "address at which other members reach this one (default: none; this process is alone)"},
	{"cluster.advertise", "cluster-advertise", "address that other members are told (default: --cluster-listen)"},
	{"cluster.seeds", "cluster-seeds", "addresses of some members to begin with, separated by commas"},
	{"cluster.profile", "cluster-profile", "standard, or fast: a member that is gone is noticed in half the time; all have the same"},
	{"cluster.tls.cert", "cluster-tls-cert", "file with this member's certificate (PEM), by which the others know it (default: no TLS between members)"},
	{"cluster.tls.key", "cluster-tls-key", "file with its key"},
	{"cluster.tls.ca", "cluster-tls-ca", "file with the certificate of the authority that signed those of all members, and nobody else's"},
	{"cluster.adopt", "cluster-adopt", "of blobs, keys, sql.dsn, coordination.root and name (this process's data directory) those that were lost for good and are begun anew, separated by commas"},
	{"coordination.zookeeper", "coordination-zookeeper", "addresses of ZooKeeper servers, separated by commas (default: NATS keeps leases and statuses)"},
	{"coordination.root", "coordination-root", "node of ZooKeeper under which everything is"},
}

// clientURL reports whether clients can be sent to a URL; one of more than 123 bytes does
// not fit a closing frame, and is told in a frame only.
func clientURL(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "ws" || u.Scheme == "wss") && u.Host != "" && u.User == nil && !u.Query().Has("token")
}

func (t ClusterTLS) validate() error {
	if t == (ClusterTLS{}) {
		return nil
	}
	for _, f := range []struct{ key, path string }{{"cluster.tls.cert", t.Cert}, {"cluster.tls.key", t.Key}, {"cluster.tls.ca", t.CA}} {
		if f.path == "" {
			return job.Invalid(f.key, f.key+": a file is needed with the others of cluster.tls", nil)
		}
	}
	return nil
}

func (s Server) validCluster() error {
	c := s.Cluster
	switch {
	case s.Name != "" && !job.ValidName(s.Name):
		return job.Invalid("name", fmt.Sprintf("name: %q: want 1 to 64 of a-z, A-Z, 0-9, - and _", s.Name), nil)
	case s.GatewayURL != "" && !clientURL(s.GatewayURL):
		return job.Invalid("gateway_url", fmt.Sprintf("gateway_url: %q is no ws or wss URL with a host and no token", s.GatewayURL), nil)
	case !job.ValidName(c.ID):
		return job.Invalid("cluster.id", fmt.Sprintf("cluster.id: %q: want 1 to 64 of a-z, A-Z, 0-9, - and _", c.ID), nil)
	case c.Profile != "standard" && c.Profile != "fast":
		return job.Invalid("cluster.profile", fmt.Sprintf("cluster.profile: %q is none of standard, fast", c.Profile), nil)
	case !strings.HasPrefix(s.Coordination.Root, "/") || len(s.Coordination.Root) == 1:
		return job.Invalid("coordination.root", fmt.Sprintf("coordination.root: %q is no path such as /crier", s.Coordination.Root), nil)
	}
	for _, x := range c.Adopt {
		if !slices.Contains([]string{"blobs", "keys", "sql.dsn", "coordination.root", "name"}, x) {
			return job.Invalid("cluster.adopt", fmt.Sprintf("cluster.adopt: %q is none of blobs, keys, sql.dsn, coordination.root, name", x), nil)
		}
	}
	for _, z := range s.Coordination.ZooKeeper {
		if err := validAddress("coordination.zookeeper", z); err != nil {
			return err
		}
	}
	if err := c.TLS.validate(); err != nil {
		return err
	}
	if c.Listen == "" {
		if len(c.Seeds) > 0 || c.Advertise != "" || c.TLS != (ClusterTLS{}) {
			return job.Invalid("cluster.listen", "cluster.listen: an address is needed with cluster.seeds, cluster.advertise and cluster.tls", nil)
		}
		if s.NATS.ClusterListen != "" {
			return job.Invalid("cluster.listen", "cluster.listen: an address is needed with nats.cluster_listen, for processes that keep one ledger are one cluster, and share sql.dsn, blobs and keys, too", nil)
		}
		return nil
	}
	if c.Advertise != "" {
		if err := validAddress("cluster.advertise", c.Advertise); err != nil {
			return err
		}
	}
	if err := validAddress("cluster.listen", c.Listen); err != nil {
		return err
	}
	for _, a := range c.Seeds {
		if err := validAddress("cluster.seeds", a); err != nil {
			return err
		}
	}
	for _, need := range []struct {
		key     string
		missing bool
	}{
		{"name", s.Name == ""}, {"blobs", s.Blobs == ""}, {"keys", s.Keys == ""}, {"sql.dsn", s.SQL.DSN == ""},
		{"nats.servers", len(s.NATS.Servers) == 0 && s.NATS.ClusterListen == "" && s.NATS.Listen == ""},
	} {
		if need.missing {
			text := need.key + ": it is needed with cluster.listen, for processes that do not share it are no cluster"
			if need.key == "nats.servers" {
				text += "; or nats.cluster_listen and nats.routes, for one of three processes that have the servers inside"
			}
			return job.Invalid(need.key, text, nil)
		}
	}
	return nil
}
