package source

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"crier/audience"
	"crier/audience/audiencetest"
	"crier/internal/testdata"
	"crier/job"
)

// folder makes files in a new directory.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// member is an entry of a zip that a test makes.
type member struct {
	name, text string
	mode       fs.FileMode
}

func makeZip(t testing.TB, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
		if m.mode != 0 {
			h.SetMode(m.mode)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// files lists all files below a directory.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			list = append(list, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return list
}

// contents reads a package.
func contents(t *testing.T, path string) []uint32 {
	t.Helper()
	s, err := audience.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	ids, err := audiencetest.Read(context.Background(), NewFollowers("x", s), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func bitmapText(t testing.TB, ids ...uint32) string {
	b, err := roaring.BitmapOf(ids...).ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestBuildFromEachFormat(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.txt": "3\n1\n2\n3\n", "sub/b.c.list": "7,5\r\n6", "noext": "9", "t.csv": "x,id\n1,8\n2,9\n",
		"r.bin": bitmapText(t, 4, 70000),
		"z.zip": makeZip(t, member{name: "one.txt", text: "1,2"}, member{name: "d/", mode: fs.ModeDir | 0o755},
			member{name: "d/two.bin", text: bitmapText(t, 5)}, member{name: "three.csv", text: "id,n\n6,x\n"}, member{name: "four", text: bitmapText(t, 7, 8)}),
		"zc.zip": makeZip(t, member{name: "only.txt", text: "a,b\n1,2\n"}),
	})
	in := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(dir, n))
		}
		return paths
	}
	for what, c := range map[string]struct {
		cfg  Config
		want map[string][]uint32
	}{
		"ids":           {Config{From: FormatIDs, Files: in("a.txt", "sub/b.c.list", "noext")}, map[string][]uint32{"a": {1, 2, 3}, "b.c": {5, 6, 7}, "noext": {9}}},
		"named":         {Config{From: FormatIDs, Files: in("a.txt"), Name: "N"}, map[string][]uint32{"N": {1, 2, 3}}},
		"csv":           {Config{From: FormatCSV, Files: in("t.csv"), Column: "id"}, map[string][]uint32{"t": {8, 9}}},
		"csv, no":       {Config{From: FormatCSV, Files: in("t.csv")}, map[string][]uint32{"t": {1, 2}}},
		"roaring":       {Config{From: FormatRoaring, Files: in("r.bin")}, map[string][]uint32{"r": {4, 70000}}},
		"zip":           {Config{From: FormatZip, Files: in("z.zip")}, map[string][]uint32{"one": {1, 2}, "two": {5}, "three": {6}, "four": {7, 8}}},
		"zip, column":   {Config{From: FormatZip, Files: in("zc.zip"), Column: "b"}, map[string][]uint32{"only": {2}}},
		"zip, named":    {Config{From: FormatZip, Files: in("zc.zip"), Column: "1", Name: "N"}, map[string][]uint32{"N": {1}}},
		"stdin":         {Config{From: FormatIDs, Files: []string{"-"}, Stdin: strings.NewReader("4\n4")}, map[string][]uint32{"stdin": {4}}},
		"stdin, named":  {Config{From: FormatIDs, Files: []string{"-"}, Name: "N", Stdin: strings.NewReader("4")}, map[string][]uint32{"N": {4}}},
		"zip in stdin":  {Config{From: FormatZip, Files: []string{"-"}, Stdin: strings.NewReader(makeZip(t, member{name: "m.txt", text: "3"}))}, map[string][]uint32{"m": {3}}},
		"stdin and one": {Config{From: FormatIDs, Files: append(in("a.txt"), "-"), Stdin: strings.NewReader("")}, map[string][]uint32{"a": {1, 2, 3}, "stdin": nil}},
	} {
		out := filepath.Join(t.TempDir(), "new")
		infos, err := Build(context.Background(), c.cfg, out)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if len(infos) != len(c.want) || len(files(t, out)) != len(c.want) {
			t.Errorf("%s: %d packages, files %q, want %d", what, len(infos), files(t, out), len(c.want))
		}
		for _, info := range infos {
			want := c.want[info.Name]
			got := contents(t, filepath.Join(out, info.Name+".crpk"))
			if !slices.Equal(got, want) || info.Cardinality != uint64(len(want)) {
				t.Errorf("%s: package %s has %v, want %v", what, info.Name, got, want)
			}
			if info.Name == "a" && info.Repeated != 1 {
				t.Errorf("%s: %d ids were repeated, want 1", what, info.Repeated)
			}
		}
	}
}

