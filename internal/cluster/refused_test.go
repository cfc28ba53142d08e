package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/nats-io/nats.go"

	"crier/api"
	"crier/api/client"
	"crier/internal/auth"
	"crier/internal/cluster"
	"crier/internal/servers"
)

// within is how long a process may take to find out that it is not wanted.
const within = 10 * time.Second

// joiner is one more process of a cluster, with all roles, and one thing wrong.
type joiner struct {
	name  string   // what is wrong
	args  []string // flags over the configuration that is right
	env   []string
	says  []string // the names of settings, and what to do
	alone bool     // no other process starts at the same time
	plan  func()   // before it starts
	after func()
}

// party is a real cluster to which processes come that must not be taken.
type party struct {
	t       *testing.T
	dir     string // of the joiners
	binary  string
	c       *cluster.Cluster
	api     *client.Client
	secrets []string
	number  func() int
}

// flags are the settings of a process that would be taken.
func (p *party) flags(name string) []string {
	dir := filepath.Join(p.dir, name)
	return []string{"serve", "--config", filepath.Join(p.c.Dir(), "conf", "api-1.yaml"), "--name", name, "--data", filepath.Join(dir, "data"), "--ready-file", filepath.Join(dir, "ready.json"),
		"--listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0", "--cluster-advertise", "", "--gateway-url", "", "--roles", "api,scheduler,worker,gateway,relay"}
}

// start starts a process; what it says is in the buffer when it has ended.
func (p *party) start(ctx context.Context, name string, args, env []string) (*exec.Cmd, *bytes.Buffer) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Join(p.dir, name), 0o700); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, p.binary, append(p.flags(name), args...)...)
	said := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd, said
}

// refused starts a process and demands that it ends in time and says why.
func (p *party) refused(t *testing.T, j joiner) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	began := time.Now()
	cmd, said := p.start(ctx, fmt.Sprintf("rogue-%d", p.number()), j.args, j.env)
	err := cmd.Wait()
	took := time.Since(began)
	text := said.String()
	var exit *exec.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) || exit.ExitCode() <= 0 {
		t.Errorf("after %s it ends with %v and says:\n%s", took, err, text)
		return
	}
	last := text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:]
	t.Logf("%s, %d: %s", took.Round(10*time.Millisecond), exit.ExitCode(), strings.TrimSpace(last))
	for _, want := range j.says {
		if !strings.Contains(last, want) {
			t.Errorf("it does not say %q but:\n%s", want, text)
		}
	}
	for _, secret := range p.secrets {
		if strings.Contains(text, secret) {
			t.Errorf("it says a password:\n%s", text)
		}
	}
}

// watch looks who is a member until ctx ends, and reports whoever should not be.
func (p *party) watch(ctx context.Context) {
	first, err := p.api.ListMembers(ctx)
	if err != nil {
		p.t.Error(err)
		return
	}
	known := map[string]api.Member{}
	for _, m := range first.Members {
		known[m.ID] = m
	}
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	looks := 0
	for ; ; looks++ {
		select {
		case <-ctx.Done():
			if looks < 10 {
				p.t.Errorf("the members were looked at %d times only", looks)
			}
			return
		case <-tick.C:
		}
		list, err := p.api.ListMembers(ctx)
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			p.t.Errorf("looking who is a member: %v", err)
			return
		}
		for _, m := range list.Members {
			was, ok := known[m.ID]
			if !ok || m.Address != was.Address || m.Incarnation != was.Incarnation {
				p.t.Errorf("%s was shown: %+v", m.ID, m)
				known[m.ID] = m
			}
		}
		if len(list.Members) < len(first.Members) {
			p.t.Errorf("of %d members %d are left", len(first.Members), len(list.Members))
		}
	}
}

// TestRefusedAtStart has processes with one thing wrong come to a real cluster: each is
// refused in time, names the setting, and leaves nothing behind.
func TestRefusedAtStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	p, s, rows := gather(ctx, t)
	before := s.settled(ctx)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.watch(watching) })
	began := time.Now()
	t.Run("at once", func(t *testing.T) { // the group ends when all of it has
		two := make(chan struct{}, 2)
		for _, j := range rows {
			if j.alone {
				continue
			}
			t.Run(j.name, func(t *testing.T) {
				t.Parallel()
				two <- struct{}{}
				defer func() { <-two }()
				p.refused(t, j)
			})
		}
	})
	s.expect(ctx, "one of them", before)
	for _, j := range rows {
		if !j.alone {
			continue
		}
		t.Run(j.name, func(t *testing.T) {
			if j.plan != nil {
				j.plan()
				defer j.after()
			}
			before := s.list(ctx)
			p.refused(t, j)
			s.expect(ctx, "it", before)
		})
	}
	t.Logf("%d processes in %s", len(rows), time.Since(began))
	stop()
	wg.Wait()
	p.taken(ctx, t)
}

