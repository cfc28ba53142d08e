package config

import (
	"fmt"
	"net"
	"net/url"

	"crier/job"
)

// NATS is about the message bus and the store of the ledger: a server embedded in
// this process, alone or one of three such, or servers elsewhere.
type NATS struct {
	// Embedded runs the server inside this process. Default: true without Servers.
	Embedded bool `koanf:"embedded"`
	// Listen is an address, host:port, at which the embedded server takes connections
	// of other processes. Default: none; only this process can reach it.
	Listen string `koanf:"listen"`

	// Name is the embedded server's in its cluster. Default: this process's name.
	Name string `koanf:"name"`
	// ClusterListen is an address, host:port, at which the embedded server takes the
	// other servers of its cluster. Default: none, and no cluster.
	ClusterListen string `koanf:"cluster_listen"`
	// Routes are the ClusterListen of all servers of the cluster; its own may be among
	// them. Needed with ClusterListen, and Token with both.
	Routes []string `koanf:"routes"`

	// Servers are the URLs of servers elsewhere, nats:// or tls://, without who
	// connects. Any of them will do; nothing is embedded then. Default: none.
	Servers []string `koanf:"servers"`
	// Creds is a file that says who connects to Servers: credentials as NATS writes
	// them, or a line user:password. Default: none.
	Creds string `koanf:"creds"`
	// Token is a file with the token of the servers; those of an embedded cluster ask
	// each other for it, too. Default: none; an embedded server makes one up.
	Token string `koanf:"token"`
	// System is a file like Creds, with a user of the system account of Servers: he is
	// asked at the start, and then again and again, whether each of them syncs always,
	// for one that does not loses acknowledged records with its power. Default: none.
	System string `koanf:"system"`
	// SyncAttested says that all Servers sync always, where there is no such user. Default:
	// false; System or this is needed, except for servers that are embedded in processes of
	// Crier, which are asked.
	SyncAttested bool `koanf:"sync_attested"`
	// TLS files for Servers: who signed their certificates, and our own. Default: the
	// system's, and none.
	TLSCA   string `koanf:"tls_ca"`
	TLSCert string `koanf:"tls_cert"`
	TLSKey  string `koanf:"tls_key"`

	// Replicas is how many servers keep each record, 1 or 3. What there is keeps its
	// number. Default: 0, which is 3 in a cluster and with Servers, else 1.
	Replicas int `koanf:"replicas"`
}

var natsSettings = []setting{
	{"nats.embedded", "nats-embedded", "run the NATS server inside this process (default: true without --nats-servers)"},
	{"nats.listen", "nats-listen", "address at which the embedded NATS server takes connections of other processes (default: none)"},
	{"nats.name", "nats-name", "name of the embedded server in its cluster (default: this process's)"},
	{"nats.cluster_listen", "nats-cluster-listen", "address at which the embedded server takes the other servers of its cluster (default: none)"},
	{"nats.routes", "nats-routes", "addresses at which the servers of the embedded cluster take each other, separated by commas"},
	{"nats.servers", "nats-servers", "URLs of NATS servers elsewhere, separated by commas; nothing is embedded then"},
	{"nats.creds", "nats-creds", "file that says who connects to them: NATS credentials, or a line user:password"},
	{"nats.token", "nats-token", "file with the token of the servers; an embedded cluster needs one, the same everywhere"},
	{"nats.system", "nats-system", "file like --nats-creds, with a user of the system account, to ask whether the servers sync always; not needed for those embedded in Crier processes"},
	{"nats.sync_attested", "nats-sync-attested", "the servers elsewhere sync always, and nobody can be asked"},
	{"nats.tls_ca", "nats-tls-ca", "file with who signed the servers' certificates (default: the system's)"},
	{"nats.tls_cert", "nats-tls-cert", "file with our own certificate for the servers"},
	{"nats.tls_key", "nats-tls-key", "file with its key"},
	{"nats.replicas", "nats-replicas", "servers that keep each record, 1 or 3; 0 is 3 in a cluster and with servers elsewhere, else 1"},
}

