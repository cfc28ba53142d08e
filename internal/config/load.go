package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"crier/job"
)

// setting is one key of the configuration with its flag; its variable is
// CRIER_ and the key in capitals with _ for dots.
type setting struct{ key, flag, usage string }

var settings = append([]setting{
	{"data", "data", "directory that holds everything"},
	{"listen", "listen", "address of the API and the gateway; port 0 takes a free one"},
	{"roles", "roles", "parts to run, separated by commas: " + strings.Join(Roles(), ", ")},
	{"ready_file", "ready-file", "file to write when ready: JSON with api, gateway, token (the admin key), pid"},
	{"cpu_profile", "cpu-profile", "file to which a profile of what the server did is written when it ends, for go tool pprof"},
	{"log.level", "log-level", "debug, info, warn or error"},
	{"log.format", "log-format", "text or json"},
	{"sql.dsn", "sql-dsn", "MySQL or MariaDB database in the place of the SQLite file: user:password@tcp(host:3306)/name; better in the file or in CRIER_SQL_DSN, for it has a password"},
	{"limits.ledger", "limit-ledger", "size of the ledger, such as 16GiB; 0 is half of what the disk has free, at most 64GiB"},
	{"limits.fold", "limit-fold", "how much the ledger grows before its past moves to the blob store, such as 1GiB, at most an eighth of the ledger's limit; 0 is 256MiB, or as much as the index takes"},
	{"limits.disk_warn", "limit-disk-warn", "percent of a disk that may be used before it is a warning"},
	{"limits.disk_crit", "limit-disk-crit", "percent of a disk from which on it is critical"},
	{"limits.lanes", "limit-lanes", "blocks that a worker hands over at a time, 1 to 256"},
	{"limits.drain", "limit-drain", "recipients a second who are handed what was parked for them; 0 is unlimited"},
	{"parking.cap", "parking-cap", "messages that wait for a recipient, the newest ones; 0 is any number"},
}, slices.Concat(clusterSettings, natsSettings, frequencySettings, webhookSettings)...)

// The settings that are not text.
var (
	lists   = []string{"roles", "cluster.seeds", "cluster.adopt", "coordination.zookeeper", "nats.servers", "nats.routes", "frequency.exempt", "frequency.slots", "webhooks.allow"}
	numbers = []string{"limits.ledger", "limits.fold", "limits.disk_warn", "limits.disk_crit", "limits.lanes", "limits.drain", "nats.replicas", "parking.cap", "frequency.cap", "frequency.account_cap"}
	sizes   = []string{"limits.ledger", "limits.fold"} // of the numbers, those in bytes
	truths  = []string{"nats.embedded", "nats.sync_attested"}
)

const envPrefix = "CRIER_"

// others are the variables with our prefix that are no settings of the server:
// the client's, the tests', and the one that names the file.
var others = []string{"CRIER_SERVER", "CRIER_TOKEN", "CRIER_TESTDATA", "CRIER_MUTANTS", "CRIER_KILLS", "CRIER_PACKAGES", "CRIER_STORMS", "CRIER_CONFIG", "CRIER_CLUSTER"}

// Flags defines a flag for each setting and --config. Each is text: Load parses
// them all in one way, wherever they come from.
func Flags(set *pflag.FlagSet) {
	text := defaultsAsText()
	set.String("config", "", "configuration file (YAML); also CRIER_CONFIG")
	for _, s := range settings {
		set.String(s.flag, text[s.key], s.usage)
		if slices.Contains(truths, s.key) {
			set.Lookup(s.flag).NoOptDefVal = "true"
		}
	}
}

func defaultsAsText() map[string]string {
	d := Default()
	return map[string]string{
		"data": d.Data, "listen": d.Listen, "roles": strings.Join(d.Roles, ","), "log.level": d.Log.Level, "log.format": d.Log.Format,
		"cluster.id": d.Cluster.ID, "cluster.profile": d.Cluster.Profile, "coordination.root": d.Coordination.Root,
		"limits.ledger": d.Limits.Ledger.String(), "limits.fold": d.Limits.Fold.String(), "limits.disk_warn": strconv.Itoa(d.Limits.DiskWarn), "limits.disk_crit": strconv.Itoa(d.Limits.DiskCrit),
		"limits.lanes": strconv.Itoa(d.Limits.Lanes), "limits.drain": strconv.Itoa(d.Limits.Drain), "parking.cap": strconv.Itoa(d.Parking.Cap),
	}
}

// Load puts the configuration together. environ is os.Environ(); set has the
// flags that Flags defined, parsed, and may be nil.
func Load(environ []string, set *pflag.FlagSet) (Server, error) {
	all := koanf.New(".")
	path := configFile(environ, set)
	if path != "" {
		if err := merge(all, path, func(k *koanf.Koanf) error { return k.Load(file.Provider(path), yaml.Parser()) }); err != nil {
			return Server{}, err
		}
	}
	if err := knownVariables(environ); err != nil {
		return Server{}, err
	}
	variables := env.Provider(".", env.Opt{Prefix: envPrefix, EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) { return keyOfVariable(name), value }})
	if err := merge(all, "the environment", func(k *koanf.Koanf) error { return k.Load(variables, nil) }); err != nil {
		return Server{}, err
	}
	if set != nil {
		flags := posflag.ProviderWithFlag(set, ".", nil, func(f *pflag.Flag) (string, any) { return keyOfFlag(f.Name), f.Value.String() })
		if err := merge(all, "a flag", func(k *koanf.Koanf) error { return k.Load(flags, nil) }); err != nil {
			return Server{}, err
		}
	}
	return decode(all)
}

