package sql_test

import (
	dbsql "database/sql"
	"os"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"crier/job"
	"crier/state/sql"
	"crier/state/sql/access"
)

// TestWhatWasThereIsTheDefaultTenants migrates a database that has accounts and jobs from
// before there were tenants.
func TestWhatWasThereIsTheDefaultTenants(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cfg sql.Config, direct *dbsql.DB) {
		dialect, dir := goose.DialectSQLite3, "migrations/sqlite"
		if cfg.DSN != "" {
			dialect, dir = goose.DialectMySQL, "migrations/mysql"
		}
		old, err := goose.NewProvider(dialect, direct, os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := old.UpTo(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		sp := specOf(1)
		do(t, direct, `INSERT INTO accounts (number, name, created_at) VALUES (7, 'news', 1), (9, '9', 2)`)
		do(t, direct, `INSERT INTO jobs (id, version, account, state, ended, reason, spec, submitted_at, state_at, counts, counts_as_of)
			VALUES (?, 1, 7, 'submitted', 0, '', ?, 5, 5, '{}', 0)`, sp.ID.String(), `{"id":"`+sp.ID.String()+`","account":7}`)
		db := openConfig(t, cfg)
		house := db.Accounts.Of(job.DefaultTenant)
		for _, name := range []string{"news", "7", "9"} {
			if a, err := house.Find(t.Context(), name); err != nil || a.Tenant != job.DefaultTenant {
				t.Errorf("%s is %+v, %v", name, a, err)
			}
		}
		list, _, err := db.Jobs.Of(job.DefaultTenant).List(t.Context(), sql.JobFilter{})
		if err != nil || len(list) != 1 || list[0].Spec.TenantOf() != job.DefaultTenant {
			t.Errorf("its jobs are %+v, %v", list, err)
		}
		if _, err := house.Create(t.Context(), "news", nil); job.CodeOf(err) != job.CodeConflict {
			t.Errorf("a name twice: %v", err)
		}
		if a, err := db.Accounts.Of("acme").Create(t.Context(), "news", nil); err != nil || a.Number != 1 {
			t.Errorf("another tenant's account of that name: %+v, %v", a, err)
		}
	})
}

// TestTheAuditLogIsOnlyAppendedTo goes around the store, with the rights that it has.
func TestTheAuditLogIsOnlyAppendedTo(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, cfg sql.Config, direct *dbsql.DB) {
		db := openConfig(t, cfg)
		want := access.Act{ID: "1", Tenant: "default", Key: "key_1", Operation: "create-account", Object: "account/1", Result: access.Done}
		if err := db.Access.Record(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{`UPDATE audit SET key_id = 'another'`, `DELETE FROM audit`} {
			if _, err := direct.Exec(q); err == nil || !strings.Contains(err.Error(), "only appended") {
				t.Errorf("%s: %v", q, err)
			}
		}
		list, err := db.Access.List(t.Context(), access.Filter{Limit: 9})
		if want.Seq = 1; err != nil || len(list) != 1 || list[0] != want {
			t.Errorf("the log has %+v, %v", list, err)
		}
	})
}
