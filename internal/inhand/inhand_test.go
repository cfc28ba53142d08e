package inhand_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"crier/internal/guard"
	"crier/internal/inhand"
	"crier/job"
)

func open(t *testing.T, path string) *inhand.Book {
	t.Helper()
	b, err := inhand.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// dies has some work in hand together when its process dies: what the file is then is what
// the next one finds.
func dies(t *testing.T, path string, all ...inhand.Work) {
	t.Helper()
	b := open(t, path)
	var left []byte
	var nest func(int) error
	nest = func(i int) (err error) {
		if i == len(all) {
			left, err = os.ReadFile(path)
			return errors.Join(err, errors.New("it is not done"))
		}
		return b.Do(t.Context(), all[i], func() error { return nest(i + 1) })
	}
	if err := nest(0); err == nil || left == nil {
		t.Fatalf("%v is not begun: %v", all, err)
	}
	if err := os.WriteFile(path, left, 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	bad   = inhand.Work{Kind: inhand.Block, Job: job.ID{1}, At: 64}
	other = inhand.Work{Kind: inhand.Block, Job: job.ID{2}, At: 64}
)

func fine() error { return nil }

// What is in hand at each of five deaths is not begun again; what went well between, failed,
// or was in hand once only, is.
func TestDeathsInARow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inhand")
	once, failed := bad, bad
	once.At, failed.Kind = 128, inhand.Asked
	for n := 1; n <= 5; n++ {
		if n == 2 {
			dies(t, path, bad, once)
		} else {
			dies(t, path, bad)
		}
		b := open(t, path)
		if err := b.Do(t.Context(), failed, func() error { return errors.New("the store is away") }); err == nil {
			t.Error("an error is lost")
		}
		if err := b.Do(t.Context(), other, fine); err != nil {
			t.Error(err)
		}
		if got := b.Deaths(bad); got != n {
			t.Errorf("death %d is counted as %d", n, got)
		}
		if b.Deaths(other)+b.Deaths(failed) != 0 {
			t.Error("what was not in hand is counted")
		}
		b.Close()
	}
	b := open(t, path)
	err := b.Do(t.Context(), bad, func() error { t.Error("it is begun again"); return nil })
	if guard.Of(err) == nil || !strings.Contains(err.Error(), "died 5 times") {
		t.Errorf("it is refused by %v", err)
	}
	if n := b.Deaths(once); n != 1 {
		t.Errorf("what was in hand once is counted %d times", n)
	}
	if err := b.Do(t.Context(), once, fine); err != nil || b.Deaths(once) != 0 {
		t.Errorf("it went well, and is counted %d times: %v", b.Deaths(once), err)
	}
	again := bad
	again.Again = 7
	if err := b.Do(t.Context(), again, fine); err != nil {
		t.Errorf("after the quarantine was ended: %v", err)
	}
	b.Forget(func(id job.ID) bool { return id != bad.Job })
	b.Close()
	if n := open(t, path).Deaths(bad); n != 0 {
		t.Errorf("of a job that is over %d deaths are counted", n)
	}
}

// A panic is no death: whoever guards the work counts it.
func TestPanicIsNoDeath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inhand")
	b := open(t, path)
	for range 9 {
		if err := guard.Run(func() error { return b.Do(t.Context(), bad, func() error { panic("x") }) }); guard.Of(err) == nil {
			t.Error(err)
		}
	}
	b.Close()
	if n := open(t, path).Deaths(bad); n != 0 {
		t.Errorf("%d deaths", n)
	}
}

// Of what the process may have died of, one is in hand at a time; the rest goes on.
func TestSuspectsAreAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inhand")
	dies(t, path, bad, other)
	synctest.Test(t, func(t *testing.T) {
		b := open(t, path)
		in, leave := 0, make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 2)
		for _, w := range []inhand.Work{bad, other} {
			go func() {
				results <- b.Do(ctx, w, func() error { in++; <-leave; return nil })
			}()
		}
		synctest.Wait()
		if in != 1 {
			t.Errorf("%d are in hand together", in)
		}
		third := inhand.Work{Kind: inhand.Block, Job: job.ID{3}}
		asked := bad
		asked.Kind = inhand.Asked
		for _, w := range []inhand.Work{third, asked} {
			if err := b.Do(ctx, w, fine); err != nil {
				t.Errorf("%v waits for them: %v", w, err)
			}
		}
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("who waits ends with %v", err)
		}
		close(leave)
		if err := <-results; err != nil {
			t.Error(err)
		}
		if b.Deaths(bad)+b.Deaths(other) != 1 {
			t.Errorf("%d and %d deaths; one went well", b.Deaths(bad), b.Deaths(other))
		}
	})
}

// Whatever the file is, work is done.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inhand")
	dies(t, path, bad)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.IndexFunc(whole, func(r rune) bool { return r != 0 })
	for name, data := range map[string][]byte{"empty": nil, "cut": whole[:at+20], "text": []byte(strings.Repeat("no slot. ", 9999)), "longer": append(bytes.Clone(whole), 1, 2, 3)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(t, path)
		if err := b.Do(t.Context(), bad, fine); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.Close()
	}
	for i := at; i < at+48; i++ { // every byte counts
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x40
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(t, path)
		if b.Deaths(bad) != 0 {
			t.Errorf("byte %d is flipped, and it is read", i-at)
		}
		b.Close()
	}
}

// When nothing more can be written down, work goes on uncounted; a nil book counts nothing.
func TestFullBook(t *testing.T) {
	b := open(t, filepath.Join(t.TempDir(), "inhand"))
	var nest func(int) error
	nest = func(i int) error {
		if i == inhand.Slots+10 {
			return nil
		}
		return b.Do(t.Context(), inhand.Work{Kind: inhand.Block, At: uint64(i)}, func() error { return nest(i + 1) })
	}
	for range 3 {
		if err := nest(0); err != nil {
			t.Fatal(err)
		}
	}
	var none *inhand.Book
	if err := none.Do(t.Context(), bad, func() error { return fmt.Errorf("x") }); err == nil || none.Deaths(bad) != 0 {
		t.Error("a nil book")
	}
	none.Forget(nil)
}
