package members_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"crier/audience/members"
	"crier/audience/source"
	"crier/internal/testdata"
	"crier/job"
)

// naive reads edges with nothing of the code under test: account → followers.
func naive(t testing.TB, text []byte, skip int) (map[uint32]ids, members.EdgesResult) {
	t.Helper()
	followers, want := map[uint32]ids{}, members.EdgesResult{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 0; lines.Scan(); n++ {
		fields := strings.FieldsFunc(lines.Text(), func(r rune) bool { return strings.ContainsRune(" \t,\r", r) })
		if n < skip || len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		src, err := strconv.ParseUint(fields[0], 10, 32)
		must(t, err)
		dst, err := strconv.ParseUint(fields[1], 10, 32)
		must(t, err)
		want.Edges++
		of := followers[uint32(dst)]
		switch {
		case src == dst:
			want.SelfLoops++
			continue
		case of == nil:
			of = ids{}
			followers[uint32(dst)] = of
		case of[uint32(src)]:
			want.Repeated++
			continue
		}
		of[uint32(src)] = true
		want.Added++
	}
	want.AccountsCreated, want.AccountsTouched = uint64(len(followers)), uint64(len(followers))
	return followers, want
}

// graph gives a real graph's packed bytes and text, or a generated one.
func graph(t testing.TB, name string) (packed, text []byte) {
	t.Helper()
	if path, ok := testdata.Path(t, "graphs/"+name); ok {
		packed, err := os.ReadFile(path)
		must(t, err)
		z, err := gzip.NewReader(bytes.NewReader(packed))
		must(t, err)
		text, err := io.ReadAll(z)
		must(t, err)
		return packed, text
	}
	rng := rand.New(rand.NewPCG(uint64(len(name)), 1))
	var b bytes.Buffer
	b.WriteString("header\n")
	for range 30000 {
		fmt.Fprintf(&b, "%d,%d\n", rng.IntN(2000), int(rng.ExpFloat64()*40))
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err := w.Write(b.Bytes())
	must(t, err)
	must(t, w.Close())
	return z.Bytes(), b.Bytes()
}

// wantFollowers compares the sizes of all sets, and the ids of all of them or, in
// a large graph, of every 20th.
func wantFollowers(t testing.TB, w *world, followers map[uint32]ids) {
	t.Helper()
	if n, err := w.accounts.Count(t.Context()); err != nil || n != uint64(len(followers)) {
		t.Fatalf("%d accounts, %v; want %d", n, err, len(followers))
	}
	sizes := map[uint32]uint64{}
	for from := uint32(0); ; {
		heads, err := w.cfg.Sets.Scan(t.Context(), members.KindFollowers, from, 1000)
		must(t, err)
		for _, h := range heads {
			sizes[h.Owner] = h.Cardinality
		}
		if len(heads) < 1000 {
			break
		}
		from = heads[len(heads)-1].Owner + 1
	}
	if len(sizes) != len(followers) {
		t.Fatalf("%d sets, want %d", len(sizes), len(followers))
	}
	for i, account := range slices.Sorted(maps.Keys(followers)) {
		if sizes[account] != uint64(len(followers[account])) {
			t.Fatalf("account %d has %d followers, want %d", account, sizes[account], len(followers[account]))
		}
		if len(followers) < 20_000 || i%20 == 0 {
			wantOneAccount(t, w, account, followers[account])
		}
	}
}

func wantOneAccount(t testing.TB, w *world, account uint32, want ids) {
	t.Helper()
	r, err := w.Current(t.Context(), members.Followers(account))
	must(t, err)
	n := 0
	for q := range r.Ranges() {
		set, err := r.Range(q)
		must(t, err)
		for id := range set.All() {
			if n++; !want[id] {
				t.Fatalf("%d follows %d, which the graph does not say", id, account)
			}
		}
		set.Release()
	}
	if n != len(want) || r.Cardinality() != uint64(n) {
		t.Fatalf("account %d has %d followers, Cardinality %d, want %d", account, n, r.Cardinality(), len(want))
	}
	must(t, r.Close())
}

func TestRealGraphs(t *testing.T) {
	for name, skip := range map[string]int{
		"email-Eu-core.txt.gz":            0, // accounts from 0, self-loops, spaces
		"musae_facebook_edges.csv.gz":     1, // commas and a header
		"fbpages_government_edges.csv.gz": 1,
		"facebook-combined.jlg.gz":        1,
		"deezer_RO_edges.csv.gz":          1,
	} {
		if raced && (strings.HasPrefix(name, "deezer") || strings.HasPrefix(name, "musae")) {
			continue // the others have the same forms
		}
		t.Run(name, func(t *testing.T) {
			packed, text := graph(t, name)
			if !bytes.HasPrefix(text, []byte("0 ")) {
				skip = 1
			}
			followers, want := naive(t, text, skip)
			w := inMemory(t, nil)
			got, err := w.ImportEdges(t.Context(), bytes.NewReader(packed), members.EdgeOptions{File: name, Skip: skip})
			must(t, err)
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			wantFollowers(t, w, followers)
		})
	}
}

// someLines gives lines from to to of a text, at most as many as there are.
func someLines(text []byte, from, to int) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[min(from, len(lines)):min(to, len(lines))], nil)
}

