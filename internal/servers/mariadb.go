package servers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// MariaDBConfig says what database server to start.
type MariaDBConfig struct {
	Dir  string   // made if need be; data of a former server there is taken up again
	Stay bool     // it outlives this process
	Args []string // added to the server's own, over which they win
}

// Database is a MariaDB server that runs. It syncs every commit and has a binary log.
type Database struct {
	*Process
	// DSN is the way to its database "crier" for a user who may do anything; the
	// password is made at the start and opens nothing else.
	DSN string
	// Port is where it listens on 127.0.0.1.
	Port int
	cfg  MariaDBConfig
}

// sbin has servers on systems whose users' PATH has not.
const sbin = "/usr/sbin/"

// binary finds a program of a package.
func binary(name, pkg string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(sbin + name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("there is no %s; install the package %s: %w", name, pkg, err)
}

// MariaDB starts a database server and waits until it answers.
func MariaDB(ctx context.Context, cfg MariaDBConfig) (*Database, error) {
	db, err := PrepareMariaDB(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return db, db.Start(ctx)
}

// PrepareMariaDB makes the server's tables and finds it a port, and does not start it.
func PrepareMariaDB(ctx context.Context, cfg MariaDBConfig) (*Database, error) {
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of MariaDB: %w", err)
	}
	if err := install(ctx, cfg.Dir); err != nil {
		return nil, err
	}
	ports, err := Ports(1)
	if err != nil {
		return nil, err
	}
	var secret [16]byte
	rand.Read(secret[:]) // never fails
	word := hex.EncodeToString(secret[:])
	db := &Database{cfg: cfg, Port: ports[0], DSN: fmt.Sprintf("crier:%s@tcp(127.0.0.1:%d)/crier", word, ports[0])}
	// The server runs this before it listens.
	setup := "CREATE DATABASE IF NOT EXISTS crier;\n" +
		"CREATE USER IF NOT EXISTS 'crier'@'127.0.0.1';\n" +
		"ALTER USER 'crier'@'127.0.0.1' IDENTIFIED BY '" + word + "';\n" +
		"GRANT ALL ON *.* TO 'crier'@'127.0.0.1' WITH GRANT OPTION;\n"
	if err := os.WriteFile(filepath.Join(cfg.Dir, "setup.sql"), []byte(setup), 0o600); err != nil {
		return nil, fmt.Errorf("writing MariaDB's first statements: %w", err)
	}
	return db, nil
}

// install makes the server's own tables, if they are not there, in a directory that gets its name
// when they are whole.
func install(ctx context.Context, dir string) error {
	data, half := filepath.Join(dir, "data"), filepath.Join(dir, "data.new")
	if _, err := os.Stat(data); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("removing MariaDB's tables of a start that was killed: %w", err)
	}
	path, err := binary("mariadb-install-db", "mariadb-server")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--no-defaults", "--user="+username(), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--datadir="+half, "--force")
	// Its server removes the temporary tables that it finds: another's, in a directory that they share.
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making MariaDB's tables in %s: %w: %s", half, err, out)
	}
	if err := os.Rename(half, data); err != nil {
		return fmt.Errorf("naming MariaDB's tables: %w", err)
	}
	return nil
}

func username() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

// Start starts the server again, on the data and the port it had, after it was
// stopped or killed.
func (db *Database) Start(ctx context.Context) error {
	c, err := db.Command()
	if err != nil {
		return err
	}
	db.Process, err = Start(ctx, c, db.Ready)
	return err
}

// Command is how the server is started.
func (db *Database) Command() (Command, error) {
	path, err := binary("mariadbd", "mariadb-server")
	if err != nil {
		return Command{}, err
	}
	in := func(name string) string { return filepath.Join(db.cfg.Dir, name) }
	args := append([]string{"--no-defaults", "--user=" + username(), "--datadir=" + in("data"), "--socket=mysqld.sock",
		"--pid-file=" + in("pid"), "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(db.Port), "--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size=64M", "--log-bin=" + in("data/bin"), "--log-bin-trust-function-creators=1", "--skip-name-resolve",
		"--performance-schema=0", "--tmpdir=" + in("tmp"), "--init-file=" + in("setup.sql")}, db.cfg.Args...)
	return Command{Name: "mariadb", Dir: db.cfg.Dir, Path: path, Args: args, Stay: db.cfg.Stay}, nil
}

// Ready gives no error when the server greets who connects, which it does when it works.
func (db *Database) Ready(ctx context.Context) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(db.Port)))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	var hello [5]byte // a packet's length and number, then the version of the protocol
	if _, err := io.ReadFull(c, hello[:]); err != nil {
		return fmt.Errorf("waiting for the greeting: %w", err)
	}
	if hello[4] != 10 {
		return fmt.Errorf("the greeting is of protocol %d, not 10", hello[4])
	}
	return nil
}
