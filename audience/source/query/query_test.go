package query

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crier/audience/audiencetest"
	"crier/internal/servers"
	"crier/job"
)

// database makes one of 30,000 users, of whom two thirds are active.
func database(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b?#.db")
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("?", "%3F", "#", "%23", " ", "%20").Replace(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		`CREATE TABLE users (name TEXT, id INTEGER, text_id TEXT, active INTEGER)`,
		`INSERT INTO users WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29999) SELECT 'u' || i, i * 7, CAST(i * 7 AS TEXT), i % 3 > 0 FROM n`,
		`CREATE TABLE odd (id)`,
		`INSERT INTO odd VALUES (1), (NULL)`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestSQLite(t *testing.T) {
	path := database(t)
	var active, everybody []uint32
	for i := range uint32(30_000) {
		everybody = append(everybody, i*7)
		if i%3 > 0 {
			active = append(active, i*7)
		}
	}
	for _, c := range []struct {
		sql, column string
		want        []uint32
		says        string
		code        job.Code
	}{
		{"SELECT id FROM users WHERE active = 1 ORDER BY id", "", active, "", ""},
		{"SELECT text_id FROM users ORDER BY id", "", everybody, "", ""},
		{"SELECT name, id FROM users ORDER BY id", "2", everybody, "", ""},
		{"SELECT name, id FROM users ORDER BY id;", "id", everybody, "", ""},
		{"SELECT id FROM users WHERE id < 0", "", nil, "", ""},
		{"SELECT name, id FROM users", "", nil, `row 1 of the answer cannot be used; nothing was kept`, job.CodeInvalid},
		{"SELECT id FROM odd", "", nil, "row 2 of the answer", job.CodeInvalid},
		{"SELECT -1", "", nil, "row 1", job.CodeInvalid},
		{"SELECT 4294967296", "", nil, "row 1", job.CodeInvalid},
		{"SELECT 1.5", "", nil, "row 1", job.CodeInvalid},
		{"SELECT printf('%.1000000c', '1')", "", nil, "row 1", job.CodeInvalid},
		{"SELECT id FROM users", "name", nil, `no column "name"; it gives id`, job.CodeInvalid},
		{"SELECT id FROM users", "2", nil, `no column "2"`, job.CodeInvalid},
		{"SELECT id FROM nowhere", "", nil, "refuses the query", job.CodeInvalid},
		{"DELETE FROM users", "", nil, "", job.CodeInvalid},
		{"CREATE TABLE more (id)", "", nil, "", job.CodeInvalid},
	} {
		s, err := New(Config{Name: "p", DSN: "sqlite:" + path, SQL: c.sql, Column: c.column})
		if err != nil {
			t.Fatal(err)
		}
		got, err := audiencetest.Read(t.Context(), s, 777)
		if job.CodeOf(err) != c.code || c.says != "" && !strings.Contains(err.Error(), c.says) || len(fmt.Sprint(err)) > 400 {
			t.Errorf("%s: error %v, want %s with %q", c.sql, err, c.code, c.says)
		}
		if c.code == "" && !slices.Equal(got, c.want) {
			t.Errorf("%s: %d ids, want %d", c.sql, len(got), len(c.want))
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Errorf("%s: closing: %v", c.sql, err)
		}
	}
	s, err := New(Config{Name: "p", DSN: "sqlite:" + path, SQL: "SELECT id FROM users ORDER BY id"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := audiencetest.Read(t.Context(), s, 777); err != nil || !slices.Equal(got, everybody) {
		t.Errorf("something of the users is gone: %d, %v", len(got), err)
	}
}

// A query that is stopped in the middle says so, and can be closed.
func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := New(Config{Name: "p", DSN: "sqlite:" + database(t), SQL: "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000000) SELECT i FROM n"})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.NextBatch(ctx, make([]uint32, 100)); n != 100 || err != nil {
		t.Fatalf("%d ids, %v", n, err)
	}
	cancel()
	if _, err := audiencetest.Read(ctx, s, 777); err == nil {
		t.Error("it went on to its end")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for dsn, says := range map[string]string{
		"": "no database that is known", "postgres://x": "no database that is known", "sqlite:": "names no file",
		"mysql:me:hush@nowhere": "cannot be read", "mysql:me:hush@tcp(127.0.0.1:1)/x?tls=hm": "cannot be read",
	} {
		if _, err := New(Config{Name: "p", DSN: dsn, SQL: "SELECT 1"}); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %q", dsn, err, says)
		}
	}
	if _, err := New(Config{Name: "p", DSN: "sqlite:x", SQL: " "}); err == nil {
		t.Error("an empty query is taken")
	}
	for dsn, code := range map[string]job.Code{"sqlite:/nowhere/x.db": job.CodeNotFound, "sqlite:/": job.CodeInvalid, "mysql:me:hush@tcp(127.0.0.1:1)/x": job.CodeUnavailable} {
		s, err := New(Config{Name: "p", DSN: dsn, SQL: "SELECT 1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := audiencetest.Read(t.Context(), s, 777); err == nil || job.CodeOf(err) != code || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", dsn, err)
		}
		s.Close()
	}
}

func TestMariaDB(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := servers.MariaDB(ctx, servers.MariaDBConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	db, err := sql.Open("mysql", server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"CREATE TABLE users (id BIGINT UNSIGNED, name TEXT)", "INSERT INTO users SELECT seq * 7, CONCAT('u', seq) FROM seq_0_to_29999"} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		sql  string
		want int
		says string
	}{
		{"SELECT name, id FROM users WHERE id % 3 = 0", 10_000, ""}, {"SELECT name, CAST(id AS CHAR) AS id FROM users", 30_000, ""},
		{"SELECT NULL AS id", 0, "NULL is no recipient"}, {"SELECT id FROM nowhere", 0, "refuses the query"},
		{"DELETE FROM users", 0, "refuses the query"}, {"SELECT 1 AS id; DELETE FROM users", 0, "refuses the query"}, {"DROP TABLE users", 0, "refuses the query"},
	} {
		s, err := New(Config{Name: "p", DSN: "mysql:" + server.DSN, SQL: c.sql, Column: "id"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := audiencetest.Read(ctx, s, 777)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) || len(got) != c.want {
			t.Errorf("%s: %d ids, %v", c.sql, len(got), err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: closing: %v", c.sql, err)
		}
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM users").Scan(&n); err != nil || n != 30_000 {
		t.Errorf("%d users are left, %v", n, err)
	}
	dsn := strings.Replace(server.DSN, ":", ":hush", 1)
	s, err := New(Config{Name: "p", DSN: "mysql:" + dsn, SQL: "SELECT 1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := audiencetest.Read(ctx, s, 777); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("with a wrong password: %v", err)
	}
}