func TestTheLargeGraphOnDisk(t *testing.T) {
	packed, text := graph(t, "soc-slashdot0902-directed.jlg.gz")
	var in io.Reader = bytes.NewReader(packed)
	if raced {
		text = someLines(text, 0, 20_000)
		in = bytes.NewReader(text)
	}
	followers, want := naive(t, text, 1)
	w := onDisk(t, func(c *members.Config) { c.EdgesInMemory = 9_000 }) // so that it spills
	got, err := w.ImportEdges(t.Context(), in, members.EdgeOptions{Skip: 1})
	must(t, err)
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	wantFollowers(t, w, followers)
	for info := range w.blobs.List(t.Context()) {
		t.Fatalf("a small set became blob %s", info.Digest)
	}

	// A part of it again: nothing is new, no revision is made.
	part := someLines(text, 1000, 30_000)
	again, want := naive(t, part, 0)
	want.Already, want.Added, want.AccountsCreated, want.AccountsTouched = want.Added, 0, 0, 0
	got, err = w.ImportEdges(t.Context(), bytes.NewReader(part), members.EdgeOptions{})
	must(t, err)
	if got != want {
		t.Errorf("again: %+v, want %+v", got, want)
	}
	for account := range again {
		if head, err := w.Head(t.Context(), members.Followers(account)); err != nil || head.Revision != 1 {
			t.Errorf("an import that changes nothing made revision %d, %v", head.Revision, err)
		}
		break
	}
}

// TestManySmallImports imports the parts of a graph one by one, with bounds that
// make snapshots of some of the sets, and compares with the whole.
func TestManySmallImports(t *testing.T) {
	_, text := graph(t, "email-Eu-core.txt.gz")
	if bytes.HasPrefix(text, []byte("header")) {
		text = text[len("header\n"):]
	}
	followers, _ := naive(t, text, 0)
	w := inMemory(t, func(c *members.Config) {
		c.MaxIncrements, c.MaxIncrementBytes, c.MaxChangeBytes, c.EdgesInMemory = 6, 400, 150, 50
	})
	lines := bytes.SplitAfter(text, []byte("\n"))
	var added uint64
	for len(lines) > 0 {
		n := min(len(lines), 2000)
		res, err := w.ImportEdges(t.Context(), bytes.NewReader(bytes.Join(lines[:n], nil)), members.EdgeOptions{})
		must(t, err)
		if sum := res.SelfLoops + res.OtherAccounts + res.Repeated + res.Already + res.Added; sum != res.Edges {
			t.Fatalf("%+v does not add up", res)
		}
		added += res.Added
		lines = lines[n:]
	}
	want := 0
	for _, of := range followers {
		want += len(of)
	}
	if added != uint64(want) {
		t.Errorf("%d followers were added, want %d", added, want)
	}
	wantFollowers(t, w, followers)
	blobs := 0
	for range w.blobs.List(t.Context()) {
		blobs++
	}
	if blobs == 0 {
		t.Error("no set became a snapshot: the test does not reach them")
	}
}

func TestOneAccountOnly(t *testing.T) {
	w := inMemory(t, nil)
	account := uint32(9)
	res, err := w.ImportEdges(t.Context(), strings.NewReader("1 9\n2 8\n9 9\n8 8\n1 9\n3 9\n"), members.EdgeOptions{Account: &account})
	want := members.EdgesResult{Edges: 6, SelfLoops: 2, OtherAccounts: 1, Repeated: 1, Added: 2, AccountsCreated: 1, AccountsTouched: 1}
	if err != nil || res != want {
		t.Errorf("%+v, %v; want %+v", res, err, want)
	}
	wantFollowers(t, w, map[uint32]ids{9: {1: true, 3: true}})
}

