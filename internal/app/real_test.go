package app_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crier/api"
	"crier/internal/proc"
	"crier/internal/testdata"
	"crier/job"
)

// The oracle of these tests reads the files by itself, keeps sets as maps, and
// shares no code with Crier but the words of its API.
type ids map[uint32]bool

// zipSets reads a zip of id lists.
func zipSets(t *testing.T, path string) map[string]ids {
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	sets := map[string]ids{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		set := ids{}
		for _, s := range strings.FieldsFunc(string(b), func(c rune) bool { return c < '0' || c > '9' }) {
			n, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			set[uint32(n)] = true
		}
		sets[strings.TrimSuffix(filepath.Base(f.Name), filepath.Ext(f.Name))] = set
	}
	return sets
}

// graph reads who follows whom: followers[dst] = all src.
func graph(t *testing.T, path string) map[uint32]ids {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	followers := map[uint32]ids{}
	lines := bufio.NewScanner(z)
	lines.Scan() // what the file is
	for lines.Scan() {
		var src, dst uint32
		if _, err := fmt.Sscanf(lines.Text(), "%d,%d", &src, &dst); err != nil {
			t.Fatal(err)
		}
		if src == dst {
			continue
		}
		if followers[dst] == nil {
			followers[dst] = ids{}
		}
		followers[dst][src] = true
	}
	return followers
}

// cli runs the command with the server's address and key, and gives its JSON.
func (x *trial) cli(out any, args ...string) {
	x.t.Helper()
	cmd := exec.Command(x.cfg.Binary, append(args, "-o", "json")...)
	cmd.Env = append(os.Environ(), "CRIER_SERVER="+x.srv.API, "CRIER_TOKEN="+x.srv.Token)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		x.t.Fatalf("crier %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			x.t.Fatalf("crier %s: %v in %s", strings.Join(args, " "), err, b)
		}
	}
}

func newTrial(t *testing.T) *trial {
	x := &trial{t: t, cfg: newTrialConfig(t)}
	x.restart(context.Background())
	return x
}

func newTrialConfig(t *testing.T, args ...string) proc.Config {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return proc.Config{Binary: path, Dir: t.TempDir(), Args: args}
}

// counts is what reconcile says, by the names that scripts rely on.
type counts struct {
	Package, Delivered, Parked, Pending, Expired, Recalled, Cancelled, Failed uint64
	HandedOff                                                                 uint64 `json:"handed_off"`
	InDoubt                                                                   uint64 `json:"in_doubt"`
	Dropped                                                                   map[string]uint64
	Conserved                                                                 bool
}

// send is one package to one account.
type send struct {
	account   string
	file      string
	set       ids
	followers ids
}

// sendAll submits all packages, then waits for each job and compares its reconcile
// with set algebra done here.
func (x *trial) sendAll(sends []send) {
	type accepted struct {
		Job   job.ID
		State string
	}
	jobs := make([]accepted, len(sends))
	for i, s := range sends {
		x.cli(&jobs[i], "job", "submit", "--account", s.account, "--package", s.file, "--body", "to "+filepath.Base(s.file))
	}
	for i, s := range sends {
		j, err := x.svc.WaitJob(context.Background(), jobs[i].Job, api.WaitJob{For: job.Sent})
		x.must(err)
		jobs[i].State = j.State.String()
		var got counts
		x.cli(&got, "job", "reconcile", jobs[i].Job.String())
		related := uint64(0)
		for id := range s.set {
			if s.followers[id] {
				related++
			}
		}
		size := uint64(len(s.set))
		if !got.Conserved || got.Package != size || got.Parked != related || got.Dropped["relation"] != size-related ||
			got.Pending+got.Delivered+got.HandedOff+got.InDoubt+got.Expired+got.Failed+got.Cancelled+got.Recalled != 0 {
			x.t.Errorf("%s (%d ids, %d of them follow %s) is %s and reconciles to %+v", s.file, size, related, s.account, jobs[i].State, got)
		}
	}
}