// TestRefusalsLeaveNothing: each row has good files, built before or after the
// bad one.
func TestRefusalsLeaveNothing(t *testing.T) {
	dir := folder(t, map[string]string{
		"good.txt": "1\n2\n", "bad.txt": "1\nx\n", "sub/good.csv": "1", "r64.bin": string(make([]byte, 8)),
		"collide.zip": makeZip(t, member{name: "a.txt", text: "1"}, member{name: "d/a.csv", text: "2"}),
		"badlast.zip": makeZip(t, member{name: "a.txt", text: "1"}, member{name: "b.txt", text: "-2"}),
		"empty.zip":   makeZip(t), "cut.zip": makeZip(t, member{name: "a.txt", text: "1"})[:40],
		"nested.zip": makeZip(t, member{name: "n.txt", text: makeZip(t, member{name: "a", text: "1"})}),
		".csv":       "1",
		"ctl\n.txt":  "1",
	})
	in := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(dir, n))
		}
		return paths
	}
	for what, c := range map[string]struct {
		cfg  Config
		code job.Code
		says string
	}{
		"bad id":        {Config{From: FormatIDs, Files: in("good.txt", "bad.txt")}, job.CodeInvalid, "bad.txt: line 2, column 1"},
		"collision":     {Config{From: FormatIDs, Files: in("good.txt", "sub/good.csv")}, job.CodeConflict, `"good"`},
		"in zip":        {Config{From: FormatZip, Files: in("collide.zip")}, job.CodeConflict, `"a"`},
		"zips":          {Config{From: FormatZip, Files: in("badlast.zip", "collide.zip")}, job.CodeConflict, `"a"`},
		"member":        {Config{From: FormatZip, Files: in("badlast.zip")}, job.CodeInvalid, "badlast.zip:b.txt: line 1, column 1"},
		"empty zip":     {Config{From: FormatZip, Files: in("empty.zip")}, job.CodeInvalid, "no file"},
		"cut zip":       {Config{From: FormatZip, Files: in("cut.zip")}, job.CodeInvalid, "cut.zip"},
		"no zip":        {Config{From: FormatZip, Files: in("good.txt")}, job.CodeInvalid, "good.txt"},
		"nested":        {Config{From: FormatZip, Files: in("nested.zip")}, job.CodeInvalid, "zip inside a zip"},
		"64 bits":       {Config{From: FormatRoaring, Files: in("r64.bin")}, job.CodeInvalid, "64-bit"},
		"text, roaring": {Config{From: FormatRoaring, Files: in("good.txt")}, job.CodeInvalid, "good.txt"},
		"missing":       {Config{From: FormatIDs, Files: in("good.txt", "none")}, job.CodeNotFound, "none"},
		"directory":     {Config{From: FormatIDs, Files: in("sub")}, job.CodeInvalid, "directory"},
		"no name":       {Config{From: FormatIDs, Files: in(".csv")}, job.CodeInvalid, "name"},
		"control":       {Config{From: FormatIDs, Files: in("ctl\n.txt")}, job.CodeInvalid, "control"},
		"names":         {Config{From: FormatIDs, Files: in("good.txt", "sub/good.csv"), Name: "n"}, job.CodeInvalid, "--name"},
		"bad name":      {Config{From: FormatIDs, Files: in("good.txt"), Name: "a/b"}, job.CodeInvalid, "separator"},
		"stdin twice":   {Config{From: FormatIDs, Files: []string{"-", "-"}, Stdin: strings.NewReader("1")}, job.CodeConflict, "standard input"},
		"no files":      {Config{From: FormatIDs}, job.CodeInvalid, "no file"},
		"format":        {Config{From: "xml", Files: in("good.txt")}, job.CodeInvalid, `"xml"`},
		"column":        {Config{From: FormatIDs, Files: in("good.txt"), Column: "1"}, job.CodeInvalid, "column"},
		"column 0":      {Config{From: FormatZip, Files: in("badlast.zip"), Column: "0"}, job.CodeInvalid, "column"},
	} {
		out := t.TempDir()
		_, err := Build(context.Background(), c.cfg, filepath.Join(out, "new"))
		if job.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s and %q", what, err, c.code, c.says)
		}
		if got := files(t, out); got != nil {
			t.Errorf("%s left %q", what, got)
		}
	}
}

