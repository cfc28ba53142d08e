package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"crier/internal/config"
	"crier/job"
)

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return set
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crier.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingIsTheDefault(t *testing.T) {
	got, err := config.Load([]string{"HOME=/x", "CRIER_TOKEN=k", "CRIER_SERVER=u", "CRIER_TESTDATA=d"}, flags(t))
	if err != nil || !reflect.DeepEqual(got, config.Default()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := config.Default().Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
}

// Flags win over the environment, which wins over the file; the file may be named either way.
func TestLayers(t *testing.T) {
	path := file(t, "data: /from/file\nlisten: 127.0.0.1:1\nroles: [api, worker]\nlog: {level: debug}\nlimits:\n  ledger: 1GiB\n  lanes: 7\n")
	env := []string{"CRIER_LISTEN=127.0.0.1:2", "CRIER_LIMITS_LANES=9", "CRIER_LOG_FORMAT=json", "CRIER_CONFIG=" + path}
	for name, load := range map[string]func() (config.Server, error){
		"variable": func() (config.Server, error) {
			return config.Load(env, flags(t, "--listen", ":3"))
		},
		"flag": func() (config.Server, error) {
			return config.Load(append(env[:3:3], "CRIER_CONFIG=/nowhere"), flags(t, "--listen", ":3", "--config", path))
		},
	} {
		got, err := load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := config.Default()
		want.Data, want.Listen, want.Roles = "/from/file", ":3", []string{"api", "worker"}
		want.Log = config.Log{Level: "debug", Format: "json"}
		want.Limits = config.Limits{Ledger: 1 << 30, DiskWarn: 70, DiskCrit: 85, Lanes: 9, Drain: 20000}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
}

// Every setting can be set by its flag and by its variable.
func TestEverySettingHasAFlagAndAVariable(t *testing.T) {
	values := map[string]string{"data": "/d", "listen": ":1", "roles": "gateway", "ready-file": "/r", "cpu-profile": "/p", "log-level": "warn",
		"log-format": "json", "limit-ledger": "1GiB", "limit-fold": "2MiB", "limit-disk-warn": "60", "limit-disk-crit": "90", "limit-lanes": "9", "limit-drain": "7", "parking-cap": "9", "nats-listen": ":4222", "sql-dsn": "u:p@tcp(h:1)/d",
		"nats-embedded": "false", "nats-name": "n1", "nats-cluster-listen": ":6222", "nats-routes": "a:6222,b:6222", "nats-servers": "nats://a:4222,tls://b:4222",
		"nats-creds": "/c", "nats-token": "/t", "nats-system": "/s", "nats-sync-attested": "true", "nats-tls-ca": "/a", "nats-tls-cert": "/e", "nats-tls-key": "/k", "nats-replicas": "1",
		"name": "n1", "gateway-url": "wss://g/v1/connect", "blobs": "/b", "keys": "/k", "cluster-id": "c", "cluster-listen": ":7", "cluster-advertise": "h:7", "cluster-seeds": "a:7,b:7", "cluster-profile": "fast", "cluster-adopt": "blobs", "cluster-tls-cert": "/e", "cluster-tls-key": "/k", "cluster-tls-ca": "/a",
		"coordination-zookeeper": "z:2181", "coordination-root": "/c",
		"frequency-cap": "2", "frequency-account-cap": "1", "frequency-zone": "Asia/Shanghai", "frequency-exempt": "realtime", "frequency-slots": "09:00,18:30", "webhooks-allow": "10.1.0.0/16,fd00:1::/32"}
	// What some need beside them.
	shared := []string{"--name=x", "--blobs=/x", "--keys=/x", "--sql-dsn=x", "--nats-listen=:1"}
	elsewhere := []string{"--nats-servers=nats://a:4222", "--nats-sync-attested"}
	with := map[string][]string{"frequency-slots": {"--frequency-cap=2"}, "cluster-listen": shared, "cluster-advertise": append([]string{"--cluster-listen=:7"}, shared...), "cluster-seeds": append([]string{"--cluster-listen=:7"}, shared...), "cluster-tls-cert": append([]string{"--cluster-listen=:7", "--cluster-tls-key=/k", "--cluster-tls-ca=/a"}, shared...), "cluster-tls-key": append([]string{"--cluster-listen=:7", "--cluster-tls-cert=/e", "--cluster-tls-ca=/a"}, shared...), "cluster-tls-ca": append([]string{"--cluster-listen=:7", "--cluster-tls-cert=/e", "--cluster-tls-key=/k"}, shared...),
		"nats-embedded": elsewhere, "nats-cluster-listen": append([]string{"--nats-routes=a:1", "--nats-token=/t", "--cluster-listen=:7"}, shared...), "nats-routes": append([]string{"--nats-cluster-listen=:1", "--nats-token=/t", "--cluster-listen=:7"}, shared...),
		"nats-servers": {"--nats-sync-attested"}, "nats-creds": elsewhere, "nats-system": elsewhere[:1], "nats-sync-attested": elsewhere[:1], "nats-tls-ca": elsewhere,
		"nats-tls-cert": append([]string{"--nats-tls-key=/k"}, elsewhere...), "nats-tls-key": append([]string{"--nats-tls-cert=/e"}, elsewhere...)}
	n := 0
	flags(t).VisitAll(func(f *pflag.Flag) {
		if f.Name == "config" {
			return
		}
		n++
		value, ok := values[f.Name]
		if !ok {
			t.Errorf("the test has no value for --%s", f.Name)
			return
		}
		without, _ := config.Load(nil, flags(t, with[f.Name]...)) // what is missing is an error
		byFlag, err := config.Load(nil, flags(t, append([]string{"--" + f.Name + "=" + value}, with[f.Name]...)...))
		if err != nil || reflect.DeepEqual(byFlag, without) != (f.Name == "nats-embedded") { // false is what it is with servers
			t.Errorf("--%s %s changes nothing, %v", f.Name, value, err)
		}
		name := "CRIER_" + strings.ToUpper(strings.ReplaceAll(strings.Replace(f.Name, "limit-", "limits-", 1), "-", "_"))
		byVariable, err := config.Load([]string{name + "=" + value}, flags(t, with[f.Name]...))
		if err != nil || !reflect.DeepEqual(byVariable, byFlag) {
			t.Errorf("%s gives %+v, %v; the flag %+v", name, byVariable, err, byFlag)
		}
	})
	if n != len(values) {
		t.Errorf("%d flags, %d values", n, len(values))
	}
}

// What is wrong is refused, and the error names the setting and where it stands.
func TestErrorsNameTheSetting(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env, args  []string
		want       []string
	}{
		{"cap", "frequency: {cap: 10001}\n", nil, nil, []string{"frequency.cap", "10000"}},
		{"park cap", "parking: {cap: -1}\n", nil, nil, []string{"parking.cap", "-1"}},
		{"park cap too large", "", []string{"CRIER_PARKING_CAP=100001"}, nil, []string{"parking.cap", "100000"}},
		{"park cap, no number", "parking: {cap: many}\n", nil, nil, []string{"parking.cap", "whole number"}},
		{"zone", "frequency: {zone: Mars}\n", nil, nil, []string{"frequency.zone", "Mars"}},
		{"the machine's zone", "frequency: {zone: Local}\n", nil, nil, []string{"frequency.zone", "Local"}},
		{"exempt", "frequency: {exempt: [urgent]}\n", nil, nil, []string{"frequency.exempt", "urgent"}},
		{"slots and cap", "frequency: {cap: 1, slots: ['09:00', '10:00']}\n", nil, nil, []string{"frequency.slots", "cap 1"}},
		{"a slot", "frequency: {cap: 1, slots: ['9 o''clock']}\n", nil, nil, []string{"frequency.slots", "o'clock"}},
		{"no network", "webhooks: {allow: [10.1.0.1]}\n", nil, nil, []string{"webhooks.allow", "10.1.0.1"}},
		{"an address in a network", "webhooks: {allow: [10.1.0.1/16]}\n", nil, nil, []string{"webhooks.allow", "10.1.0.1/16"}},
		{"slots in disorder", "frequency: {cap: 2, slots: ['10:00', '09:00']}\n", nil, nil, []string{"frequency.slots", "order"}},
		{"unknown key", "datas: x\n", nil, nil, []string{"datas", "crier.yaml"}},
		{"unknown nested key", "limits: {lane: 3}\n", nil, nil, []string{"limits.lane", "crier.yaml"}},
		{"section as value", "limits: 3\n", nil, nil, []string{"limits"}},
		{"value as section", "data: {dir: x}\n", nil, nil, []string{"data.dir"}},
		{"twice", "data: a\ndata: b\n", nil, nil, []string{"data", "crier.yaml"}},
		{"no YAML", "{", nil, nil, []string{"crier.yaml"}},
		{"unknown variable", "", []string{"CRIER_LISTENS=x"}, nil, []string{"CRIER_LISTENS"}},
		{"no such file", "", nil, []string{"--config", "/nowhere/c.yaml"}, []string{"/nowhere/c.yaml"}},
		{"type", "limits: {lanes: many}\n", nil, nil, []string{"lanes"}},
		{"fraction", "limits: {lanes: 8.5}\n", nil, nil, []string{"limits.lanes", "8.5", "crier.yaml"}},
		{"truth", "limits: {lanes: true}\n", nil, nil, []string{"limits.lanes"}},
		{"number for text", "data: 5\n", nil, nil, []string{"data", "text"}},
		{"list for text", "listen: [\":1\"]\n", nil, nil, []string{"listen", "text"}},
		{"nothing for text", "listen:\n", nil, nil, []string{"listen", "text"}},
		{"numbers for roles", "roles: [1]\n", nil, nil, []string{"roles"}},
		{"disk", "", nil, []string{"--limit-disk-warn", "85"}, []string{"limits.disk_warn:", "85"}},
		{"more than a disk", "", nil, []string{"--limit-disk-crit", "101"}, []string{"limits.disk_crit:"}},
		{"size", "", []string{"CRIER_LIMITS_LEDGER=big"}, nil, []string{"ledger", "16GiB"}},
		{"data", "", nil, []string{"--data", ""}, []string{"data:"}},
		{"listen", "", nil, []string{"--listen", "here"}, []string{"listen:"}},
		{"port", "", nil, []string{"--listen", ":70000"}, []string{"listen:"}},
		{"role", "", nil, []string{"--roles", "api,king"}, []string{"roles:", "king"}},
		{"role twice", "", nil, []string{"--roles", "api,api"}, []string{"roles:", "twice"}},
		{"no role", "", nil, []string{"--roles", ""}, []string{"roles:"}},
		{"level", "", nil, []string{"--log-level", "loud"}, []string{"log.level:"}},
		{"format", "", nil, []string{"--log-format", "xml"}, []string{"log.format:"}},
		{"nats", "", nil, []string{"--nats-listen", "x"}, []string{"nats.listen:"}},
		{"embedded and elsewhere", "nats: {embedded: true, servers: ['nats://a:1'], sync_attested: true}\n", nil, nil, []string{"nats.embedded:"}},
		{"neither embedded nor elsewhere", "", nil, []string{"--nats-embedded=false"}, []string{"nats.servers:"}},
		{"embedded maybe", "", nil, []string{"--nats-embedded=maybe"}, []string{"embedded"}},
		{"text for truth", "nats: {embedded: 3}\n", nil, nil, []string{"nats.embedded", "true or false"}},
		{"server", "", nil, []string{"--nats-servers=a:4222", "--nats-sync-attested"}, []string{"nats.servers:"}},
		{"server without port", "", nil, []string{"--nats-servers=nats://a", "--nats-sync-attested"}, []string{"nats.servers:"}},
		{"a secret in a URL", "", nil, []string{"--nats-servers=nats://u:p@a:1", "--nats-sync-attested"}, []string{"nats.servers:", "nats.creds"}},
		{"a cluster without a bus", "", nil, []string{"--name=a", "--cluster-listen=a:1", "--blobs=/b", "--keys=/k", "--sql-dsn=x"}, []string{"nats.servers:", "nats.cluster_listen", "nats.routes"}},
		{"asked and attested", "", nil, []string{"--nats-servers=nats://a:1", "--nats-sync-attested", "--nats-system=/s"}, []string{"nats.sync_attested:"}},
		{"listening for others", "", nil, []string{"--nats-servers=nats://a:1", "--nats-sync-attested", "--nats-listen=:1"}, []string{"nats.listen:"}},
		{"attested of nobody", "", nil, []string{"--nats-sync-attested"}, []string{"nats.sync_attested:"}},
		{"token and creds", "", nil, []string{"--nats-servers=nats://a:1", "--nats-sync-attested", "--nats-token=/t", "--nats-creds=/c"}, []string{"nats.token:"}},
		{"key without certificate", "", nil, []string{"--nats-servers=nats://a:1", "--nats-sync-attested", "--nats-tls-key=/k"}, []string{"nats.tls_key:"}},
		{"routes alone", "", nil, []string{"--nats-routes=a:1"}, []string{"nats.cluster_listen:"}},
		{"no routes", "", nil, []string{"--nats-cluster-listen=:1"}, []string{"nats.routes:"}},
		{"route", "", nil, []string{"--nats-cluster-listen=:1", "--nats-routes=a"}, []string{"nats.routes:"}},
		{"cluster without token", "", nil, []string{"--nats-cluster-listen=:1", "--nats-routes=a:1"}, []string{"nats.token:"}},
		{"two replicas", "", nil, []string{"--nats-replicas=2"}, []string{"nats.replicas:"}},
		{"replicas of one", "", nil, []string{"--nats-replicas=3"}, []string{"nats.replicas:"}},
		{"ledger", "", nil, []string{"--limit-ledger", "1MiB"}, []string{"limits.ledger:"}},
		{"no size", "", nil, []string{"--limit-ledger", "lots"}, []string{"limits.ledger: a flag has lots, want a size such as 16GiB"}},
		{"no number", "", []string{"CRIER_LIMITS_LANES=many"}, nil, []string{"limits.lanes: the environment has many, want a whole number"}},
		{"fold", "", nil, []string{"--limit-fold", "1KiB"}, []string{"limits.fold:"}},
		{"lanes", "", nil, []string{"--limit-lanes", "0"}, []string{"limits.lanes:"}},
		{"too many lanes", "", nil, []string{"--limit-lanes", "257"}, []string{"limits.lanes:"}},
		{"name", "", nil, []string{"--name", "a b"}, []string{"name:"}},
		{"cluster id", "", nil, []string{"--cluster-id", ""}, []string{"cluster.id:"}},
		{"cluster profile", "", nil, []string{"--cluster-profile", "slow"}, []string{"cluster.profile:", "slow"}},
		{"a ledger of three without members", "", nil, []string{"--nats-cluster-listen=:1", "--nats-routes=a:1", "--nats-token=/t"}, []string{"cluster.listen:", "sql.dsn"}},
		{"cluster address", "", nil, []string{"--cluster-listen", "x"}, []string{"cluster.listen:"}},
		{"cluster seeds", "", nil, []string{"--cluster-listen", ":7", "--cluster-seeds", "x"}, []string{"cluster.seeds:"}},
		{"seeds of none", "", nil, []string{"--cluster-seeds", "a:7"}, []string{"cluster.listen:"}},
		{"advertised by none", "", nil, []string{"--cluster-advertise", "a:7"}, []string{"cluster.listen:"}},
		{"advertised nowhere", "", nil, []string{"--cluster-listen", ":7", "--cluster-advertise", "x"}, []string{"cluster.advertise:"}},
		{"cluster without a name", "", nil, []string{"--cluster-listen", ":7"}, []string{"name:"}},
		{"cluster without SQL", "", nil, []string{"--cluster-listen", ":7", "--name", "n", "--blobs", "b", "--keys", "k"}, []string{"sql.dsn:"}},
		{"cluster without NATS", "", nil, []string{"--cluster-listen", ":7", "--name", "n", "--blobs", "b", "--keys", "k", "--sql-dsn", "d"}, []string{"nats.servers:"}},
		{"zookeeper", "", nil, []string{"--coordination-zookeeper", "z"}, []string{"coordination.zookeeper:"}},
		{"gateway url", "", nil, []string{"--gateway-url", "http://g/v1/connect"}, []string{"gateway_url:"}},
		{"zookeeper root", "", nil, []string{"--coordination-root", "crier"}, []string{"coordination.root:"}},
		{"drain", "", nil, []string{"--limit-drain", "-1"}, []string{"limits.drain:"}},
	} {
		args := c.args
		if c.file != "" {
			args = append(args, "--config", file(t, c.file))
		}
		_, err := config.Load(c.env, flags(t, args...))
		if job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%s: %v; want it refused", c.name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; want it to name %s", c.name, err, w)
			}
		}
	}
}

