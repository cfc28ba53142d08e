// Package config reads the server's configuration: defaults, then a file (YAML),
// then the environment (CRIER_*), then flags; what comes later wins.
//
// It guarantees that a setting nobody reads is an error that names it and the
// place where it stands, and that what Load returns has passed Validate.
package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"crier/job"
)

// DefaultListen is where a server listens if it is not told otherwise, and where
// the command line looks for one.
const DefaultListen = "127.0.0.1:7420"

// Roles are the parts of a server, in the order in which they are listed.
func Roles() []string { return []string{"api", "scheduler", "worker", "gateway", "relay"} }

// Server is the configuration of one process.
type Server struct {
	// Data is the directory that holds everything; one process at a time owns it.
	// It is made if it is missing. Default: see DefaultData.
	Data string `koanf:"data"`
	// Name is this process's among the others, 1 to 64 of a-z, A-Z, 0-9, - and _. It
	// stays with the data directory. Default: a random one.
	Name string `koanf:"name"`
	// Blobs is the directory of packages, bodies and reports, which all processes of a
	// cluster share. Default: in Data.
	Blobs string `koanf:"blobs"`
	// Keys is the directory of keys, which all processes of a cluster share. Default: Data.
	Keys string `koanf:"keys"`
	// GatewayURL is where clients reach this process's gateway; other gateways send them
	// there. Default: by Listen.
	GatewayURL string `koanf:"gateway_url"`
	// Listen is the address, host:port, of the API and the gateway; port 0 takes a
	// free one. Default: DefaultListen, which is reachable from this machine only.
	Listen string `koanf:"listen"`
	// Roles are the parts that this process runs. Default: all of Roles.
	Roles []string `koanf:"roles"`
	// ReadyFile is a file that is written when the server is ready: JSON with api,
	// gateway, token and pid. Default: none.
	ReadyFile string `koanf:"ready_file"`
	// CPUProfile is a file to which a profile of all that the server did is written when it
	// ends, for go tool pprof. Default: none.
	CPUProfile string `koanf:"cpu_profile"`
	// Log is about the server's log.
	Log Log `koanf:"log"`
	// Cluster is about the other processes that share the work.
	Cluster Cluster `koanf:"cluster"`
	// Coordination is about the store of leases and statuses.
	Coordination Coordination `koanf:"coordination"`
	// NATS is about the message bus and the ledger's store.
	NATS NATS `koanf:"nats"`
	// SQL is about accounts, lists of jobs and the outbox of events.
	SQL SQL `koanf:"sql"`
	// Limits bound disk and memory.
	Limits Limits `koanf:"limits"`
	// Frequency bounds the messages that a recipient gets in a day.
	Frequency Frequency `koanf:"frequency"`
	// Parking bounds what waits for a recipient.
	Parking Parking `koanf:"parking"`
	// Webhooks is about receivers outside, who are told what becomes of jobs.
	Webhooks Webhooks `koanf:"webhooks"`
}

// Log is about the server's log, which goes to standard error.
type Log struct {
	// Level is debug, info, warn or error: what is below it is left out. Default: info.
	Level string `koanf:"level"`
	// Format is text or json. Default: text.
	Format string `koanf:"format"`
}

// SQL is about the database.
type SQL struct {
	// DSN is a database of MySQL 8.0 or MariaDB 10.6, or newer ones, such as
	// user:password@tcp(host:3306)/crier; several nodes may share it. It has a password
	// in it: the file or the variable keep it from those who list processes. Default:
	// none; an SQLite file in the data directory is used.
	DSN string `koanf:"dsn"`
}

// Parking bounds what waits for a recipient. All workers have the same.
type Parking struct {
	// Cap is the most messages of all accounts together that wait for one recipient, up to
	// 100000: what was parked first beyond it is dropped. Default: 2000; 0 is any number.
	Cap int `koanf:"cap"`
}

// maxParkCap is the largest cap of what waits: all of it is looked at when its recipient logs in.
const maxParkCap = 100_000

// Limits bound disk and memory.
type Limits struct {
	// Ledger is the size of the ledger's stream in bytes: at 85 % no more is
	// reserved. Default: 0, which is half of what the disk has free, at most 64 GiB.
	Ledger Bytes `koanf:"ledger"`
	// Fold is how many bytes the ledger grows before its past is moved into reports in
	// the blob store, an eighth of the ledger's size at most. Default: 0, which is 256 MiB, or
	// the size of the index if that is more.
	Fold Bytes `koanf:"fold"`
	// DiskWarn is how much of a disk, in percent, may be used before it is a warning in the
	// log, in status and to crier check. Default: 70.
	DiskWarn int `koanf:"disk_warn"`
	// DiskCrit is from when on it is critical. Default: 85.
	DiskCrit int `koanf:"disk_crit"`
	// Lanes is the number of blocks that a worker hands over at a time, 1 to 256;
	// each takes at most a few MiB. Default: 8.
	Lanes int `koanf:"lanes"`
	// Drain is how many recipients a second are handed what was parked for them, apart
	// from the rates of jobs; 0 is unlimited. Default: 20000.
	Drain int `koanf:"drain"`
}

