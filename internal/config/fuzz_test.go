package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"crier/internal/badinput"
	"crier/internal/config"
	"crier/job"
)

// files are configuration files from which bad ones are made.
var files = []string{
	"data: /var/lib/crier\nlisten: 127.0.0.1:7420\nroles: [api, worker]\nlog:\n  level: debug\n  format: json\nlimits:\n  ledger: 16GiB\n  lanes: 8\n  drain: 0\n",
	"name: m1\nblobs: /b\nkeys: /k\nsql: {dsn: \"u:p@tcp(h:3306)/crier\"}\ncluster:\n  id: c\n  listen: 10.0.0.1:7421\n  seeds: [10.0.0.2:7421]\n  profile: fast\nnats:\n  servers: [nats://10.0.0.3:4222]\n  replicas: 3\n",
	"coordination.root: /crier\nroles: api,gateway\n",
	"limits: {lanes: 8.5}\n", "roles: [1]\n", "log: [x]\n", "log: {1: 2}\n", "? [a]\n: b\n", "a: &a [*a]\n", "x: *y\n", "- a\n", "\"data\": \"\\0\"\n", "data: !!binary aGk=\n", "limits: {ledger: 0x10}\n", "<<: {data: x}\n",
}

// read loads a file and holds what comes of it: a configuration that is valid and comes
// again, or an error that is the user's.
func read(t *testing.T, path string, text []byte) (ok bool) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.Load([]string{"CRIER_CONFIG=" + path}, nil)
	if err != nil {
		if job.CodeOf(err) != job.CodeInvalid || err.Error() == "" || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q", text, err)
		}
		return false
	}
	if err := got.Validate(); err != nil {
		t.Errorf("%q is taken, and not valid: %v", text, err)
	}
	if again, err := config.Load([]string{"CRIER_CONFIG=" + path}, nil); err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%q is read as %+v, then as %+v, %v", text, got, again, err)
	}
	return true
}

// Mutants of configuration files are refused, or valid.
func TestFilesMutated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crier.yaml")
	tried, taken := 0, 0
	for _, text := range files {
		for m := range badinput.Mutants(700, []byte(text), []byte(files[0]), []byte(files[1])) {
			tried++
			if read(t, path, m.Bytes) {
				taken++
			}
		}
	}
	t.Logf("%d mutants, %d taken", tried, taken)
	if taken == 0 || taken > tried/2 {
		t.Errorf("%d of %d were taken", taken, tried)
	}
}

func FuzzLoad(f *testing.F) {
	for _, text := range files {
		f.Add([]byte(text))
	}
	path := filepath.Join(f.TempDir(), "crier.yaml")
	f.Fuzz(func(t *testing.T, text []byte) { read(t, path, text) })
}
