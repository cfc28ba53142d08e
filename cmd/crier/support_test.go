package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"crier/api"
	"crier/internal/bundle"
	"crier/internal/proc"
	"crier/job"
)

// unpacked reads a bundle into files by their names without the directory that they are in.
func unpacked(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, inside, _ := strings.Cut(h.Name, "/")
		files[inside] = string(data)
	}
}

// states reads the manifest.
func states(t *testing.T, files map[string]string) map[string]bundle.Entry {
	t.Helper()
	var m bundle.Manifest
	if err := json.Unmarshal([]byte(files[bundle.ManifestFile]), &m); err != nil {
		t.Fatal(err)
	}
	all := map[string]bundle.Entry{}
	for _, e := range m.Parts {
		all[e.File] = e
		if _, is := files[e.File]; is != (e.State == bundle.Whole || e.State == bundle.Partial) {
			t.Errorf("the manifest calls %s %s; it is there: %v", e.File, e.State, is)
		}
	}
	for name := range files {
		if _, told := all[name]; !told && name != bundle.ManifestFile {
			t.Errorf("the manifest does not tell of %s", name)
		}
	}
	return all
}

// onDisk are the parts that need no server.
var onDisk = []string{"version.json", "settings/running.json", "settings/here.json", "log.txt", "disk/data.json"}