func TestHostileZips(t *testing.T) {
	name := func(n string) string { return makeZip(t, member{name: n, text: "1"}) }
	whole := makeZip(t, member{name: "a.txt", text: strings.Repeat("123456\n", 9)})
	huge := []byte(whole) // says that its member has 2^32 − 2 bytes
	dirAt := strings.Index(whole, "PK\x01\x02")
	binary.LittleEndian.PutUint32(huge[dirAt+24:], 1<<32-2)
	locked := []byte(whole)
	locked[dirAt+8] |= 1
	method := []byte(whole)
	method[dirAt+10] = 99
	flipped := []byte(whole)
	flipped[40] ^= 0x10
	for what, z := range map[string]string{
		"parent": name("../a.txt"), "inside parent": name("a/../../b.txt"), "absolute": name("/etc/a.txt"), "backslash": name(`..\a.txt`),
		"drive": name(`C:\a.txt`), "control": name("a\x1b[2Jb.txt"), "control above": name("\x1bd/b.txt"), "not UTF-8": name("\xff\xfe.txt"), "only an extension": name(".txt"),
		"long": name(strings.Repeat("x", 129) + ".txt"), "symlink": makeZip(t, member{"a.txt", "/etc/passwd", fs.ModeSymlink | 0o777}),
		"huge": string(huge), "encrypted": string(locked), "unknown method": string(method), "flipped": string(flipped),
	} {
		dir := folder(t, map[string]string{"in/x.zip": z})
		_, err := Build(context.Background(), Config{From: FormatZip, Files: []string{filepath.Join(dir, "in", "x.zip")}}, filepath.Join(dir, "out"))
		if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "x.zip") {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Errorf("%s: the error repeats control characters: %q", what, err)
		}
		if got := files(t, dir); !slices.Equal(got, []string{"in", "in/x.zip"}) {
			t.Errorf("%s left %q", what, got)
		}
	}
}