// taken: with nothing wrong it is taken, so that each refusal was for what was wrong.
func (p *party) taken(ctx context.Context, t *testing.T) {
	cmd, said := p.start(ctx, "guest", nil, nil)
	defer func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil || t.Failed() {
			t.Errorf("it ends with %v, and says:\n%s", err, said)
		}
	}()
	until(t, func() error {
		if _, err := os.Stat(filepath.Join(p.dir, "guest", "ready.json")); err != nil {
			return err
		}
		list, err := p.api.ListMembers(ctx)
		for _, m := range list.Members {
			if m.ID == "guest" && m.State == "WORKING" {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("the guest is not among %+v", list.Members))
	})
}

// gather starts the cluster and says who comes.
func gather(ctx context.Context, t *testing.T) (*party, *store, []joiner) {
	dir, err := os.MkdirTemp("", "crier-refused-") // short: there is a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	home := filepath.Join(dir, "cluster")
	t.Cleanup(func() {
		if c, err := cluster.Load(home); err == nil {
			if _, err := c.Down(); err != nil {
				t.Error(err)
			}
		}
		if left := mentioning(dir); len(left) > 0 {
			t.Errorf("left behind: %s", left)
		}
	})
	topology := one
	topology.Proxy = false
	var n int
	var mu sync.Mutex
	p := &party{t: t, dir: filepath.Join(dir, "joiners"), binary: crier(ctx, t), number: func() int { mu.Lock(); defer mu.Unlock(); n++; return n }}
	if p.c, _, err = cluster.Up(ctx, cluster.Config{Dir: home, Deploy: deploy, Binary: p.binary, Topology: topology}); err != nil {
		t.Fatal(err)
	}
	key, err := auth.ReadAdminKey(p.c.Keys())
	if err != nil {
		t.Fatal(err)
	}
	if p.api, err = client.New(client.Config{Server: find(t, p.c, "api-1").Addresses[cluster.AddrAPI], Key: key}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.api.Close() })
	lax, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: p.dirOf("lax"), Servers: 1, Unsynced: []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lax.Kill)
	st, err := p.c.State()
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, find(t, p.c, "zookeeper-1").Addresses[cluster.AddrClient], st.SQL, "nats://"+find(t, p.c, "nats-1").Addresses[cluster.AddrClient])
	return p, s, append(p.local(), p.remote(ctx, s, lax.URL, st.SQL)...)
}