func configFile(environ []string, set *pflag.FlagSet) string {
	if set != nil {
		if f := set.Lookup("config"); f != nil && f.Changed {
			return f.Value.String()
		}
	}
	for _, kv := range environ {
		if path, ok := strings.CutPrefix(kv, "CRIER_CONFIG="); ok {
			return path
		}
	}
	return ""
}

// merge loads one source, refuses the keys that are no settings, and lays it over
// what was there.
func merge(all *koanf.Koanf, source string, load func(*koanf.Koanf) error) error {
	layer := koanf.New(".")
	if err := load(layer); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return job.Invalid("config", "there is no configuration file "+source, err)
		}
		return job.Invalid("config", fmt.Sprintf("%s cannot be read: %s", source, shown(err)), nil)
	}
	for _, key := range layer.Keys() {
		known := slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
		if !known {
			return job.Invalid(key, fmt.Sprintf("%s has %q, which is no setting", source, key), ErrNoSetting)
		}
		if want := wants(key, layer.Get(key)); want != "" {
			return job.Invalid(key, fmt.Sprintf("%s: %s has %s, want %s", key, source, shown(layer.Get(key)), want), nil)
		}
	}
	return all.Merge(layer)
}

// shown makes one line of something, which can stand on a terminal, whatever it repeats
// of a file.
func shown(v any) string {
	const most = 500
	line := strings.Join(strings.Fields(fmt.Sprint(v)), " ")
	if len(line) > most {
		line = line[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, line)
}

// wants says what a setting's value should be, if it is of another type. A decoder
// would make 8 of 8.5, 1 of true and "5" of 5.
func wants(key string, value any) string {
	switch v := value.(type) {
	case string:
		return wantsText(key, v)
	case int:
		if slices.Contains(numbers, key) {
			return ""
		}
	case bool:
		if slices.Contains(truths, key) {
			return ""
		}
	case []any:
		if slices.Contains(lists, key) && !slices.ContainsFunc(v, func(r any) bool { _, ok := r.(string); return !ok }) {
			return ""
		}
	}
	switch {
	case slices.Contains(lists, key):
		return "a list"
	case slices.Contains(numbers, key):
		return "a whole number"
	case slices.Contains(truths, key):
		return "true or false"
	}
	return "text"
}

// wantsText says what the text of a setting should be, if it does not read as one. An
// empty text stands for nothing.
func wantsText(key, v string) string {
	var size Bytes
	switch {
	case v == "":
	case slices.Contains(sizes, key):
		if size.UnmarshalText([]byte(v)) != nil {
			return "a size such as 16GiB"
		}
	case slices.Contains(numbers, key):
		if _, err := strconv.ParseInt(v, 0, 64); err != nil {
			return "a whole number"
		}
	case slices.Contains(truths, key):
		if _, err := strconv.ParseBool(v); err != nil {
			return "true or false"
		}
	}
	return ""
}

// ErrNoSetting is the cause of an error about a name that is no setting's.
var ErrNoSetting = errors.New("crier serve --help lists them")

// Settings are the names that settings have in files, and those of their variables.
func Settings() (names []string) {
	for _, s := range settings {
		names = append(names, s.key, variable(s))
	}
	return names
}

// decode lays the settings over the defaults.
func decode(all *koanf.Koanf) (Server, error) {
	s := Default()
	for _, key := range lists {
		text, ok := all.Get(key).(string)
		if !ok {
			continue
		}
		if err := all.Set(key, strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })); err != nil {
			return Server{}, job.Invalid(key, key+": "+err.Error(), nil)
		}
	}
	if all.Exists("roles") {
		s.Roles = nil // a list is replaced, not laid over
	}
	if !all.Exists("nats.embedded") && len(all.Strings("nats.servers")) > 0 {
		s.NATS.Embedded = false
	}
	if err := all.Unmarshal("", &s); err != nil {
		return Server{}, job.Invalid("config", "the configuration cannot be read: "+shown(err), nil)
	}
	return s, s.Validate()
}

func variable(s setting) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// knownVariables refuses variables with our prefix that nobody reads.
func knownVariables(environ []string) error {
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(others, name) || keyOfVariable(name) != "" {
			continue
		}
		return job.Invalid(name, fmt.Sprintf("the environment has %s, which is no setting", name), ErrNoSetting)
	}
	return nil
}

func keyOfVariable(name string) string {
	for _, s := range settings {
		if variable(s) == name {
			return s.key
		}
	}
	return ""
}

func keyOfFlag(name string) string {
	for _, s := range settings {
		if s.flag == name {
			return s.key
		}
	}
	return ""
}

// ClientData is the data directory in which the command line looks for the key of
// a server on this machine: CRIER_DATA or the default.
func ClientData() string {
	if dir := os.Getenv("CRIER_DATA"); dir != "" {
		return dir
	}
	return DefaultData(os.Getenv)
}