// Default is the configuration of a server that is told nothing.
func Default() Server {
	return Server{
		Data: DefaultData(os.Getenv), Listen: DefaultListen, Roles: Roles(),
		Cluster: Cluster{ID: "crier", Profile: "standard"}, Coordination: Coordination{Root: "/crier"},
		Log: Log{Level: "info", Format: "text"}, NATS: NATS{Embedded: true}, Limits: Limits{DiskWarn: 70, DiskCrit: 85, Lanes: 8, Drain: 20000},
		Parking: Parking{Cap: 2000},
	}
}

// DefaultData is the data directory of a user who names none: crier in
// XDG_DATA_HOME, else in ~/.local/share, else crier-data here.
func DefaultData(getenv func(string) string) string {
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "crier")
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "crier")
	}
	return "crier-data"
}

// Validate names the first setting that is out of its bounds.
func (s Server) Validate() error {
	switch {
	case s.Data == "":
		return job.Invalid("data", "data: a directory is needed", nil)
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, s.Log.Level):
		return job.Invalid("log.level", fmt.Sprintf("log.level: %q is none of debug, info, warn, error", s.Log.Level), nil)
	case s.Log.Format != "text" && s.Log.Format != "json":
		return job.Invalid("log.format", fmt.Sprintf("log.format: %q is none of text, json", s.Log.Format), nil)
	case s.Limits.Ledger != 0 && s.Limits.Ledger < 64<<20:
		return job.Invalid("limits.ledger", fmt.Sprintf("limits.ledger: %s is too small; 64MiB is the least", s.Limits.Ledger), nil)
	case s.Limits.Fold != 0 && s.Limits.Fold < 1<<20:
		return job.Invalid("limits.fold", fmt.Sprintf("limits.fold: %s is too small; 1MiB is the least", s.Limits.Fold), nil)
	case s.Limits.DiskCrit < 2 || s.Limits.DiskCrit > 100:
		return job.Invalid("limits.disk_crit", fmt.Sprintf("limits.disk_crit: %d is not between 2 and 100 percent", s.Limits.DiskCrit), nil)
	case s.Limits.DiskWarn < 1 || s.Limits.DiskWarn >= s.Limits.DiskCrit:
		return job.Invalid("limits.disk_warn", fmt.Sprintf("limits.disk_warn: %d percent is not between 1 and limits.disk_crit, which is %d", s.Limits.DiskWarn, s.Limits.DiskCrit), nil)
	case s.Limits.Drain < 0:
		return job.Invalid("limits.drain", fmt.Sprintf("limits.drain: %d is negative; 0 is unlimited", s.Limits.Drain), nil)
	case s.Parking.Cap < 0 || s.Parking.Cap > maxParkCap:
		return job.Invalid("parking.cap", fmt.Sprintf("parking.cap: %d is not between 0, which is any number, and %d", s.Parking.Cap, maxParkCap), nil)
	case s.Limits.Lanes < 1 || s.Limits.Lanes > 256:
		return job.Invalid("limits.lanes", fmt.Sprintf("limits.lanes: %d is not between 1 and 256", s.Limits.Lanes), nil)
	}
	if err := validAddress("listen", s.Listen); err != nil {
		return err
	}
	if err := s.NATS.validate(); err != nil {
		return err
	}
	if err := s.Frequency.validate(); err != nil {
		return err
	}
	if _, err := s.Webhooks.Networks(); err != nil {
		return err
	}
	if err := s.validCluster(); err != nil {
		return err
	}
	return s.validRoles()
}

func (s Server) validRoles() error {
	if len(s.Roles) == 0 {
		return job.Invalid("roles", "roles: at least one is needed", nil)
	}
	for i, r := range s.Roles {
		if !slices.Contains(Roles(), r) {
			return job.Invalid("roles", fmt.Sprintf("roles: %q is none of %s", r, strings.Join(Roles(), ", ")), nil)
		}
		if slices.Contains(s.Roles[:i], r) {
			return job.Invalid("roles", fmt.Sprintf("roles: %s is given twice", r), nil)
		}
	}
	return nil
}

func validAddress(key, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return job.Invalid(key, fmt.Sprintf("%s: %q is no address such as 127.0.0.1:7420", key, address), nil)
	}
	return nil
}
