package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"crier/internal/config"
)

// What a server leaves is what it runs with, without its secrets, and takes the place of
// what an earlier start left.
func TestWhatAServerLeaves(t *testing.T) {
	cfg := config.Default()
	cfg.Data, cfg.Limits.Lanes, cfg.SQL.DSN = t.TempDir(), 9, "crier:s3cr3t@tcp(db:3306)/crier"
	path := filepath.Join(cfg.Data, config.SettingsFile)
	if err := os.WriteFile(path, []byte("of an earlier start"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := leave(cfg, "v9"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "s3cr3t") || !strings.Contains(string(data), "crier:***@tcp(db:3306)/crier") {
		t.Errorf("it is\n%s", data)
	}
	var r config.Running
	if err := json.Unmarshal(data, &r); err != nil || r.Version != "v9" || r.PID != os.Getpid() || r.ReadyAt.IsZero() {
		t.Errorf("%v: %+v", err, r)
	}
	if !slices.ContainsFunc(r.Settings, func(s config.Shown) bool { return s.Setting == "limits.lanes" && s.Value == 9.0 && !s.Default }) {
		t.Errorf("limits.lanes is not among %+v", r.Settings)
	}
	left, err := os.ReadDir(cfg.Data)
	if err != nil || len(left) != 1 {
		t.Errorf("the directory has %v, %v; want the one file", left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
	cfg.Data = filepath.Join(cfg.Data, "gone")
	if err := leave(cfg, "v9"); err == nil || !strings.Contains(err.Error(), cfg.Data) {
		t.Errorf("without a directory: %v", err)
	}
}

// A log is named only if it is a file that others can find.
func TestWhereALogGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if got := fileOf(f); got != path {
		t.Errorf("a file is at %q, want %q", got, path)
	}
	if got := fileOf(w); got != "" {
		t.Errorf("a pipe is at %q", got)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fileOf(f); got != path+".1" {
		t.Errorf("a file that was renamed is at %q", got)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Fatal(err)
	}
	if got := fileOf(f); got != "" {
		t.Errorf("a file that was removed is at %q", got)
	}
}

// leaves calls fn for each setting in a configuration, by its name.
func leaves(name string, v reflect.Value, fn func(name string, v reflect.Value)) {
	if v.Kind() != reflect.Struct {
		fn(name, v)
		return
	}
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("koanf")
		if name != "" {
			key = name + "." + key
		}
		leaves(key, v.Field(i), fn)
	}
}

// change gives a setting another value than it has.
func change(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 3)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 3)
	case reflect.Slice:
		v.Set(reflect.ValueOf(append(slices.Clone(v.Interface().([]string)), "x")))
	default:
		t.Fatalf("a setting of type %s", v.Type())
	}
}

// Each setting has its effect: another value of it makes another server.
func TestNoSettingIsForgotten(t *testing.T) {
	// The logger is given, the profile is around the server, and Validate holds that what is
	// not embedded has nats.servers.
	elsewhere := []string{"log.level", "log.format", "cpu_profile", "nats.embedded"}
	was, err := settings(config.Default(), Process{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, n := config.Default(), 0
	leaves("", reflect.ValueOf(&cfg).Elem(), func(name string, v reflect.Value) {
		n++
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		change(t, v)
		is, err := settings(cfg, Process{}) // an error is an effect, too
		if same := err == nil && reflect.DeepEqual(is, was); same != slices.Contains(elsewhere, name) {
			t.Errorf("%s = %v makes another server: %v", name, v, !same)
		}
		v.Set(before)
	})
	if n < 30 {
		t.Errorf("%d settings are too few to mean anything", n)
	}
}
