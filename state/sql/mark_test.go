package sql_test

import (
	"strings"
	"sync"
	"testing"

	"crier/state/sql"
	"crier/state/sql/sqltest"
)

// A database has one mark, the first, however many clusters set theirs at the same moment; all
// of them are told which it is.
func TestADatabaseIsOneClusters(t *testing.T) {
	t.Parallel()
	dsn := sqltest.MariaDB(t)
	if mark, err := sql.ReadMark(t.Context(), dsn); err != nil || mark != "" {
		t.Fatalf("of a new database: %q, %v", mark, err)
	}
	db := openConfig(t, sql.Config{DSN: dsn})
	got := make([]string, 8)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = db.SetMark(t.Context(), strings.Repeat(string(rune('a'+i/2)), 32)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mark, err := sql.ReadMark(t.Context(), dsn)
	if err != nil || len(mark) != 32 {
		t.Fatalf("the mark is %q, %v", mark, err)
	}
	for i, m := range got {
		if m != mark {
			t.Errorf("process %d was told %q, and it is %q", i, m, mark)
		}
	}
}

// A table of marks that an older program made takes its cluster's mark again, and no other.
func TestAnOlderMarkIsKept(t *testing.T) {
	t.Parallel()
	dsn := sqltest.MariaDB(t)
	db := openConfig(t, sql.Config{DSN: dsn})
	pool, old, other := raw(t, dsn), strings.Repeat("b", 32), strings.Repeat("a", 32)
	do(t, pool, `CREATE TABLE cluster_mark (mark CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY)`)
	do(t, pool, `INSERT INTO cluster_mark (mark) VALUES (?)`, old)
	for _, mark := range []string{old, other} {
		if got, err := db.SetMark(t.Context(), mark); err != nil || got != old {
			t.Errorf("after setting %q it is %q, %v", mark, got, err)
		}
	}
}
