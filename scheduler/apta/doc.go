// Package apta is acentric parallel task allocation: members that find each other,
// flood what they know, and from it compute, each for itself, who should take what.
// There is no leader, and no majority is needed.
//
// State is the core: Step takes what happened and the time and returns what is to be
// done. It has no goroutine, clock or randomness of its own, so that the same events
// give the same effects. Package node is its shell.
//
// It guarantees:
//
//   - A member takes new work only in WORKING, with its lease renewed and its fence
//     not reached by its own monotonic clock.
//   - Members with the same records have the same view, and members with the same
//     view the same table of who should take which shard.
//   - A member is gone from the view of the others soon after the last of its
//     neighbours has not heard it for the dead interval. A cut between two members,
//     in one direction too, costs a link and changes no view.
//   - "Lapsed" is said of a member only by one who does not reach it and has itself
//     seen the coordination store answer for the time of a lease.
//
// A view may be wrong, and two members' may differ: claims in the ledger and the
// fences at the gateways are what keeps a message from being sent twice.
package apta