// Copies is how many servers keep each record.
func (n NATS) Copies() int {
	if n.Replicas == 0 && (len(n.Servers) > 0 || n.ClusterListen != "") {
		return 3
	}
	return max(n.Replicas, 1)
}

func (n NATS) validate() error {
	switch {
	case n.Embedded && len(n.Servers) > 0:
		return job.Invalid("nats.embedded", "nats.embedded: there are nats.servers as well; one of the two", nil)
	case !n.Embedded && len(n.Servers) == 0:
		return job.Invalid("nats.servers", "nats.servers: at least one is needed with nats.embedded false", nil)
	case n.Replicas != 0 && n.Replicas != 1 && n.Replicas != 3:
		return job.Invalid("nats.replicas", fmt.Sprintf("nats.replicas: %d is neither 1 nor 3", n.Replicas), nil)
	case n.Token != "" && n.Creds != "":
		return job.Invalid("nats.token", "nats.token: there is nats.creds as well; one of the two", nil)
	case (n.TLSCert == "") != (n.TLSKey == ""):
		return job.Invalid("nats.tls_key", "nats.tls_key: it and nats.tls_cert are needed together", nil)
	case n.System != "" && n.SyncAttested:
		return job.Invalid("nats.sync_attested", "nats.sync_attested: nats.system is there to be asked; one of the two", nil)
	}
	if n.Embedded {
		return n.validEmbedded()
	}
	return n.validServers()
}

func (n NATS) validEmbedded() error {
	for key, given := range map[string]bool{"nats.creds": n.Creds != "", "nats.system": n.System != "", "nats.sync_attested": n.SyncAttested,
		"nats.tls_ca": n.TLSCA != "", "nats.tls_cert": n.TLSCert != ""} {
		if given {
			return job.Invalid(key, key+": it is for nats.servers, and there are none", nil)
		}
	}
	if n.Listen != "" {
		if err := validAddress("nats.listen", n.Listen); err != nil {
			return err
		}
	}
	if n.ClusterListen == "" {
		switch {
		case len(n.Routes) > 0:
			return job.Invalid("nats.cluster_listen", "nats.cluster_listen: an address is needed with nats.routes", nil)
		case n.Replicas > 1:
			return job.Invalid("nats.replicas", "nats.replicas: 3 needs nats.cluster_listen and nats.routes, or nats.servers", nil)
		}
		return nil
	}
	if err := validAddress("nats.cluster_listen", n.ClusterListen); err != nil {
		return err
	}
	if len(n.Routes) == 0 {
		return job.Invalid("nats.routes", "nats.routes: the addresses of the other servers are needed with nats.cluster_listen", nil)
	}
	for _, r := range n.Routes {
		if err := validAddress("nats.routes", r); err != nil {
			return err
		}
	}
	if n.Token == "" {
		return job.Invalid("nats.token", "nats.token: a file is needed with nats.cluster_listen, with the same token on all servers", nil)
	}
	return nil
}

func (n NATS) validServers() error {
	for key, given := range map[string]bool{"nats.listen": n.Listen != "", "nats.name": n.Name != "", "nats.cluster_listen": n.ClusterListen != "",
		"nats.routes": len(n.Routes) > 0} {
		if given {
			return job.Invalid(key, key+": it is for an embedded server, and there are nats.servers", nil)
		}
	}
	for _, s := range n.Servers {
		u, err := url.Parse(s)
		if err == nil {
			_, _, err = net.SplitHostPort(u.Host)
		}
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" {
			return job.Invalid("nats.servers", fmt.Sprintf("nats.servers: %q is no URL such as nats://host:4222", s), nil)
		}
		if u.User != nil {
			return job.Invalid("nats.servers", "nats.servers: a URL says who connects; put that into a file, nats.creds or nats.token", nil)
		}
	}
	return nil
}
