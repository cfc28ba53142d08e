package natsview

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"crier/internal/cluster"
	"crier/internal/servers"
)

// A server says which streams it leads and who is connected to it; one that is gone is an
// error, not an answer.
func TestWhatAServerSays(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := servers.StartNATS(ctx, servers.NATSConfig{Dir: t.TempDir(), Servers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kill()
	node := c.Nodes[0]
	list := []*cluster.Process{{Record: cluster.Record{Name: node.Server, Addresses: map[string]string{cluster.AddrMonitor: node.Monitor()}}}}
	conn, err := nats.Connect(node.URL, nats.Name("crier worker-1"), nats.UserInfo(servers.NATSUser, servers.NATSPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "LEDGER", Subjects: []string{"led.>"}, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if got, err := Leader(ctx, list, "LEDGER"); err != nil || got != node.Server {
		t.Errorf("LEDGER is led by %q, %v", got, err)
	}
	if got, err := Leader(ctx, list, "CTL"); err == nil {
		t.Errorf("a stream that is not there is led by %q", got)
	}
	for _, x := range []struct{ connection, not, want string }{
		{"crier worker-1", "", node.Server}, {"crier worker-1", node.Server, ""}, {"crier worker-2", "", ""},
	} {
		if got, err := Of(ctx, list, x.connection, x.not); err != nil || got != x.want {
			t.Errorf("%s goes to %q, %v; want %q but for %q", x.connection, got, err, x.want, x.not)
		}
	}
	conn.Close()
	c.Kill()
	if got, err := Leader(ctx, list, "LEDGER"); err == nil {
		t.Errorf("a server that is gone says %q", got)
	}
	if got, err := Of(ctx, list, "crier worker-1", ""); err == nil {
		t.Errorf("a server that is gone says %q", got)
	}
}