// How many keep a record is a matter of where the servers are, unless it is said.
func TestCopies(t *testing.T) {
	for want, cases := range map[int][]config.NATS{
		1: {{}, {Replicas: 1, Servers: []string{"nats://a:1"}}},
		3: {{Servers: []string{"nats://a:1"}}, {ClusterListen: ":1"}, {Replicas: 3}},
	} {
		for _, c := range cases {
			if got := c.Copies(); got != want {
				t.Errorf("%+v: %d, want %d", c, got, want)
			}
		}
	}
	s, err := config.Load(nil, flags(t, "--nats-servers=nats://a:1 nats://b:1", "--nats-sync-attested"))
	if err != nil || s.NATS.Embedded || len(s.NATS.Servers) != 2 {
		t.Errorf("servers elsewhere: %+v, %v", s.NATS, err)
	}
}

func TestDefaultData(t *testing.T) {
	for _, c := range []struct{ xdg, home, want string }{
		{"/x", "/h", "/x/crier"}, {"", "/h", "/h/.local/share/crier"}, {"rel", "/h", "/h/.local/share/crier"}, {"", "", "crier-data"},
	} {
		env := map[string]string{"XDG_DATA_HOME": c.xdg, "HOME": c.home}
		if got := config.DefaultData(func(k string) string { return env[k] }); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := config.Bytes(rapid.Int64Min(0).Draw(t, "n"))
		text, err := b.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back config.Bytes
		if err := back.UnmarshalText(text); err != nil || back != b {
			t.Fatalf("%d wrote %s, which reads as %d, %v", int64(b), text, int64(back), err)
		}
	})
	for _, bad := range []string{"", "GiB", "-1", "1.5GiB", "9GB", "9999999999TiB", "0x10"} {
		if b, err := config.ParseBytes(bad); err == nil {
			t.Errorf("%q reads as %d", bad, int64(b))
		}
	}
}