// TestRealPackagesAndGraph sends 40 real packages from accounts whose followers are
// the Slashdot graph's, and reconciles each against set algebra done here.
func TestRealPackagesAndGraph(t *testing.T) {
	t.Parallel()
	slashdot := testdata.Graph(t)
	x := newTrial(t)
	var imp struct {
		Added uint64 `json:"added"`
	}
	x.cli(&imp, "followers", "import", "--format", "edges", "--skip", "1", slashdot)
	followers := graph(t, slashdot)
	edges := 0
	var accounts []uint32
	for a, f := range followers {
		edges += len(f)
		if len(f) > 300 {
			accounts = append(accounts, a)
		}
	}
	if imp.Added != uint64(edges) {
		t.Fatalf("%d followers imported, the graph has %d", imp.Added, edges)
	}
	slices.Sort(accounts)
	rng := rand.New(rand.NewPCG(40, 40))
	var sends []send
	for _, file := range []string{"census1881", "wikileaks-noquotes", "census-income_even", "weather_sept_85_mod4_0"} {
		path := testdata.Packages(t, file)
		dir := t.TempDir()
		x.cli(nil, "package", "build", "--from", "zip", path, "--out", dir)
		sets := zipSets(t, path)
		var names []string
		for name := range sets {
			names = append(names, name)
		}
		slices.Sort(names)
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names[:10] {
			a := accounts[rng.IntN(len(accounts))]
			sends = append(sends, send{strconv.Itoa(int(a)), filepath.Join(dir, name+".crpk"), sets[name], followers[a]})
		}
	}
	x.sendAll(sends)
}

// TestCensusToEverybody sends all 200 packages of census1881 from one account that
// everyone follows.
func TestCensusToEverybody(t *testing.T) {
	t.Parallel()
	path := testdata.Packages(t, "census1881")
	x := newTrial(t)
	sets := zipSets(t, path)
	everyone := ids{}
	var list bytes.Buffer
	var names []string
	for name, set := range sets {
		names = append(names, name)
		for id := range set {
			if !everyone[id] {
				everyone[id] = true
				fmt.Fprintln(&list, id)
			}
		}
	}
	slices.Sort(names)
	if len(names) != 200 {
		t.Fatalf("%d packages, want 200", len(names))
	}
	file := filepath.Join(t.TempDir(), "everyone.txt")
	if err := os.WriteFile(file, list.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	x.cli(nil, "account", "create", "census")
	x.cli(nil, "followers", "import", "--format", "ids", "--account", "census", file)
	dir := t.TempDir()
	x.cli(nil, "package", "build", "--from", "zip", path, "--out", dir)
	var sends []send
	for _, name := range names {
		sends = append(sends, send{"census", filepath.Join(dir, name+".crpk"), sets[name], everyone})
	}
	x.sendAll(sends)
}

// TestStopsInTime asks a server under load to stop.
func TestStopsInTime(t *testing.T) {
	x := newTrial(t)
	x.cli(nil, "account", "create", "stop")
	_, err := x.svc.AddFollowers(context.Background(), "stop", []job.Recipient{1, 2, 3})
	x.must(err)
	j, err := x.svc.SubmitJob(context.Background(), api.SubmitJob{Account: "stop", Audience: "followers", Body: "x"})
	x.must(err)
	go x.svc.WatchJob(context.Background(), j.Job, func(api.Job) error { return nil })
	began := time.Now()
	if err := x.srv.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Fatalf("stopping took %s", d)
	}
}

// TestTodaysListHasYesterdaysName submits two packages of one name.
func TestTodaysListHasYesterdaysName(t *testing.T) {
	t.Parallel()
	x := newTrial(t)
	x.cli(nil, "account", "create", "daily")
	for day, list := range []string{"1\n2\n3\n", "2\n3\n4\n5\n", "2\n3\n4\n5\n"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "today.txt")
		x.must(os.WriteFile(file, []byte(list), 0o600))
		x.cli(nil, "package", "build", "--from", "ids", file, "--out", dir)
		var j struct{ Recipients uint64 }
		x.cli(&j, "job", "submit", "--account", "daily", "--package", filepath.Join(dir, "today.crpk"), "--body", fmt.Sprint(day), "--wait")
		if want := uint64(strings.Count(list, "\n")); j.Recipients != want {
			t.Errorf("day %d is sent to %d recipients, the list has %d", day, j.Recipients, want)
		}
	}
	var all []struct{ Name string }
	x.cli(&all, "package", "ls", "--account", "daily")
	if len(all) != 2 || all[0].Name == all[1].Name {
		t.Errorf("the packages are %v, want two with names of their own", all)
	}
}