// TestZipDirectoryIsBounded: an archive of nothing but directory entries, more
// than it says it has.
func TestZipDirectoryIsBounded(t *testing.T) {
	entry := make([]byte, 46+1)
	copy(entry, "PK\x01\x02")
	entry[28] = 1
	entry[46] = 'a'
	const n = 1 << 19
	b := bytes.Repeat(entry, n)
	end := make([]byte, 22)
	copy(end, "PK\x05\x06")
	binary.LittleEndian.PutUint16(end[8:], n&0xffff)
	binary.LittleEndian.PutUint16(end[10:], n&0xffff)
	binary.LittleEndian.PutUint32(end[12:], uint32(len(b)))
	b = append(b, end...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readZip("x.zip", bytes.NewReader(b), int64(len(b)))
	runtime.ReadMemStats(&after)
	if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "16 MiB") {
		t.Error(err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 200<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

// TestZipMembersElsewhere: a zip whose directory says that a member lies before the
// start of the file, as when it lacks its middle, or behind the end, is damaged.
func TestZipMembersElsewhere(t *testing.T) {
	whole := makeZip(t, member{name: "a.txt", text: "1"}, member{name: "b.txt", text: strings.Repeat("2\n", 99)})
	behind := []byte(whole)
	entry := bytes.Index(behind, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(behind[entry+42:], 1<<20)
	for what, zip := range map[string]string{"before": whole[:40] + whole[60:], "behind": string(behind)} {
		dir := folder(t, map[string]string{"x.zip": zip})
		out := filepath.Join(dir, "out")
		_, err := Build(context.Background(), Config{From: FormatZip, Files: []string{filepath.Join(dir, "x.zip")}}, out)
		if job.CodeOf(err) != job.CodeInvalid || !strings.Contains(err.Error(), "x.zip:a.txt") || files(t, out) != nil {
			t.Errorf("%s: %v, with %q", what, err, files(t, out))
		}
	}
}

func TestMalformedFilesAreRefusedByBuild(t *testing.T) {
	for name, b := range hostile(t) {
		dir := folder(t, map[string]string{"f.bin": string(b), "f.zip": makeZip(t, member{name: "ok.txt", text: "1"}, member{name: "f.bin", text: string(b)})})
		for _, cfg := range []Config{
			{From: FormatRoaring, Files: []string{filepath.Join(dir, "f.bin")}},
			{From: FormatZip, Files: []string{filepath.Join(dir, "f.zip")}},
		} {
			out := filepath.Join(dir, "out")
			if _, err := Build(context.Background(), cfg, out); job.CodeOf(err) != job.CodeInvalid {
				t.Errorf("%s from %s: %v", name, cfg.From, err)
			}
			if got := files(t, out); got != nil {
				t.Errorf("%s from %s left %q", name, cfg.From, got)
			}
		}
	}
}

// TestRealPackages builds all packages of the real data and compares totals with
// what is known of them, and the smaller half of the sets with a naive reading.
func TestRealPackages(t *testing.T) {
	for name, want := range map[string]struct{ sets, ids, compared int }{
		"census1881.zip": {200, 1_003_861, 1 << 16}, "wikileaks-noquotes.zip": {200, 275_355, 1 << 16},
		"census-income_even.zip": {100, 3_407_025, 1 << 12}, "weather_sept_85_mod4_0.zip": {50, 1_579_266, 1 << 12},
	} {
		path, ok := testdata.Path(t, "recipients/"+name)
		if !ok {
			path, want.sets, want.ids = generatedZip(t)
		}
		out := t.TempDir()
		infos, err := Build(context.Background(), Config{From: FormatZip, Files: []string{path}}, out)
		if err != nil {
			t.Fatal(err)
		}
		z, err := zip.OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for i, f := range z.File {
			info := infos[i]
			if info.Name != strings.TrimSuffix(f.Name, ".txt") {
				t.Fatalf("package %d of %s is %q, want %q", i, name, info.Name, f.Name)
			}
			total += int(info.Cardinality)
			if f.UncompressedSize64 < uint64(want.compared) {
				compareMember(t, f, info, filepath.Join(out, info.Name+".crpk"))
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if len(infos) != want.sets || total != want.ids {
			t.Errorf("%s: %d sets, %d ids, want %+v", name, len(infos), total, want)
		}
	}
}

// compareMember compares a package with a naive reading of the zip's member.
func compareMember(t *testing.T, f *zip.File, info audience.Info, path string) {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	ids, ok := naive(text.String())
	slices.Sort(ids)
	given := len(ids)
	ids = slices.Compact(ids)
	if !ok || info.Cardinality != uint64(len(ids)) || info.Repeated != uint64(given-len(ids)) {
		t.Fatalf("%s: %+v, want %d ids", f.Name, info, len(ids))
	}
	if got := contents(t, path); !slices.Equal(got, ids) {
		t.Fatalf("%s: the package has other ids", f.Name)
	}
}

// generatedZip stands in for the real data.
func generatedZip(t *testing.T) (path string, sets, ids int) {
	rng := rand.New(rand.NewPCG(1, 1))
	var members []member
	for i := range 20 {
		var text []string
		for id := rng.Uint32N(1000); len(text) < 3000; id += 1 + rng.Uint32N(500) {
			text = append(text, fmt.Sprint(id))
		}
		ids += len(text)
		members = append(members, member{name: fmt.Sprintf("set%d.txt", i), text: strings.Join(text, ",")})
	}
	dir := folder(t, map[string]string{"g.zip": makeZip(t, members...)})
	return filepath.Join(dir, "g.zip"), len(members), ids
}

// TestRealBitmapsAndLists builds from the real bitmaps and id lists.
func TestRealBitmapsAndLists(t *testing.T) {
	for name, want := range map[string]uint64{
		"valid32/bitmapwithruns.bin": 200100, "valid32/bitmapwithoutruns.bin": 200100, "valid32/mixed.portable": 188546, "valid32/arrays_only.portable": 132,
		"idlists/testIssue260.txt": 0, "idlists/offset_failure_case_1.txt": 0, "idlists/offset_failure_case_3.txt": 0,
	} {
		path, ok := testdata.Path(t, "roaring/"+name)
		if !ok {
			continue // generated ones are in the tests above
		}
		cfg := Config{From: FormatRoaring, Files: []string{path}}
		if want == 0 {
			cfg.From = FormatIDs
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			ids, _ := naive(string(b))
			want = roaring.BitmapOf(ids...).GetCardinality()
		}
		infos, err := Build(context.Background(), cfg, t.TempDir())
		if err != nil || infos[0].Cardinality != want {
			t.Errorf("%s: %+v, want %d ids (%v)", name, infos, want, err)
		}
	}
}