// A bundle of a real server has what is true of it and none of the secrets that were put
// wherever there is a place for one; of a server that is dead it has what is on the disk.
func TestSupportBundle(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	srv, err := proc.Start(ctx, proc.Config{Binary: "crier", Dir: dir, Args: []string{"--limit-lanes", "3"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Kill)
	svc, err := srv.Client()
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	who := job.Recipient(3_141_592_653)
	_, err = svc.CreateAccount(ctx, api.CreateAccount{Name: "news"})
	must(err)
	_, err = svc.AddFollowers(ctx, "news", []job.Recipient{who, 1, 2})
	must(err)
	hook, err := svc.MakeWebhookSecret(ctx, "default")
	must(err)
	key, err := svc.CreateKey(ctx, api.CreateKey{Name: "newsletter", Role: job.Submitter})
	must(err)
	token, err := svc.MintToken(ctx, api.MintToken{Recipient: &who})
	must(err)
	j, err := svc.SubmitJob(ctx, api.SubmitJob{Account: "news", Audience: "followers", Body: "planted-body-9f1", CollapseKey: "planted-collapse-9f1", IdempotencyKey: "planted-idempotency-9f1",
		Webhook: &job.Webhook{URL: "https://hooks.example/planted-hook-9f1"}})
	must(err)

	creds := filepath.Join(dir, "creds")
	must(os.WriteFile(creds, []byte("crier:planted-creds-9f1\n"), 0o600))
	// The server's log, and in the second also what only whoever has its credentials knows.
	log, knowing := filepath.Join(dir, "log"), filepath.Join(dir, "knowing")
	text, err := os.ReadFile(filepath.Join(dir, "server.log"))
	must(err)
	text = fmt.Appendf(text, "level=WARN msg=x token=%s key=%s admin=%s recipient=%d dsn=crier:planted-log-9f1@tcp(db:3306)/crier\n", token.Token, key.Secret, srv.Token, who)
	must(os.WriteFile(log, append(text, "the last line\n"...), 0o600))
	must(os.WriteFile(knowing, append(text, "err=\"planted-creds-9f1 is refused\"\nthe last line\n"...), 0o600))

	planted := map[string]string{"the body": "planted-body-9f1", "the collapse key": "planted-collapse-9f1", "the idempotency key": "planted-idempotency-9f1", "the webhook's URL": "planted-hook-9f1",
		"a recipient": fmt.Sprint(who), "a recipient's token": token.Token, "an API key": key.Secret, "the admin key": srv.Token, "the webhook secret": hook.Secret, "the DSN": "planted-dsn-9f1",
		"a password in a log": "planted-log-9f1", "a file's password": "planted-creds-9f1", "the NATS token": "planted-nats-9f1", "the system's user": "planted-system-9f1",
		"a URL's value": "planted-url-9f1", "another variable": "planted-variable-9f1"}
	env := append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "CRIER_") }), "CRIER_SERVER="+srv.API,
		"CRIER_SQL_DSN=crier:planted-dsn-9f1@tcp(db:3306)/crier?x=planted-dsn-9f1", "CRIER_GATEWAY_URL=wss://gw.example/v1/connect?p=planted-url-9f1", "X_SECRET=planted-variable-9f1")
	elsewhere := append(slices.Clone(env), "CRIER_NATS_SERVERS=nats://a:4222", "CRIER_NATS_CREDS="+creds, "CRIER_NATS_SYSTEM=sys:planted-system-9f1")
	embedded := append(slices.Clone(env), "CRIER_NATS_TOKEN=planted-nats-9f1")
	refused := append(slices.Clone(env), "CRIER_NATS_SERVERS=nats://planted-nats-9f1:planted-system-9f1@a")

	// bundled runs the command and looks for what was planted in all that it gives.
	bundled := func(what string, env []string, want int, args ...string) map[string]bundle.Entry {
		t.Helper()
		name := filepath.Join(dir, what+".tar.gz")
		cmd := exec.CommandContext(ctx, "crier", append([]string{"support", "bundle", "--data", filepath.Join(dir, "data"), "--out", name}, args...)...)
		var stdout, stderr bytes.Buffer
		cmd.Env, cmd.Stdout, cmd.Stderr = env, &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v: %s", what, err, &stderr)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: others may read it: %v, %v", what, info, err)
		}
		files := unpacked(t, name)
		if len(files) < want {
			t.Errorf("%s: only %d files: %s", what, len(files), &stdout)
		}
		for name, text := range files {
			if strings.HasSuffix(name, ".json") && !json.Valid([]byte(text)) {
				t.Errorf("%s: %s is no JSON:\n%.2000s", what, name, text)
			}
			for thing, secret := range planted {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %s has %s", what, name, thing)
				}
			}
		}
		for thing, secret := range planted {
			if strings.Contains(stdout.String()+stderr.String(), secret) {
				t.Errorf("%s: the command shows %s", what, thing)
			}
		}
		if end := map[bool]string{true: "msg=", false: "the last line\n"}[what == "default"]; !strings.Contains(files["log.txt"], end) {
			t.Errorf("%s: the log ends with %.200q", what, files["log.txt"])
		}
		if text := files["settings/running.json"]; !strings.Contains(text, `"limits.lanes"`) || !strings.Contains(text, `"value": 3`) {
			t.Errorf("%s: the settings of the server are\n%s", what, text)
		}
		if what == "elsewhere" {
			for name, part := range map[string]string{"jobs/last.json": j.Job.String(), "status.json": `"healthy"`, "metrics.txt": "crier_", "check.json": `"state"`, "members.json": `"WORKING"`,
				"settings/here.json": "crier:***@tcp(db:3306)/crier?***", "disk/data.json": `"nats/*.blk"`, "lanes.json": `"lanes"`, "ready.txt": "", "ring/range.json": `"things": 4096`} {
				if !strings.Contains(files[name], part) {
					t.Errorf("%s lacks %s:\n%.2000s", name, part, files[name])
				}
			}
		}
		return states(t, files)
	}

	for file, e := range bundled("elsewhere", elsewhere, 18, "--log", knowing) {
		if want := map[bool]bundle.State{true: bundle.LeftOut, false: bundle.Whole}[file == "profiles"]; e.State != want {
			t.Errorf("%s is %s: %s", file, e.State, e.Why)
		}
	}
	bundled("embedded", embedded, 18, "--log", log)
	if e := bundled("refused", refused, 17, "--log", log)["settings/here.json"]; e.State != bundle.Failed || !strings.Contains(e.Why, "nats.servers is refused here") {
		t.Errorf("settings that are refused: %+v", e)
	}
	bundled("default", env, 18) // the log is where the server's standard error goes
	srv.Kill()
	for file, e := range bundled("dead", elsewhere, len(onDisk)+1, "--within", "5s", "--log", knowing) {
		want := bundle.Failed
		if slices.Contains(onDisk, file) || file == "check.json" { // that it does not answer is a verdict
			want = bundle.Whole
		}
		if file == "profiles" {
			want = bundle.LeftOut
		}
		if e.State != want {
			t.Errorf("of a dead server %s is %s: %s", file, e.State, e.Why)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".crier-support-*")); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}
