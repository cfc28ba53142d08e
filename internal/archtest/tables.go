package archtest

// Excuse is an exception to a rule at one place, with its reason.
type Excuse struct{ Rule, Where, Why string }

// excuses are the exceptions. Each says why the rule does more harm than good there.
var excuses = []Excuse{
	{"package size", "internal/sim", "a world whose parts may break each other in any way: between packages all of it would be exported"},
}

// base is what everything may import.
var base = []string{"job", "internal/idset", "internal/bin", "internal/pause"}

func with(more ...string) []string { return append(append([]string{}, base...), more...) }

// arrowTable is the directions between the packages: all of them lead to job.
var arrowTable = []Arrow{
	{"job", nil, "the vocabulary imports the standard library only, so that everything may import it"},
	{"internal/crew", nil, "it runs what it is given"},
	{"internal/pause", nil, "it waits"},
	{"internal/tail", nil, "it reads a file"},
	{"internal/guard", nil, "it runs what it is given"},
	{"internal/inhand", []string{"job", "internal/guard"}, "what is in hand has a number, whatever it is"},
	{"internal/idset", []string{"job"}, "sets know ids and nothing of what they mean"},
	{"internal/bin", []string{"job", "internal/idset"}, "the binary forms know values and sets, not messages"},
	{"internal/testdata", nil, "it finds files"},
	{"internal/badinput", []string{"internal/testdata"}, "it makes bad input, and knows nothing of whom it is for"},
	{"internal/archtest", nil, "it reads source text and runs none of it"},
	{"internal/auth", []string{"job"}, "keys know recipients, not how they are asked for"},
	{"internal/authority", with("api", "api/problem", "internal/auth", "state/sql/access", "state/sql/engine"), "who may come in follows from keys and tenants alone"},
	{"internal/config", []string{"job"}, "configuration is values; whoever needs one gets it passed"},
	{"internal/bus/...", []string{"internal/pause"}, "the bus carries bytes and knows nothing of ours"},
	{"internal/work", with(), "scheduler and worker meet here: messages only"},

	{"audience/...", with("state/blob"), "sets of recipients know nothing of jobs under way; snapshots are blobs"},
	{"filters", with(), "a filter is a decision about a batch; what it reads is passed in"},
	{"presence", with(), "planes know gateways' ordinals and ids"},
	{"presence/handoff", with(), "messages decide nothing"},
	{"presence/lease", []string{"job"}, "when a gateway is over is a matter of clocks and leases, not of what it has"},
	{"presence/gateway/...", with("presence/handoff", "internal/bus/..."), "a gateway meets workers in presence/handoff and on the bus, never in their code"},
	{"presence/client/...", []string{"job"}, "a client library is for programs that have nothing else of ours"},

	{"state/ledger", with("internal/bus/subject"), "the forms of the records and the seam to the stream; adapters come below it"},
	{"state/ledger/jetstream", with("state/ledger", "internal/bus/..."), "an adapter knows its seam and its driver"},
	{"state/ledger/ledgertest", with("state/ledger", "internal/bus/subject"), "a suite knows its seam"},
	{"state/parked/...", with("state/ledger"), "the index is made from the ledger alone, so that it can be made again"},
	{"state/jobs", with("state/ledger"), "the table of jobs is made from the ledger alone"},
	{"state/report", with("state/ledger", "state/blob"), "a report is records of the ledger in a blob"},
	{"state/fold", with("state/ledger", "state/parked", "state/report"), "folding moves records; what is needed of them, the index says"},
	{"state/proof", with("state/ledger", "state/report"), "a proof reads the ledger, its reports and packages, never an index or a counter"},
	{"state/blob/...", []string{"job"}, "blobs are bytes under their digest"},
	{"state/sql/sqltest", with("audience/members", "internal/badinput", "internal/servers", "internal/webhook", "state/outbox", "state/sql/..."), "a suite knows its seam, and starts the servers that it holds to it"},
	{"internal/webhook", with(), "what is sent and when follows from deliveries, wherever they are kept"},
	{"state/sql/...", with("audience/members", "internal/webhook", "state/outbox"), "SQL holds projections and accounts behind the ports of their users"},
	{"state/coord/...", []string{"job"}, "the coordination seam knows keys and values"},
	{"state/natskv/...", []string{"job", "state/coord", "internal/bus/..."}, "an adapter knows its seam and its driver"},

	{"state/zk/...", []string{"job", "state/coord"}, "an adapter knows its seam and its driver"},
	{"state/outbox", with(), "the relay carries rows to a stream and decides nothing about them"},
	{"state/events/...", with("internal/bus/..."), "an adapter knows its seam and its driver"},
	{"state/overstay", with("state/jobs", "state/ledger", "state/parked"), "what is late follows from the tables of jobs and claims, and from how far the index is"},
	{"state/erased", with("state/ledger"), "the table of who was erased is made from the ledger alone"},
	{"state/claims", with("state/ledger"), "the table of claims is made from the ledger alone"},

	{"scheduler/apta/...", []string{"job", "internal/pause"}, "membership knows members, shards and time; what is placed by it is its users' business"},
	{"scheduler/...", with("internal/bus", "internal/guard", "internal/inhand", "internal/work", "state/claims", "state/jobs", "state/ledger", "state/parked"), "the scheduler never imports the worker: they meet in internal/work and in the ledger"},
	{"worker/...", with("filters", "internal/bus", "internal/crew", "internal/guard", "internal/inhand", "internal/work", "presence", "presence/handoff", "presence/lease", "state/claims", "state/erased", "state/jobs", "state/ledger", "state/parked", "state/parked/crowd", "state/parked/feed"), "the worker never imports the scheduler nor a gateway: they meet in messages and in the ledger"},

	{"api", []string{"job"}, "the interface is for users of any implementation"},
	{"api/problem", []string{"job"}, "what an error code means does not depend on what was asked for"},
	{"api/wire", []string{"job", "api", "api/problem"}, "the JSON knows the interface, not who reads or writes it"},
	{"api/decision", []string{"job", "api"}, "who may do what is decided by the caller and the operation alone"},
	{"api/server/gate", []string{"job"}, "a gate counts requests and knows nothing of them"},
	{"api/server/paced", []string{"job", "api/wire"}, "reading and writing at a bounded pace does not depend on what"},
	{"api/server/about", []string{"job", "api"}, "what a request is about is in it"},
	{"api/server/inforce", nil, "a request goes on or not, whatever it is asked by"},
	{"api/server", []string{"job", "api", "api/decision", "api/problem", "api/server/about", "api/server/gate", "api/server/inforce", "api/server/paced", "api/wire"}, "the server knows the interface, not what is behind it"},
	{"api/client", []string{"job", "api", "api/problem", "api/wire"}, "the client knows the interface, not what is behind it"},
	{"api/apitest", []string{"job", "api"}, "the fake stands in for what is behind the interface"},

	{"internal/rights", with("api", "internal/auth", "internal/webhook", "state/sql/access", "state/sql/hooks"), "keys, secrets and tenants need no other store"},
	{"internal/quota", with(), "limits are numbers about jobs"},
	{"internal/service", with("api", "audience/...", "internal/auth", "internal/quota", "internal/rights", "internal/service/patience", "internal/service/place", "internal/service/sets", "state/..."), "the service joins stores; sending is none of its business"},
	{"internal/service/patience", []string{"job", "state/events", "state/ledger"}, "a bound on waiting does not depend on who waits"},
	{"internal/service/place", []string{"job", "api"}, "where a list has a job does not depend on what the list is of"},
	{"internal/service/sets", with("api", "audience/...", "state/blob", "state/sql/..."), "sets of recipients need neither jobs nor the ledger"},
	{"internal/app/...", with("api", "api/server", "audience/...", "filters", "internal/auth", "internal/authority", "internal/bus/...", "internal/crew", "internal/inhand", "internal/service", "internal/webhook", "internal/work", "presence/...", "scheduler/...", "state/...", "worker/..."), "the one place that wires everything but the command line"},
	{"internal/bundle", []string{"job", "internal/guard"}, "it packs what it is given, and knows of secrets only how they look"},
	{"internal/launch", []string{"internal/app", "internal/app/member", "internal/app/space", "internal/config", "job", "internal/bus/natsbus", "worker/block"}, "the one place where settings become parts"},
	{"internal/bench/...", with("api/...", "audience/...", "filters", "internal/...", "!internal/sim/...", "presence/...", "scheduler/...", "state/...", "worker/..."), "a bench measures the code of production, wired as there"},
	{"internal/servers", nil, "it starts other people's servers and knows nothing of ours"},
	{"internal/cluster", []string{"internal/servers", "internal/tail"}, "a cluster is processes: it is judged from outside, so that nothing of ours is in it"},
	{"internal/drill/...", with("api", "api/client", "internal/auth", "internal/cluster", "internal/crowd", "internal/drill/...", "internal/proc"), "a drill uses what users have, and breaks processes from outside"},
	{"internal/campaign", []string{"internal/cluster", "internal/drill", "internal/drill/verdict"}, "a campaign chooses drills and adds up what they came to"},
	{"internal/proc", []string{"api/client", "internal/tail"}, "a process is started, asked and ended from outside"},
	{"internal/crowd", []string{"job", "internal/pause", "presence/client"}, "clients know the gateway's address and nothing of the server, so that they can judge it"},
	{"internal/demo/...", with("api/...", "audience/...", "internal/...", "!internal/sim/...", "presence/client/..."), "the demonstration uses what users have: the API and a client"},
	{"cmd/crier", with("api", "audience/...", "cmd/crier/...", "internal/...", "!internal/sim/..."), "main parses, calls and exits; it reaches stores by way of the API or of internal/app only"},
	{"cmd/crier/cli", with("api", "api/client", "api/problem", "cmd/crier/out", "internal/auth", "internal/config"), "what commands share is how to reach the server and the user"},
	{"cmd/crier/inspect", with("api", "api/problem", "audience", "cmd/crier/cli", "cmd/crier/out"), "what a server holds is asked of it; a package that comes is checked"},
	{"cmd/crier/operate", with("api", "cmd/crier/cli", "cmd/crier/out"), "what a cluster is, and is to do, is asked of a server"},
	{"cmd/crier/rights", with("api", "api/decision", "cmd/crier/cli", "cmd/crier/out"), "who may do what, and who did, is asked of a server"},
	{"cmd/crier/check", with("api", "cmd/crier/cli", "cmd/crier/out"), "a verdict is made from what any server tells"},
	{"cmd/crier/support", with("api", "api/wire", "cmd/crier/check", "cmd/crier/cli", "cmd/crier/out", "internal/auth", "internal/bundle", "internal/config"), "what tells of a server's trouble is asked of it, and looked for on this machine"},
	{"cmd/crier/local", with("api", "cmd/crier/cli", "cmd/crier/out", "internal/...", "!internal/sim/..."), "what runs on this machine runs in internal"},
	{"internal/sim/oracle", with("state/ledger"), "a judge shares with what it judges the forms of the records and nothing else"},
	{"internal/sim/stream", with("internal/bus/subject", "state/ledger"), "it stands in for the stream of the ledger"},
	{"internal/sim", with("internal/sim/...", "presence/...", "scheduler/apta/...", "state/ledger", "state/jobs", "state/parked/...", "state/proof", "worker/..."), "the simulator drives the cores of production; only the command that runs it may import it, for it alone can break a rule"},
	{"cmd/crier-sim", []string{"internal/sim"}, "the simulator's command runs it and prints"},
	{"cmd/crier/out", []string{"api", "api/wire", "job"}, "showing data needs no way to get it"},
}

