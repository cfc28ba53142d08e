package engine

import (
	"context"
	dbsql "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"crier/job"
)

const (
	// connections is the most that are open to MySQL, and idle those that stay so.
	connections, idle = 32, 16
	// dialTimeout bounds the making of a TCP connection.
	dialTimeout = 2 * time.Second
	// migrateWait bounds one statement of a migration, which may copy a table.
	migrateWait = 10 * time.Minute
)

// The numbers of MySQL's errors, which MariaDB shares.
const (
	myErrorOnWrite    = 1026
	myGetErrno        = 1030
	myDiskFull        = 1021
	myTooManyConns    = 1040
	myAccessDeniedDB  = 1044
	myAccessDenied    = 1045
	myUnknownDatabase = 1049
	myShutdown        = 1053
	myDuplicate       = 1062
	myTableFull       = 1114
	myLockWait        = 1205
	myDeadlock        = 1213
	myReadOnly        = 1290
	myBinlogTrust     = 1419
	myInterrupted     = 1317
	mySocketDenied    = 1698
	myKilled          = 1927 // MariaDB: the connection was killed
)

var mysqlDialect = dialect{
	folder:       "mysql",
	insertIgnore: "INSERT IGNORE",
	forUpdate:    " FOR UPDATE",
	skipLocked:   " FOR UPDATE SKIP LOCKED",
	duplicate:    func(err error) bool { return mysqlCode(err) == myDuplicate },
	full: func(err error) bool {
		var e *mysql.MySQLError
		if !errors.As(err, &e) {
			return false
		}
		switch e.Number {
		case myDiskFull, myTableFull:
			return true
		case myErrorOnWrite, myGetErrno:
			return strings.Contains(e.Message, "28") || strings.Contains(e.Message, "No space left")
		}
		return false
	},
	again: func(err error) bool { return mysqlCode(err) == myDeadlock || mysqlCode(err) == myLockWait },
	cut:   mysqlCut,
}

// mysqlCode is the number of the server's error in a chain of errors, or 0.
func mysqlCode(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// mysqlCut reports whether there was no answer, or none of a server that works.
func mysqlCut(err error) bool {
	switch mysqlCode(err) {
	case myTooManyConns, myShutdown, myReadOnly, myInterrupted, myKilled:
		return true
	}
	var n net.Error
	return errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) || errors.As(err, &n) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, dbsql.ErrTxDone)
}

// parseDSN reads a DSN and sets what the store relies on, whatever the DSN says. Its
// error says nothing of the DSN, which has a password in it.
func parseDSN(dsn string, wait time.Duration) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil || cfg.Net != "tcp" && cfg.Net != "unix" {
		return nil, job.Invalid("sql.dsn", "sql.dsn cannot be read; its form is user:password@tcp(host:3306)/database", nil)
	}
	if cfg.DBName == "" {
		return nil, job.Invalid("sql.dsn", "sql.dsn names no database; its form is user:password@tcp(host:3306)/database", nil)
	}
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = min(dialTimeout, wait), wait, wait
	cfg.ClientFoundRows = true // a guarded update tells whether its row was there
	cfg.ParseTime = true       // for goose's table; ours keep numbers
	cfg.MultiStatements = false
	cfg.InterpolateParams = true // one round trip instead of two
	cfg.CheckConnLiveness = true
	cfg.RejectReadOnly = true // a primary that became a replica is left
	cfg.AllowAllFiles = false
	cfg.AllowOldPasswords = false
	cfg.Loc = time.UTC
	cfg.Logger = &mysql.NopLogger{} // it comes as an error, too
	cfg.Params = map[string]string{
		"sql_mode": "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'",
		// Whoever waits for a lock learns it before the connection is given up.
		"innodb_lock_wait_timeout": strconv.Itoa(max(1, int(wait/2/time.Second))),
	}
	return cfg, cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin"))
}

// connector makes connections within a bound, each reading what is committed.
// Under that isolation a row that was read may have been changed: every write says
// which state it changes, or has locked it.
type connector struct {
	driver.Connector
	wait time.Duration
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err() // and not driver.ErrBadConn, which would be tried again
		}
		return nil, err
	}
	_, err = conn.(driver.ExecerContext).ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func poolOf(cfg *mysql.Config, wait time.Duration) (*dbsql.DB, error) {
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, job.Invalid("sql.dsn", "sql.dsn cannot be used; see to its tls and server key settings", nil)
	}
	return dbsql.OpenDB(connector{c, wait}), nil
}

// openMySQL opens a pool of connections, which read and write.
func openMySQL(ctx context.Context, cfg Config) (*Engine, error) {
	my, err := parseDSN(cfg.DSN, cfg.Wait)
	if err != nil {
		return nil, err
	}
	db, err := poolOf(my, cfg.Wait)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(idle)
	db.SetConnMaxIdleTime(time.Minute) // below the idle limits of servers and of what is between
	e := &Engine{Name: my.Addr + "/" + my.DBName, write: db, read: db, dialect: mysqlDialect, patience: 2 * cfg.Wait}
	ctx, cancel := context.WithTimeout(ctx, 2*cfg.Wait)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(noEntry(my, err), db.Close())
	}
	return e, nil
}

// noEntry says why there is no connection, naming the setting and not the password.
func noEntry(cfg *mysql.Config, err error) error {
	where := fmt.Sprintf("sql.dsn: the database server at %s", cfg.Addr)
	switch mysqlCode(err) {
	case myAccessDenied, mySocketDenied:
		return job.Invalid("sql.dsn", fmt.Sprintf("%s refuses user %q with this password", where, cfg.User), err)
	case myAccessDeniedDB:
		return job.Invalid("sql.dsn", fmt.Sprintf("%s refuses user %q the database %q; grant it", where, cfg.User, cfg.DBName), err)
	case myUnknownDatabase:
		return job.Invalid("sql.dsn", fmt.Sprintf("%s has no database %q; create it", where, cfg.DBName), err)
	}
	return &job.Error{Code: job.CodeUnavailable, Field: "sql.dsn", Err: err,
		Message: where + " cannot be reached; start it or correct the address"}
}
