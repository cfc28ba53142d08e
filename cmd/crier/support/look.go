package support

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/pflag"

	"crier/api"
	"crier/cmd/crier/cli"
	"crier/internal/auth"
	"crier/internal/bundle"
	"crier/internal/config"
	"crier/job"
)

// source is where the parts come from.
type source struct {
	options
	c        *cli.CLI
	version  string
	server   string // URL
	svc      api.Service
	svcErr   error
	here     config.Server // what crier serve would have here
	hereErr  error
	left     []byte // what the server left of its settings
	leftErr  error
	data     string // directory
	blobs    string // if they are elsewhere
	environ  []string
	secrets  []string
	identity string // the key that the server is shown
}

// look finds out who is asked, with which settings, and what is secret. What it does not
// find is an error of the part that would have it.
func look(c *cli.CLI, version string, o options) *source {
	s := &source{options: o, c: c, version: version, environ: os.Environ()}
	s.here, s.hereErr = s.load()
	s.data = cmp.Or(c.DataDir, s.here.Data, config.ClientData())
	if s.hereErr == nil && c.DataDir == "" {
		c.DataDir = cmp.Or(s.here.Keys, s.here.Data) // where the key is
	}
	s.server, s.identity, s.svcErr = c.Where()
	if s.svcErr == nil {
		s.svc, s.svcErr = c.Service()
	}
	s.left, s.leftErr = os.ReadFile(filepath.Join(s.data, config.SettingsFile))
	var running config.Running
	if s.leftErr == nil {
		if err := json.Unmarshal(s.left, &running); err != nil {
			s.leftErr = fmt.Errorf("%s is damaged: %w", config.SettingsFile, err)
		}
	}
	s.log = cmp.Or(s.log, running.Log)
	s.blobs = cmp.Or(running.Text("blobs"), s.here.Blobs)
	s.secrets = s.known(running)
	return s
}

// load reads the configuration as crier serve would.
func (s *source) load() (config.Server, error) {
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.Flags(set)
	for name, value := range map[string]string{"config": s.config, "data": s.c.DataDir} {
		if value == "" {
			continue
		}
		if err := set.Set(name, value); err != nil {
			return config.Server{}, err
		}
	}
	cfg, err := config.Load(s.environ, set)
	if err == nil {
		return cfg, nil
	}
	// The error may repeat what stands in the file.
	var e *job.Error
	if errors.As(err, &e) && e.Field != "" && errors.Is(err, fs.ErrNotExist) {
		return cfg, fmt.Errorf("there is no such configuration file")
	}
	if errors.As(err, &e) && e.Field != "" {
		return cfg, fmt.Errorf("%s is refused here; with the same file and variables \"crier serve\" says why", e.Field)
	}
	return cfg, fmt.Errorf("the configuration cannot be read here; with the same file and variables \"crier serve\" says why")
}

// known is what is secret, as far as it can be found out.
func (s *source) known(running config.Running) []string {
	all := slices.Concat([]string{s.identity, s.c.Getenv("CRIER_TOKEN")}, s.here.Secrets(), config.SecretsOf(s.environ))
	if key, err := auth.ReadAdminKey(cmp.Or(running.Text("keys"), s.here.Keys, s.data)); err == nil { // without it, nobody here can show it
		all = append(all, key)
	}
	for _, file := range []string{s.here.NATS.Creds, s.here.NATS.Token, s.here.NATS.System, running.Text("nats.creds"), running.Text("nats.token"), running.Text("nats.system")} {
		if filepath.IsAbs(file) {
			all = append(all, words(file)...)
		}
	}
	for _, kv := range s.environ {
		name, value, _ := strings.Cut(kv, "=")
		if len(value) >= leastVariable && slices.ContainsFunc([]string{"TOKEN", "SECRET", "PASSWORD", "PASSWD"}, func(part string) bool { return strings.Contains(strings.ToUpper(name), part) }) {
			all = append(all, value)
		}
	}
	return all
}

// leastVariable is from which length on the value of a variable with such a name is taken
// for a secret: not true, and not a number.
const leastVariable = 8

// words are the secrets in a file of NATS: a token, user:password, or credentials.
func words(path string) (all []string) {
	const most = 64 << 10
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() > most {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "-") {
			continue
		}
		_, password, _ := strings.Cut(line, ":")
		all = append(all, line, password)
	}
	return all
}

// indented lays JSON out for people.
func indented(data []byte) ([]byte, error) {
	value := jsontext.Value(data)
	if err := value.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return append(value, '\n'), nil
}

// program is what made the bundle, most likely the program that the server runs, too.
type program struct {
	Version  string            `json:"version"`
	Go       string            `json:"go"`
	Platform string            `json:"platform"`
	CPUs     int               `json:"cpus"`
	Build    map[string]string `json:"build"`
	Modules  map[string]string `json:"modules"`
}

func (s *source) program(context.Context) ([]byte, error) {
	p := program{Version: s.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Build: map[string]string{}, Modules: map[string]string{}}
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, x := range info.Settings {
			p.Build[x.Key] = x.Value
		}
		for _, m := range info.Deps {
			p.Modules[m.Path] = m.Version
			if m.Replace != nil {
				p.Modules[m.Path] += " => " + m.Replace.Path + " " + m.Replace.Version
			}
		}
	}
	return pretty(p)
}

// would are the settings that crier serve would have here.
type would struct {
	Settings  []config.Shown `json:"settings"`
	Variables []string       `json:"variables"` // that are set, by name
}

func (s *source) settingsHere(context.Context) ([]byte, error) {
	if s.hereErr != nil {
		return nil, s.hereErr
	}
	w := would{Settings: s.here.Show(), Variables: []string{}}
	for _, kv := range s.environ {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "CRIER_") {
			w.Variables = append(w.Variables, name)
		}
	}
	slices.Sort(w.Variables)
	return pretty(w)
}

func (s *source) settingsLeft(context.Context) ([]byte, error) {
	if errors.Is(s.leftErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("the data directory has no %s: no server of this version became ready there, or it is not this machine's", config.SettingsFile)
	}
	if s.leftErr != nil {
		return nil, s.leftErr
	}
	return s.left, nil
}

// ours are what a data directory has at its top.
var ours = []string{"nats", "blobs", "parked", "accepted", "crier.db", "crier.db-wal", "crier.db-shm", "presence.planes", "scratch", "keys", "node.json", "lock", "inhand", config.SettingsFile}

// disk measures a directory.
func disk(dir string, known []string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		u, err := bundle.Measure(ctx, dir, known)
		if u.DiskBytes == 0 {
			return nil, err
		}
		data, failed := pretty(u)
		return data, errors.Join(err, failed)
	}
}