// driverTable is where libraries that talk to the outside may be imported; tests
// may import any.
var driverTable = []Driver{
	{"github.com/nats-io", []string{"internal/bus", "state/events", "state/ledger/jetstream", "state/natskv"}, "messaging can be replaced at its adapters"},
	{"github.com/syndtr/goleveldb", []string{"state/parked/level", "state/parked/kv"}, "the parked index knows an ordered KV, not LevelDB"},
	{"modernc.org/sqlite", []string{"state/sql", "audience/source/query"}, "stores are behind the ports of their users; a query of somebody else's database is a source of ids"},
	{"github.com/go-sql-driver/mysql", []string{"state/sql", "audience/source/query"}, "as for SQLite"},
	{"github.com/go-zookeeper/zk", []string{"state/zk"}, "the coordination seam knows keys and values, not ZooKeeper"},
	{"github.com/pressly/goose", []string{"state/sql"}, "migrations belong to the store that they make"},
	{"database/sql", []string{"state/sql", "audience/source/query"}, "as for SQLite"},
	{"github.com/redis/go-redis", []string{"audience/source/redisset"}, "Redis is a source of ids and nothing else"},
	{"github.com/coder/websocket", []string{"presence/gateway/ws", "presence/client", "internal/crowd"}, "the gateway's core knows sockets by number; only its shell has them, the clients, and clients that do not speak the protocol"},
	{"github.com/gobwas/ws", []string{"internal/bench"}, "readers that judge a gateway read its frames with a library that it does not use"},
	{"github.com/danielgtaylor/huma", []string{"api/server"}, "the interface is not bound to a way of serving it"},
	{"github.com/spf13/cobra", []string{"cmd/crier", "cmd/crier-sim"}, "only the command line parses commands"},
	{"github.com/spf13/pflag", []string{"cmd/crier", "internal/config"}, "only the command line and the configuration parse flags"},
	{"github.com/jedib0t/go-pretty", []string{"cmd/crier"}, "only the command line draws tables"},
	{"github.com/knadh/koanf", []string{"cmd/crier", "internal/config"}, "configuration is read in one place"},
	{"github.com/RoaringBitmap/roaring", []string{"audience", "state/parked/waiting"}, "roaring is a format of files, and of a large set that is kept; the data plane has internal/idset"},
}
