package testdata

import (
	"archive/zip"
	"compress/gzip"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Packages gives the path of a real zip of id lists, or of one of 200 lists that are made
// up, some clustered and some spread, as the real ones are.
func Packages(t testing.TB, name string) string {
	t.Helper()
	if path, ok := Path(t, "recipients/"+name+".zip"); ok {
		return path
	}
	rng := rand.New(rand.NewPCG(uint64(len(name)), 200))
	path := filepath.Join(t.TempDir(), name+".zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for i := range 200 {
		w, err := z.Create(fmt.Sprintf("%s/%s-%d.txt", name, name, i))
		if err != nil {
			t.Fatal(err)
		}
		id, gap := rng.Uint32N(1000), 1+rng.Uint32N(1<<rng.IntN(12))
		for n := range 1 + rng.IntN(3000) {
			if n > 0 {
				fmt.Fprint(w, ",")
			}
			fmt.Fprint(w, id)
			id += 1 + rng.Uint32N(gap)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// Graph gives the path of the real graph of followers, or of one that is made up in its
// format: a few accounts have many followers, most have few.
func Graph(t testing.TB) string {
	t.Helper()
	if path, ok := Path(t, "graphs/soc-slashdot0902-directed.jlg.gz"); ok {
		return path
	}
	rng := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(t.TempDir(), "made.jlg.gz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	fmt.Fprintln(z, "20000,100000,d")
	edges := map[[2]int]bool{}
	for len(edges) < 100_000 {
		e := [2]int{1 + rng.IntN(20_000), 1 + int(20_000*math.Pow(rng.Float64(), 6))}
		if !edges[e] {
			edges[e] = true
			fmt.Fprintf(z, "%d,%d\n", e[0], e[1])
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
