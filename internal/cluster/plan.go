package cluster

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"crier/internal/servers"
)

// plan lays out a new cluster: who there is, on which ports. It starts nothing.
func (c *Cluster) plan(ctx context.Context, cfg Config, t Topology) (State, error) {
	s := State{Binary: cfg.Binary, Deploy: cfg.Deploy, Topology: t}
	for _, dir := range []string{"conf", "data", "log", "ready", "servers", filepath.Join("shared", "blobs"), filepath.Join("shared", "keys")} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return s, fmt.Errorf("making the cluster's directories: %w", err)
		}
	}
	for _, add := range []func(context.Context, *State) error{c.planZooKeeper, c.planMariaDB, c.planNATS, c.planCrier, c.planProxy} {
		if err := add(ctx, &s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// record makes the record of a server from the command that starts it.
func (c *Cluster) record(kind Kind, cmd servers.Command, addresses map[string]string) Record {
	return Record{Name: cmd.Name, Kind: kind, Path: cmd.Path, Args: cmd.Args, Dir: cmd.Dir, Log: c.path("log", cmd.Name+".log"), Addresses: addresses}
}

func (c *Cluster) planZooKeeper(_ context.Context, s *State) error {
	e, err := servers.PrepareZooKeeper(servers.ZooKeeperConfig{Dir: c.path("servers"), Nodes: s.Topology.ZooKeeper, Stay: true})
	if err != nil {
		return err
	}
	for _, n := range e.Nodes {
		s.Processes = append(s.Processes, c.record(ZooKeeper, n.Command(), map[string]string{AddrClient: n.Addr}))
	}
	return nil
}

func (c *Cluster) planMariaDB(ctx context.Context, s *State) error {
	db, err := servers.PrepareMariaDB(ctx, servers.MariaDBConfig{Dir: c.path("servers", "mariadb"), Stay: true})
	if err != nil {
		return err
	}
	cmd, err := db.Command()
	if err != nil {
		return err
	}
	s.SQL = db.DSN
	s.Processes = append(s.Processes, c.record(MariaDB, cmd, map[string]string{AddrClient: local(db.Port)}))
	return nil
}

func (c *Cluster) planNATS(ctx context.Context, s *State) error {
	n, err := servers.PrepareNATS(ctx, servers.NATSConfig{Dir: c.path("servers"), Servers: s.Topology.NATS, Stay: true, Quiet: true})
	if err != nil {
		return err
	}
	for _, x := range n.Nodes {
		s.Processes = append(s.Processes, c.record(NATS, x.Command(),
			map[string]string{AddrClient: strings.TrimPrefix(x.URL, "nats://"), AddrMonitor: x.Monitor()}))
	}
	return nil
}

func (c *Cluster) planCrier(_ context.Context, s *State) error {
	for _, r := range s.Topology.roles() {
		for i := range r.count {
			ports, err := servers.Ports(2)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%s-%d", r.name, i+1)
			rec := Record{Name: name, Kind: Crier, Role: r.name, Path: s.Binary, Args: []string{"serve", "--config", c.config(name)}, Dir: c.dir,
				Log: c.path("log", name+".log"), ReadyFile: c.path("ready", name+".json"), Addresses: map[string]string{AddrMember: local(ports[1])}}
			rec.Addresses[AddrAPI] = "http://" + local(ports[0])
			if r.name == "gateway" {
				rec.Addresses[AddrGateway] = "ws://" + local(ports[0]) + "/v1/connect"
			}
			s.Processes = append(s.Processes, rec)
		}
	}
	return nil
}

// planProxy puts a port in front of everything that Crier processes connect to. The
// proxy starts before them.
func (c *Cluster) planProxy(_ context.Context, s *State) error {
	if !s.Topology.Proxy {
		return nil
	}
	at := len(s.Processes)
	ports, err := servers.Ports(at)
	if err != nil {
		return err
	}
	for i := range s.Processes {
		s.Processes[i].Addresses[AddrProxy] = local(ports[i])
		if s.Processes[i].Kind == Crier {
			at = min(at, i)
		}
	}
	proxy := Record{Name: "proxy", Kind: Proxy, Path: s.Binary, Args: []string{"cluster", "proxy", "--dir", c.dir}, Dir: c.dir, Log: c.path("log", "proxy.log"),
		Addresses: map[string]string{}}
	s.Processes = append(s.Processes[:at], append([]Record{proxy}, s.Processes[at:]...)...)
	return nil
}

func local(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func (c *Cluster) config(name string) string { return c.path("conf", name+".yaml") }

// reach is where Crier processes connect to a process.
func (r Record) reach(what string) string {
	if p := r.Addresses[AddrProxy]; p != "" {
		return p
	}
	return r.Addresses[what]
}

// render writes the configuration of the Crier processes that are not there.
func (c *Cluster) render(s State) error {
	for file, user := range map[string]string{"nats.creds": servers.NATSUser, "nats.system": servers.NATSSystem} {
		if err := os.WriteFile(c.path("conf", file), []byte(user+":"+servers.NATSPassword+"\n"), 0o600); err != nil {
			return fmt.Errorf("writing who connects to NATS: %w", err)
		}
	}
	shared := c.shared(s)
	for _, r := range s.Processes {
		if r.Kind != Crier || (&Process{Record: r, c: c}).Life() != Gone {
			continue
		}
		if err := c.renderOne(s, r, shared); err != nil {
			return fmt.Errorf("writing the configuration of %s: %w", r.Name, err)
		}
	}
	return c.writeEnv(s)
}

// shared is what the configuration of all processes is filled in with.
func (c *Cluster) shared(s State) map[string]string {
	var zk, nats, seeds []string
	v := map[string]string{
		"BLOBS": c.path("shared", "blobs"), "KEYS": c.path("shared", "keys"), "CLUSTER": "local", "PROFILE": cmp.Or(s.Topology.Profile, "standard"), "NATS_REPLICAS": strconv.Itoa(s.Topology.NATS),
		"ACCOUNT_CAP": strconv.Itoa(s.Topology.AccountCap),
		"NATS_CREDS":  c.path("conf", "nats.creds"), "NATS_SYSTEM": c.path("conf", "nats.system"),
	}
	for _, r := range s.Processes {
		switch r.Kind {
		case ZooKeeper:
			zk = append(zk, r.reach(AddrClient))
		case NATS:
			nats = append(nats, "nats://"+r.reach(AddrClient))
		case MariaDB:
			v["SQL"] = strings.Replace(s.SQL, r.Addresses[AddrClient], r.reach(AddrClient), 1)
		case Crier:
			seeds = append(seeds, r.reach(AddrMember))
		}
	}
	v["ZOOKEEPER"], v["NATS"], v["SEEDS"] = strings.Join(zk, ","), strings.Join(nats, ","), strings.Join(seeds[:min(3, len(seeds))], ",")
	return v
}

func (c *Cluster) renderOne(s State, r Record, shared map[string]string) error {
	values := map[string]string{"NAME": r.Name, "DATA": c.path("data", r.Name), "READY": r.ReadyFile, "LISTEN": strings.TrimPrefix(r.Addresses[AddrAPI], "http://"),
		"MEMBER_LISTEN": r.Addresses[AddrMember], "MEMBER_ADVERTISE": r.reach(AddrMember), "GATEWAY_URL": r.Addresses[AddrGateway]}
	for k, v := range shared {
		values[k] = v
	}
	var text strings.Builder
	for _, file := range []string{"crier.yaml", r.Role + ".yaml"} {
		b, err := os.ReadFile(filepath.Join(s.Deploy, file))
		if err != nil {
			return err
		}
		part, err := expand(string(b), values)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		text.WriteString(part + "\n")
	}
	return os.WriteFile(c.config(r.Name), []byte(text.String()), 0o600)
}

// adminKey is where a process keeps the administrator's key under its directory of keys.
const adminKey = "keys/admin.key"

// writeEnv writes what a shell needs to use the cluster. The key itself is not in it, nor a
// setting of crier serve.
func (c *Cluster) writeEnv(s State) error {
	text := "# . this file, and crier talks to the cluster\nexport CRIER_CLUSTER=" + quote(c.dir) + "\n"
	chosen := false
	for _, r := range s.Processes {
		switch api := r.Addresses[AddrAPI]; {
		case r.Role != "api":
		case chosen:
			text += "# " + r.Name + " serves the API, too, at " + api + "\n"
		default:
			chosen = true
			text += "export CRIER_SERVER=" + quote(api) + "\nexport CRIER_TOKEN=\"$(cat " + quote(filepath.Join(c.Keys(), adminKey)) + ")\"\n"
		}
	}
	for _, r := range s.Processes {
		if url := r.Addresses[AddrGateway]; url != "" {
			text += "# " + r.Name + " takes clients at " + url + "\n"
		}
	}
	if err := os.WriteFile(c.path("env"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the variables of the cluster: %w", err)
	}
	return nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Keys is the directory of the cluster's keys.
func (c *Cluster) Keys() string { return c.path("shared", "keys") }
