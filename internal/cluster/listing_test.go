package cluster_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver
	"github.com/go-zookeeper/zk"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crier/internal/servers"
)

// store is what a cluster keeps in its servers, read by their own clients.
type store struct {
	t    *testing.T
	zk   *zk.Conn
	nats []jetstream.JetStream
	sql  *sql.DB
}

func openStore(t *testing.T, zookeeper, dsn string, urls ...string) *store {
	t.Helper()
	s := &store{t: t}
	var err error
	if s.zk, _, err = zk.Connect([]string{zookeeper}, 4*time.Second, zk.WithLogInfo(false)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.zk.Close)
	if s.sql, err = sql.Open("mysql", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sql.Close() })
	for _, url := range urls {
		nc, err := nats.Connect(url, nats.UserInfo(servers.NATSUser, servers.NATSPassword))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		s.nats = append(s.nats, js)
	}
	return s
}

func (s *store) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// version ends the name of a node that changes with each renewal of a lease.
var version = regexp.MustCompile(`\.[0-9a-f]{10,}$`)

// list is everything by name, with what does not change while nothing happens: nodes of
// ZooKeeper; databases' tables with their checksums; streams with the subjects and the
// number of records of each, and of consumers.
func (s *store) list(ctx context.Context) map[string]string {
	s.t.Helper()
	all := map[string]string{}
	s.nodes("/", all)
	for i, js := range s.nats {
		streams := js.ListStreams(ctx)
		for info := range streams.Info() {
			name := fmt.Sprintf("nats %d stream %s", i+1, info.Config.Name)
			st, err := js.Stream(ctx, info.Config.Name)
			s.must(err)
			full, err := st.Info(ctx, jetstream.WithSubjectFilter(">"))
			s.must(err)
			all[name+" consumers"] = fmt.Sprint(full.State.Consumers)
			for subject, n := range full.State.Subjects {
				all[name+" "+subject] = fmt.Sprint(n)
			}
		}
		s.must(streams.Err())
	}
	rows, err := s.sql.QueryContext(ctx, `SELECT CONCAT('`+"`"+`', table_schema, '`+"`.`"+`', table_name, '`+"`"+`') FROM information_schema.tables
		WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')`)
	s.must(err)
	var tables []string
	for rows.Next() {
		var table string
		s.must(rows.Scan(&table))
		tables = append(tables, table)
	}
	s.must(rows.Err())
	for _, table := range tables {
		var name, sum sql.NullString
		s.must(s.sql.QueryRowContext(ctx, "CHECKSUM TABLE "+table).Scan(&name, &sum))
		all["table "+table] = sum.String
	}
	return all
}

func (s *store) nodes(node string, all map[string]string) {
	if node == "/zookeeper" {
		return
	}
	all["node "+version.ReplaceAllString(node, "")] = "there"
	children, _, err := s.zk.Children(node)
	if err == zk.ErrNoNode { // a lease was renewed meanwhile
		return
	}
	s.must(err)
	for _, c := range children {
		s.nodes(path.Join(node, c), all)
	}
}

// settled waits until nothing changes.
func (s *store) settled(ctx context.Context) map[string]string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	last := s.list(ctx)
	var diff []string
	tick := time.NewTicker(700 * time.Millisecond)
	defer tick.Stop()
	for same := 0; same < 2; {
		select {
		case <-ctx.Done():
			s.t.Fatalf("the cluster does not come to rest:\n%s", strings.Join(diff, "\n"))
		case <-tick.C:
		}
		if now := s.list(ctx); maps.Equal(now, last) {
			same++
		} else {
			diff = differences(last, now)
			last, same = now, 0
		}
	}
	return last
}

// differences lists where two listings differ.
func differences(before, after map[string]string) (out []string) {
	for name, was := range before {
		if is, ok := after[name]; !ok {
			out = append(out, name+" is gone")
		} else if is != was {
			out = append(out, fmt.Sprintf("%s was %s and is %s", name, was, is))
		}
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			out = append(out, fmt.Sprintf("%s is new: %s", name, is))
		}
	}
	slices.Sort(out)
	return out
}

// expect fails if the listing is another than before.
func (s *store) expect(ctx context.Context, what string, before map[string]string) {
	s.t.Helper()
	if diff := differences(before, s.list(ctx)); len(diff) > 0 {
		s.t.Errorf("%s left:\n%s", what, strings.Join(diff, "\n"))
	}
}
