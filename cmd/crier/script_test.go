package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"crier/api/apitest"
	"crier/api/server"
	"crier/audience"
	"crier/audience/source"
	"crier/internal/auth"
	"crier/internal/authority"
	"crier/job"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"crier": func() { os.Exit(run()) }})
}

type steeringKey struct{}

// steering is a fake that fails with a code; empty: it works.
type steering struct {
	*apitest.Fake
	code atomic.Value // string
}

func (s *steering) fail(string) error {
	switch code := s.code.Load().(string); code {
	case "":
		return nil
	case "internal":
		return errors.New("the inside")
	default:
		return &job.Error{Code: job.Code(code), Message: "the fake fails as it was told"}
	}
}

// TestScripts runs the command line as a process against a server over a fake
// service; each script has its own.
//
// Commands of the scripts besides those of testscript: "exits N crier ARG..." runs
// a command that must end with the exit code N; "fake fail CODE", "fake works"
// "fake doubt JOB N" and "fake see MEMBER STATE" steer the service;
// "savejob NAME" puts the job id in the output of the last command into a variable.
// DATA is the data directory with the server's key.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			fake := &steering{Fake: apitest.New()}
			fake.code.Store("")
			fake.Fail, fake.Pack = fake.fail, pack
			data := filepath.Join(env.WorkDir, "data")
			if err := os.MkdirAll(data, 0o700); err != nil {
				return err
			}
			keys, err := auth.Open(auth.Config{Data: data})
			if err != nil {
				return err
			}
			key, err := keys.AdminKey()
			if err != nil {
				return err
			}
			s, err := server.New(server.Config{Service: fake, Keys: authority.New(authority.Config{Admin: keys}), Trail: apitest.Trail{}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			ts := httptest.NewServer(s)
			env.Defer(ts.Close)
			env.Values[steeringKey{}] = fake
			env.Setenv("CRIER_SERVER", ts.URL)
			env.Setenv("CRIER_TOKEN", key)
			env.Setenv("DATA", data)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits, "fake": cmdFake, "savejob": cmdSaveJob},
	})
}

// pack makes a package as a server does.
func pack(name string, ids []job.Recipient) ([]byte, error) {
	dir, err := os.MkdirTemp("", "crier-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintln(&text, id)
	}
	_, err = audience.Build(context.Background(), dir, source.NewText(source.Input{Name: name, File: name, R: io.NopCloser(strings.NewReader(text.String()))}))
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, name+audience.Extension))
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d; want %s", code, args[0])
	}
}

func cmdSaveJob(ts *testscript.TestScript, _ bool, args []string) {
	id := regexp.MustCompile(`job_[0-9A-Z]{26}`).FindString(ts.ReadFile("stdout"))
	if len(args) != 1 || id == "" {
		ts.Fatalf("usage: savejob NAME, after a command that shows a job")
	}
	ts.Setenv(args[0], id)
}

func cmdFake(ts *testscript.TestScript, _ bool, args []string) {
	fake := ts.Value(steeringKey{}).(*steering)
	switch args[0] {
	case "fail":
		fake.code.Store(args[1])
	case "works":
		fake.code.Store("")
	case "doubt":
		id, err := job.ParseID(args[1])
		ts.Check(err)
		n, err := strconv.ParseUint(args[2], 10, 64)
		ts.Check(err)
		fake.Doubt(id, n)
	case "see":
		fake.Steer(func(c *apitest.Cluster) { ts.Check(c.See(args[1], args[2], fake.Now())) })
	default:
		ts.Fatalf("fake cannot %s", args[0])
	}
}