func TestFormsOfEdges(t *testing.T) {
	want := map[uint32]ids{2: {1: true, 4294967295: true}, 0: {7: true}}
	for name, text := range map[string]string{
		"spaces":         "1 2\n4294967295 2\n7 0\n",
		"tabs":           "1\t2\n4294967295\t2\n7\t0\n",
		"commas":         "1,2\n4294967295,2\n7,0\n",
		"mixed":          " 1 , 2\t\n4294967295,\t2\n7,,0\n",
		"CRLF":           "1 2\r\n4294967295 2\r\n7 0\r\n",
		"no last end":    "1 2\n4294967295 2\n7 0",
		"comments":       "# a, b\n1 2\n  # more\n\n4294967295 2\n \t \n7 0\n#",
		"zeros in front": "01 0000000000002\n4294967295 2\n0000000000000000000000007 0\n",
		"order mark":     "\xef\xbb\xbf1 2\n4294967295 2\n7 0\n",
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/gz=%v", name, packed), func(t *testing.T) {
				var in io.Reader = strings.NewReader(text)
				if packed {
					var b bytes.Buffer
					z := gzip.NewWriter(&b)
					_, err := z.Write([]byte(text))
					must(t, err)
					must(t, z.Close())
					in = &b
				}
				w := inMemory(t, nil)
				if _, err := w.ImportEdges(t.Context(), iotest.OneByteReader(in), members.EdgeOptions{}); err != nil {
					t.Fatal(err)
				}
				wantFollowers(t, w, want)
			})
		}
	}
	w := inMemory(t, nil)
	res, err := w.ImportEdges(t.Context(), strings.NewReader("x\n"), members.EdgeOptions{Skip: 5})
	if err != nil || res != (members.EdgesResult{}) {
		t.Errorf("more lines skipped than there are: %+v, %v", res, err)
	}
}

func TestRefusedEdges(t *testing.T) {
	long := strings.Repeat("1", 70000)
	for text, where := range map[string][2]int{
		"1 2\n3 -4\n":             {2, 3},
		"1 2\r\n4294967296 1\r\n": {2, 1},
		"1 2\n\n# c\n5\n":         {4, 2},
		"1 2\n5 \n":               {2, 3},
		"1 2 3\n":                 {1, 5},
		"1 2x\n":                  {1, 3},
		"a,b\n":                   {1, 1},
		",1\n":                    {1, 1},
		"1;2\n":                   {1, 1},
		"1 2\n1 2\x00\n":          {2, 3},
		"1 2\n 3  1.5":            {2, 5},
		"1 " + long + "\n":        {1, 1},
		"1 " + long[:100] + "\n":  {1, 3},
		"1 \xff\n":                {1, 3},
	} {
		w := inMemory(t, nil)
		_, err := w.ImportEdges(t.Context(), strings.NewReader("9 8\n"+text), members.EdgeOptions{File: "edges.txt", Skip: 1})
		var at *source.SyntaxError
		if job.CodeOf(err) != job.CodeInvalid || !errors.As(err, &at) {
			t.Errorf("%.40q: %v", text, err)
			continue
		}
		if at.File != "edges.txt" || at.Line != where[0]+1 || at.Column != where[1] {
			t.Errorf("%.40q: %v, want line %d, column %d", text, err, where[0]+1, where[1])
		}
		if len(err.Error()) > 300 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
		wantFollowers(t, w, nil)
	}
}

func TestDamagedGzipKeepsNothing(t *testing.T) {
	packed, _ := graph(t, "email-Eu-core.txt.gz")
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for name, b := range map[string][]byte{"cut short": packed[:len(packed)-3], "checksum": flipped,
		"half": packed[:len(packed)/2], "only the magic": packed[:2]} {
		w := inMemory(t, nil)
		if _, err := w.ImportEdges(t.Context(), bytes.NewReader(b), members.EdgeOptions{Skip: 1}); job.CodeOf(err) != job.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
		wantFollowers(t, w, nil)
	}
	boom := errors.New("the connection broke")
	w := inMemory(t, nil)
	in := io.MultiReader(strings.NewReader("1 2\n"), iotest.ErrReader(boom))
	if _, err := w.ImportEdges(t.Context(), in, members.EdgeOptions{}); !errors.Is(err, boom) {
		t.Errorf("a reader that breaks: %v", err)
	}
	wantFollowers(t, w, nil)
}

