package sql_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"crier/state/sql"
	"crier/state/sql/sqltest"
)

// BenchmarkGuardedUpdate measures the bare statement that moves a row from one version
// to the next, each synced, without the store around it: serial and from 16 sides, the
// arguments written into the statement or prepared for, without and with a trigger
// that writes an event.
func BenchmarkGuardedUpdate(b *testing.B) {
	dsn := sqltest.MariaDB(b)
	openConfig(b, sql.Config{DSN: dsn})
	setup := raw(b, dsn)
	do(b, setup, `CREATE TABLE bare (id CHAR(30) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, version BIGINT NOT NULL, state VARCHAR(30) NOT NULL)`)
	for i := range 16 {
		do(b, setup, `INSERT INTO bare VALUES (?, 0, 'sending')`, fmt.Sprint("job_", i))
		do(b, setup, `INSERT INTO slices VALUES (?, 0, 0, 'sending', '', 0, 1)`, fmt.Sprint("job_", i))
	}
	tables := map[string]string{
		"bare":    `UPDATE bare SET version = ?, state = 'sent' WHERE id = ? AND version = ?`,
		"trigger": `UPDATE slices SET version = ?, state = 'sent' WHERE job = ? AND number = 0 AND version = ?`,
	}
	versions := map[string]*[16]int{"bare": {}, "trigger": {}}
	for _, table := range []string{"bare", "trigger"} {
		for _, way := range []string{"interpolated", "prepared"} {
			for _, sides := range []int{1, 16} {
				cfg, err := mysql.ParseDSN(dsn)
				if err != nil {
					b.Fatal(err)
				}
				cfg.InterpolateParams, cfg.ClientFoundRows = way == "interpolated", true
				pool := raw(b, cfg.FormatDSN())
				pool.SetMaxIdleConns(sides)
				b.Run(fmt.Sprintf("%s/%s/%d", table, way, sides), func(b *testing.B) {
					var left atomic.Int64
					left.Store(int64(b.N))
					began := time.Now()
					var work sync.WaitGroup
					for i := range sides {
						work.Go(func() {
							for v := &versions[table][i]; left.Add(-1) >= 0; *v++ {
								res, err := pool.Exec(tables[table], *v+1, fmt.Sprint("job_", i), *v)
								if err != nil {
									b.Error(err)
									return
								}
								if n, err := res.RowsAffected(); n != 1 || err != nil {
									b.Errorf("%d rows, %v", n, err)
									return
								}
							}
						})
					}
					work.Wait()
					b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "updates/s")
				})
			}
		}
	}
}
