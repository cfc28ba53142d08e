// Package lastmile measures what leaves a gateway: a server process, real WebSocket
// connections of readers in processes of their own that acknowledge each message by its
// id, and beside them, in the same run and with the same readers, a bare loop that writes
// a frame and reads a reply on as many sockets and does nothing else. The machine and its
// load are in both; the ratio is Crier's part.
//
// What was delivered is counted twice, by the readers and by the ledger, and must agree.
// The readers read the protocol with a library of their own.
package lastmile