// dirOf makes a directory among the joiners'.
func (p *party) dirOf(name string) string {
	dir := filepath.Join(p.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	return dir
}

// file writes a file among the joiners'.
func (p *party) file(name, text string) string {
	path := filepath.Join(p.dirOf("files"), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// local is who is wrong about this machine, or about the cluster's own.
func (p *party) local() []joiner {
	host := find(p.t, p.c, "api-1")
	config, err := os.ReadFile(filepath.Join(p.c.Dir(), "conf", "api-1.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	theirs := filepath.Join(p.c.Dir(), "data", "worker-1")
	cert, key := certificate(p.t)
	other, _ := certificate(p.t)
	own := p.file("member.crt", cert)
	secured := func(ca string) []string {
		return []string{"--cluster-tls-cert", own, "--cluster-tls-key", p.file("member.key", key), "--cluster-tls-ca", ca}
	}
	return []joiner{
		{name: "the name of a member", args: []string{"--name", "api-1"}, says: []string{`name: "api-1" is taken`, "another name"}},
		{name: "the name and the data directory of a member", args: []string{"--name", "worker-1", "--data", theirs}, says: []string{"data: ", theirs, "stop it"}},
		{name: "the data directory of a member", args: []string{"--data", theirs}, says: []string{"data: ", theirs, "stop it"}},
		{name: "a copy of a member's data directory", args: []string{"--name", "worker-1", "--data", p.copied(theirs)}, says: []string{`name: "worker-1" is taken`, "stop that one"}},
		{name: "another cluster", args: []string{"--cluster-id", "other"}, says: []string{"cluster.id: ", `"other"`, `"local"`, "correct"}},
		{name: "another profile", args: []string{"--cluster-profile", "fast"}, says: []string{"cluster.profile: ", `"standard"`, `"fast"`}},
		{name: "a name with a space", args: []string{"--name", "two words"}, says: []string{"name: ", "two words"}},
		{name: "a name with a slash", args: []string{"--name", "a/b"}, says: []string{"name: ", "a/b"}},
		{name: "a setting that is none", args: []string{"--config", p.file("unknown.yaml", string(config)+"\nwrokers: 3\n")}, says: []string{"wrokers", "no setting"}},
		{name: "no data directory", args: []string{"--data", p.file("plain", "")}, says: []string{"data: ", "may write"}},
		{name: "an address in use", args: []string{"--listen", strings.TrimPrefix(host.Addresses[cluster.AddrAPI], "http://")}, says: []string{"listen: ", "in use", "give another"}},
		{name: "a member's address in use", args: []string{"--cluster-listen", host.Addresses[cluster.AddrMember]}, says: []string{"cluster.listen: ", "in use", "give another"}},
		{name: "a ready file in no directory", args: []string{"--ready-file", filepath.Join(p.dir, "none", "ready.json")}, says: []string{"ready_file: ", "directory"}},
		{name: "TLS where the others have none", args: secured(own), says: []string{"cluster.tls.cert", "none if they have none"}},
		{name: "a certificate by another authority", args: secured(p.file("ca.crt", other)), says: []string{"cluster.tls.cert: ", "not signed"}},
		{name: "a certificate alone", args: secured("")[:2], says: []string{"cluster.tls.key: ", "needed"}},
		{name: "blobs of its own", args: []string{"--blobs", p.dirOf("blobs")}, says: []string{"blobs: ", "share", "cluster.adopt"}},
		{name: "keys of its own", args: []string{"--keys", p.dirOf("keys")}, says: []string{"keys: ", "share", "cluster.adopt"}},
	}
}

// copied copies a directory as one does who sets up a second process like the first.
func (p *party) copied(dir string) string {
	to := filepath.Join(p.dirOf("copies"), filepath.Base(dir))
	if out, err := exec.Command("cp", "-r", dir, to).CombinedOutput(); err != nil {
		p.t.Fatalf("copying %s: %v: %s", dir, err, out)
	}
	return to
}

// remote is who is wrong about the servers.
func (p *party) remote(ctx context.Context, s *store, lax, dsn string) []joiner {
	const wrong = "wr0ng-pa55word"
	secret := strings.TrimPrefix(strings.Split(dsn, "@")[0], "crier:")
	p.secrets = []string{secret, wrong, ":" + servers.NATSPassword}
	nowhere, err := servers.Ports(1)
	if err != nil {
		p.t.Fatal(err)
	}
	web := httptest.NewServer(http.NotFoundHandler())
	p.t.Cleanup(web.Close)
	sql := func(text string) string { return "CRIER_SQL_DSN=" + text }
	other := func(name string) string { return strings.TrimSuffix(dsn, "crier") + name }
	s.plant(ctx)
	attested := []string{"--nats-servers", lax, "--nats-system", "", "--nats-sync-attested"}
	rows := []joiner{
		{name: "a wrong password of MySQL", env: []string{sql(strings.Replace(dsn, secret, wrong, 1))}, says: []string{"sql.dsn: ", "password", `"crier"`}},
		{name: "a database that is not there", env: []string{sql(other("nosuch"))}, says: []string{"sql.dsn: ", `"nosuch"`, "create it"}},
		{name: "an empty database", env: []string{sql(other("empty"))}, says: []string{"sql.dsn: ", "mark", "cluster.adopt"}},
		{name: "a database of a newer version", env: []string{sql(other("newer"))}, says: []string{"sql.dsn: ", "999", "run the newer"}},
		{name: "no database server", env: []string{sql(fmt.Sprintf("crier:%s@tcp(127.0.0.1:%d)/crier", wrong, nowhere[0]))}, says: []string{"sql.dsn: ", "start it or correct"}},
		{name: "a root with a typo", args: []string{"--coordination-root", "/creir"}, says: []string{"coordination.root", `"zookeeper /creir"`, `"zookeeper /crier"`}},
		{name: "no ZooKeeper", args: []string{"--coordination-zookeeper", fmt.Sprintf("127.0.0.1:%d", nowhere[0])}, says: []string{"coordination.zookeeper: ", "correct the address"}},
		{name: "no coordination by ZooKeeper", args: []string{"--coordination-zookeeper", ""}, says: []string{"coordination.zookeeper", `"nats"`}},
		{name: "JetStream that does not sync", args: []string{"--nats-servers", lax}, says: []string{"nats.system", "nats-1", "sync_interval: always"}},
		{name: "JetStream with too few servers", args: append([]string{"--nats-replicas", "3"}, attested...), says: []string{"nats.replicas", "3", "replicas"}},
		{name: "more replicas than there are", args: []string{"--nats-replicas", "3"}, says: []string{"nats.replicas", "replicas is 1, not 3"}},
		{name: "another NATS", args: attested, says: []string{"keys: ", "nats.servers", "correct one"}},
		{name: "a wrong password of NATS", args: []string{"--nats-creds", p.file("creds", servers.NATSUser+":"+wrong+"\n")}, says: []string{"nats.creds: ", "give a user"}},
		{name: "a wrong password of NATS' system", args: []string{"--nats-system", p.file("system", servers.NATSSystem+":"+wrong+"\n")}, says: []string{"nats.system: ", "give a user"}},
		{name: "NATS that is a web server", args: []string{"--nats-servers", strings.Replace(web.URL, "http", "nats", 1)}, says: []string{"nats.servers: ", "correct the address"}},
		{name: "a cluster of a newer protocol", alone: true, plan: func() { s.protocol(ctx, 2) }, after: func() { s.protocol(ctx, 1) }, says: []string{"protocol version 2", "run the newer program"}},
		{name: "a root that was lost", alone: true, args: []string{"--coordination-root", "/lost"}, plan: func() { s.root(ctx, "/lost") }, after: func() { s.root(ctx, "/crier") },
			says: []string{"coordination.root", "no node /lost", "cluster.adopt"}},
		{name: "a root that is empty", alone: true, args: []string{"--coordination-root", "/empty"}, plan: func() { s.root(ctx, "/empty") }, after: func() { s.root(ctx, "/crier") },
			says: []string{"coordination.root", "/empty is empty", "cluster.adopt"}},
	}
	for name, by := range map[string]time.Duration{"a clock 10 minutes ahead": -10 * time.Minute, "a clock 10 minutes behind": 10 * time.Minute} {
		word := map[bool]string{true: "10m0s ahead of", false: "10m0s behind"}[by < 0]
		rows = append(rows, joiner{name: name, says: []string{"clock: ", word, "set it"}, args: []string{
			"--nats-servers", "nats://" + skewed(p.t, find(p.t, p.c, "nats-1").Addresses[cluster.AddrClient], texts(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d`, "2006-01-02T15:04:05", by)),
			"--coordination-zookeeper", skewed(p.t, find(p.t, p.c, "zookeeper-1").Addresses[cluster.AddrClient], millis(by))},
			env: []string{sql(strings.Replace(dsn, find(p.t, p.c, "mariadb").Addresses[cluster.AddrClient],
				skewed(p.t, find(p.t, p.c, "mariadb").Addresses[cluster.AddrClient], texts(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`, time.DateTime, by)), 1))}})
	}
	return rows
}

// plant makes what is not to be used: databases without anything, and with tables that a
// newer program made; an empty root.
func (s *store) plant(ctx context.Context) {
	s.t.Helper()
	for _, q := range []string{
		"CREATE DATABASE empty", "CREATE DATABASE newer",
		"CREATE TABLE newer.goose_db_version LIKE crier.goose_db_version",
		"INSERT INTO newer.goose_db_version (version_id, is_applied) SELECT version_id, is_applied FROM crier.goose_db_version",
		"INSERT INTO newer.goose_db_version (version_id, is_applied) VALUES (999, 1)",
		"CREATE TABLE newer.cluster_mark AS SELECT * FROM crier.cluster_mark",
	} {
		_, err := s.sql.ExecContext(ctx, q)
		s.must(err)
	}
	_, err := s.zk.Create("/empty", nil, 0, zk.WorldACL(zk.PermAll))
	s.must(err)
}

// identity changes the ledger's record of whose it is.
func (s *store) identity(ctx context.Context, change func(map[string]any)) {
	s.t.Helper()
	st, err := s.nats[0].Stream(ctx, "LEDGER")
	s.must(err)
	m, err := st.GetLastMsgForSubject(ctx, "led.cluster")
	s.must(err)
	have := map[string]any{}
	s.must(json.Unmarshal(m.Data, &have))
	change(have)
	b, err := json.Marshal(have)
	s.must(err)
	_, err = s.nats[0].PublishMsg(ctx, &nats.Msg{Subject: "led.cluster", Data: b})
	s.must(err)
}

// protocol makes the cluster one that speaks a version.
func (s *store) protocol(ctx context.Context, version int) {
	s.t.Helper()
	s.identity(ctx, func(have map[string]any) { have["protocol"] = version })
}

// root makes the ledger name a root of ZooKeeper, which need not be there.
func (s *store) root(ctx context.Context, root string) {
	s.t.Helper()
	s.identity(ctx, func(have map[string]any) { have["coordination"] = "zookeeper " + root })
}