func TestTooManyEdges(t *testing.T) {
	w := inMemory(t, func(c *members.Config) { c.EdgesInMemory = 2 })
	_, err := w.ImportEdges(t.Context(), strings.NewReader(strings.Repeat("1 2\n", 2*256+3)), members.EdgeOptions{})
	if job.CodeOf(err) != job.CodeTooLarge {
		t.Errorf("%v", err)
	}
	wantFollowers(t, w, nil)
	res, err := w.ImportEdges(t.Context(), strings.NewReader(strings.Repeat("1 2\n", 2*256+2)), members.EdgeOptions{})
	if want := (members.EdgesResult{Edges: 514, Repeated: 513, Added: 1, AccountsCreated: 1, AccountsTouched: 1}); err != nil || res != want {
		t.Errorf("%+v, %v; want %+v", res, err, want)
	}
}

// dying is a store under a process that dies after so many changes of an append.
type dying struct {
	members.Sets
	after int
}

var errDead = errors.New("the process is dead")

func (d *dying) Append(ctx context.Context, changes iter.Seq2[members.Change, error]) (int, error) {
	left := d.after
	return d.Sets.Append(ctx, func(yield func(members.Change, error) bool) {
		for c, err := range changes {
			if left--; left < 0 {
				yield(c, errDead)
				return
			}
			if !yield(c, err) {
				return
			}
		}
	})
}

func TestAnImportThatDiesKeepsNothing(t *testing.T) {
	packed, text := graph(t, "email-Eu-core.txt.gz")
	skip := 0
	if bytes.HasPrefix(text, []byte("header")) {
		skip = 1
	}
	followers, _ := naive(t, text, skip)
	d := &dying{}
	w := onDisk(t, func(c *members.Config) { // small bounds, so that snapshots are under way too
		d.Sets, c.Sets = c.Sets, d
		c.MaxChangeBytes = 200
	})
	points := []int{len(followers) - 1, 0, 1, 2, 499, 500, 501, len(followers) / 2}
	if raced {
		points = points[:2]
	}
	points = slices.DeleteFunc(points, func(n int) bool { return n >= len(followers) })
	for _, d.after = range points {
		if _, err := w.ImportEdges(t.Context(), bytes.NewReader(packed), members.EdgeOptions{Skip: skip}); !errors.Is(err, errDead) {
			t.Fatalf("after %d changes: %v", d.after, err)
		}
		wantFollowers(t, w, nil)
		for account := range followers {
			if head, err := w.Head(t.Context(), members.Followers(account)); err != nil || head.Revision != 0 {
				t.Fatalf("after %d changes: account %d: %+v, %v", d.after, account, head, err)
			}
		}
	}
	d.after = len(followers)
	_, err := w.ImportEdges(t.Context(), bytes.NewReader(packed), members.EdgeOptions{Skip: skip})
	must(t, err)
	wantFollowers(t, w, followers)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.ImportEdges(ctx, bytes.NewReader(packed), members.EdgeOptions{Skip: skip}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestSpillingToAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("crier-test", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Logf("no small file system (%v): a full scratch directory is tested where one can be mounted", err)
		return
	}
	defer func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) }()
	w := inMemory(t, func(c *members.Config) { c.EdgesInMemory = 10_000 })
	w.cfg.Scratch = dir
	var err error
	w.Store, err = members.New(w.cfg)
	must(t, err)
	var text bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&text, "%d %d\n", i+1, i%7+200_000)
	}
	if _, err := w.ImportEdges(t.Context(), &text, members.EdgeOptions{}); job.CodeOf(err) != job.CodeFull {
		t.Errorf("%v", err)
	}
	wantFollowers(t, w, nil)
	res, err := w.ImportEdges(t.Context(), strings.NewReader("1 2\n"), members.EdgeOptions{})
	if err != nil || res.Added != 1 {
		t.Errorf("a small one afterwards: %+v, %v", res, err)
	}
}

func BenchmarkImportEdges(b *testing.B) {
	packed, _ := graph(b, "soc-slashdot0902-directed.jlg.gz")
	for b.Loop() {
		w := onDisk(b, nil)
		if _, err := w.ImportEdges(b.Context(), bytes.NewReader(packed), members.EdgeOptions{Skip: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
