package soakreal

import (
	"archive/zip"
	"bufio"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"crier/internal/testdata"
)

// zips are the files of the real packages.
var zips = []string{"census1881", "wikileaks-noquotes", "census-income_even", "weather_sept_85_mod4_0"}

// list is one of the lists of ids in the zips.
type list struct {
	name string
	set  []uint32
}

// readIDs reads a list of ids.
func readIDs(text string) (ids []uint32, err error) {
	for _, s := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == '\n' || c == '\r' || c == ' ' }) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, uint32(n))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// choose takes n lists, in turn of each zip, in an order of chance, and writes zips that
// have just these into a directory.
func choose(t *testing.T, n int, dir string) (lists []list, small []string, of int) {
	rng := rand.New(rand.NewPCG(550, 0))
	var files [][]*zip.File
	for _, name := range zips {
		z, err := zip.OpenReader(testdata.Packages(t, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { z.Close() })
		rng.Shuffle(len(z.File), func(i, j int) { z.File[i], z.File[j] = z.File[j], z.File[i] })
		files = append(files, z.File)
		of += len(z.File)
	}
	taken := make([][]*zip.File, len(files))
	for left, k := min(n, of), 0; left > 0; k++ {
		for i := range files {
			if k < len(files[i]) && left > 0 {
				taken[i] = append(taken[i], files[i][k])
				left--
			}
		}
	}
	for i, some := range taken {
		path := filepath.Join(dir, zips[i]+".zip")
		if err := copyOf(path, some); err != nil {
			t.Fatal(err)
		}
		small = append(small, path)
		for _, f := range some {
			set, err := listIn(f)
			if err != nil {
				t.Fatalf("%s in %s: %v", f.Name, zips[i], err)
			}
			base := filepath.Base(f.Name)
			lists = append(lists, list{strings.TrimSuffix(base, filepath.Ext(base)), set})
		}
	}
	rng.Shuffle(len(lists), func(i, j int) { lists[i], lists[j] = lists[j], lists[i] })
	return lists, small, of
}

// copyOf writes a zip of files of another, as they are there.
func copyOf(path string, files []*zip.File) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	for _, one := range files {
		if err := z.Copy(one); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(z.Close(), f.Close())
}

func listIn(f *zip.File) ([]uint32, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return readIDs(string(b))
}

// unzip opens a compressed file, for as long as the test runs.
func unzip(t *testing.T, path string) io.Reader {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// readGraph reads who follows whom, each once and nobody himself, and counts that.
func readGraph(t *testing.T, path string) (followers map[uint32][]uint32, edges int) {
	z := unzip(t, path)
	followers = map[uint32][]uint32{}
	lines := bufio.NewScanner(z)
	lines.Scan() // what the file is
	for lines.Scan() {
		from, to, _ := strings.Cut(lines.Text(), ",")
		src, err := strconv.ParseUint(from, 10, 32)
		dst, err2 := strconv.ParseUint(to, 10, 32)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if src != dst {
			followers[uint32(dst)] = append(followers[uint32(dst)], uint32(src))
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for account, list := range followers {
		slices.Sort(list)
		followers[account] = slices.Compact(list)
		edges += len(followers[account])
	}
	return followers, edges
}

// texts gives n real messages, all different, or n that are made up.
func texts(t *testing.T, n int) (all []string) {
	path, ok := testdata.Path(t, "messages/SMSSpamCollection.part1.tsv")
	if !ok {
		for i := range n {
			all = append(all, fmt.Sprintf("message number %d, which is made up", i))
		}
		return all
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if text = strings.ToValidUTF8(text, "?"); text == "" || seen[text] {
			continue
		}
		seen[text] = true
		if all = append(all, text); len(all) == n {
			return all
		}
	}
	t.Fatalf("%s has %d different messages, want %d", path, len(all), n)
	return nil
}

// byFrequency gives all ids, those that are in the most lists first.
func byFrequency(lists []list) (ids []uint32) {
	var often []uint16
	for _, l := range lists {
		for _, id := range l.set {
			for uint64(len(often)) <= uint64(id) {
				often = append(often, make([]uint16, len(often)+1024)...)
			}
			often[id]++
		}
	}
	for id, n := range often {
		if n > 0 {
			ids = append(ids, uint32(id))
		}
	}
	slices.SortStableFunc(ids, func(a, b uint32) int { return cmp.Compare(often[b], often[a]) })
	return ids
}

// asText writes ids as a file of them has them.
func asText(ids []uint32) io.Reader {
	var b []byte
	for _, id := range ids {
		b = append(strconv.AppendUint(b, uint64(id), 10), '\n')
	}
	return strings.NewReader(string(b))
}

// every gives each so many-th of the ids.
func every(ids []uint32, nth int) (some []uint32) {
	for i := nth / 2; i < len(ids); i += nth {
		some = append(some, ids[i])
	}
	return some
}
