// Package api is what Crier offers to its users: one Go interface (Service), its
// requests and answers. Its errors travel as api/problem says.
//
// The server (api/server) puts a Service on the network, the client (api/client)
// is one more Service that asks a server, and api/apitest has one in memory. The
// command line uses the interface alone.
//
// It guarantees that a request that passes Validate is within every written limit.
package api
