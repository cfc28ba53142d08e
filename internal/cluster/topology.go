package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// Topology says how many processes there are of each kind.
type Topology struct {
	ZooKeeper int  `yaml:"zookeeper" json:"zookeeper"` // 1 or 3
	MariaDB   int  `yaml:"mariadb" json:"mariadb"`     // 1
	NATS      int  `yaml:"nats" json:"nats"`           // 1 or 3
	Scheduler int  `yaml:"scheduler" json:"scheduler"`
	Worker    int  `yaml:"worker" json:"worker"`
	Gateway   int  `yaml:"gateway" json:"gateway"`
	API       int  `yaml:"api" json:"api"`
	Relay     int  `yaml:"relay" json:"relay"`
	Proxy     bool `yaml:"proxy" json:"proxy"` // between Crier processes and what they reach
	// AccountCap is how many messages of an account a recipient gets in a day, but for urgent
	// ones. Default: 0, any number.
	AccountCap int `yaml:"account_cap" json:"account_cap,omitempty"`
	// Profile is the cluster's: standard or fast. Default: standard.
	Profile string `yaml:"profile" json:"profile,omitempty"`
}

// most is the most processes of a role: it is a cluster on one machine.
const most = 20

// ReadTopology reads topology.yaml of a directory of configuration.
func ReadTopology(deploy string) (t Topology, err error) {
	path := filepath.Join(deploy, "topology.yaml")
	f, err := os.Open(path)
	if err != nil {
		return t, fmt.Errorf("reading how many processes there are: %w", err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(&t); err != nil {
		return t, fmt.Errorf("reading %s: %w", path, err)
	}
	if err := t.Validate(); err != nil {
		return t, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// role is a role and how many processes have it.
type role struct {
	name  string
	count int
}

// roles lists them in the order in which they are started: the first API process makes
// what all share.
func (t Topology) roles() []role {
	return []role{{"api", t.API}, {"scheduler", t.Scheduler}, {"worker", t.Worker}, {"gateway", t.Gateway}, {"relay", t.Relay}}
}

// Validate names the first count that is out of its bounds.
func (t Topology) Validate() error {
	for _, s := range []role{{"zookeeper", t.ZooKeeper}, {"nats", t.NATS}} {
		if s.count != 1 && s.count != 3 {
			return fmt.Errorf("%s: %d, want 1 or 3", s.name, s.count)
		}
	}
	if t.MariaDB != 1 {
		return fmt.Errorf("mariadb: %d, want 1", t.MariaDB)
	}
	if t.Profile != "" && t.Profile != "standard" && t.Profile != "fast" {
		return fmt.Errorf("profile: %q, want standard or fast", t.Profile)
	}
	for _, r := range t.roles() {
		if r.count < 1 || r.count > most {
			return fmt.Errorf("%s: %d, want 1 to %d", r.name, r.count, most)
		}
	}
	return nil
}

// expand fills in what stands as ${...}; what is not known is an error.
func expand(text string, values map[string]string) (string, error) {
	var unknown []string
	out := os.Expand(text, func(key string) string {
		v, ok := values[key]
		if !ok {
			unknown = append(unknown, key)
		}
		return v
	})
	if len(unknown) > 0 {
		return "", fmt.Errorf("nothing is known for ${%s}", strings.Join(unknown, "}, ${"))
	}
	return out, nil
}
