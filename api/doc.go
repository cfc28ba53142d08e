// Package api is what Crier offers to its users: one Go interface (Service), its
// requests and answers, and the form in which its errors travel.
//
// The server (api/server) puts a Service on the network, the client (api/client)
// is one more Service that asks a server, and api/apitest has one in memory. The
// command line uses the interface alone.
//
// It guarantees that a request that passes Validate is within every written limit,
// and that a *job.Error keeps its code, message and field on its way through a
// Problem, while any other error shows nothing of the inside.
package api
